//! How the targets take their bytes apart, and the seeds put them together: lengths stand in front, so that a
//! changed byte changes one part. What is too short is taken as far as it goes; no input is refused.

use millstream_core::message::Header;

pub mod shelf;

/// Names of headers that mean something, so that they need not be guessed: a byte stands for each.
pub const HEADER_NAMES: &[&str] = &[
    "millstream-origin-topic",
    "millstream-origin-partition",
    "millstream-origin-offset",
    "millstream-origin-timestamp",
    "millstream-origin-group",
    "millstream-turn",
    "millstream-attempt",
    "millstream-waits",
    "millstream-tier",
    "millstream-first-failed",
    "millstream-last-failed",
    "millstream-error-kind",
    "millstream-error-reason",
    "millstream-error-backtrace",
    "millstream-plugin-name",
    "millstream-plugin-version",
    "millstream-plugin-digest",
    "millstream-idempotency-key",
    "millstream-redrive-count",
    "millstream-redrive-id",
    "millstream-redrive-at",
    "millstream-redrive-letter",
    "__connect.errors.topic",
    "__connect.errors.exception.message",
    "__streams.errors.topic",
    "kafka_dlt-original-topic",
    "kafka_dlt-original-offset",
    "__dlq.errors.topic",
];

/// The next part: its length as two bytes, little endian, then that many.
pub fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (part, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    *bytes = rest;
    Some(part)
}

/// The other way.
pub fn put_part(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u16::try_from(part.len()).expect("parts of seeds are short");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(part);
}

/// Headers: a byte for the name, or 255 and the name as a part, then the value as a part.
pub fn headers(mut bytes: &[u8]) -> Vec<Header> {
    let mut headers = Vec::new();
    while let Some((name, rest)) = bytes.split_first() {
        bytes = rest;
        let name = match HEADER_NAMES.get(usize::from(*name)) {
            Some(known) => (*known).to_owned(),
            None => String::from_utf8_lossy(part(&mut bytes).unwrap_or_default()).into_owned(),
        };
        let value = part(&mut bytes).unwrap_or_default();
        headers.push(Header::new(name, value.to_vec()));
    }
    headers
}

/// The other way.
pub fn put_headers(bytes: &mut Vec<u8>, headers: &[Header]) {
    for header in headers {
        match HEADER_NAMES.iter().position(|name| header.name == **name) {
            Some(index) => bytes.push(u8::try_from(index).expect("there are few names")),
            None => {
                bytes.push(u8::MAX);
                put_part(bytes, header.name.as_bytes());
            }
        }
        put_part(bytes, &header.value);
    }
}
