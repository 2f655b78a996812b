//! Marks in a topic over the simulated log: the promises of a store, and what is read again when.

#![expect(clippy::expect_used, reason = "helpers of tests")]

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::idempotency::in_topic::MarksInTopic;
use millstream_core::idempotency::{
    IdempotencyStore as _, Mark, MarkCopy as _, Scope, mark_record,
};
use millstream_core::log::{Log, TopicSpec};
use millstream_core::message::{Partition, Record};
use millstream_log_simulated::{Draw, Faults, SimCluster, Unobserved};
use millstream_sim::mark_copy::MemoryCopy;

const NOW: i64 = 1_000;

fn cluster() -> SimCluster {
    let cluster = SimCluster::new(Draw::new(1), Faults::default(), Arc::new(Unobserved));
    make(&cluster);
    cluster
}

fn make(cluster: &SimCluster) {
    cluster.create_topic(TopicSpec {
        name: mark_record::topic("in", "g"),
        partitions: 1,
        retention: None,
        retention_bytes: None,
        message_bytes_max: 10_000,
        append_time: true,
        compacted: true,
        replication: None,
    });
}

fn scope() -> Scope {
    Scope { group: "g".into(), partition: Partition::new("in", 0) }
}

fn mark(key: &str, turn: u64) -> Mark {
    let key = Bytes::copy_from_slice(key.as_bytes());
    Mark { scope: scope().into(), key, turn, expires: NOW + 100 }
}

fn store(cluster: &SimCluster, copy: &Arc<MemoryCopy>) -> (Arc<dyn Log>, MarksInTopic) {
    let log: Arc<dyn Log> = Arc::new(cluster.host(None));
    let store = MarksInTopic::new(Arc::clone(&log), Arc::clone(copy) as _);
    (log, store)
}

async fn turns(store: &MarksInTopic, keys: &[&'static str], now: i64) -> Vec<Option<u64>> {
    let keys: Vec<Bytes> = keys.iter().map(|k| Bytes::from_static(k.as_bytes())).collect();
    store.lookup(&scope(), &keys, now).await.expect("an answer")
}

#[tokio::test(start_paused = true)]
async fn another_host_has_what_was_marked_once_it_is_restored() {
    let cluster = cluster();
    let (_, first) = store(&cluster, &Arc::default());
    first.restore(&scope()).await.expect("restored");
    first.mark(vec![mark("a", 3), mark("b", 4)]).await.expect("marked");
    assert_eq!(turns(&first, &["b", "c", "a"], NOW).await, [Some(4), None, Some(3)]);
    let copy = Arc::default();
    let (_, second) = store(&cluster, &copy);
    second.restore(&scope()).await.expect("restored");
    assert_eq!(turns(&second, &["a", "b"], NOW).await, [Some(3), Some(4)]);
    assert_eq!(turns(&second, &["a"], NOW + 100).await, [None], "it has expired");
    assert_eq!(copy.checkpoint(&scope()).await, Ok(Some(2)));
}

#[tokio::test(start_paused = true)]
async fn what_was_read_once_is_not_read_again() {
    let cluster = cluster();
    let (log, first) = store(&cluster, &Arc::default());
    first.mark(vec![mark("a", 3)]).await.expect("marked");
    let copy = Arc::default();
    let (_, second) = store(&cluster, &copy);
    second.restore(&scope()).await.expect("restored");
    assert_eq!(copy.checkpoint(&scope()).await, Ok(Some(1)));
    // Reading it again would find nothing: it is gone.
    let marks = Partition::new(mark_record::topic("in", "g"), 0);
    log.delete_before(&marks, 1).await.expect("removed");
    let (_, third) = store(&cluster, &copy);
    third.restore(&scope()).await.expect("restored");
    assert_eq!(turns(&third, &["a"], NOW).await, [Some(3)]);
}

#[tokio::test(start_paused = true)]
async fn what_another_owner_marked_meanwhile_is_not_passed() {
    let cluster = cluster();
    let copy = Arc::default();
    let (_, zombie) = store(&cluster, &copy);
    zombie.restore(&scope()).await.expect("restored");
    let (_, owner) = store(&cluster, &Arc::default());
    owner.restore(&scope()).await.expect("restored");
    owner.mark(vec![mark("a", 3)]).await.expect("marked");
    // Not yet aware that it owns nothing any more.
    zombie.mark(vec![mark("b", 4)]).await.expect("marked");
    zombie.restore(&scope()).await.expect("it owns it again");
    assert_eq!(turns(&zombie, &["a", "b"], NOW).await, [Some(3), Some(4)]);
}

#[tokio::test(start_paused = true)]
async fn the_copy_of_another_topic_is_thrown_away() {
    let copy: Arc<MemoryCopy> = Arc::default();
    let (_, first) = store(&cluster(), &copy);
    // Written and never read: no checkpoint. Then read, with one.
    first.mark(vec![mark("a", 3), mark("b", 4)]).await.expect("marked");
    for restored in [false, true] {
        if restored {
            first.restore(&scope()).await.expect("restored");
        }
        let (_, second) = store(&cluster(), &copy);
        second.restore(&scope()).await.expect("restored");
        assert_eq!(turns(&second, &["a", "b"], NOW).await, [None, None], "restored: {restored}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_mark_is_skipped() {
    let cluster = cluster();
    let strange = |key: Option<&'static [u8]>, value: Option<&'static [u8]>| Record {
        topic: mark_record::topic("in", "g"),
        partition: Some(0),
        timestamp: None,
        key: key.map(Bytes::from_static),
        value: value.map(Bytes::from_static),
        headers: Vec::new(),
    };
    let (log, first) = store(&cluster, &Arc::default());
    let nonsense = [
        strange(None, None),
        strange(Some(b"a"), None),
        strange(Some(b"a"), Some(b"")),
        strange(Some(b"a"), Some(b"\x01short")),
        strange(Some(b"a"), Some(b"\x02eight...eight...")),
        strange(Some(b""), Some(b"\x01eight...eight...")),
    ];
    let nonsense: Vec<&Record> = nonsense.iter().collect();
    for appended in log.append(&nonsense).await.expect("appended") {
        appended.expect("taken");
    }
    first.mark(vec![mark("b", 4)]).await.expect("marked");
    let (_, second) = store(&cluster, &Arc::default());
    second.restore(&scope()).await.expect("restored");
    assert_eq!(turns(&second, &["a", "b"], NOW).await, [None, Some(4)]);
}
