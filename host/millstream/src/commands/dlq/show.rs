//! `dlq show`: one dead letter in full.

use clap::Args;
use millstream_core::dead_letter::{State, Summary};
use millstream_core::jsonl;
use serde::Serialize;

use super::args::{of_topic, position};
use super::{MaskAsked, config_if_any, failure};
use crate::access;
use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::table;

/// Arguments of `dlq show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Where it lies, as `dlq list` names it: TOPIC/PARTITION/OFFSET
    position: String,
    /// Size and digest instead of the value [default: `dead_letter.mask`]
    #[arg(long, conflicts_with = "unmasked")]
    mask: bool,
    /// The value, whatever `dead_letter.mask` says
    #[arg(long)]
    unmasked: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct ShownLetter {
    #[serde(flatten)]
    summary: Summary,
    backtrace: Option<String>,
    message: serde_json::Value,
}

pub(super) async fn run(context: &Context, args: &ShowArgs) -> Result<Exit, Failure> {
    let (partition, offset) = position(&args.position)?;
    let config = config_if_any(context)?;
    let whose = of_topic(config.as_ref(), &partition.topic);
    let access = access::open(context, &context.place()?).await?;
    let shown = whose.letters(&*access.log).show(&partition, offset).await;
    let shown = shown.map_err(|error| failure(&error))?;
    let asked = match (args.mask, args.unmasked) {
        (true, _) => MaskAsked::Masked,
        (false, true) => MaskAsked::Unmasked,
        (false, false) => MaskAsked::Configured,
    };
    let message = jsonl::write_line(&whose.mask(asked).apply(shown.message));
    if args.json {
        let message = serde_json::from_str(&message).unwrap_or_default();
        let letter = ShownLetter { summary: shown.summary, backtrace: shown.backtrace, message };
        table::print_json(&context.terminal, &letter)?;
        return Ok(Exit::Done);
    }
    context.terminal.print(&text(&args.position, &shown.summary, shown.backtrace, &message))?;
    Ok(Exit::Done)
}

fn text(position: &str, letter: &Summary, backtrace: Option<String>, message: &str) -> String {
    let Summary { kind, reason, attempts, redrives, .. } = letter;
    let mut lines = vec![
        format!("letter    {position}, {}", table::time(letter.appended)),
        format!("failed    {kind}: {}", super::printable(reason)),
    ];
    if letter.written_by == "millstream" {
        lines.push(format!("attempts  {attempts}, redriven {redrives} times"));
    } else {
        lines.push(format!("written   by {}, redriven {redrives} times", letter.written_by));
    }
    lines.push(match &letter.changed {
        Some(change) => {
            let to = change.to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
            let (at, state) = (table::time(change.at), letter.state.as_str());
            format!("state     {state}{to} at {at} by {}: {}", change.by, change.id)
        }
        None if letter.state == State::Parked => "state     parked: redriven too often".to_owned(),
        None => format!("state     {}", letter.state.as_str()),
    });
    if let (Some(plugin), Some(version)) = (&letter.plugin, &letter.plugin_version) {
        let digest = letter.plugin_digest.as_deref().unwrap_or_default();
        lines.push(format!("plugin    {plugin} {version} {digest}"));
    }
    if let Some(origin) = &letter.origin {
        let number = |number: Option<String>| number.unwrap_or_else(|| "?".to_owned());
        let partition = number(origin.partition.map(|n| n.to_string()));
        let offset = number(origin.offset.map(|n| n.to_string()));
        let group = origin.group.as_ref().map(|g| format!(", group {g}")).unwrap_or_default();
        lines.push(format!("origin    {}/{partition}/{offset}{group}", origin.topic));
    }
    if let Some(backtrace) = backtrace {
        lines.push("stack".to_owned());
        lines.extend(super::printable(&backtrace).lines().map(|line| format!("  {line}")));
    }
    lines.push(format!("message   {message}"));
    lines.join("\n")
}
