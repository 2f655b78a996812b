//! Lag: how far a pipeline is behind, computed from the log alone, so that it is right when no host
//! runs.
//!
//! - `lag = max(end − max(committed, start), 0)` for each source partition;
//! - retry messages that are not due yet count in no due lag: in a tier messages become due in
//!   offset order, so the first that is not due is searched by halves;
//! - time lag = now − timestamp of the next unsettled message; 0 when caught up.

use std::time::Duration;

use millstream_core::log::{Commit, Ends, Log, LogError, Room};
use millstream_core::message::{EpochMs, Message, Offset, Partition, Topic};
use millstream_core::names::delay_text;
use millstream_core::pipeline_spec::{PipelineSpec, Start};
use serde::Serialize;

/// One message is enough to know a time.
const ONE: Room = Room { messages: 1, bytes: 1 };

/// How far one pipeline is behind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PipelineLag {
    /// The pipeline.
    pub pipeline: String,
    /// Its consumer group.
    pub group: String,
    /// Messages of the sources that are not committed.
    pub lag: u64,
    /// What could be handled now: `lag` and the retries that are due.
    pub due_lag: u64,
    /// Retries that wait for their time.
    pub waiting: u64,
    /// Age of the oldest unsettled source message.
    pub time_lag_seconds: f64,
    /// Source partitions, then those tiers that hold messages.
    pub partitions: Vec<PartitionLag>,
    /// Topics the pipeline reads that the log does not have.
    pub missing_topics: Vec<String>,
}

/// How far one partition is behind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
    /// The delay, if it is a tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The next offset the group has not settled; `None`: it never committed.
    pub committed: Option<Offset>,
    /// The offset after the last message.
    pub end: Offset,
    /// Messages that are not committed.
    pub lag: u64,
    /// Those of them that could be handled now.
    pub due: u64,
    /// Source: age of the next unsettled message. Tier: how long the first is overdue.
    pub time_lag_seconds: f64,
}

/// Computes the lag of a pipeline.
///
/// # Errors
/// When the log cannot be read.
pub async fn of(log: &dyn Log, spec: &PipelineSpec, now: EpochMs) -> Result<PipelineLag, LogError> {
    let topics = log.topics().await?;
    let partitions_of = |name: &Topic| {
        let topic = topics.iter().find(|topic| topic.name == *name)?;
        Some((0..topic.partitions).map(|n| Partition::new(name.clone(), n)).collect::<Vec<_>>())
    };
    let mut missing_topics = Vec::new();
    let mut sources = Vec::new();
    let mut tiers = Vec::new();
    for source in &spec.topics {
        match partitions_of(source) {
            Some(partitions) => sources.extend(partitions),
            None => missing_topics.push(source.to_string()),
        }
        for topic in &topics {
            // By name, not by the configured delays: a delay that was taken out is still drained.
            let delay = spec.retry.topic.delay_of(&topic.name, source, &spec.group);
            let Some(delay) = delay else { continue };
            let partitions = partitions_of(&topic.name).unwrap_or_default();
            tiers.extend(partitions.into_iter().map(|partition| (partition, delay)));
        }
    }
    let mut partitions = source_lags(log, spec, &sources, now).await?;
    let lag: u64 = partitions.iter().map(|p| p.lag).sum();
    let time_lag_seconds = partitions.iter().map(|p| p.time_lag_seconds).fold(0.0, f64::max);
    let tiers = tier_lags(log, spec, &tiers, now).await?;
    let due: u64 = tiers.iter().map(|tier| tier.due).sum();
    let retries: u64 = tiers.iter().map(|tier| tier.lag).sum();
    partitions.extend(tiers.into_iter().filter(|tier| tier.lag > 0));
    Ok(PipelineLag {
        pipeline: spec.name.clone(),
        group: spec.group.clone(),
        lag,
        due_lag: lag + due,
        waiting: retries.saturating_sub(due),
        time_lag_seconds,
        partitions,
        missing_topics,
    })
}

/// Where handling goes on, and how much is not settled from there.
struct Unsettled {
    next: Offset,
    lag: u64,
}

fn unsettled(ends: Ends, commit: Option<&Commit>, first: Offset) -> Unsettled {
    let next = commit.map_or(first, |commit| commit.next).max(ends.start);
    Unsettled { next, lag: ends.end.saturating_sub(next) }
}

async fn source_lags(
    log: &dyn Log,
    spec: &PipelineSpec,
    partitions: &[Partition],
    now: EpochMs,
) -> Result<Vec<PartitionLag>, LogError> {
    let commits = log.committed(&spec.group, partitions).await?;
    let ends = log.ends(partitions).await?;
    let mut lags = Vec::with_capacity(partitions.len());
    for ((partition, commit), ends) in partitions.iter().zip(commits).zip(ends) {
        // A group that never committed begins where it is told to.
        let first = match spec.start {
            Start::Earliest => ends.start,
            Start::Latest => ends.end,
        };
        let Unsettled { next, lag } = unsettled(ends, commit.as_ref(), first);
        let oldest = message_at(log, partition, next, ends.end).await?;
        lags.push(PartitionLag {
            topic: partition.topic.to_string(),
            partition: partition.number,
            tier: None,
            committed: commit.map(|commit| commit.next),
            end: ends.end,
            lag,
            due: lag,
            time_lag_seconds: oldest.map_or(0.0, |message| age_seconds(now, message.timestamp)),
        });
    }
    Ok(lags)
}

