//! Totals: the host's metrics, as numbers to calculate with. What the console shows is what Prometheus reads.

use std::collections::BTreeMap;

use prometheus::Registry;
use prometheus::proto::{Histogram, Metric};
use tokio::time::Instant;

/// A topic, and a partition of it or a delay.
pub(super) type OfTopic<T> = BTreeMap<(String, T), f64>;

/// All pipelines at one time.
#[derive(Clone, Debug)]
pub(super) struct Totals {
    pub(super) at: Instant,
    pub(super) pipelines: BTreeMap<String, PipelineTotals>,
}

/// What one pipeline has counted, and its gauges.
#[derive(Clone, Debug, Default)]
pub(super) struct PipelineTotals {
    /// Attempts by outcome.
    pub(super) attempts: BTreeMap<String, f64>,
    /// Dead letters by the kind of their last error.
    pub(super) dead_letters: BTreeMap<String, f64>,
    /// Dead letters by source topic.
    pub(super) dead_of: BTreeMap<String, f64>,
    /// Retries by source topic and delay.
    pub(super) retries: OfTopic<String>,
    /// Outputs by topic.
    pub(super) outputs: BTreeMap<String, f64>,
    /// Failed calls to the log by operation.
    pub(super) log_errors: BTreeMap<String, f64>,
    /// Messages settled without an attempt.
    pub(super) unattempted: f64,
    /// Seconds in which attempts were held back.
    pub(super) rested: f64,
    /// How long attempts took.
    pub(super) handling: Times,
    /// By source partition.
    pub(super) lag: OfTopic<u32>,
    pub(super) due_lag: OfTopic<u32>,
    pub(super) oldest: OfTopic<u32>,
    pub(super) commit_age: OfTopic<u32>,
    pub(super) drains_in: OfTopic<u32>,
    pub(super) paused_lanes: OfTopic<u32>,
    pub(super) waiting_keys: OfTopic<u32>,
    /// By partition of a tier, and of a dead-letter topic.
    pub(super) tier_depth: OfTopic<u32>,
    pub(super) dead_letter_depth: OfTopic<u32>,
    pub(super) in_flight_messages: f64,
    pub(super) in_flight_bytes: f64,
    pub(super) guest_memory: f64,
    /// 0 after it stopped.
    pub(super) up: Option<f64>,
}

/// A histogram: its buckets by upper bound, not cumulative, and the sum.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    buckets: Vec<(f64, f64)>,
    pub(super) count: f64,
    pub(super) sum: f64,
}

impl Totals {
    /// Reads them; looks only at what is shown.
    pub(super) fn of(registry: &Registry) -> Self {
        let mut pipelines: BTreeMap<String, PipelineTotals> = BTreeMap::new();
        for family in registry.gather() {
            for metric in family.get_metric() {
                let Some(pipeline) = label(metric, "pipeline") else { continue };
                if !pipelines.contains_key(pipeline) {
                    pipelines.insert(pipeline.to_owned(), PipelineTotals::default());
                }
                if let Some(totals) = pipelines.get_mut(pipeline) {
                    totals.take(family.name(), metric);
                }
            }
        }
        Self { at: Instant::now(), pipelines }
    }
}

fn label<'a>(metric: &'a Metric, name: &str) -> Option<&'a str> {
    metric.get_label().iter().find(|label| label.name() == name).map(|label| label.value())
}

impl PipelineTotals {
    fn take(&mut self, name: &str, metric: &Metric) {
        let count = || metric.get_counter().get_value();
        let gauge = || metric.get_gauge().get_value();
        let text = |name| label(metric, name).unwrap_or_default().to_owned();
        let partition = || (text("topic"), text("partition").parse::<u32>().unwrap_or_default());
        match name {
            "millstream_attempts_total" => add(&mut self.attempts, text("outcome"), count()),
            "millstream_dead_letters_total" => {
                add(&mut self.dead_letters, text("kind"), count());
                add(&mut self.dead_of, text("topic"), count());
            }
            "millstream_retries_total" => {
                add(&mut self.retries, (text("topic"), text("delay")), count());
            }
            "millstream_outputs_total" => add(&mut self.outputs, text("topic"), count()),
            "millstream_log_errors_total" => add(&mut self.log_errors, text("operation"), count()),
            "millstream_settled_unattempted_total" => self.unattempted += count(),
            "millstream_plugin_rest_seconds_total" => self.rested += count(),
            "millstream_handling_seconds" => self.handling.add(metric.get_histogram()),
            "millstream_lag_messages" => add(&mut self.lag, partition(), gauge()),
            "millstream_due_lag_messages" => add(&mut self.due_lag, partition(), gauge()),
            "millstream_oldest_unsettled_age_seconds" => {
                add(&mut self.oldest, partition(), gauge());
            }
            "millstream_commit_age_seconds" => add(&mut self.commit_age, partition(), gauge()),
            "millstream_time_to_drain_seconds" => add(&mut self.drains_in, partition(), gauge()),
            "millstream_paused_lanes" => add(&mut self.paused_lanes, partition(), gauge()),
            "millstream_waiting_keys" => add(&mut self.waiting_keys, partition(), gauge()),
            "millstream_retry_depth_messages" => add(&mut self.tier_depth, partition(), gauge()),
            "millstream_dead_letter_depth_messages" => {
                add(&mut self.dead_letter_depth, partition(), gauge());
            }
            "millstream_in_flight_messages" => self.in_flight_messages = gauge(),
            "millstream_in_flight_bytes" => self.in_flight_bytes = gauge(),
            "millstream_guest_memory_bytes" => self.guest_memory = gauge(),
            "millstream_pipeline_up" => self.up = Some(gauge()),
            _ => {}
        }
    }

