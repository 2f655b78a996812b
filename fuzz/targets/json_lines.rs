//! Lines of JSON, as `produce` and the admin API take them: what is read is the same when it is written and read
//! again, and nothing of it is guessed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_core::jsonl;
use millstream_core::message::{Message, Record};

fuzz_target!(|text: &[u8]| {
    let (mut input, mut line, mut number) = (text, Vec::new(), 0);
    while let Ok(true) = jsonl::read_line(&mut input, &mut line, number) {
        number += 1;
        match jsonl::parse_line(&line, number, Some("orders")) {
            Ok(record) => check(record),
            Err(error) => assert_eq!(error.line, number),
        }
    }
});

fn check(record: Record) {
    let message = Message {
        topic: record.topic.clone(),
        partition: record.partition.unwrap_or(0),
        offset: 7,
        timestamp: record.timestamp.unwrap_or(0),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    };
    let written = jsonl::write_line(&message);
    assert!(!written.contains('\n'), "one line");
    let again = jsonl::parse_line(written.as_bytes(), 1, None).expect("what was written is read");
    let partition = Some(message.partition);
    let timestamp = Some(message.timestamp);
    assert_eq!(again, Record { partition, timestamp, ..record });
}
