//! Companion topics, and the rules between pipelines: who reads and writes which topic.
//!
//! Part of `checked`. Worst without it: two groups that handle one another's retries, or a pipeline
//! that reads its own output and never comes to an end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_core::message::Topic;
use millstream_core::names::{REDRIVE_DELAY, states_topic};
use millstream_core::pipeline_spec::{KeepOrder, PipelineSpec};

use crate::config::PipelineConfig;
use crate::config::bounds::Checker;
use crate::config::document::join;
use crate::config::names::topic_problem;
use crate::config::raw::RawPipeline;
use crate::finding::{Code, Finding};

/// A topic that a pipeline keeps beside a source topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companion {
    /// Its name.
    pub topic: Topic,
    /// The source topic it belongs to.
    pub source: Topic,
    /// What it holds.
    pub kind: CompanionKind,
}

/// What a companion topic holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompanionKind {
    /// Messages that wait this long for another attempt; zero for redriven dead letters.
    Tier(Duration),
    /// Dead letters.
    DeadLetters,
    /// What became of dead letters.
    States,
}

/// The companions of all sources of a pipeline: a tier for each different delay (none if retries
/// happen in place), the tier of redriven messages, the dead letters and what became of them.
pub fn companions(spec: &PipelineSpec) -> Vec<Companion> {
    let mut delays = BTreeSet::from([REDRIVE_DELAY]);
    if spec.retry.keep_order != KeepOrder::OfPartition {
        delays.extend(spec.retry.delays.iter().copied());
    }
    let mut all = Vec::new();
    for source in &spec.topics {
        for delay in &delays {
            let topic = spec.retry.topic.topic(source, &spec.group, Some(*delay));
            let kind = CompanionKind::Tier(*delay);
            all.push(Companion { topic, source: source.clone(), kind });
        }
        let topic = spec.dead_letter.topic.topic(source, &spec.group, None);
        let states = states_topic(&topic);
        for (topic, kind) in [(topic, CompanionKind::DeadLetters), (states, CompanionKind::States)]
        {
            all.push(Companion { topic, source: source.clone(), kind });
        }
    }
    all
}

/// Topics that pipelines of different groups read: their companions need the group in the name.
pub(super) fn topics_of_several_groups(
    pipelines: &BTreeMap<String, RawPipeline>,
) -> BTreeSet<String> {
    let mut readers: BTreeMap<&str, usize> = BTreeMap::new();
    for pipeline in pipelines.values() {
        // A topic that one pipeline names twice has one reader all the same.
        for topic in pipeline.source.topics.iter().collect::<BTreeSet<_>>() {
            *readers.entry(topic).or_default() += 1;
        }
    }
    readers.into_iter().filter(|(_, n)| *n > 1).map(|(topic, _)| topic.to_owned()).collect()
}

/// Checks the rules between pipelines.
pub(super) fn check(checker: &mut Checker<'_>, pipelines: &[PipelineConfig]) {
    groups(checker, pipelines);
    let owners = companion_names(checker, pipelines);
    for pipeline in pipelines {
        sources(checker, &pipeline.spec, &owners);
        outputs(checker, &pipeline.spec, &owners);
    }
    cycles(checker, pipelines);
}

fn path_of(spec: &PipelineSpec) -> String {
    join("pipelines", &spec.name)
}

fn groups(checker: &mut Checker<'_>, pipelines: &[PipelineConfig]) {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for PipelineConfig { spec, .. } in pipelines {
        let Some(other) = owners.insert(&spec.group, &spec.name) else { continue };
        let path = join(&join(&path_of(spec), "source"), "group");
        let what = format!("pipelines `{other}` and `{}` share a consumer group", spec.name);
        let why = "each would take partitions and commits from the other";
        let fix = "give each pipeline its own `source.group`, or leave it out";
        checker.value(Finding::new(Code::TopicClash, what, fix).because(why), &path);
    }
}

/// Who a companion topic belongs to: pipeline and companion by name.
type Owners = BTreeMap<Topic, (String, Companion)>;

