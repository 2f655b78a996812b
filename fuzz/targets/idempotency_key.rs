//! The idempotency key of a message, by each source: never empty, never too long, and one key for one message.
//! The input is a JSON pointer as a part, then the message's value.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_core::idempotency::{KEY_BYTES_MAX, KeySource};
use millstream_core::message::{Header, Message};

fuzz_target!(|bytes: &[u8]| {
    let mut value = bytes;
    let pointer = millstream_fuzz::part(&mut value).unwrap_or_default();
    let pointer = String::from_utf8_lossy(pointer).into_owned();
    let value = Bytes::copy_from_slice(value);
    let message = Message {
        topic: "orders".into(),
        partition: 0,
        offset: 0,
        timestamp: 0,
        key: Some(value.clone()),
        value: Some(value.clone()),
        headers: vec![Header::new("key", "first"), Header::new("key", value.clone())],
    };
    let of_bytes = [KeySource::MessageKey, KeySource::Header("key".to_owned())];
    for source in &of_bytes {
        let key = source.key_of(&message);
        assert_eq!(key.is_some(), !value.is_empty());
        check(key, (value.len() <= KEY_BYTES_MAX).then_some(&value));
    }
    for pointer in [pointer.as_str(), "/order_id", ""] {
        let key = KeySource::JsonPointer(pointer.to_owned()).key_of(&message);
        let document = serde_json::from_slice::<serde_json::Value>(&value).ok();
        let found = document.as_ref().and_then(|document| document.pointer(pointer));
        let text =
            found.and_then(|found| found.as_str()).filter(|text| text.len() <= KEY_BYTES_MAX);
        check(key, text.map(|text| Bytes::copy_from_slice(text.as_bytes())).as_ref());
    }
});

fn check(key: Option<Bytes>, expected: Option<&Bytes>) {
    if let Some(key) = &key {
        assert!(!key.is_empty() && key.len() <= KEY_BYTES_MAX, "{} bytes", key.len());
    }
    if let Some(expected) = expected.filter(|expected| !expected.is_empty()) {
        assert_eq!(key.as_ref(), Some(expected));
    }
}
