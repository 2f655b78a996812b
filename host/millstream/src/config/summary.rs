//! What is in use, printed when the host starts: every value that counts, secrets masked.

use std::fmt::Write as _;
use std::time::Duration;

use millstream_core::idempotency::KeySource;
use millstream_core::names::delay_text;
use millstream_core::pipeline_spec::{
    Delivery, KeepOrder, MissingKey, Ordering, PipelineSpec, Start,
};

use crate::config::{
    Config, Durability, GroupProtocol, HostOptions, KafkaConfig, LogKind, PipelineConfig,
    TracesOptions,
};

/// The summary, line by line.
pub fn summary(config: &Config) -> String {
    let mut out = String::new();
    let token = tokens(&config.host);
    line(&mut out, "config", &config.file.display().to_string());
    line(&mut out, "data", &config.host.data_dir.display().to_string());
    match &config.log.kind {
        LogKind::Embedded { durability } => {
            line(&mut out, "log", &format!("embedded, {}", self::durability(*durability)));
        }
        LogKind::Kafka(kafka) => kafka_summary(&mut out, &config.host, kafka),
    }
    line(&mut out, "admin", &format!("{}, {token}", config.host.admin));
    if !config.host.allowed_hosts.is_empty() {
        line(&mut out, "reached as", &config.host.allowed_hosts.join(", "));
    }
    if let Some(traces) = &config.traces {
        let TracesOptions { url, headers, sample, service } = traces;
        let names = headers.iter().map(|(name, _)| format!("{name}=***")).collect();
        let text = format!("to {url} as {service}, {}", sampled(*sample));
        line(&mut out, "traces", &text);
        line(&mut out, "with headers", &or_none(names));
    }
    for pipeline in &config.pipelines {
        pipeline_summary(&mut out, pipeline);
    }
    out
}

fn tokens(host: &HostOptions) -> String {
    let mut words =
        vec![if host.admin_token.is_some() { "token ***" } else { "token made at start" }];
    words.extend(host.admin_read_token.is_some().then_some("read token ***"));
    words.extend(host.metrics_token.is_some().then_some("metrics token ***"));
    words.extend(host.open_probes.then_some("open probes"));
    words.join(", ")
}

fn durability(durability: Durability) -> String {
    match durability {
        Durability::Always => "every write on disk before it is answered".to_owned(),
        Durability::Interval(interval) => {
            format!("on disk every {}; a power cut may cost that much", delay_text(interval))
        }
    }
}

fn kafka_summary(out: &mut String, host: &HostOptions, kafka: &KafkaConfig) {
    let protocol = match kafka.group_protocol {
        GroupProtocol::Classic => "classic",
        GroupProtocol::Consumer => "consumer",
    };
    let members = if kafka.static_membership { ", static membership" } else { "" };
    let servers = &kafka.bootstrap_servers;
    line(out, "log", &format!("kafka at {servers}, group protocol {protocol}{members}"));
    let client = kafka.client.iter().map(|(name, setting)| format!("{name}={setting:?}"));
    line(out, "client", &or_none(client.collect()));
    if let Some(file) = &kafka.oauth_token_file {
        line(out, "oauth token", &file.display().to_string());
    }
    let id = match &host.id {
        Some(id) => id.clone(),
        None => format!("made once, in {}", host.id_file().display()),
    };
    line(out, "host id", &id);
}

fn line(out: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "  {name:<12} {value}");
}

