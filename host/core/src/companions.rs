//! Companion topics: the retry tiers, dead letters with their states, and idempotency topics beside each source topic.
//!
//! Made before the first message is handled, with the source's partition count, so that a companion
//! keeps the partition number; append time, so that neither an old timestamp nor a broker's
//! retention can remove a retry before it is due; no time limit on tiers; room for the headers that
//! a message grows by.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::dead_letter;
use crate::idempotency::mark_record;
use crate::log::{Log, LogError, TopicSpec};
use crate::message::{Partition, Topic};
use crate::names::REDRIVE_DELAY;
use crate::pipeline_spec::{KeepOrder, PipelineSpec};

/// How much larger a companion's messages may be than the source's: the host's headers and room.
pub const COMPANION_HEADROOM_BYTES: usize = 64 * 1024;

/// How much longer than they are asked for marks are kept in their topic: clocks differ.
const MARKS_KEPT_LONGER: Duration = Duration::from_secs(24 * 3600);

/// What the topic of marks takes at least: a log may write many marks as one.
const MARKS_BYTES_MIN: usize = 1 << 20;

/// The companion topics `spec` needs beside those of `sources`.
pub fn wanted(spec: &PipelineSpec, sources: &[TopicSpec]) -> Vec<TopicSpec> {
    let mut wanted = Vec::new();
    for source in sources.iter().filter(|source| spec.topics.contains(&source.name)) {
        let companion = |name: Topic, retention: Option<Duration>| TopicSpec {
            name,
            partitions: source.partitions,
            retention,
            retention_bytes: None,
            message_bytes_max: source.message_bytes_max.saturating_add(COMPANION_HEADROOM_BYTES),
            append_time: true,
            compacted: false,
            replication: source.replication,
        };
        let mut delays: BTreeSet<Duration> = BTreeSet::from([REDRIVE_DELAY]);
        if spec.retry.keep_order != KeepOrder::OfPartition {
            delays.extend(&spec.retry.delays);
        }
        for delay in delays {
            let name = spec.retry.topic.topic(&source.name, &spec.group, Some(delay));
            wanted.push(companion(name, None));
        }
        let name = spec.dead_letter.topic.topic(&source.name, &spec.group, None);
        let letters = companion(name, spec.dead_letter.retention);
        wanted.push(dead_letter::states_topic_spec(&letters));
        wanted.push(letters);
        if let Some(idempotency) = spec.idempotency.as_ref().filter(|spec| spec.in_topic) {
            let name = mark_record::topic(&source.name, &spec.group);
            let retention = idempotency.ttl.saturating_add(MARKS_KEPT_LONGER);
            let marks = companion(name, Some(retention));
            let message_bytes_max = marks.message_bytes_max.max(MARKS_BYTES_MIN);
            wanted.push(TopicSpec { compacted: true, message_bytes_max, ..marks });
        }
    }
    wanted
}

/// Creates the companion topics that are missing, and adds partitions to those that have too few; for a
/// source partition that was assigned, there is one beside it then.
///
/// # Errors
/// `Fatal` if a source topic does not exist, `Unavailable` while the log does not list the partition; else
/// what the log says.
pub async fn ensure(
    log: &dyn Log,
    spec: &PipelineSpec,
    assigned: Option<&Partition>,
) -> Result<(), LogError> {
    let topics = log.topics().await?;
    if let Some(assigned) = assigned {
        let listed = topics.iter().find(|topic| topic.name == assigned.topic);
        if listed.is_some_and(|topic| topic.partitions <= assigned.number) {
            let text = format!("{assigned} is assigned, and not listed yet");
            return Err(LogError::Unavailable(text));
        }
    }
    for source in &spec.topics {
        if !topics.iter().any(|topic| topic.name == *source) {
            return Err(LogError::Fatal(format!(
                "pipeline {}: source topic {source} does not exist: create it (`millstream topics create {source}`) or correct `source.topics`",
                spec.name,
            )));
        }
    }
    for topic in wanted(spec, &topics) {
        let enough = topics
            .iter()
            .any(|there| there.name == topic.name && there.partitions >= topic.partitions);
        if !enough {
            log.create_topic(topic).await?;
        }
    }
    Ok(())
}
