//! The look at the ends of everything owned, now and then: for lag, and for the end of a run that ends when it is caught up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::dead_letter::OpenLetters;
use crate::intake::Intake;
use crate::log::{Ends, LogError};
use crate::message::Partition;
use crate::partition::ToPartition;

/// What the log said of everything owned.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// The ends of what is read, and of the dead letters.
    pub(crate) ends: BTreeMap<Partition, Ends>,
    /// How many dead letters are redriven or purged.
    pub(crate) closed_letters: BTreeMap<Partition, u64>,
}

impl Intake {
    /// Asks the log for the ends of everything owned and tells each partition, for its lag.
    pub(super) fn look_at_ends(&mut self) {
        let (mut asked, mut letters) = (Vec::new(), Vec::new());
        for (partition, owned) in &self.owned {
            let spec = &self.context.spec;
            let dead = spec.dead_letter.topic.topic(&partition.topic, &spec.group, None);
            asked.push(partition.clone());
            if owned.is_started() {
                // Before that its companions may not be there yet.
                let dead = Partition { topic: dead, number: partition.number };
                asked.push(OpenLetters::states_of(&dead));
                asked.push(dead.clone());
                letters.push(dead);
            }
            asked.extend(owned.status.tiers());
        }
        if asked.is_empty() {
            return;
        }
        let log = Arc::clone(&self.context.ports.log);
        let open_letters = Arc::clone(&self.open_letters);
        self.looking = Some(Box::pin(async move {
            let ends = log.ends(&asked).await?;
            let ends: BTreeMap<Partition, Ends> = asked.into_iter().zip(ends).collect();
            let mut open_letters = open_letters.lock().await;
            let closed_letters = open_letters.closed(&*log, &letters, &ends).await;
            Ok(Looked { ends, closed_letters })
        }));
    }

    pub(super) fn on_ends(&mut self, looked: Result<Looked, LogError>) {
        let looked = match looked {
            Ok(looked) => Arc::new(looked),
            Err(error) => {
                tracing::warn!(pipeline = %self.context.spec.name, %error, "the ends of the partitions are unknown; lag stays as it was");
                self.context.log_error("ends");
                self.trouble = Some(self.context.status.trouble(format!("log: ends: {error}")));
                return;
            }
        };
        // The log answers, whatever it did before.
        self.trouble = None;
        self.look += 1;
        for owned in self.owned.values() {
            // A full mailbox has more urgent things to tell; the next look is near.
            let _ = owned.mailbox.try_send(ToPartition::Ends(self.look, Arc::clone(&looked)));
        }
    }

    /// Whether every partition of this member had nothing due at the last look.
    pub(super) fn is_caught_up(&self) -> bool {
        !self.owned.is_empty()
            && self.given_up.is_empty()
            && self.look > 0
            && self
                .owned
                .values()
                .all(|owned| owned.status.caught_up_at.load(Ordering::Acquire) == self.look)
    }
}