fn pipeline_summary(out: &mut String, pipeline: &PipelineConfig) {
    let PipelineConfig { spec, plugin, limits, settings, trace_sample } = pipeline;
    let _ = writeln!(out, "pipeline {}", spec.name);
    let start = match spec.start {
        Start::Earliest => "earliest",
        Start::Latest => "latest",
    };
    let topics = spec.topics.iter().map(|t| &**t).collect::<Vec<_>>().join(", ");
    line(out, "source", &format!("{topics} as group {}, from {start}", spec.group));
    line(out, "plugin", &plugin.display().to_string());
    let outputs = spec.outputs.iter().map(|(name, topic)| format!("{name} → {topic}"));
    line(out, "outputs", &or_none(outputs.collect()));
    let (delivery, ordering) = (delivery(spec.delivery), ordering(spec.ordering));
    let transactions = match spec.transaction_interval {
        Duration::ZERO => String::new(),
        interval => format!(", a transaction every {}", duration(interval)),
    };
    line(out, "promise", &format!("{delivery}, {ordering}{transactions}"));
    line(out, "retry", &retry(spec));
    let kept = spec.dead_letter.retention.map_or("for ever".to_owned(), duration);
    let dead = spec.topics.iter().map(|t| spec.dead_letter.topic.topic(t, &spec.group, None));
    let dead = dead.map(|t| t.to_string()).collect::<Vec<_>>().join(", ");
    let crashes = match spec.dead_letter.after_host_crashes {
        // Committed before it is handled, a message kills one host and is gone.
        Some(_) if spec.delivery == Delivery::AtMostOnce => String::new(),
        Some(crashes) => format!(", also after {crashes} crashes of a host"),
        None => String::new(),
    };
    line(out, "dead letters", &format!("{dead}, kept {kept}{crashes}"));
    line(out, "idempotency", &idempotency(spec));
    let bytes = size(spec.in_flight_bytes);
    line(out, "in flight", &format!("{} messages, {bytes}", spec.in_flight_messages));
    if spec.retry.keep_order == KeepOrder::OfKey {
        let bytes = size(spec.waiting_bytes);
        let text = format!("{} messages, {bytes}, in each partition", spec.waiting_messages);
        line(out, "waiting", &text);
    }
    line(
        out,
        "limits",
        &format!(
            "{}, {} memory each, {} an attempt, {} or {} outputs a message",
            instances(spec.instances),
            size(limits.memory_bytes),
            duration(limits.time),
            size(limits.output_bytes),
            limits.output_count
        ),
    );
    if let Some(settings) = settings {
        let settings = settings.iter().map(|(name, setting)| format!("{name}={setting:?}"));
        line(out, "settings", &or_none(settings.collect()));
    }
    if let Some(sample) = trace_sample {
        line(out, "traces", &sampled(*sample));
    }
}

fn sampled(sample: f64) -> String {
    // Not more digits than a person has typed.
    let percent = (sample * 1e8).round() / 1e6;
    format!("{percent} % of the messages without a context")
}

fn instances(count: usize) -> String {
    if count == 1 { "1 instance".to_owned() } else { format!("{count} instances") }
}

fn or_none(items: Vec<String>) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn delivery(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::AtLeastOnce => "at least once",
        Delivery::ExactlyOnce => "exactly once",
        Delivery::AtMostOnce => "at most once",
    }
}

fn ordering(ordering: Ordering) -> &'static str {
    match ordering {
        Ordering::Partition => "in order by partition",
        Ordering::Key => "in order by key",
        Ordering::None => "in no order",
    }
}

fn retry(spec: &PipelineSpec) -> String {
    if spec.retry.delays.is_empty() {
        return "none: a failed message is a dead letter at once".to_owned();
    }
    let delays = spec.retry.delays.iter().map(|d| delay_text(*d)).collect::<Vec<_>>().join(", ");
    let how = match spec.retry.keep_order {
        KeepOrder::OfPartition => "in place, the partition waits",
        KeepOrder::OfKey => "in retry tiers, later messages of its key wait",
        KeepOrder::No => "in retry tiers, later messages pass it",
    };
    format!("after {delays}, {how}")
}

fn idempotency(spec: &PipelineSpec) -> String {
    let Some(idempotency) = &spec.idempotency else { return "none".to_owned() };
    let key = match &idempotency.key {
        KeySource::Header(name) => format!("header {name}"),
        KeySource::MessageKey => "message key".to_owned(),
        KeySource::JsonPointer(pointer) => format!("JSON {pointer}"),
    };
    let missing = match idempotency.missing {
        MissingKey::Reject => "rejected",
        MissingKey::Handle => "handled",
    };
    format!("{key}, remembered {}, without it {missing}", duration(idempotency.ttl))
}

/// A duration for a person: `14d`, `1m 30s`, `2.5s`, by its two largest units.
pub fn duration(duration: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3_600, "h"), (60, "m")];
    if duration < Duration::from_secs(60) {
        return if duration.subsec_millis() == 0 {
            format!("{}s", duration.as_secs())
        } else if duration < Duration::from_secs(1) {
            format!("{}ms", duration.as_millis())
        } else {
            format!("{}s", (duration.as_secs_f64() * 1000.0).round() / 1000.0)
        };
    }
    let mut rest = duration.as_secs();
    let mut parts = Vec::new();
    for (seconds, unit) in UNITS {
        if rest >= seconds {
            parts.push(format!("{}{unit}", rest / seconds));
            rest %= seconds;
        }
    }
    if rest > 0 {
        parts.push(format!("{rest}s"));
    }
    parts.truncate(2);
    parts.join(" ")
}

/// A size for a person: `64.0 MiB`.
pub fn size(bytes: usize) -> String {
    bytesize::ByteSize::b(bytes as u64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_say_what_counts() {
        for (millis, text) in [
            (0, "0s"),
            (5, "5ms"),
            (2_500, "2.5s"),
            (59_999, "59.999s"),
            (90_000, "1m 30s"),
            (3_600_000, "1h"),
            (1_209_600_000, "14d"),
            (90_061_000, "1d 1h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text, "{millis} ms");
        }
    }
}
