//! Dead letters: listing, showing and redriving what a pipeline gave up on.
//!
//! Off the message's way: `settle` writes dead letters, these are the tools that read them and put
//! them back. Works over the log port alone, so on a folder and on a running host alike.
//!
//! Redrive appends a copy to the group's own redrive tier (`{topic}.retry.0s`, same partition
//! number) with its original key, value, headers and turn, no attempts and one more redrive. What it
//! has put back it takes away, in this order: the copies are appended and acknowledged, then
//! - as long as nothing below is left behind, the start of the dead-letter partition moves over them;
//! - behind a letter that stays (a filter, a foreign or refused one) a *redriven marker* is appended
//!   to the partition, an empty record whose one header names the offsets; every command here passes
//!   over the letters it names. It goes when the start moves over it; until then it counts in the
//!   depth of the topic, and other readers of the topic see it.
//!
//! Invariants:
//! - a letter is removed or marked only after its copy was acknowledged: redrive loses none;
//! - nothing goes into the dead-letter topic itself, nor to a source topic, and only letters of this
//!   group, from this source topic and partition, are put back; all others are *foreign*: listed with
//!   the reason, left where they are.
//!
//! What a crash may cost: copies that were acknowledged and not yet removed or marked (one batch, at
//! most [`BATCH_MESSAGES_MAX`]), or whose append was not answered, are redriven again by the next run;
//! so are letters that two runs at the same time both see. The second copy has the same turn and
//! redrive count. The host settles it unattempted while the first is outstanding, and afterwards if
//! the pipeline has idempotency keys and the first was handled; else the message is handled twice.
//!
//! Limits: a batch of [`BATCH_MESSAGES_MAX`] messages is in memory, a listing of its limit of lines
//! and [`GROUPS_MAX`] groups, and 16 bytes for each range of offsets that markers name.

use std::collections::HashMap;

use serde::Serialize;

use crate::headers::{self, CompanionHeaders};
use crate::log::{Log, LogError};
use crate::message::{EpochMs, Message, Offset, Partition, Topic};
use crate::names::REDRIVE_DELAY;
use crate::pipeline_spec::PipelineSpec;

mod redrive;
mod redriven_marker;
mod scan;

pub use redrive::{Progress, RedriveReport, RedriveRequest, Refused};
use scan::Scan;

/// Messages read, and put back, at once.
pub const BATCH_MESSAGES_MAX: usize = 256;
/// Different failures that a listing counts one by one; further ones are counted together.
pub const GROUPS_MAX: usize = 1_000;
/// The kind under which foreign letters are listed and can be filtered.
pub const FOREIGN: &str = "foreign";

/// Bytes read at once.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Why a dead-letter command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeadLetterError {
    /// The log failed; what was done until then stands, and the command may be given again.
    #[error("{doing}: {error}")]
    Log {
        /// What was being done, and where.
        doing: String,
        /// What the log said.
        error: LogError,
    },
    /// There is no such dead letter.
    #[error("{0}")]
    NotFound(String),
    /// The configuration would put letters where they must not go.
    #[error("{0}")]
    Refused(String),
}

/// Which dead letters; what is `None` chooses nothing out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this source topic.
    pub source: Option<String>,
    /// Those in this partition.
    pub partition: Option<u32>,
    /// The one at this offset of its dead-letter partition.
    pub offset: Option<Offset>,
    /// Those that failed like this, as [`crate::outcome::Outcome::kind`] says it, or [`FOREIGN`].
    pub kind: Option<String>,
}

impl Filter {
    fn takes(&self, message: &Message, content: &Content) -> bool {
        self.offset.is_none_or(|offset| offset == message.offset)
            && self.kind.as_ref().is_none_or(|kind| kind == content.kind())
    }
}

/// What a dead letter is, in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The dead-letter topic.
    pub topic: String,
    /// The partition's number, in it and in the source.
    pub partition: u32,
    /// The offset in the dead-letter partition.
    pub offset: Offset,
    /// When it became a dead letter: the log's append time.
    pub appended: EpochMs,
    /// Where it was at first; `None` for one without readable headers.
    pub origin: Option<OriginSummary>,
    /// How it failed, or [`FOREIGN`].
    pub kind: String,
    /// Why it failed; of a foreign one, why it is.
    pub reason: String,
    /// Attempts made, since the latest redrive if there was one.
    pub attempts: u32,
    /// The plugin's name, as of the latest attempt.
    pub plugin: Option<String>,
    /// Its version.
    pub plugin_version: Option<String>,
    /// When an attempt first failed.
    pub first_failed: Option<EpochMs>,
    /// When one failed last.
    pub last_failed: Option<EpochMs>,
    /// How often it was redriven.
    pub redrives: u32,
}

