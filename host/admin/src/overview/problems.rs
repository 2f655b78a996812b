//! Problems: what is wrong with a pipeline, in an operator's words: what, of what it comes, what can be done.
//!
//! Rules over one view and the last minute's numbers; when something began is noted by the sampler, or known to the station
//! that told it. Each rule says less rather than cry wolf: what a restart or a single message makes is below its bound.

use std::collections::BTreeMap;

use millstream_core::message::EpochMs;
use millstream_core::status::HeldUpBy;

use super::build::Span;
use super::totals::PipelineTotals;
use super::{PartitionView, PipelineView, Problem, Severity};

/// From this share of failed attempts on it is told, and from the second on it is critical.
const FAILING_SHARE: f64 = 0.05;
const FAILING_SHARE_CRITICAL: f64 = 0.5;
/// With fewer failed attempts in a minute nothing is told of shares.
const FAILED_MIN: f64 = 10.0;
/// From this share of dead letters among what ends they are critical.
const DEAD_SHARE_CRITICAL: f64 = 0.05;
/// An attempt at this part of its time limit is about to fail.
const NEAR_LIMIT: f64 = 0.5;
/// So many times as long as half an hour ago is slow, if it is longer than the second.
const SLOWER: f64 = 5.0;
const SLOW_SECONDS_MIN: f64 = 0.02;
/// A backlog is told when its oldest message waits for so long.
const BEHIND_SECONDS: f64 = 30.0;
/// So much of a partition is a hot key, if the partition is behind.
const HOT_SHARE: f64 = 0.5;
const HOT_LAG_MIN: f64 = 100.0;
/// A partition that stands still for so long is critical whatever it waits for.
const STANDS_CRITICAL_SECONDS: u64 = 300;

/// What is wrong now, the worst first. `minute` is of the last minute.
pub(super) fn of(view: &PipelineView, minute: &Span<'_>, now: EpochMs) -> Vec<Problem> {
    let look = Look { view, minute, now };
    let mut problems = Vec::new();
    problems.extend(look.not_ready());
    problems.extend(look.standing_still());
    problems.extend(look.log_errors());
    problems.extend(look.failing());
    problems.extend(look.dead_letters());
    problems.extend(look.slow());
    problems.extend(look.pauses());
    problems.extend(look.held_back());
    problems.extend(look.behind());
    problems.extend(look.hot_keys());
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    problems
}

struct Look<'a> {
    view: &'a PipelineView,
    minute: &'a Span<'a>,
    now: EpochMs,
}

