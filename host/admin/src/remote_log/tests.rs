use bytes::Bytes;
use millstream_core::log::TransactError;
use millstream_core::message::{Header, Message};
use proptest::prelude::*;

use super::*;
use crate::fake_log::*;
use crate::log_api::fetch_answer;

async fn connected(running: &Running) -> RemoteLog {
    RemoteLog::connect(&running.address.to_string(), &token()).await.expect("it runs")
}

fn record(topic: &str, value: impl Into<Bytes>) -> Record {
    Record {
        topic: topic.into(),
        partition: Some(1),
        timestamp: Some(-5),
        key: None,
        value: Some(value.into()),
        headers: Vec::new(),
    }
}

const ALL: Room = Room { messages: 1_000, bytes: 1 << 20 };

#[tokio::test]
async fn what_is_appended_is_fetched_byte_for_byte() {
    let running = run_plain().await;
    let log = connected(&running).await;
    log.create_topic(topic("orders")).await.expect("created");
    let awkward = Record {
        key: Some(Bytes::from_static(&[0xff, 0x00, 0x80])),
        headers: vec![
            Header::new("h", Bytes::from_static(&[0xc3, 0x28])),
            Header::new("h", ""),
            Header::new("", "\u{0}\"\\\u{2028}é"),
        ],
        ..record("orders", r#"{"base64":"AAA="}"#)
    };
    let tombstone = Record { key: Some(Bytes::new()), value: None, ..record("orders", "") };
    let empty = record("orders", "");
    let records = vec![awkward, tombstone, empty];
    let results = log.append(&records.iter().collect::<Vec<_>>()).await.expect("appended");
    assert_eq!(results[2], Ok(Appended { partition: 1, offset: 2 }));
    let batch = log.fetch(&Partition::new("orders", 1), 0, ALL).await.expect("fetched");
    assert_eq!((batch.next, batch.end), (3, 3));
    let stored = running.log.messages.lock().unwrap()[&Partition::new("orders", 1)].clone();
    assert_eq!(batch.messages, stored);
    for (message, record) in batch.messages.into_iter().zip(records) {
        assert_eq!((message.key, message.value), (record.key, record.value));
        assert_eq!((message.headers, message.timestamp), (record.headers, -5));
    }
}

#[tokio::test]
async fn a_writer_names_its_offender_and_is_fenced_when_its_name_is_taken() {
    let running = run_plain().await;
    let log = connected(&running).await;
    let first = log.writer("w").await.expect("taken");
    first.append_all(&[record("orders", "a")]).await.expect("appended");
    let empty = Record { value: None, ..record("orders", "") };
    let offender = first.append_all(&[record("orders", "b"), empty]).await.expect_err("refused");
    let error = RecordError::Denied { topic: "orders".into(), reason: "no value".to_owned() };
    assert_eq!(offender, TransactError::Offender { index: 1, error });

    let other = log.writer("other").await.expect("taken");
    let second = log.writer("w").await.expect("taken again");
    // The log behind it would not have noticed: a late request is refused where it arrives.
    let late = first.append_all(&[record("orders", "late")]).await.expect_err("fenced");
    assert!(matches!(late, TransactError::Log(LogError::Fenced(_))), "{late}");
    second.append_all(&[record("orders", "c")]).await.expect("appended");
    other.append_all(&[record("orders", "d")]).await.expect("appended");

    let large = record("orders", vec![0; 15 << 20]);
    let refused = second.append_all(&[large]).await.expect_err("it fits in no request");
    assert!(matches!(refused, TransactError::Offender { index: 0, .. }), "{refused}");
}

#[tokio::test]
async fn every_other_call_says_the_same_as_the_log_itself() {
    let running = run_plain().await;
    let log = connected(&running).await;
    assert_eq!((log.cluster_id(), log.commit_metadata_bytes_max()), ("fake-1", 4_000));
    let odd = TopicSpec {
        retention: Some(std::time::Duration::from_millis(1_500)),
        retention_bytes: Some(u64::MAX),
        append_time: true,
        compacted: false,
        replication: None,
        ..topic("odd/ name?#%é")
    };
    log.create_topic(odd.clone()).await.expect("created");
    assert!(log.topics().await.expect("topics").contains(&odd));

    let commit = Commit {
        next: 5,
        settled_above: vec![7..9, 11..12],
        attempts: vec![(5, 2)],
        owners: 1,
        suspects: vec![(6, 3)],
    };
    let (first, second) = (Partition::new("t", 0), Partition::new("t", 1));
    let mut commits = std::mem::take(&mut *running.log.commits.lock().unwrap());
    commits.insert(("g".to_owned(), second.clone()), commit.clone());
    *running.log.commits.lock().unwrap() = commits;
    let asked = [first.clone(), second.clone()];
    assert_eq!(log.committed("g", &asked).await.expect("commits"), [None, Some(commit)]);
    log.delete_before(&second, 4).await.expect("deleted");
    let ends = log.ends(&asked).await.expect("ends");
    assert_eq!(ends[1], Ends { start: 4, end: 0, high: 1 });
    let status = host_status(&running.address.to_string(), &token()).await.expect("status");
    assert_eq!(status["pipelines"], serde_json::json!({}));
}

#[tokio::test]
async fn classes_of_errors_survive_the_trip() {
    let running = run_plain().await;
    let log = connected(&running).await;
    for error in [
        LogError::Unavailable("the disk is full".to_owned()),
        LogError::Fenced("taken over".to_owned()),
        LogError::Fatal("damaged".to_owned()),
    ] {
        *running.log.failure.lock().unwrap() = Some(error.clone());
        assert_eq!(log.topics().await, Err(error.clone()));
        // What cannot be told in the audit trail is not done, and says so.
        let refused = log.append(&[&record("t", "")]).await.expect_err("it fails");
        assert_eq!(std::mem::discriminant(&refused), std::mem::discriminant(&error));
        assert!(refused.to_string().contains("audit trail cannot be written"), "{refused}");
        assert_eq!(log.ends(&[]).await, Err(error));
    }
    *running.log.failure.lock().unwrap() = None;
    let small = TopicSpec { message_bytes_max: 3, ..topic("small") };
    log.create_topic(small).await.expect("created");
    let records = [record("small", "1234"), record("none", ""), record("small", "123")];
    let results = log.append(&records.iter().collect::<Vec<_>>()).await.expect("answered");
    let too_large = RecordError::TooLarge { topic: "small".into(), size_bytes: 4, max_bytes: 3 };
    assert_eq!(results[0], Err(too_large));
    assert!(
        matches!(&results[1], Err(RecordError::UnknownTopic { topic, .. }) if &**topic == "none")
    );
    assert_eq!(results[2], Ok(Appended { partition: 1, offset: 0 }));
}

#[tokio::test]
async fn a_large_append_goes_in_chunks_and_answers_in_order() {
    let running = run_plain().await;
    let log = connected(&running).await;
    log.create_topic(topic("t")).await.expect("created");
    let many: Vec<Record> = (0..2_500).map(|i| record("t", format!("{i}"))).collect();
    let results = log.append(&many.iter().collect::<Vec<_>>()).await.expect("appended");
    let offsets: Vec<_> = results.into_iter().map(|r| r.expect("taken").offset).collect();
    assert_eq!(offsets, (0..2_500).collect::<Vec<_>>());
    assert_eq!(*running.log.appends.lock().unwrap(), [1_000, 1_000, 500]);

    // The worst that JSON makes of bytes, and one that no request holds.
    let large = [
        record("t", vec![0_u8; 2 << 20]),
        record("t", vec![0_u8; 4 << 20]),
        record("t", vec![0xff_u8; 4 << 20]),
        record("t", "last"),
    ];
    let results = log.append(&large.iter().collect::<Vec<_>>()).await.expect("answered");
    assert!(results[0].is_ok() && results[2].is_ok() && results[3].is_ok(), "{results:?}");
    let refused = results[1].as_ref().expect_err("it fits in no request").to_string();
    assert!(refused.contains("stop the host"), "{refused}");
}

#[tokio::test]
async fn nobody_joins_a_group_beside_a_running_host() {
    let running = run_plain().await;
    let log = connected(&running).await;
    let subscription = Subscription {
        pipeline: "p".to_owned(),
        group: "g".to_owned(),
        topics: Vec::new(),
        ..Subscription::default()
    };
    let Err(LogError::Fatal(text)) = log.consumer(subscription).await else {
        panic!("it must be refused")
    };
    assert!(text.contains("a running host owns this log"), "{text}");
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_named_with_the_reason() {
    let running = run_plain().await;
    let address = running.address.to_string();
    let other = Token::new("another-token-of-enough-length").expect("it is one");
    let refused = RemoteLog::connect(&address, &other).await.expect_err("not its token");
    assert!(matches!(refused, ConnectError::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains(&address), "{refused}");

    let log = connected(&running).await;
    running.stop.send(()).expect("it runs");
    running.served.await.expect("it ends");
    let gone = RemoteLog::connect(&address, &token()).await.expect_err("it ended");
    assert!(matches!(gone, ConnectError::NotThere { .. }), "{gone}");
    assert!(matches!(log.topics().await, Err(LogError::Unavailable(_))));
}

#[tokio::test]
async fn something_else_that_answers_is_no_host() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0_u8; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        }
    });
    let error = RemoteLog::connect(&address, &token()).await.expect_err("no host");
    assert!(matches!(error, ConnectError::Unusable { .. }), "{error}");
}

