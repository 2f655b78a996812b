//! One pipeline as it is shown: of its configuration, its status, and two samples of its numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::message::EpochMs;
use millstream_core::names::delay_text;
use millstream_core::pipeline_spec::{Delivery, Ordering, PipelineSpec};
use millstream_core::plugin::PluginIdentity;
use millstream_core::plugin_slot::PluginSlot;
use millstream_core::status::{PartitionReport, PipelineStatus};

use super::totals::{OfTopic, PipelineTotals, grown};
use super::*;

/// A pipeline the server tells of.
#[derive(Clone)]
pub struct ServedPipeline {
    /// What it is.
    pub spec: PipelineSpec,
    /// How it fares.
    pub status: Arc<PipelineStatus>,
    /// Which version of its plugin it uses.
    pub slot: Arc<PluginSlot>,
    /// How long an attempt may take.
    pub time_limit: Duration,
}

impl std::fmt::Debug for ServedPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServedPipeline").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

/// Two samples of a pipeline's numbers.
pub(super) struct Span<'a> {
    pub(super) now: &'a PipelineTotals,
    pub(super) then: Option<&'a PipelineTotals>,
    pub(super) seconds: f64,
}

impl Span<'_> {
    fn rate<K: Ord>(&self, of: fn(&PipelineTotals) -> &BTreeMap<K, f64>, key: &K) -> f64 {
        self.of_time(grown(of(self.now), self.then.map(of), key))
    }

    fn rate_of(&self, of: fn(&PipelineTotals) -> f64) -> f64 {
        self.of_time((of(self.now) - self.then.map_or(0.0, of)).max(0.0))
    }

    /// Without an earlier sample there is no rate.
    fn of_time(&self, grown: f64) -> f64 {
        if self.then.is_some() && self.seconds > 0.0 { grown / self.seconds } else { 0.0 }
    }

    /// What came into the partition: what was settled, and what the lag grew by.
    fn arrived(&self, partition: &(String, u32), committed: f64, before: Option<f64>) -> f64 {
        let Some(before) = before else { return 0.0 };
        let lag = |totals: &PipelineTotals| totals.lag.get(partition).copied().unwrap_or(0.0);
        let then = self.then.map_or(0.0, lag) + before;
        self.of_time((lag(self.now) + committed - then).max(0.0))
    }
}

/// The committed offset of each partition.
pub(super) type Committed = BTreeMap<(String, u32), f64>;

#[expect(clippy::cast_precision_loss, reason = "offsets of this size are shown rounded")]
pub(super) fn committed(pipeline: &ServedPipeline) -> Committed {
    let report = pipeline.status.report();
    let of = |p: &PartitionReport| ((p.topic.clone(), p.partition), p.committed as f64);
    report.partitions.iter().map(of).collect()
}

pub(super) fn pipeline(
    served: &ServedPipeline,
    span: &Span<'_>,
    before: Option<&Committed>,
    now: EpochMs,
) -> PipelineView {
    let ServedPipeline { spec, status, .. } = served;
    let report = status.report();
    let totals = span.now;
    let committed = committed(served);
    let arriving = |topic: &str| -> f64 {
        let of_topic = committed.iter().filter(|((of, _), _)| of == topic);
        let arrived = |(partition, committed): (&(String, u32), &f64)| {
            span.arrived(partition, *committed, before.and_then(|b| b.get(partition)).copied())
        };
        of_topic.map(arrived).sum()
    };
    let sources: Vec<_> = spec
        .topics
        .iter()
        .map(|topic| SourceView {
            topic: topic.to_string(),
            arriving_per_second: rounded(arriving(topic)),
            lag: of_topic(&totals.lag, topic),
            partitions: report.partitions.iter().filter(|p| *p.topic == **topic).count(),
        })
        .collect();
    let outputs = spec.outputs.iter().map(|(name, topic)| OutputView {
        name: name.clone(),
        topic: topic.to_string(),
        per_second: rounded(span.rate(|totals| &totals.outputs, &topic.to_string())),
    });
    let dead_letters = spec.topics.iter().map(|source| {
        let topic = spec.dead_letter.topic.topic(source, &spec.group, None);
        DeadLetterView {
            per_second: rounded(span.rate(|totals| &totals.dead_of, &source.to_string())),
            depth: of_topic(&totals.dead_letter_depth, &topic),
            topic: topic.to_string(),
            source: source.to_string(),
        }
    });
    let dead: f64 =
        totals.dead_of.keys().map(|source| span.rate(|totals| &totals.dead_of, source)).sum();
    let retried: f64 =
        totals.retries.keys().map(|key| span.rate(|totals| &totals.retries, key)).sum();
    let rates = Rates {
        arriving: rounded(sources.iter().map(|source| source.arriving_per_second).sum()),
        done: rounded(span.rate_of(PipelineTotals::done)),
        failed: rounded(span.rate_of(PipelineTotals::failed)),
        paused: rounded(span.rate(|totals| &totals.attempts, &"pause".to_owned())),
        retried: rounded(retried),
        dead: rounded(dead),
        unattempted: rounded(span.rate_of(|totals| totals.unattempted)),
    };
    let times = span.then.map(|then| totals.handling.since(&then.handling)).unwrap_or_default();
    let mean = (times.count > 0.0).then(|| times.sum / times.count);
    let identity = served.slot.identity();
    let text = |of: fn(&PluginIdentity) -> &String| {
        identity.as_deref().map(of).cloned().unwrap_or_default()
    };
    let (name, version, digest) = (text(|p| &p.name), text(|p| &p.version), text(|p| &p.digest));
    let mut failures = status.failures(now);
    failures.truncate(FAILURES_SHOWN);
    PipelineView {
        pipeline: spec.name.clone(),
        group: spec.group.clone(),
        ready: report.ready,
        trouble: report.trouble,
        stopped: totals.up == Some(0.0),
        delivery: match spec.delivery {
            Delivery::AtLeastOnce => "at least once",
            Delivery::ExactlyOnce => "exactly once",
            Delivery::AtMostOnce => "at most once",
        },
        ordering: match spec.ordering {
            Ordering::Partition => "in order by partition",
            Ordering::Key => "in order by key",
            Ordering::None => "in no order",
        },
        plugin: PluginView {
            name,
            version,
            digest,
            instances: spec.instances,
            memory_bytes: totals.guest_memory,
            time_limit_seconds: served.time_limit.as_secs_f64(),
        },
        outputs: outputs.collect(),
        tiers: tiers(spec, span),
        dead_letters: dead_letters.collect(),
        rates,
        handling: HandlingView {
            mean_seconds: mean.map(rounded),
            p50_seconds: times.quantile(0.5).map(rounded),
            p99_seconds: times.quantile(0.99).map(rounded),
        },
        in_flight: InFlightView {
            messages: totals.in_flight_messages,
            messages_max: spec.in_flight_messages,
            bytes: totals.in_flight_bytes,
            bytes_max: spec.in_flight_bytes,
        },
        lag: totals.lag.values().sum(),
        due_lag: totals.due_lag.values().sum(),
        oldest_seconds: rounded(largest(&totals.oldest)),
        drains_in_seconds: rounded(largest(&totals.drains_in)),
        partitions: report.partitions.into_iter().map(|p| partition(p, totals)).collect(),
        failures,
        history: History::default(),
        sources,
    }
}

