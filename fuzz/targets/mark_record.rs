//! Messages in a topic of idempotency marks, where strangers may write too: what is taken for a mark is the same when it
//! is written again. The input is a key as a part, then the value.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_core::idempotency::{Mark, Scope, mark_record};
use millstream_core::message::{Message, Partition};

fuzz_target!(|bytes: &[u8]| {
    let mut value = bytes;
    let key = millstream_fuzz::part(&mut value);
    let message = Message {
        topic: mark_record::topic("orders", "group"),
        partition: 3,
        offset: 7,
        timestamp: 0,
        key: key.map(Bytes::copy_from_slice),
        value: Some(Bytes::copy_from_slice(value)),
        headers: Vec::new(),
    };
    assert_eq!(mark_record::decode(&Message { value: None, ..message.clone() }), None);
    let Some((key, marked)) = mark_record::decode(&message) else { return };
    let scope = Scope { group: "group".into(), partition: Partition::new("orders", 3) };
    let mark = Mark { scope: scope.into(), key, turn: marked.turn, expires: marked.expires };
    let record = mark_record::encode(&mark);
    assert_eq!((record.key, record.value), (message.key, message.value));
    assert_eq!((record.topic, record.partition), (message.topic, Some(message.partition)));
});
