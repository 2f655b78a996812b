//! One `[pipelines.NAME]` table, from texts to a [`PipelineSpec`].
//!
//! Part of `checked`. Rules between fields of one pipeline live here, those between pipelines in
//! `topics`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_core::message::Topic;
use millstream_core::pipeline_spec::{
    Delivery, KeepOrder, Ordering, PipelineSpec, RetrySpec, Start,
};

use crate::config::bounds::{Bounds, Checker};
use crate::config::checked::{PipelineConfig, Setting};
use crate::config::document::join;
use crate::config::limits;
use crate::config::log::LogKind;
use crate::config::names::Kind;
use crate::config::raw::{RawCapabilities, RawCommit, RawPipeline, RawRetry, RawSource};
use crate::config::{dead_letter, idempotency, summary, template, traces};
use crate::finding::{Code, Finding};

/// Most delays of a pipeline: each different one is a topic with the source's partitions.
const DELAYS_MAX: usize = 64;
/// Shortest wait after a `pause` failure.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Most instances if nothing is said: a large machine should not give all its memory to one plugin.
const INSTANCES_DEFAULT_MAX: u32 = 16;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// How often transactions are committed if nothing is said, where a transaction is costly: each
/// takes some round trips, and outputs are seen that much later.
const TRANSACTION_INTERVAL: Duration = Duration::from_millis(50);

/// Checks one pipeline, which reads and writes `log`. `grouped` are the topics that several groups
/// read.
pub(super) fn check(
    checker: &mut Checker<'_>,
    path: &str,
    name: String,
    raw: RawPipeline,
    grouped: &BTreeSet<String>,
    log: &LogKind,
) -> PipelineConfig {
    checker.name(path, &name, Kind::Pipeline);
    let (topics, group, start) = source(checker, path, &name, raw.source);
    let shared = topics.iter().any(|topic| grouped.contains(&**topic));
    let ordering = checker.word(
        &join(path, "ordering"),
        raw.ordering.as_deref(),
        Ordering::Key,
        &[("key", Ordering::Key), ("partition", Ordering::Partition), ("none", Ordering::None)],
    );
    let delivery = checker.word(
        &join(path, "delivery"),
        raw.delivery.as_deref(),
        Delivery::AtLeastOnce,
        &[
            ("at_least_once", Delivery::AtLeastOnce),
            ("exactly_once", Delivery::ExactlyOnce),
            ("at_most_once", Delivery::AtMostOnce),
        ],
    );
    let outputs = outputs(checker, path, raw.outputs);
    let (flight, waiting) = (join(path, "in_flight"), join(path, "waiting"));
    let commit_refresh = commit_refresh(checker, &join(path, "commit"), &raw.commit);
    let (commit_interval, transaction_interval) =
        commit(checker, &join(path, "commit"), raw.commit, delivery, log);
    let spec = PipelineSpec {
        group,
        topics,
        start,
        outputs,
        delivery,
        ordering,
        in_flight_messages: checker.count(
            &join(&flight, "messages"),
            raw.in_flight.messages,
            1000,
            Bounds {
                min: (1, "1"),
                max: (1_000_000, "1000000"),
                reason: "one message must fit, and each costs bookkeeping in memory",
            },
        ) as usize,
        in_flight_bytes: checker.size_in_memory(
            &join(&flight, "bytes"),
            raw.in_flight.bytes.as_deref(),
            64 << 20,
            Bounds {
                min: (64 << 10, "64KiB"),
                max: (64 << 30, "64GiB"),
                reason: "all of it may be in memory at once; with less, messages go one by one",
            },
        ),
        waiting_messages: checker.count(
            &join(&waiting, "messages"),
            raw.waiting.messages,
            100_000,
            Bounds {
                min: (0, "0"),
                max: (10_000_000, "10000000"),
                reason: "each costs bookkeeping in memory; what has no room waits in a retry tier",
            },
        ) as usize,
        waiting_bytes: checker.size_in_memory(
            &join(&waiting, "bytes"),
            raw.waiting.bytes.as_deref(),
            256 << 20,
            Bounds {
                min: (0, "0B"),
                max: (64 << 30, "64GiB"),
                reason: "all of it may be in memory at once; what has no room waits in a retry tier",
            },
        ),
        instances: checker.count(
            &join(path, "instances"),
            raw.instances,
            default_instances(),
            Bounds {
                min: (1, "1"),
                max: (1024, "1024"),
                reason: "each has its own memory, up to `limits.memory`",
            },
        ) as usize,
        retry: retry(checker, &join(path, "retry"), raw.retry, ordering, shared),
        dead_letter: dead_letter::check(checker, &join(path, "dead_letter"), raw.dead_letter, shared),
        idempotency: raw
            .idempotency
            .map(|raw| idempotency::check(checker, &join(path, "idempotency"), raw, delivery, log)),
        commit_interval,
        commit_refresh,
        transaction_interval,
        held_up_after: checker.duration(
            &join(path, "held_up_after"),
            raw.held_up_after.as_deref(),
            Duration::from_secs(60),
            Bounds {
                min: (Duration::from_secs(1), "1s"),
                max: (Duration::from_secs(24 * 3600), "1d"),
                reason: "less is what a busy machine takes, and after more it is told too late",
            },
        ),
        drain: drain(checker, &join(path, "drain"), raw.drain.as_deref(), log),
        name,
    };
    PipelineConfig {
        spec,
        plugin: plugin(checker, &join(path, "plugin"), &raw.plugin),
        limits: limits::check(checker, &join(path, "limits"), &raw.limits),
        settings: settings(checker, path, raw.capabilities),
        trace_sample: traces::check_pipeline(checker, path, raw.traces),
    }
}

