//! Target: where a redrive sends copies, and what they look like there.
//!
//! In a tier of the pipeline a copy is a retry: it has all headers of ours, its turn, no attempts. Anywhere else it is a
//! message of its own: the headers it had before it became a dead letter, and beside them how often it was redriven
//! (`millstream-redrive-count`), by what (`-id`, `-at`) and from where (`-letter`). If it fails again its new dead letter
//! brings them back; they are believed if the states know the redrive of that id.
//!
//! Invariant: nothing is sent into a dead-letter topic or a topic of states, nor into one of the log's or the host's own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::letter::{Content, Letter};
use super::{DeadLetterError, DeadLetters, Place, theirs};
use crate::headers::{self, CompanionHeaders, Redrive};
use crate::log::TopicSpec;
use crate::message::{Record, Topic};
use crate::names::{REDRIVE_DELAY, STATES_SUFFIX, delay_text};
use crate::pipeline_spec::KeepOrder;

/// Where copies go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The pipeline's own retry tier of this delay; zero is the redrive tier, which is due at once.
    Tier(Duration),
    /// The topic and partition the message came from: every group that reads it handles it again.
    Source,
    /// This topic.
    Topic(String),
}

impl Target {
    /// As it is written on the command line.
    pub fn describe(&self) -> String {
        match self {
            Self::Tier(delay) => format!("tier:{}", delay_text(*delay)),
            Self::Source => "source".to_owned(),
            Self::Topic(topic) => format!("topic:{topic}"),
        }
    }
}

/// Where the copies of a redrive go, checked.
pub(super) struct Targets<'a> {
    letters: &'a DeadLetters<'a>,
    target: Target,
    topics: BTreeMap<Topic, u32>,
    redrive: Redrive,
}

impl<'a> Targets<'a> {
    /// Checks what can be before a letter is looked at.
    pub(super) fn check(
        letters: &'a DeadLetters<'a>,
        target: Target,
        topics: &[TopicSpec],
        places: &[Place],
        redrive: Redrive,
    ) -> Result<Self, DeadLetterError> {
        let all = topics.iter().map(|topic| (topic.name.clone(), topic.partitions)).collect();
        let targets = Self { letters, target, topics: all, redrive };
        match &targets.target {
            Target::Tier(delay) => targets.check_tier(*delay, places)?,
            Target::Source => {}
            Target::Topic(topic) => targets.check_topic(topic)?,
        }
        Ok(targets)
    }

    fn check_tier(&self, delay: Duration, places: &[Place]) -> Result<(), DeadLetterError> {
        let Some(spec) = self.letters.spec() else {
            return Err(refused(
                "letters of a topic that is no pipeline's have no tier: send them to `source` or to a topic".to_owned(),
            ));
        };
        let in_tiers = spec.retry.keep_order != KeepOrder::OfPartition;
        let known = |delay| in_tiers && spec.retry.delays.contains(delay);
        if delay != REDRIVE_DELAY && !known(&delay) {
            let mut delays = vec![delay_text(REDRIVE_DELAY)];
            delays.extend(
                spec.retry.delays.iter().filter(|delay| known(delay)).map(|d| delay_text(*d)),
            );
            return Err(refused(format!(
                "pipeline {} has no tier of {}: choose one of {}",
                spec.name,
                delay_text(delay),
                delays.join(", ")
            )));
        }
        // A copy in a source topic would be another message, one in the dead-letter topic would come round for ever.
        for place in places {
            let Some(source) = &place.source else { continue };
            let tier = spec.retry.topic.topic(source, &spec.group, Some(delay));
            let is_letters = tier == place.partition.topic;
            if is_letters || spec.topics.contains(&tier) {
                return Err(refused(format!(
                    "pipeline {}: the redrive tier of {source} would be {tier}, which is {}: change `retry.topic`",
                    spec.name,
                    if is_letters { "its dead-letter topic" } else { "a source topic" },
                )));
            }
        }
        Ok(())
    }

    fn check_topic(&self, topic: &str) -> Result<(), DeadLetterError> {
        if let Some(why) = self.letters.forbidden(topic) {
            return Err(refused(format!("copies cannot go to {topic}: {why}")));
        }
        if !self.topics.contains_key(topic) {
            return Err(refused(format!(
                "there is no topic {topic}: create it, or correct the name"
            )));
        }
        Ok(())
    }

    /// The tier of a place, which the host makes when the pipeline first runs; a log that was filled by other means may
    /// lack it.
    pub(super) fn missing_tier(&self, place: &Place, letters: &TopicSpec) -> Option<TopicSpec> {
        let (Target::Tier(delay), Some(spec)) = (&self.target, self.letters.spec()) else {
            return None;
        };
        let source = place.source.as_ref()?;
        let name = spec.retry.topic.topic(source, &spec.group, Some(*delay));
        let there = self.topics.get(&name).is_some_and(|count| *count >= letters.partitions);
        (!there).then(|| TopicSpec {
            name,
            // A retry must not vanish before it is handled.
            retention: None,
            retention_bytes: None,
            append_time: true,
            compacted: false,
            ..letters.clone()
        })
    }