/// Where a message was at first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OriginSummary {
    /// The source topic.
    pub topic: String,
    /// The source partition's number.
    pub partition: u32,
    /// The source offset.
    pub offset: Offset,
    /// The source's timestamp.
    pub timestamp: EpochMs,
    /// The group that gave up on it.
    pub group: String,
}

/// Letters that failed alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// How they failed, or [`FOREIGN`].
    pub kind: String,
    /// Why, the same text for all.
    pub reason: String,
    /// The version of the plugin they failed with.
    pub plugin_version: Option<String>,
    /// How many there are.
    pub count: u64,
    /// When the latest of them became a dead letter.
    pub latest: EpochMs,
}

/// What `dlq list` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The first letters that match, by topic, partition and offset, up to the limit.
    pub letters: Vec<Summary>,
    /// All that match, by failure, the most frequent first.
    pub groups: Vec<Group>,
    /// How many match.
    pub total: u64,
    /// How many of them are in no group, since there are more than [`GROUPS_MAX`].
    pub ungrouped: u64,
}

/// What `dlq show` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The line of the listing.
    pub summary: Summary,
    /// The guest's stack, if it trapped.
    pub backtrace: Option<String>,
    /// The letter as it lies in the log, with all headers.
    pub message: Message,
}

/// A pipeline's dead letters.
#[derive(Clone, Copy)]
pub struct DeadLetters<'a> {
    log: &'a dyn Log,
    spec: &'a PipelineSpec,
}

/// One dead-letter partition and the source topic it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    partition: Partition,
    source: Topic,
}

impl<'a> DeadLetters<'a> {
    /// The dead letters of `spec` in `log`.
    pub fn new(log: &'a dyn Log, spec: &'a PipelineSpec) -> Self {
        Self { log, spec }
    }

    /// The dead letters that match: the first `limit` in full, all of them in groups.
    ///
    /// # Errors
    /// When the log fails.
    pub async fn list(&self, filter: &Filter, limit: usize) -> Result<Listing, DeadLetterError> {
        let mut listing = Listing::default();
        let mut groups: HashMap<(String, String, Option<String>), (u64, EpochMs)> = HashMap::new();
        for place in self.places(filter).await? {
            let mut scan = Scan::open(self.log, &self.spec.group, &place.partition).await?;
            while let Some(batch) = scan.next(self.log).await? {
                for message in batch.iter().filter(|message| scan.is_letter(message)) {
                    let content = self.content(&place, message);
                    if !filter.takes(message, &content) {
                        continue;
                    }
                    let line = summary(message, &content);
                    listing.total += 1;
                    let alike =
                        (line.kind.clone(), line.reason.clone(), line.plugin_version.clone());
                    if groups.len() < GROUPS_MAX || groups.contains_key(&alike) {
                        let (count, latest) = groups.entry(alike).or_insert((0, line.appended));
                        *count += 1;
                        *latest = line.appended.max(*latest);
                    } else {
                        listing.ungrouped += 1;
                    }
                    if listing.letters.len() < limit {
                        listing.letters.push(line);
                    }
                }
            }
        }
        let group = |((kind, reason, plugin_version), (count, latest))| Group {
            kind,
            reason,
            plugin_version,
            count,
            latest,
        };
        listing.groups = groups.into_iter().map(group).collect();
        // The rest of the order only keeps the output the same from run to run.
        listing.groups.sort_by(|a, b| {
            let rest = |g: &Group| (g.kind.clone(), g.reason.clone(), g.plugin_version.clone());
            b.count.cmp(&a.count).then_with(|| rest(a).cmp(&rest(b)))
        });
        Ok(listing)
    }

    /// The dead letter at `offset` of the dead-letter partition `partition`.
    ///
    /// # Errors
    /// `NotFound` if the topic is no dead-letter topic of this pipeline, or has no letter there.
    pub async fn show(
        &self,
        partition: &Partition,
        offset: Offset,
    ) -> Result<Shown, DeadLetterError> {
        let places = self.places(&Filter::default()).await?;
        let Some(place) = places.iter().find(|place| place.partition == *partition) else {
            let known: Vec<_> = places.iter().map(|place| place.partition.to_string()).collect();
            return Err(DeadLetterError::NotFound(format!(
                "{partition} holds no dead letters of pipeline {}: choose one of {}",
                self.spec.name,
                if known.is_empty() {
                    "none, it has none yet".to_owned()
                } else {
                    known.join(", ")
                },
            )));
        };
        let found = scan::one(self.log, &self.spec.group, partition, offset).await?;
        let Some(message) = found else {
            return Err(DeadLetterError::NotFound(format!(
                "there is no dead letter at {partition}@{offset}: it was redriven, removed by retention, or never there; `millstream dlq list` shows those that are"
            )));
        };
        let content = self.content(place, &message);
        let backtrace = match &content {
            Content::Ours(found) => found.error.as_ref().and_then(|error| error.backtrace.clone()),
            Content::Foreign { .. } => None,
        };
        Ok(Shown { summary: summary(&message, &content), backtrace, message })
    }