async fn tier_lags(
    log: &dyn Log,
    spec: &PipelineSpec,
    tiers: &[(Partition, Duration)],
    now: EpochMs,
) -> Result<Vec<PartitionLag>, LogError> {
    let partitions: Vec<Partition> = tiers.iter().map(|(partition, _)| partition.clone()).collect();
    let commits = log.committed(&spec.group, &partitions).await?;
    let ends = log.ends(&partitions).await?;
    let mut lags = Vec::with_capacity(tiers.len());
    for (((partition, delay), commit), ends) in tiers.iter().zip(commits).zip(ends) {
        // A tier without a commit starts at its log start.
        let Unsettled { next, lag } = unsettled(ends, commit.as_ref(), ends.start);
        let appended_by = now.saturating_sub(millis(*delay));
        let due_end = first_after(log, partition, next..ends.end, appended_by).await?;
        let settled = commit.as_ref().map_or(0, |commit| settled_within(commit, next..due_end));
        let oldest = message_at(log, partition, next, due_end).await?;
        let overdue =
            |message: Message| age_seconds(now, message.timestamp.saturating_add(millis(*delay)));
        lags.push(PartitionLag {
            topic: partition.topic.to_string(),
            partition: partition.number,
            tier: Some(delay_text(*delay)),
            committed: commit.map(|commit| commit.next),
            end: ends.end,
            lag,
            due: due_end.saturating_sub(next).saturating_sub(settled),
            time_lag_seconds: oldest.map_or(0.0, overdue),
        });
    }
    Ok(lags)
}

fn millis(duration: Duration) -> EpochMs {
    EpochMs::try_from(duration.as_millis()).unwrap_or(EpochMs::MAX)
}

/// Never negative, whatever clock a producer has.
fn age_seconds(now: EpochMs, then: EpochMs) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an age; f64 is exact for 285,000 years")]
    let millis = now.saturating_sub(then).max(0) as f64;
    millis / 1000.0
}

fn settled_within(commit: &Commit, range: std::ops::Range<Offset>) -> u64 {
    let within = |settled: &std::ops::Range<Offset>| {
        settled.end.min(range.end).saturating_sub(settled.start.max(range.start))
    };
    commit.settled_above.iter().map(within).sum()
}

/// The first message from `from` on, if it stands before `end`.
pub(crate) async fn message_at(
    log: &dyn Log,
    partition: &Partition,
    from: Offset,
    end: Offset,
) -> Result<Option<Message>, LogError> {
    let mut from = from;
    while from < end {
        let batch = log.fetch(partition, from, ONE).await?;
        if let Some(message) = batch.messages.into_iter().next() {
            return Ok((message.offset < end).then_some(message));
        }
        if batch.next <= from {
            return Ok(None);
        }
        from = batch.next;
    }
    Ok(None)
}

/// The first offset in `range` whose message was appended after `time`, by halves: append times
/// grow with the offset, but for what a clock that was set back left behind.
async fn first_after(
    log: &dyn Log,
    partition: &Partition,
    range: std::ops::Range<Offset>,
    time: EpochMs,
) -> Result<Offset, LogError> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        match message_at(log, partition, middle, high).await? {
            Some(message) if message.timestamp <= time => low = message.offset + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_below_the_start_of_the_log_is_no_phantom_lag() {
        let ends = Ends { start: 50, end: 60, high: 60 };
        let commit = Commit { next: 10, ..Commit::default() };
        let Unsettled { next, lag } = unsettled(ends, Some(&commit), 50);
        assert_eq!((next, lag), (50, 10), "what retention removed cannot be behind");
    }

    #[test]
    fn a_commit_beyond_the_end_is_no_negative_lag() {
        let ends = Ends { start: 0, end: 5, high: 5 };
        let commit = Commit { next: 9, ..Commit::default() };
        assert_eq!(unsettled(ends, Some(&commit), 0).lag, 0);
    }

    #[test]
    fn what_is_settled_above_the_commit_is_not_due_again() {
        let commit = Commit { next: 2, settled_above: vec![3..5, 8..20], ..Commit::default() };
        assert_eq!(settled_within(&commit, 2..10), 4);
    }

    #[test]
    fn a_timestamp_from_the_future_gives_no_negative_age() {
        assert_eq!(age_seconds(1_000, 5_000).to_bits(), 0.0f64.to_bits());
        assert!(!age_seconds(EpochMs::MAX, EpochMs::MIN).is_nan());
    }
}
