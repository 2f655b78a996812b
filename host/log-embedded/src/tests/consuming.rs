use millstream_core::log::{Batch, LogError};
use tokio::time::Instant;

use super::*;

async fn batch(consumer: &Arc<dyn Consumer>, room: Room) -> Batch {
    match next(consumer, room).await {
        Event::Messages(batch) => batch,
        other => panic!("{other:?} instead of messages"),
    }
}

fn p(number: u32) -> Partition {
    Partition::new("t", number)
}

#[tokio::test]
async fn nothing_is_read_before_attaching_nor_after_release() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 2)]).await;
    append(&log, vec![record("t", 0, "a"), record("t", 1, "b")]).await;
    let (consumer, assigned) = member(&log, "g", &["t"]).await;
    assert_eq!(assigned, [p(0), p(1)]);
    let silent = async |room| {
        tokio::time::timeout(Duration::from_millis(50), consumer.next(room)).await.is_err()
    };
    assert!(silent(ROOM).await, "nothing is attached");
    consumer.attach(&p(1), 0).await.unwrap();
    assert!(silent(Room { messages: 0, bytes: 0 }).await, "no room for messages");
    let got = batch(&consumer, ROOM).await;
    assert_eq!((values(&got.messages), got.next, got.end), (vec!["b".to_owned()], 1, 1));
    consumer.attach(&p(1), 0).await.unwrap();
    assert_eq!(values(&batch(&consumer, ROOM).await.messages), ["b"], "attaching again seeks");
    append(&log, vec![record("t", 1, "c")]).await;
    consumer.release(&[p(1)]).await;
    // It is handed out again at once, since nobody else is there: with a new assignment.
    assert_eq!(next(&consumer, ROOM).await, Event::Assigned(vec![p(1)]));
    assert!(silent(ROOM).await, "released");
}

#[tokio::test]
async fn partitions_take_turns_and_paused_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 3)]).await;
    for number in 0..3 {
        append(&log, (0..10).map(|_| record("t", number, "x")).collect()).await;
    }
    let (consumer, _) = member(&log, "g", &["t"]).await;
    for number in 0..3 {
        consumer.attach(&p(number), 0).await.unwrap();
    }
    let two = Room { messages: 2, bytes: 1 << 20 };
    let mut order = Vec::new();
    for _ in 0..6 {
        order.push(batch(&consumer, two).await.partition.number);
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    consumer.pause(&[p(0), p(1)]);
    for _ in 0..3 {
        assert_eq!(batch(&consumer, two).await.partition, p(2));
    }
    consumer.resume(&[p(1)]);
    let resumed = batch(&consumer, two).await;
    assert_eq!((resumed.partition, resumed.messages[0].offset), (p(1), 4), "it goes on there");
}

#[tokio::test]
async fn an_append_wakes_a_waiting_consumer_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1)]).await;
    let (consumer, _) = member(&log, "g", &["t"]).await;
    consumer.attach(&p(0), 0).await.unwrap();
    let mut waits = Vec::new();
    for number in 0..100 {
        let before = Instant::now();
        // The consumer is asked first, so it waits when the append comes.
        let (got, _) = tokio::join!(
            batch(&consumer, ROOM),
            append(&log, vec![record("t", 0, number.to_string())])
        );
        assert_eq!(values(&got.messages), [number.to_string()]);
        waits.push(before.elapsed());
    }
    waits.sort();
    // The median; other work on the machine may delay a few.
    assert!(waits[50] < Duration::from_millis(2), "{:?} of {waits:?}", waits[50]);
}

