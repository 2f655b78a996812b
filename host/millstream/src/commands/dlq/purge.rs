//! `dlq purge`: dead letters that are given up.

use clap::Args;
use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_core::dead_letter::{PurgeReport, PurgeRequest};
use serde::Serialize;

use super::args::{FilterArgs, StateArg};
use super::redrive::Telling;
use super::{agreed, config_if_any, failure, grouped, letters};
use crate::access;
use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::table;
use crate::who;

const AFTER_HELP: &str = "\
A purged letter is never redriven. It is removed from the log once nothing below it in its
partition is left to be done, else with the topic's retention; `--state redriven` removes what
was put back. What was purged stands in `millstream audit`.";

/// Arguments of `dlq purge`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct PurgeArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Those of which this became
    #[arg(long, value_enum, default_value = "open")]
    state: StateArg,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only count what would be given up
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
struct WhosePurge<'a> {
    pipeline: &'a str,
    #[serde(flatten)]
    report: PurgeReport,
}

pub(super) async fn run(context: &Context, args: &PurgeArgs) -> Result<Exit, Failure> {
    let config = config_if_any(context)?;
    let whose = args.filter.one(config.as_ref())?;
    let filter = args.filter.filter(args.state)?;
    let access = access::open(context, &context.place()?).await?;
    let letters = whose.letters(&*access.log);
    let (owner, now) = (who::owner(args.by.as_deref()), SystemClock.now());
    let request = PurgeRequest {
        filter,
        limit: args.limit,
        id: format!("{now}-{}-purge", owner.process),
        at: now,
        owner,
        dry_run: args.dry_run,
    };
    if !args.yes && !args.dry_run {
        let dry = PurgeRequest { dry_run: true, ..request.clone() };
        let preview = letters.purge(&dry, &mut |_| {}).await.map_err(|error| failure(&error))?;
        if !agreed(&context.terminal, false, &preview, &show(whose.name(), &preview))? {
            context.terminal.say("nothing was purged");
            return Ok(Exit::Done);
        }
    }
    let mut telling = Telling::new(&context.terminal);
    let report = letters.purge(&request, &mut |progress| telling.tell(progress)).await;
    telling.bar.finish_and_clear();
    let report = report.map_err(|error| failure(&error))?;
    if args.json {
        let pipeline = whose.name();
        table::print_json(&context.terminal, &WhosePurge { pipeline, report })?;
    } else {
        context.terminal.print(&show(whose.name(), &report))?;
    }
    Ok(Exit::Done)
}

fn show(name: &str, report: &PurgeReport) -> String {
    let put = if report.dry_run { "would be purged" } else { "purged" };
    let mut lines = vec![format!("{name}: {} {put}", letters(report.purged))];
    let others = [
        (report.left, "left where they are"),
        (report.removed, "removed from the log, those that were closed before included"),
    ];
    for (count, what) in others {
        if count > 0 {
            lines.push(format!("  {:>7}  {what}", grouped(count)));
        }
    }
    lines.join("\n")
}
