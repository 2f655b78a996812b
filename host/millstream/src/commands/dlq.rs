//! `dlq`: dead letters of the configured pipelines: listed, shown, put back.
//!
//! The logic is `millstream_core::dead_letter`; here are arguments, tables and words.

use clap::{Args, Subcommand};
use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_core::dead_letter::{
    DeadLetterError, DeadLetters, Filter, Listing, RedriveReport, RedriveRequest, Summary,
};
use millstream_core::jsonl;
use millstream_core::message::{EpochMs, Offset, Partition};
use serde::Serialize;

use crate::access;
use crate::commands::Context;
use crate::config::{CompanionKind, Config, PipelineConfig, companions, summary};
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::table::{self, Column};

/// Longest part of a reason in a table; `dlq show` has all of it.
const REASON_CHARS_MAX: usize = 80;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// What lies there and why it failed
    List(ListArgs),
    /// One dead letter in full: why it failed, headers, value
    Show(ShowArgs),
    /// Put dead letters back for another go
    Redrive(RedriveArgs),
}

/// Which dead letters.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// The pipeline; may be left out if there is only one
    pipeline: Option<String>,
    /// Those of this source topic
    #[arg(long, value_name = "TOPIC")]
    source: Option<String>,
    /// Those of this partition
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// The one at this offset of its dead-letter partition
    #[arg(long, requires = "partition")]
    offset: Option<Offset>,
    /// Those that failed like this: retry, reject, trap, timeout, memory, oversize, decode, denied
    #[arg(long)]
    kind: Option<String>,
}