#[test]
fn an_answer_that_grows_too_long_ends_early_and_says_where_to_go_on() {
    let message = |offset: Offset| Message {
        topic: "t".into(),
        partition: 0,
        offset,
        timestamp: 0,
        key: None,
        value: Some(Bytes::from(vec![0_u8; 100])),
        headers: Vec::new(),
    };
    // Offset 12 stands behind a gap.
    let messages = vec![message(10), message(12), message(13)];
    let batch = Batch { partition: Partition::new("t", 0), messages, next: 20, end: 30 };
    let parsed = |bytes_max| {
        let text = fetch_answer(&batch, bytes_max).expect("one fits");
        serde_json::from_str::<FetchAnswer>(&text).expect("an answer")
    };
    let whole = parsed(10_000);
    assert_eq!((whole.messages.len(), whole.next, whole.end), (3, 20, 30));
    let cut = parsed(1_000);
    assert_eq!((cut.messages.len(), cut.next), (1, 12));
    assert!(fetch_answer(&batch, 100).is_err(), "not even one fits");
}

proptest! {
    #[test]
    fn the_size_of_a_record_as_json_is_never_underestimated(
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        text in any::<String>(),
        headers in proptest::collection::vec((any::<String>(), any::<String>()), 0..5),
    ) {
        let record = Record {
            topic: text.clone().into(),
            partition: Some(u32::MAX),
            timestamp: Some(i64::MIN),
            key: Some(text.into()),
            value: value.map(Bytes::from),
            headers: headers.into_iter().map(|(n, v)| Header::new(n, v)).collect(),
        };
        let json = serde_json::to_string(&RecordJson::from(&record)).expect("JSON");
        prop_assert!(json.len() < json_bytes_max(&record), "{json}");
    }
}
