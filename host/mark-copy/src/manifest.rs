//! Manifest: which runs count, the secret of the digests, and what is known of each scope.
//!
//! A small file, replaced as a whole: a line with a checksum, then JSON. Invariant: what it says of a scope is true
//! of the runs that it names, and of nothing newer.

use std::collections::BTreeMap;

use millstream_core::idempotency::Scope;
use millstream_core::message::{Offset, Partition};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::digest::Secret;
use crate::entry::ScopeNumber;

const FORMAT: &str = "millstream-mark-index";
/// The version this program writes, and the only one it reads: another one is made anew.
const VERSION: u64 = 2;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Of which log the marks are.
    pub(crate) identity: String,
    pub(crate) secret: Secret,
    /// The newest first. Levels never fall from one to the next.
    pub(crate) runs: Vec<RunEntry>,
    /// The number of the next run.
    pub(crate) next_run: u64,
    /// The number of the next scope.
    pub(crate) next_scope: ScopeNumber,
    pub(crate) scopes: BTreeMap<ScopeName, ScopeEntry>,
}

/// A run that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunEntry {
    pub(crate) number: u64,
    /// How often its marks were merged.
    pub(crate) level: u32,
}

/// A scope in an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScopeName(pub(crate) String, pub(crate) Partition);

impl From<&Scope> for ScopeName {
    fn from(scope: &Scope) -> Self {
        Self(scope.group.to_string(), scope.partition.clone())
    }
}

/// What is known of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScopeEntry {
    /// Which marks are its own.
    pub(crate) number: ScopeNumber,
    /// Up to where the log is in the index.
    pub(crate) checkpoint: Option<Offset>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: String,
    version: u64,
    identity: String,
    secret: Secret,
    runs: Vec<RunEntry>,
    next_run: u64,
    next_scope: ScopeNumber,
    scopes: Vec<StoredScope>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredScope {
    group: String,
    topic: String,
    partition: u32,
    number: ScopeNumber,
    checkpoint: Option<Offset>,
}

impl Manifest {
    pub(crate) fn new(identity: &str, secret: Secret) -> Self {
        Self {
            identity: identity.to_owned(),
            secret,
            runs: Vec::new(),
            next_run: 1,
            next_scope: 1,
            scopes: BTreeMap::new(),
        }
    }

    /// # Errors
    /// None that is known: JSON takes all of it.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let scope = |(name, entry): (&ScopeName, &ScopeEntry)| StoredScope {
            group: name.0.clone(),
            topic: name.1.topic.to_string(),
            partition: name.1.number,
            number: entry.number,
            checkpoint: entry.checkpoint,
        };
        let stored = Stored {
            format: FORMAT.to_owned(),
            version: VERSION,
            identity: self.identity.clone(),
            secret: self.secret.clone(),
            runs: self.runs.clone(),
            next_run: self.next_run,
            next_scope: self.next_scope,
            scopes: self.scopes.iter().map(scope).collect(),
        };
        let json = serde_json::to_vec(&stored)?;
        Ok([format!("{:016x}\n", xxh3_64(&json)).into_bytes(), json].concat())
    }

    /// What was written, or why this is something else.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (line, json) = bytes.split_at_checked(17).ok_or("it is too short")?;
        if line != format!("{:016x}\n", xxh3_64(json)).as_bytes() {
            return Err("its checksum does not match".to_owned());
        }
        let stored: Stored = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if stored.format != FORMAT || stored.version != VERSION {
            return Err(format!("it is {} {}", stored.format, stored.version));
        }
        let mut scopes = BTreeMap::new();
        for scope in stored.scopes {
            if scope.number == 0 || scope.number >= stored.next_scope {
                return Err(format!("a scope has number {}", scope.number));
            }
            let partition = Partition::new(scope.topic, scope.partition);
            let entry = ScopeEntry { number: scope.number, checkpoint: scope.checkpoint };
            if scopes.insert(ScopeName(scope.group, partition), entry).is_some() {
                return Err("a scope is there twice".to_owned());
            }
        }
        if stored.runs.iter().any(|run| run.number >= stored.next_run)
            || !stored.runs.is_sorted_by_key(|run| run.level)
        {
            return Err("its runs make no sense".to_owned());
        }
        Ok(Self {
            identity: stored.identity,
            secret: stored.secret,
            runs: stored.runs,
            next_run: stored.next_run,
            next_scope: stored.next_scope,
            scopes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let mut manifest = Manifest::new("cluster", Secret([7; 16]));
        manifest.runs = vec![RunEntry { number: 9, level: 0 }, RunEntry { number: 4, level: 2 }];
        (manifest.next_run, manifest.next_scope) = (10, 3);
        let name = ScopeName("g\"".to_owned(), Partition::new("t\n", 1));
        manifest.scopes.insert(name, ScopeEntry { number: 2, checkpoint: Some(u64::MAX) });
        manifest
    }

    #[test]
    fn it_comes_back_as_it_was_and_not_at_all_with_a_changed_byte() {
        let whole = manifest().encode().unwrap();
        assert_eq!(Manifest::decode(&whole), Ok(manifest()));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(Manifest::decode(&changed).is_err(), "byte {at}");
            assert!(Manifest::decode(&whole[..at]).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn numbers_that_would_be_given_again_are_refused() {
        for change in [
            |manifest: &mut Manifest| manifest.next_run = 9,
            |manifest: &mut Manifest| manifest.next_scope = 2,
            |manifest: &mut Manifest| manifest.runs.reverse(),
        ] {
            let mut changed = manifest();
            change(&mut changed);
            assert!(Manifest::decode(&changed.encode().unwrap()).is_err(), "{changed:?}");
        }
    }
}
