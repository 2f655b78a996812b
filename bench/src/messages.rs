//! The messages that are measured: values of a set size that do not compress to nothing, few enough
//! keys that they repeat, one header as a trace would have it.

use bytes::Bytes;
use millstream_core::message::{EpochMs, Header, Message, Record, Topic};

/// How many different keys there are.
pub const KEYS: u64 = 10_000;

/// The value of most measurements.
pub const VALUE_BYTES: usize = 200;

/// The value of message `number`: hexadecimal digits, different for each.
pub fn value(number: u64, bytes: usize) -> Bytes {
    let mut text = Vec::with_capacity(bytes + 16);
    let mut state = number;
    while text.len() < bytes {
        // The constants of a 64-bit linear congruential generator (Knuth's MMIX).
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(format!("{state:016x}").as_bytes());
    }
    text.truncate(bytes);
    Bytes::from(text)
}

/// The key of message `number`.
pub fn key(number: u64) -> Bytes {
    Bytes::from(format!("order-{:05}", number.wrapping_mul(2_654_435_761) % KEYS))
}

/// How the headers of messages follow each other, which are their idempotency keys where they have some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keys {
    /// Each larger than the one before.
    #[default]
    Ascending,
    /// In no order, as UUIDs are.
    Random,
}

/// The header of message `number`.
pub fn header(number: u64, keys: Keys) -> Header {
    let trace = match keys {
        Keys::Ascending => u128::from(number),
        Keys::Random => u128::from(mixed(number)) << 64 | u128::from(mixed(!number)),
    };
    let text = format!("00-{trace:032x}-{number:016x}-01");
    Header::new("traceparent", text.into_bytes())
}

/// Another number for each, in no order (the end of Steele's `SplitMix64`).
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The number of the message with this header; `None` if it is not one of ours.
pub fn number(header: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(header).ok()?;
    let (_, digits) = text.strip_suffix("-01")?.rsplit_once('-')?;
    u64::from_str_radix(digits, 16).ok()
}

/// Message `number` of a topic, to be appended.
pub fn record(topic: &Topic, number: u64, timestamp: EpochMs, keys: Keys) -> Record {
    Record {
        topic: topic.clone(),
        partition: None,
        timestamp: Some(timestamp),
        key: Some(key(number)),
        value: Some(value(number, VALUE_BYTES)),
        headers: vec![header(number, keys)],
    }
}

/// Message `number`, as a log would hand it over.
pub fn message(topic: &Topic, number: u64, value_bytes: usize, bare: bool) -> Message {
    Message {
        topic: topic.clone(),
        partition: 0,
        offset: number,
        timestamp: 1_700_000_000_000,
        key: (!bare).then(|| key(number)),
        value: Some(value(number, value_bytes)),
        headers: if bare { Vec::new() } else { vec![header(number, Keys::default())] },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_its_header() {
        for expected in [0, 17, u64::MAX] {
            for keys in [Keys::Ascending, Keys::Random] {
                assert_eq!(number(&header(expected, keys).value), Some(expected));
            }
        }
        for foreign in [&b"00-1"[..], b"", b"\xff-01", b"00--01"] {
            assert_eq!(number(foreign), None, "{foreign:?}");
        }
    }
}
