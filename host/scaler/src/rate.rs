//! Rate: how many messages a host handles in a second, measured by what its group has committed.
//!
//! Only a host that has enough to do shows how fast it is. So an interval counts when all that was settled in it was
//! due when it began; otherwise hosts may have waited for messages, and what was settled is a lower bound, which
//! raises the rate and never lowers it.
//!
//! Hosts that have just come make their topics, read their tiers and load what they need first: an interval begins when
//! the first progress of the same hosts was seen.
//!
//! An interval without progress is not a rate of zero: a long call is under way, a host starts, a dependency is away. It
//! goes on until there is progress, for at most [`INTERVAL_MAX`].

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::message::{Offset, Partition};
use tokio::time::Instant;

/// Commits come in steps (a second by default); what is shorter measures the steps.
const INTERVAL_MIN: Duration = Duration::from_secs(4);
/// Without progress for so long something else is wrong than speed.
const INTERVAL_MAX: Duration = Duration::from_secs(600);
/// A change of speed is believed to two thirds after this time.
const SMOOTHED_OVER: Duration = Duration::from_secs(60);

/// One look at a group.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// When.
    pub(crate) at: Instant,
    /// Where the commits are, of every partition that has one.
    pub(crate) next: BTreeMap<Partition, Offset>,
    /// What was due.
    pub(crate) due: u64,
    /// How many hosts worked; 0 also while nobody can tell who does.
    pub(crate) hosts: u32,
    /// Whether the cluster told that, or it is assumed.
    pub(crate) are_told: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct HostRate {
    /// The look the interval began with; none while nothing is due or nobody works.
    began: Option<Sample>,
    /// Whether these hosts have made progress before it began.
    warm: bool,
    /// Messages a second and host; finite and above zero.
    rate: Option<f64>,
}

impl HostRate {
    /// What is known by now.
    pub(crate) fn known(&self) -> Option<f64> {
        self.rate
    }

    /// Takes a look into account.
    pub(crate) fn observe(&mut self, sample: Sample) {
        if sample.hosts == 0 {
            (self.began, self.warm) = (None, false);
            return;
        }
        if let Some(began) = &self.began {
            let time = sample.at.saturating_duration_since(began.at);
            let same = began.hosts == sample.hosts && began.next.keys().eq(sample.next.keys());
            let progress = same.then(|| progress(&began.next, &sample.next)).flatten();
            match progress {
                // Those that are assumed may not be there yet.
                Some(0) if sample.are_told && time < INTERVAL_MAX => return,
                Some(1..) if !self.warm => self.warm = true,
                Some(_) if time < INTERVAL_MIN => return,
                Some(progress) if progress > 0 => {
                    let measured = progress as f64 / time.as_secs_f64() / f64::from(sample.hosts);
                    self.believe(measured, began.due >= progress, time);
                }
                // Hosts or partitions have changed, or a commit went back: it cannot be compared.
                _ => self.warm = false,
            }
        }
        self.began = (sample.due > 0).then_some(sample);
        self.warm &= self.began.is_some();
    }

    fn believe(&mut self, measured: f64, was_busy: bool, time: Duration) {
        let part = 1.0 - (-time.as_secs_f64() / SMOOTHED_OVER.as_secs_f64()).exp();
        self.rate = match self.rate {
            None if was_busy => Some(measured),
            Some(rate) if was_busy || measured > rate => Some(rate + (measured - rate) * part),
            unchanged => unchanged,
        };
    }
}

