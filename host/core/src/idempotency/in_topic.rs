//! Marks in a topic: the idempotency store of a log that keeps nothing but messages (Kafka).
//!
//! Marks are records of a compacted topic beside each source topic (`mark_record`), in `exactly_once` in the
//! transaction of what they mark. Questions are answered from a copy that this host keeps ([`MarkCopy`]).
//!
//! Invariants:
//! - the copy takes marks only once the log has acknowledged them, so it never shows one that may vanish;
//! - before a partition's first message is handled, its copy has every mark up to the topic's high watermark,
//!   taken after the commits were fetched: a mark of what an earlier owner has settled is below it;
//! - the copy's checkpoint is an offset below which it has everything. It moves when a partition is restored or
//!   given up, and now and then while no mark of it is on its way;
//! - a copy whose checkpoint is beyond the topic's end is of another topic, and thrown away.
//!
//! Limit: what is restored at once are [`RESTORE_ROOM`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::idempotency::{IdempotencyStore, Mark, MarkCopy, Marked, Scope, mark_record};
use crate::log::{Log, LogError, Room};
use crate::message::{EpochMs, Offset, Partition, Record};

/// What is read of a topic and put into the copy at once.
pub const RESTORE_ROOM: Room = Room { messages: 10_000, bytes: 4 << 20 };

/// How long to wait for a transaction of an earlier owner that hides the end.
const HIDDEN_END_WAIT: Duration = Duration::from_millis(20);

/// The checkpoint moves after so many marks, when none is on its way.
const CHECKPOINT_EVERY: u64 = 50_000;

/// Marks of a partition on their way to the log and the copy.
#[derive(Clone, Copy, Debug, Default)]
struct OnTheWay {
    calls: u32,
    begun: u64,
    since_checkpoint: u64,
}

/// See the module.
pub struct MarksInTopic {
    log: Arc<dyn Log>,
    copy: Arc<dyn MarkCopy>,
    on_the_way: Mutex<HashMap<Scope, OnTheWay>>,
}

/// A call that brings marks; dropped when it has ended, or was given up.
struct Bringing<'a> {
    store: &'a MarksInTopic,
    scope: Scope,
}

impl MarksInTopic {
    /// Over a log, with this copy.
    pub fn new(log: Arc<dyn Log>, copy: Arc<dyn MarkCopy>) -> Self {
        Self { log, copy, on_the_way: Mutex::default() }
    }

    fn bring(&self, scope: &Scope) -> Bringing<'_> {
        self.change(scope, |way| {
            way.calls += 1;
            way.begun += 1;
        });
        Bringing { store: self, scope: scope.clone() }
    }

    fn change<T>(&self, scope: &Scope, change: impl FnOnce(&mut OnTheWay) -> T) -> T {
        let mut all = self.on_the_way.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(scope.clone()).or_default())
    }

    /// Puts acknowledged marks into the copy, and moves the checkpoint if it is time and nothing else is on its way.
    async fn acknowledged(&self, scope: &Scope, marks: &[&Mark]) -> Result<(), LogError> {
        let put = marks
            .iter()
            .map(|mark| (mark.key.clone(), Marked { turn: mark.turn, expires: mark.expires }));
        self.copy.put(scope, put.collect(), None).await?;
        let count = marks.len() as u64;
        let way = self.change(scope, |way| {
            way.since_checkpoint += count;
            *way
        });
        if way.since_checkpoint < CHECKPOINT_EVERY || way.calls != 1 {
            return Ok(());
        }
        // All that this host has written below the end that is asked for now is in the copy, if no call
        // begins meanwhile.
        let end = self.high(scope).await?;
        let undisturbed = self.change(scope, |now| {
            let undisturbed = now.calls == 1 && now.begun == way.begun;
            if undisturbed {
                now.since_checkpoint = 0;
            }
            undisturbed
        });
        match undisturbed {
            true => self.copy.put(scope, Vec::new(), Some(end)).await,
            false => Ok(()),
        }
    }

    async fn high(&self, scope: &Scope) -> Result<Offset, LogError> {
        let ends = self.log.ends(&[partition_of(scope)]).await?;
        ends.first().map(|ends| ends.high).ok_or_else(|| {
            LogError::Unavailable(format!("the log tells no end of {}", partition_of(scope)))
        })
    }
}

