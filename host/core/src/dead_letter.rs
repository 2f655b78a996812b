//! Dead letters: listing, showing, redriving and purging what was given up on.
//!
//! Off the message's way: `settle` writes dead letters, these are the tools that read them and do something about
//! them. Works over the log port alone, so on a folder, a running host and a cluster alike; for a pipeline's own letters,
//! and for any other topic that holds dead letters, those of other programs included (`theirs`).
//!
//! What became of a letter stands in a compacted topic beside the letters' (`{dead-letter topic}.states`, made with the
//! other companions; `state_record`, `states`): redriven, purged, parked. A letter without a record is open. Letters stay
//! where they are until their topic's retention removes them, or a purge.
//!
//! Redrive appends a copy to the group's own redrive tier (`{topic}.retry.0s`, same partition number) with its original
//! key, value, headers and turn, no attempts and one more redrive; or where it is told to (`target`). It goes in batches:
//! the copies and what became of their letters in one append that happens as a whole or not at all (`run`).
//!
//! Invariants:
//! - a letter is redriven once, whatever is killed, lost or done twice in between: its copy is in the log exactly if its
//!   state says so. On Kafka for readers of committed messages; others may see a batch that was never committed;
//! - one redrive or purge at a time changes states of a topic;
//! - nothing goes into the dead-letter topic itself; into a tier go only letters of this group, from this source topic
//!   and partition. All others are *foreign* or of other programs: listed, left unless they are sent elsewhere;
//! - what is begun stands in the audit trail, and what came of it.
//!
//! Limits: a batch of [`BATCH_MESSAGES_MAX`] messages is in memory, a listing of its limit of lines and of
//! [`GROUPS_MAX`] groups, and what `states` says of states.

use crate::audit;
use crate::log::{Log, LogError, TopicSpec};
use crate::message::{Message, Offset, Partition, Topic};
use crate::names::{STATES_SUFFIX, states_topic};
use crate::pipeline_spec::PipelineSpec;

mod as_it_was;
mod filter;
mod groups;
mod letter;
mod mask;
mod open;
mod purge;
mod redrive;
mod run;
mod scan;
mod state_record;
mod states;
mod target;
mod theirs;
mod trail;

pub use as_it_was::AsItWas;
pub use filter::{Filter, States as StatesFilter};
pub use groups::{GROUPS_MAX, Group};
pub use letter::{ChangeSummary, FOREIGN, OriginSummary, Summary};
pub use mask::Mask;
pub(crate) use open::OpenLetters;
pub use purge::{PurgeReport, PurgeRequest};
pub use redrive::{Progress, RedriveReport, RedriveRequest, Refused};
pub use run::LEASE;
pub use state_record::{Owner, State};
pub use target::Target;

use groups::Groups;
use letter::Letter;
use run::{Asked, Run};
use scan::Scan;
use states::{States, Until};

/// Messages read at once.
pub const BATCH_MESSAGES_MAX: usize = 1_000;

/// Bytes read, and sent, at once. In a request to a running host they may be six times as many.
const BATCH_BYTES_MAX: usize = 2 << 20;

/// What the topic of states takes at least: the record of a batch with a hole behind every letter.
const STATES_BYTES_MIN: usize = 1 << 20;

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

/// What `dlq list` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Listing {
    /// The first letters that match, by topic, partition and offset, up to the limit.
    pub letters: Vec<Summary>,
    /// All that match, by failure, the most frequent first.
    pub groups: Vec<Group>,
    /// How many match.
    pub total: u64,
    /// How many of them are in no group, since there are more than [`GROUPS_MAX`].
    pub ungrouped: u64,
    /// How many letters are there in each state, whatever the filter says of states; other parts of it count.
    pub states: StateCounts,
}

/// Letters by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StateCounts {
    /// Nothing yet.
    pub open: u64,
    /// Sent.
    pub redriven: u64,
    /// Given up, and not removed yet.
    pub purged: u64,
    /// Redriven too often.
    pub parked: u64,
}

/// What `dlq show` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The line of the listing.
    pub summary: Summary,
    /// The stack where it failed.
    pub backtrace: Option<String>,
    /// The letter as it lies in the log, with all headers.
    pub message: Message,
    /// The attempt that failed last, to make it again.
    pub as_it_was: AsItWas,
}

/// Dead letters: a pipeline's, or those in a topic.
#[derive(Clone)]
pub struct DeadLetters<'a> {
    log: &'a dyn Log,
    whose: Whose<'a>,
    park_after: Option<u32>,
    is_gone: &'a (dyn Fn(&Owner) -> bool + Sync),
}

#[derive(Clone)]
enum Whose<'a> {
    Pipeline(&'a PipelineSpec),
    Topic(Topic),
}

