//! Control: a pipeline's control topic as it stands, and writing to it.
//!
//! Read by hosts and commands alike; what is in use, and where a rollback goes, is worked out here from the changes,
//! so that all come to the same.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::deploy::blob::{self, BlobError};
use crate::deploy::error::{DeployError, appended};
use crate::deploy::rows::{
    self, CHANGE, Change, HOST, HostRow, PROPOSAL, Proposal, VERDICT, VERSION, Verdict, Version,
};
use crate::deploy::topic_table::{TopicTable, VALUE_BYTES_MAX};
use crate::log::{Ends, Log, LogError};
use crate::message::{Offset, Partition, Record, Topic};

/// What a pipeline ran at a time, newest last; a version is known by its digest, the file by none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Where rollbacks go, one after the other: the last is in use, the one before is next.
    stack: Vec<Option<String>>,
}

impl Past {
    /// From changes in their order.
    pub(super) fn of(changes: &[Change]) -> Self {
        // Before the first change it was the file. Of a past that was cut, whatever came before is gone.
        let whole = changes.first().is_none_or(|first| first.number == 1);
        let mut stack = if whole { vec![None] } else { Vec::new() };
        for change in changes {
            let back = stack.iter().rposition(|before| *before == change.digest);
            match back.filter(|_| change.rollback) {
                Some(at) => stack.truncate(at + 1),
                None if stack.last() == Some(&change.digest) => {}
                None => stack.push(change.digest.clone()),
            }
        }
        Self { stack }
    }

