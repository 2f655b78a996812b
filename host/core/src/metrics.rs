//! Metrics: every number a pipeline shows, in one place; the stations only count.
//!
//! Prometheus conventions: base units, `_total` for counters. Labels are bounded: pipeline, topic,
//! partition, outcome; never a key or an offset. They hang on the registry that was given, never on
//! a global one, so two hosts in one process (or a test) do not mix.

use std::collections::BTreeSet;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::local::LocalHistogram;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::message::Partition;
use crate::outcome::FaultKind;
use crate::plugin::Usage;
use crate::status::{HeldUp, HeldUpBy};

const PARTITION: &[&str] = &["pipeline", "topic", "partition"];

/// All metrics of a host's pipelines. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Attempts by outcome.
    pub attempts: IntCounterVec,
    /// Time in the plugin by outcome.
    pub handling: HistogramVec,
    /// Time in which attempts were held back.
    pub rested: CounterVec,
    /// Instances made anew.
    pub restarts: IntCounterVec,
    /// Linear memory of all instances.
    pub guest_memory: IntGaugeVec,
    /// How long loading the plugin took.
    pub plugin_load: GaugeVec,
    /// From the message's timestamp to its settling.
    pub end_to_end: HistogramVec,
    /// Messages in flight.
    pub in_flight_messages: IntGaugeVec,
    /// Bytes in flight.
    pub in_flight_bytes: IntGaugeVec,
    /// Messages not settled, by partition.
    pub lag: IntGaugeVec,
    /// Messages that could be handled now.
    pub due_lag: IntGaugeVec,
    /// Age of the first message that is not settled.
    pub oldest_unsettled_age: GaugeVec,
    /// Retries waiting in a tier.
    pub retry_depth: IntGaugeVec,
    /// Messages in the dead-letter topic.
    pub dead_letter_depth: IntGaugeVec,
    /// Messages that became dead letters, by the last error's kind.
    pub dead_letters: IntCounterVec,
    /// Messages sent to a retry tier, or retried in place.
    pub retries: IntCounterVec,
    /// Messages settled without an attempt, by the reason.
    pub unattempted: IntCounterVec,
    /// Outputs acknowledged by the log.
    pub outputs: IntCounterVec,
    /// Lanes that wait after a `pause` failure.
    pub paused_lanes: IntGaugeVec,
    /// Keys of which messages wait for an earlier one.
    pub waiting_keys: IntGaugeVec,
    /// Messages in memory that wait for an earlier one of their key.
    pub waiting_messages: IntGaugeVec,
    /// How long the key that has waited longest has done so.
    pub longest_wait: GaugeVec,
    /// The largest share that one key has of a partition's attempts or their time.
    pub hot_key_share: GaugeVec,
    /// Messages put behind an earlier one of their key, in a retry tier.
    pub put_behind: IntCounterVec,
    /// How long a partition's commit has stood still, and why.
    pub held_up: GaugeVec,
    /// How long a partition's committed offset has not moved though there is more.
    pub commit_age: GaugeVec,
    /// How long it takes to handle what is due, at the pace of the last minute.
    pub time_to_drain: GaugeVec,
    /// Partitions that came and went.
    pub rebalances: IntCounterVec,
    /// Failed calls to the log that are tried again.
    pub log_errors: IntCounterVec,
    /// Commits acknowledged.
    pub commits: IntCounterVec,
    /// Messages that retention removed before they were read.
    pub skipped: IntCounterVec,
    /// 1 while the pipeline runs, 0 after it stopped.
    pub up: IntGaugeVec,
    /// The plugin in use; always 1.
    pub plugin_info: IntGaugeVec,
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn seconds(name: &str, help: &str) -> HistogramOpts {
    // From 1 µs (a plugin that does next to nothing) to 100 s, four buckets a decade.
    let buckets = (0..33).map(|n| 1e-6 * 10f64.powf(f64::from(n) / 4.0)).collect();
    HistogramOpts::new(name, help).buckets(buckets)
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// If the registry has metrics of these names already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
        };
        Ok(Self {
            attempts: counter(
                "millstream_attempts_total",
                "Attempts of the plugin at a message, by outcome.",
                &["pipeline", "topic", "partition", "outcome"],
            )?,
            handling: register(
                registry,
                HistogramVec::new(
                    seconds("millstream_handling_seconds", "Time one attempt took in the plugin."),
                    &["pipeline", "outcome"],
                )?,
            )?,
            rested: register(
                registry,
                CounterVec::new(
                    Opts::new(
                        "millstream_plugin_rest_seconds_total",
                        "Time in which attempts were held back because the plugin runs longer in faults than in calls that end well; part of the handling time.",
                    ),
                    &["pipeline"],
                )?,
            )?,
            restarts: counter(
                "millstream_instance_restarts_total",
                "Instances of the plugin that were made anew, after a fault or a cancelled call.",
                &["pipeline"],
            )?,
            guest_memory: gauge(
                "millstream_guest_memory_bytes",
                "Linear memory of the plugin's instances together.",
                &["pipeline"],
            )?,
            plugin_load: register(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "millstream_plugin_load_seconds",
                        "How long it took to load the plugin: compiled, or taken from the cache.",
                    ),
                    &["pipeline"],
                )?,
            )?,
            end_to_end: register(
                registry,
                HistogramVec::new(
                    seconds(
                        "millstream_end_to_end_seconds",
                        "Time from a message's timestamp until it was settled.",
                    ),
                    &["pipeline"],
                )?,
            )?,
            in_flight_messages: gauge(
                "millstream_in_flight_messages",
                "Messages taken from the log and not settled.",
                &["pipeline"],
            )?,
            in_flight_bytes: gauge(
                "millstream_in_flight_bytes",
                "Bytes of the messages taken from the log and not settled.",
                &["pipeline"],
            )?,
            lag: gauge(
                "millstream_lag_messages",
                "Messages of the source partition that are not settled.",
                PARTITION,
            )?,
            due_lag: gauge(
                "millstream_due_lag_messages",
                "Messages that could be handled now: lag and retries whose delay has passed.",
                PARTITION,
            )?,
            oldest_unsettled_age: register(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "millstream_oldest_unsettled_age_seconds",
                        "Age of the first message of the source partition that is not settled; 0 when caught up.",
                    ),
                    PARTITION,
                )?,
            )?,
            retry_depth: gauge(
                "millstream_retry_depth_messages",
                "Messages waiting in a retry tier; `topic` is the tier.",
                PARTITION,
            )?,
            dead_letter_depth: gauge(
                "millstream_dead_letter_depth_messages",
                "Messages in the dead-letter topic; `topic` is that topic.",
                PARTITION,
            )?,
            dead_letters: counter(
                "millstream_dead_letters_total",
                "Messages that became dead letters, by the kind of their last error.",
                &["pipeline", "topic", "kind"],
            )?,
            retries: counter(
                "millstream_retries_total",
                "Messages put off for another attempt, by the delay.",
                &["pipeline", "topic", "delay"],
            )?,
            unattempted: counter(
                "millstream_settled_unattempted_total",
                "Messages settled without an attempt: `duplicate` of a handled key, `already_handled` before a restart, `superseded` by a later copy.",
                &["pipeline", "topic", "partition", "reason"],
            )?,
            outputs: counter(
                "millstream_outputs_total",
                "Outputs acknowledged by the log; `topic` is their topic.",
                &["pipeline", "topic"],
            )?,
            paused_lanes: gauge(
                "millstream_paused_lanes",
                "Lanes that wait after a `pause` failure of the plugin.",
                PARTITION,
            )?,
            waiting_keys: gauge(
                "millstream_waiting_keys",
                "Keys of which messages wait in memory for an earlier one that is retried.",
                PARTITION,
            )?,
            waiting_messages: gauge(
                "millstream_waiting_messages",
                "Messages that wait in memory for an earlier one of their key that is retried.",
                PARTITION,
            )?,
            longest_wait: register(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "millstream_longest_wait_seconds",
                        "How long messages of a key wait in memory for an earlier one by now, of all keys the longest; 0 if none waits.",
                    ),
                    PARTITION,
                )?,
            )?,
            hot_key_share: register(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "millstream_hot_key_share_ratio",
                        "The largest share that one key has of the partition's attempts in the last minutes (`of` is `attempts`) or of the time they took (`time`); 0 with few attempts. `millstream lag --hot-keys` names the keys.",
                    ),
                    &["pipeline", "topic", "partition", "of"],
                )?,
            )?,
            commit_age: register(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "millstream_commit_age_seconds",
                        "How long the committed offset of the source partition has not moved though there is more; 0 when caught up.",
                    ),
                    PARTITION,
                )?,
            )?,
            time_to_drain: register(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "millstream_time_to_drain_seconds",
                        "How long the source partition takes to be caught up at the pace of the last minute, new messages not counted; 0 when caught up, at most a day.",
                    ),
                    PARTITION,
                )?,
            )?,
            rebalances: counter(
                "millstream_rebalances_total",
                "Changes of which partitions the pipeline has here: `assigned`, `revoked` in order, or `lost` to another host.",
                &["pipeline", "event"],
            )?,
            put_behind: counter(
                "millstream_put_behind_total",
                "Messages put behind an earlier one of their key, into a retry tier, without an attempt.",
                PARTITION,
            )?,
            held_up: register(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "millstream_held_up_seconds",
                        "How long the commit of a source partition has stood still though there is something to commit; there only when it is longer than `held_up_after`. `reason` is what its first message waits for.",
                    ),
                    &["pipeline", "topic", "partition", "reason"],
                )?,
            )?,
            log_errors: counter(
                "millstream_log_errors_total",
                "Calls to the log that failed and are tried again.",
                &["pipeline", "operation"],
            )?,
            commits: counter(
                "millstream_commits_total",
                "Commits acknowledged by the log, transactions included.",
                &["pipeline"],
            )?,
            skipped: counter(
                "millstream_skipped_messages_total",
                "Offsets that retention removed before the group read them.",
                PARTITION,
            )?,
            up: gauge(
                "millstream_pipeline_up",
                "1 while the pipeline runs, 0 after it stopped with an error.",
                &["pipeline"],
            )?,
            plugin_info: gauge(
                "millstream_plugin_info",
                "The plugin in use; always 1.",
                &["pipeline", "name", "version", "digest"],
            )?,
        })
    }

    /// The handles of one worker.
    pub fn worker(&self, pipeline: &str) -> WorkerMetrics {
        WorkerMetrics {
            pipeline: pipeline.to_owned(),
            handling: self.handling.clone(),
            done: self.handling.with_label_values(&[pipeline, "done"]).local(),
            rested: self.rested.with_label_values(&[pipeline]),
            restarts: self.restarts.with_label_values(&[pipeline]),
            guest_memory: self.guest_memory.with_label_values(&[pipeline]),
            memory_bytes: 0,
        }
    }

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

