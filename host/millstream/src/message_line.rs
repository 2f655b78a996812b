//! Messages as lines of JSON: what `consume` prints and `produce` takes.
//!
//! `{"topic":…,"partition":…,"offset":…,"timestamp":…,"key":…,"value":…,"headers":[["name","value"]]}`.
//! Text stands as a string, bytes that are not UTF-8 as `{"base64":"…"}`, an absent key or value as
//! `null`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use millstream_core::message::{EpochMs, Header, Message, Record, Topic};
use millstream_core::plugin::AttemptContext;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};

/// Key, value or header value as JSON shows it.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a>(pub &'a [u8]);

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &STANDARD.encode(self.0))?;
        map.end()
    }
}

#[derive(Serialize)]
struct LineOut<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    timestamp: EpochMs,
    key: Option<Payload<'a>>,
    value: Option<Payload<'a>>,
    headers: Vec<(&'a str, Payload<'a>)>,
}

/// The message as one line, without the line break.
pub fn write(message: &Message) -> String {
    let line = LineOut {
        topic: &message.topic,
        partition: message.partition,
        offset: message.offset,
        timestamp: message.timestamp,
        key: message.key.as_deref().map(Payload),
        value: message.value.as_deref().map(Payload),
        headers: message.headers.iter().map(|h| (&*h.name, Payload(&h.value))).collect(),
    };
    // Texts, numbers and lists: nothing that JSON cannot say.
    serde_json::to_string(&line).unwrap_or_default()
}

/// Bytes that are text or `{"base64": …}` in JSON.
#[derive(Debug)]
struct PayloadIn(Bytes);

impl<'de> Deserialize<'de> for PayloadIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PayloadVisitor)
    }
}

struct PayloadVisitor;

impl<'de> Visitor<'de> for PayloadVisitor {
    type Value = PayloadIn;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or {\"base64\": …}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<PayloadIn, E> {
        Ok(PayloadIn(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PayloadIn, A::Error> {
        let not_bytes = || {
            de::Error::custom(
                "an object other than {\"base64\": …}; write JSON as a text, or use `--values`",
            )
        };
        let Some(key) = map.next_key::<String>()? else { return Err(not_bytes()) };
        if key != "base64" {
            return Err(not_bytes());
        }
        let text: String = map.next_value()?;
        if map.next_key::<String>()?.is_some() {
            return Err(not_bytes());
        }
        match STANDARD.decode(&text) {
            Ok(bytes) => Ok(PayloadIn(Bytes::from(bytes))),
            Err(error) => Err(de::Error::custom(format!("not base64: {error}"))),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineIn {
    // Where it came from, as `consume` printed it; it goes where the command says.
    #[serde(default, rename = "topic")]
    _topic: Option<String>,
    #[serde(default)]
    partition: Option<u32>,
    #[serde(default, rename = "offset")]
    _offset: Option<u64>,
    #[serde(default)]
    timestamp: Option<EpochMs>,
    #[serde(default)]
    key: Option<PayloadIn>,
    // Not defaulted: a tombstone deletes, so it must be written as `null`.
    #[serde(deserialize_with = "required")]
    value: Option<PayloadIn>,
    #[serde(default)]
    headers: Vec<(String, PayloadIn)>,
}

fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PayloadIn>, D::Error> {
    Option::deserialize(deserializer)
}

/// A record for `topic` from a line. Its partition is kept only if `keep_partition`.
///
/// # Errors
/// What is wrong with the line, in words for a person.
pub fn parse(line: &[u8], topic: &Topic, keep_partition: bool) -> Result<Record, String> {
    let line: LineIn = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    Ok(Record {
        topic: topic.clone(),
        partition: line.partition.filter(|_| keep_partition),
        timestamp: line.timestamp,
        key: line.key.map(|key| key.0),
        value: line.value.map(|value| value.0),
        headers: line.headers.into_iter().map(|(n, v)| Header::new(n, v.0)).collect(),
    })
}

/// A message of a case folder, with everything but its value defaulted: `above` messages stand
/// before it.
///
/// # Errors
/// What is wrong with the line, in words for a person.
pub fn parse_case(line: &[u8], above: u64) -> Result<(Message, AttemptContext), String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct CaseLineIn {
        #[serde(default)]
        topic: Option<String>,
        #[serde(default)]
        partition: u32,
        #[serde(default)]
        offset: Option<u64>,
        #[serde(default)]
        timestamp: EpochMs,
        #[serde(default)]
        key: Option<PayloadIn>,
        #[serde(deserialize_with = "required")]
        value: Option<PayloadIn>,
        #[serde(default)]
        headers: Vec<(String, PayloadIn)>,
        #[serde(default)]
        attempt: Option<std::num::NonZeroU32>,
    }
    let line: CaseLineIn = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let message = Message {
        topic: line.topic.as_deref().unwrap_or("test").into(),
        partition: line.partition,
        offset: line.offset.unwrap_or(above),
        timestamp: line.timestamp,
        key: line.key.map(|key| key.0),
        value: line.value.map(|value| value.0),
        headers: line.headers.into_iter().map(|(n, v)| Header::new(n, v.0)).collect(),
    };
    let context = AttemptContext {
        attempt: line.attempt.map_or(1, std::num::NonZeroU32::get),
        turn: message.offset,
        timestamp: message.timestamp,
    };
    Ok((message, context))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            topic: "orders".into(),
            partition: 3,
            offset: 42,
            timestamp: 1_700_000_000_000,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(&[0xff, 0x00])),
            headers: vec![Header::new("h", Bytes::from_static(b"1")), Header::new("h", Bytes::new())],
        }
    }

    #[test]
    fn what_consume_prints_produce_takes() {
        let message = message();
        let line = write(&message);
        assert_eq!(
            line,
            r#"{"topic":"orders","partition":3,"offset":42,"timestamp":1700000000000,"key":"k","value":{"base64":"/wA="},"headers":[["h","1"],["h",""]]}"#
        );
        let record = parse(line.as_bytes(), &"copy".into(), true).expect("its own line");
        assert_eq!((&*record.topic, record.partition), ("copy", Some(3)));
        assert_eq!((record.key, record.value), (message.key, message.value));
        assert_eq!((record.headers, record.timestamp), (message.headers, Some(message.timestamp)));
        let spread = parse(line.as_bytes(), &"copy".into(), false).expect("its own line");
        assert_eq!(spread.partition, None, "the log chooses unless partitions are to be kept");
    }

    #[test]
    fn a_tombstone_is_written_as_null_and_not_left_out() {
        let topic = "t".into();
        assert_eq!(parse(br#"{"key":"k","value":null}"#, &topic, false).map(|r| r.value), Ok(None));
        let error = parse(br#"{"key":"k"}"#, &topic, false).expect_err("no value");
        assert!(error.contains("missing field `value`"), "{error}");
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_reason() {
        for (line, reason) in [
            (r#"{"order_id":1}"#, "unknown field `order_id`"),
            (r#"{"value":{"a":1}}"#, "--values"),
            (r#"{"value":5}"#, "a text or"),
            (r#"{"value":{"base64":"%"}}"#, "not base64"),
            (r#"{"value":{"base64":"","x":1}}"#, "other than"),
            (r#"{"value":"#, "EOF"),
        ] {
            let error = parse(line.as_bytes(), &"t".into(), false).expect_err(line);
            assert!(error.contains(reason), "{line} gave: {error}");
        }
    }
}
