//! Topic plan: which topics the pipelines need, and what must be made for that.
//!
//! Shared by `topics create --pipelines`, `check` and `run`. Sources and outputs come as
//! `log.new_topics` says, companions as their source is.

use std::collections::BTreeMap;

use millstream_core::companions;
use millstream_core::log::{Log, TopicSpec};
use millstream_core::message::Topic;
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
    /// A retry tier or its dead letters.
    Companion,
}

/// One topic the pipelines need.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The topic as it is needed.
    pub spec: TopicSpec,
    /// Why.
    pub role: Role,
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
    let mut planned: BTreeMap<Topic, Planned> = BTreeMap::new();
    let mut add = |spec: TopicSpec, role: Role, pipeline: &str| {
        let action = match (there.get(&spec.name), role) {
            (None, _) => Action::Create,
            (Some(there), Role::Companion) if there.partitions < spec.partitions => {
                Action::Grow { from: there.partitions }
            }
            (Some(there), Role::Companion) if there.partitions > spec.partitions => {
                Action::Larger { partitions: there.partitions }
            }
            (Some(_), _) => Action::Keep,
        };
        let pipeline = pipeline.to_owned();
        planned.entry(spec.name.clone()).or_insert(Planned { spec, role, pipeline, action });
    };
    for PipelineConfig { spec: pipeline, .. } in pipelines {
        let as_needed = |name: &Topic| {
            there.get(name).cloned().unwrap_or_else(|| new_topics.spec(name.clone()))
        };
        let sources: Vec<TopicSpec> = pipeline.topics.iter().map(as_needed).collect();
        for companion in companions::wanted(pipeline, &sources) {
            add(companion, Role::Companion, &pipeline.name);
        }
        for source in sources {
            add(source, Role::Source, &pipeline.name);
        }
        for output in pipeline.outputs.values() {
            add(as_needed(output), Role::Output, &pipeline.name);
        }
    }
    let mut planned: Vec<Planned> = planned.into_values().collect();
    planned.sort_by(|a, b| (&a.pipeline, a.role).cmp(&(&b.pipeline, b.role)));
    planned
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
