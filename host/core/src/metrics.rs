//! Metrics: every number a pipeline shows, in one place; the stations only count.
//!
//! Prometheus conventions: base units, `_total` for counters. Labels are bounded: pipeline, topic,
//! partition, outcome; never a key or an offset. They hang on the registry that was given, never on
//! a global one, so two hosts in one process (or a test) do not mix.

use prometheus::core::Collector;
use prometheus::{
    CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
};

pub use partition::PartitionMetrics;
pub use worker::WorkerMetrics;

mod partition;
mod worker;

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
    /// What made reading or handling stop for a while.
    pub pauses: IntCounterVec,
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
    /// Spans that the receiver took.
    pub spans_exported: IntCounterVec,
    /// Spans that were lost, by the reason.
    pub spans_dropped: IntCounterVec,
    /// Times another version of the plugin took over.
    pub plugin_swaps: IntCounterVec,
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
                "Messages in the dead-letter topic that are neither redriven nor purged; `topic` is that topic.",
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
            pauses: counter(
                "millstream_pauses_total",
                "Times that something stopped for a while, by the cause: `in_flight`, a source partition is not read since as much is in hand as may be; `retries`, a retry tier likewise; `plugin`, a lane waits after a `pause` failure.",
                &["pipeline", "topic", "partition", "cause"],
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
            spans_exported: counter(
                "millstream_spans_exported_total",
                "Spans of traces that the receiver took; there with `[traces]` only.",
                &[],
            )?,
            spans_dropped: counter(
                "millstream_spans_dropped_total",
                "Spans of traces that were lost: `queue_full`, more than the receiver keeps up with; `unreachable`, it did not answer; `refused`, it did not take them. There with `[traces]` only.",
                &["reason"],
            )?,
            plugin_swaps: counter(
                "millstream_plugin_swaps_total",
                "Times another version of the plugin took over from one message to the next.",
                &["pipeline"],
            )?,
        })
    }
}

#[cfg(test)]
mod tests;
