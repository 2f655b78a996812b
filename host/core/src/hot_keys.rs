//! Hot keys: the keys with the largest share of a partition's attempts, and of the time they take.
//!
//! Beside `partition`, which notes every attempt; shown by `status` and as a metric. A key is handled one message at a
//! time, so one that is hot is the bound of its partition, and more hosts do not help.
//!
//! SpaceSaving (Metwally, Agrawal, El Abbadi 2005): [`KEYS_MAX`] counters; a key without one takes the smallest
//! over with its count, which is noted as the error. So a key with more than one part in `KEYS_MAX` has a counter, and
//! a share that is shown (count less error) is never more than the key has. Half of all counts is forgotten once
//! a [`WINDOW`], so what is shown is of the last minutes.
//!
//! Limits: two times [`KEYS_MAX`] keys of at most [`KEY_BYTES_MAX`] bytes. Beyond a thousand attempts a window one
//! in eight is noted, chosen at random: every eighth would be the same key of eight that take turns.

use std::hash::Hasher as _;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHasher;
use serde::Serialize;
use tokio::time::Instant;

/// Counters of a sketch.
pub const KEYS_MAX: usize = 64;
/// What is kept of a key; one that is longer is shown cut off.
pub const KEY_BYTES_MAX: usize = 128;
/// How often half of what was counted is forgotten.
pub const WINDOW: Duration = Duration::from_secs(60);
/// So many attempts of a window are all noted.
const NOTED_MAX: u32 = 1024;
/// Then one in so many.
const SAMPLE: u64 = 8;
/// With fewer attempts in the last minutes no key is called hot.
const ATTEMPTS_MIN: u64 = 100;
/// Where attempts took less than this in the last minutes, no key is called hot by its time: a partition that has
/// next to nothing to do is not bound by one, and a single first call would be most of it.
const TIME_MIN_NANOS: u64 = 1_000_000_000;
/// A key with less is not shown.
const SHARE_MIN: f64 = 0.01;
/// So many keys are shown.
const SHOWN_MAX: usize = 5;

/// A key and its shares of the last minutes, each from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HotKey {
    /// The key, its bytes that are no UTF-8 replaced; cut off after [`KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// Share of the partition's attempts.
    pub of_attempts: f64,
    /// Share of the time that attempts took; 0 if that is too little to matter.
    pub of_time: f64,
}

/// See the module.
#[derive(Debug)]
pub struct HotKeys {
    attempts: Sketch,
    time: Sketch,
    noted: u32,
    random: u64,
    window_ends: Instant,
}

impl HotKeys {
    /// Nothing yet.
    pub fn new(now: Instant) -> Self {
        Self {
            attempts: Sketch::default(),
            time: Sketch::default(),
            noted: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            window_ends: now + WINDOW,
        }
    }

    /// Notes an attempt at a message of this key.
    pub fn note(&mut self, key: Option<&Bytes>, took: Duration) {
        self.noted = self.noted.saturating_add(1);
        let weight = match self.noted > NOTED_MAX {
            true if !self.draw().is_multiple_of(SAMPLE) => return,
            true => SAMPLE,
            false => 1,
        };
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.attempts.add(key, weight);
        self.time.add(key, nanos.saturating_mul(weight));
    }

    /// Forgets half of what was counted if a window is over.
    pub fn look_at_clock(&mut self, now: Instant) {
        if now < self.window_ends {
            return;
        }
        self.window_ends = now + WINDOW;
        self.noted = 0;
        self.attempts.halve();
        self.time.halve();
    }

    /// The hottest keys, by the larger of their shares.
    pub fn top(&self) -> Vec<HotKey> {
        if self.attempts.total < ATTEMPTS_MIN {
            return Vec::new();
        }
        let counters = self.attempts.counters.iter().chain(&self.time.counters);
        let counts_time = self.time.total >= TIME_MIN_NANOS;
        let mut keys: Vec<(u64, HotKey)> = Vec::new();
        for counter in counters {
            if keys.iter().any(|(hash, _)| *hash == counter.hash) {
                continue;
            }
            let hot = HotKey {
                key: String::from_utf8_lossy(&counter.key).into_owned(),
                of_attempts: self.attempts.share(counter.hash),
                of_time: if counts_time { self.time.share(counter.hash) } else { 0.0 },
            };
            if share(&hot) >= SHARE_MIN {
                keys.push((counter.hash, hot));
            }
        }
        let mut keys: Vec<HotKey> = keys.into_iter().map(|(_, hot)| hot).collect();
        keys.sort_by(|a, b| share(b).total_cmp(&share(a)).then_with(|| a.key.cmp(&b.key)));
        keys.truncate(SHOWN_MAX);
        keys
    }

    /// Xorshift: which attempts are noted need not be unpredictable, only unrelated to the keys' order.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 32
    }
}

fn share(hot: &HotKey) -> f64 {
    hot.of_attempts.max(hot.of_time)
}

#[derive(Debug)]
struct Counter {
    hash: u64,
    /// A copy: a slice of the message would keep its whole batch in memory.
    key: Box<[u8]>,
    weight: u64,
    error: u64,
}

#[derive(Debug, Default)]
struct Sketch {
    counters: Vec<Counter>,
    total: u64,
}

impl Sketch {
    fn add(&mut self, key: Option<&Bytes>, weight: u64) {
        self.total = self.total.saturating_add(weight);
        let Some(key) = key else { return };
        let mut hasher = FxHasher::default();
        hasher.write(key);
        let hash = hasher.finish();
        if let Some(counter) = self.counters.iter_mut().find(|counter| counter.hash == hash) {
            counter.weight = counter.weight.saturating_add(weight);
            return;
        }
        let kept = || key.get(..KEY_BYTES_MAX).unwrap_or(key).into();
        if self.counters.len() < KEYS_MAX {
            self.counters.push(Counter { hash, key: kept(), weight, error: 0 });
            return;
        }
        let Some(least) = self.counters.iter_mut().min_by_key(|counter| counter.weight) else {
            return;
        };
        let error = least.weight;
        *least = Counter { hash, key: kept(), weight: error.saturating_add(weight), error };
    }

    fn halve(&mut self) {
        self.total /= 2;
        for counter in &mut self.counters {
            counter.weight /= 2;
            // Rounded up: what is shown stays at most what the key has.
            counter.error = counter.error.div_ceil(2);
        }
        self.counters.retain(|counter| counter.weight > counter.error);
    }

    #[expect(clippy::cast_precision_loss, reason = "a share of what was counted")]
    fn share(&self, hash: u64) -> f64 {
        let counter = self.counters.iter().find(|counter| counter.hash == hash);
        let sure = counter.map_or(0, |counter| counter.weight.saturating_sub(counter.error));
        if self.total == 0 { 0.0 } else { sure as f64 / self.total as f64 }
    }
}

#[cfg(test)]
mod tests;
