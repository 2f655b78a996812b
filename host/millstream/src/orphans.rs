//! Orphans: retries that nobody would read any more, since the template of the tiers was changed.
//!
//! Part of `check`. Tiers are found by name, so a delay that is taken out is still drained; a template
//! that is changed is not. Looked for are the default templates, with the group and without: the
//! default itself changes when a second pipeline begins to read the topic.

use millstream_core::headers;
use millstream_core::lag;
use millstream_core::log::{Log, LogError};
use millstream_core::message::{Partition, Topic};
use millstream_core::names::Template;
use millstream_core::pipeline_spec::PipelineSpec;

use crate::finding::{Code, Finding};

/// Templates that a pipeline has if it names none.
const DEFAULT_TIERS: [&str; 2] = ["{topic}.retry.{delay}", "{topic}.{group}.retry.{delay}"];

/// A finding for each tier of a former template that holds retries of this group.
///
/// # Errors
/// When the log cannot be read.
pub async fn find(log: &dyn Log, spec: &PipelineSpec) -> Result<Vec<Finding>, LogError> {
    let mut findings = Vec::new();
    let topics = log.topics().await?;
    for text in DEFAULT_TIERS {
        let Ok(former) = Template::new(text, true) else { continue };
        for topic in &topics {
            let is_tier = |template: &Template, source: &Topic| {
                template.delay_of(&topic.name, source, &spec.group).is_some()
            };
            let left_behind =
                |source: &Topic| is_tier(&former, source) && !is_tier(&spec.retry.topic, source);
            if !spec.topics.iter().any(left_behind) {
                continue;
            }
            let partitions =
                (0..topic.partitions).map(|number| Partition::new(topic.name.clone(), number));
            let retries = unsettled(log, spec, &partitions.collect::<Vec<_>>()).await?;
            if retries > 0 {
                let what = format!("{retries} retries in {} would never be read", topic.name);
                let why = "the pipeline's retry tiers have another name now";
                let fix = format!("set `retry.topic = {text:?}` until they are handled");
                let finding = Finding::new(Code::Topic, what, fix).because(why);
                findings.push(finding.at(format!("pipeline {}", spec.name)));
            }
        }
    }
    Ok(findings)
}

/// Retries of this group in a tier that are not settled. Another group may have a tier of this name.
async fn unsettled(
    log: &dyn Log,
    spec: &PipelineSpec,
    partitions: &[Partition],
) -> Result<u64, LogError> {
    let ends = log.ends(partitions).await?;
    let commits = log.committed(&spec.group, partitions).await?;
    let mut retries = 0;
    for ((partition, ends), commit) in partitions.iter().zip(ends).zip(commits) {
        let next = commit.map_or(ends.start, |commit| commit.next.max(ends.start));
        let Some(first) = lag::message_at(log, partition, next, ends.end).await? else { continue };
        let ours =
            headers::decode(&first.headers).is_ok_and(|found| *found.origin_group == *spec.group);
        if ours {
            retries += ends.end.saturating_sub(next);
        }
    }
    Ok(retries)
}
