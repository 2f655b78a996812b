//! Offsets: how far a contender is, asked of the broker, so of every contender in the same way.

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::{Broker, CALL, partitions};

/// What stands in the place of a timestamp to ask for the end of a partition (ListOffsets, KIP-79).
const LATEST: Offset = Offset::End;

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
        self.ends(&self.output)
    }

    /// Whether the group has committed the whole source.
    ///
    /// # Errors
    /// When the broker does not say.
    pub(crate) fn all_committed(&self) -> anyhow::Result<bool> {
        let asked = partitions(&self.source, Offset::Invalid)?;
        let committed = self.consumer.committed_offsets(asked, CALL).context("commits")?;
        Ok(sum(&committed)? == self.ends(&self.source)?)
    }

    fn ends(&self, topic: &str) -> anyhow::Result<u64> {
        let asked = partitions(topic, LATEST)?;
        sum(&self.consumer.offsets_for_times(asked, CALL).context("ends")?)
    }
}

/// A partition without an offset counts as 0: nothing is committed there.
fn sum(list: &TopicPartitionList) -> anyhow::Result<u64> {
    let mut sum = 0;
    for element in list.elements() {
        element.error().with_context(|| format!("{}[{}]", element.topic(), element.partition()))?;
        if let Offset::Offset(offset) = element.offset() {
            sum += u64::try_from(offset)?;
        }
    }
    Ok(sum)
}
