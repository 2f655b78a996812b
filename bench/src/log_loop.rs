//! Log loop: the embedded log without the pipeline. A loop for each partition, all at once: fetch,
//! write the outputs, commit the position. No handler, no order by key, no retry, no bound.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use millstream_core::log::{Commit, Consumer, Event, Log as _, Room, Subscription, Transaction};
use millstream_core::message::{Message, Offset, Partition, Record, Topic};
use millstream_core::pipeline_spec::Delivery;
use millstream_log_embedded::EmbeddedLog;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::figures::{Stopwatch, Took};
use crate::filled_log::{self, GROUP, OUTPUT, PARTITIONS, SOURCE};
use crate::messages::Keys;

/// What a loop takes at once.
const ROOM: Room = Room { messages: 1_000, bytes: 1 << 20 };

/// How often a loop of `at_least_once` commits, as the pipeline does.
pub(crate) const COMMIT_EVERY: Duration = Duration::from_millis(250);

/// Runs the loops over `messages` in a fresh log in `dir`; answers what they took.
///
/// # Errors
/// When the log fails, or not every message came out.
pub(crate) async fn run(dir: &Path, messages: u64, delivery: Delivery) -> anyhow::Result<Took> {
    let log = filled_log::open(dir, messages, Keys::default()).await?;
    let subscription = Subscription {
        pipeline: "bench".to_owned(),
        group: GROUP.to_owned(),
        topics: vec![SOURCE.into()],
        ..Subscription::default()
    };
    let consumer = log.consumer(subscription).await?;
    let Event::Assigned(partitions) = consumer.next(ROOM).await? else {
        anyhow::bail!("the log did not assign the partitions to its only reader");
    };
    ensure!(partitions.len() == PARTITIONS as usize, "assigned: {partitions:?}");

    let watch = Stopwatch::start();
    let mut loops = JoinSet::new();
    for partition in partitions.clone() {
        let (log, consumer) = (Arc::clone(&log), Arc::clone(&consumer));
        loops.spawn(async move {
            match delivery {
                Delivery::ExactlyOnce => transact_all(&log, &*consumer, &partition).await,
                Delivery::AtLeastOnce | Delivery::AtMostOnce => {
                    append_all(&log, &*consumer, &partition).await
                }
            }
        });
    }
    while let Some(ended) = loops.join_next().await {
        ended.context("a loop panicked")??;
    }
    let took = watch.took();

    filled_log::check_outputs(&log, messages).await?;
    consumer.release(&partitions).await;
    consumer.close().await;
    drop(consumer);
    log.close().await;
    Ok(took)
}

async fn append_all(
    log: &EmbeddedLog,
    consumer: &dyn Consumer,
    partition: &Partition,
) -> anyhow::Result<()> {
    let output = Topic::from(OUTPUT);
    let mut next = 0;
    let mut commit_at = Instant::now() + COMMIT_EVERY;
    loop {
        let batch = log.fetch(partition, next, ROOM).await?;
        let at_end = batch.messages.is_empty();
        if !at_end {
            next = batch.next;
            let outputs = outputs(&output, batch.messages);
            for appended in log.append(&outputs.iter().collect::<Vec<_>>()).await? {
                appended?;
            }
        }
        if at_end || commit_at <= Instant::now() {
            consumer.commit(vec![commit(partition, next)]).await?;
            commit_at = Instant::now() + COMMIT_EVERY;
        }
        if at_end {
            return Ok(());
        }
    }
}

async fn transact_all(
    log: &EmbeddedLog,
    consumer: &dyn Consumer,
    partition: &Partition,
) -> anyhow::Result<()> {
    let output = Topic::from(OUTPUT);
    let mut next = 0;
    loop {
        let batch = log.fetch(partition, next, ROOM).await?;
        if batch.messages.is_empty() {
            return Ok(());
        }
        next = batch.next;
        let transaction = Transaction {
            records: outputs(&output, batch.messages),
            marks: Vec::new(),
            commits: vec![commit(partition, next)],
        };
        consumer.transact(Arc::new(transaction)).await?;
    }
}

fn commit(partition: &Partition, next: Offset) -> (Partition, Commit) {
    (partition.clone(), Commit { next, ..Commit::default() })
}

fn outputs(topic: &Topic, messages: Vec<Message>) -> Vec<Record> {
    let output = |message: Message| Record {
        topic: topic.clone(),
        partition: None,
        timestamp: Some(message.timestamp),
        key: message.key,
        value: message.value,
        headers: message.headers,
    };
    messages.into_iter().map(output).collect()
}
