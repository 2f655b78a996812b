//! Letter: a message of a dead-letter topic, and what it says of itself.

use serde::Serialize;

use super::Place;
use super::state_record::State;
use super::states::States;
use super::theirs::{self, Theirs};
use crate::headers::{self, CompanionHeaders};
use crate::jsonl::Payload;
use crate::message::{EpochMs, Message, Offset};
use crate::pipeline_spec::PipelineSpec;

/// The kind under which messages are listed and can be filtered that are no dead letters anybody knows, or another
/// group's.
pub const FOREIGN: &str = "foreign";

/// See the module.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) message: Message,
    pub(super) content: Content,
    pub(super) state: State,
    /// How often it was redriven, as far as that is believed.
    pub(super) redrives: u32,
}

/// Whose a message in a dead-letter topic is.
#[derive(Debug)]
pub(super) enum Content {
    /// A host of ours wrote it, and it may be put back.
    Ours(Box<CompanionHeaders>),
    /// Another program wrote it.
    Theirs(Box<Theirs>),
    /// Nobody knows, or it is another group's.
    Foreign { reason: String, found: Option<Box<CompanionHeaders>> },
}

impl Letter {
    /// What a message of `place` is. Anyone may write to the topic, so all that redrive rests on is checked.
    pub(super) fn of(
        message: Message,
        place: &Place,
        spec: Option<&PipelineSpec>,
        states: &States,
        park_after: Option<u32>,
    ) -> Self {
        let content = Content::of(&message, place, spec);
        // A message that was sent to a source brings its count with it, and so may a stranger's.
        let redrive = headers::redrive(&message.headers);
        let redrive = redrive.filter(|redrive| states.knows(&redrive.id));
        let redrives = redrive.map_or(0, |redrive| redrive.count);
        let state = match states.state(message.offset) {
            State::Open if park_after.is_some_and(|after| redrives >= after) => State::Parked,
            state => state,
        };
        Self { message, content, state, redrives }
    }

    /// How it failed.
    pub(super) fn kind(&self) -> &str {
        match &self.content {
            Content::Ours(found) => found.error.as_ref().map_or("unknown", |error| &error.kind),
            Content::Theirs(theirs) => &theirs.kind,
            Content::Foreign { .. } => FOREIGN,
        }
    }

    /// Why; of a foreign one, why it is.
    pub(super) fn reason(&self) -> &str {
        match &self.content {
            Content::Ours(found) => found.error.as_ref().map_or("", |error| &error.reason),
            Content::Theirs(theirs) => &theirs.reason,
            Content::Foreign { reason, .. } => reason,
        }
    }

    fn found(&self) -> Option<&CompanionHeaders> {
        match &self.content {
            Content::Ours(found) | Content::Foreign { found: Some(found), .. } => Some(found),
            Content::Theirs(_) | Content::Foreign { found: None, .. } => None,
        }
    }

    /// The version of the plugin it failed with.
    pub(super) fn plugin_version(&self) -> Option<&String> {
        Some(&self.found()?.plugin.as_ref()?.version)
    }

    /// The stack where it failed.
    pub(super) fn backtrace(&self) -> Option<String> {
        match &self.content {
            Content::Ours(found) => found.error.as_ref()?.backtrace.clone(),
            Content::Theirs(theirs) => theirs.stack.clone(),
            Content::Foreign { .. } => None,
        }
    }

    /// In a line.
    pub(super) fn summary(&self, states: &States) -> Summary {
        let (message, found) = (&self.message, self.found());
        let plugin = found.and_then(|found| found.plugin.as_ref());
        let change = states.change(message.offset);
        let origin = match (&self.content, found) {
            (Content::Theirs(theirs), _) => theirs.topic.clone().map(|topic| OriginSummary {
                topic,
                partition: theirs.partition,
                offset: theirs.offset,
                timestamp: theirs.timestamp,
                group: theirs.handler.clone(),
            }),
            (_, Some(found)) => Some(OriginSummary {
                topic: found.origin_topic.to_string(),
                partition: Some(found.origin_partition),
                offset: Some(found.origin_offset),
                timestamp: Some(found.origin_timestamp),
                group: Some(found.origin_group.to_string()),
            }),
            (_, None) => None,
        };
        Summary {
            topic: message.topic.to_string(),
            partition: message.partition,
            offset: message.offset,
            appended: message.timestamp,
            key: message.key.clone().map(Payload),
            state: self.state,
            changed: change.map(|change| ChangeSummary {
                id: change.id.clone(),
                at: change.at,
                by: change.by.clone(),
                to: change.to.clone(),
            }),
            written_by: match &self.content {
                Content::Theirs(theirs) => theirs.writer.as_str().to_owned(),
                _ if found.is_some() => "millstream".to_owned(),
                _ => "unknown".to_owned(),
            },
            origin,
            kind: self.kind().to_owned(),
            reason: self.reason().to_owned(),
            attempts: found.map_or(0, |found| found.attempt),
            plugin: plugin.map(|plugin| plugin.name.clone()),
            plugin_version: plugin.map(|plugin| plugin.version.clone()),
            plugin_digest: plugin.map(|plugin| plugin.digest.clone()),
            first_failed: found.and_then(|found| found.first_failed),
            last_failed: found.and_then(|found| found.last_failed),
            redrives: self.redrives,
        }
    }
}

