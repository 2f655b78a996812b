//! Figures: what several rounds of one measurement came to.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::{cpu_time, memory};

/// The median of some rounds, and how far apart they were.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rounds {
    /// The middle one; of an even number, the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Rounds {
    /// What these rounds came to; `None` if there are none.
    pub fn of(mut rounds: Vec<f64>) -> Option<Self> {
        rounds.sort_by(f64::total_cmp);
        let upper = *rounds.get(rounds.len() / 2)?;
        let lower = *rounds.get((rounds.len() - 1) / 2)?;
        let (min, max) = (*rounds.first()?, *rounds.last()?);
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }
}

/// Measures one run: its time by the clock, and of all cores.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    begin: Instant,
    cpu: Option<Duration>,
}

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// By the clock.
    pub time: Duration,
    /// Of all cores together, the storage library's own threads included.
    pub cpu: Option<Duration>,
    /// The most memory the process had meanwhile, in MiB.
    pub memory_mib: Option<f64>,
}

impl Stopwatch {
    /// Begins now.
    pub fn start() -> Self {
        memory::forget_peak();
        Self { cpu: cpu_time::used(), begin: Instant::now() }
    }

    /// What it took until now.
    pub fn took(&self) -> Took {
        let time = self.begin.elapsed();
        let cpu = cpu_time::used().zip(self.cpu).map(|(now, then)| now.saturating_sub(then));
        Took { time, cpu, memory_mib: memory::peak_mib() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        let odd = Rounds::of(vec![9.0, 1.0, 2.0]).unwrap();
        assert_eq!(odd, Rounds { median: 2.0, min: 1.0, max: 9.0 });
        let even = Rounds::of(vec![4.0, 1.0, 2.0, 100.0]).unwrap();
        assert!((even.median - 3.0).abs() < 1e-9, "the mean of 2 and 4, not {}", even.median);
        assert_eq!(Rounds::of(Vec::new()), None);
    }
}
