//! The audit trail on a real log: what is written is read back, and what strangers write is shown as what it is.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test ends where it fails"
)]

use std::sync::Arc;

use millstream_core::audit::{self, Content, ENTRY_BYTES_MAX, Entry, Outcome, TEXT_BYTES_MAX};
use millstream_core::log::Log;
use millstream_core::message::Record;
use millstream_log_embedded::{EmbeddedLog, EmbeddedOptions};

fn log(folder: &tempfile::TempDir) -> Arc<EmbeddedLog> {
    EmbeddedLog::open(folder.path(), EmbeddedOptions::default()).expect("opened")
}

async fn write(log: &EmbeddedLog, value: Option<&[u8]>) {
    let value = value.map(|value| value.to_vec().into());
    let record = Record {
        topic: audit::TOPIC.into(),
        partition: Some(0),
        timestamp: None,
        key: None,
        value,
        headers: Vec::new(),
    };
    for result in log.append(&[&record]).await.expect("appended") {
        result.expect("taken");
    }
}

#[tokio::test]
async fn entries_are_read_back_newest_first_and_again_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = log(&folder);
    assert_eq!(audit::last(&*first, 10).await, Ok(Vec::new()), "no trail is an empty one");
    for number in 0..5 {
        let text = format!("redriven {number}");
        let entry = Entry::new("id", "ada", "redrive", Outcome::Done, &text).of("orders");
        audit::write(&*first, &entry).await.expect("written");
    }
    first.close().await;
    let again = log(&folder);
    let lines = audit::last(&*again, 2).await.expect("read");
    let text = |line: &audit::Line| match &line.content {
        Content::Entry(entry) => entry.text.clone(),
        Content::Unreadable { unreadable } => panic!("{unreadable}"),
    };
    assert_eq!(lines.iter().map(text).collect::<Vec<_>>(), ["redriven 4", "redriven 3"]);
    assert!(lines[0].at > 0 && lines[0].offset == 4, "{lines:?}");
    again.close().await;
}

#[tokio::test]
async fn an_entry_that_is_too_large_is_written_without_its_detail() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    let long = "x\u{1b}[31m".repeat(1000);
    let detail = serde_json::json!({ "filter": "y".repeat(2 * ENTRY_BYTES_MAX) });
    let entry = Entry::new(&long, &long, &long, Outcome::Begun, &long).of(&long).with(detail);
    audit::write(&*log, &entry).await.expect("written");
    let lines = audit::last(&*log, 10).await.expect("read");
    let Content::Entry(entry) = &lines[0].content else { panic!("{lines:?}") };
    assert!(entry.text.len() <= TEXT_BYTES_MAX && !entry.text.contains('\u{1b}'), "{entry:?}");
    assert!(entry.detail["left_out_bytes"].as_u64() > Some(ENTRY_BYTES_MAX as u64), "{entry:?}");
    log.close().await;
}

#[tokio::test]
async fn what_is_no_entry_is_shown_and_hides_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    let entry = Entry::new("id", "ada", "purge", Outcome::Done, "purged 3");
    audit::write(&*log, &entry).await.expect("written");
    let hostile = r#"{"version":1,"id":"a","by":"\u001b]0;title","action":"x","pipeline":"\u0007","outcome":"done","text":"\u001b[2J","detail":null}"#;
    let newer = hostile.replace("\"version\":1", "\"version\":2");
    for value in [None, Some(&b"\xff"[..]), Some(b"{}"), Some(newer.as_bytes())] {
        write(&log, value).await;
    }
    write(&log, Some(hostile.as_bytes())).await;
    let lines = audit::last(&*log, 10).await.expect("read");
    let unreadable = |line: &&audit::Line| matches!(line.content, Content::Unreadable { .. });
    assert_eq!((lines.len(), lines.iter().filter(unreadable).count()), (6, 4), "{lines:?}");
    let Content::Entry(hostile) = &lines[0].content else { panic!("{lines:?}") };
    let texts = [&hostile.by, &hostile.text, hostile.pipeline.as_ref().expect("named")];
    assert!(texts.iter().all(|text| !text.contains(char::is_control)), "{hostile:?}");
    log.close().await;
}
