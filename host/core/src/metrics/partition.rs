//! What a source partition counts and shows.

use std::collections::BTreeSet;
use std::time::Duration;

use prometheus::local::LocalHistogram;
use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use crate::message::Partition;
use crate::outcome::FaultKind;
use crate::status::{HeldUp, HeldUpBy};

use super::Metrics;

impl Metrics {
    /// The handles of one source partition.
    pub fn partition(&self, pipeline: &str, partition: &Partition) -> PartitionMetrics {
        let number = partition.number.to_string();
        let labels = [pipeline, &*partition.topic, &number];
        let attempts = |outcome: &str| {
            self.attempts.with_label_values(&[pipeline, &*partition.topic, &number, outcome])
        };
        let unattempted = |reason: &str| {
            self.unattempted.with_label_values(&[pipeline, &*partition.topic, &number, reason])
        };
        // All children exist from the start, so that a rate over the first fault is not blind.
        let faults = FaultKind::ALL.iter().map(|kind| kind.as_str());
        for kind in ["retry", "reject", "pause"].into_iter().chain(faults) {
            attempts(kind);
            self.dead_letters.with_label_values(&[pipeline, &*partition.topic, kind]);
        }
        self.skipped.with_label_values(&labels);
        let pauses = |cause: &str| {
            self.pauses.with_label_values(&[pipeline, &*partition.topic, &number, cause])
        };
        let hot_key = |of: &str| {
            self.hot_key_share.with_label_values(&[pipeline, &*partition.topic, &number, of])
        };
        let end_to_end: Histogram = self.end_to_end.with_label_values(&[pipeline]);
        PartitionMetrics {
            done: attempts("done"),
            duplicate: unattempted("duplicate"),
            already_handled: unattempted("already_handled"),
            superseded: unattempted("superseded"),
            end_to_end: end_to_end.local(),
            lag: self.lag.with_label_values(&labels),
            due_lag: self.due_lag.with_label_values(&labels),
            oldest_unsettled_age: self.oldest_unsettled_age.with_label_values(&labels),
            paused_lanes: self.paused_lanes.with_label_values(&labels),
            paused_by_plugin: pauses("plugin"),
            paused_by_retries: pauses("retries"),
            waiting_keys: self.waiting_keys.with_label_values(&labels),
            waiting_messages: self.waiting_messages.with_label_values(&labels),
            longest_wait: self.longest_wait.with_label_values(&labels),
            hot_key_of_attempts: hot_key("attempts"),
            hot_key_of_time: hot_key("time"),
            commit_age: self.commit_age.with_label_values(&labels),
            time_to_drain: self.time_to_drain.with_label_values(&labels),
            put_behind: self.put_behind.with_label_values(&labels),
            commits: self.commits.with_label_values(&[pipeline]),
            pipeline: pipeline.to_owned(),
            partition: partition.clone(),
            number,
            held_up_by: None,
            tiers: BTreeSet::new(),
            dead_letters: BTreeSet::new(),
            all: self.clone(),
        }
    }
}

/// What a partition counts. When it is given up its gauges go with it: another host tells them then, and
/// what stayed here would be lag that nobody has. Counters stay.
#[derive(Debug)]
pub struct PartitionMetrics {
    /// Attempts that ended `done`.
    pub done: IntCounter,
    /// Settled as duplicate of another message.
    pub duplicate: IntCounter,
    /// Settled because this very message was handled before.
    pub already_handled: IntCounter,
    /// Settled because a later copy of it exists.
    pub superseded: IntCounter,
    /// Time from timestamp to settling; flushed once a round.
    pub end_to_end: LocalHistogram,
    /// See [`Metrics::lag`].
    pub lag: IntGauge,
    /// See [`Metrics::due_lag`].
    pub due_lag: IntGauge,
    /// See [`Metrics::oldest_unsettled_age`].
    pub oldest_unsettled_age: Gauge,
    /// See [`Metrics::paused_lanes`].
    pub paused_lanes: IntGauge,
    /// See [`Metrics::pauses`].
    pub paused_by_plugin: IntCounter,
    /// See [`Metrics::pauses`].
    pub paused_by_retries: IntCounter,
    /// See [`Metrics::waiting_keys`].
    pub waiting_keys: IntGauge,
    /// See [`Metrics::waiting_messages`].
    pub waiting_messages: IntGauge,
    /// See [`Metrics::longest_wait`].
    pub longest_wait: Gauge,
    /// See [`Metrics::commit_age`].
    pub commit_age: Gauge,
    /// See [`Metrics::time_to_drain`].
    pub time_to_drain: Gauge,
    /// See [`Metrics::hot_key_share`].
    pub hot_key_of_attempts: Gauge,
    /// See [`Metrics::hot_key_share`].
    pub hot_key_of_time: Gauge,
    /// See [`Metrics::put_behind`].
    pub put_behind: IntCounter,
    /// See [`Metrics::commits`].
    pub commits: IntCounter,
    pipeline: String,
    partition: Partition,
    number: String,
    /// The reason of a standstill that was told.
    held_up_by: Option<HeldUpBy>,
    /// The topics of depths that were told.
    tiers: BTreeSet<String>,
    dead_letters: BTreeSet<String>,
    all: Metrics,
}

