//! Digest: what stands for an idempotency key in the index, 16 bytes whatever the key.
//!
//! Two keys with one digest would make an unhandled message pass for handled, which is a loss. So the digest is
//! SipHash-2-4 with 128 bits and a secret key: a pseudo-random function, made for keys that a stranger chooses. Who
//! does not know the secret can find no two keys that collide, and among 10 billion honest keys the chance of one
//! pair is 1.5e-19. A hash that is fast and only seeded (XXH3) would do against chance, but not against somebody
//! who may choose a part of his keys and wants another's message dropped: it is not made to hide its seed.
//!
//! The secret is random and comes with the index, or from the log that the index stands beside: then the log can have digests
//! instead of keys, and an index that is lost is made anew from them. It never leaves their folder. Each scope has a key
//! of its own, derived from it and the scope's name, so one key in two scopes has two digests.

use std::io;

use serde::{Deserialize, Serialize};
use siphasher::sip128::SipHasher24;

use crate::manifest::ScopeName;

/// The bytes of a digest.
pub const DIGEST_BYTES: usize = 16;

/// What stands for a key in a scope. Evenly spread: where it lies in a table or a run follows from its first bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest {
    pub(crate) high: u64,
    pub(crate) low: u64,
}

impl Digest {
    /// As it is stored.
    pub fn to_bytes(self) -> [u8; DIGEST_BYTES] {
        let whole = u128::from(self.low) << 64 | u128::from(self.high);
        whole.to_le_bytes()
    }

    /// What was stored.
    pub fn from_bytes(bytes: [u8; DIGEST_BYTES]) -> Self {
        let whole = u128::from_le_bytes(bytes);
        Self { high: whole as u64, low: (whole >> 64) as u64 }
    }
}

/// What digests are made with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub(crate) [u8; 16]);

// Not for logs.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random() -> io::Result<Self> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(secret))
    }

    /// Its bytes: for a checksum, not for logs.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn of_scope(&self, ScopeName(group, partition): &ScopeName) -> Digester {
        let lengths = [group.len() as u64, partition.topic.len() as u64].map(u64::to_le_bytes);
        let name = [
            lengths.as_flattened(),
            group.as_bytes(),
            partition.topic.as_bytes(),
            &partition.number.to_le_bytes(),
        ];
        let derived = SipHasher24::new_with_key(&self.0).hash(&name.concat());
        Digester(SipHasher24::new_with_key(&derived.as_bytes()))
    }
}

/// Makes the digests of one scope.
#[derive(Clone, Copy)]
pub(crate) struct Digester(SipHasher24);

impl Digester {
    pub(crate) fn digest(&self, key: &[u8]) -> Digest {
        let hash = self.0.hash(key);
        Digest { high: hash.h1, low: hash.h2 }
    }
}
