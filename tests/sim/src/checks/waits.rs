//! Waits: a retry waits for its delay, a pause stops its lane.

use std::time::Duration;

use millstream_core::message::EpochMs;
use millstream_core::pipeline_spec::KeepOrder;
use millstream_log_simulated::WALL_CLOCK_BEGIN;

use crate::book::{Book, Carrier, Kind};
use crate::facts::{End, Facts};
use crate::runs::{Ended, Run};

impl Book {
    /// Whether this attempt comes too early, before it is noted.
    pub(crate) fn check_waits(&mut self, facts: &Facts, run: &Run) {
        self.check_due(facts, run);
        self.check_lane_waits(facts, run);
    }

    fn check_due(&mut self, facts: &Facts, run: &Run) {
        let Some(message) = self.messages.get(&facts.uid) else { return };
        let copies: Vec<Carrier> = message.carriers.iter().skip(1).cloned().collect();
        let copies = copies.into_iter().filter(|c| c.attempts + 1 == run.number);
        let skew = self.skews.get(&run.host).copied().unwrap_or_default();
        let millis = |time: Duration| EpochMs::try_from(time.as_millis()).unwrap_or(EpochMs::MAX);
        let due = copies.filter_map(|copy| Some(copy.timestamp + millis(self.delay_of(&copy)?)));
        // The host goes by its own clock, which is ahead of the log's.
        let now = WALL_CLOCK_BEGIN + millis(run.started) + skew;
        if let Some(early) = due.min().map(|due| due - now).filter(|early| *early > 0) {
            let what =
                format!("attempt {} of {}, {early} ms early", run.number, self.name(run.uid));
            self.violate("a retry waits for its delay", what);
        }
    }

    fn delay_of(&mut self, copy: &Carrier) -> Option<Duration> {
        let Kind::Tier(source) = self.kind(&copy.partition.topic) else { return None };
        let spec = &self.scenario.spec;
        spec.retry.topic.delay_of(&copy.partition.topic, &source, &spec.group)
    }

    fn check_lane_waits(&mut self, facts: &Facts, run: &Run) {
        let Some(lane) = self.lane(facts) else { return };
        let last = self.last_in_lane.get(&(run.host, lane)).and_then(|id| self.runs.get(id));
        let Some(last) = last.filter(|last| last.epoch.is_some() && last.epoch == run.epoch) else {
            return;
        };
        let retry = &self.scenario.spec.retry;
        let (at, wait, promise) = match &last.ended {
            Some((at, Ended::Paused)) => {
                let asked = Duration::from_millis(facts.script.pause_ms);
                let wait = asked.clamp(retry.pause_min, retry.pause_max);
                (*at, wait, "a pause stops its lane for as long as was asked")
            }
            Some((at, Ended::Did(end))) if retry.keep_order == KeepOrder::OfPartition => {
                let Some(wait) = delay_after(&retry.delays, last.number, end) else { return };
                (*at, wait, "a retry in place waits for its delay")
            }
            _ => return,
        };
        // A copy that landed when its writer was gone takes its turn, which may be before.
        let (_, late) = self.copies_for(run.uid, run.number);
        if last.uid != run.uid && !late {
            let what = format!("{} is attempted after {}", self.name(run.uid), self.name(last.uid));
            return self.violate(promise, what);
        }
        if run.started < at + wait {
            let what = format!("{}, due at {:?}", self.name(run.uid), at + wait);
            self.violate(promise, what);
        }
    }
}

/// How long a message waits after an attempt that ended so; `None` if that was its last.
pub(super) fn delay_after(delays: &[Duration], attempt: u32, end: &End) -> Option<Duration> {
    let made = usize::try_from(attempt).ok()?;
    let next = delays.get(made.checked_sub(1)?).copied()?;
    match end {
        End::Done(_) | End::Reject | End::Kill => None,
        End::Retry(Some(after)) => {
            let asked = Duration::from_millis(*after);
            // The smallest that is not shorter than what was asked for, else the longest.
            delays.iter().filter(|d| **d >= asked).min().or(delays.iter().max()).copied()
        }
        End::Retry(None) | End::Fault(_) | End::Oversize | End::Unnamed => Some(next),
    }
}
