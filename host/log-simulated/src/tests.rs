use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::idempotency::{IdempotencyStore, Mark, Scope};
use millstream_core::log::{
    Commit, Consumer, Event, Log, LogError, Room, Subscription, TopicSpec, Transaction,
};
use millstream_core::message::{Partition, Record};

use crate::{CrashAt, Draw, Faults, Patience, SimCluster, SimLog, Unobserved, conformance};

const ROOM: Room = Room { messages: 10, bytes: 1 << 20 };

fn cluster(seed: u64, faults: Faults) -> SimCluster {
    SimCluster::new(Draw::new(seed), faults, Arc::new(Unobserved))
}

fn harmless() -> Faults {
    Faults {
        latency_ms_max: 20,
        slow: 50,
        slow_ms_max: 400,
        redelivered: 100,
        gap: 200,
        open_transaction: 300,
        open_ms_max: 200,
        event_ms_max: 200,
        ..Faults::default()
    }
}

async fn conforms(seed: u64, faults: Faults) {
    let cluster = cluster(seed, faults);
    let log = cluster.host(None);
    conformance::check(Arc::new(log.clone())).await.expect("one member");
    conformance::check_members(Arc::new(log.clone())).await.expect("two members");
    conformance::check_store(Arc::new(log.clone()), Arc::new(log)).await.expect("store");
}

#[tokio::test(start_paused = true)]
async fn the_simulated_log_keeps_the_promises_of_its_port() {
    conforms(1, Faults::default()).await;
}

#[tokio::test(start_paused = true)]
async fn it_keeps_them_when_it_is_slow_and_redelivers_and_has_gaps() {
    for seed in 0..40 {
        conforms(seed, harmless()).await;
    }
}

fn source(cluster: &SimCluster, messages: usize) -> Partition {
    for name in ["in", "out"] {
        cluster.create_topic(TopicSpec {
            name: name.into(),
            partitions: 1,
            retention: None,
            retention_bytes: None,
            message_bytes_max: 1000,
            append_time: false,
            compacted: false,
            replication: None,
        });
    }
    cluster.produce((0..messages).map(|n| record("in", &n.to_string())).collect());
    Partition::new("in", 0)
}