impl Drop for PartitionMetrics {
    fn drop(&mut self) {
        let labels = [self.pipeline.as_str(), &*self.partition.topic, &self.number];
        // What was never told cannot be removed, which is as good.
        let gauges = [&self.all.lag, &self.all.due_lag, &self.all.paused_lanes];
        for gauge in gauges.into_iter().chain([&self.all.waiting_keys, &self.all.waiting_messages])
        {
            let _ = gauge.remove_label_values(&labels);
        }
        let ages = [&self.all.oldest_unsettled_age, &self.all.longest_wait];
        for gauge in ages.into_iter().chain([&self.all.commit_age, &self.all.time_to_drain]) {
            let _ = gauge.remove_label_values(&labels);
        }
        for of in ["attempts", "time"] {
            let labels = [self.pipeline.as_str(), &*self.partition.topic, &self.number, of];
            let _ = self.all.hot_key_share.remove_label_values(&labels);
        }
        self.held_up(None);
        let depths = [
            (&self.all.retry_depth, &self.tiers),
            (&self.all.dead_letter_depth, &self.dead_letters),
        ];
        for (depth, topics) in depths {
            for topic in topics {
                let labels = [self.pipeline.as_str(), topic, &self.number];
                let _ = depth.remove_label_values(&labels);
            }
        }
    }
}

impl Metrics {
    /// Counts that a source partition is not read since as much of it is in hand as may be.
    pub fn paused_by_in_flight(&self, pipeline: &str, partition: &Partition) -> IntCounter {
        let number = partition.number.to_string();
        self.pauses.with_label_values(&[pipeline, &*partition.topic, &number, "in_flight"])
    }
}

impl PartitionMetrics {
    /// An attempt that did not end `done`.
    pub fn failed(&self, kind: &str) {
        let labels = [self.pipeline.as_str(), &*self.partition.topic, &self.number, kind];
        self.all.attempts.with_label_values(&labels).inc();
    }

    /// A message became a dead letter.
    pub fn dead_letter(&self, kind: &str) {
        let labels = [self.pipeline.as_str(), &*self.partition.topic, kind];
        self.all.dead_letters.with_label_values(&labels).inc();
    }

    /// A message was put off.
    pub fn retry(&self, delay: Duration) {
        let delay = crate::names::delay_text(delay);
        let labels = [self.pipeline.as_str(), &*self.partition.topic, &delay];
        self.all.retries.with_label_values(&labels).inc();
    }

    /// Outputs were acknowledged.
    pub fn outputs(&self, topic: &str, count: u64) {
        self.all.outputs.with_label_values(&[self.pipeline.as_str(), topic]).inc_by(count);
    }

    /// A call to the log failed and will be tried again.
    pub fn log_error(&self, operation: &str) {
        self.all.log_errors.with_label_values(&[self.pipeline.as_str(), operation]).inc();
    }

    /// Retention removed so many offsets of the source before they were read.
    pub fn skipped(&self, count: u64) {
        let labels = [self.pipeline.as_str(), &*self.partition.topic, &self.number];
        self.all.skipped.with_label_values(&labels).inc_by(count);
    }

    /// The commit stands still, or (`None`) moves.
    pub fn held_up(&mut self, held_up: Option<&HeldUp>) {
        let by = held_up.map(|held_up| held_up.by);
        let series = |by: HeldUpBy| {
            [self.pipeline.as_str(), &*self.partition.topic, &self.number, by.label()]
        };
        if let Some(before) = self.held_up_by.filter(|before| Some(*before) != by) {
            let _ = self.all.held_up.remove_label_values(&series(before));
        }
        if let Some(held_up) = held_up {
            #[expect(clippy::cast_precision_loss, reason = "seconds of a standstill")]
            let seconds = held_up.seconds as f64;
            self.all.held_up.with_label_values(&series(held_up.by)).set(seconds);
        }
        self.held_up_by = by;
    }

    /// So many messages wait in a retry tier.
    pub fn retry_depth(&mut self, tier: &str, depth: u64) {
        if !self.tiers.contains(tier) {
            self.tiers.insert(tier.to_owned());
        }
        let labels = [self.pipeline.as_str(), tier, &self.number];
        let depth = i64::try_from(depth).unwrap_or(i64::MAX);
        self.all.retry_depth.with_label_values(&labels).set(depth);
    }

    /// So many messages lie in the dead-letter topic.
    pub fn dead_letter_depth(&mut self, topic: &str, depth: u64) {
        if !self.dead_letters.contains(topic) {
            self.dead_letters.insert(topic.to_owned());
        }
        let labels = [self.pipeline.as_str(), topic, &self.number];
        let depth = i64::try_from(depth).unwrap_or(i64::MAX);
        self.all.dead_letter_depth.with_label_values(&labels).set(depth);
    }
}
