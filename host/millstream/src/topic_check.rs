//! Topic check: what stands against a run on topics that are not the host's own to change.
//!
//! Part of `check` and `run`. On a cluster topics belong to whoever runs it: sources and outputs are
//! not made by a run, and a companion that was made otherwise than the host makes it is named with
//! the command that mends it. Worst without it: a broker removes retries before they are due, by an
//! old message's time or the topic's retention; or a dead letter does not fit its topic.

use crate::config::{KafkaConfig, summary};
use crate::finding::{Code, Finding};
use crate::topic_plan::{Action, Planned, Role};

/// What makes everything that is missing.
const CREATE: &str = "`millstream topics create --pipelines`";
/// What a broker counts of a message beside key, value and headers, generously.
const BATCH_BYTES: usize = 1024;

/// Everything that is missing or not as it is needed, each with what mends it.
pub fn findings(plan: &[Planned], kafka: &KafkaConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    for planned in plan {
        let place = format!("pipeline {}", planned.pipeline);
        let found = [missing(planned), too_few(planned)];
        findings.extend(found.into_iter().flatten().map(|finding| finding.at(&place)));
    }
    findings.extend(unchanged(plan, kafka));
    findings
}

/// What creating topics leaves as it is: settings of those that are there.
pub fn unchanged(plan: &[Planned], kafka: &KafkaConfig) -> Vec<Finding> {
    let found = |planned: &Planned| {
        let both = [unfit(planned, kafka), larger(planned)].into_iter().flatten();
        both.map(|finding| finding.at(format!("pipeline {}", planned.pipeline))).collect::<Vec<_>>()
    };
    plan.iter().flat_map(found).collect()
}

/// A topic that no run makes. A missing companion is made by its pipeline when it starts, which is
/// too late for another pipeline that reads it.
fn missing(planned: &Planned) -> Option<Finding> {
    if planned.there.is_some() || (planned.role.is_companion() && !planned.is_read) {
        return None;
    }
    let why = match planned.role {
        Role::Source => {
            "a pipeline reads it; on Kafka a run makes retry tiers and dead letters only"
        }
        Role::Output => "outputs go there; on Kafka a run makes retry tiers and dead letters only",
        Role::DeadLetters | Role::Tier | Role::Marks | Role::States | Role::Control => {
            "another pipeline reads it"
        }
    };
    let what = format!("topic {} does not exist", planned.spec.name);
    let fix = format!("{CREATE} makes all that are missing; see first with `--dry-run`");
    Some(Finding::new(Code::Topic, what, fix).because(why))
}

fn too_few(planned: &Planned) -> Option<Finding> {
    let Action::Grow { from } = planned.action else { return None };
    if planned.role == Role::Control {
        let what = format!("control topic {} has {from} partitions, not 2", planned.spec.name);
        let why = "rows and the bytes of plugins lie in a partition each";
        let fix = format!("{CREATE} adds them");
        return Some(Finding::new(Code::Topic, what, fix).because(why));
    }
    let (name, wanted) = (&planned.spec.name, planned.spec.partitions);
    let what = format!("companion topic {name} has {from} partitions, its source {wanted}");
    let why = "a message keeps its partition's number in retries and dead letters";
    let fix = format!("{CREATE} adds them; see first with `--dry-run`");
    Some(Finding::new(Code::Topic, what, fix).because(why))
}

/// A companion with settings that would lose messages or refuse them.
fn unfit(planned: &Planned, kafka: &KafkaConfig) -> Option<Finding> {
    let there = planned.there.as_ref().filter(|_| planned.role.is_companion())?;
    let wanted = &planned.spec;
    let mut reasons = Vec::new();
    let mut settings = Vec::new();
    if !there.append_time && planned.role != Role::Control {
        reasons.push(
            "its records have the messages' own time, by which an old one is removed at once, and \
             by which none is due"
                .to_owned(),
        );
        settings.push("message.timestamp.type=LogAppendTime".to_owned());
    }
    if planned.role == Role::Tier
        && let Some(retention) = there.retention
    {
        let kept = summary::duration(retention);
        reasons.push(format!("it keeps records {kept}, and a retry may wait longer"));
        settings.push("retention.ms=-1".to_owned());
    }
    if planned.role == Role::Tier
        && let Some(bytes) = there.retention_bytes
    {
        let size = bytesize::ByteSize::b(bytes);
        reasons.push(format!("it keeps {size} of a partition, and more retries may wait"));
        settings.push("retention.bytes=-1".to_owned());
    }
    if planned.role == Role::Marks
        && let (Some(kept), Some(due)) = (there.retention, wanted.retention)
        && kept < due
    {
        let (kept, due_text) = (summary::duration(kept), summary::duration(due));
        reasons.push(format!("it keeps marks {kept}, and `idempotency.ttl` needs {due_text}"));
        settings.push(format!("retention.ms={}", due.as_millis()));
    }
    if planned.role == Role::Marks
        && let Some(bytes) = there.retention_bytes
    {
        let size = bytesize::ByteSize::b(bytes);
        reasons.push(format!("it keeps {size} of a partition, and marks need what they need"));
        settings.push("retention.bytes=-1".to_owned());
    }
    if planned.role == Role::States
        && let Some(retention) = there.retention
    {
        let kept = summary::duration(retention);
        reasons.push(format!(
            "it forgets after {kept} what became of dead letters, and those would be redriven again"
        ));
        settings.push("retention.ms=-1".to_owned());
    }
    if planned.role == Role::States && !there.compacted {
        reasons.push("it is not compacted, and grows with every redrive".to_owned());
        settings.push("cleanup.policy=compact".to_owned());
    }
    if planned.role == Role::Control && !(there.compacted && there.retention.is_none()) {
        reasons.push(
            "it forgets deployed versions: only the last record of each key may stay".to_owned(),
        );
        settings.push("cleanup.policy=compact".to_owned());
        settings.push("retention.ms=-1".to_owned());
    }
    if there.message_bytes_max < wanted.message_bytes_max {
        let (is, due) = (there.message_bytes_max, wanted.message_bytes_max);
        reasons.push(format!(
            "it takes messages of {is} bytes, and the largest of its source need {due} with the \
             host's headers"
        ));
        settings.push(format!("max.message.bytes={}", due + BATCH_BYTES));
    }
    if settings.is_empty() {
        return None;
    }
    let kind = if planned.role == Role::Control { "control" } else { "companion" };
    let what = format!("{kind} topic {} is not set up as it is needed", wanted.name);
    let fix = format!(
        "`kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {} \
         --add-config {}`",
        kafka.bootstrap_servers,
        wanted.name,
        settings.join(",")
    );
    Some(Finding::new(Code::Topic, what, fix).because(reasons.join("; ")))
}

/// A warning of a companion with more partitions than its source.
pub fn larger(planned: &Planned) -> Option<Finding> {
    let Action::Larger { partitions } = planned.action else { return None };
    if planned.role == Role::Control {
        return None;
    }
    let what = format!(
        "companion topic {} has {partitions} partitions, its source {}",
        planned.spec.name, planned.spec.partitions
    );
    let why = "messages in partitions that the source does not have are not read";
    let fix = "give the source as many partitions, or name the companions anew";
    Some(Finding::new(Code::Topic, what, fix).because(why).warning())
}

#[cfg(test)]
mod tests;
