//! JSON pointers (RFC 6901): where in a document a rule looks and writes.

use std::fmt;

use serde_json::{Map, Value};

/// A pointer, taken apart once when the rules are read.
pub(crate) struct Pointer {
    text: String,
    parts: Vec<String>,
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pointer {
    /// Reads `/a/b/0`; the empty pointer is the whole document.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        if !text.is_empty() && !text.starts_with('/') {
            return Err(format!("`{text}` is no JSON pointer: write `/{text}`"));
        }
        let part = |part: &str| part.replace("~1", "/").replace("~0", "~");
        let parts = text.split('/').skip(1).map(part).collect();
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Whether this is the whole document.
    pub(crate) fn is_whole(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether this is `other`, or lies inside it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.parts.starts_with(&other.parts)
    }

    /// The value there, if there is one.
    pub(crate) fn get<'v>(&self, document: &'v Value) -> Option<&'v Value> {
        self.parts.iter().try_fold(document, |value, part| match value {
            Value::Object(fields) => fields.get(part),
            Value::Array(items) => items.get(index(part)?),
            _ => None,
        })
    }

    /// Takes the value out, if there is one; the order of the others stays.
    pub(crate) fn remove(&self, document: &mut Value) -> Option<Value> {
        let (last, parents) = self.parts.split_last()?;
        let parent = parents.iter().try_fold(document, |value, part| match value {
            Value::Object(fields) => fields.get_mut(part),
            Value::Array(items) => items.get_mut(index(part)?),
            _ => None,
        })?;
        match parent {
            Value::Object(fields) => fields.shift_remove(last),
            Value::Array(items) => {
                let at = index(last).filter(|at| *at < items.len())?;
                Some(items.remove(at))
            }
            _ => None,
        }
    }

    /// Puts a value there. Objects that are missing on the way are made; in a list `-` is the place
    /// behind the last item.
    ///
    /// # Errors
    /// What is in the way: a value that is neither object nor list, or a list without that place.
    pub(crate) fn set(&self, document: &mut Value, value: Value) -> Result<(), String> {
        let mut place = document;
        for part in &self.parts {
            place = match place {
                Value::Object(fields) => {
                    fields.entry(part.as_str()).or_insert_with(|| Value::Object(Map::new()))
                }
                Value::Array(items) => {
                    let items_count = items.len();
                    let at = if part == "-" { Some(items_count) } else { index(part) };
                    if at == Some(items_count) {
                        items.push(Value::Object(Map::new()));
                    }
                    at.and_then(|at| items.get_mut(at)).ok_or_else(|| {
                        format!(
                            "can't write `{self}`: the list there has {items_count} items, \
                             `{part}` is none of them nor the place behind"
                        )
                    })?
                }
                _ => {
                    return Err(format!(
                        "can't write `{self}`: what holds `{part}` is neither object nor list"
                    ));
                }
            };
        }
        *place = value;
        Ok(())
    }
}

/// A list's place: decimal digits without leading zeros.
fn index(part: &str) -> Option<usize> {
    let plain = part == "0" || !part.starts_with(['0', '+']);
    if plain { part.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Pointer {
        Pointer::read(text).unwrap()
    }

    #[test]
    fn a_pointer_finds_what_the_standard_says() {
        let document = json!({"a": [1, {"b/c": 2, "~": 3}], "": 4});
        for (pointer, found) in [
            ("/a/0", Some(json!(1))),
            ("/a/1/b~1c", Some(json!(2))),
            ("/a/1/~0", Some(json!(3))),
            ("/", Some(json!(4))),
            ("/a/01", None),
            ("/a/+1", None),
            ("/a/-", None),
            ("/a/99999999999999999999999", None),
            ("/a/0/x", None),
        ] {
            assert_eq!(at(pointer).get(&document), found.as_ref(), "{pointer}");
        }
        assert_eq!(at("").get(&document), Some(&document));
        assert!(Pointer::read("a").err().unwrap().contains("write `/a`"));
    }

    #[test]
    fn writing_makes_the_objects_on_the_way() {
        let mut document = json!({"list": [1]});
        at("/a/b").set(&mut document, json!(1)).unwrap();
        at("/list/-").set(&mut document, json!(2)).unwrap();
        at("/list/2/x").set(&mut document, json!(3)).unwrap();
        at("/list/0").set(&mut document, json!(0)).unwrap();
        assert_eq!(document, json!({"list": [0, 2, {"x": 3}], "a": {"b": 1}}));
    }

    #[test]
    fn what_is_in_the_way_of_writing_is_named() {
        let mut document = json!({"a": "text", "list": []});
        let error = at("/a/b").set(&mut document, json!(1)).unwrap_err();
        assert_eq!(error, "can't write `/a/b`: what holds `b` is neither object nor list");
        let error = at("/list/7").set(&mut document, json!(1)).unwrap_err();
        assert!(error.contains("the list there has 0 items"), "{error}");
        assert_eq!(document, json!({"a": "text", "list": []}));
    }

    #[test]
    fn taking_a_value_out_leaves_the_others_in_their_order() {
        let mut document = json!({"a": 1, "b": 2, "c": [1, 2, 3]});
        assert_eq!(at("/a").remove(&mut document), Some(json!(1)));
        assert_eq!(at("/c/1").remove(&mut document), Some(json!(2)));
        assert_eq!(at("/c/9").remove(&mut document), None);
        assert_eq!(at("/x/y").remove(&mut document), None);
        assert_eq!(document.to_string(), r#"{"b":2,"c":[1,3]}"#);
    }
}
