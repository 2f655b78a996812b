//! Lag: how far a pipeline is behind, computed from the log alone, so that it is right when no host
//! runs.
//!
//! - `lag = max(end − max(committed, start), 0)` for each source partition;
//! - retry messages that are not due yet count in no due lag: in a tier messages become due in
//!   offset order, so the log is asked for the first that is not ([`Log::first_after`]);
//! - time lag = now − timestamp of the next unsettled message; 0 when caught up.

use std::ops::Range;
use std::time::Duration;

use serde::Serialize;

use crate::log::{AppendedAfter, Commit, Ends, Log, LogError, Room, TopicSpec};
use crate::message::{EpochMs, Message, Offset, Partition};
use crate::names::delay_text;
use crate::pipeline_spec::{PipelineSpec, Start};

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

/// The partitions a pipeline reads: what its lag is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Partitions of the source topics.
    pub sources: Vec<Partition>,
    /// Partitions of the retry tiers, with their delays.
    pub tiers: Vec<(Partition, Duration)>,
    /// Source topics that the log does not have, or does not show.
    pub missing_topics: Vec<String>,
}

/// What is not settled of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// The partition.
    pub partition: Partition,
    /// The delay, if it is a tier.
    pub tier: Option<Duration>,
    /// The next offset the group has not settled; `None`: it never committed.
    pub committed: Option<Offset>,
    /// The first offset that is still there.
    pub start: Offset,
    /// Where handling goes on.
    pub next: Offset,
    /// The offset after the last message.
    pub end: Offset,
    /// Before this everything is due.
    pub due_end: Offset,
    /// Messages from `next` on.
    pub lag: u64,
    /// Those of them that could be handled now.
    pub due: u64,
}

/// Computes the lag of a pipeline.
///
/// # Errors
/// When the log cannot be read.
pub async fn of(log: &dyn Log, spec: &PipelineSpec, now: EpochMs) -> Result<PipelineLag, LogError> {
    let places = places(log, spec).await?;
    let mut partitions = Vec::with_capacity(places.sources.len());
    for unsettled in unsettled(log, spec, &places, now).await? {
        partitions.push(with_age(log, unsettled, now).await?);
    }
    let of_sources = || partitions.iter().filter(|p| p.tier.is_none());
    let of_tiers = || partitions.iter().filter(|p| p.tier.is_some());
    let lag: u64 = of_sources().map(|p| p.lag).sum();
    let due: u64 = of_tiers().map(|p| p.due).sum();
    let due_of_sources: u64 = of_sources().map(|p| p.due).sum();
    let retries: u64 = of_tiers().map(|p| p.lag).sum();
    let time_lag_seconds = of_sources().map(|p| p.time_lag_seconds).fold(0.0, f64::max);
    partitions.retain(|p| p.tier.is_none() || p.lag > 0);
    Ok(PipelineLag {
        pipeline: spec.name.clone(),
        group: spec.group.clone(),
        lag,
        due_lag: due_of_sources + due,
        waiting: retries.saturating_sub(due),
        time_lag_seconds,
        partitions,
        missing_topics: places.missing_topics,
    })
}

/// The partitions a pipeline reads now.
///
/// # Errors
/// When the log cannot list its topics.
pub async fn places(log: &dyn Log, spec: &PipelineSpec) -> Result<Places, LogError> {
    let topics = log.topics().await?;
    let partitions_of = |topic: &TopicSpec| {
        let name = topic.name.clone();
        (0..topic.partitions).map(move |number| Partition::new(name.clone(), number))
    };
    let mut places = Places::default();
    for source in &spec.topics {
        match topics.iter().find(|topic| topic.name == *source) {
            Some(topic) => places.sources.extend(partitions_of(topic)),
            None => places.missing_topics.push(source.to_string()),
        }
        for topic in &topics {
            // By name, not by the configured delays: a delay that was taken out is still drained.
            let delay = spec.retry.topic.delay_of(&topic.name, source, &spec.group);
            let Some(delay) = delay else { continue };
            places.tiers.extend(partitions_of(topic).map(|partition| (partition, delay)));
        }
    }
    Ok(places)
}

