use millstream_core::log::{Ends, Log as _, LogError, RecordError};
use millstream_core::message::Topic;

use super::*;

#[tokio::test]
async fn what_is_appended_comes_back_in_order_also_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 2)]).await;
    let full = Record {
        key: Some("k".into()),
        headers: vec![header("a", "1"), header("a", "2")],
        ..record("t", 1, "full")
    };
    let tombstone = Record { value: None, ..record("t", 1, "") };
    let appended = append(&log, vec![record("t", 0, "x"), full.clone(), tombstone]).await;
    assert_eq!(
        appended.iter().map(|a| (a.partition, a.offset)).collect::<Vec<_>>(),
        [(0, 0), (1, 0), (1, 1)]
    );
    let cluster_id = log.cluster_id().to_owned();
    for round in 0..2 {
        let log = if round == 0 { log.clone() } else { open(dir.path()) };
        let messages = read_all(&log, "t", 1).await;
        assert_eq!(messages.len(), 2, "round {round}");
        assert_eq!(messages[0].key, full.key);
        assert_eq!(messages[0].value, full.value);
        assert_eq!(messages[0].headers, full.headers);
        assert_eq!(messages[1].value, None);
        let ends = log.ends(&[Partition::new("t", 1), Partition::new("t", 0)]).await.unwrap();
        assert_eq!(ends, [Ends { start: 0, end: 2, high: 2 }, Ends { start: 0, end: 1, high: 1 }]);
        assert_eq!(log.cluster_id(), cluster_id);
        log.close().await;
    }
}

#[tokio::test]
async fn thousands_of_records_keep_their_order_through_tables_and_memory() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        EmbeddedOptions { write_buffer_bytes: 1024 * 1024, tail_bytes: 256 * 1024, ..options() };
    let log = EmbeddedLog::open(dir.path(), options.clone()).unwrap();
    log.create_topic(spec("t", 3)).await.unwrap();
    let filling = "x".repeat(300);
    for call in 0..100_u32 {
        let records = (0..300_u32).map(|i| {
            let number = call * 300 + i;
            record("t", number % 3, format!("{number}:{filling}"))
        });
        append(&log, records.collect()).await;
    }
    let check = async |log: &EmbeddedLog| {
        for partition in 0..3 {
            let messages = read_all(log, "t", partition).await;
            assert_eq!(messages.len(), 10_000);
            for (index, message) in messages.iter().enumerate() {
                let expected = format!("{}:", index as u32 * 3 + partition);
                assert!(message.value.as_ref().unwrap().starts_with(expected.as_bytes()));
                assert_eq!(message.offset, index as u64);
            }
        }
    };
    check(&log).await;
    assert!(log.size_bytes().unwrap() > 9_000_000);
    let bytes = log.partition_bytes(&Partition::new("t", 0)).unwrap();
    assert!((3_000_000..5_000_000).contains(&bytes), "{bytes}");
    log.close().await;
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    check(&log).await;
    assert_eq!(log.partition_bytes(&Partition::new("t", 0)).unwrap(), bytes);
}

#[tokio::test]
async fn a_refused_record_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1)]).await;
    let small = TopicSpec { message_bytes_max: 10, ..spec("small", 1) };
    log.create_topic(small).await.unwrap();
    let results = log
        .append(&[
            &record("t", 0, "a"),
            &record("small", 0, "more than ten"),
            &record("missing", 0, "c"),
            &record("t", 9, "d"),
            &record("t", 0, "e"),
        ])
        .await
        .unwrap();
    assert_eq!(results[0], Ok(Appended { partition: 0, offset: 0 }));
    let small: Topic = "small".into();
    assert_eq!(
        results[1],
        Err(RecordError::TooLarge { topic: small, size_bytes: 13, max_bytes: 10 })
    );
    assert!(matches!(&results[2], Err(RecordError::UnknownTopic { .. })));
    let Err(RecordError::UnknownTopic { reason, .. }) = &results[3] else { panic!() };
    assert!(reason.contains("partition 9"), "{reason}");
    assert_eq!(results[4], Ok(Appended { partition: 0, offset: 1 }));
    assert_eq!(values(&read_all(&log, "t", 0).await), ["a", "e"]);
    assert!(log.append(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn records_without_a_partition_go_by_key_or_are_spread() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 4)]).await;
    let keyed = |key: &'static str| Record {
        partition: None,
        key: Some(key.into()),
        ..record("t", 0, key)
    };
    let appended = append(&log, vec![keyed("foobar"), keyed("21"), keyed("foobar")]).await;
    let expected = crate::partitioner::partition_of_key(b"foobar", 4);
    assert_eq!((appended[0].partition, appended[2].partition), (expected, expected));

    let keyless = || Record { partition: None, ..record("t", 0, vec![0; 20_000]) };
    let mut used = [0; 4];
    for _ in 0..4 {
        let appended = append(&log, vec![keyless(), keyless()]).await;
        assert_eq!(appended[0].partition, appended[1].partition, "one call stays together");
        used[appended[0].partition as usize] += 1;
    }
    assert_eq!(used, [1; 4], "calls are spread");
    let appended = append(&log, (0..12).map(|_| keyless()).collect()).await;
    let distinct: std::collections::BTreeSet<_> = appended.iter().map(|a| a.partition).collect();
    assert_eq!(distinct.len(), 4, "a full batch ends the stay");
}

