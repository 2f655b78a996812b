//! Mapping: the steps that change a document, in their order.

use std::str;

use millstream_plugin::Message;
use serde_json::{Map, Value};

use crate::pointer::Pointer;

/// One step. What is not there is left alone: it can't be removed, moved or copied.
pub(crate) enum Step {
    Set(Pointer, Source),
    Remove(Pointer),
    Rename(Pointer, Pointer),
    Copy(Pointer, Pointer),
    /// Nothing but these stays.
    Keep(Vec<Pointer>),
}

/// What `set` writes.
pub(crate) enum Source {
    Constant(Value),
    Header(String),
    Key,
    Topic,
    Partition,
    Offset,
    Timestamp,
}

impl Source {
    fn value(&self, message: &Message) -> Result<Option<Value>, String> {
        Ok(Some(match self {
            Self::Constant(value) => value.clone(),
            Self::Header(name) => return text(message.header(name), &format!("header `{name}`")),
            Self::Key => return text(message.key.as_deref(), "key"),
            Self::Topic => Value::from(message.topic.as_str()),
            Self::Partition => Value::from(message.partition),
            Self::Offset => Value::from(message.offset),
            Self::Timestamp => Value::from(message.timestamp),
        }))
    }
}

fn text(bytes: Option<&[u8]>, what: &str) -> Result<Option<Value>, String> {
    let Some(bytes) = bytes else { return Ok(None) };
    match str::from_utf8(bytes) {
        Ok(text) => Ok(Some(Value::from(text))),
        Err(_) => Err(format!("the {what} is not text")),
    }
}

impl Step {
    /// Changes the document.
    ///
    /// # Errors
    /// What is in the way.
    pub(crate) fn apply(&self, document: &mut Value, message: &Message) -> Result<(), String> {
        match self {
            Self::Set(to, source) => match source.value(message)? {
                Some(value) => to.set(document, value),
                None => Ok(()),
            },
            Self::Remove(at) => {
                at.remove(document);
                Ok(())
            }
            Self::Rename(from, to) => match from.remove(document) {
                Some(value) => to.set(document, value),
                None => Ok(()),
            },
            Self::Copy(from, to) => match from.get(document).cloned() {
                Some(value) => to.set(document, value),
                None => Ok(()),
            },
            Self::Keep(kept) => {
                let mut rest = Value::Object(Map::new());
                for at in kept {
                    if let Some(value) = at.get(document).cloned() {
                        at.set(&mut rest, value)?;
                    }
                }
                *document = rest;
                Ok(())
            }
        }
    }
}
