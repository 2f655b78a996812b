//! Effort: how much is measured.

use std::time::Duration;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Each has every contender once.
    pub(crate) rounds: u32,
    /// Messages of 200 bytes of a throughput run.
    pub(crate) messages: u64,
    /// How long a contender is given messages at the steady rate before any is measured: a Java
    /// process still compiles itself in the first seconds.
    pub(crate) warm_up: Duration,
    /// How long messages at the steady rate are measured.
    pub(crate) steady: Duration,
}

/// Messages of a throughput run, all of one size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// Bytes of a value.
    pub(crate) value_bytes: usize,
    /// How many messages.
    pub(crate) messages: u64,
}

impl Effort {
    /// Figures worth writing down: a run takes 5 s of the fastest, a whole measurement about an hour.
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        messages: 4_500_000,
        warm_up: Duration::from_secs(5),
        steady: Duration::from_secs(20),
    };

    /// Everything runs once.
    pub(crate) const QUICK: Self = Self {
        rounds: 1,
        messages: 150_000,
        warm_up: Duration::from_secs(1),
        steady: Duration::from_secs(3),
    };

    /// About as many bytes of both sizes.
    pub(crate) fn workloads(&self) -> [Workload; 2] {
        [
            Workload { value_bytes: 200, messages: self.messages },
            Workload { value_bytes: 1024, messages: self.messages / 3 },
        ]
    }
}
