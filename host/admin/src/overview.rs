//! Overview: what a console needs to say what is wrong, since when, and what can be done, in one answer.
//!
//! Beside the message's way. Each second the host's metrics and statuses are read and one [`Overview`] is made of
//! them, whether anybody looks or not: who opens the page in an incident sees the half hour before. The answer is written as JSON
//! once, for all who ask.
//!
//! It is of this host: on Kafka other hosts of a group tell of their own partitions.
//!
//! Limits: a minute of samples and [`HISTORY_POINTS`] points of history for each pipeline; partitions, failures and hot keys
//! are as many as the host has, which have bounds of their own.

use std::time::Duration;

use millstream_core::hot_keys::HotKey;
use millstream_core::message::EpochMs;
use millstream_core::recent_failures::FailureGroup;
use millstream_core::status::HeldUp;
use serde::Serialize;

use crate::jobs::JobView;

mod build;
mod problems;
mod sampler;
mod totals;

pub use build::ServedPipeline;
pub(crate) use sampler::Sampler;

/// How often numbers are read.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// What rates are over.
const RATES_OVER: usize = 10;
/// What shares are over, in samples: a minute.
const SHARES_OVER: usize = 60;
/// How many samples are one point of history.
const SAMPLES_PER_POINT: usize = 10;
/// How many points are kept: half an hour.
const HISTORY_POINTS: usize = 180;

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Overview {
    pub(crate) version: &'static str,
    pub(crate) cluster_id: String,
    /// When it was made.
    pub(crate) now: EpochMs,
    /// When the host began to answer.
    pub(crate) started: EpochMs,
    /// The worst first.
    pub(crate) problems: Vec<Problem>,
    pub(crate) pipelines: Vec<PipelineView>,
    pub(crate) jobs: Vec<JobView>,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// It should be known, and nobody need do anything.
    Note,
    /// Somebody should look.
    Warning,
    /// Messages are not handled as they should be, now.
    Critical,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Problem {
    pub(crate) severity: Severity,
    pub(crate) pipeline: String,
    /// What is wrong, in one line.
    pub(crate) what: String,
    /// What it comes of, as far as the host knows.
    pub(crate) why: String,
    /// What can be done.
    pub(crate) act: String,
    /// Where more is shown: `partitions`, `failures`, `letters`, `pipeline`.
    pub(crate) view: &'static str,
    pub(crate) since: EpochMs,
    /// Which problem it is, over time.
    #[serde(skip)]
    pub(crate) kind: String,
}

/// One pipeline.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PipelineView {
    pub(crate) pipeline: String,
    pub(crate) group: String,
    pub(crate) ready: bool,
    /// Why it is not.
    pub(crate) trouble: Option<String>,
    /// Whether it stopped and does not start again by itself.
    pub(crate) stopped: bool,
    pub(crate) delivery: &'static str,
    pub(crate) ordering: &'static str,
    pub(crate) plugin: PluginView,
    pub(crate) sources: Vec<SourceView>,
    pub(crate) outputs: Vec<OutputView>,
    pub(crate) tiers: Vec<TierView>,
    pub(crate) dead_letters: Vec<DeadLetterView>,
    pub(crate) rates: Rates,
    pub(crate) handling: HandlingView,
    pub(crate) in_flight: InFlightView,
    pub(crate) lag: f64,
    pub(crate) due_lag: f64,
    /// Age of the oldest message that is not settled.
    pub(crate) oldest_seconds: f64,
    pub(crate) drains_in_seconds: f64,
    pub(crate) partitions: Vec<PartitionView>,
    pub(crate) failures: Vec<FailureGroup>,
    pub(crate) history: History,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct PluginView {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) digest: String,
    pub(crate) instances: usize,
    pub(crate) memory_bytes: f64,
    pub(crate) time_limit_seconds: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct SourceView {
    pub(crate) topic: String,
    pub(crate) arriving_per_second: f64,
    pub(crate) lag: f64,
    pub(crate) partitions: usize,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct OutputView {
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) per_second: f64,
}

/// All retry topics of one delay.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TierView {
    pub(crate) delay: String,
    pub(crate) topics: Vec<String>,
    pub(crate) per_second: f64,
    pub(crate) depth: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct DeadLetterView {
    pub(crate) topic: String,
    pub(crate) source: String,
    pub(crate) per_second: f64,
    pub(crate) depth: f64,
}

/// A second, over the last seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Rates {
    pub(crate) arriving: f64,
    pub(crate) done: f64,
    pub(crate) failed: f64,
    pub(crate) paused: f64,
    pub(crate) retried: f64,
    pub(crate) dead: f64,
    pub(crate) unattempted: f64,
}

/// How long attempts took in the last seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct HandlingView {
    pub(crate) mean_seconds: Option<f64>,
    pub(crate) p50_seconds: Option<f64>,
    pub(crate) p99_seconds: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct InFlightView {
    pub(crate) messages: f64,
    pub(crate) messages_max: usize,
    pub(crate) bytes: f64,
    pub(crate) bytes_max: usize,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct PartitionView {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) started: bool,
    pub(crate) position: u64,
    pub(crate) committed: u64,
    pub(crate) lag: f64,
    pub(crate) due_lag: f64,
    pub(crate) oldest_seconds: f64,
    pub(crate) commit_age_seconds: f64,
    pub(crate) drains_in_seconds: f64,
    pub(crate) in_flight: usize,
    pub(crate) retries: usize,
    pub(crate) waiting_keys: f64,
    pub(crate) waiting_messages: usize,
    pub(crate) paused_lanes: f64,
    pub(crate) held_up: Option<HeldUp>,
    /// For a person: what it waits for.
    pub(crate) held_up_text: Option<&'static str>,
    pub(crate) hot_keys: Vec<HotKey>,
}

/// What was, one number every [`SAMPLES_PER_POINT`] seconds, the latest last.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct History {
    pub(crate) every_seconds: u64,
    pub(crate) arriving: Vec<f64>,
    pub(crate) done: Vec<f64>,
    pub(crate) failed: Vec<f64>,
    pub(crate) dead: Vec<f64>,
    pub(crate) lag: Vec<f64>,
    pub(crate) p99_seconds: Vec<f64>,
}

impl History {
    fn push(&mut self, rates: &Rates, lag: f64, p99: Option<f64>) {
        for (line, value) in [
            (&mut self.arriving, rates.arriving),
            (&mut self.done, rates.done),
            (&mut self.failed, rates.failed),
            (&mut self.dead, rates.dead),
            (&mut self.lag, lag),
            (&mut self.p99_seconds, p99.unwrap_or(0.0)),
        ] {
            if line.len() == HISTORY_POINTS {
                line.remove(0);
            }
            line.push(rounded(value));
        }
    }
}

/// To a thousandth of itself: nobody sees more, and the answer is shorter.
fn rounded(value: f64) -> f64 {
    if !value.is_finite() || value == 0.0 {
        return 0.0;
    }
    let unit = 10f64.powf(value.abs().log10().floor() - 3.0);
    let rounded = (value / unit).round() * unit;
    if rounded.is_finite() { rounded } else { 0.0 }
}
