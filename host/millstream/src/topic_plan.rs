//! Topic plan: which topics the pipelines need, and what must be made for that.
//!
//! Shared by `topics create --pipelines`, `check` and `run`. Sources and outputs come as
//! `log.new_topics` says, companions as their source is. A topic that is a companion of one pipeline
//! and the source of another (dead letters that are handled) comes as a companion.

use std::collections::BTreeMap;

use millstream_core::log::{Log, TopicSpec};
use millstream_core::message::Topic;
use millstream_core::names::STATES_SUFFIX;
use millstream_core::{companions, deploy};
use serde::Serialize;

use crate::config::{NewTopics, PipelineConfig};
use crate::exit::Failure;

/// What is to be done about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Action {
    /// It is there as it is needed.
    Keep,
    /// It is not there.
    Create,
    /// It is a companion with fewer partitions than its source.
    Grow {
        /// The partitions it has.
        from: u32,
    },
    /// It is a companion with more partitions than its source: harmless, the rest stay empty.
    Larger {
        /// The partitions it has.
        partitions: u32,
    },
}

/// Why a pipeline needs a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It reads it.
    Source,
    /// Its outputs go there.
    Output,
    /// Its dead letters.
    DeadLetters,
    /// A retry tier.
    Tier,
    /// Its idempotency marks.
    Marks,
    /// What became of its dead letters.
    States,
    /// Which version of its plugin it runs; without it the file of the configuration.
    Control,
}

impl Role {
    /// Whether it is a topic that the host keeps for itself, beside a source or for its group.
    pub fn is_companion(self) -> bool {
        matches!(self, Self::DeadLetters | Self::Tier | Self::Marks | Self::States | Self::Control)
    }
}

/// One topic the pipelines need.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The topic as it is needed.
    pub spec: TopicSpec,
    /// The topic as it is, if it is there.
    pub there: Option<TopicSpec>,
    /// Why. A companion that is also something else is a companion.
    pub role: Role,
    /// Whether some pipeline reads it as a source.
    pub is_read: bool,
    /// The pipeline that needs it (the first, if several do).
    pub pipeline: String,
    /// What is to be done.
    pub action: Action,
}

/// Plans the topics of all pipelines.
///
/// # Errors
/// When the log does not tell its topics.
pub async fn plan(
    log: &dyn Log,
    pipelines: &[PipelineConfig],
    new_topics: &NewTopics,
) -> Result<Vec<Planned>, Failure> {
    let there = log
        .topics()
        .await
        .map_err(|error| Failure::log("the log's topics cannot be listed", &error))?;
    Ok(plan_beside(&there, pipelines, new_topics))
}

/// The same beside topics that are known.
pub fn plan_beside(
    there: &[TopicSpec],
    pipelines: &[PipelineConfig],
    new_topics: &NewTopics,
) -> Vec<Planned> {
    let there: BTreeMap<Topic, TopicSpec> =
        there.iter().map(|spec| (spec.name.clone(), spec.clone())).collect();
    let companions = all_companions(&there, pipelines, new_topics);
    let as_needed = |name: &Topic| {
        let made = || companions.get(name).map(|companion| companion.spec.clone());
        there.get(name).cloned().or_else(made).unwrap_or_else(|| new_topics.spec(name.clone()))
    };
    let mut planned: BTreeMap<Topic, Planned> = companions.clone();
    for PipelineConfig { spec: pipeline, .. } in pipelines {
        let sources = pipeline.topics.iter().map(|topic| (topic, Role::Source));
        let outputs = pipeline.outputs.values().map(|topic| (topic, Role::Output));
        let control = deploy::topic_spec(&pipeline.group);
        planned.entry(control.name.clone()).or_insert_with(|| {
            let there = there.get(&control.name).cloned();
            let action = companion_action(there.as_ref(), &control);
            let spec = TopicSpec { replication: new_topics.replication, ..control };
            let (role, pipeline) = (Role::Control, pipeline.name.clone());
            Planned { spec, there, role, is_read: false, pipeline, action }
        });
        for (topic, role) in sources.chain(outputs) {
            let entry = planned.entry(topic.clone()).or_insert_with(|| {
                let there = there.get(topic).cloned();
                let action = if there.is_some() { Action::Keep } else { Action::Create };
                let (spec, pipeline) = (as_needed(topic), pipeline.name.clone());
                Planned { spec, there, role, is_read: false, pipeline, action }
            });
            entry.is_read |= role == Role::Source;
        }
    }
    let mut planned: Vec<Planned> = planned.into_values().collect();
    planned.sort_by(|a, b| (&a.pipeline, a.role).cmp(&(&b.pipeline, b.role)));
    planned
}