/// One dead-letter partition, and the source topic it belongs to if it is a pipeline's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    partition: Partition,
    source: Option<Topic>,
}

/// The topic of states beside a dead-letter topic.
pub fn states_topic_spec(letters: &TopicSpec) -> TopicSpec {
    TopicSpec {
        name: states_topic(&letters.name),
        retention: None,
        retention_bytes: None,
        message_bytes_max: letters.message_bytes_max.max(STATES_BYTES_MIN),
        append_time: true,
        compacted: true,
        ..letters.clone()
    }
}

fn nobody_is_gone(_: &Owner) -> bool {
    false
}

impl<'a> DeadLetters<'a> {
    /// The dead letters of `spec` in `log`.
    pub fn new(log: &'a dyn Log, spec: &'a PipelineSpec) -> Self {
        let park_after = spec.dead_letter.park_after;
        Self { log, whose: Whose::Pipeline(spec), park_after, is_gone: &nobody_is_gone }
    }

    /// The dead letters in this topic, whoever wrote them.
    pub fn of_topic(log: &'a dyn Log, topic: impl Into<Topic>, park_after: Option<u32>) -> Self {
        Self { log, whose: Whose::Topic(topic.into()), park_after, is_gone: &nobody_is_gone }
    }

    /// The same, with a way to know of the owner of an earlier redrive that it is gone, so that it need not be waited
    /// for.
    #[must_use]
    pub fn knowing(self, is_gone: &'a (dyn Fn(&Owner) -> bool + Sync)) -> Self {
        Self { is_gone, ..self }
    }

