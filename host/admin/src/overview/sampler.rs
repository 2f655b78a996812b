//! Sampler: reads numbers each second, keeps a minute of them and half an hour of history, and makes what is shown.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use millstream_core::clock::WallClock;
use millstream_core::message::EpochMs;
use prometheus::Registry;

use super::build::{self, Committed, ServedPipeline, Span};
use super::totals::Totals;
use super::*;
use crate::jobs::Jobs;

/// How long a problem may be away and still be the same one: when it began is not forgotten by a lull.
const SAME_WITHIN_MS: EpochMs = 60_000;

/// The latest overview as JSON.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// With the names of hot keys.
    pub(crate) full: Bytes,
    /// With what stands for them.
    pub(crate) masked: Bytes,
}

/// See the module.
pub(crate) struct Sampler {
    pipelines: Vec<ServedPipeline>,
    registry: Registry,
    clock: Arc<dyn WallClock>,
    jobs: Arc<Jobs>,
    cluster_id: String,
    started: EpochMs,
    /// Keys are shown as what this makes of them, which nobody can calculate back from a list of likely keys.
    masks: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    samples: VecDeque<(Totals, BTreeMap<String, Committed>)>,
    taken: usize,
    histories: BTreeMap<String, History>,
    /// When each problem began, and when it was there last.
    began: BTreeMap<(String, String), (EpochMs, EpochMs)>,
    shown: Shown,
}

impl Sampler {
    pub(crate) fn new(
        pipelines: Vec<ServedPipeline>,
        registry: Registry,
        clock: Arc<dyn WallClock>,
        jobs: Arc<Jobs>,
        cluster_id: String,
    ) -> Self {
        let started = clock.now();
        let (masks, state) = (RandomState::new(), Mutex::default());
        Self { pipelines, registry, clock, jobs, cluster_id, started, masks, state }
    }

    /// The pipeline of this name.
    pub(crate) fn pipeline(&self, name: &str) -> Option<&ServedPipeline> {
        self.pipelines.iter().find(|pipeline| pipeline.spec.name == name)
    }

    /// What was made last; made now if nothing was yet.
    pub(crate) fn shown(&self) -> Shown {
        let shown = self.state.lock().unwrap_or_else(PoisonError::into_inner).shown.clone();
        if shown.full.is_empty() { self.sample() } else { shown }
    }

    /// Samples until it is dropped.
    pub(crate) async fn run(&self) {
        let mut every = tokio::time::interval(SAMPLE_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            self.sample();
        }
    }

    /// Reads the numbers and makes what is shown.
    pub(crate) fn sample(&self) -> Shown {
        let totals = Totals::of(&self.registry);
        let now = self.clock.now();
        let committed: BTreeMap<_, _> = self
            .pipelines
            .iter()
            .map(|served| (served.spec.name.clone(), build::committed(served)))
            .collect();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.samples.len() > SHARES_OVER {
            state.samples.pop_front();
        }
        state.samples.push_back((totals, committed));
        let overview = self.overview(&mut state, now);
        state.taken = state.taken.wrapping_add(1);
        let masked = self.masked(overview.clone());
        state.shown = Shown { full: json(&overview), masked: json(&masked) };
        state.shown.clone()
    }

    fn overview(&self, state: &mut State, now: EpochMs) -> Overview {
        let mut pipelines = Vec::with_capacity(self.pipelines.len());
        let mut problems = Vec::new();
        for served in &self.pipelines {
            let name = &served.spec.name;
            let Some(latest) = state.samples.back() else { continue };
            let ago = |samples: usize| {
                let index = state.samples.len().saturating_sub(1 + samples);
                state.samples.get(index).filter(|_| state.samples.len() > 1)
            };
            let empty = Default::default();
            let span = |then: Option<&'_ (Totals, BTreeMap<String, Committed>)>| {
                let seconds =
                    then.map_or(0.0, |(then, _)| latest.0.at.duration_since(then.at).as_secs_f64());
                (then.and_then(|(then, _)| then.pipelines.get(name)).cloned(), seconds)
            };
            let recent = ago(RATES_OVER);
            let totals = latest.0.pipelines.get(name).unwrap_or(&empty);
            let (then, seconds) = span(recent);
            let short = Span { now: totals, then: then.as_ref(), seconds };
            let before = recent.and_then(|(_, committed)| committed.get(name));
            let mut view = build::pipeline(served, &short, before, now);
            let (then, seconds) = span(ago(SHARES_OVER));
            let minute = Span { now: totals, then: then.as_ref(), seconds };
            let history = state.histories.entry(name.clone()).or_default();
            if state.taken.is_multiple_of(SAMPLES_PER_POINT) {
                history.push(&view.rates, view.lag, view.handling.p99_seconds);
            }
            history.every_seconds = SAMPLE_EVERY.as_secs() * SAMPLES_PER_POINT as u64;
            view.history = history.clone();
            // Without an earlier sample everything since the start would look like one minute's.
            if minute.then.is_some() {
                problems.extend(problems::of(&view, &minute, now));
            }
            pipelines.push(view);
        }
        for problem in &mut problems {
            let key = (problem.pipeline.clone(), problem.kind.clone());
            let (began, last) = state.began.entry(key).or_insert((problem.since, now));
            *began = problem.since.min(*began);
            (*last, problem.since) = (now, *began);
        }
        state.began.retain(|_, (_, last)| now.saturating_sub(*last) < SAME_WITHIN_MS);
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        Overview {
            version: env!("CARGO_PKG_VERSION"),
            cluster_id: self.cluster_id.clone(),
            now,
            started: self.started,
            problems,
            pipelines,
            jobs: self.jobs.all(),
        }
    }

    /// Without keys, which are parts of messages.
    fn masked(&self, mut overview: Overview) -> Overview {
        let partitions = overview.pipelines.iter_mut().flat_map(|p| p.partitions.iter_mut());
        for hot in partitions.flat_map(|partition| partition.hot_keys.iter_mut()) {
            hot.key = self.mask(&hot.key);
        }
        overview
    }

    /// What stands for a key: the same for the same key as long as the host runs.
    pub(crate) fn mask(&self, key: &str) -> String {
        format!("key #{:08x}", self.masks.hash_one(key) >> 32)
    }
}

fn json(overview: &Overview) -> Bytes {
    // Texts, numbers that are finite, lists: nothing in it that JSON cannot say.
    serde_json::to_vec(overview).unwrap_or_default().into()
}
