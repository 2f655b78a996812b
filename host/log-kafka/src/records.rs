//! Records: messages out of librdkafka's hands, and records into them.
//!
//! A message is copied once, into one allocation that key, value and headers share. What a stranger
//! wrote is hostile: header names are bytes until they are known to be UTF-8.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
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
    let headers = RawHeaders::of(borrowed);
    let (key, value) = (borrowed.key(), borrowed.payload());
    let payload = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
    let (mut count, mut total) = (0, payload);
    for (name, value) in headers.clone() {
        count += 1;
        total += name.len() + value.len();
    }
    let mut all = BytesMut::with_capacity(total);
    for part in key.iter().chain(value.iter()) {
        all.extend_from_slice(part);
    }
    for (name, value) in headers.clone() {
        all.extend_from_slice(name);
        all.extend_from_slice(value);
    }
    let mut all = all.freeze();
    let mut next = |length: usize| all.split_to(length);
    let (key, value) = (key.map(|key| next(key.len())), value.map(|value| next(value.len())));
    let mut owned = Vec::with_capacity(count);
    for (name, value) in headers {
        owned.push(Header { name: text(next(name.len())), value: next(value.len()) });
    }
    Message {
        topic: topic.clone(),
        partition,
        offset: offset(borrowed.offset()),
        timestamp: timestamp(borrowed.timestamp()),
        key,
        value,
        headers: owned,
    }
}

/// A header's name; what is not UTF-8 in it is replaced, there is no name for it.
fn text(bytes: Bytes) -> ByteString {
    ByteString::try_from(bytes.clone())
        .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into())
}

/// Names and values of a message's headers, in order. Not by `Headers::get` of rdkafka: it panics if a
/// name is not UTF-8, and any producer may write one that is not.
#[derive(Clone)]
struct RawHeaders<'a> {
    /// Null if there are none.
    headers: *mut rdkafka::bindings::rd_kafka_headers_t,
    index: usize,
    /// Whose they are.
    message: PhantomData<&'a [u8]>,
}

impl<'a> RawHeaders<'a> {
    #[expect(unsafe_code, reason = "rdkafka has no way to read a header's name as bytes")]
    fn of(message: &'a BorrowedMessage<'_>) -> Self {
        let mut headers = ptr::null_mut();
        // SAFETY: the message lives while it is borrowed, and its headers with it.
        let error =
            unsafe { rdkafka::bindings::rd_kafka_message_headers(message.ptr(), &raw mut headers) };
        if error != rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            headers = ptr::null_mut();
        }
        Self { headers, index: 0, message: PhantomData }
    }
}

impl<'a> Iterator for RawHeaders<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[expect(unsafe_code, reason = "rdkafka has no way to read a header's name as bytes")]
    fn next(&mut self) -> Option<Self::Item> {
        if self.headers.is_null() {
            return None;
        }
        let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) =
            (ptr::null(), ptr::null(), 0);
        // SAFETY: `headers` is the message's own; an index beyond the last answers with an error.
        let error = unsafe {
            rdkafka::bindings::rd_kafka_header_get_all(
                self.headers,
                self.index,
                &raw mut name,
                &raw mut value,
                &raw mut size,
            )
        };
        if error != rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            return None;
        }
        self.index += 1;
        // SAFETY: librdkafka ends names with a zero byte and tells the size of values; both live as
        // long as the message.
        let header = unsafe {
            let value: &[u8] = match value.is_null() {
                true => &[],
                false => std::slice::from_raw_parts(value.cast(), size),
            };
            (CStr::from_ptr(name).to_bytes(), value)
        };
        Some(header)
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