    fn spec(&self) -> Option<&'a PipelineSpec> {
        match &self.whose {
            Whose::Pipeline(spec) => Some(spec),
            Whose::Topic(_) => None,
        }
    }

    /// Whether this topic holds these letters.
    fn is_letters(&self, topic: &str) -> bool {
        match &self.whose {
            Whose::Topic(name) => **name == *topic,
            Whose::Pipeline(spec) => spec
                .topics
                .iter()
                .any(|source| *spec.dead_letter.topic.topic(source, &spec.group, None) == *topic),
        }
    }

    /// The dead letters that match: the first `limit` in full, all of them in groups.
    ///
    /// # Errors
    /// When the log fails, or there is no such topic.
    pub async fn list(&self, filter: &Filter, limit: usize) -> Result<Listing, DeadLetterError> {
        let mut listing = Listing::default();
        let mut groups = Groups::default();
        let whatever_state = Filter { state: StatesFilter::All, ..filter.clone() };
        let topics = self.topics().await?;
        for place in self.places(filter, &topics)? {
            // In this order: what is redriven meanwhile is below the end.
            let mut states = States::of(&place.partition);
            states.read(self.log, &topics, Until::Readable).await?;
            let mut scan = Scan::open(self.log, &place.partition).await?;
            states.must_be_of(&place.partition, scan.high())?;
            while let Some(batch) = scan.next(self.log).await? {
                for message in batch {
                    let letter = self.letter(message, &place, &states);
                    if whatever_state.takes(&letter) {
                        listing.states.count(letter.state);
                    }
                    if !filter.takes(&letter) {
                        continue;
                    }
                    listing.total += 1;
                    groups.add(&letter);
                    if listing.letters.len() < limit {
                        listing.letters.push(letter.summary(&states));
                    }
                }
            }
        }
        listing.ungrouped = groups.ungrouped;
        listing.groups = groups.sorted();
        Ok(listing)
    }

    /// The dead letter at `offset` of the dead-letter partition `partition`, whatever became of it.
    ///
    /// # Errors
    /// `NotFound` if the topic is none of these letters', or has no letter there.
    pub async fn show(
        &self,
        partition: &Partition,
        offset: Offset,
    ) -> Result<Shown, DeadLetterError> {
        let topics = self.topics().await?;
        let places = self.places(&Filter::default(), &topics)?;
        let Some(place) = places.iter().find(|place| place.partition == *partition) else {
            let known: Vec<_> = places.iter().map(|place| place.partition.to_string()).collect();
            let whose =
                self.spec().map_or("this topic".to_owned(), |s| format!("pipeline {}", s.name));
            return Err(DeadLetterError::NotFound(format!(
                "{partition} holds no dead letters of {whose}: choose one of {}",
                if known.is_empty() {
                    "none, it has none yet".to_owned()
                } else {
                    known.join(", ")
                },
            )));
        };
        let found = scan::one(self.log, partition, offset).await?;
        let Some(message) = found else {
            return Err(DeadLetterError::NotFound(format!(
                "there is no dead letter at {partition}@{offset}: it was removed by a purge or by retention, or never there; `millstream dlq list` shows those that are"
            )));
        };
        let mut states = States::of(partition);
        states.read(self.log, &topics, Until::Readable).await?;
        let letter = self.letter(message, place, &states);
        Ok(Shown {
            summary: letter.summary(&states),
            backtrace: letter.backtrace(),
            as_it_was: AsItWas::of(&letter),
            message: letter.message,
        })
    }

    fn letter(&self, message: Message, place: &Place, states: &States) -> Letter {
        Letter::of(message, place, self.spec(), states, self.park_after)
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, DeadLetterError> {
        self.log.topics().await.map_err(|error| log_error("reading the topics", error))
    }

    /// The dead-letter partitions that exist and that the filter leaves.
    fn places(&self, filter: &Filter, topics: &[TopicSpec]) -> Result<Vec<Place>, DeadLetterError> {
        let spec_of = |name: &str| topics.iter().find(|topic| *topic.name == *name);
        let mut places = Vec::new();
        let mut add = |topic: &TopicSpec, source: Option<&Topic>| {
            for number in 0..topic.partitions {
                if filter.partition.is_none_or(|wanted| wanted == number) {
                    let partition = Partition::new(topic.name.clone(), number);
                    places.push(Place { partition, source: source.cloned() });
                }
            }
        };
        match &self.whose {
            Whose::Pipeline(spec) => {
                for source in &spec.topics {
                    if filter.source.as_ref().is_some_and(|wanted| **wanted != **source) {
                        continue;
                    }
                    let name = spec.dead_letter.topic.topic(source, &spec.group, None);
                    // Not made yet: the pipeline never ran, so it has no dead letters.
                    if let Some(topic) = spec_of(&name) {
                        add(topic, Some(source));
                    }
                }
            }
            Whose::Topic(name) => {
                let Some(topic) = spec_of(name) else {
                    return Err(DeadLetterError::NotFound(format!("there is no topic {name}")));
                };
                if name.ends_with(STATES_SUFFIX)
                    || name.starts_with("__")
                    || **name == *audit::TOPIC
                {
                    return Err(DeadLetterError::NotFound(format!("{name} holds no dead letters")));
                }
                add(topic, None);
            }
        }
        Ok(places)
    }

    async fn make(&self, topic: TopicSpec) -> Result<(), DeadLetterError> {
        let doing = format!("creating topic {}", topic.name);
        self.log.create_topic(topic).await.map_err(|error| log_error(doing, error))
    }

    /// An earlier version made none, and other programs' topics have none.
    async fn make_states_topics(
        &self,
        places: &[Place],
        topics: &[TopicSpec],
    ) -> Result<(), DeadLetterError> {
        for letters in topics.iter().filter(|topic| is_of(places, &topic.name)) {
            let wanted = states_topic_spec(letters);
            let enough = |topic: &TopicSpec| {
                topic.name == wanted.name && topic.partitions >= wanted.partitions
            };
            if !topics.iter().any(enough) {
                self.make(wanted).await?;
            }
        }
        Ok(())
    }

    /// The right to change states, of every topic there is.
    async fn begin_runs(
        &self,
        places: &[Place],
        topics: &[TopicSpec],
        asked: Asked<'_>,
    ) -> Result<Vec<Run<'a>>, DeadLetterError> {
        let prefix = self.spec().map(|spec| format!("{}-", spec.group)).unwrap_or_default();
        let asked = Asked { writer_prefix: &prefix, is_gone: self.is_gone, ..asked };
        let mut runs = Vec::new();
        for topic in topics_of(places) {
            runs.push(Run::begin(self.log, topics, &topic, &asked).await?);
        }
        Ok(runs)
    }

    /// Which of the runs is that of a place.
    fn run_of(&self, place: &Place, places: &[Place]) -> usize {
        let topics = topics_of(places);
        topics.iter().position(|topic| *topic == place.partition.topic).unwrap_or_default()
    }
}

impl StateCounts {
    fn count(&mut self, state: State) {
        match state {
            State::Open => self.open += 1,
            State::Redriven => self.redriven += 1,
            State::Purged => self.purged += 1,
            State::Parked => self.parked += 1,
        }
    }
}

/// The topics of places, each once, in their order.
fn topics_of(places: &[Place]) -> Vec<Topic> {
    let mut topics: Vec<Topic> = places.iter().map(|place| place.partition.topic.clone()).collect();
    topics.dedup();
    topics
}

fn is_of(places: &[Place], topic: &str) -> bool {
    places.iter().any(|place| *place.partition.topic == *topic)
}

fn log_error(doing: impl Into<String>, error: LogError) -> DeadLetterError {
    DeadLetterError::Log { doing: doing.into(), error }
}

#[cfg(test)]
mod tests;
