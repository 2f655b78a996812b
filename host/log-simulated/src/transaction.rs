//! Transactions: records, marks and commits in one, some of them open for a while.
//!
//! Invariants: a transaction is decided when it begins, and what it decides comes true even if its
//! caller is gone; the repetition of one that was carried out without an answer does nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::log::{Commit, LogError, RecordError, TransactError, Transaction};
use millstream_core::message::Partition;
use tokio::time::Instant;

use crate::cluster::{Due, State};
use crate::group::{Group, MemberId};
use crate::happening::{Epoch, Fate, Happening, HostId};
use crate::partition_log::TransactionId;
use crate::store::Writer;
use crate::topics::append_one;

#[derive(Debug)]
struct Open {
    host: HostId,
    group: String,
    transaction: Transaction,
    /// Under which assignment each mark is written: that of the beginning.
    writers: Vec<Writer>,
    commits: bool,
}

#[derive(Debug, Default)]
pub(crate) struct OpenTransactions {
    last: TransactionId,
    open: BTreeMap<TransactionId, Open>,
}

impl OpenTransactions {
    pub(crate) fn is_open(&self, transaction: TransactionId) -> bool {
        self.open.contains_key(&transaction)
    }

    /// Whether what is committed of `partition` may change when an open transaction ends.
    pub(crate) fn touches(&self, group: &str, partition: &Partition) -> bool {
        self.open.values().any(|open| {
            open.commits
                && open.group == group
                && open.transaction.commits.iter().any(|(p, _)| p == partition)
        })
    }
}

/// The assignments a caller knew of when it called.
pub(crate) type Known = Vec<(Partition, Option<Epoch>)>;

impl State {
    /// Which of the partitions are no longer those that the caller knew.
    pub(crate) fn lost(&self, group: &str, member: MemberId, known: &Known) -> Vec<Partition> {
        let Some(group) = self.groups.get(group) else { return Vec::new() };
        let holds = |p: &Partition, epoch: Option<Epoch>| {
            epoch.is_some_and(|epoch| group.holds(member, p, epoch))
        };
        let lost = known.iter().filter(|(p, epoch)| !holds(p, *epoch));
        lost.map(|(p, _)| p.clone()).collect()
    }

    pub(crate) fn write_commits(&mut self, group: &str, commits: &[(Partition, Commit)]) {
        let Some(group) = self.groups.get_mut(group) else { return };
        let now = Instant::now();
        group.committed_at.extend(commits.iter().map(|(partition, _)| (partition.clone(), now)));
        group.commits.extend(commits.iter().cloned());
    }

    /// Begins a transaction, and ends it unless it is to stay open. Gives its number.
    pub(crate) fn transact(
        &mut self,
        (name, member, host): (&str, MemberId, HostId),
        known: &Known,
        transaction: &Transaction,
        fate: Fate,
    ) -> Result<TransactionId, TransactError> {
        if let Some(lost) = self.lost(name, member, known).first() {
            return Err(Group::fenced(lost).into());
        }
        if let Some(id) = self.carried_out(name, member, transaction) {
            return Ok(id);
        }
        for (index, record) in transaction.records.iter().enumerate() {
            if let Some(error) = self.refusal(host, record) {
                return Err(TransactError::Offender { index, error });
            }
        }
        let commits = fate == Fate::Answered || self.draw.chance(700);
        self.open.last += 1;
        let id = self.open.last;
        for record in &transaction.records {
            let appended = append_one(self, record.clone(), Some(id));
            appended.map_err(|error: RecordError| LogError::Fatal(error.to_string()))?;
        }
        let writers: Vec<Writer> =
            transaction.marks.iter().map(|mark| self.writer(host, &mark.scope)).collect();
        if commits
            && let Some(m) = self.groups.get_mut(name).and_then(|g| g.members.get_mut(&member))
        {
            m.unanswered.push((transaction.clone(), id, writers.clone()));
        }
        let open = Open {
            host,
            group: name.to_owned(),
            transaction: transaction.clone(),
            writers,
            commits,
        };
        self.open.open.insert(id, open);
        if self.draw.chance(self.faults.open_transaction) {
            let open_for = self.draw.between(0, self.faults.open_ms_max);
            self.later(Duration::from_millis(open_for), Due::Resolve { transaction: id });
        } else {
            self.resolve(id);
        }
        Ok(id)
    }

    fn carried_out(
        &self,
        group: &str,
        member: MemberId,
        transaction: &Transaction,
    ) -> Option<TransactionId> {
        let member = self.groups.get(group)?.members.get(&member)?;
        let same = member.unanswered.iter().find(|(t, ..)| t == transaction);
        same.map(|(_, id, _)| *id)
    }

    /// An open transaction ends as it was decided.
    pub(crate) fn resolve(&mut self, id: TransactionId) {
        let Some(open) = self.open.open.remove(&id) else { return };
        let Open { host, group, transaction, writers, commits } = open;
        let messages = self.topics.resolve(id, commits);
        if !commits {
            return;
        }
        // A marker stands behind the records of a transaction, in some partitions.
        for message in &messages {
            if self.draw.chance(self.faults.gap)
                && let Ok(log) = self.topics.partition_mut(&message.source())
            {
                log.leave_gap(1);
            }
        }
        self.write_commits(&group, &transaction.commits);
        for (mark, writer) in transaction.marks.iter().zip(writers) {
            self.marks.write(mark, writer);
        }
        self.tell(&Happening::Written {
            host: Some(host),
            late: false,
            transaction: true,
            messages: &messages,
            commits: &transaction.commits,
            marks: &transaction.marks,
        });
    }

    /// The caller knows that the transaction was carried out.
    pub(crate) fn transaction_answered(
        &mut self,
        group: &str,
        member: MemberId,
        id: TransactionId,
    ) {
        let member = self.groups.get_mut(group).and_then(|g| g.members.get_mut(&member));
        let Some(member) = member else { return };
        let Some(index) = member.unanswered.iter().position(|(_, n, _)| *n == id) else { return };
        let (transaction, _, writers) = member.unanswered.remove(index);
        for (mark, writer) in transaction.marks.iter().zip(writers) {
            self.marks.answered(mark, writer);
        }
    }
}