fn companion_names(checker: &mut Checker<'_>, pipelines: &[PipelineConfig]) -> Owners {
    let mut owners = Owners::new();
    // One finding a template is enough: its tiers are all alike.
    let mut reported = BTreeSet::new();
    for PipelineConfig { spec, .. } in pipelines {
        for companion in companions(spec) {
            let key = match companion.kind {
                CompanionKind::Tier(_) => "retry",
                CompanionKind::DeadLetters | CompanionKind::States => "dead_letter",
            };
            let path = join(&join(&path_of(spec), key), "topic");
            let name = companion.topic.clone();
            let source_is_fine = topic_problem(&companion.source).is_none();
            let finding = if let Some(why) = topic_problem(&name) {
                let what = format!("companion topic {:?} is not allowed", &*name);
                let fix = "shorten the topic's name, the group or the template";
                Finding::new(Code::BadName, what, fix).because(why)
            } else {
                let owner = (spec.name.clone(), companion);
                match owners.insert(name.clone(), owner.clone()) {
                    // A source topic that is named twice was reported where it stands.
                    None => continue,
                    Some(other) if other == owner => continue,
                    Some((other, _)) => {
                        let what = format!("companion topic {:?} has two owners", &*name);
                        let why = format!("pipelines `{other}` and `{}` both write it", spec.name);
                        let fix = "put {group} into the templates, or name them differently";
                        Finding::new(Code::TopicClash, what, fix).because(why)
                    }
                }
            };
            if source_is_fine && reported.insert(path.clone()) {
                checker.value(finding, &path);
            }
        }
    }
    owners
}

fn sources(checker: &mut Checker<'_>, spec: &PipelineSpec, owners: &Owners) {
    for (index, topic) in spec.topics.iter().enumerate() {
        let Some((owner, companion)) = owners.get(topic) else { continue };
        // Another pipeline may well handle somebody's dead letters.
        if *owner != spec.name && companion.kind == CompanionKind::DeadLetters {
            continue;
        }
        let path = format!("{}[{index}]", join(&join(&path_of(spec), "source"), "topics"));
        let what = format!("{:?} cannot be a source", &**topic);
        let why = format!("it is a companion topic of pipeline `{owner}`, which reads it itself");
        let fix = "read another topic; dead letters come back with `millstream dlq redrive`";
        checker.value(Finding::new(Code::TopicClash, what, fix).because(why), &path);
    }
}

fn outputs(checker: &mut Checker<'_>, spec: &PipelineSpec, owners: &Owners) {
    for (name, topic) in &spec.outputs {
        let path = join(&join(&path_of(spec), "outputs"), name);
        let why = if spec.topics.contains(topic) {
            "the pipeline reads it: each message would make the next, without end".to_owned()
        } else if let Some((owner, _)) = owners.get(topic) {
            format!("it is a companion topic of pipeline `{owner}`: only the host writes there")
        } else {
            continue;
        };
        let what = format!("output `{name}` cannot go to {:?}", &**topic);
        let finding = Finding::new(Code::TopicClash, what, "send it to another topic");
        checker.value(finding.because(why), &path);
    }
}

/// Warns of pipelines that feed one another in a circle: legal, and endless if nothing filters.
fn cycles(checker: &mut Checker<'_>, pipelines: &[PipelineConfig]) {
    let feeds = |from: &PipelineSpec, to: &PipelineSpec| {
        from.name != to.name && from.outputs.values().any(|topic| to.topics.contains(topic))
    };
    for PipelineConfig { spec: first, .. } in pipelines {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut open = vec![first];
        let mut circle = false;
        while let Some(from) = open.pop() {
            for PipelineConfig { spec: to, .. } in pipelines {
                if !feeds(from, to) {
                    continue;
                }
                circle |= to.name == first.name;
                if reached.insert(&to.name) {
                    open.push(to);
                }
            }
        }
        // One warning a circle, at its first pipeline by name.
        if circle && reached.iter().all(|name| *name >= first.name.as_str()) {
            let names = reached.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            let what = format!("pipelines feed one another in a circle: {names}");
            let why = "a message that passes all of them comes again, without end";
            let fix = "make sure that one of the plugins ends it";
            let finding = Finding::new(Code::TopicClash, what, fix).because(why).warning();
            checker.value(finding, &join(&path_of(first), "outputs"));
        }
    }
}