impl Look<'_> {
    fn problem(&self, kind: &str, severity: Severity, view: &'static str) -> Problem {
        Problem {
            severity,
            pipeline: self.view.pipeline.clone(),
            what: String::new(),
            why: String::new(),
            act: String::new(),
            view,
            since: self.now,
            kind: kind.to_owned(),
        }
    }

    /// What was counted in the last minute.
    fn in_minute(&self, of: fn(&PipelineTotals) -> f64) -> f64 {
        (of(self.minute.now) - self.minute.then.map_or(0.0, of)).max(0.0)
    }

    /// The same of a family, the most first.
    fn family(&self, of: fn(&PipelineTotals) -> &BTreeMap<String, f64>) -> Vec<(String, f64)> {
        let then = self.minute.then.map(of);
        let now = of(self.minute.now);
        let grown = |key: &String| (key.clone(), super::totals::grown(now, then, key));
        let mut family: Vec<_> = now.keys().map(grown).filter(|(_, n)| *n > 0.0).collect();
        family.sort_by(|a, b| b.1.total_cmp(&a.1));
        family
    }

    fn not_ready(&self) -> Option<Problem> {
        let view = self.view;
        if view.stopped {
            return Some(Problem {
                what: format!("{} has stopped", view.pipeline),
                why: view.trouble.clone().unwrap_or_default(),
                act: "Remove the reason, then start the host again. Nothing is lost: what was in hand comes again."
                    .to_owned(),
                ..self.problem("stopped", Severity::Critical, "pipeline")
            });
        }
        let trouble = view.trouble.clone().filter(|_| !view.ready)?;
        // A host that begins, or gets its partitions back, restores for a moment.
        let severity =
            if trouble.starts_with("log:") { Severity::Critical } else { Severity::Warning };
        Some(Problem {
            what: format!("{} is not ready", view.pipeline),
            why: trouble,
            act: "The host goes on by itself as soon as it can. If it names the log: see that it answers.".to_owned(),
            ..self.problem("not ready", severity, "pipeline")
        })
    }

    /// Partitions whose commit stands still, those that wait for the same as one.
    fn standing_still(&self) -> Vec<Problem> {
        let mut by: BTreeMap<HeldUpBy, Vec<&PartitionView>> = BTreeMap::new();
        for partition in &self.view.partitions {
            if let Some(held_up) = partition.held_up {
                by.entry(held_up.by).or_default().push(partition);
            }
        }
        by.into_iter().map(|(reason, partitions)| self.stands_still(reason, &partitions)).collect()
    }

    fn stands_still(&self, by: HeldUpBy, partitions: &[&PartitionView]) -> Problem {
        let seconds =
            partitions.iter().filter_map(|p| Some(p.held_up?.seconds)).max().unwrap_or_default();
        let lag: f64 = partitions.iter().map(|p| p.lag).sum();
        let stands = match partitions {
            [one] => format!("{}[{}] stands still", one.topic, one.partition),
            _ => format!(
                "{} of {} partitions stand still",
                partitions.len(),
                self.view.partitions.len()
            ),
        };
        let (waits, critical) = waits_normally(by);
        let severity = match critical || seconds >= STANDS_CRITICAL_SECONDS {
            true => Severity::Critical,
            false => Severity::Warning,
        };
        let began = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(0);
        Problem {
            what: format!("{stands}, {} behind", count(lag, "message", "messages")),
            why: format!("The first message waits for {}.", by.text()),
            act: waits.to_owned(),
            since: self.now.saturating_sub(began),
            ..self.problem(&format!("held up {}", by.label()), severity, "partitions")
        }
    }

    fn log_errors(&self) -> Option<Problem> {
        let errors = self.family(|totals| &totals.log_errors);
        let (operation, _) = errors.first()?;
        let all: f64 = errors.iter().map(|(_, n)| n).sum();
        Some(Problem {
            what: format!("{} to the log failed in the last minute", count(all, "call", "calls")),
            why: format!("Most were `{operation}`. They are tried again until they succeed."),
            act: "See that the log answers: brokers and the network between, or the disk of the embedded log.".to_owned(),
            ..self.problem("log errors", Severity::Warning, "pipeline")
        })
    }

    fn failing(&self) -> Option<Problem> {
        let failed = self.in_minute(PipelineTotals::failed);
        let share = failed / (failed + self.in_minute(PipelineTotals::done));
        if failed < FAILED_MIN || share < FAILING_SHARE {
            return None;
        }
        let kinds = self.family(|totals| &totals.attempts);
        let mut kinds = kinds.iter().filter(|(kind, _)| !matches!(kind.as_str(), "done" | "pause"));
        let (kind, most) = kinds.next()?;
        let latest = self.view.failures.iter().filter(|group| group.kind == kind);
        let group = latest.max_by_key(|group| group.minutes.iter().rev().take(2).sum::<u32>());
        let reason = group.map(|group| format!(": {}", line(&group.reason))).unwrap_or_default();
        let severity = match share >= FAILING_SHARE_CRITICAL {
            true => Severity::Critical,
            false => Severity::Warning,
        };
        Some(Problem {
            what: format!("{} of attempts fail", percent(share)),
            why: format!("{} of {} as `{kind}`{reason}", whole(*most), whole(failed)),
            act: advice(kind).to_owned(),
            since: group.map_or(self.now, |group| group.first),
            ..self.problem("failing", severity, "failures")
        })
    }

    fn dead_letters(&self) -> Option<Problem> {
        let kinds = self.family(|totals| &totals.dead_letters);
        let dead: f64 = kinds.iter().map(|(_, n)| n).sum();
        let (kind, _) = kinds.first()?;
        let group = self.view.failures.iter().find(|group| group.kind == kind);
        let share = dead / (dead + self.in_minute(PipelineTotals::done));
        let severity = match share >= DEAD_SHARE_CRITICAL && dead >= FAILED_MIN {
            true => Severity::Critical,
            false => Severity::Warning,
        };
        let reason = group.map(|group| format!(": {}", line(&group.reason))).unwrap_or_default();
        let depth: f64 = self.view.dead_letters.iter().map(|letters| letters.depth).sum();
        Some(Problem {
            what: format!(
                "{} in the last minute",
                count(dead, "new dead letter", "new dead letters")
            ),
            why: format!("Most as `{kind}`{reason}"),
            act: format!(
                "{} kept whole. Mend what they fail of, then put them back (redrive).",
                if depth > 1.0 { format!("All {} are", whole(depth)) } else { "It is".to_owned() }
            ),
            since: group.map_or(self.now, |group| group.first),
            ..self.problem("dead letters", severity, "letters")
        })
    }

    fn slow(&self) -> Option<Problem> {
        let (mean, p99) = (self.view.handling.mean_seconds?, self.view.handling.p99_seconds?);
        let limit = self.view.plugin.time_limit_seconds;
        let before = usual(&self.view.history.p99_seconds);
        let near = p99 >= limit * NEAR_LIMIT;
        let slower = before.filter(|b| *b > 0.0 && p99 > b * SLOWER && p99 > SLOW_SECONDS_MIN);
        if !near && slower.is_none() {
            return None;
        }
        let than = slower.map_or_else(String::new, |b| format!(" It was {} before.", seconds(b)));
        Some(Problem {
            what: format!("Attempts take long: 1 of 100 takes {} or more", seconds(p99)),
            why: format!("{} on average; the limit is {}.{than}", seconds(mean), seconds(limit)),
            act: "The plugin, or what it waits for, is slow. Beyond `limits.time` an attempt fails as `timeout`.".to_owned(),
            ..self.problem("slow", Severity::Warning, "pipeline")
        })
    }

    fn pauses(&self) -> Option<Problem> {
        let lanes: f64 = self.view.partitions.iter().map(|p| p.paused_lanes).sum();
        let group = self.view.failures.iter().find(|group| group.kind == "pause");
        let group = group.filter(|_| lanes > 0.0 && self.view.rates.paused > 0.0)?;
        Some(Problem {
            what: format!("The plugin has paused {}", count(lanes, "lane", "lanes")),
            why: format!("It says: {}", line(&group.reason)),
            act:
                "See that what it depends on answers. It goes on by itself; no attempt is counted."
                    .to_owned(),
            since: group.first,
            ..self.problem("pauses", Severity::Warning, "failures")
        })
    }

    fn held_back(&self) -> Option<Problem> {
        let rested = self.in_minute(|totals| totals.rested);
        (rested >= 1.0).then(|| Problem {
            what: "The plugin is held back".to_owned(),
            why: "It runs longer in faults than in attempts that end well, so it gets a tenth of the time.".to_owned(),
            act: "Mend what it traps or times out on, or deploy the version before.".to_owned(),
            ..self.problem("held back", Severity::Warning, "failures")
        })
    }

    fn behind(&self) -> Option<Problem> {
        let view = self.view;
        if view.oldest_seconds < BEHIND_SECONDS || view.due_lag <= 0.0 {
            return None;
        }
        let growing = view.rates.arriving > (view.rates.done + view.rates.unattempted) * 1.02;
        let rates = format!(
            "{} arrive and {} are handled each second.",
            whole_or_tenth(view.rates.arriving),
            whole_or_tenth(view.rates.done)
        );
        let began = self.now.saturating_sub(milliseconds(view.oldest_seconds));
        let what = format!("{} behind", count(view.lag, "message", "messages"));
        Some(if growing {
            Problem {
                what: format!("{what}, and falling further behind"),
                why: rates,
                act: "Look at what is slow or failing first. If nothing is: more instances, or more hosts up to the number of partitions.".to_owned(),
                since: began,
                ..self.problem("behind", Severity::Warning, "partitions")
            }
        } else {
            Problem {
                what: format!("{what}, catching up"),
                why: format!(
                    "{rates} Done in about {} at this pace.",
                    seconds(view.drains_in_seconds)
                ),
                act: "Nothing, unless it is to be sooner.".to_owned(),
                since: began,
                ..self.problem("behind", Severity::Note, "partitions")
            }
        })
    }

    fn hot_keys(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for partition in self.view.partitions.iter().filter(|p| p.due_lag >= HOT_LAG_MIN) {
            let share = |hot: &&millstream_core::hot_keys::HotKey| hot.of_attempts.max(hot.of_time);
            let hottest = partition.hot_keys.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
            let Some(hottest) = hottest.filter(|hot| share(hot) >= HOT_SHARE) else { continue };
            problems.push(Problem {
                what: format!(
                    "One key takes up {}[{}]: {} of it",
                    partition.topic,
                    partition.partition,
                    percent(share(&hottest))
                ),
                why: "A key is handled one message at a time, so it bounds its partition."
                    .to_owned(),
                act: "More hosts do not help: split the key, or make its messages cheaper."
                    .to_owned(),
                ..self.problem(
                    &format!("hot key {} {}", partition.topic, partition.partition),
                    Severity::Note,
                    "partitions",
                )
            });
        }
        problems
    }
}

