//! Mark copy: a host's copy of the marks that lie in a topic, in memory. It outlives the host's lives, unless its
//! disk is lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use millstream_core::idempotency::{MarkCopy, Marked, Scope};
use millstream_core::log::LogError;
use millstream_core::message::Offset;

#[derive(Debug, Default)]
struct Scoped {
    checkpoint: Option<Offset>,
    marks: BTreeMap<Bytes, Marked>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryCopy(Mutex<HashMap<Scope, Scoped>>);

impl MemoryCopy {
    fn with<T>(&self, scope: &Scope, f: impl FnOnce(&mut Scoped) -> T) -> T {
        let mut scopes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f(scopes.entry(scope.clone()).or_default())
    }
}

#[async_trait]
impl MarkCopy for MemoryCopy {
    async fn checkpoint(&self, scope: &Scope) -> Result<Option<Offset>, LogError> {
        Ok(self.with(scope, |scoped| scoped.checkpoint))
    }

    async fn get(&self, scope: &Scope, keys: &[Bytes]) -> Result<Vec<Option<Marked>>, LogError> {
        Ok(self.with(scope, |scoped| keys.iter().map(|k| scoped.marks.get(k).copied()).collect()))
    }

    async fn put(
        &self,
        scope: &Scope,
        marks: Vec<(Bytes, Marked)>,
        checkpoint: Option<Offset>,
    ) -> Result<(), LogError> {
        self.with(scope, |scoped| {
            scoped.marks.extend(marks);
            scoped.checkpoint = checkpoint.or(scoped.checkpoint);
        });
        Ok(())
    }

    async fn discard(&self, scope: &Scope) -> Result<(), LogError> {
        self.with(scope, |scoped| *scoped = Scoped::default());
        Ok(())
    }
}