fn record(topic: &str, value: &str) -> Record {
    Record {
        topic: topic.into(),
        partition: Some(0),
        timestamp: None,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

async fn join(log: &SimLog) -> Arc<dyn Consumer> {
    let topics = vec!["in".into()];
    let subscription =
        Subscription { pipeline: "p".into(), group: "g".into(), topics, ..Subscription::default() };
    log.consumer(subscription).await.expect("joins")
}

fn commit(next: u64) -> Vec<(Partition, Commit)> {
    vec![(Partition::new("in", 0), Commit { next, ..Commit::default() })]
}

async fn assigned(consumer: &Arc<dyn Consumer>) {
    let event = consumer.next(ROOM).await.expect("an event");
    assert!(matches!(event, Event::Assigned(_)), "expected an assignment, saw {event:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_append_did_not_happen_and_a_lost_answer_hides_one_that_did() {
    let cluster = cluster(1, Faults { refused: 1000, ..Faults::default() });
    source(&cluster, 0);
    let log = cluster.host(None);
    let refused = log.append(&[&record("out", "a")]).await;
    assert!(matches!(refused, Err(LogError::Unavailable(_))), "{refused:?}");
    assert!(cluster.messages("out").is_empty());
    cluster.set_faults(Faults { answer_lost: 1000, ..Faults::default() });
    let mut happened = 0;
    for _ in 0..20 {
        let lost = log.append(&[&record("out", "a"), &record("out", "b")]).await;
        assert!(matches!(lost, Err(LogError::Unavailable(_))), "{lost:?}");
        let now = cluster.messages("out").len();
        happened = happened.max(now);
    }
    assert!((1..40).contains(&happened), "some appends happen in part, saw {happened} of 40");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_whose_answer_was_lost_can_be_repeated_and_happens_once() {
    for seed in 0..50 {
        let faults = Faults { open_transaction: 500, open_ms_max: 90, ..Faults::default() };
        let cluster = cluster(seed, faults.clone());
        source(&cluster, 1);
        let log = cluster.host(None);
        let consumer = join(&log).await;
        assigned(&consumer).await;
        let transaction =
            Transaction { records: vec![record("out", "a")], marks: vec![], commits: commit(1) };
        cluster.set_faults(Faults { answer_lost: 700, ..faults });
        while consumer.transact(Arc::new(transaction.clone())).await.is_err() {}
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(cluster.messages("out").len(), 1, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_lost_at_once_fences_its_owner_before_it_is_told() {
    let cluster = cluster(1, Faults { event_ms_max: 5_000, ..Faults::default() });
    let partition = source(&cluster, 3);
    let log = cluster.host(None);
    let consumer = join(&log).await;
    assigned(&consumer).await;
    consumer.attach(&partition, 0).await.expect("attaches");
    consumer.commit(commit(1)).await.expect("it is ours");
    cluster.shake("g", 1000, true);
    let fenced = consumer.commit(commit(2)).await;
    assert!(matches!(fenced, Err(LogError::Fenced(_))), "{fenced:?}");
    let mut events = Vec::new();
    while events.len() < 2 {
        match consumer.next(ROOM).await.expect("an event") {
            Event::Messages(_) => assert!(events.is_empty(), "nothing arrives after the loss"),
            event => events.push(event),
        }
    }
    let expected = [Event::Lost(vec![partition.clone()]), Event::Assigned(vec![partition])];
    assert_eq!(events, expected);
    consumer.commit(commit(2)).await.expect("it is ours again");
}

#[tokio::test(start_paused = true)]
async fn a_crashed_hosts_partitions_are_given_on_when_its_session_ends() {
    let cluster = cluster(1, Faults::default());
    cluster.set_patience(Patience { session: Duration::from_secs(3), ..Patience::default() });
    source(&cluster, 0);
    let first = cluster.host(Some(CrashAt { call: 3, carried_out: true }));
    let consumer = join(&first).await;
    assigned(&consumer).await;
    tokio::select! {
        biased;
        _ = consumer.commit(commit(5)) => panic!("the dead are not answered"),
        () = cluster.dead(first.host()) => {}
    }
    let begin = tokio::time::Instant::now();
    let second = cluster.host(None);
    let consumer = join(&second).await;
    assigned(&consumer).await;
    assert_eq!(begin.elapsed().as_secs(), 3);
    let committed = consumer.committed(&[Partition::new("in", 0)]).await.expect("answers");
    assert_eq!(committed, [Some(Commit { next: 5, ..Commit::default() })]);
}

#[tokio::test(start_paused = true)]
async fn a_mark_without_an_answer_is_shown_to_others_only() {
    let cluster = cluster(1, Faults { answer_lost: 1000, ..Faults::default() });
    let partition = source(&cluster, 0);
    let log = cluster.host(None);
    let scope = Scope { group: "g".into(), partition };
    let key = Bytes::from_static(b"k");
    let mark = Mark { scope: scope.clone().into(), key: key.clone(), turn: 4, expires: 10 };
    log.mark(vec![mark.clone()]).await.expect_err("the answer is lost");
    cluster.set_faults(Faults::default());
    let other = cluster.host(None);
    let keys = [key];
    assert_eq!(log.lookup(&scope, &keys, 0).await, Ok(vec![None]));
    assert_eq!(other.lookup(&scope, &keys, 0).await, Ok(vec![Some(4)]));
    log.mark(vec![mark]).await.expect("answers");
    assert_eq!(log.lookup(&scope, &keys, 0).await, Ok(vec![Some(4)]));
}

#[tokio::test(start_paused = true)]
async fn what_an_open_transaction_commits_is_waited_for() {
    let faults = Faults { open_transaction: 1000, open_ms_max: 10_000, ..Faults::default() };
    let cluster = cluster(3, faults);
    let partition = source(&cluster, 0);
    let log = cluster.host(None);
    let consumer = join(&log).await;
    assigned(&consumer).await;
    let transaction =
        Transaction { records: vec![record("out", "a")], marks: vec![], commits: commit(1) };
    let asking =
        tokio::time::timeout(Duration::from_millis(1), consumer.transact(Arc::new(transaction)));
    asking.await.expect_err("it is open");
    let ends = cluster.ends(&Partition::new("out", 0)).expect("exists");
    assert_eq!((ends.end, ends.high), (0, 1));
    let committed = consumer.committed(&[partition]).await.expect("answers");
    assert_eq!(committed, [Some(Commit { next: 1, ..Commit::default() })]);
    assert_eq!(cluster.messages("out").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_append_lands_once_though_its_caller_is_gone() {
    let mut dropped = 0;
    for seed in 0..40 {
        let faults =
            Faults { latency_ms_max: 20, late_send: 1000, late_ms_max: 50, ..Faults::default() };
        let cluster = cluster(seed, faults);
        source(&cluster, 0);
        let log = cluster.host(None);
        let record = record("out", "a");
        let records = [&record];
        let answer = tokio::time::timeout(Duration::from_millis(5), log.append(&records)).await;
        dropped += u32::from(answer.is_err());
        tokio::time::sleep(Duration::from_secs(5)).await;
        // Whoever looks next carries out what is due.
        assert_eq!(cluster.messages("out").len(), 1, "seed {seed}");
    }
    assert!((1..40).contains(&dropped), "{dropped} of 40 callers were gone");
}

#[tokio::test(start_paused = true)]
async fn an_eager_rebalance_gives_nothing_before_all_is_given_back() {
    let cluster = cluster(1, Faults::default());
    cluster.set_eager(true);
    source(&cluster, 0);
    let spec = cluster.topics().into_iter().find(|spec| &*spec.name == "in").expect("exists");
    cluster.create_topic(TopicSpec { partitions: 3, ..spec });
    let first = join(&cluster.host(None)).await;
    let Ok(Event::Assigned(all)) = first.next(ROOM).await else { panic!("assigned") };
    assert_eq!(all.len(), 3);
    let second = join(&cluster.host(None)).await;
    assert_eq!(first.next(ROOM).await, Ok(Event::Revoked(all.clone())));
    first.release(&all[..2]).await;
    let nothing = tokio::time::timeout(Duration::from_secs(5), second.next(ROOM)).await;
    nothing.expect_err("one is still held");
    first.release(&all[2..]).await;
    let Ok(Event::Assigned(given)) = second.next(ROOM).await else { panic!("assigned") };
    let Ok(Event::Assigned(kept)) = first.next(ROOM).await else { panic!("assigned") };
    assert_eq!((given.len(), kept.len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_thrown_out_is_told_by_its_next_poll_and_commits_nothing() {
    let cluster = cluster(1, Faults::default());
    source(&cluster, 1);
    let consumer = join(&cluster.host(None)).await;
    assigned(&consumer).await;
    cluster.expel("g");
    assert!(matches!(consumer.next(ROOM).await, Err(LogError::Fenced(_))));
    assert!(matches!(consumer.commit(commit(1)).await, Err(LogError::Fenced(_))));
    assert!(cluster.committed("g").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_what_is_written_and_nothing_else() {
    let cluster = cluster(1, Faults::default());
    source(&cluster, 1);
    let log = cluster.host(None);
    let consumer = join(&log).await;
    assigned(&consumer).await;
    cluster.set_full_disk(true);
    let record = record("out", "a");
    assert!(matches!(log.append(&[&record]).await, Err(LogError::Unavailable(_))));
    consumer.commit(commit(1)).await.expect("commits go on");
    cluster.set_full_disk(false);
    log.append(&[&record]).await.expect("there is room again");
    assert_eq!(cluster.messages("out").len(), 1);
}
