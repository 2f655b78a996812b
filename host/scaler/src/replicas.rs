//! Replicas: how many hosts are wanted for what is due, by the time it takes to handle it.

use crate::settings::Settings;

/// `due / (rate × drain_within)`, or `due / lag_per_replica` while no rate is known; at least one while anything is due,
/// never more than partitions, since a host without one would stand idle.
pub(crate) fn wanted(due: u64, partitions: u32, rate: Option<f64>, settings: &Settings) -> u32 {
    if due == 0 {
        return 0;
    }
    let most = partitions.min(settings.max_replicas.unwrap_or(u32::MAX)).max(1);
    let in_time = rate.map(|rate| rate * settings.drain_within.as_secs_f64());
    let in_time = in_time.filter(|messages| messages.is_finite() && *messages > 0.0);
    let wanted = match in_time {
        // The cast ends at the type's bounds, whatever the quotient is.
        Some(messages) => (due as f64 / messages).ceil() as u64,
        None => due.div_ceil(settings.lag_per_replica.max(1)),
    };
    u32::try_from(wanted).unwrap_or(u32::MAX).clamp(1, most)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(drain_seconds: u64, max_replicas: Option<u32>) -> Settings {
        let drain_within = Duration::from_secs(drain_seconds);
        Settings { drain_within, lag_per_replica: 1000, max_replicas }
    }

    #[test]
    fn nothing_due_wants_nobody_and_one_message_wants_one_host() {
        assert_eq!(wanted(0, 12, Some(5.0), &settings(120, None)), 0);
        assert_eq!(wanted(1, 12, Some(1e9), &settings(120, None)), 1);
        assert_eq!(wanted(1, 12, None, &settings(120, None)), 1);
    }

    #[test]
    fn so_many_as_drain_it_in_time() {
        // 10 a second for 120 s: a host handles 1200.
        assert_eq!(wanted(6_000, 12, Some(10.0), &settings(120, None)), 5);
        assert_eq!(wanted(6_001, 12, Some(10.0), &settings(120, None)), 6);
        assert_eq!(wanted(6_000, 12, Some(10.0), &settings(60, None)), 10, "half the time");
    }

    #[test]
    fn while_no_rate_is_known_the_lag_counts() {
        assert_eq!(wanted(2_500, 12, None, &settings(120, None)), 3);
    }

    #[test]
    fn never_more_than_partitions_nor_than_was_allowed() {
        assert_eq!(wanted(1_000_000, 6, None, &settings(120, None)), 6);
        assert_eq!(wanted(1_000_000, 6, Some(0.001), &settings(120, Some(4))), 4);
        assert_eq!(wanted(1_000_000, 6, None, &settings(120, Some(40))), 6);
    }

    #[test]
    fn no_rate_makes_it_infinite_or_no_number() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, f64::MAX] {
            for due in [1, 5_000, u64::MAX] {
                let wanted = wanted(due, 8, Some(rate), &settings(120, None));
                assert!((1..=8).contains(&wanted), "rate {rate}, due {due}: {wanted}");
            }
        }
        // A rate that is none is as good as unknown.
        assert_eq!(wanted(2_500, 12, Some(f64::NAN), &settings(120, None)), 3);
        assert_eq!(wanted(2_500, 12, Some(0.0), &settings(120, None)), 3);
    }
}
