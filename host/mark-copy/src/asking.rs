//! Asking and putting: what goes to an index, and what comes back, apart from when it waits.

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::idempotency::{Marked, Scope};

use crate::digest::{Digest, Digester};
use crate::entry::{Entry, ScopeNumber};
use crate::index::MarkIndex;
use crate::run::Run;
use crate::trouble::IndexError;

/// Where the keys of a scope are: to be asked for once for many keys.
#[derive(Clone, Copy)]
pub struct Place {
    number: ScopeNumber,
    digester: Digester,
}

impl Place {
    pub(crate) fn new(number: ScopeNumber, digester: Digester) -> Self {
        Self { number, digester }
    }
}

/// Marks that are put together, made before anybody waits for them.
#[derive(Default)]
pub struct Batch(Vec<Entry>);

impl Batch {
    /// Takes a mark.
    pub fn add(&mut self, place: &Place, key: &[u8], marked: Marked) {
        self.0.push(Entry {
            digest: place.digester.digest(key),
            turn: marked.turn,
            expires: marked.expires,
            scope: place.number,
        });
    }

    /// How many marks it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn entries(self) -> Vec<Entry> {
        self.0
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A question as far as memory answers it.
pub struct Asked {
    answers: Vec<Option<Marked>>,
    /// Which answer is on the disk, perhaps.
    open: Vec<(usize, Digest)>,
    runs: Arc<Vec<Arc<Run>>>,
}

impl Asked {
    /// The answers, in the order asked for, or the question: the disk must be asked.
    ///
    /// # Errors
    /// The question itself.
    pub fn known(self) -> Result<Vec<Option<Marked>>, Self> {
        if self.open.is_empty() { Ok(self.answers) } else { Err(self) }
    }
}

impl MarkIndex {
    /// Asks for keys of a scope; does not wait for the disk.
    pub fn ask(&self, scope: &Scope, keys: &[Bytes]) -> Asked {
        let shared = &*self.shared;
        let Some(number) = shared.known_scope(&scope.into()) else {
            return Asked { answers: vec![None; keys.len()], open: vec![], runs: Arc::default() };
        };
        let digester = shared.secret.of_scope(number);
        let digests: Vec<_> = keys.iter().map(|key| digester.digest(key)).collect();
        let mut answers = Vec::with_capacity(keys.len());
        let (sealed, runs) = {
            let state = shared.state();
            let found = |digest: &Digest| state.buffer.get(*digest).map(Entry::marked);
            answers.extend(digests.iter().map(found));
            (state.sealed.clone(), Arc::clone(&state.runs))
        };
        let mut open = Vec::new();
        for (at, (answer, digest)) in answers.iter_mut().zip(digests).enumerate() {
            if answer.is_none() {
                let newest = sealed.iter().rev().find_map(|sealed| sealed.table.get(digest));
                *answer = newest.map(Entry::marked);
            }
            if answer.is_none() && runs.iter().any(|run| run.may_have(digest)) {
                open.push((at, digest));
            }
        }
        Asked { answers, open, runs }
    }

    /// Answers what memory did not. Blocks while it reads.
    ///
    /// # Errors
    /// When the disk fails, or what it has is not what was written.
    pub fn read(&self, asked: Asked) -> Result<Vec<Option<Marked>>, IndexError> {
        let Asked { mut answers, open, runs } = asked;
        for (at, digest) in open {
            for run in runs.iter().filter(|run| run.may_have(digest)) {
                let found = run.get(digest).map_err(|trouble| self.shared.troubled(&trouble))?;
                if let (Some(entry), Some(answer)) = (found, answers.get_mut(at)) {
                    *answer = Some(entry.marked());
                    break;
                }
            }
        }
        Ok(answers)
    }
}
