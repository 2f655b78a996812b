//! `wasi:clocks`, derived: a replay of the same attempt reads the same times.
//!
//! Both clocks start a call at the message's time (or at a pinned one) and advance by one
//! microsecond with each reading, so that a loop that waits for time to pass sees it pass. Waiting
//! is real, up to the call's time limit, and advances the clocks by what was waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use millstream_core::message::EpochMs;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use crate::instance::State;

/// How far a reading advances the clocks.
const READING_NS: u64 = 1_000;

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// Where a plugin's clocks start a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// At the time the message was first written: the same in every replay of it.
    #[default]
    Derived,
    /// Always at this time: for tests, whose messages have no time of their own.
    Pinned(EpochMs),
}

/// The clocks of one instance.
pub(crate) struct GuestClock {
    start: Clock,
    /// Nanoseconds since the Unix epoch, as the guest sees them; shared with what it waits for.
    now_ns: Arc<AtomicU64>,
}

impl GuestClock {
    pub(crate) fn new(start: Clock) -> Self {
        let clock = Self { start, now_ns: Arc::default() };
        clock.begin(0);
        clock
    }

    /// A call begins, with a message of this time. A time before 1970 counts as 1970.
    pub(crate) fn begin(&self, timestamp: EpochMs) {
        let start = match self.start {
            Clock::Derived => timestamp,
            Clock::Pinned(pinned) => pinned,
        };
        let start_ns = u64::try_from(start).unwrap_or(0).saturating_mul(NS_PER_MS);
        self.now_ns.store(start_ns, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.now_ns.fetch_add(READING_NS, Ordering::Relaxed)
    }
}

/// The clocks and the table that holds what the guest waits for.
pub(crate) struct ClockView<'a> {
    clock: &'a GuestClock,
    table: &'a mut ResourceTable,
}

struct HasClock;

impl HasData for HasClock {
    type Data<'a> = ClockView<'a>;
}

/// Adds both clocks.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    fn view(state: &mut State) -> ClockView<'_> {
        ClockView { clock: &state.clock, table: &mut state.table }
    }
    wall_clock::add_to_linker::<State, HasClock>(linker, view)?;
    monotonic_clock::add_to_linker::<State, HasClock>(linker, view)
}

impl wall_clock::Host for ClockView<'_> {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let now = self.clock.read();
        // The remainder is below 10^9, so the conversion never falls back.
        let nanoseconds = u32::try_from(now % NS_PER_SECOND).unwrap_or(0);
        Ok(wall_clock::Datetime { seconds: now / NS_PER_SECOND, nanoseconds })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 1_000 })
    }
}

impl monotonic_clock::Host for ClockView<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.read())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(READING_NS)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = self.clock.read();
        self.wait(when.saturating_sub(now))
    }

    fn subscribe_duration(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.wait(when)
    }
}

impl ClockView<'_> {
    fn wait(&mut self, for_ns: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let until_ns = self.clock.now_ns.load(Ordering::Relaxed).saturating_add(for_ns);
        // Beyond the clock's end: the time limit of the call comes first anyway.
        let until = tokio::time::Instant::now().checked_add(Duration::from_nanos(for_ns));
        let wait = Wait { until, until_ns, now_ns: self.clock.now_ns.clone() };
        let wait = self.table.push(wait)?;
        subscribe(self.table, wait)
    }
}

/// What a guest waits for.
struct Wait {
    /// In the host's time; `None` never comes.
    until: Option<tokio::time::Instant>,
    /// In the guest's time.
    until_ns: u64,
    now_ns: Arc<AtomicU64>,
}

#[async_trait]
impl Pollable for Wait {
    async fn ready(&mut self) {
        match self.until {
            Some(until) if until <= tokio::time::Instant::now() => {
                // A guest that polls with no time to wait must not starve its worker.
                tokio::task::yield_now().await;
            }
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
        self.now_ns.fetch_max(self.until_ns, Ordering::Relaxed);
    }
}