/// How often is committed, and how often a transaction is where it gathers outcomes.
fn commit(
    checker: &mut Checker<'_>,
    path: &str,
    raw: RawCommit,
    delivery: Delivery,
    log: &LogKind,
) -> (Duration, Duration) {
    let interval = checker.duration(
        &join(path, "interval"),
        raw.interval.as_deref(),
        Duration::from_millis(250),
        Bounds {
            min: (Duration::from_millis(1), "1ms"),
            max: (Duration::from_secs(60), "1m"),
            reason: "a commit is a write, and a crash repeats what was handled since the last",
        },
    );
    let transaction = match (log, delivery) {
        (LogKind::Kafka(_), Delivery::ExactlyOnce) if raw.interval.is_some() => interval,
        (LogKind::Kafka(_), Delivery::ExactlyOnce) => TRANSACTION_INTERVAL,
        _ => Duration::ZERO,
    };
    (interval, transaction)
}

/// How often what stands is committed again.
fn commit_refresh(checker: &mut Checker<'_>, path: &str, raw: &RawCommit) -> Duration {
    checker.duration(
        &join(path, "refresh"),
        raw.refresh.as_deref(),
        Duration::from_secs(24 * 3600),
        Bounds {
            min: (Duration::from_secs(1), "1s"),
            max: (Duration::from_secs(7 * 24 * 3600), "7d"),
            reason: "each is a write, and Kafka forgets after a week",
        },
    )
}

/// How long a drain may take. A member that drains longer than the group waits for it is put out, and
/// what it drained is handled again by the next owner.
fn drain(checker: &mut Checker<'_>, path: &str, text: Option<&str>, log: &LogKind) -> Duration {
    let wanted = checker.duration(
        path,
        text,
        Duration::from_secs(10),
        Bounds {
            min: (Duration::from_millis(100), "100ms"),
            max: (Duration::from_secs(600), "10m"),
            reason: "running handlers need some time, and a stop must end",
        },
    );
    let LogKind::Kafka(kafka) = log else { return wanted };
    let most = kafka.poll_interval_max / 2;
    if wanted <= most {
        return wanted;
    }
    let (wanted, shown) = (summary::duration(wanted), summary::duration(most));
    let what = format!("`{path}` is cut to {shown}");
    let why = format!(
        "half of the client property `max.poll.interval.ms` is less than {wanted}, and who drains \
         longer is put out of the group"
    );
    let fix = format!("set `drain = \"{shown}\"`, or a larger `max.poll.interval.ms`");
    checker.value(Finding::new(Code::BadValue, what, fix).because(why).warning(), path);
    most
}

fn source(
    checker: &mut Checker<'_>,
    path: &str,
    name: &str,
    raw: RawSource,
) -> (Vec<Topic>, String, Start) {
    let path = join(path, "source");
    let topics_path = join(&path, "topics");
    if raw.topics.is_empty() {
        let fix = "name at least one topic, for example `topics = [\"orders\"]`";
        let what = format!("`{topics_path}` is empty");
        checker.value(Finding::new(Code::BadValue, what, fix), &topics_path);
    }
    let mut seen = BTreeSet::new();
    for (index, topic) in raw.topics.iter().enumerate() {
        let path = format!("{topics_path}[{index}]");
        checker.name(&path, topic, Kind::Topic);
        if !seen.insert(topic) {
            let what = format!("topic {topic:?} is named twice");
            checker.value(Finding::new(Code::TopicClash, what, "take one of them out"), &path);
        }
    }
    let group = raw.group.unwrap_or_else(|| name.to_owned());
    checker.name(&join(&path, "group"), &group, Kind::Group);
    let start = checker.word(
        &join(&path, "start"),
        raw.start.as_deref(),
        Start::Earliest,
        &[("earliest", Start::Earliest), ("latest", Start::Latest)],
    );
    (raw.topics.iter().map(|topic| Topic::from(topic.as_str())).collect(), group, start)
}

