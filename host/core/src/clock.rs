//! The wall clock, injected. The monotonic clock is tokio's, which a test can pause.

use crate::message::EpochMs;

/// Tells the time of day. Used for due times, timestamps and ages, never for order.
pub trait WallClock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May jump either way.
    fn now(&self) -> EpochMs;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is injected from")]
    fn now(&self) -> EpochMs {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock before 1970 reads as 1970: ages are then too large, nothing is lost by it.
        since_epoch.map_or(0, |d| EpochMs::try_from(d.as_millis()).unwrap_or(EpochMs::MAX))
    }
}
