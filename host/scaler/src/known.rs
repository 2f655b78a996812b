//! Known: what was found last of each pipeline, and who asks for it.
//!
//! Written by `watch` alone, read by `grpc` and `metrics`. An answer stands until there is a newer one, however old it gets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::message::Topic;
use millstream_core::nearest::nearest;
use millstream_core::pipeline_spec::PipelineSpec;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::replicas;
use crate::settings::Settings;

/// Who has asked within this time will ask again.
const ASKED_LATELY: Duration = Duration::from_secs(60);

/// What was found of one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicLag {
    /// Messages that are not settled.
    pub(crate) lag: u64,
    /// Those of them that could be handled now.
    pub(crate) due: u64,
}

/// What was found of a pipeline in one look.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// When.
    pub(crate) at: Instant,
    /// Sources and retry tiers.
    pub(crate) topics: BTreeMap<Topic, TopicLag>,
    /// Partitions of the sources.
    pub(crate) partitions: u32,
    /// Hosts that own partitions, if the cluster told.
    pub(crate) hosts: Option<u32>,
    /// Messages a second and host, if it was measured.
    pub(crate) rate: Option<f64>,
}

impl Answer {
    /// What could be handled now.
    pub(crate) fn due(&self) -> u64 {
        self.topics.values().map(|topic| topic.due).sum()
    }

    /// How many hosts are wanted.
    pub(crate) fn wanted(&self, settings: &Settings) -> u32 {
        replicas::wanted(self.due(), self.partitions, self.rate, settings)
    }
}

/// What is known of a pipeline.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The last answer of the cluster; none if there never was one.
    pub(crate) answer: Option<Arc<Answer>>,
    /// Why there is no newer one, if so.
    pub(crate) trouble: Option<Arc<str>>,
}

impl Known {
    /// The answer that is given. One that is held says how many hosts are wanted at least; that none is wanted is not
    /// said of what cannot be seen: hosts that still work would be taken away.
    pub(crate) fn given(&self) -> Option<&Arc<Answer>> {
        let is_given = |answer: &&Arc<Answer>| self.trouble.is_none() || answer.due() > 0;
        self.answer.as_ref().filter(is_given)
    }

    /// Whether the last look was answered.
    pub(crate) fn is_up(&self) -> bool {
        self.answer.is_some() && self.trouble.is_none()
    }
}

/// A pipeline that is looked at.
pub(crate) struct Watched {
    /// What it reads.
    pub(crate) spec: PipelineSpec,
    /// What is known of it.
    pub(crate) known: watch::Sender<Known>,
    /// Wakes the task that looks, when somebody asks for the first time in a while.
    pub(crate) wake: Notify,
    asking: Mutex<Asking>,
}

#[derive(Debug, Default)]
struct Asking {
    streams: usize,
    last: Option<Instant>,
    /// What the last trigger wanted.
    settings: Settings,
}

/// Somebody who follows a pipeline as long as this lives.
pub(crate) struct Follower(Arc<Watched>);

impl Watched {
    pub(crate) fn new(spec: PipelineSpec) -> Self {
        let known = watch::Sender::default();
        Self { spec, known, wake: Notify::new(), asking: Mutex::default() }
    }

    /// What is known now.
    pub(crate) fn now(&self) -> Known {
        self.known.borrow().clone()
    }

    /// Somebody asks, with these settings.
    pub(crate) fn asked(&self, settings: Settings) {
        let was_asked = self.is_followed();
        let mut asking = self.asking();
        (asking.last, asking.settings) = (Some(Instant::now()), settings);
        drop(asking);
        if !was_asked {
            self.wake.notify_one();
        }
    }

    /// Somebody asks on and on.
    pub(crate) fn follow(self: &Arc<Self>, settings: Settings) -> Follower {
        self.asked(settings);
        self.asking().streams += 1;
        Follower(Arc::clone(self))
    }

    /// Whether somebody waits for a change, or asks every now and then.
    pub(crate) fn is_followed(&self) -> bool {
        let asking = self.asking();
        asking.streams > 0 || asking.last.is_some_and(|last| last.elapsed() < ASKED_LATELY)
    }

    /// The settings of who asked last; the defaults before that.
    pub(crate) fn settings(&self) -> Settings {
        self.asking().settings
    }

    fn asking(&self) -> std::sync::MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut asking = self.0.asking();
        asking.streams = asking.streams.saturating_sub(1);
    }
}

/// All pipelines, by name.
#[derive(Clone)]
pub(crate) struct Pipelines(Arc<BTreeMap<String, Arc<Watched>>>);

impl Pipelines {
    pub(crate) fn new(specs: Vec<PipelineSpec>) -> Self {
        let watched =
            specs.into_iter().map(|spec| (spec.name.clone(), Arc::new(Watched::new(spec))));
        Self(Arc::new(watched.collect()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Watched>> {
        self.0.values()
    }

    /// The pipeline of this name.
    ///
    /// # Errors
    /// A sentence that names the nearest one, or all.
    pub(crate) fn get(&self, name: &str) -> Result<&Arc<Watched>, String> {
        self.0.get(name).ok_or_else(|| {
            let known: Vec<String> = self.0.keys().cloned().collect();
            let hint = match nearest(name, &known) {
                Some(nearest) => format!("did you mean {nearest:?}?"),
                None => format!("the scaler's configuration has {}", known.join(", ")),
            };
            format!("there is no pipeline {name:?}: {hint}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(due: u64) -> Option<Arc<Answer>> {
        let topics = [("orders".into(), TopicLag { lag: due, due })].into();
        let (at, partitions) = (Instant::now(), 6);
        Some(Arc::new(Answer { at, topics, partitions, hosts: None, rate: None }))
    }

    // Hosts drain everything, the scaler goes blind, messages come: an answer of zero would take the hosts away.
    #[test]
    fn that_nothing_is_due_is_not_said_of_what_cannot_be_seen() {
        let trouble: Option<Arc<str>> = Some("away".into());
        let given = |answer, trouble| Known { answer, trouble }.given().map(|given| given.due());
        assert_eq!(given(None, None), None);
        assert_eq!(given(None, trouble.clone()), None);
        assert_eq!(given(answer(0), None), Some(0));
        assert_eq!(given(answer(0), trouble.clone()), None, "unknown is never zero");
        assert_eq!(given(answer(7), trouble), Some(7), "held");
    }
}
