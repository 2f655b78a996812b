//! Open: how many offsets of dead-letter partitions are closed, for the depth that a host shows.
//!
//! Read with every look at the ends, from where the last one stopped; nothing is fetched while nothing was changed.
//! Depth is counted in offsets, so on Kafka the markers of transactions, and letters that compaction or a gap took, count
//! as open; `dlq list` counts letters.

use std::collections::BTreeMap;

use super::states::States;
use crate::log::{Ends, Log};
use crate::message::Partition;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct OpenLetters(BTreeMap<Partition, States>);

impl OpenLetters {
    /// Where the states of a dead-letter partition lie.
    pub(crate) fn states_of(letters: &Partition) -> Partition {
        States::of(letters).partition().clone()
    }

    /// How many offsets of each of these dead-letter partitions are closed. One whose states cannot be read stays as it
    /// was; those that are not asked for are forgotten.
    pub(crate) async fn closed(
        &mut self,
        log: &dyn Log,
        letters: &[Partition],
        ends: &BTreeMap<Partition, Ends>,
    ) -> BTreeMap<Partition, u64> {
        self.0.retain(|partition, _| letters.contains(partition));
        let mut closed = BTreeMap::new();
        for partition in letters {
            let Some(within) = ends.get(partition) else { continue };
            let states = self.0.entry(partition.clone()).or_insert_with(|| States::of(partition));
            let readable = ends.get(states.partition()).map_or(0, |ends| ends.end);
            if let Err(error) = states.read_to(log, readable).await {
                tracing::warn!(%partition, %error, "what became of dead letters is unknown; their depth stays as it was");
            }
            states.forget_below(within.start, usize::MAX);
            closed.insert(partition.clone(), states.closed(within.start..within.end));
        }
        closed
    }
}
