//! Receiver: the consumer that outputs are timed at. It reads what is committed, as soon as the broker
//! gives it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset};
use tokio::time::Instant;

use crate::broker::{Broker, partitions};
use crate::checked::Seen;
use crate::source::number_of;
use crate::steady::age;

/// More messages than are ever sent.
const NUMBERS: u64 = 1_000_000;

/// Microseconds that a histogram tells apart, to three digits.
const MICROS_MAX: u64 = 600_000_000;

/// How long a poll waits; it answers at once when there is a message.
const POLL: Duration = Duration::from_millis(50);

/// Reads a topic while others send.
pub(crate) struct Receiver {
    consumer: BaseConsumer,
    /// What the times in the messages count from.
    origin: Instant,
    /// Different messages so far; written by the thread that runs it.
    received: AtomicU64,
    /// Messages from this number on are timed.
    measured_from: AtomicU64,
    stopped: AtomicBool,
}

impl Receiver {
    /// Of this topic, from its beginning.
    ///
    /// # Errors
    /// When no consumer can be made.
    pub(crate) fn of(broker: &Broker, topic: &str, origin: Instant) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = broker.reader("receiver").create().context("no consumer")?;
        consumer.assign(&partitions(topic, Offset::Beginning)?)?;
        Ok(Self {
            consumer,
            origin,
            received: AtomicU64::new(0),
            measured_from: AtomicU64::new(u64::MAX),
            stopped: AtomicBool::new(false),
        })
    }

    /// Different messages so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Times messages from this number on, none of which may have been sent yet.
    pub(crate) fn measure_from(&self, number: u64) {
        self.measured_from.store(number, Ordering::Relaxed);
    }

    /// Lets [`Self::run`] return.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Receives until it is stopped; the ages of what was timed, in microseconds.
    ///
    /// # Errors
    /// When the broker fails, or a message is none of ours.
    pub(crate) fn run(&self) -> anyhow::Result<Histogram<u64>> {
        let mut seen = Seen::new(NUMBERS);
        let mut micros = Histogram::new_with_bounds(1, MICROS_MAX, 3)?;
        while !self.stopped.load(Ordering::Relaxed) {
            let message = match self.consumer.poll(POLL) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => continue,
                Some(Err(error)) => bail!("receiving: {error}"),
                Some(Ok(message)) => message,
            };
            let age = message.payload().and_then(|value| age(value, self.origin));
            let age = age.context("an output without its time")?;
            let number = number_of(&message).context("an output without its number")?;
            // A second copy of it comes later and is not its latency.
            if seen.add(number)? && number >= self.measured_from.load(Ordering::Relaxed) {
                micros.saturating_record(u64::try_from(age.as_micros())?);
            }
            self.received.store(seen.different(), Ordering::Relaxed);
        }
        Ok(micros)
    }
}