/// What is not settled of these partitions: the sources, then the tiers, each in the order given.
///
/// # Errors
/// When the log cannot be read.
pub async fn unsettled(
    log: &dyn Log,
    spec: &PipelineSpec,
    places: &Places,
    now: EpochMs,
) -> Result<Vec<Unsettled>, LogError> {
    let sources = places.sources.iter().map(|partition| (partition.clone(), None));
    let tiers = places.tiers.iter().map(|(partition, delay)| (partition.clone(), Some(*delay)));
    let (partitions, delays): (Vec<Partition>, Vec<Option<Duration>>) =
        sources.chain(tiers).unzip();
    // Commits first: what is settled meanwhile makes the lag too large for a moment, never too small.
    let commits = log.committed(&spec.group, &partitions).await?;
    let ends = log.ends(&partitions).await?;
    let mut found = Vec::with_capacity(partitions.len());
    for ((partition, tier), (commit, ends)) in
        partitions.into_iter().zip(delays).zip(commits.iter().zip(ends))
    {
        let first = match (tier, spec.start) {
            // A tier without a commit starts at its log start.
            (Some(_), _) | (None, Start::Earliest) => ends.start,
            // A group that never committed begins where it is told to.
            (None, Start::Latest) => ends.end,
        };
        let (next, lag) = span(ends, commit.as_ref(), first);
        let committed = commit.as_ref().map(|commit| commit.next);
        let Ends { start, end, .. } = ends;
        // What was settled out of order lies above the commit, and is not due again.
        let settled = commit.as_ref().map_or(0, |commit| settled_within(commit, next..end));
        let (due_end, due) = (end, lag.saturating_sub(settled));
        found.push(Unsettled { partition, tier, committed, start, next, end, due_end, lag, due });
    }
    let waiting: Vec<(&mut Unsettled, Option<&Commit>)> = found
        .iter_mut()
        .zip(commits.iter().map(Option::as_ref))
        .filter(|(unsettled, _)| unsettled.tier.is_some() && unsettled.lag > 0)
        .collect();
    let appended_after = |unsettled: &Unsettled| AppendedAfter {
        partition: unsettled.partition.clone(),
        within: unsettled.next..unsettled.end,
        time: now.saturating_sub(millis(unsettled.tier.unwrap_or_default())),
    };
    let asked: Vec<AppendedAfter> =
        waiting.iter().map(|(unsettled, _)| appended_after(unsettled)).collect();
    let due_ends = log.first_after(&asked).await?;
    for ((unsettled, commit), due_end) in waiting.into_iter().zip(due_ends) {
        unsettled.due_end = due_end;
        let settled = commit.map_or(0, |commit| settled_within(commit, unsettled.next..due_end));
        unsettled.due = due_end.saturating_sub(unsettled.next).saturating_sub(settled);
    }
    Ok(found)
}

/// Where handling goes on, and how much is not settled from there.
fn span(ends: Ends, commit: Option<&Commit>, first: Offset) -> (Offset, u64) {
    let next = commit.map_or(first, |commit| commit.next).max(ends.start);
    (next, ends.end.saturating_sub(next))
}

async fn with_age(
    log: &dyn Log,
    unsettled: Unsettled,
    now: EpochMs,
) -> Result<PartitionLag, LogError> {
    let Unsettled { partition, tier, committed, next, end, due_end, lag, due, .. } = unsettled;
    let oldest = message_at(log, &partition, next, due_end).await?;
    let due_since =
        |message: Message| message.timestamp.saturating_add(millis(tier.unwrap_or_default()));
    Ok(PartitionLag {
        topic: partition.topic.to_string(),
        partition: partition.number,
        tier: tier.map(delay_text),
        committed,
        end,
        lag,
        due,
        time_lag_seconds: oldest.map_or(0.0, |message| age_seconds(now, due_since(message))),
    })
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

fn settled_within(commit: &Commit, range: Range<Offset>) -> u64 {
    let within = |settled: &Range<Offset>| {
        settled.end.min(range.end).saturating_sub(settled.start.max(range.start))
    };
    commit.settled_above.iter().map(within).sum()
}

/// The first message from `from` on, if it stands before `end`.
///
/// # Errors
/// When the log cannot be read.
pub async fn message_at<L: Log + ?Sized>(
    log: &L,
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

/// What [`Log::first_after`] answers on a log that knows no more than its messages: found by halves.
pub(crate) async fn first_after_by_halves<L: Log + ?Sized>(
    log: &L,
    asked: &AppendedAfter,
) -> Result<Offset, LogError> {
    let Range { start: mut low, end: mut high } = asked.within;
    while low < high {
        let middle = low + (high - low) / 2;
        match message_at(log, &asked.partition, middle, high).await? {
            Some(message) if message.timestamp <= asked.time => low = message.offset + 1,
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
        let (next, lag) = span(ends, Some(&commit), 50);
        assert_eq!((next, lag), (50, 10), "what retention removed cannot be behind");
    }

    #[test]
    fn a_commit_beyond_the_end_is_no_negative_lag() {
        let ends = Ends { start: 0, end: 5, high: 5 };
        let commit = Commit { next: 9, ..Commit::default() };
        assert_eq!(span(ends, Some(&commit), 0).1, 0);
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