/// What can be done about a partition that waits for this, and whether nobody should have to wait for it.
fn waits_normally(by: HeldUpBy) -> (&'static str, bool) {
    match by {
        HeldUpBy::Plugin => {
            ("The handler runs: see what it waits for. `limits.time` ends it.", false)
        }
        HeldUpBy::Instances => {
            ("All instances are busy: more `instances`, or find what is slow.", false)
        }
        HeldUpBy::Pause => {
            ("See that what the plugin depends on answers. It goes on by itself.", false)
        }
        HeldUpBy::Retry => ("The message is retried in place: look at what it fails of.", false),
        HeldUpBy::WaitingKey => (
            "An earlier message of the key is retried: look at what it fails of. The key is free once it is handled or a dead letter.",
            false,
        ),
        HeldUpBy::Claim => {
            ("Another message with its idempotency key is in flight. It goes on by itself.", false)
        }
        HeldUpBy::Store => ("The idempotency store does not answer: see that the log does.", true),
        HeldUpBy::Append | HeldUpBy::Commit => {
            ("See that the log answers: brokers, network, disk.", true)
        }
        HeldUpBy::Bounds => {
            ("`in_flight` bounds what is in hand: find what does not end, or raise it.", false)
        }
        HeldUpBy::Fetch => {
            ("The log has more and does not hand it over: see that it answers.", true)
        }
        HeldUpBy::Suspicion => (
            "Hosts died here. Messages are named before they are handled until the one that kills is found; `dead_letter.after_host_crashes` takes it out.",
            true,
        ),
    }
}