fn outputs(
    checker: &mut Checker<'_>,
    path: &str,
    raw: BTreeMap<String, String>,
) -> BTreeMap<String, Topic> {
    let path = join(path, "outputs");
    for (name, topic) in &raw {
        let path = join(&path, name);
        checker.name(&path, name, Kind::Output);
        checker.name(&path, topic, Kind::Topic);
    }
    raw.into_iter().map(|(name, topic)| (name, Topic::from(topic.as_str()))).collect()
}

fn retry(
    checker: &mut Checker<'_>,
    path: &str,
    raw: RawRetry,
    ordering: Ordering,
    shared: bool,
) -> RetrySpec {
    const DELAY: Bounds<Duration> = Bounds {
        min: (Duration::from_millis(1), "1ms"),
        max: (Duration::from_secs(7 * 86_400), "7d"),
        reason: "a retry without delay is no retry, and what can wait longer than a week is a job \
                 for a redrive of dead letters",
    };
    let keep_order = raw.keep_order.unwrap_or(ordering != Ordering::None);
    if keep_order && ordering == Ordering::None {
        let what = format!("`{path}.keep_order` does not go with `ordering = \"none\"`");
        let why = "there is no order that could be kept";
        let fix = "set `ordering = \"key\"`, or take `keep_order` out";
        let finding = Finding::new(Code::Unsupported, what, fix).because(why);
        checker.value(finding, &join(path, "keep_order"));
    }
    let delays_path = join(path, "delays");
    let texts = raw.delays.unwrap_or_else(|| vec!["5s".into(), "30s".into(), "5m".into()]);
    if texts.len() > DELAYS_MAX {
        let what = format!("`{delays_path}` has {} delays", texts.len());
        let why = format!("at most {DELAYS_MAX} go: each different one is a topic of its own");
        let fix = "leave some out; the last one can be long";
        let finding = Finding::new(Code::BadValue, what, fix).because(why);
        checker.value(finding, &delays_path);
    }
    let mut delays = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate().take(DELAYS_MAX) {
        let path = format!("{delays_path}[{index}]");
        delays.push(checker.duration(&path, Some(text), SECOND, DELAY));
    }
    let default = if shared { "{topic}.{group}.retry.{delay}" } else { "{topic}.retry.{delay}" };
    RetrySpec {
        delays,
        keep_order: match ordering {
            Ordering::Key if keep_order => KeepOrder::OfKey,
            Ordering::Partition if keep_order => KeepOrder::OfPartition,
            Ordering::Key | Ordering::Partition | Ordering::None => KeepOrder::No,
        },
        topic: template::check(checker, &join(path, "topic"), raw.topic, default, true, shared),
        pause_min: PAUSE_MIN,
        pause_max: checker.duration(
            &join(path, "pause_max"),
            raw.pause_max.as_deref(),
            Duration::from_secs(60),
            Bounds {
                min: (PAUSE_MIN, "1s"),
                max: (DAY, "1d"),
                reason: "a dependency that is down is asked again at least so often",
            },
        ),
    }
}

fn settings(
    checker: &mut Checker<'_>,
    path: &str,
    raw: RawCapabilities,
) -> Option<BTreeMap<String, Setting>> {
    let path = join(&join(path, "capabilities"), "config");
    let settings = raw.config?;
    let secret = |name: &str| checker.document.is_substituted(&join(&path, name));
    let setting = |(name, value): (String, super::raw::Scalar)| {
        let secret = secret(&name);
        (name, Setting { value: value.0, secret })
    };
    Some(settings.into_iter().map(setting).collect())
}

fn plugin(checker: &mut Checker<'_>, path: &str, text: &str) -> std::path::PathBuf {
    if text.is_empty() {
        let fix = "name the plugin's .wasm file, relative to this file's folder";
        checker.value(Finding::new(Code::BadValue, format!("`{path}` is empty"), fix), path);
    }
    checker.document.folder().join(text)
}

fn default_instances() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    u32::try_from(cores).unwrap_or(INSTANCES_DEFAULT_MAX).min(INSTANCES_DEFAULT_MAX)
}
