//! `dlq redrive`: dead letters back to where they are taken up again, each once.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_core::dead_letter::{Progress, RedriveReport, RedriveRequest, Target};
use serde::Serialize;
use tokio::time::Instant;

use super::args::{FilterArgs, StateArg};
use super::{agreed, config_if_any, failure, grouped, letters};
use crate::access;
use crate::commands::Context;
use crate::config::summary;
use crate::exit::{Exit, Failure};
use crate::table;
use crate::terminal::Terminal;
use crate::who;

/// How often is said how far it is where there is no terminal for a bar.
const SAY_EVERY: Duration = Duration::from_secs(10);

const AFTER_HELP: &str = "\
Where to:
  tier:DELAY   the pipeline's own retry tier; tier:0s, the default, is due at once. Only this
               group reads it, and the message keeps its place in its key's order as far as
               that is still open
  source       the topic and partition it came from (the default for --topic). It is a new
               message there: every group that reads the topic handles it, at a new place
  topic:NAME   this topic, by key. It is a new message there

Each letter is sent once: a redrive that is killed goes on where it was when the same command
is given again. What it did is in the topic's states and in `millstream audit`. A letter that
was redriven `dead_letter.park_after` times and failed again is parked; --parked sends those.";

/// Arguments of `dlq redrive`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RedriveArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Where to: tier:DELAY, source or topic:NAME [default: tier:0s; source with --topic]
    #[arg(long, value_name = "WHERE", value_parser = target)]
    to: Option<Target>,
    /// Those that are parked, instead of open ones
    #[arg(long)]
    parked: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// At most so many a second
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    /// Only count what would be put back
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Who does it, for the audit trail [default: the user]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct WhoseRedrive<'a> {
    pipeline: &'a str,
    #[serde(flatten)]
    report: RedriveReport,
}

pub(super) async fn run(context: &Context, args: &RedriveArgs) -> Result<Exit, Failure> {
    let config = config_if_any(context)?;
    let whose = args.filter.one(config.as_ref())?;
    let state = if args.parked { StateArg::Parked } else { StateArg::Open };
    let filter = args.filter.filter(state)?;
    let access = access::open(context, &context.place()?).await?;
    let letters = whose.letters(&*access.log);
    let owner = who::owner(args.by.as_deref());
    let now = SystemClock.now();
    let request = RedriveRequest {
        filter,
        to: args.to.clone(),
        limit: args.limit,
        per_second: args.rate,
        // Unique: a process makes one redrive, and no two of one name at the same moment.
        id: format!("{now}-{}-{}", owner.process, short(&owner.name)),
        at: now,
        owner,
        dry_run: args.dry_run,
    };
    if !args.yes && !args.dry_run {
        let dry = RedriveRequest { dry_run: true, ..request.clone() };
        let preview = letters.redrive(&dry, &mut |_| {}).await.map_err(|error| failure(&error))?;
        let shown = show(whose.name(), &preview);
        if !agreed(&context.terminal, false, &preview, &shown)? {
            context.terminal.say("nothing was put back");
            return Ok(Exit::Done);
        }
    }
    let mut telling = Telling::new(&context.terminal);
    let report = letters.redrive(&request, &mut |progress| telling.tell(progress)).await;
    telling.bar.finish_and_clear();
    let report = report.map_err(|error| failure(&error))?;
    let refused = report.refused > 0;
    if args.json {
        let pipeline = whose.name();
        table::print_json(&context.terminal, &WhoseRedrive { pipeline, report })?;
    } else {
        context.terminal.print(&show(whose.name(), &report))?;
    }
    Ok(if refused { Exit::Failed } else { Exit::Done })
}

fn target(text: &str) -> Result<Target, String> {
    if text == "source" {
        return Ok(Target::Source);
    }
    if let Some(delay) = text.strip_prefix("tier:") {
        let delay = humantime::parse_duration(delay)
            .map_err(|error| format!("{delay:?} is no delay: {error}"))?;
        return Ok(Target::Tier(delay));
    }
    match text.strip_prefix("topic:") {
        Some(topic) if !topic.is_empty() => Ok(Target::Topic(topic.to_owned())),
        _ => Err("it is `source`, `tier:DELAY` or `topic:NAME`".to_owned()),
    }
}

/// What of a name stands in an id.
fn short(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}

/// Tells how far it is: a bar with an estimate, or a line now and then.
pub(super) struct Telling<'a> {
    terminal: &'a Terminal,
    pub(super) bar: ProgressBar,
    begin: Instant,
    said: Instant,
}

impl<'a> Telling<'a> {
    pub(super) fn new(terminal: &'a Terminal) -> Self {
        let bar = terminal.progress("dead letters", Some(0));
        Self { terminal, bar, begin: Instant::now(), said: Instant::now() }
    }

    pub(super) fn tell(&mut self, progress: Progress) {
        let Progress { read, total, redriven } = progress;
        self.bar.set_length(total);
        self.bar.set_position(read);
        if self.terminal.stderr || self.said.elapsed() < SAY_EVERY {
            return;
        }
        self.said = Instant::now();
        let left = self.begin.elapsed().as_secs_f64() / read.max(1) as f64
            * total.saturating_sub(read) as f64;
        let left = summary::duration(Duration::from_secs(left as u64));
        self.terminal.say(&format!(
            "{} of {} looked at, {} done, about {left} left",
            grouped(read),
            grouped(total),
            grouped(redriven)
        ));
    }
}

fn show(name: &str, report: &RedriveReport) -> String {
    let put = if report.dry_run { "would be put back" } else { "put back" };
    let mut lines = vec![format!("{name}: {} {put}", letters(report.redriven))];
    if let Some(before) = report.resumed_after {
        let before = grouped(before);
        lines.push(format!(
            "  {before:>7}  were put back before, by {} which was killed",
            report.id
        ));
    }
    for (topic, count) in &report.targets {
        lines.push(format!("  {:>7}  to {topic}", grouped(*count)));
    }
    let others = [
        (report.left, "left where they are"),
        (report.parked, "parked, redriven too often: see `millstream dlq list --state parked`"),
        (report.foreign, "cannot be put back there"),
        (report.refused, "refused by the log"),
    ];
    for (count, what) in others {
        if count > 0 {
            lines.push(format!("  {:>7}  {what}", grouped(count)));
        }
    }
    for refused in &report.refused_letters {
        lines.push(format!(
            "           {}: {}",
            refused.position,
            super::printable(&refused.reason)
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_is_read_as_it_is_written_and_nothing_else_is() {
        for text in ["source", "tier:0s", "tier:5s", "topic:orders.again"] {
            assert_eq!(target(text).expect(text).describe(), text);
        }
        for text in ["", "orders", "tier:", "tier:soon", "topic:", "sources"] {
            assert!(target(text).is_err(), "{text:?} was taken");
        }
    }
}
