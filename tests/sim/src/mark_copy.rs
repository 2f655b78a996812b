//! Mark copy: a host's copy of the marks that lie in a topic, in memory. It outlives the host's lives, unless its
//! disk is lost; but the end of a life may take the newest of it, checkpoints included, as it does where the copy
//! is written in the background.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use millstream_core::idempotency::{MarkCopy, Marked, Scope};
use millstream_core::log::LogError;
use millstream_core::message::Offset;

#[derive(Clone, Debug, Default)]
struct Scoped {
    checkpoint: Option<Offset>,
    marks: BTreeMap<Bytes, Marked>,
}

type Scopes = HashMap<Scope, Scoped>;

#[derive(Debug)]
struct Put {
    scope: Scope,
    marks: Vec<(Bytes, Marked)>,
    checkpoint: Option<Offset>,
}

impl Put {
    fn onto(&self, scopes: &mut Scopes) {
        let scoped = scopes.entry(self.scope.clone()).or_default();
        scoped.marks.extend(self.marks.iter().cloned());
        scoped.checkpoint = self.checkpoint.or(scoped.checkpoint);
    }
}

#[derive(Debug, Default)]
struct State {
    now: Scopes,
    /// What no end of a life takes.
    written: Scopes,
    unwritten: Vec<Put>,
    lives: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryCopy(Mutex<State>);

impl MemoryCopy {
    /// A life has ended: of what it put all is left, or nothing, or the first half, by turns.
    pub fn life_ended(&self) {
        self.with(|state| {
            state.lives += 1;
            let kept = state.unwritten.len() * [2, 0, 1].get(state.lives % 3).unwrap_or(&2) / 2;
            for put in state.unwritten.drain(..).take(kept) {
                put.onto(&mut state.written);
            }
            state.now = state.written.clone();
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl MarkCopy for MemoryCopy {
    async fn checkpoint(&self, scope: &Scope) -> Result<Option<Offset>, LogError> {
        Ok(self.with(|state| state.now.get(scope)?.checkpoint))
    }

    async fn get(&self, scope: &Scope, keys: &[Bytes]) -> Result<Vec<Option<Marked>>, LogError> {
        let marked = |state: &mut State| {
            let marks = state.now.get(scope).map(|scoped| &scoped.marks);
            keys.iter().map(|key| marks?.get(key).copied()).collect()
        };
        Ok(self.with(marked))
    }

    async fn put(
        &self,
        scope: &Scope,
        marks: Vec<(Bytes, Marked)>,
        checkpoint: Option<Offset>,
    ) -> Result<(), LogError> {
        let put = Put { scope: scope.clone(), marks, checkpoint };
        self.with(|state| {
            put.onto(&mut state.now);
            state.unwritten.push(put);
        });
        Ok(())
    }

    async fn discard(&self, scope: &Scope) -> Result<(), LogError> {
        self.with(|state| {
            state.unwritten.retain(|put| put.scope != *scope);
            state.now.remove(scope);
            state.written.remove(scope);
        });
        Ok(())
    }
}