    /// The copy of a letter, or why there is none.
    pub(super) fn copy(&self, place: &Place, letter: &Letter) -> Result<Record, String> {
        let count = letter.redrives.saturating_add(1);
        let redrive = Redrive { count, ..self.redrive.clone() };
        if let (Content::Foreign { reason, .. }, Target::Tier(_) | Target::Source) =
            (&letter.content, &self.target)
        {
            return Err(reason.clone());
        }
        match &self.target {
            Target::Tier(delay) => self.retry(place, letter, *delay, redrive),
            Target::Source => self.to_source(place, letter, &redrive),
            Target::Topic(topic) => Ok(message(letter, topic.as_str().into(), None, &redrive)),
        }
    }

    /// The message as it was, never tried since this redrive.
    fn retry(
        &self,
        place: &Place,
        letter: &Letter,
        delay: Duration,
        redrive: Redrive,
    ) -> Result<Record, String> {
        let (Content::Ours(found), Some(spec), Some(source)) =
            (&letter.content, self.letters.spec(), &place.source)
        else {
            return Err(
                "another program wrote it: redrive it with `--to source` or `--to topic:NAME`"
                    .to_owned(),
            );
        };
        let found = CompanionHeaders {
            attempt: 0,
            tier: Some(delay_text(delay).into()),
            first_failed: None,
            last_failed: None,
            error: None,
            plugin: None,
            redrive: Some(redrive),
            ..(**found).clone()
        };
        let message = &letter.message;
        Ok(Record {
            topic: spec.retry.topic.topic(source, &spec.group, Some(delay)),
            partition: Some(message.partition),
            // The tier has append time; the message's own time is in its headers.
            timestamp: None,
            key: message.key.clone(),
            value: message.value.clone(),
            headers: headers::encode(&found, &message.headers),
        })
    }

    fn to_source(
        &self,
        place: &Place,
        letter: &Letter,
        redrive: &Redrive,
    ) -> Result<Record, String> {
        let (topic, partition) = match &letter.content {
            Content::Ours(found) => (found.origin_topic.to_string(), Some(found.origin_partition)),
            Content::Theirs(theirs) => match &theirs.topic {
                Some(topic) => (topic.clone(), theirs.partition),
                None => {
                    return Err(
                        "it does not say where it came from: redrive it with `--to topic:NAME`"
                            .to_owned(),
                    );
                }
            },
            Content::Foreign { reason, .. } => return Err(reason.clone()),
        };
        if let Some(spec) = self.letters.spec()
            && place.source.as_deref() != Some(&*topic)
        {
            return Err(format!(
                "it comes from {topic}, which is not what pipeline {} keeps here",
                spec.name
            ));
        }
        // Headers say so, and anyone may have written them.
        if let Some(why) = self.letters.forbidden(&topic) {
            return Err(format!("it says that it came from {topic}: {why}"));
        }
        let Some(count) = self.topics.get(&*topic) else {
            return Err(format!("it came from {topic}, which is not there"));
        };
        // The topic may have been made anew with fewer; then the key decides.
        let partition = partition.filter(|number| number < count);
        Ok(message(letter, topic.into(), partition, redrive))
    }
}

/// A message of its own, as it was before it became a dead letter.
fn message(letter: &Letter, topic: Topic, partition: Option<u32>, redrive: &Redrive) -> Record {
    let mut all = theirs::strip(&letter.message.headers);
    all.extend(headers::redrive_headers(redrive, &letter.message.position()));
    Record {
        topic,
        partition,
        // A new message with a time of its own: by an old one retention would remove it at once.
        timestamp: None,
        key: letter.message.key.clone(),
        value: letter.message.value.clone(),
        headers: all,
    }
}

impl DeadLetters<'_> {
    /// Why nothing may be sent to this topic, if so.
    pub(super) fn forbidden(&self, topic: &str) -> Option<&'static str> {
        if self.is_letters(topic) {
            return Some("it holds these dead letters, which would come round for ever");
        }
        if topic.ends_with(STATES_SUFFIX) {
            return Some("it holds what became of dead letters");
        }
        // The brokers' own, and the host's: what is deployed, the audit trail.
        if topic.starts_with("__") || topic.starts_with("millstream.") {
            return Some("it is not for messages");
        }
        let spec = self.spec()?;
        let is_tier =
            |source: &Topic| spec.retry.topic.delay_of(topic, source, &spec.group).is_some();
        spec.topics.iter().any(is_tier).then_some(
            "it is a retry tier, where only retries are understood: name its delay with `tier:DELAY`",
        )
    }
}

fn refused(text: String) -> DeadLetterError {
    DeadLetterError::Refused(text)
}
