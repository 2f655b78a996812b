//! Digest: what stands for an idempotency key in the index, 16 bytes whatever the key.
//!
//! Two keys with one digest would make an unhandled message pass for handled, which is a loss. So the digest is
//! SipHash-2-4 with 128 bits and a secret key: a pseudo-random function, made for keys that a stranger chooses. Who
//! does not know the secret can find no two keys that collide, and among 10 billion honest keys the chance of one
//! pair is 1.5e-19. A hash that is fast and only seeded (XXH3) would do against chance, but not against somebody
//! who may choose a part of his keys and wants another's message dropped: it is not made to hide its seed.
//!
//! The secret is random, is made with the index, and never leaves its folder (whoever can read that can read the keys
//! in the log beside it). Each scope has a key of its own, derived from it, so one key in two scopes has two digests.

use std::io;

use siphasher::sip128::SipHasher24;

use crate::entry::ScopeNumber;

/// Evenly spread: where it lies in a table or a run follows from its first bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Digest {
    pub(crate) high: u64,
    pub(crate) low: u64,
}

/// What an index' digests are made with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) [u8; 16]);

// Not for logs.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    pub(crate) fn random() -> io::Result<Self> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(secret))
    }

    pub(crate) fn of_scope(&self, scope: ScopeNumber) -> Digester {
        let derived = SipHasher24::new_with_key(&self.0).hash(&scope.to_le_bytes());
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
