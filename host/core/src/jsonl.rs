//! Messages as lines of JSON: what `consume` prints and `produce` takes.
//!
//! `{"topic":…,"partition":…,"offset":…,"timestamp":…,"key":…,"value":…,"headers":[["name","value"]]}`.
//! Text stands as a string, bytes that are not UTF-8 as `{"base64":"…"}`, an absent key or value as
//! `null`. On input `value` may also be any other JSON but `null`: its text is the payload, as it was
//! written without the spaces between its tokens, so that no digit of a large number is lost.
//!
//! Invariants: what [`write_line`] makes, [`parse_line`] takes back byte for byte; a line that is wrong
//! in anything is refused whole, with its number, and nothing is guessed (an unknown or repeated
//! field, a value left out: a tombstone deletes, so it must be written as `null`).
//!
//! Limits: a line has at most [`LINE_BYTES_MAX`].

use std::io::BufRead;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};

use crate::message::{EpochMs, Header, Message, Offset, Record};

/// The longest line: a message of 16 MiB with every byte escaped at twice its length.
pub const LINE_BYTES_MAX: usize = 32 << 20;

const FIELDS: [&str; 7] = ["topic", "partition", "offset", "timestamp", "key", "value", "headers"];

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct JsonlError {
    /// The line's number, from 1.
    pub line: u64,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// Bytes as JSON shows them: a string if they are UTF-8, else `{"base64":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(pub Bytes);

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &STANDARD.encode(&self.0))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "neither a text nor {\"base64\": \"…\"}")]
        enum Shape {
            Text(String),
            Coded(Coded),
        }
        match Shape::deserialize(deserializer)? {
            Shape::Text(text) => Ok(Self(text.into())),
            Shape::Coded(Coded { base64 }) => STANDARD
                .decode(base64)
                .map(|bytes| Self(bytes.into()))
                .map_err(|error| serde::de::Error::custom(format!("not base64: {error}"))),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Coded {
    base64: String,
}

/// The message as one line, without the line break.
pub fn write_line(message: &Message) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        topic: &'a str,
        partition: u32,
        offset: Offset,
        timestamp: EpochMs,
        key: Option<Payload>,
        value: Option<Payload>,
        headers: Vec<(&'a str, Payload)>,
    }
    let line = Line {
        topic: &message.topic,
        partition: message.partition,
        offset: message.offset,
        timestamp: message.timestamp,
        key: message.key.clone().map(Payload),
        value: message.value.clone().map(Payload),
        headers: message.headers.iter().map(|h| (&*h.name, Payload(h.value.clone()))).collect(),
    };
    // Strings, numbers and lists: there is nothing in it that JSON cannot say.
    serde_json::to_string(&line).unwrap_or_default()
}

/// Reads the next line into `line` (without its break) and says whether there was one. Never holds
/// more than [`LINE_BYTES_MAX`] of it.
///
/// # Errors
/// If the input fails, or a line is longer; reading cannot go on after that.
pub fn read_line(
    input: &mut impl BufRead,
    line: &mut Vec<u8>,
    line_number: u64,
) -> Result<bool, JsonlError> {
    line.clear();
    let fail = |reason| JsonlError { line: line_number, reason };
    let mut bounded = std::io::Read::take(input, LINE_BYTES_MAX as u64 + 2);
    let read = bounded.read_until(b'\n', line);
    let read = read.map_err(|error| fail(format!("the input cannot be read: {error}")))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    if line.len() > LINE_BYTES_MAX {
        return Err(fail(too_long(line.len())));
    }
    Ok(read > 0)
}

/// A record from a line. It goes to the topic the line names, else to `default_topic`; its offset is
/// the log's to give, so the one in the line is checked and forgotten.
///
/// # Errors
/// What is wrong with the line.
pub fn parse_line(
    line: &[u8],
    line_number: u64,
    default_topic: Option<&str>,
) -> Result<Record, JsonlError> {
    parse(line, default_topic).map_err(|reason| JsonlError { line: line_number, reason })
}

fn parse(line: &[u8], default_topic: Option<&str>) -> Result<Record, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(too_long(line.len()));
    }
    let line = std::str::from_utf8(line).map_err(|error| {
        format!(
            "byte {} is not UTF-8: write bytes that are no text as {{\"base64\": \"…\"}}",
            error.valid_up_to()
        )
    })?;
    let fields = Fields::split(line)?;
    let topic = fields.get::<Option<String>>("topic")?.flatten();
    let topic = topic.as_deref().or(default_topic).filter(|topic| !topic.is_empty());
    let Some(topic) = topic else {
        return Err("it names no `topic`, and none was given".to_owned());
    };
    let _offset: Option<Option<Offset>> = fields.get("offset")?;
    let headers = fields.get::<Option<Vec<(String, Payload)>>>("headers")?.flatten();
    let header = |(name, value): (String, Payload)| Header::new(name, value.0);
    Ok(Record {
        topic: topic.into(),
        partition: fields.get("partition")?.flatten(),
        timestamp: fields.get("timestamp")?.flatten(),
        key: fields.get::<Option<Payload>>("key")?.flatten().map(|key| key.0),
        value: fields.value()?,
        headers: headers.unwrap_or_default().into_iter().map(header).collect(),
    })
}

