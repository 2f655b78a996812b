//! Asking and putting: what goes to an index, and what comes back, apart from when it waits.

use std::sync::Arc;

use millstream_core::idempotency::{Marked, Scope};

use crate::digest::{Digest, Digester};
use crate::entry::{Entry, ScopeNumber};
use crate::index::MarkIndex;
use crate::manifest::ScopeName;
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

    /// What stands for a key there.
    pub fn digest(&self, key: &[u8]) -> Digest {
        self.digester.digest(key)
    }
}

/// Marks that are put together, made before anybody waits for them.
#[derive(Default)]
pub struct Batch(Vec<Entry>);

impl Batch {
    /// Takes a mark of the key with this digest in this place.
    pub fn add(&mut self, place: &Place, digest: Digest, marked: Marked) {
        self.0.push(Entry {
            digest,
            turn: marked.turn,
            expires: marked.expires,
            scope: place.number,
        });
    }

    /// How many marks it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A question as far as memory answers it.
pub struct Asked {
    answers: Vec<Option<Marked>>,
    /// Whose marks count.
    number: ScopeNumber,
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
    pub fn ask(&self, scope: &Scope, keys: &[impl AsRef<[u8]>]) -> Asked {
        let shared = &*self.shared;
        let name = ScopeName::from(scope);
        let Some(number) = shared.known_scope(&name) else {
            let answers = vec![None; keys.len()];
            return Asked { answers, number: 0, open: vec![], runs: Arc::default() };
        };
        let digester = shared.secret.of_scope(&name);
        let digests: Vec<_> = keys.iter().map(|key| digester.digest(key.as_ref())).collect();
        let mut answers = Vec::with_capacity(keys.len());
        let (sealed, runs) = {
            let state = shared.state();
            let found = |digest: &Digest| state.buffer.get(*digest).and_then(|e| e.of(number));
            answers.extend(digests.iter().map(found));
            (state.sealed.clone(), Arc::clone(&state.runs))
        };
        for sealed in sealed.iter().rev() {
            for (answer, digest) in answers.iter_mut().zip(&digests) {
                if answer.is_none() {
                    *answer = sealed.table.get(*digest).and_then(|entry| entry.of(number));
                }
            }
        }
        let mut on_disk = vec![false; digests.len()];
        for run in runs.iter() {
            run.note_what_may_be_there(&digests, &mut on_disk);
        }
        let unknown = answers.iter().zip(on_disk).zip(digests).enumerate();
        let unknown = unknown.filter(|(_, ((answer, may), _))| *may && answer.is_none());
        let open = unknown.map(|(at, (_, digest))| (at, digest)).collect();
        Asked { answers, number, open, runs }
    }

    /// Answers what memory did not. Blocks while it reads.
    ///
    /// # Errors
    /// When the disk fails, or what it has is not what was written.
    pub fn read(&self, asked: Asked) -> Result<Vec<Option<Marked>>, IndexError> {
        let Asked { mut answers, number, open, runs } = asked;
        for (at, digest) in open {
            for run in runs.iter().filter(|run| run.may_have(digest)) {
                let found = run.get(digest).map_err(|trouble| self.shared.troubled(&trouble))?;
                let marked = found.and_then(|entry| entry.of(number));
                if let (Some(marked), Some(answer)) = (marked, answers.get_mut(at)) {
                    *answer = Some(marked);
                    break;
                }
            }
        }
        Ok(answers)
    }
}
