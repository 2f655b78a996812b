//! The wall clock, injected. The monotonic clock is tokio's, which a test can pause.

use std::time::Duration;

use crate::message::EpochMs;

/// Tells the time of day. Used for due times, timestamps and ages, never for order.
pub trait WallClock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May jump either way.
    fn now(&self) -> EpochMs;

    /// The same in nanoseconds, as fine as the clock has it: for spans, which may be shorter than a millisecond.
    fn now_nanos(&self) -> u64 {
        u64::try_from(self.now()).unwrap_or(0).saturating_mul(1_000_000)
    }
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now(&self) -> EpochMs {
        EpochMs::try_from(since_epoch().as_millis()).unwrap_or(EpochMs::MAX)
    }

    fn now_nanos(&self) -> u64 {
        u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the clock is injected from")]
fn since_epoch() -> Duration {
    // A clock before 1970 reads as 1970: ages are then too large, nothing is lost by it.
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}