/// Groups that are shown with the overview.
const FAILURES_SHOWN: usize = 50;

fn partition(report: PartitionReport, totals: &PipelineTotals) -> PartitionView {
    let place = (report.topic.clone(), report.partition);
    let of = |map: &OfTopic<u32>| map.get(&place).copied().unwrap_or(0.0);
    PartitionView {
        lag: of(&totals.lag),
        due_lag: of(&totals.due_lag),
        oldest_seconds: rounded(of(&totals.oldest)),
        commit_age_seconds: rounded(of(&totals.commit_age)),
        drains_in_seconds: rounded(of(&totals.drains_in)),
        waiting_keys: of(&totals.waiting_keys),
        paused_lanes: of(&totals.paused_lanes),
        topic: report.topic,
        partition: report.partition,
        started: report.started,
        position: report.position,
        committed: report.committed,
        in_flight: report.in_flight,
        retries: report.retries,
        waiting_messages: report.waiting_messages,
        held_up_text: report.held_up.map(|held_up| held_up.by.text()),
        held_up: report.held_up,
        hot_keys: report.hot_keys,
    }
}

/// The configured delays, and those whose topics still hold something.
fn tiers(spec: &PipelineSpec, span: &Span<'_>) -> Vec<TierView> {
    let mut tiers: BTreeMap<Duration, TierView> = BTreeMap::new();
    let tier = |delay: Duration| TierView {
        delay: delay_text(delay),
        topics: Vec::new(),
        per_second: 0.0,
        depth: 0.0,
    };
    for delay in &spec.retry.delays {
        tiers.entry(*delay).or_insert_with(|| tier(*delay));
    }
    for ((topic, _), depth) in &span.now.tier_depth {
        let delay_of = |source| spec.retry.topic.delay_of(topic, source, &spec.group);
        let Some(delay) = spec.topics.iter().find_map(|source| delay_of(source)) else { continue };
        if *depth == 0.0 && !tiers.contains_key(&delay) {
            continue;
        }
        let view = tiers.entry(delay).or_insert_with(|| tier(delay));
        view.depth += depth;
        if !view.topics.contains(topic) {
            view.topics.push(topic.clone());
        }
    }
    for key in span.now.retries.keys() {
        let (_, delay) = key;
        if let Some(view) = tiers.values_mut().find(|view| view.delay == *delay) {
            view.per_second = rounded(view.per_second + span.rate(|totals| &totals.retries, key));
        }
    }
    tiers.into_values().collect()
}

fn of_topic(map: &OfTopic<u32>, topic: &str) -> f64 {
    map.iter().filter(|((of, _), _)| of == topic).map(|(_, value)| value).sum()
}

fn largest(map: &OfTopic<u32>) -> f64 {
    map.values().copied().fold(0.0, f64::max)
}
