//! Marks in a topic: the idempotency store of a log that keeps nothing but messages (Kafka).
//!
//! Marks are records of a compacted topic beside each source topic (`mark_record`), in `exactly_once` in the
//! transaction of what they mark. Questions are answered from a copy that this host keeps ([`MarkCopy`]).
//!
//! Invariants:
//! - the copy takes marks only once the log has acknowledged them, so it never shows one that may vanish;
//! - before a partition's first message is handled, its copy has every mark up to the topic's high watermark,
//!   taken after the commits were fetched: a mark of what an earlier owner has settled is below it;
//! - the copy's checkpoint is an offset below which it has everything. It moves by reading only: whoever goes by what
//!   it has written itself passes what another owner wrote meanwhile. So a restart reads again what was marked since the last one;
//! - a copy without a checkpoint, or with one beyond the topic's end, may be of another topic, and is thrown away.
//!
//! Limit: what is restored at once are [`RESTORE_ROOM`].

use std::sync::Arc;
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

/// See the module.
pub struct MarksInTopic {
    log: Arc<dyn Log>,
    copy: Arc<dyn MarkCopy>,
}

impl MarksInTopic {
    /// Over a log, with this copy.
    pub fn new(log: Arc<dyn Log>, copy: Arc<dyn MarkCopy>) -> Self {
        Self { log, copy }
    }

    /// Puts acknowledged marks into the copy.
    async fn acknowledged(&self, scope: &Scope, marks: &[&Mark]) -> Result<(), LogError> {
        let put = marks
            .iter()
            .map(|mark| (mark.key.clone(), Marked { turn: mark.turn, expires: mark.expires }));
        self.copy.put(scope, put.collect(), None).await
    }
}

fn partition_of(scope: &Scope) -> Partition {
    let topic = mark_record::topic(&scope.partition.topic, &scope.group);
    Partition { topic, number: scope.partition.number }
}

/// Marks by their scope; all of a call are of one, as a rule.
fn by_scope(marks: &[Mark]) -> Vec<(Arc<Scope>, Vec<&Mark>)> {
    let mut scopes: Vec<(Arc<Scope>, Vec<&Mark>)> = Vec::new();
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
        let kept = checkpoint.filter(|checkpoint| *checkpoint <= ends.high);
        if kept.is_none() {
            if let Some(beyond) = checkpoint {
                tracing::warn!(
                    %partition, checkpoint = beyond, end = ends.high,
                    "the local copy of idempotency marks is of another topic: it is thrown away and restored from the log"
                );
            }
            self.copy.discard(scope).await?;
        }
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
            self.acknowledged(&scope, &marks).await?;
        }
        Ok(())
    }
}