#[tokio::test]
async fn a_dropped_next_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing in memory: each read goes to the store, with a wait in it.
    let options = EmbeddedOptions { tail_bytes: 0, ..options() };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    log.create_topic(spec("t", 1)).await.unwrap();
    append(&log, (0..100).map(|i| record("t", 0, i.to_string())).collect()).await;
    let (consumer, _) = member(&log, "g", &["t"]).await;
    consumer.attach(&p(0), 0).await.unwrap();
    let mut got = Vec::new();
    let room = Room { messages: 7, bytes: 1 << 20 };
    while got.len() < 100 {
        // Dropped at its first wait, again and again.
        tokio::select! {
            biased;
            event = consumer.next(room) => match event.unwrap() {
                Event::Messages(batch) => got.extend(values(&batch.messages)),
                other => panic!("{other:?}"),
            },
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(got, (0..100).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_deleted_beginning_shows_as_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1)]).await;
    append(&log, (0..10).map(|i| record("t", 0, i.to_string())).collect()).await;
    log.delete_before(&p(0), 4).await.unwrap();
    let (consumer, _) = member(&log, "g", &["t"]).await;
    consumer.attach(&p(0), 0).await.unwrap();
    let got = batch(&consumer, Room { messages: 2, bytes: 1 << 20 }).await;
    assert_eq!((got.messages[0].offset, got.next), (4, 6));
    log.delete_before(&p(0), 10).await.unwrap();
    let got = batch(&consumer, ROOM).await;
    assert_eq!((got.messages.len(), got.next, got.end), (0, 10, 10), "moved over the gap");
    let error = consumer.attach(&p(0), 11).await.unwrap_err();
    assert!(matches!(&error, LogError::Fatal(text) if text.contains("ends at 10")), "{error}");
}

#[tokio::test]
async fn a_second_member_gets_its_share_after_the_release_with_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 2), ("t.dlq", 2)]).await;
    append(&log, vec![record("t", 1, "a"), record("t", 1, "b")]).await;
    let (first, _) = member(&log, "g", &["t"]).await;
    first.attach(&p(1), 0).await.unwrap();
    batch(&first, ROOM).await;
    let second = join(&log, "g", &["t"]).await;
    assert_eq!(next(&first, ROOM).await, Event::Revoked(vec![p(1)]));
    let fenced = |error: LogError| matches!(error, LogError::Fenced(_));
    assert!(fenced(second.attach(&p(1), 0).await.unwrap_err()), "not yet");
    first.commit(vec![(p(1), commit_at(1))]).await.unwrap();
    first.release(&[p(1)]).await;
    assert_eq!(next(&second, ROOM).await, Event::Assigned(vec![p(1)]));
    assert!(fenced(first.commit(vec![(p(1), commit_at(2))]).await.unwrap_err()), "too late");
    let companion = Partition::new("t.dlq", 1);
    let late = first.commit(vec![(companion.clone(), commit_at(0))]).await.unwrap_err();
    assert!(fenced(late), "its companions went with it");
    assert_eq!(second.committed(&[p(1)]).await.unwrap(), [Some(commit_at(1))]);
    second.attach(&p(1), 1).await.unwrap();
    second.attach(&companion, 0).await.unwrap();
    assert_eq!(values(&batch(&second, ROOM).await.messages), ["b"]);
    drop(second);
    assert_eq!(next(&first, ROOM).await, Event::Assigned(vec![p(1)]), "dropped without a word");
}

#[tokio::test]
async fn releasing_a_partition_detaches_its_companions() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 2), ("t.retry.5s", 2)]).await;
    let (consumer, _) = member(&log, "g", &["t"]).await;
    let tier = |number| Partition::new("t.retry.5s", number);
    for number in 0..2 {
        consumer.attach(&tier(number), 0).await.unwrap();
    }
    consumer.release(&[p(0)]).await;
    assert_eq!(next(&consumer, ROOM).await, Event::Assigned(vec![p(0)]));
    append(&log, vec![record("t.retry.5s", 0, "a"), record("t.retry.5s", 1, "b")]).await;
    assert_eq!(batch(&consumer, ROOM).await.partition, tier(1));
    let more = tokio::time::timeout(Duration::from_millis(50), consumer.next(ROOM)).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn partitions_added_while_running_are_assigned_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1)]).await;
    let (consumer, _) = member(&log, "g", &["t"]).await;
    log.create_topic(spec("t", 2)).await.unwrap();
    assert_eq!(next(&consumer, ROOM).await, Event::Assigned(vec![p(1)]));
    consumer.attach(&p(1), 0).await.unwrap();
    append(&log, vec![record("t", 1, "a")]).await;
    assert_eq!(values(&batch(&consumer, ROOM).await.messages), ["a"]);
}

#[tokio::test]
async fn a_topic_that_does_not_exist_cannot_be_subscribed() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1)]).await;
    let subscription = Subscription {
        pipeline: "orders".to_owned(),
        group: "g".to_owned(),
        topics: vec!["missing".into()],
        ..Subscription::default()
    };
    let Err(LogError::Fatal(text)) = log.consumer(subscription).await else { panic!() };
    assert!(text.contains("orders") && text.contains("missing"), "{text}");
}