/// How many offsets were passed; `None` if one went back.
fn progress(
    before: &BTreeMap<Partition, Offset>,
    after: &BTreeMap<Partition, Offset>,
) -> Option<u64> {
    let steps = before.values().zip(after.values());
    steps.map(|(before, after)| after.checked_sub(*before)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history: looks at these seconds, with what is settled, due, and how many hosts work.
    fn after(looks: &[(u64, u64, u64, u32)]) -> Option<f64> {
        let start = Instant::now();
        let mut rate = HostRate::default();
        let mut look = |at, settled, due, hosts| {
            let next = BTreeMap::from([(Partition::new("orders", 0), settled)]);
            rate.observe(Sample { at, next, due, hosts, are_told: true });
        };
        // They have settled a message before.
        if let Some((_, settled, _, hosts)) = looks.first() {
            look(start, *settled, 1, *hosts);
        }
        for (second, settled, due, hosts) in looks {
            look(start + Duration::from_secs(1 + second), settled + 1, *due, *hosts);
        }
        rate.known()
    }

    #[test]
    fn hosts_that_have_enough_to_do_show_their_rate() {
        assert_eq!(after(&[(0, 0, 10_000, 2), (5, 1_000, 9_000, 2)]), Some(100.0));
    }

    #[test]
    fn nothing_is_known_from_one_look_or_from_hosts_that_waited_for_messages() {
        assert_eq!(after(&[(0, 0, 10_000, 2)]), None);
        // 50 were due, 60 were settled: ten came meanwhile, and for how long nothing was there nobody knows.
        assert_eq!(after(&[(0, 0, 50, 1), (60, 60, 5, 1)]), None);
        assert_eq!(after(&[(0, 0, 0, 1), (60, 60, 5, 1)]), None, "nothing was due");
    }

    #[test]
    fn a_trickle_does_not_make_a_fast_host_slow() {
        let busy = [(0, 0, 10_000, 1), (5, 1_000, 9_000, 1), (50, 10_000, 5, 1)];
        let trickle = (1..100).map(|n| (50 + n * 5, 10_000 + n * 6, 5, 1));
        let rate = after(&busy.into_iter().chain(trickle).collect::<Vec<_>>());
        assert!(rate.is_some_and(|rate| (rate - 200.0).abs() < 1.0), "{rate:?}");
    }

    #[test]
    fn what_was_faster_than_known_raises_the_rate_even_if_hosts_waited() {
        let rate = after(&[(0, 0, 10_000, 1), (5, 50, 9_950, 1), (65, 12_050, 0, 1)]);
        assert!(rate.is_some_and(|rate| rate > 100.0), "{rate:?}");
    }

    #[test]
    fn an_interval_without_progress_is_no_rate_of_zero_but_part_of_a_longer_one() {
        let slow = [(0, 0, 100, 1), (5, 0, 100, 1), (10, 0, 100, 1), (60, 6, 94, 1)];
        assert_eq!(after(&slow), Some(0.1), "six messages in a minute");
        assert_eq!(after(&[(0, 0, 100, 1), (5, 0, 100, 1)]), None);
        // What stood still for an hour and goes on was not slow.
        let stood = [
            (0, 0, 10_000, 1),
            (3_600, 0, 10_000, 1),
            (3_605, 90, 9_910, 1),
            (3_610, 590, 9_410, 1),
        ];
        assert_eq!(after(&stood), Some(100.0));
    }

    #[test]
    fn looks_before_and_after_a_change_are_not_compared() {
        assert_eq!(after(&[(0, 0, 10_000, 1), (5, 1_000, 9_000, 2)]), None, "a host joined");
        assert_eq!(after(&[(0, 500, 10_000, 1), (5, 0, 9_000, 1)]), None, "a commit went back");
        assert_eq!(after(&[(0, 0, 10_000, 0), (5, 1_000, 9_000, 0)]), None, "nobody works");
        let mut rate = HostRate::default();
        let at = Instant::now();
        let of = |topics: &[&str], second: u64, settled: u64| Sample {
            at: at + Duration::from_secs(second),
            next: topics.iter().map(|topic| (Partition::new(*topic, 0), settled)).collect(),
            due: 10_000,
            hosts: 1,
            are_told: true,
        };
        rate.observe(of(&["orders"], 0, 0));
        rate.observe(of(&["orders", "orders.retry.5s"], 5, 1_000));
        assert_eq!(rate.known(), None, "a tier came");
        rate.observe(of(&["orders", "orders.retry.5s"], 10, 1_100));
        assert_eq!(rate.known(), None, "they have just begun");
        rate.observe(of(&["orders", "orders.retry.5s"], 15, 1_600));
        assert_eq!(rate.known(), Some(200.0));
    }

    #[test]
    fn what_a_host_does_first_does_not_make_it_slow() {
        let at = Instant::now();
        let mut rate = HostRate::default();
        for (second, settled) in [(0, 0), (5, 0), (10, 5), (15, 505)] {
            let at = at + Duration::from_secs(second);
            let next = BTreeMap::from([(Partition::new("orders", 0), settled)]);
            rate.observe(Sample { at, next, due: 10_000, hosts: 1, are_told: true });
        }
        assert_eq!(rate.known(), Some(100.0));
    }

    #[test]
    fn hosts_that_are_only_assumed_are_not_slow_before_they_are_there() {
        let at = Instant::now();
        let mut rate = HostRate::default();
        for (second, settled) in [(0, 0), (5, 0), (300, 0), (305, 20), (310, 520)] {
            let at = at + Duration::from_secs(second);
            let next = BTreeMap::from([(Partition::new("orders", 0), settled)]);
            rate.observe(Sample { at, next, due: 10_000, hosts: 1, are_told: false });
        }
        assert_eq!(rate.known(), Some(100.0));
    }

    #[test]
    fn a_change_of_speed_is_believed_by_and_by() {
        let looks: Vec<_> = (0..=12).map(|n| (n * 5, n * 500, 1_000_000, 1)).collect();
        let slower = (1..=12).map(|n| (60 + n * 5, 6_000 + n * 50, 1_000_000, 1));
        let rate = after(&looks.iter().copied().chain(slower).collect::<Vec<_>>());
        assert_eq!(after(&looks), Some(100.0));
        assert!(rate.is_some_and(|rate| (40.0..45.0).contains(&rate)), "{rate:?}");
    }
}
