//! Records: messages out of librdkafka's hands, and records into them.
//!
//! A message is copied once, into one allocation that key, value and headers share. What a stranger
//! wrote is hostile: header names are bytes until they are known to be UTF-8.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use millstream_core::message::{EpochMs, Header, Message, Offset, Record, Topic};
use rdkafka::Timestamp;
use rdkafka::message::{BorrowedMessage, Header as KafkaHeader, Message as _, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::util::IntoOpaque;

/// What a message took off the wire.
pub(crate) fn message(topic: &Topic, partition: u32, borrowed: &BorrowedMessage<'_>) -> Message {
    let headers = borrowed.headers().map(|_| raw_headers(borrowed)).unwrap_or_default();
    let (key, value) = (borrowed.key(), borrowed.payload());
    let headers_bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let total = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + headers_bytes;
    let mut all = BytesMut::with_capacity(total);
    for part in key.iter().chain(value.iter()) {
        all.extend_from_slice(part);
    }
    for (name, value) in &headers {
        all.extend_from_slice(name);
        all.extend_from_slice(value);
    }
    let mut all = all.freeze();
    let mut next = |length: usize| all.split_to(length);
    Message {
        topic: topic.clone(),
        partition,
        offset: offset(borrowed.offset()),
        timestamp: timestamp(borrowed.timestamp()),
        key: key.map(|key| next(key.len())),
        value: value.map(|value| next(value.len())),
        headers: headers
            .iter()
            .map(|(name, value)| Header { name: text(next(name.len())), value: next(value.len()) })
            .collect(),
    }
}

/// A header's name; what is not UTF-8 in it is replaced, there is no name for it.
fn text(bytes: Bytes) -> ByteString {
    ByteString::try_from(bytes.clone())
        .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into())
}

/// Names and values of a message's headers. Not by `Headers::get` of rdkafka: it panics if a name is
/// not UTF-8, and any producer may write one that is not.
#[expect(unsafe_code, reason = "rdkafka has no way to read a header's name as bytes")]
fn raw_headers<'a>(message: &'a BorrowedMessage<'_>) -> Vec<(&'a [u8], &'a [u8])> {
    let mut found: Vec<(&[u8], &[u8])> = Vec::new();
    let mut headers = ptr::null_mut();
    // SAFETY: the message lives while it is borrowed, and its headers with it.
    let error =
        unsafe { rdkafka::bindings::rd_kafka_message_headers(message.ptr(), &raw mut headers) };
    if error != rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || headers.is_null() {
        return found;
    }
    loop {
        let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) =
            (ptr::null(), ptr::null(), 0);
        // SAFETY: `headers` is the message's own; an index beyond the last answers with an error.
        let error = unsafe {
            rdkafka::bindings::rd_kafka_header_get_all(
                headers,
                found.len(),
                &raw mut name,
                &raw mut value,
                &raw mut size,
            )
        };
        if error != rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            return found;
        }
        // SAFETY: librdkafka ends names with a zero byte and tells the size of values; both live as
        // long as the message.
        let header = unsafe {
            let value: &[u8] = match value.is_null() {
                true => &[],
                false => std::slice::from_raw_parts(value.cast(), size),
            };
            (CStr::from_ptr(name).to_bytes(), value)
        };
        found.push(header);
    }
}

pub(crate) fn offset(raw: i64) -> Offset {
    u64::try_from(raw).unwrap_or(0)
}

/// The other way: an offset that librdkafka takes.
pub(crate) fn raw_offset(offset: Offset) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// The other way: a partition number that librdkafka takes.
pub(crate) fn raw_partition(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn timestamp(timestamp: Timestamp) -> EpochMs {
    match timestamp {
        Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => ms,
        // Messages of the oldest format have none.
        Timestamp::NotAvailable => 0,
    }
}

/// A record as librdkafka takes it.
pub(crate) fn outgoing<D: IntoOpaque>(record: &Record, opaque: D) -> BaseRecord<'_, [u8], [u8], D> {
    let mut outgoing = BaseRecord::with_opaque_to(&record.topic, opaque);
    outgoing.partition = record.partition.map(raw_partition);
    outgoing.key = record.key.as_deref();
    outgoing.payload = record.value.as_deref();
    outgoing.timestamp = record.timestamp;
    if !record.headers.is_empty() {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for header in &record.headers {
            headers =
                headers.insert(KafkaHeader { key: &header.name, value: Some(&*header.value) });
        }
        outgoing.headers = Some(headers);
    }
    outgoing
}
