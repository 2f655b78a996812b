//! Offsets: how far a contender is, asked of the broker, so of every contender in the same way.

use anyhow::Context as _;
use rdkafka::consumer::BaseConsumer;

use crate::broker::{Broker, committed, ends};

/// Asks how far a group is from a source topic to an output topic.
pub(crate) struct Offsets {
    // Read-committed: its ends are what such a reader can see.
    consumer: BaseConsumer,
    source: String,
    output: String,
}

impl Offsets {
    /// Of this group. It does not join it.
    ///
    /// # Errors
    /// When no client can be made.
    pub(crate) fn of(
        broker: &Broker,
        group: &str,
        source: &str,
        output: &str,
    ) -> anyhow::Result<Self> {
        let consumer = broker.reader(group).create().context("no client for the broker")?;
        Ok(Self { consumer, source: source.to_owned(), output: output.to_owned() })
    }

    /// Offsets of the output that can be read: messages, and a marker for each partition of each
    /// transaction.
    ///
    /// # Errors
    /// When the broker does not say.
    pub(crate) fn readable(&self) -> anyhow::Result<u64> {
        ends(&self.consumer, &self.output)
    }

    /// Whether the group has committed the whole source.
    ///
    /// # Errors
    /// When the broker does not say.
    pub(crate) fn all_committed(&self) -> anyhow::Result<bool> {
        let committed = committed(&self.consumer, &self.source)?;
        Ok(committed == ends(&self.consumer, &self.source)?)
    }
}