    /// What was in use before what is: a rollback goes there.
    pub fn before(&self) -> Option<&Option<String>> {
        self.stack.len().checked_sub(2).and_then(|at| self.stack.get(at))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Control {
    topic: Topic,
    table: TopicTable,
}

impl Control {
    /// Reads the control topic of a group.
    ///
    /// # Errors
    /// [`DeployError::NoTopic`] if it is not there.
    pub async fn open(log: &dyn Log, group: &str) -> Result<Self, DeployError> {
        let topic = super::topic(group);
        let there = log.topics().await?;
        if !there.iter().any(|spec| spec.name == topic && spec.partitions >= 2) {
            return Err(DeployError::NoTopic { topic });
        }
        let mut control = Self::unread(group);
        control.catch_up(log).await?;
        Ok(control)
    }

    /// The same, with nothing read of it yet.
    pub(super) fn unread(group: &str) -> Self {
        let topic = super::topic(group);
        let table = TopicTable::new(Partition { topic: topic.clone(), number: 0 });
        Self { topic, table }
    }

    /// The bytes of a version that was deployed.
    ///
    /// # Errors
    /// When the log fails, or they are not there or damaged.
    pub async fn bytes(&self, log: &dyn Log, version: &Version) -> Result<Bytes, DeployError> {
        blob::read(log, &self.blobs_partition(), version).await.map_err(|error| match error {
            BlobError::Log(error) => DeployError::Log(error),
            BlobError::Damaged(how) => DeployError::Request(how),
        })
    }

    /// Reads what is new.
    ///
    /// # Errors
    /// What the log says.
    pub async fn catch_up(&mut self, log: &dyn Log) -> Result<(), LogError> {
        self.table.catch_up(log).await
    }

    pub(super) async fn read_to(&mut self, log: &dyn Log, ends: Ends) -> Result<(), LogError> {
        self.table.read_to(log, ends).await
    }

    pub(super) fn next(&self) -> Offset {
        self.table.next()
    }

    pub(super) fn strange(&self) -> u64 {
        self.table.strange()
    }

    /// Where its rows are.
    pub(super) fn rows_partition(&self) -> Partition {
        Partition { topic: self.topic.clone(), number: 0 }
    }

    /// Where the bytes of plugins are.
    pub(super) fn blobs_partition(&self) -> Partition {
        Partition { topic: self.topic.clone(), number: 1 }
    }

    /// All versions that are kept, the first deployed first.
    pub fn versions(&self) -> Vec<Version> {
        let rows = self.table.rows(VERSION);
        let mut versions: Vec<Version> =
            rows.filter_map(|(digest, row)| rows::version(digest, &row.value)).collect();
        versions.sort_by(|a, b| (a.at, &a.digest).cmp(&(b.at, &b.digest)));
        versions
    }

    /// The version of this digest.
    pub fn version(&self, digest: &str) -> Option<Version> {
        let row = self.table.row(&format!("{VERSION}{digest}"))?;
        rows::version(digest, &row.value)
    }

    /// The changes that count, in their order: of those with one number the first in the log.
    pub fn changes(&self) -> Vec<Change> {
        let mut first: BTreeMap<u64, (Offset, Change)> = BTreeMap::new();
        for (rest, row) in self.table.rows(CHANGE) {
            let Some(change) = rows::change(rest, &row.value) else { continue };
            match first.get(&change.number) {
                Some((offset, _)) if *offset <= row.offset => {}
                _ => drop(first.insert(change.number, (row.offset, change))),
            }
        }
        first.into_values().map(|(_, change)| change).collect()
    }

    /// All keys of changes below this number.
    pub(super) fn change_keys_below(&self, number: u64) -> Vec<String> {
        let rows = self.table.rows(CHANGE);
        let old = rows.filter(|(rest, row)| {
            rows::change(rest, &row.value).is_none_or(|change| change.number < number)
        });
        old.map(|(rest, _)| format!("{CHANGE}{rest}")).collect()
    }

    /// The last change; `None` if nothing was deployed yet.
    pub fn current(&self) -> Option<Change> {
        self.changes().pop()
    }

    /// What ran before what runs.
    pub fn past(&self) -> Past {
        Past::of(&self.changes())
    }

    /// What a person calls this target.
    pub fn name_of(&self, digest: Option<&str>) -> String {
        let Some(digest) = digest else { return "the file of the configuration".to_owned() };
        let known = self.version(digest).map(|version| version.version);
        format!("version {}", known.as_deref().unwrap_or(digest))
    }

    /// The hosts that said that they live, and have not said that they end.
    pub fn hosts(&self) -> BTreeMap<String, HostRow> {
        let rows = self.table.rows(HOST);
        rows.filter_map(|(host, row)| Some((host.to_owned(), rows::host(host, &row.value)?)))
            .collect()
    }

    /// The proposal, and its offset.
    pub(super) fn proposal(&self) -> Option<(Offset, Proposal)> {
        let row = self.table.row(PROPOSAL)?;
        Some((row.offset, rows::proposal(&row.value)?))
    }

    /// What a host says of a proposal.
    pub(super) fn verdict(&self, host: &str, proposal: &str) -> Option<Verdict> {
        let row = self.table.row(&format!("{VERDICT}{host}"))?;
        let verdict = rows::verdict(&row.value)?;
        (verdict.proposal == proposal).then_some(verdict.verdict)
    }

    /// Writes rows, in this order; `None` removes one.
    ///
    /// # Errors
    /// When the log does not take them all.
    pub(super) async fn write(
        &self,
        log: &dyn Log,
        rows: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<(), DeployError> {
        if rows.iter().any(|(_, value)| value.as_ref().is_some_and(|v| v.len() > VALUE_BYTES_MAX)) {
            let text = "the smoke messages take too much room: give fewer or smaller ones";
            return Err(DeployError::Request(text.to_owned()));
        }
        let record = |(key, value): (String, Option<Vec<u8>>)| Record {
            topic: self.topic.clone(),
            partition: Some(0),
            timestamp: None,
            key: Some(key.into()),
            value: value.map(Into::into),
            headers: Vec::new(),
        };
        let records: Vec<Record> = rows.into_iter().map(record).collect();
        appended(log.append(&records.iter().collect::<Vec<_>>()).await?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(changes: &[(u64, Option<&str>, bool)]) -> Past {
        let change = |(number, digest, rollback): &(u64, Option<&str>, bool)| {
            Change::new(*number, "id", digest.map(ToOwned::to_owned), *rollback, "me", 0)
        };
        Past::of(&changes.iter().map(change).collect::<Vec<_>>())
    }

    #[test]
    fn a_rollback_goes_back_one_step_and_the_next_one_further() {
        let before = |changes: &[_]| past(changes).before().cloned();
        let (a, b) = (Some("a"), Some("b"));
        assert_eq!(before(&[]), None, "nothing was deployed");
        let mut changes = vec![(1, a, false), (2, b, false)];
        assert_eq!(before(&changes), Some(Some("a".to_owned())));
        changes.push((3, a, true));
        assert_eq!(before(&changes), Some(None), "not b, which was rolled back, but the file");
        changes.push((4, None, true));
        assert_eq!(before(&changes), None);
        changes.push((5, b, true));
        assert_eq!(before(&changes), Some(None), "asked for by name it is on top again");
        changes.push((6, a, false));
        changes.push((7, a, false));
        assert_eq!(before(&changes), Some(Some("b".to_owned())), "twice the same is once");
    }

    #[test]
    fn a_past_that_was_cut_does_not_go_back_to_the_file() {
        let cut = [(7, Some("a"), false), (8, Some("b"), false)];
        assert_eq!(past(&cut).before(), Some(&Some("a".to_owned())));
        assert_eq!(past(&[(7, Some("a"), false)]).before(), None);
    }
}
