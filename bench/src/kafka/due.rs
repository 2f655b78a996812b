//! Due: when the broker put each retry into the tier, and when its output into the output topic. Read
//! while the host runs: it removes from a tier what is settled.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, Timestamp};

use crate::broker::{Broker, partitions};
use crate::source::number_of;

/// What a histogram tells apart, to three digits.
const LATE_MS_MAX: u64 = 600_000;

/// How long a poll waits; it answers at once when there is a message.
const POLL: Duration = Duration::from_millis(50);

/// Reads a tier and an output while others write them.
pub(crate) struct Due {
    consumer: BaseConsumer,
    tier: String,
    /// Different outputs so far; written by the thread that runs it.
    attempted: AtomicU64,
    stopped: AtomicBool,
}

/// Append times of messages by their numbers, epoch milliseconds; of a message that is there twice the
/// first.
#[derive(Default)]
pub(crate) struct Times {
    put_off: HashMap<u64, i64>,
    attempted: HashMap<u64, i64>,
}

/// How late attempts were.
pub(crate) struct Late {
    pub(crate) ms: Histogram<u64>,
    /// Attempts before they were due, which are not in the histogram.
    pub(crate) early: u64,
}

impl Due {
    /// Of these topics, which are there and have the broker's time.
    ///
    /// # Errors
    /// When no consumer can be made.
    pub(crate) fn of(broker: &Broker, tier: &str, output: &str) -> anyhow::Result<Self> {
        let mut config = broker.reader("due");
        // What was removed meanwhile is none of the messages that are measured.
        config.set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create().context("no consumer")?;
        let mut both = partitions(tier, Offset::Beginning)?;
        for element in partitions(output, Offset::Beginning)?.elements() {
            both.add_partition_offset(element.topic(), element.partition(), element.offset())?;
        }
        consumer.assign(&both)?;
        let (attempted, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { consumer, tier: tier.to_owned(), attempted, stopped })
    }

    /// Different outputs so far.
    pub(crate) fn attempted(&self) -> u64 {
        self.attempted.load(Ordering::Relaxed)
    }

    /// Lets [`Self::run`] return.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Reads until it is stopped.
    ///
    /// # Errors
    /// When the broker fails, or a message is none of ours.
    pub(crate) fn run(&self) -> anyhow::Result<Times> {
        let mut times = Times::default();
        while !self.stopped.load(Ordering::Relaxed) {
            let message = match self.consumer.poll(POLL) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => continue,
                Some(Err(error)) => bail!("reading retries and outputs: {error}"),
                Some(Ok(message)) => message,
            };
            let topic = message.topic();
            let Timestamp::LogAppendTime(at) = message.timestamp() else {
                bail!("{topic} does not have the broker's time");
            };
            let number = number_of(&message).context("a message without its number")?;
            if topic == self.tier {
                times.put_off.entry(number).or_insert(at);
            } else {
                times.attempted.entry(number).or_insert(at);
                self.attempted.store(times.attempted.len() as u64, Ordering::Relaxed);
            }
        }
        Ok(times)
    }
}

impl Times {
    /// How late each of these messages was attempted again, this long after it was put off.
    ///
    /// # Errors
    /// When one was not put off or not attempted again.
    pub(crate) fn late(&self, numbers: Range<u64>, delay: Duration) -> anyhow::Result<Late> {
        let delay_ms = i64::try_from(delay.as_millis())?;
        let mut late = Late { ms: Histogram::new_with_bounds(1, LATE_MS_MAX, 3)?, early: 0 };
        for number in numbers {
            let at = |times: &HashMap<u64, i64>, what: &str| {
                times.get(&number).copied().with_context(|| format!("{number} was not {what}"))
            };
            let due = at(&self.put_off, "put off")? + delay_ms;
            match u64::try_from(at(&self.attempted, "attempted again")? - due) {
                Ok(ms) => late.ms.saturating_record(ms),
                Err(_) => late.early += 1,
            }
        }
        Ok(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_attempts_are_counted_apart() {
        let times = Times {
            put_off: HashMap::from([(0, 0), (1, 10), (2, 20), (3, 30)]),
            attempted: HashMap::from([(0, 0), (1, 1_013), (2, 1_019)]),
        };
        let late = times.late(1..3, Duration::from_secs(1)).unwrap();
        assert_eq!((late.ms.len(), late.ms.max(), late.early), (1, 3, 1), "3 ms late, 1 ms early");
        assert!(times.late(1..4, Duration::from_secs(1)).is_err(), "3 was never attempted again");
        assert!(times.late(4..5, Duration::from_secs(1)).is_err(), "4 was never put off");
    }
}
