//! Rounds: when the partitions of a pipeline send their transactions, so that they send them together.
//!
//! Between `partition` and `settle`, with `exactly_once` on a log whose transactions are costly. Such a log makes
//! one transaction of calls that come together, and has one at a time (Kafka: for each producer); a partition
//! that sends by itself makes all others wait for a transaction of its own, and they it.
//!
//! Invariants:
//! - while a round is under way nobody begins another: who comes late keeps gathering;
//! - from one beginning to the next there is at least the interval, from an end to the next beginning at least a
//!   part of it; who has nothing more to gather need not wait for that;
//! - a call that is dropped, or failed and waits before it is repeated, is in no round.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// So long after its beginning a round may be joined: on a busy machine not all partitions are awake at once.
const JOIN: Duration = Duration::from_millis(4);

/// The pause after a round is this part of the interval.
const PAUSE_PART: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Rounds {
    every: Duration,
    round: Mutex<Round>,
}

/// The round that is under way, or was the last.
#[derive(Debug)]
struct Round {
    began: Instant,
    /// Calls that are under way in it.
    calls: usize,
    /// When the next one begins.
    next: Instant,
    /// Who is told of its end, in the order they came: not a `watch`, which wakes in no order that a seed repeats.
    told: Vec<Weak<Notify>>,
}

/// A call in a round; dropped when it has ended.
#[derive(Debug)]
pub(crate) struct InRound(Arc<Rounds>);

impl Rounds {
    /// A round each `every`; zero makes no rounds, everybody begins at once.
    pub(crate) fn new(every: Duration) -> Self {
        let now = Instant::now();
        let round = Round { began: now, calls: 0, next: now, told: Vec::new() };
        Self { every, round: Mutex::new(round) }
    }

    /// To be told of every round's end, as long as it is kept.
    pub(crate) fn subscribe(&self) -> Arc<Notify> {
        let notify = Arc::new(Notify::new());
        let told = &mut self.lock().told;
        told.retain(|told| told.strong_count() > 0);
        told.push(Arc::downgrade(&notify));
        notify
    }

    /// Whether a call may begin now; `all_gathered` says that waiting would bring nothing more into it.
    pub(crate) fn may_begin(&self, all_gathered: bool) -> bool {
        let (round, now) = (self.lock(), Instant::now());
        match round.calls {
            0 => all_gathered || now >= round.next,
            _ => self.every.is_zero() || now.saturating_duration_since(round.began) <= JOIN,
        }
    }

    /// When the next round begins; `None` if that is told by the end of the one under way.
    pub(crate) fn next(&self) -> Option<Instant> {
        let round = self.lock();
        (round.calls == 0).then_some(round.next)
    }

    /// Begins a round, or joins the one under way.
    pub(crate) fn enter(self: &Arc<Self>) -> InRound {
        let mut round = self.lock();
        if round.calls == 0 {
            round.began = Instant::now();
        }
        round.calls += 1;
        InRound(Arc::clone(self))
    }

    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InRound {
    fn drop(&mut self) {
        let every = self.0.every;
        let mut round = self.0.lock();
        round.calls -= 1;
        if round.calls > 0 || every.is_zero() {
            return;
        }
        round.next = (round.began + every).max(Instant::now() + every / PAUSE_PART);
        // A permit is kept for who is not waiting just now.
        round.told.retain(|told| told.upgrade().inspect(|told| told.notify_one()).is_some());
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const EVERY: Duration = Duration::from_millis(40);

    async fn pass(millis: u64) {
        tokio::time::advance(Duration::from_millis(millis)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_late_waits_for_the_end_and_all_go_on_together() {
        let rounds = Arc::new(Rounds::new(EVERY));
        let told = rounds.subscribe();
        let is_told = || told.notified().now_or_never().is_some();
        assert!(rounds.may_begin(false));
        let first = rounds.enter();
        assert!(rounds.may_begin(false), "it has just begun");
        let second = rounds.enter();
        pass(5).await;
        assert!(!rounds.may_begin(true), "too late");
        assert_eq!(rounds.next(), None);
        drop(first);
        assert!(!is_told(), "one call is still under way");
        drop(second);
        assert!(is_told());
        assert!(!rounds.may_begin(false), "the interval has not passed");
        assert!(rounds.may_begin(true), "there is nothing to gather");
        assert_eq!(rounds.next(), Some(Instant::now() + EVERY - Duration::from_millis(5)));
        pass(35).await;
        assert!(rounds.may_begin(false));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_round_longer_than_the_interval_there_is_a_pause() {
        let rounds = Arc::new(Rounds::new(EVERY));
        let call = rounds.enter();
        pass(55).await;
        drop(call);
        assert_eq!(rounds.next(), Some(Instant::now() + EVERY / PAUSE_PART));
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_interval_everybody_begins_at_once() {
        let rounds = Arc::new(Rounds::new(Duration::ZERO));
        let call = rounds.enter();
        pass(2).await;
        assert!(rounds.may_begin(false));
        drop(call);
        assert!(rounds.may_begin(false));
    }
}