impl Drop for Bringing<'_> {
    fn drop(&mut self) {
        self.store.change(&self.scope, |way| way.calls = way.calls.saturating_sub(1));
    }
}

fn partition_of(scope: &Scope) -> Partition {
    let topic = mark_record::topic(&scope.partition.topic, &scope.group);
    Partition { topic, number: scope.partition.number }
}

/// Marks by their scope; all of a call are of one, as a rule.
fn by_scope(marks: &[Mark]) -> Vec<(Scope, Vec<&Mark>)> {
    let mut scopes: Vec<(Scope, Vec<&Mark>)> = Vec::new();
    for mark in marks {
        match scopes.iter_mut().find(|(scope, _)| *scope == mark.scope) {
            Some((_, marks)) => marks.push(mark),
            None => scopes.push((mark.scope.clone(), vec![mark])),
        }
    }
    scopes
}

#[async_trait]
impl IdempotencyStore for MarksInTopic {
    async fn restore(&self, scope: &Scope) -> Result<(), LogError> {
        let partition = partition_of(scope);
        let ends = self.log.ends(std::slice::from_ref(&partition)).await?;
        let ends = ends.first().copied().unwrap_or_default();
        let checkpoint = self.copy.checkpoint(scope).await?;
        if let Some(beyond) = checkpoint.filter(|checkpoint| *checkpoint > ends.high) {
            tracing::warn!(
                %partition, checkpoint = beyond, end = ends.high,
                "the local copy of idempotency marks is of another topic: it is thrown away and restored from the log"
            );
            self.copy.discard(scope).await?;
        }
        let kept = checkpoint.filter(|checkpoint| *checkpoint <= ends.high);
        let from = kept.unwrap_or(0).max(ends.start);
        let (mut next, mut marks, mut strange) = (from, 0_u64, 0_u64);
        while next < ends.high {
            let batch = self.log.fetch(&partition, next, RESTORE_ROOM).await?;
            if batch.next <= next {
                tokio::time::sleep(HIDDEN_END_WAIT).await;
                continue;
            }
            next = batch.next;
            let count = batch.messages.len() as u64;
            let found: Vec<_> = batch.messages.iter().filter_map(mark_record::decode).collect();
            marks += found.len() as u64;
            strange += count - found.len() as u64;
            self.copy.put(scope, found, Some(next)).await?;
        }
        if strange > 0 {
            tracing::warn!(%partition, skipped = strange, "messages that are no idempotency marks; who writes there?");
        }
        tracing::info!(%partition, from, to = next, marks, "idempotency marks restored");
        Ok(())
    }

    async fn release(&self, scope: &Scope) -> Result<(), LogError> {
        let way = self.change(scope, |way| *way);
        if way.calls == 0 {
            let end = self.high(scope).await?;
            self.copy.put(scope, Vec::new(), Some(end)).await?;
        }
        Ok(())
    }

    async fn lookup(
        &self,
        scope: &Scope,
        keys: &[Bytes],
        now: EpochMs,
    ) -> Result<Vec<Option<Offset>>, LogError> {
        let found = self.copy.get(scope, keys).await?;
        let live = |marked: Option<Marked>| marked.filter(|m| m.expires > now).map(|m| m.turn);
        Ok(found.into_iter().map(live).collect())
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<(), LogError> {
        for (scope, marks) in by_scope(&marks) {
            let _bringing = self.bring(&scope);
            let records: Vec<Record> = marks.iter().map(|mark| mark_record::encode(mark)).collect();
            let records: Vec<&Record> = records.iter().collect();
            for refused in self.log.append(&records).await? {
                // The topic was removed, or may not be written to: whoever did that must mend it.
                refused.map_err(|error| {
                    LogError::Fatal(format!("an idempotency mark is refused: {error}"))
                })?;
            }
            self.acknowledged(&scope, &marks).await?;
        }
        Ok(())
    }

    fn records(&self, marks: &[Mark]) -> Option<Vec<Record>> {
        Some(marks.iter().map(mark_record::encode).collect())
    }

    async fn marked(&self, marks: &[Mark]) -> Result<(), LogError> {
        for (scope, marks) in by_scope(marks) {
            let _bringing = self.bring(&scope);
            self.acknowledged(&scope, &marks).await?;
        }
        Ok(())
    }
}
