//! Effort: how much is measured.

use std::time::Duration;

use serde::Serialize;

/// How much is measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Effort {
    /// Rounds of the sandbox comparison; each measures both sides.
    pub(crate) sandbox_rounds: u32,
    /// How long one side of a round is called for.
    #[serde(skip)]
    pub(crate) sandbox_round: Duration,
    /// Rounds of the throughput comparison; each runs every loop and pipeline once.
    pub(crate) throughput_rounds: u32,
    /// Messages of each throughput run.
    pub(crate) messages: u64,
}

impl Effort {
    /// Figures worth writing down: every run takes seconds, a whole measurement minutes.
    pub(crate) const FULL: Self = Self {
        sandbox_rounds: 11,
        sandbox_round: Duration::from_millis(300),
        throughput_rounds: 5,
        messages: 2_000_000,
    };

    /// Everything runs once or twice.
    pub(crate) const QUICK: Self = Self {
        sandbox_rounds: 3,
        sandbox_round: Duration::from_millis(20),
        throughput_rounds: 1,
        messages: 50_000,
    };
}