/// Arguments of `dlq list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many lines; all are counted
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `dlq show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Where it lies, as `dlq list` names it: TOPIC/PARTITION/OFFSET
    position: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `dlq redrive`.
#[derive(Debug, Args)]
pub struct RedriveArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only count what would be put back
    #[arg(long)]
    dry_run: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When there is no such pipeline or letter, or the log does not do it.
pub async fn run(context: &Context, command: DlqCommand) -> Result<Exit, Failure> {
    match command {
        DlqCommand::List(args) => list(context, &args).await,
        DlqCommand::Show(args) => show(context, &args).await,
        DlqCommand::Redrive(args) => redrive(context, &args).await,
    }
}

impl FilterArgs {
    fn filter(&self) -> Filter {
        Filter {
            source: self.source.clone(),
            partition: self.partition,
            offset: self.offset,
            kind: self.kind.clone(),
        }
    }

    /// The pipelines meant: the named one, or all.
    fn pipelines<'a>(&self, config: &'a Config) -> Result<Vec<&'a PipelineConfig>, Failure> {
        let meant = |pipeline: &&PipelineConfig| {
            self.pipeline.as_ref().is_none_or(|name| pipeline.spec.name == *name)
        };
        let pipelines: Vec<_> = config.pipelines.iter().filter(meant).collect();
        if !pipelines.is_empty() {
            return Ok(pipelines);
        }
        let what = match &self.pipeline {
            Some(name) => format!("there is no pipeline {name:?}"),
            None => "the configuration has no pipelines".to_owned(),
        };
        let finding = Finding::new(Code::Usage, what, "name a pipeline of the configuration");
        Err(finding.at(config.file.display()).into())
    }
}

fn failure(error: &DeadLetterError) -> Failure {
    let (code, what, fix) = match error {
        DeadLetterError::Log { .. } => (
            Code::LogUnavailable,
            "the dead letters cannot be reached",
            "give the command again: what was done stands",
        ),
        DeadLetterError::NotFound(_) => {
            (Code::Usage, "there is no such dead letter", "see `millstream dlq list`")
        }
        DeadLetterError::Refused(_) => (
            Code::Topic,
            "the dead letters are not put back",
            "do what the reason says, then give the command again",
        ),
    };
    Finding::new(code, what, fix).because(error).into()
}

#[derive(Serialize)]
struct PipelineListing {
    pipeline: String,
    #[serde(flatten)]
    listing: Listing,
}

async fn list(context: &Context, args: &ListArgs) -> Result<Exit, Failure> {
    let config = context.config()?;
    let pipelines = args.filter.pipelines(&config)?;
    let access = access::open(context, &context.place()?).await?;
    let filter = args.filter.filter();
    let mut listings = Vec::with_capacity(pipelines.len());
    for pipeline in pipelines {
        let letters = DeadLetters::new(&*access.log, &pipeline.spec);
        let listing = letters.list(&filter, args.limit).await.map_err(|e| failure(&e))?;
        listings.push(PipelineListing { pipeline: pipeline.spec.name.clone(), listing });
    }
    if args.json {
        table::print_json(&context.terminal, &listings)?;
        return Ok(Exit::Done);
    }
    for PipelineListing { pipeline, listing } in &listings {
        context.terminal.print(&show_listing(pipeline, listing, SystemClock.now()))?;
    }
    Ok(Exit::Done)
}

fn show_listing(pipeline: &str, listing: &Listing, now: EpochMs) -> String {
    if listing.total == 0 {
        return format!("{pipeline}: no dead letters");
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
        vec![
            format!("{}/{}/{}", letter.topic, letter.partition, letter.offset),
            letter.kind.clone(),
            letter.attempts.to_string(),
            letter.redrives.to_string(),
            letter.plugin_version.clone().unwrap_or_else(|| "-".to_owned()),
            ago(now, letter.appended),
            cut(&letter.reason),
        ]
    };
    let rows: Vec<_> = listing.letters.iter().map(row).collect();
    let mut lines = vec![format!("{pipeline}: {}", letters(listing.total))];
    lines.push(table::layout(&columns, &rows));
    let shown = listing.letters.len() as u64;
    if shown < listing.total {
        lines.push(format!("… and {} more (--limit)", listing.total - shown));
    }
    lines.push("by reason:".to_owned());
    for group in &listing.groups {
        let version = group.plugin_version.as_deref().unwrap_or("-");
        let reason = cut(&group.reason);
        lines.push(format!("  {:>6}  {}, plugin {version}: {reason}", group.count, group.kind));
    }
    if listing.ungrouped > 0 {
        lines.push(format!("  {:>6}  for other reasons", listing.ungrouped));
    }
    lines.join("\n")
}

fn ago(now: EpochMs, then: EpochMs) -> String {
    let seconds = u64::try_from(now.saturating_sub(then) / 1000).unwrap_or(0);
    summary::duration(std::time::Duration::from_secs(seconds))
}

fn cut(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    let long = line.chars().count() > REASON_CHARS_MAX || line.len() < reason.len();
    let kept: String = line.chars().take(REASON_CHARS_MAX).collect();
    if long { format!("{kept}…") } else { kept }
}

/// `TOPIC/PARTITION/OFFSET`, or `TOPIC[PARTITION]@OFFSET` as logs have it.
fn position(text: &str) -> Result<(Partition, Offset), Failure> {
    let plain = text.replace("]@", "/").replace('[', "/");
    let mut parts = plain.rsplitn(3, '/');
    let (offset, number, topic) = (parts.next(), parts.next(), parts.next());
    let offset = offset.and_then(|offset| offset.parse().ok());
    let number = number.and_then(|number| number.parse().ok());
    match (topic, number, offset) {
        (Some(topic), Some(number), Some(offset)) => Ok((Partition::new(topic, number), offset)),
        _ => {
            let fix = "write TOPIC/PARTITION/OFFSET, as `millstream dlq list` shows it";
            let what = format!("{text:?} is no position");
            Err(Finding::new(Code::Usage, what, fix).into())
        }
    }
}

#[derive(Serialize)]
struct ShownLetter {
    #[serde(flatten)]
    summary: Summary,
    backtrace: Option<String>,
    message: serde_json::Value,
}

async fn show(context: &Context, args: &ShowArgs) -> Result<Exit, Failure> {
    let (partition, offset) = position(&args.position)?;
    let config = context.config()?;
    let holds = |pipeline: &&PipelineConfig| {
        companions(&pipeline.spec).iter().any(|companion| {
            companion.kind == CompanionKind::DeadLetters && companion.topic == partition.topic
        })
    };
    let Some(pipeline) = config.pipelines.iter().find(holds) else {
        let what = format!("{} holds no dead letters of a pipeline", partition.topic);
        let fix = "name a letter as `millstream dlq list` shows it";
        return Err(Finding::new(Code::Usage, what, fix).at(config.file.display()).into());
    };
    let access = access::open(context, &context.place()?).await?;
    let letters = DeadLetters::new(&*access.log, &pipeline.spec);
    let shown = letters.show(&partition, offset).await.map_err(|error| failure(&error))?;
    let message = jsonl::write_line(&shown.message);
    if args.json {
        let message = serde_json::from_str(&message).unwrap_or_default();
        let letter = ShownLetter { summary: shown.summary, backtrace: shown.backtrace, message };
        table::print_json(&context.terminal, &letter)?;
        return Ok(Exit::Done);
    }
    let Summary { kind, reason, attempts, redrives, plugin, plugin_version, origin, .. } =
        &shown.summary;
    let mut lines = vec![
        format!("letter    {}", args.position),
        format!("failed    {kind}: {reason}"),
        format!("attempts  {attempts}, redriven {redrives} times"),
    ];
    if let (Some(plugin), Some(version)) = (plugin, plugin_version) {
        lines.push(format!("plugin    {plugin} {version}"));
    }
    if let Some(origin) = origin {
        let (topic, partition, offset) = (&origin.topic, origin.partition, origin.offset);
        lines.push(format!("origin    {topic}/{partition}/{offset}, group {}", origin.group));
    }
    if let Some(backtrace) = &shown.backtrace {
        lines.push("stack".to_owned());
        lines.extend(backtrace.lines().map(|line| format!("  {line}")));
    }
    lines.push(format!("message   {message}"));
    context.terminal.print(&lines.join("\n"))?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct PipelineRedrive {
    pipeline: String,
    #[serde(flatten)]
    report: RedriveReport,
}

async fn redrive(context: &Context, args: &RedriveArgs) -> Result<Exit, Failure> {
    let config = context.config()?;
    let pipelines = args.filter.pipelines(&config)?;
    let [pipeline] = pipelines.as_slice() else {
        let what = "which pipeline's dead letters are to be put back is not said";
        let names: Vec<_> = pipelines.iter().map(|pipeline| &*pipeline.spec.name).collect();
        let fix = format!("name one of {}", names.join(", "));
        return Err(Finding::new(Code::Usage, what, fix).into());
    };
    let access = access::open(context, &context.place()?).await?;
    let now = SystemClock.now();
    let request = RedriveRequest {
        filter: args.filter.filter(),
        limit: args.limit,
        // Unique among redrives of one machine: one process makes one redrive.
        id: format!("{now}-{}", std::process::id()),
        at: now,
        dry_run: args.dry_run,
    };
    let bar = context.terminal.progress("dead letters", Some(0));
    let letters = DeadLetters::new(&*access.log, &pipeline.spec);
    let report = letters
        .redrive(&request, &mut |progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.read);
        })
        .await;
    bar.finish_and_clear();
    let report = report.map_err(|error| failure(&error))?;
    let refused = report.refused > 0;
    let pipeline = pipeline.spec.name.clone();
    if args.json {
        table::print_json(&context.terminal, &PipelineRedrive { pipeline, report })?;
    } else {
        context.terminal.print(&show_report(&pipeline, &report))?;
    }
    Ok(if refused { Exit::Failed } else { Exit::Done })
}

fn show_report(pipeline: &str, report: &RedriveReport) -> String {
    let put = if report.dry_run { "would be put back" } else { "put back" };
    let mut lines = vec![format!("{pipeline}: {} {put}", letters(report.redriven))];
    for (tier, count) in &report.tiers {
        lines.push(format!("  {count:>6}  to {tier}"));
    }
    let others = [
        (report.left, "left where they are"),
        (report.foreign, "not this pipeline's: see `millstream dlq list --kind foreign`"),
        (report.refused, "refused by the log"),
    ];
    for (count, what) in others {
        if count > 0 {
            lines.push(format!("  {count:>6}  {what}"));
        }
    }
    for refused in &report.refused_letters {
        lines.push(format!("          {}: {}", refused.position, refused.reason));
    }
    lines.join("\n")
}

fn letters(count: u64) -> String {
    if count == 1 { "1 dead letter".to_owned() } else { format!("{count} dead letters") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_in_both_ways_it_is_written() {
        for text in ["orders.dlq/3/42", "orders.dlq[3]@42"] {
            let (partition, offset) = position(text).expect(text);
            assert_eq!((partition.to_string().as_str(), offset), ("orders.dlq[3]", 42));
        }
        for text in ["", "orders.dlq", "orders.dlq/3", "orders.dlq/x/1", "orders.dlq/1/-1"] {
            assert!(position(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_long_reason_is_cut_with_a_mark() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut("first\nsecond"), "first…");
        assert_eq!(cut(&"x".repeat(100)).chars().count(), REASON_CHARS_MAX + 1);
    }
}