fn too_long(length: usize) -> String {
    format!("it has {length} bytes or more, at most {LINE_BYTES_MAX} are taken: split the message")
}

/// The texts of a line's fields, so that a JSON value can be taken as it was written.
struct Fields<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Fields<'a> {
    fn split(line: &'a str) -> Result<Self, String> {
        let mut rest = line.trim_ascii();
        let mut fields: Vec<(&'static str, &'a str)> = Vec::with_capacity(FIELDS.len());
        let object = "it is not an object: one message a line, as `millstream consume` prints it";
        rest = rest.strip_prefix('{').ok_or(object)?.trim_ascii_start();
        if rest.strip_prefix('}').is_some_and(str::is_empty) {
            return Ok(Self(fields));
        }
        loop {
            let (_, name) = one::<IgnoredAny>(&mut rest, "a field's name")?;
            let name: String = serde_json::from_str(name)
                .map_err(|error| format!("a field's name is not a string: {error}"))?;
            let Some(known) = FIELDS.into_iter().find(|known| *known == name) else {
                return Err(format!(
                    "unknown field `{}`: did you mean `{}`? (the fields are {})",
                    name.get(..name.floor_char_boundary(60)).unwrap_or_default(),
                    nearest(&name),
                    FIELDS.join(", "),
                ));
            };
            if fields.iter().any(|(name, _)| *name == known) {
                return Err(format!("`{known}` stands in it twice"));
            }
            rest = rest.strip_prefix(':').ok_or(format!("there is no `:` after `{known}`"))?;
            let (_, text) = one::<IgnoredAny>(&mut rest, known)?;
            fields.push((known, text));
            if let Some(after) = rest.strip_prefix('}') {
                return if after.is_empty() {
                    Ok(Self(fields))
                } else {
                    Err("something follows the object: one message a line".to_owned())
                };
            }
            rest =
                rest.strip_prefix(',').ok_or(format!("there is no `,` or `}}` after `{known}`"))?;
        }
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let value = serde_json::from_str(text);
        value.map(Some).map_err(|error| format!("`{name}` cannot be taken: {error}"))
    }

    fn value(&self) -> Result<Option<Bytes>, String> {
        let text = self.text("value").ok_or("`value` is missing: write `null` for a tombstone")?;
        match text.as_bytes().first() {
            Some(b'n') => Ok(None),
            Some(b'"') => Ok(self.get::<Payload>("value")?.map(|payload| payload.0)),
            Some(b'{') if serde_json::from_str::<Coded>(text).is_ok() => {
                Ok(self.get::<Payload>("value")?.map(|payload| payload.0))
            }
            _ => Ok(Some(compact(text).into())),
        }
    }
}

/// Takes one JSON value off `rest`, with the spaces around it; also gives its text.
fn one<'a, T: DeserializeOwned>(rest: &mut &'a str, what: &str) -> Result<(T, &'a str), String> {
    let text = rest.trim_ascii_start();
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    match values.next() {
        Some(Ok(value)) => {
            let (taken, after) = text.split_at_checked(values.byte_offset()).unwrap_or((text, ""));
            *rest = after.trim_ascii_start();
            Ok((value, taken.trim_ascii()))
        }
        Some(Err(error)) => Err(format!("{what} is not JSON: {error}")),
        None => Err(format!("it ends where {what} should be")),
    }
}

/// JSON (known to be valid) without the spaces between its tokens.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|char| {
            let space = !in_string && char.is_ascii_whitespace();
            if *char == '"' && !escaped {
                in_string = !in_string;
            }
            escaped = in_string && *char == '\\' && !escaped;
            !space
        })
        .collect()
}

/// The field whose name takes the fewest changes to become.
fn nearest(name: &str) -> &'static str {
    let name: Vec<char> = name.chars().take(32).collect();
    let distance = |known: &str| {
        let mut row: Vec<usize> = (0..=name.len()).collect();
        for (line, known) in known.chars().enumerate() {
            let mut diagonal = line;
            let mut left = line + 1;
            for (cell, char) in
                row.iter_mut().zip(std::iter::once(None).chain(name.iter().map(Some)))
            {
                let above = *cell;
                *cell = match char {
                    None => line + 1,
                    Some(char) => {
                        (diagonal + usize::from(*char != known)).min(above + 1).min(left + 1)
                    }
                };
                (diagonal, left) = (above, *cell);
            }
        }
        row.last().copied().unwrap_or(usize::MAX)
    };
    FIELDS.into_iter().min_by_key(|known| distance(known)).unwrap_or("value")
}

#[cfg(test)]
mod tests;
