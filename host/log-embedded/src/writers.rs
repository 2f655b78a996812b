//! Writers: who has which name, and appending all or nothing under it.
//!
//! A claim counts in the writer thread, when what it brings is planned: what was queued before another took the
//! name is refused when its turn comes. Names are in memory only: the folder's lock keeps other processes out, and
//! a claim of an earlier life of this log is none of this one.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use millstream_core::log::{
    LogError, TransactError, Transaction, WRITER_NAME_BYTES_MAX, Writer as PortWriter,
};
use millstream_core::message::Record;

use crate::locks::lock;
use crate::log::{gone, transact};
use crate::queue::Request;
use crate::shared::Shared;

/// Names that are remembered; whoever took the one that is forgotten is fenced.
const NAMES_MAX: usize = 256;

/// A name that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    name: Arc<str>,
    /// Tells it from every other of the name.
    number: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Writers(Mutex<VecDeque<Claim>>);

impl Writers {
    fn take(&self, name: &str) -> Claim {
        let mut claims = lock(&self.0);
        claims.retain(|claim| *claim.name != *name);
        if claims.len() >= NAMES_MAX {
            claims.pop_front();
        }
        let claim = Claim { name: name.into(), number: RandomState::new().hash_one(name) };
        claims.push_back(claim.clone());
        claim
    }

    /// Whether nobody else took the name since.
    ///
    /// # Errors
    /// `Fenced` if so.
    pub(crate) fn check(&self, claim: &Claim) -> Result<(), LogError> {
        if lock(&self.0).contains(claim) {
            return Ok(());
        }
        Err(LogError::Fenced(format!("another writer has taken the name {}", claim.name)))
    }
}

/// Takes a name, and waits until what its earlier owners had under way is written or refused.
pub(crate) async fn begin(
    shared: &Arc<Shared>,
    name: &str,
) -> Result<Arc<dyn PortWriter>, LogError> {
    if name.is_empty() || name.len() > WRITER_NAME_BYTES_MAX {
        return Err(LogError::Fatal(format!(
            "a writer's name needs 1 to {WRITER_NAME_BYTES_MAX} bytes, {name:?} has {}",
            name.len()
        )));
    }
    let claim = shared.writers.take(name);
    // Nothing to write, and answered after all that was planned before.
    transact(shared, None, Arc::default()).await.map_err(|error| match error {
        TransactError::Log(error) => error,
        offender @ TransactError::Offender { .. } => LogError::Fatal(offender.to_string()),
    })?;
    Ok(Arc::new(EmbeddedWriter { shared: shared.clone(), claim }))
}

struct EmbeddedWriter {
    shared: Arc<Shared>,
    claim: Claim,
}

#[async_trait]
impl PortWriter for EmbeddedWriter {
    async fn append_all(&self, records: &[Record]) -> Result<(), TransactError> {
        let transaction = Transaction { records: records.to_vec(), ..Transaction::default() };
        let claim = self.claim.clone();
        let ask = |reply| Request::AppendAll { claim, transaction: Arc::new(transaction), reply };
        self.shared.queue.ask(ask).await.unwrap_or_else(|| Err(gone(&self.shared).into()))
    }
}