#[tokio::test]
async fn append_time_is_the_logs_and_other_records_bring_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::at(5000);
    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions { clock: clock.clone(), ..options() })
        .unwrap();
    log.create_topic(spec("own", 1)).await.unwrap();
    log.create_topic(TopicSpec { append_time: true, ..spec("logs", 1) }).await.unwrap();
    let none = Record { timestamp: None, ..record("own", 0, "b") };
    append(&log, vec![record("own", 0, "a"), none, record("logs", 0, "c")]).await;
    let times = |messages: &[Message]| messages.iter().map(|m| m.timestamp).collect::<Vec<_>>();
    assert_eq!(times(&read_all(&log, "own", 0).await), [1, 5000]);
    assert_eq!(times(&read_all(&log, "logs", 0).await), [5000]);
}

#[tokio::test]
async fn partitions_can_be_added_but_not_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 2)]).await;
    append(&log, vec![record("t", 1, "a")]).await;
    log.create_topic(TopicSpec { append_time: true, ..spec("t", 2) }).await.unwrap();
    assert_eq!(log.topics().await.unwrap(), [spec("t", 2)], "the same count leaves it alone");
    log.create_topic(spec("t", 4)).await.unwrap();
    append(&log, vec![record("t", 3, "b"), record("t", 1, "c")]).await;
    let error = log.create_topic(spec("t", 3)).await.unwrap_err();
    assert!(
        matches!(&error, LogError::Fatal(text) if text.contains("has 4 partitions")),
        "{error}"
    );
    let error = log.create_topic(spec("no such name", 1)).await.unwrap_err();
    assert!(matches!(error, LogError::Fatal(_)));
    log.close().await;
    let log = open(dir.path());
    assert_eq!(log.topics().await.unwrap(), [spec("t", 4)]);
    assert_eq!(values(&read_all(&log, "t", 1).await), ["a", "c"]);
    assert_eq!(values(&read_all(&log, "t", 3).await), ["b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once_each_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), always()).unwrap();
    log.create_topic(spec("t", 1)).await.unwrap();
    let mut writers = Vec::new();
    for writer in 0..16 {
        let log = log.clone();
        writers.push(tokio::spawn(async move {
            for number in 0..50 {
                append(&log, vec![record("t", 0, format!("{writer}:{number}"))]).await;
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let all = values(&read_all(&log, "t", 0).await);
    assert_eq!(all.len(), 800);
    for writer in 0..16 {
        let prefix = format!("{writer}:");
        let own = all.iter().filter_map(|value| value.strip_prefix(&prefix));
        let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
        assert_eq!(own.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn a_closed_log_says_so_and_frees_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1)]).await;
    let consumer = join(&log, "g", &["t"]).await;
    log.announce("127.0.0.1:1").unwrap();
    let Err(error) = EmbeddedLog::open(dir.path(), options()) else { panic!("opened twice") };
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    log.close().await;
    let closed =
        |error: LogError| matches!(error, LogError::Fatal(text) if text.contains("closed"));
    assert!(closed(log.append(&[&record("t", 0, "a")]).await.unwrap_err()));
    assert!(closed(log.fetch(&Partition::new("t", 0), 0, ROOM).await.unwrap_err()));
    while let Ok(event) = consumer.next(ROOM).await {
        assert!(matches!(event, Event::Assigned(_)), "{event:?}");
    }
    let again = open(dir.path());
    drop(log);
    again.close().await;
}

#[tokio::test]
async fn dropping_the_log_closes_it_while_a_consumer_lives_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1)]).await;
    let (consumer, _) = member(&log, "g", &["t"]).await;
    append(&log, vec![record("t", 0, "a")]).await;
    drop(log);
    let log = open(dir.path());
    assert_eq!(values(&read_all(&log, "t", 0).await), ["a"]);
    assert!(consumer.next(ROOM).await.is_err());
}
