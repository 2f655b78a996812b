//! Idempotency marks: the store's durable state and the port to it.
//!
//! Invariant, the port's promise: a mark whose writing was not answered is not shown to the host
//! that wrote it while it reads under the same assignment, though it is there, and whoever comes
//! later sees it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use millstream_core::idempotency::{IdempotencyStore, Mark, Scope};
use millstream_core::log::LogError;
use millstream_core::message::{EpochMs, Offset, Partition};

use crate::cluster::State;
use crate::happening::{Epoch, Happening, HostId};
use crate::log::SimLog;

type Key = (String, Partition, Bytes);

/// Who waits for the answer to a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Writer {
    host: HostId,
    epoch: Option<Epoch>,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    turn: Offset,
    expires: EpochMs,
}

#[derive(Debug, Default)]
struct Marked {
    shown: Option<Turn>,
    unanswered: Option<(Writer, Turn)>,
}

#[derive(Debug, Default)]
pub(crate) struct Marks(BTreeMap<Key, Marked>);

fn key_of(scope: &Scope, key: &Bytes) -> Key {
    (scope.group.to_string(), scope.partition.clone(), key.clone())
}

impl Marks {
    /// Writes a mark that is not answered yet.
    pub(crate) fn write(&mut self, mark: &Mark, writer: Writer) {
        let marked = self.0.entry(key_of(&mark.scope, &mark.key)).or_default();
        // What another writer left unanswered is older, and overwritten like any mark.
        if let Some((earlier, turn)) = marked.unanswered.take()
            && earlier != writer
        {
            marked.shown = Some(turn);
        }
        let turn = Turn { turn: mark.turn, expires: mark.expires };
        marked.unanswered = Some((writer, turn));
    }

    /// The writer of this mark is answered.
    pub(crate) fn answered(&mut self, mark: &Mark, writer: Writer) {
        let Some(marked) = self.0.get_mut(&key_of(&mark.scope, &mark.key)) else { return };
        if let Some((_, turn)) =
            marked.unanswered.take_if(|(w, turn)| *w == writer && turn.turn == mark.turn)
        {
            marked.shown = Some(turn);
        }
    }

    fn look(&self, scope: &Scope, key: &Bytes, reader: Writer, now: EpochMs) -> Option<Offset> {
        let marked = self.0.get(&key_of(scope, key))?;
        let foreign = marked.unanswered.filter(|(writer, _)| *writer != reader);
        let turn = foreign.map(|(_, turn)| turn).or(marked.shown)?;
        (turn.expires > now).then_some(turn.turn)
    }
}

impl State {
    /// Under which assignment this host acts in a scope.
    pub(crate) fn writer(&self, host: HostId, scope: &Scope) -> Writer {
        let group = self.groups.get(&*scope.group);
        let mut members = group.iter().flat_map(|g| g.members.values());
        let member = members.find(|m| m.host == host && m.alive);
        Writer { host, epoch: member.and_then(|m| m.told.get(&scope.partition).copied()) }
    }
}

#[async_trait]
impl IdempotencyStore for SimLog {
    fn known(&self, scope: &Scope, keys: &[&[u8]], now: EpochMs) -> Option<Vec<Option<Offset>>> {
        // Each other millisecond: nothing is drawn for it.
        if now.rem_euclid(2) == 0 {
            return None;
        }
        let state = self.shared().lock();
        let reader = state.writer(self.host(), scope);
        let look = |key: &&[u8]| state.marks.look(scope, &Bytes::copy_from_slice(key), reader, now);
        Some(keys.iter().map(look).collect())
    }

    async fn lookup(
        &self,
        scope: &Scope,
        keys: &[Bytes],
        now: EpochMs,
    ) -> Result<Vec<Option<Offset>>, LogError> {
        self.ask_store("lookup", |state, _| {
            let reader = state.writer(self.host(), scope);
            Ok(keys.iter().map(|key| state.marks.look(scope, key, reader, now)).collect())
        })
        .await
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<(), LogError> {
        let host = self.host();
        let writers: Vec<(Mark, Writer)> = self
            .ask_store("mark", |state, _| {
                let writer = |mark: &Mark| (mark.clone(), state.writer(host, &mark.scope));
                let writers: Vec<(Mark, Writer)> = marks.iter().map(writer).collect();
                for (mark, writer) in &writers {
                    state.marks.write(mark, *writer);
                }
                state.tell(&Happening::Written {
                    host: Some(host),
                    late: false,
                    transaction: false,
                    messages: &[],
                    commits: &[],
                    marks: &marks,
                });
                Ok(writers)
            })
            .await?;
        self.shared().change(|state| {
            for (mark, writer) in &writers {
                state.marks.answered(mark, *writer);
            }
        });
        Ok(())
    }
}
