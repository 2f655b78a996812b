//! The log as a whole: on real files, with damage, full disks and SIGKILL.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::clock::WallClock;
use millstream_core::log::{
    Appended, Commit, Consumer, Event, Log as _, Room, Subscription, TopicSpec,
};
use millstream_core::message::{EpochMs, Header, Message, Offset, Partition, Record};

use crate::{Durability, EmbeddedLog, EmbeddedOptions};

mod appending;
mod consuming;
mod damage;
mod full_disk;
mod killed;
mod marks;
mod retention;
mod transactions;

pub(super) const ROOM: Room = Room { messages: 1000, bytes: 1 << 20 };

/// A clock that a test sets.
pub(super) struct HandClock(pub(super) AtomicI64);

impl HandClock {
    pub(super) fn at(now: EpochMs) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now)))
    }

    pub(super) fn set(&self, now: EpochMs) {
        self.0.store(now, Ordering::SeqCst);
    }
}

impl WallClock for HandClock {
    fn now(&self) -> EpochMs {
        self.0.load(Ordering::SeqCst)
    }
}

pub(super) fn options() -> EmbeddedOptions {
    EmbeddedOptions {
        sweep_interval: Duration::from_secs(3600),
        reserve_bytes: 1024 * 1024,
        ..EmbeddedOptions::default()
    }
}

pub(super) fn always() -> EmbeddedOptions {
    EmbeddedOptions { durability: Durability::Always, ..options() }
}

pub(super) fn open(dir: &Path) -> Arc<EmbeddedLog> {
    EmbeddedLog::open(dir, options()).unwrap()
}

pub(super) fn spec(name: &str, partitions: u32) -> TopicSpec {
    TopicSpec {
        name: name.into(),
        partitions,
        retention: None,
        retention_bytes: None,
        message_bytes_max: 1024 * 1024,
        append_time: false,
        compacted: false,
        replication: None,
    }
}

pub(super) async fn open_with(dir: &Path, topics: &[(&str, u32)]) -> Arc<EmbeddedLog> {
    let log = open(dir);
    for (name, partitions) in topics {
        log.create_topic(spec(name, *partitions)).await.unwrap();
    }
    log
}

pub(super) fn record(topic: &str, partition: u32, value: impl Into<Bytes>) -> Record {
    Record {
        topic: topic.into(),
        partition: Some(partition),
        timestamp: Some(1),
        key: None,
        value: Some(value.into()),
        headers: vec![],
    }
}

pub(super) async fn append(log: &EmbeddedLog, records: Vec<Record>) -> Vec<Appended> {
    log.append(&records.iter().collect::<Vec<_>>())
        .await
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

pub(super) async fn read_all(log: &EmbeddedLog, topic: &str, number: u32) -> Vec<Message> {
    let partition = Partition::new(topic, number);
    let mut all = Vec::new();
    let mut from = 0;
    loop {
        let batch = log.fetch(&partition, from, ROOM).await.unwrap();
        if batch.messages.is_empty() {
            return all;
        }
        from = batch.next;
        all.extend(batch.messages);
    }
}

pub(super) fn values(messages: &[Message]) -> Vec<String> {
    let text = |m: &Message| String::from_utf8(m.value.clone().unwrap().to_vec()).unwrap();
    messages.iter().map(text).collect()
}

pub(super) async fn join(log: &EmbeddedLog, group: &str, topics: &[&str]) -> Arc<dyn Consumer> {
    let subscription = Subscription {
        pipeline: "p".to_owned(),
        group: group.to_owned(),
        topics: topics.iter().map(|topic| (*topic).into()).collect(),
        ..Subscription::default()
    };
    log.consumer(subscription).await.unwrap()
}

/// The next event, which must come soon.
pub(super) async fn next(consumer: &Arc<dyn Consumer>, room: Room) -> Event {
    tokio::time::timeout(Duration::from_secs(10), consumer.next(room)).await.unwrap().unwrap()
}

/// Joins and takes what is assigned at once.
pub(super) async fn member(
    log: &EmbeddedLog,
    group: &str,
    topics: &[&str],
) -> (Arc<dyn Consumer>, Vec<Partition>) {
    let consumer = join(log, group, topics).await;
    let Event::Assigned(partitions) = next(&consumer, ROOM).await else { panic!("not assigned") };
    (consumer, partitions)
}

pub(super) fn commit_at(next: Offset) -> Commit {
    Commit { next, ..Commit::default() }
}

pub(super) fn header(name: &str, value: &str) -> Header {
    Header::new(name.to_owned(), value.to_owned())
}