/// The companions of all pipelines. One that is a source itself has companions as it is made, so
/// whose source is nobody's companion comes first; there are no more steps than pipelines.
fn all_companions(
    there: &BTreeMap<Topic, TopicSpec>,
    pipelines: &[PipelineConfig],
    new_topics: &NewTopics,
) -> BTreeMap<Topic, Planned> {
    let mut companions: BTreeMap<Topic, Planned> = BTreeMap::new();
    for _ in pipelines {
        let before = companions.clone();
        companions.clear();
        for PipelineConfig { spec: pipeline, .. } in pipelines {
            let as_needed = |name: &Topic| {
                let made = || before.get(name).map(|companion| companion.spec.clone());
                there.get(name).cloned().or_else(made)
            };
            let source =
                |name: &Topic| as_needed(name).unwrap_or_else(|| new_topics.spec(name.clone()));
            let sources: Vec<TopicSpec> = pipeline.topics.iter().map(source).collect();
            let is_dead_letters = |name: &Topic| {
                let of = |source| pipeline.dead_letter.topic.topic(source, &pipeline.group, None);
                pipeline.topics.iter().any(|source| of(source) == *name)
            };
            let is_states = |name: &Topic| {
                name.strip_suffix(STATES_SUFFIX)
                    .is_some_and(|letters| is_dead_letters(&letters.into()))
            };
            for spec in companions::wanted(pipeline, &sources) {
                let role = match () {
                    () if is_dead_letters(&spec.name) => Role::DeadLetters,
                    () if is_states(&spec.name) => Role::States,
                    () if spec.compacted => Role::Marks,
                    () => Role::Tier,
                };
                let there = there.get(&spec.name).cloned();
                let action = companion_action(there.as_ref(), &spec);
                let pipeline = pipeline.name.clone();
                let planned = Planned { spec, there, role, is_read: false, pipeline, action };
                companions.entry(planned.spec.name.clone()).or_insert(planned);
            }
        }
        let specs = |planned: &BTreeMap<Topic, Planned>| {
            planned.values().map(|planned| planned.spec.clone()).collect::<Vec<_>>()
        };
        if specs(&before) == specs(&companions) {
            break;
        }
    }
    companions
}

fn companion_action(there: Option<&TopicSpec>, wanted: &TopicSpec) -> Action {
    match there {
        None => Action::Create,
        Some(there) if there.partitions < wanted.partitions => {
            Action::Grow { from: there.partitions }
        }
        Some(there) if there.partitions > wanted.partitions => {
            Action::Larger { partitions: there.partitions }
        }
        Some(_) => Action::Keep,
    }
}

impl Planned {
    /// Makes or grows the topic if that is to be done; `true` if it was.
    ///
    /// # Errors
    /// When the log refuses.
    pub async fn apply(&self, log: &dyn Log) -> Result<bool, Failure> {
        match self.action {
            Action::Keep | Action::Larger { .. } => Ok(false),
            Action::Create | Action::Grow { .. } => {
                let what = || format!("topic {} cannot be created", self.spec.name);
                let created = log.create_topic(self.spec.clone()).await;
                created.map_err(|error| Failure::log(what(), &error))?;
                Ok(true)
            }
        }
    }
}
