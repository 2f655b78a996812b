//! The plain loop: what a good engineer writes with librdkafka when nothing may fail. Poll, produce with
//! idempotence, commit each second. No handler, no retry, no dead letter, no order but the partitions'.
//!
//! At least once, without ever standing still: what was sent until a commit is due is an epoch; its
//! positions are committed when all of it is acknowledged, while the next epoch is under way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::time::Instant;

use crate::source::producing;

const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// How long a poll waits for a message.
const POLL: Duration = Duration::from_millis(5);

/// So many messages are sent between two looks at acknowledgements and the clock.
const LOOK_EVERY: u64 = 512;

/// How long a full queue is given before the next try.
const FULL: Duration = Duration::from_millis(1);

/// What is copied where.
#[derive(Debug, Args)]
pub(crate) struct LoopArgs {
    bootstrap: String,
    group: String,
    source: String,
    output: String,
}

/// Acknowledged messages of the epoch under way and of the one before, by turns.
#[derive(Default)]
struct Acknowledged {
    of_epoch: [AtomicU64; 2],
    failed: AtomicU64,
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, epoch: usize) {
        let counter = if result.is_ok() { self.of_epoch.get(epoch % 2) } else { None };
        counter.unwrap_or(&self.failed).fetch_add(1, Ordering::Relaxed);
    }
}

/// What was sent until a commit was due.
#[derive(Default)]
struct Epoch {
    number: usize,
    sent: u64,
    next_offsets: BTreeMap<i32, i64>,
}

struct Loop {
    args: LoopArgs,
    consumer: BaseConsumer,
    producer: BaseProducer<Acknowledged>,
    under_way: Epoch,
    /// The one before, until it is committed.
    before: Option<Epoch>,
    commit_at: Instant,
}

/// Copies until the process is killed.
///
/// # Errors
/// When the broker does, or a message cannot be sent.
pub(crate) fn run(args: &LoopArgs) -> anyhow::Result<()> {
    let mut base = ClientConfig::new();
    base.set("bootstrap.servers", &args.bootstrap);
    let mut consuming = base.clone();
    consuming.set("group.id", &args.group).set("auto.offset.reset", "earliest");
    consuming.set("enable.auto.commit", "false");
    // A full queue is looked at again after a second by default: four fifths of the throughput.
    consuming.set("fetch.queue.backoff.ms", "5");
    let consumer: BaseConsumer = consuming.create().context("no consumer")?;
    consumer.subscribe(&[&args.source])?;
    let mut producing = producing(base);
    producing.set("linger.ms", "5");
    let producer = producing.create_with_context(Acknowledged::default()).context("no producer")?;
    let args = LoopArgs {
        bootstrap: args.bootstrap.clone(),
        group: args.group.clone(),
        source: args.source.clone(),
        output: args.output.clone(),
    };
    let commit_at = Instant::now() + COMMIT_EVERY;
    let under_way = Epoch::default();
    let mut copying = Loop { args, consumer, producer, under_way, before: None, commit_at };
    let mut polls: u64 = 0;
    loop {
        let idle = copying.copy_one()?;
        polls += 1;
        if idle || polls.is_multiple_of(LOOK_EVERY) {
            copying.producer.poll(Duration::ZERO);
            copying.commit()?;
        }
    }
}

impl Loop {
    /// Copies the next message, if there is one; whether there was none.
    fn copy_one(&mut self) -> anyhow::Result<bool> {
        let Some(message) = self.consumer.poll(POLL) else { return Ok(true) };
        let message = message.context("reading")?;
        send(&self.producer, &self.args.output, &message, self.under_way.number)?;
        self.under_way.sent += 1;
        self.under_way.next_offsets.insert(message.partition(), message.offset() + 1);
        Ok(false)
    }

    /// Commits the epoch before when all of it is acknowledged; begins a new one when that is due.
    fn commit(&mut self) -> anyhow::Result<()> {
        let acknowledged = self.producer.context();
        let failed = acknowledged.failed.load(Ordering::Relaxed);
        ensure!(failed == 0, "{failed} messages were not acknowledged");
        if let Some(before) = &self.before {
            let counter = acknowledged.of_epoch.get(before.number % 2);
            let counter = counter.context("there are two epochs")?;
            if counter.load(Ordering::Relaxed) < before.sent {
                return Ok(());
            }
            counter.store(0, Ordering::Relaxed);
            let mut list = TopicPartitionList::new();
            for (partition, next) in &before.next_offsets {
                list.add_partition_offset(&self.args.source, *partition, Offset::Offset(*next))?;
            }
            self.consumer.commit(&list, CommitMode::Async)?;
            self.before = None;
        }
        if self.under_way.sent > 0 && Instant::now() >= self.commit_at {
            let number = self.under_way.number + 1;
            let next = Epoch { number, ..Epoch::default() };
            self.before = Some(std::mem::replace(&mut self.under_way, next));
            self.commit_at = Instant::now() + COMMIT_EVERY;
        }
        Ok(())
    }
}

fn send(
    producer: &BaseProducer<Acknowledged>,
    output: &str,
    message: &BorrowedMessage<'_>,
    epoch: usize,
) -> anyhow::Result<()> {
    let mut record = BaseRecord::with_opaque_to(output, epoch);
    record.key = message.key();
    record.payload = message.payload();
    record.headers = message.headers().map(|headers| headers.detach());
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(FULL);
            }
            Err((error, _)) => return Err(anyhow!("sending to {output}: {error}")),
        }
    }
}