/// What a worker counts; written to the shared histogram once a batch.
#[derive(Debug)]
pub struct WorkerMetrics {
    pipeline: String,
    handling: HistogramVec,
    done: LocalHistogram,
    rested: Counter,
    restarts: IntCounter,
    guest_memory: IntGauge,
    /// This worker's part of it.
    memory_bytes: i64,
}

impl Drop for WorkerMetrics {
    fn drop(&mut self) {
        self.guest_memory.sub(self.memory_bytes);
    }
}

impl WorkerMetrics {
    /// The worker's instance uses this.
    pub fn used(&mut self, usage: Usage) {
        let Usage { rested, restarts, memory_bytes } = usage;
        if !rested.is_zero() {
            self.rested.inc_by(rested.as_secs_f64());
        }
        if restarts > 0 {
            self.restarts.inc_by(restarts);
        }
        let memory_bytes = i64::try_from(memory_bytes).unwrap_or(i64::MAX);
        if memory_bytes != self.memory_bytes {
            self.guest_memory.add(memory_bytes - self.memory_bytes);
            self.memory_bytes = memory_bytes;
        }
    }

    /// One attempt took so long and came to this.
    pub fn observe(&mut self, outcome: &str, time: Duration) {
        if outcome == "done" {
            self.done.observe(time.as_secs_f64());
        } else {
            let labels = [self.pipeline.as_str(), outcome];
            self.handling.with_label_values(&labels).observe(time.as_secs_f64());
        }
    }

    /// Makes what was observed visible.
    pub fn flush(&mut self) {
        self.done.flush();
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

#[cfg(test)]
mod tests;
