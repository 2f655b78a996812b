use super::*;
use crate::message::Header;

fn message(value: &str) -> Message {
    Message {
        topic: "orders".into(),
        partition: 0,
        offset: 0,
        timestamp: 0,
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: vec![Header::new("id", "first"), Header::new("id", "last")],
    }
}

fn by_pointer(value: &str) -> Option<Bytes> {
    KeySource::JsonPointer("/id".to_owned()).key_of(&message(value))
}

#[test]
fn keys_come_from_header_message_key_or_json() {
    assert_eq!(KeySource::Header("id".into()).key_of(&message("")), Some("last".into()));
    assert_eq!(KeySource::Header("none".into()).key_of(&message("")), None);
    assert_eq!(KeySource::MessageKey.key_of(&message("")), Some("k".into()));
    assert_eq!(by_pointer(r#"{"id":"o-1"}"#), Some("o-1".into()));
    assert_eq!(by_pointer(r#"{"id":18446744073709551615}"#), Some("18446744073709551615".into()));
}

#[test]
fn what_identifies_nothing_is_no_key() {
    for value in
        ["", "{", "{}", r#"{"id":null}"#, r#"{"id":""}"#, r#"{"id":true}"#, r#"{"id":[1]}"#]
    {
        assert_eq!(by_pointer(value), None, "{value}");
    }
}

#[test]
fn numbers_that_would_lose_digits_are_no_key() {
    for value in [r#"{"id":18446744073709551617}"#, r#"{"id":0.1}"#, r#"{"id":1e30}"#] {
        assert_eq!(by_pointer(value), None, "{value}: another number would have the same key");
    }
}

#[test]
fn a_giant_key_is_replaced_by_its_digest() {
    let key = by_pointer(&format!(r#"{{"id":"{}"}}"#, "x".repeat(1_000))).expect("a key");
    assert!(key.starts_with(b"sha256:") && key.len() < KEY_BYTES_MAX, "{key:?}");
}