    /// Attempts that ended well.
    pub(super) fn done(&self) -> f64 {
        self.attempts.get("done").copied().unwrap_or(0.0)
    }

    /// Attempts that did not. A pause is none that failed: no attempt is counted.
    pub(super) fn failed(&self) -> f64 {
        let failed = |(outcome, _): &(&String, &f64)| !matches!(outcome.as_str(), "done" | "pause");
        self.attempts.iter().filter(failed).map(|(_, count)| count).sum()
    }
}

fn add<K: Ord>(map: &mut BTreeMap<K, f64>, key: K, value: f64) {
    *map.entry(key).or_insert(0.0) += value;
}

/// What was added to a counter. One that is smaller was begun anew.
pub(super) fn grown<K: Ord>(
    now: &BTreeMap<K, f64>,
    then: Option<&BTreeMap<K, f64>>,
    key: &K,
) -> f64 {
    let before = then.and_then(|then| then.get(key)).copied().unwrap_or(0.0);
    (now.get(key).copied().unwrap_or(0.0) - before).max(0.0)
}

impl Times {
    fn add(&mut self, histogram: &Histogram) {
        let mut before = 0;
        for (index, bucket) in histogram.get_bucket().iter().enumerate() {
            let within = bucket.cumulative_count().saturating_sub(before);
            before = bucket.cumulative_count();
            match self.buckets.get_mut(index) {
                Some((_, count)) => *count += number(within),
                None => self.buckets.push((bucket.upper_bound(), number(within))),
            }
        }
        self.count += number(histogram.get_sample_count());
        self.sum += histogram.get_sample_sum();
    }

    /// What was added since `then`.
    pub(super) fn since(&self, then: &Self) -> Self {
        let before = |index: usize| then.buckets.get(index).map_or(0.0, |(_, count)| *count);
        let grown = |(index, (bound, count)): (usize, &(f64, f64))| {
            (*bound, (count - before(index)).max(0.0))
        };
        Self {
            buckets: self.buckets.iter().enumerate().map(grown).collect(),
            count: (self.count - then.count).max(0.0),
            sum: (self.sum - then.sum).max(0.0),
        }
    }

    /// The time that this share of attempts stayed below, between the bounds of its bucket; `None` without attempts.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        if self.count <= 0.0 {
            return None;
        }
        let (mut rest, mut below) = (self.count * share, 0.0);
        for (bound, count) in &self.buckets {
            if *count >= rest && *count > 0.0 {
                return Some(if bound.is_finite() {
                    below + (bound - below) * (rest / count)
                } else {
                    below
                });
            }
            rest -= count;
            below = *bound;
        }
        Some(below)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of this size are shown rounded")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use millstream_core::message::Partition;
    use millstream_core::metrics::Metrics;

    use super::*;

    #[test]
    fn what_pipelines_count_is_read_and_kept_apart() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).expect("registered");
        let mut a = metrics.partition("a", &Partition::new("orders", 0));
        let b = metrics.partition("b", &Partition::new("orders", 0));
        a.done.inc_by(7);
        a.failed("timeout");
        a.failed("pause");
        a.dead_letter("reject");
        a.retry_depth("orders.retry.5s", 9);
        b.done.inc_by(100);
        let totals = Totals::of(&registry);
        let a = &totals.pipelines["a"];
        assert_eq!((a.done(), a.failed()), (7.0, 1.0), "a pause is no failure");
        assert_eq!(a.dead_of["orders"], 1.0);
        assert_eq!(a.tier_depth[&("orders.retry.5s".to_owned(), 0)], 9.0);
        assert_eq!(totals.pipelines["b"].done(), 100.0);
    }

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).expect("registered");
        let handling = metrics.handling.with_label_values(&["a", "done"]);
        for _ in 0..99 {
            handling.observe(0.001);
        }
        let before = Totals::of(&registry);
        handling.observe(0.5);
        let after = Totals::of(&registry);
        let all = &after.pipelines["a"].handling;
        let median = all.quantile(0.5).expect("attempts");
        assert!((0.0005..0.002).contains(&median), "{median}");
        let last = all.since(&before.pipelines["a"].handling);
        let of_one = last.quantile(0.99).expect("one attempt");
        assert!((0.3..0.7).contains(&of_one), "{of_one}");
        assert_eq!(Times::default().quantile(0.99), None);
    }
}
