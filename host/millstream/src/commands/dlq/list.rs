//! `dlq list`: what lies there and why it failed, equal failures counted.

use clap::Args;
use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_core::dead_letter::{Listing, State, Summary};
use millstream_core::message::EpochMs;
use serde::Serialize;

use super::args::{FilterArgs, StateArg};
use super::{config_if_any, failure, grouped, letters};
use crate::access;
use crate::commands::Context;
use crate::config::summary;
use crate::exit::{Exit, Failure};
use crate::table::{self, Column};

/// Longest part of a reason in a table; `dlq show` has all of it.
const REASON_CHARS_MAX: usize = 80;

/// Arguments of `dlq list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Those of which this became
    #[arg(long, value_enum, default_value = "open")]
    state: StateArg,
    /// At most so many lines; all are counted
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct WhoseListing {
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(flatten)]
    listing: Listing,
}

pub(super) async fn run(context: &Context, args: &ListArgs) -> Result<Exit, Failure> {
    let config = config_if_any(context)?;
    let all = args.filter.whose(config.as_ref())?;
    let filter = args.filter.filter(args.state)?;
    let access = access::open(context, &context.place()?).await?;
    let mut listings = Vec::with_capacity(all.len());
    for whose in all {
        let listing = whose.letters(&*access.log).list(&filter, args.limit).await;
        let listing = listing.map_err(|error| failure(&error))?;
        let (pipeline, topic) = match &whose {
            super::Whose::Pipeline(pipeline) => (Some(pipeline.spec.name.clone()), None),
            super::Whose::Topic(topic) => (None, Some(topic.clone())),
        };
        listings.push(WhoseListing { pipeline, topic, listing });
    }
    if args.json {
        table::print_json(&context.terminal, &listings)?;
        return Ok(Exit::Done);
    }
    for WhoseListing { pipeline, topic, listing } in &listings {
        let name = pipeline.as_ref().or(topic.as_ref()).map_or("", |name| name);
        context.terminal.print(&show(name, args.state, listing, SystemClock.now()))?;
    }
    Ok(Exit::Done)
}

fn show(name: &str, state: StateArg, listing: &Listing, now: EpochMs) -> String {
    let counts = listing.states;
    let others = [
        (counts.open, StateArg::Open, "open"),
        (counts.parked, StateArg::Parked, "parked"),
        (counts.redriven, StateArg::Redriven, "redriven"),
        (counts.purged, StateArg::Purged, "purged and not removed yet"),
    ];
    let others: Vec<String> = others
        .into_iter()
        .filter(|(count, of, _)| *count > 0 && (*of != state || state == StateArg::All))
        .map(|(count, _, what)| format!("{} {what}", grouped(count)))
        .collect();
    let others =
        if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
    if listing.total == 0 {
        return format!("{name}: no dead letters{others}");
    }
    let columns = [
        Column::Text("letter"),
        Column::Text("failed"),
        Column::Number("attempts"),
        Column::Number("redrives"),
        Column::Text("plugin"),
        Column::Text("ago"),
        Column::Text("reason"),
    ];
    let row = |letter: &Summary| {
        let failed = match letter.state {
            State::Open => letter.kind.clone(),
            state => format!("{}, {}", letter.kind, state.as_str()),
        };
        let by = || match &*letter.written_by {
            "millstream" | "unknown" => "-".to_owned(),
            by => by.to_owned(),
        };
        vec![
            format!("{}/{}/{}", letter.topic, letter.partition, letter.offset),
            failed,
            letter.attempts.to_string(),
            letter.redrives.to_string(),
            letter.plugin_version.clone().unwrap_or_else(by),
            ago(now, letter.appended),
            cut(&letter.reason),
        ]
    };
    let rows: Vec<_> = listing.letters.iter().map(row).collect();
    let mut lines = vec![format!("{name}: {}{others}", letters(listing.total))];
    lines.push(table::layout(&columns, &rows));
    let shown = listing.letters.len() as u64;
    if shown < listing.total {
        lines.push(format!("… and {} more (--limit)", grouped(listing.total - shown)));
    }
    lines.push("by failure:".to_owned());
    for group in &listing.groups {
        let plugin = match &group.plugin_version {
            Some(version) => format!(", plugin {version}"),
            None => String::new(),
        };
        let (first, last) = (table::time(group.first), table::time(group.last));
        lines.push(format!(
            "  {:>7} × {}: {}{plugin}; first {first}, last {last}",
            grouped(group.count),
            group.kind,
            cut(&group.reason)
        ));
    }
    if listing.ungrouped > 0 {
        lines.push(format!("  {:>7} × other failures", grouped(listing.ungrouped)));
    }
    lines.join("\n")
}

fn ago(now: EpochMs, then: EpochMs) -> String {
    let seconds = u64::try_from(now.saturating_sub(then) / 1000).unwrap_or(0);
    summary::duration(std::time::Duration::from_secs(seconds))
}

/// One line, and no character that a terminal obeys: a reason may be a stranger's.
fn cut(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    let long = line.chars().count() > REASON_CHARS_MAX || line.len() < reason.len();
    let kept: String = super::printable(line).chars().take(REASON_CHARS_MAX).collect();
    if long { format!("{kept}…") } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_with_a_mark() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut("first\nsecond"), "first…");
        assert_eq!(cut("\u{1b}[31mred"), " [31mred");
        assert_eq!(cut(&"x".repeat(100)).chars().count(), REASON_CHARS_MAX + 1);
    }
}