    /// The dead-letter partitions that exist and that the filter leaves.
    async fn places(&self, filter: &Filter) -> Result<Vec<Place>, DeadLetterError> {
        let topics =
            self.log.topics().await.map_err(|error| log_error("reading the topics", error))?;
        let mut places = Vec::new();
        for source in &self.spec.topics {
            if filter.source.as_ref().is_some_and(|wanted| **wanted != **source) {
                continue;
            }
            let name = self.spec.dead_letter.topic.topic(source, &self.spec.group, None);
            // Not made yet: the pipeline never ran, so it has no dead letters.
            let Some(topic) = topics.iter().find(|topic| topic.name == name) else { continue };
            for number in 0..topic.partitions {
                if filter.partition.is_none_or(|wanted| wanted == number) {
                    let partition = Partition::new(name.clone(), number);
                    places.push(Place { partition, source: source.clone() });
                }
            }
        }
        Ok(places)
    }

    /// Whose letter this is. Anyone may write to the topic, so all that redrive rests on is checked.
    fn content(&self, place: &Place, message: &Message) -> Content {
        if !message.headers.iter().any(|header| headers::is_ours(&header.name)) {
            let reason = "it has no `millstream-` headers: not written by a Millstream host";
            return Content::Foreign { reason: reason.to_owned(), found: None };
        }
        let found = match headers::decode(&message.headers) {
            Ok(found) => Box::new(found),
            Err(error) => return Content::Foreign { reason: error.to_string(), found: None },
        };
        let reason = if *found.origin_group != *self.spec.group {
            format!("it is group {}'s, not {}'s", found.origin_group, self.spec.group)
        } else if !self.spec.topics.iter().any(|source| **source == *found.origin_topic) {
            format!("it comes from {}, which this pipeline does not read", found.origin_topic)
        } else if *found.origin_topic != *place.source {
            format!("it comes from {}, and lies with those of {}", found.origin_topic, place.source)
        } else if found.origin_partition != place.partition.number {
            format!("it comes from partition {}, and lies elsewhere", found.origin_partition)
        } else {
            return Content::Ours(found);
        };
        Content::Foreign { reason, found: Some(found) }
    }

    fn tier_of(&self, source: &str) -> Topic {
        self.spec.retry.topic.topic(source, &self.spec.group, Some(REDRIVE_DELAY))
    }
}

/// Whose a message in a dead-letter topic is.
#[derive(Debug)]
enum Content {
    Ours(Box<CompanionHeaders>),
    Foreign { reason: String, found: Option<Box<CompanionHeaders>> },
}

impl Content {
    fn kind(&self) -> &str {
        match self {
            Self::Ours(found) => found.error.as_ref().map_or("unknown", |error| &error.kind),
            Self::Foreign { .. } => FOREIGN,
        }
    }
}

fn summary(message: &Message, content: &Content) -> Summary {
    let (found, foreign) = match content {
        Content::Ours(found) => (Some(found), None),
        Content::Foreign { reason, found } => (found.as_ref(), Some(reason)),
    };
    let error_reason = || Some(found?.error.as_ref()?.reason.clone());
    let plugin = found.and_then(|found| found.plugin.as_ref());
    Summary {
        topic: message.topic.to_string(),
        partition: message.partition,
        offset: message.offset,
        appended: message.timestamp,
        origin: found.map(|found| OriginSummary {
            topic: found.origin_topic.to_string(),
            partition: found.origin_partition,
            offset: found.origin_offset,
            timestamp: found.origin_timestamp,
            group: found.origin_group.to_string(),
        }),
        kind: content.kind().to_owned(),
        reason: foreign.cloned().or_else(error_reason).unwrap_or_default(),
        attempts: found.map_or(0, |found| found.attempt),
        plugin: plugin.map(|plugin| plugin.name.clone()),
        plugin_version: plugin.map(|plugin| plugin.version.clone()),
        first_failed: found.and_then(|found| found.first_failed),
        last_failed: found.and_then(|found| found.last_failed),
        redrives: found.map_or(0, |found| found.redrive_count()),
    }
}

fn log_error(doing: impl Into<String>, error: LogError) -> DeadLetterError {
    DeadLetterError::Log { doing: doing.into(), error }
}

#[cfg(test)]
mod tests;