impl Content {
    fn of(message: &Message, place: &Place, spec: Option<&PipelineSpec>) -> Self {
        if !message.headers.iter().any(|header| headers::is_ours(&header.name)) {
            return Self::of_others(message);
        }
        let found = match headers::decode(&message.headers) {
            Ok(found) => Box::new(found),
            Err(error) => {
                return match theirs::read(&message.headers) {
                    // A letter that was redriven, and that another program gave up on: it has our count.
                    Some(theirs) => Self::Theirs(Box::new(theirs)),
                    None => Self::Foreign { reason: error.to_string(), found: None },
                };
            }
        };
        match spec.map_or(Ok(()), |spec| is_of(&found, place, spec)) {
            Ok(()) => Self::Ours(found),
            Err(reason) => Self::Foreign { reason, found: Some(found) },
        }
    }

    fn of_others(message: &Message) -> Self {
        match theirs::read(&message.headers) {
            Some(theirs) => Self::Theirs(Box::new(theirs)),
            None => {
                let reason = "it has no headers of a dead letter: neither of a Millstream host, nor of Spring Kafka, Kafka Connect or Kafka Streams";
                Self::Foreign { reason: reason.to_owned(), found: None }
            }
        }
    }
}

/// Whether a letter is this pipeline's and lies where it belongs.
fn is_of(found: &CompanionHeaders, place: &Place, spec: &PipelineSpec) -> Result<(), String> {
    if *found.origin_group != *spec.group {
        return Err(format!("it is group {}'s, not {}'s", found.origin_group, spec.group));
    }
    if !spec.topics.iter().any(|source| **source == *found.origin_topic) {
        return Err(format!(
            "it comes from {}, which this pipeline does not read",
            found.origin_topic
        ));
    }
    if let Some(source) = &place.source
        && **source != *found.origin_topic
    {
        return Err(format!(
            "it comes from {}, and lies with those of {source}",
            found.origin_topic
        ));
    }
    if found.origin_partition != place.partition.number {
        return Err(format!(
            "it comes from partition {}, and lies elsewhere",
            found.origin_partition
        ));
    }
    Ok(())
}

/// What a dead letter is, in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The dead-letter topic.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
    /// The offset in the dead-letter partition.
    pub offset: Offset,
    /// When it became a dead letter: the log's time of it.
    pub appended: EpochMs,
    /// Its key.
    pub key: Option<Payload>,
    /// What became of it.
    pub state: State,
    /// By which redrive or purge, if by one.
    pub changed: Option<ChangeSummary>,
    /// Who wrote it: `millstream`, `spring-kafka`, `kafka-connect`, `kafka-streams` or `unknown`.
    pub written_by: String,
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
    /// Its digest.
    pub plugin_digest: Option<String>,
    /// When an attempt first failed.
    pub first_failed: Option<EpochMs>,
    /// When one failed last.
    pub last_failed: Option<EpochMs>,
    /// How often it was redriven.
    pub redrives: u32,
}

/// What was done about a letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangeSummary {
    /// The redrive or purge.
    pub id: String,
    /// When it began.
    pub at: EpochMs,
    /// Who.
    pub by: String,
    /// Where the copy was sent.
    pub to: Option<String>,
}

/// Where a message was at first, as far as its dead letter says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OriginSummary {
    /// The source topic.
    pub topic: String,
    /// The source partition's number.
    pub partition: Option<u32>,
    /// The source offset.
    pub offset: Option<Offset>,
    /// The source's timestamp.
    pub timestamp: Option<EpochMs>,
    /// The group, or connector and task, that gave up on it.
    pub group: Option<String>,
}
