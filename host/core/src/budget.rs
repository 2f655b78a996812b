//! Budget: how many messages and bytes of a pipeline's sources are in flight.
//!
//! Taken by `intake` when messages arrive, given back when they are settled; nobody else takes, and
//! nobody waits for it but intake. Messages of retry tiers do not take from it: they have small
//! bounds of their own, so that a full budget (of waiting or paused messages) never keeps out the
//! retries that would empty it.
//!
//! Invariants: the count never exceeds the bound; the bytes exceed theirs by one message at most
//! (its size is known only when it is there), so a message larger than the whole budget goes alone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::log::Room;

/// See the module.
#[derive(Debug)]
pub struct Budget {
    messages_max: usize,
    bytes_max: usize,
    messages: AtomicUsize,
    bytes: AtomicUsize,
    given_back: Notify,
}

impl Budget {
    /// A budget of so many messages and bytes.
    pub fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self {
            messages_max,
            bytes_max,
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            given_back: Notify::new(),
        }
    }

    /// What may still be taken; nothing if either bound is reached.
    pub fn room(&self) -> Room {
        let (messages, bytes) = self.taken();
        let room = Room {
            messages: self.messages_max.saturating_sub(messages),
            bytes: self.bytes_max.saturating_sub(bytes),
        };
        if room.messages == 0 || room.bytes == 0 { Room { messages: 0, bytes: 0 } } else { room }
    }

    /// Takes for messages that arrived.
    pub fn take(&self, messages: usize, bytes: usize) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back for messages that were settled or abandoned.
    pub fn give_back(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.given_back.notify_one();
    }

    /// Messages and bytes in flight.
    pub fn taken(&self) -> (usize, usize) {
        (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Waits until something is given back. Cancel-safe.
    pub async fn freed(&self) {
        self.given_back.notified().await;
    }
}

/// One partition's part of the budget; what is left of it goes back when it is dropped, so an
/// abandoned partition can't leak.
#[derive(Debug)]
pub struct Share {
    budget: std::sync::Arc<Budget>,
    messages: AtomicUsize,
    bytes: AtomicUsize,
    /// Whether intake brings in nothing more for now.
    paused: AtomicBool,
}

impl Share {
    /// An empty share.
    pub fn new(budget: std::sync::Arc<Budget>) -> Self {
        Self {
            budget,
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
        }
    }

    /// Takes from the budget for this partition.
    pub fn take(&self, messages: usize, bytes: usize) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.take(messages, bytes);
    }

    /// Gives back what this partition has settled.
    pub fn give_back(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.give_back(messages, bytes);
    }

    /// Intake says whether it brings in more.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Whether nothing more comes in until something of this partition is settled.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Bytes this partition has in flight.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Messages this partition has in flight.
    pub fn messages(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let messages = self.messages.load(Ordering::Relaxed);
        let bytes = self.bytes.load(Ordering::Relaxed);
        self.budget.give_back(messages, bytes);
    }
}
