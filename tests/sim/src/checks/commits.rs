//! Commits: never back, never past a message that is not settled.

use std::collections::BTreeSet;

use millstream_core::log::Commit;
use millstream_core::message::{Offset, Partition};
use millstream_core::pipeline_spec::Delivery;

use crate::book::{Book, covers};
use crate::facts::Uid;

impl Book {
    /// Takes commits that the cluster accepted; gives the messages that they settle anew.
    pub(crate) fn check_commits(&mut self, commits: &[(Partition, Commit)]) -> BTreeSet<Uid> {
        let mut settled: Vec<(Partition, Offset, Uid)> = Vec::new();
        for (partition, commit) in commits {
            settled.extend(self.take_commit(partition, commit));
        }
        // All of a request is one: a message may go from its source to a tier within it.
        for (partition, offset, uid) in &settled {
            // At most once is committed before it is handled, retries as well.
            let excused = self.delivery() == Delivery::AtMostOnce;
            if !excused && !self.is_terminal(*uid) && !self.goes_on(*uid, partition, *offset) {
                let what = format!(
                    "{partition}@{offset} is committed, and {} is neither handled nor dead nor in a tier",
                    self.name(*uid)
                );
                self.violate("a commit never passes an unsettled message", what);
            }
        }
        settled.into_iter().map(|(_, _, uid)| uid).collect()
    }

    fn take_commit(
        &mut self,
        partition: &Partition,
        commit: &Commit,
    ) -> Vec<(Partition, Offset, Uid)> {
        let before = self.commits.get(partition).cloned().unwrap_or_default();
        if commit.next < before.next {
            let what = format!("{partition}: from {} to {}", before.next, commit.next);
            self.violate("commits never go back", what);
        }
        let standing: Vec<(Offset, Uid)> = self
            .at
            .get(partition)
            .into_iter()
            .flat_map(|messages| messages.range(before.next.min(commit.next)..))
            .map(|(offset, uid)| (*offset, *uid))
            .collect();
        let may_forget = self.may_forget();
        let mut settled = Vec::new();
        for (offset, uid) in standing {
            // What is removed is part of a gap: it need not be said to be settled.
            let may_forget = may_forget || self.is_removed(uid, partition, offset);
            match (covers(&before, offset), covers(commit, offset)) {
                (false, true) => settled.push((partition.clone(), offset, uid)),
                (true, false) if !may_forget => {
                    let what = format!("{partition}@{offset} was settled and is not any more");
                    self.violate("commits never go back", what);
                }
                _ => {}
            }
        }
        self.commits.insert(partition.clone(), commit.clone());
        settled
    }

    fn is_removed(&self, uid: Uid, partition: &Partition, offset: Offset) -> bool {
        let carriers = self.messages.get(&uid).into_iter().flat_map(|message| &message.carriers);
        let mut here = carriers.filter(|c| c.partition == *partition && c.offset == offset);
        here.any(|carrier| carrier.removed)
    }

    /// With little room for metadata settled ranges are forgotten on purpose, except in exactly
    /// once: a duplicate, never a loss. So is everything where the log has forgotten commits.
    pub(super) fn may_forget(&self) -> bool {
        self.forgot
            || self.scenario.commit_metadata_bytes_max < 4096
                && self.delivery() != Delivery::ExactlyOnce
    }

    /// Whether the message goes on elsewhere: a copy that came at least as far is not settled.
    fn goes_on(&self, uid: Uid, partition: &Partition, offset: Offset) -> bool {
        let Some(message) = self.messages.get(&uid) else { return false };
        let here =
            message.carriers.iter().find(|c| c.partition == *partition && c.offset == offset);
        let attempts = here.map_or(0, |c| c.attempts);
        message.carriers.iter().any(|carrier| {
            let elsewhere = carrier.partition != *partition || carrier.offset != offset;
            elsewhere
                && carrier.attempts >= attempts
                && !self.is_covered(&carrier.partition, carrier.offset)
        })
    }
}
