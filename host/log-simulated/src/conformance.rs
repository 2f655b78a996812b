//! What every adapter of the log port promises, as checks that run against any of them.
//!
//! Each check makes topics and groups of its own; names begin with `conformance-`. A check ends in
//! an error that says what was expected and what was seen. Faults should be off: the checks do not
//! ask twice. Redelivery, gaps and slow answers are fine.

mod groups;
mod records;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::idempotency::IdempotencyStore;
use millstream_core::log::{Consumer, Event, Log, LogError, Room, Subscription, TopicSpec};
use millstream_core::message::{Message, Partition, Record};

/// What a check found.
pub type Checked = Result<(), String>;

/// No answer and no event takes longer than this, or the check fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often, and how far apart, a check looks whether transactions are readable.
const SETTLES_LOOKS: usize = 400;
const SETTLES_POLL: Duration = Duration::from_millis(5);

/// The largest record the checks' topics take.
const MESSAGE_BYTES_MAX: usize = 2048;

const ROOM: Room = Room { messages: 100, bytes: 1 << 20 };

/// Checks a log with groups of a single member: topics, appending, fetching, commits, transactions.
///
/// # Errors
/// The first promise that was not kept.
pub async fn check(log: Arc<dyn Log>) -> Checked {
    records::check(&log).await?;
    groups::check(&log).await
}

/// Checks what happens to a partition as it goes from one member to another.
///
/// # Errors
/// The first promise that was not kept.
pub async fn check_members(log: Arc<dyn Log>) -> Checked {
    groups::check_members(&log).await
}

/// Checks an idempotency store together with the log whose transactions write to it.
///
/// # Errors
/// The first promise that was not kept.
pub async fn check_store(log: Arc<dyn Log>, store: Arc<dyn IdempotencyStore>) -> Checked {
    groups::check_store(&log, &store).await
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, seen: T) -> Checked {
    if expected == seen {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}, saw {seen:?}"))
}

fn ok<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: expected no error, saw: {error}"))
}

fn fatal<T: std::fmt::Debug>(what: &str, result: Result<T, LogError>) -> Checked {
    match result {
        Err(LogError::Fatal(_)) => Ok(()),
        other => Err(format!("{what}: expected a fatal error, saw {other:?}")),
    }
}

async fn in_time<T>(what: &str, answer: impl Future<Output = T>) -> Result<T, String> {
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    answer.map_err(|_| format!("{what}: nothing came within {PATIENCE:?}"))
}

/// A topic of its own for a check.
async fn topic(log: &Arc<dyn Log>, name: &str, partitions: u32) -> Result<TopicSpec, String> {
    let spec = TopicSpec {
        name: format!("conformance-{name}").into(),
        partitions,
        retention: None,
        retention_bytes: None,
        message_bytes_max: MESSAGE_BYTES_MAX,
        append_time: false,
        compacted: false,
        replication: None,
    };
    ok("creating a topic", log.create_topic(spec.clone()).await)?;
    Ok(spec)
}

fn record(spec: &TopicSpec, partition: u32, value: &str) -> Record {
    Record {
        topic: spec.name.clone(),
        partition: Some(partition),
        timestamp: Some(1_000),
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.value.as_deref().unwrap_or_default()).into_owned()
}

async fn append(log: &Arc<dyn Log>, records: Vec<Record>) -> Checked {
    let answers = ok("appending", log.append(&records.iter().collect::<Vec<_>>()).await)?;
    for answer in answers {
        ok("appending one record", answer)?;
    }
    Ok(())
}

/// The values of a partition, read to the end without a group.
async fn values(log: &Arc<dyn Log>, partition: &Partition) -> Result<Vec<String>, String> {
    let mut values = Vec::new();
    let mut from = 0;
    // A transaction may be answered for before its marker lets others read it. What stays hidden is a gap
    // at the end, which is nobody's message.
    for _ in 0..SETTLES_LOOKS {
        let ends = ok("ends", log.ends(std::slice::from_ref(partition)).await)?;
        if ends.first().is_none_or(|ends| ends.end >= ends.high) {
            break;
        }
        tokio::time::sleep(SETTLES_POLL).await;
    }
    loop {
        let batch = ok("fetching", log.fetch(partition, from, ROOM).await)?;
        if batch.messages.is_empty() && batch.next <= from {
            return Ok(values);
        }
        values.extend(batch.messages.iter().map(text));
        from = batch.next;
    }
}

async fn join(log: &Arc<dyn Log>, spec: &TopicSpec) -> Result<Arc<dyn Consumer>, String> {
    let subscription = Subscription {
        pipeline: "conformance".to_owned(),
        group: spec.name.to_string(),
        topics: vec![spec.name.clone()],
        transactional: true,
        ..Subscription::default()
    };
    ok("joining a group", in_time("joining a group", log.consumer(subscription)).await?)
}

/// The next event with this much room.
async fn next(consumer: &Arc<dyn Consumer>, room: Room) -> Result<Event, String> {
    ok("next", in_time("next", consumer.next(room)).await?)
}
