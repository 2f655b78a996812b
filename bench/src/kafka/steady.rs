//! Steady: messages at a fixed rate, each with the time in it at which it was about to be sent.
//!
//! The rate is kept by a schedule, not by pauses: a message that is late is sent at once, and the next
//! ones are not put off by it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use millstream_bench::messages;
use rdkafka::producer::Producer as _;
use tokio::time::Instant;

use crate::broker::{Broker, CALL};
use crate::child::Contestant;
use crate::source::{self, Source, producing};

/// Bytes of a value.
const VALUE_BYTES: usize = 200;

/// A value begins with its time: nanoseconds since the origin as hexadecimal digits.
const STAMP_BYTES: usize = 16;

/// How long a contender may take from its start to its first output.
const START_WITHIN: Duration = Duration::from_secs(60);

/// Until the first output one message is sent after each of these.
const KNOCK_EVERY: Duration = Duration::from_millis(100);

/// Sends to one topic.
pub(crate) struct Steady {
    producer: Source,
    topic: String,
    origin: Instant,
    sent: u64,
}

impl Steady {
    /// To this topic; times count from `origin`.
    ///
    /// # Errors
    /// When no producer can be made.
    pub(crate) fn to(broker: &Broker, topic: &str, origin: Instant) -> anyhow::Result<Self> {
        let mut config = producing(broker.client());
        config.set("linger.ms", "0");
        let producer = config.create().context("no producer")?;
        Ok(Self { producer, topic: topic.to_owned(), origin, sent: 0 })
    }

    /// How many were sent: their numbers are below it.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends one now.
    ///
    /// # Errors
    /// When the producer takes no more messages.
    pub(crate) fn send(&mut self) -> anyhow::Result<()> {
        let rest = messages::value(self.sent, VALUE_BYTES - STAMP_BYTES);
        let nanos = self.origin.elapsed().as_nanos();
        let value = [format!("{nanos:016x}").as_bytes(), &rest].concat();
        source::send(&self.producer, &self.topic, self.sent, &value)?;
        self.sent += 1;
        Ok(())
    }

    /// Sends a message now and then until there is an output.
    ///
    /// # Errors
    /// When there is none in a minute, or the contender has ended.
    pub(crate) fn knock(
        &mut self,
        process: &mut Contestant,
        mut answered: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        while !answered()? {
            process.still_runs()?;
            if Instant::now() > deadline {
                bail!("no output {START_WITHIN:?} after its start:\n{}", process.last_said());
            }
            self.send()?;
            std::thread::sleep(KNOCK_EVERY);
        }
        Ok(())
    }

    /// Sends so many a second for `time`, and waits until all are acknowledged.
    ///
    /// # Errors
    /// When one is not taken or not acknowledged.
    pub(crate) fn run(&mut self, per_second: u32, time: Duration) -> anyhow::Result<()> {
        let begin = Instant::now();
        let gap = Duration::from_secs(1) / per_second;
        let mut due = Duration::ZERO;
        while due < time {
            if let Some(early) = due.checked_sub(begin.elapsed()) {
                std::thread::sleep(early);
            }
            self.send()?;
            due += gap;
        }
        self.producer.flush(CALL).context("the last messages")
    }
}

/// How long ago a value was about to be sent; `None` if it has no time in it.
pub(crate) fn age(value: &[u8], origin: Instant) -> Option<Duration> {
    let now = origin.elapsed();
    let stamp = std::str::from_utf8(value.get(..STAMP_BYTES)?).ok()?;
    now.checked_sub(Duration::from_nanos(u64::from_str_radix(stamp, 16).ok()?))
}
