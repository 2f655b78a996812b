//! Shorten: makes of a scenario that breaks a promise a smaller one that still breaks it, so that a person has little
//! to read.
//!
//! Greedy: whatever can be left out (messages, troubles, hosts, faults) is left out for as long as the same promise is
//! broken. What is left is another history than the seed's, but a real one.
//!
//! Limit: `RUNS_MAX` simulations.

use millstream_log_simulated::Faults;

use crate::scenario::{CrashChances, Scenario};
use crate::simulation::{Options, Report, play};

/// So many simulations are made at most.
const RUNS_MAX: usize = 600;

/// A seed that was shortened.
#[derive(Debug)]
pub struct Shortened {
    /// The smallest history that was found.
    pub report: Report,
    /// What was left out, for a person.
    pub summary: String,
}

struct Search<'a> {
    options: &'a Options,
    promise: String,
    best: Scenario,
    report: Report,
    runs: usize,
}

/// The name of the promise that a violation is of.
fn promise(violation: &str) -> &str {
    violation.split_once(": ").map_or(violation, |(promise, _)| promise)
}

/// Shortens a seed; `None` if it breaks no promise.
///
/// # Errors
/// When the operating system gives no runtime.
pub fn shorten(seed: u64, options: &Options) -> std::io::Result<Option<Shortened>> {
    let whole = Scenario::draw(seed);
    let report = play(whole.clone(), options)?;
    let Some(violation) = &report.violation else { return Ok(None) };
    let promise = promise(violation).to_owned();
    let mut search = Search { options, promise, best: whole.clone(), report, runs: 1 };
    while search.pass()? {}
    let (best, runs) = (&search.best, search.runs);
    let summary = format!(
        "shortened in {runs} runs to {} of {} messages, {} of {} troubles, {} of {} hosts",
        best.messages.len(),
        whole.messages.len(),
        best.troubles.len(),
        whole.troubles.len(),
        best.hosts,
        whole.hosts,
    );
    Ok(Some(Shortened { report: search.report, summary }))
}

impl Search<'_> {
    /// Tries to leave out each thing once; says whether anything could be.
    fn pass(&mut self) -> std::io::Result<bool> {
        let mut shorter = false;
        while self.best.hosts > 1 && self.tries(|scenario| scenario.hosts -= 1)? {
            shorter = true;
        }
        shorter |= self.thin(|scenario| &mut scenario.troubles)?;
        shorter |= self.thin(|scenario| &mut scenario.messages)?;
        for leave_out in SIMPLER {
            shorter |= self.tries(leave_out)?;
        }
        Ok(shorter)
    }

    /// Leaves out as much as can be of a list: halves first, then ever smaller parts.
    fn thin<T>(&mut self, list: impl Fn(&mut Scenario) -> &mut Vec<T>) -> std::io::Result<bool> {
        let mut shorter = false;
        let mut part = list(&mut self.best).len().div_ceil(2);
        while part > 0 {
            let mut from = 0;
            while from < list(&mut self.best).len() {
                let left_out = self.tries(|scenario| {
                    let items = list(scenario);
                    let to = (from + part).min(items.len());
                    items.drain(from..to);
                })?;
                shorter |= left_out;
                from += if left_out { 0 } else { part };
            }
            part /= 2;
        }
        Ok(shorter)
    }

    /// Whether the promise is still broken without something; if so it stays out.
    fn tries(&mut self, leave_out: impl FnOnce(&mut Scenario)) -> std::io::Result<bool> {
        let mut scenario = self.best.clone();
        leave_out(&mut scenario);
        if self.runs == RUNS_MAX || format!("{scenario:?}") == format!("{:?}", self.best) {
            return Ok(false);
        }
        self.runs += 1;
        let report = play(scenario.clone(), self.options)?;
        let broken = report.violation.as_deref().is_some_and(|v| promise(v) == self.promise);
        if broken {
            (self.best, self.report) = (scenario, report);
        }
        Ok(broken)
    }
}

/// What makes any scenario simpler; all faults at once first.
const SIMPLER: [fn(&mut Scenario); 17] = [
    |scenario| scenario.faults = Faults::default(),
    |scenario| scenario.crashes = CrashChances::default(),
    |scenario| scenario.eager = false,
    |scenario| scenario.faults.latency_ms_max = 0,
    |scenario| scenario.faults.slow = 0,
    |scenario| scenario.faults.refused = 0,
    |scenario| scenario.faults.answer_lost = 0,
    |scenario| scenario.faults.store_refused = 0,
    |scenario| scenario.faults.commit_in_part = 0,
    |scenario| scenario.faults.redelivered = 0,
    |scenario| scenario.faults.gap = 0,
    |scenario| scenario.faults.open_transaction = 0,
    |scenario| scenario.faults.uneven = 0,
    |scenario| scenario.faults.event_ms_max = 0,
    |scenario| scenario.faults.late_send = 0,
    |scenario| scenario.faults.refused_records.clear(),
    |scenario| scenario.messages.iter_mut().for_each(|(_, facts)| facts.script.pauses = 0),
];
