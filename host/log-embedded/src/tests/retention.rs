use millstream_core::log::{Ends, LogError};

use super::*;

fn p(number: u32) -> Partition {
    Partition::new("t", number)
}

async fn ends(log: &EmbeddedLog) -> (Offset, Offset) {
    let Ends { start, end, .. } = log.ends(&[p(0)]).await.unwrap()[0];
    (start, end)
}

fn stamped(value: &'static str, timestamp: EpochMs) -> Record {
    Record { timestamp: Some(timestamp), ..record("t", 0, value) }
}

#[tokio::test]
async fn whole_batches_older_than_the_retention_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::at(1000);
    let options = EmbeddedOptions { clock: clock.clone(), ..options() };
    let log = EmbeddedLog::open(dir.path(), options.clone()).unwrap();
    let retention = Some(Duration::from_millis(100));
    log.create_topic(TopicSpec { retention, ..spec("t", 1) }).await.unwrap();
    // Three batches; the second has an old and a young message.
    append(&log, vec![stamped("a", 900), stamped("b", 950)]).await;
    append(&log, vec![stamped("c", 900), stamped("d", 2000)]).await;
    append(&log, vec![stamped("e", 900)]).await;
    clock.set(1050);
    log.sweep().await.unwrap();
    assert_eq!(ends(&log).await, (0, 5), "b is not older than 100 ms");
    clock.set(1051);
    log.sweep().await.unwrap();
    assert_eq!(ends(&log).await, (2, 5), "d keeps c, and e behind them");
    log.close().await;
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    assert_eq!(ends(&log).await, (2, 5), "the start is kept");
    assert_eq!(values(&read_all(&log, "t", 0).await), ["c", "d", "e"]);
    clock.set(1_000_000);
    log.sweep().await.unwrap();
    assert_eq!(ends(&log).await, (5, 5));
    assert_eq!(log.partition_bytes(&p(0)).unwrap(), 0);
    log.close().await;
    let log = open(dir.path());
    assert_eq!(ends(&log).await, (5, 5), "offsets go on where they were");
    let appended = append(&log, vec![stamped("f", 1)]).await;
    assert_eq!(appended[0].offset, 5);
}

#[tokio::test]
async fn a_partition_keeps_at_least_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let retention_bytes = Some(100_000);
    log.create_topic(TopicSpec { retention_bytes, ..spec("t", 1) }).await.unwrap();
    for _ in 0..50 {
        append(&log, vec![record("t", 0, vec![b'x'; 10_000])]).await;
    }
    log.sweep().await.unwrap();
    let (start, end) = ends(&log).await;
    assert_eq!((start, end), (40, 50), "ten batches of 10,000 bytes and a little are enough");
    assert!(log.partition_bytes(&p(0)).unwrap() >= 100_000);
    log.close().await;
    let log = open(dir.path());
    log.sweep().await.unwrap();
    assert_eq!(ends(&log).await, (start, end), "sweeping again removes no more");
    assert_eq!(read_all(&log, "t", 0).await.len(), 10);
}

#[tokio::test]
async fn a_topic_without_retention_is_never_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::at(i64::MAX);
    let options = EmbeddedOptions { clock, ..options() };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    log.create_topic(spec("t", 1)).await.unwrap();
    append(&log, vec![stamped("a", i64::MIN)]).await;
    log.sweep().await.unwrap();
    assert_eq!(ends(&log).await, (0, 1));
}

#[tokio::test]
async fn deleting_moves_the_start_exactly_and_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1)]).await;
    for _ in 0..3 {
        append(&log, (0..10).map(|_| record("t", 0, "x")).collect()).await;
    }
    log.delete_before(&p(0), 15).await.unwrap();
    log.delete_before(&p(0), 3).await.unwrap();
    assert_eq!(ends(&log).await, (15, 30), "the start never moves back");
    let first = log.fetch(&p(0), 0, ROOM).await.unwrap();
    assert_eq!(first.messages[0].offset, 15);
    let error = log.delete_before(&p(0), 31).await.unwrap_err();
    assert!(matches!(&error, LogError::Fatal(text) if text.contains("ends at 30")), "{error}");
    log.close().await;
    let log = open(dir.path());
    assert_eq!(ends(&log).await, (15, 30));
    assert_eq!(read_all(&log, "t", 0).await.len(), 15);
    log.delete_before(&p(0), 30).await.unwrap();
    assert_eq!(ends(&log).await, (30, 30));
    assert!(read_all(&log, "t", 0).await.is_empty());
    append(&log, vec![record("t", 0, "y")]).await;
    assert_eq!(ends(&log).await, (30, 31));
}

#[tokio::test]
async fn thousands_of_batches_are_deleted_in_steps() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1)]).await;
    let mut appends = Vec::new();
    for _ in 0..2500 {
        appends.push(append(&log, vec![record("t", 0, "x")]).await);
    }
    log.delete_before(&p(0), 2400).await.unwrap();
    assert_eq!(ends(&log).await, (2400, 2500));
    assert_eq!(read_all(&log, "t", 0).await.len(), 100);
}

#[tokio::test]
async fn the_sweep_thread_sweeps_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::at(0);
    let sweep_interval = Duration::from_millis(5);
    let options = EmbeddedOptions { clock: clock.clone(), sweep_interval, ..options() };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    let retention = Some(Duration::from_millis(100));
    log.create_topic(TopicSpec { retention, ..spec("t", 1) }).await.unwrap();
    append(&log, vec![stamped("a", 0)]).await;
    let (consumer, _) = member(&log, "g", &["t"]).await;
    consumer.attach(&p(0), 0).await.unwrap();
    next(&consumer, ROOM).await;
    consumer.attach(&p(0), 0).await.unwrap();
    consumer.pause(&[p(0)]);
    clock.set(1000);
    consumer.resume(&[p(0)]);
    loop {
        // The gap wakes the consumer; until then it may see the message once more.
        let Event::Messages(batch) = next(&consumer, ROOM).await else { panic!() };
        if batch.messages.is_empty() {
            assert_eq!(batch.next, 1);
            break;
        }
        consumer.attach(&p(0), 0).await.unwrap();
    }
    assert_eq!(ends(&log).await, (1, 1));
}
