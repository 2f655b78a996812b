//! Pacing: runs a guest within its time limit, measures how long it ran, and rests it if its plugin is
//! held back.
//!
//! `instance` runs every start and every call through it; `conduct` says who is held back. Only the
//! time in which the guest is polled counts as run, so one that waits burns nothing.
//!
//! Invariants:
//! - a plugin that is held back rests nine times as long as it ran: within a call each time it has run
//!   for [`SLICE`], and after a fault for what is left;
//! - what a call that ended well ran since its last rest is forgotten, so calls shorter than a slice are
//!   never slowed, held back or not;
//! - rests don't count against the time limit. A call holds its worker for at most ten time limits.
//!
//! Limit: a rest lasts at most [`REST_MAX`], however long a guest ran before it was held back.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::conduct::Conduct;

/// So long a guest that is held back runs before it rests. Two ticks: calls of plain plugins are far
/// shorter, and the neighbours on its worker wait no longer than for any guest.
const SLICE: Duration = Duration::from_millis(10);

/// How many times as long as it ran a guest rests that is held back: it runs a tenth of the time.
const RESTS_PER_RUN: u32 = 9;

/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(1);

/// So much run time is told to the record at a time: it is shared, and calls take microseconds.
const EARNED_AT_ONCE: Duration = Duration::from_millis(1);

/// What holding back has come to since a plugin was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rests {
    /// How many rests there were.
    pub count: u64,
    /// How long they were together.
    pub time: Duration,
}

/// What the paces of a plugin's instances share. Locked for a few instructions, never across a wait.
#[derive(Debug)]
pub(crate) struct SharedConduct {
    pipeline: Arc<str>,
    plugin: Arc<str>,
    record: Mutex<(Conduct, Rests)>,
}

impl SharedConduct {
    pub(crate) fn new(pipeline: Arc<str>, plugin: Arc<str>, conduct: Conduct) -> Arc<Self> {
        Arc::new(Self { pipeline, plugin, record: Mutex::new((conduct, Rests::default())) })
    }

    pub(crate) fn rests(&self) -> Rests {
        self.lock().1
    }

    fn is_held_back(&self) -> bool {
        self.lock().0.is_held_back(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, (Conduct, Rests)> {
        // Numbers, each whole at any time.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a guest's run ended.
pub(crate) struct Run<T> {
    /// What it returned; `None` if its time was up.
    pub(crate) returned: Option<T>,
    /// What it took.
    pub(crate) cost: Cost,
}

/// What a start or call of a guest took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// How long the guest ran.
    pub(crate) ran: Duration,
    /// How much of that was after its last rest.
    unrested: Duration,
    /// How long it rested.
    pub(crate) rested: Duration,
}

impl Cost {
    fn add(&mut self, ran: Duration) {
        self.ran += ran;
        self.unrested += ran;
    }

    /// Drops what is left of an instance. Giving back the memory of one that filled it takes as long as
    /// many calls.
    pub(crate) fn add_dropping<T>(&mut self, instance: T) {
        let begin = Instant::now();
        drop(instance);
        self.add(begin.elapsed());
    }
}

/// Why a guest was stopped.
enum Stop<T> {
    Returned(T),
    TimeUp,
    SliceUsed,
}

/// One instance's pace.
#[derive(Debug)]
pub(crate) struct Pace {
    conduct: Arc<SharedConduct>,
    /// Ran for nothing while it was held back, and has not rested for it.
    owed: Duration,
    /// Ran in calls that ended well, and is not yet in the record.
    earned: Duration,
    /// Rested, and not told yet.
    rested: Duration,
}

impl Pace {
    pub(crate) fn new(conduct: Arc<SharedConduct>) -> Self {
        let none = Duration::ZERO;
        Self { conduct, owed: none, earned: none, rested: none }
    }

    /// How long it rested since this was asked last.
    pub(crate) fn take_rested(&mut self) -> Duration {
        std::mem::take(&mut self.rested)
    }

    /// Runs a start or call of a guest. Dropping the future drops the guest's.
    pub(crate) async fn run<F: Future>(
        &mut self,
        time_limit: Duration,
        guest: F,
    ) -> Run<F::Output> {
        let mut guest = pin!(guest);
        let begin = Instant::now();
        let mut deadline = pin!(sleep_until(begin + time_limit));
        let mut cost = Cost::default();
        // Asking for the time is a part of a short call's cost: once at its begin, once at its end.
        let mut resumed = Some(begin);
        loop {
            let stop = poll_fn(|context| {
                let from = resumed.take().unwrap_or_else(Instant::now);
                let polled = guest.as_mut().poll(context);
                let now = Instant::now();
                cost.add(now.duration_since(from));
                if let Poll::Ready(returned) = polled {
                    return Poll::Ready(Stop::Returned(returned));
                }
                // By the clock too: a guest whose host calls have used up the task's budget (of
                // tokio) would keep the timer from ever being looked at.
                if now >= deadline.deadline() || deadline.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Stop::TimeUp);
                }
                if self.owed + cost.unrested >= SLICE && self.conduct.is_held_back() {
                    return Poll::Ready(Stop::SliceUsed);
                }
                Poll::Pending
            })
            .await;
            let returned = match stop {
                Stop::Returned(returned) => Some(returned),
                Stop::TimeUp => None,
                Stop::SliceUsed => {
                    self.owed += std::mem::take(&mut cost.unrested);
                    let rested = self.rest().await;
                    cost.rested += rested;
                    let later = deadline.deadline() + rested;
                    deadline.as_mut().reset(later);
                    continue;
                }
            };
            return Run { returned, cost };
        }
    }

    /// After a call that ended well, whatever its outcome.
    pub(crate) fn ended_well(&mut self, cost: Cost) {
        self.earned += cost.ran;
        if self.earned >= EARNED_AT_ONCE {
            let earned = std::mem::take(&mut self.earned);
            self.conduct.lock().0.ended_well(earned, Instant::now());
        }
    }

    /// Charges what faults cost: a call or start that failed, and the start of a replacement.
    pub(crate) fn burnt(&mut self, cost: Cost) {
        let now = Instant::now();
        let (was_held_back, news) = {
            let conduct = &mut self.conduct.lock().0;
            let was_held_back = conduct.is_held_back(now);
            conduct.burnt(cost.ran, now);
            (was_held_back, conduct.is_news(now))
        };
        // What it ran before it was held back is not owed.
        self.owed = if was_held_back { self.owed + cost.unrested } else { Duration::ZERO };
        if news {
            tracing::warn!(
                pipeline = %self.conduct.pipeline,
                plugin = %self.conduct.plugin,
                "the plugin runs longer in calls that fault than in others and is held back: its \
                 faults, and calls of more than 10 ms, take up to ten times as long; see its dead \
                 letters"
            );
        }
    }

    /// After a fault: rests if that is owed.
    pub(crate) async fn settle(&mut self) {
        if self.owed >= SLICE {
            self.rest().await;
        }
    }

    /// Rests for what is owed; says how long that took.
    async fn rest(&mut self) -> Duration {
        let begin = Instant::now();
        let owed = std::mem::take(&mut self.owed);
        sleep(owed.saturating_mul(RESTS_PER_RUN).min(REST_MAX)).await;
        let time = begin.elapsed();
        self.rested += time;
        let rests = &mut self.conduct.lock().1;
        rests.count += 1;
        rests.time += time;
        time
    }
}