fn advice(kind: &str) -> &'static str {
    match kind {
        "timeout" => {
            "The handler does not end in time: see what it waits for, or raise `limits.time`."
        }
        "trap" => {
            "The handler crashes: the dead letter has its stack. Deploy the version before, or a fix."
        }
        "memory" => {
            "The handler needs more memory than `limits.memory`: a leak, or a message that is too large."
        }
        "oversize" => "An output is larger than its topic or `limits.output` takes.",
        "decode" => {
            "The handler cannot read these messages, or answers what is no answer: see who writes them."
        }
        "denied" => "The handler uses what its pipeline does not grant: an output or a capability.",
        "reject" => "The handler refuses these messages for good: see who writes them.",
        _ => "See what the reason names. Messages are tried again, then become dead letters.",
    }
}

/// What was usual before: the median of what is more than two minutes ago.
fn usual(history: &[f64]) -> Option<f64> {
    let early = history.get(..history.len().checked_sub(12)?)?;
    let mut with_attempts: Vec<f64> = early.iter().copied().filter(|p| *p > 0.0).collect();
    with_attempts.sort_by(f64::total_cmp);
    with_attempts.get(with_attempts.len() / 2).copied()
}

fn line(reason: &str) -> String {
    const CHARS_MAX: usize = 160;
    let line = reason.lines().next().unwrap_or_default();
    let kept: String = line.chars().take(CHARS_MAX).collect();
    if kept.len() < reason.len() { format!("{kept}…") } else { kept }
}

fn count(n: f64, one: &str, many: &str) -> String {
    format!("{} {}", whole(n), if n.round() == 1.0 { one } else { many })
}

/// `12,345`
fn whole(n: f64) -> String {
    let digits = format!("{:.0}", n.max(0.0));
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn whole_or_tenth(n: f64) -> String {
    if n >= 10.0 || n == 0.0 { whole(n) } else { format!("{n:.1}") }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", (share * 100.0).clamp(0.0, 100.0))
}

fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3_600.0),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "bounded first")]
fn milliseconds(seconds: f64) -> EpochMs {
    (seconds.clamp(0.0, 1e12) * 1e3) as EpochMs
}

#[cfg(test)]
mod tests;
