//! `dlq export`: dead letters as a case for `millstream plugin test`.
//!
//! A folder as `plugins/CASES.md` describes it: the messages as the plugin was given them, the failures as expectation,
//! the pipeline's name (random is derived from it) and its settings. The test passes as long as the plugin fails as it
//! did; who mends the plugin writes into `expect.jsonl` what it is to do instead.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use millstream_core::dead_letter::{Shown, Summary};
use millstream_core::jsonl;
use millstream_core::message::Partition;
use millstream_core::outcome::FaultKind;
use serde_json::{Value, json};

use super::args::{FilterArgs, StateArg};
use super::replay::uncut;
use super::{Whose, config_if_any, failure, letters};
use crate::access;
use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};

/// Most letters of a case: it is for looking at.
const LETTERS_MAX: i64 = 1_000;

/// Arguments of `dlq export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Those of which this became
    #[arg(long, value_enum, default_value = "open")]
    state: StateArg,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=LETTERS_MAX))]
    limit: u16,
    /// The case's folder, which is made: a folder within the plugin's `cases`
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) async fn run(context: &Context, args: &ExportArgs) -> Result<Exit, Failure> {
    let config = config_if_any(context)?;
    let whose = args.filter.one(config.as_ref())?;
    let filter = args.filter.filter(args.state)?;
    let access = access::open(context, &context.place()?).await?;
    let all = whose.letters(&*access.log);
    let listing = all.list(&filter, usize::from(args.limit)).await.map_err(|e| failure(&e))?;
    let mut shown = Vec::with_capacity(listing.letters.len());
    for letter in &listing.letters {
        let partition = Partition::new(letter.topic.as_str(), letter.partition);
        shown.push(all.show(&partition, letter.offset).await.map_err(|e| failure(&e))?);
    }
    if shown.is_empty() {
        let what = "there are no such dead letters to export";
        return Err(Finding::new(Code::Usage, what, "see `millstream dlq list`").into());
    }
    write(&args.out, &whose, &shown)?;
    let count = letters(shown.len() as u64);
    let mut said = format!("{count} in {}", args.out.display());
    if listing.total > shown.len() as u64 {
        let _ = write!(said, ", of {} (--limit)", listing.total);
    }
    context.terminal.say(&said);
    if let Some(cases) = args.out.parent() {
        let cases = if cases.as_os_str().is_empty() { Path::new(".") } else { cases };
        let cases = cases.display();
        context.terminal.say(&format!("run it: millstream plugin test --cases {cases}"));
    }
    Ok(Exit::Done)
}

fn write(folder: &Path, whose: &Whose<'_>, shown: &[Shown]) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| {
        Failure::io(format!("the case {} cannot be written", folder.display()), error)
    };
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent).map_err(|error| failed(&error))?;
    }
    // Whatever is there is somebody's.
    std::fs::create_dir(folder).map_err(|error| failed(&error))?;
    let (mut messages, mut expected) = (String::new(), String::new());
    for one in shown {
        let _ = writeln!(messages, "{}", message(one));
        let _ = writeln!(expected, "{}", expectation(&one.summary));
    }
    let put = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).map_err(|error| failed(&error))
    };
    put("in.jsonl", &messages)?;
    put("expect.jsonl", &expected)?;
    put("case.toml", &settings(whose)?)
}

/// A line of `in.jsonl`.
fn message(shown: &Shown) -> String {
    let line = jsonl::write_line(&shown.as_it_was.message);
    let attempt = shown.as_it_was.context.attempt;
    match line.strip_suffix('}') {
        Some(line) => format!("{line},\"attempt\":{attempt}}}"),
        None => line,
    }
}

/// A line of `expect.jsonl`: that it fails as it did.
fn expectation(letter: &Summary) -> Value {
    let reason = uncut(&letter.reason);
    if letter.written_by != "millstream" {
        // It is not known what a plugin would make of it; this takes one output, whatever it is.
        return json!({ "done": [{}] });
    }
    match &*letter.kind {
        kind @ ("retry" | "reject" | "pause") => json!({ kind: { "reason": reason } }),
        kind if FaultKind::ALL.iter().any(|known| known.as_str() == kind) => {
            json!({ "fault": { "kind": kind, "reason": reason } })
        }
        _ => json!({ "fault": {} }),
    }
}

/// `case.toml`.
fn settings(whose: &Whose<'_>) -> Result<String, Failure> {
    let mut table = toml::Table::new();
    if let Whose::Pipeline(pipeline) = whose {
        table.insert("pipeline".to_owned(), pipeline.spec.name.clone().into());
        let settings = pipeline.settings.iter().flatten();
        let settings: toml::Table = settings
            // A secret has no place in a file of cases.
            .filter(|(_, setting)| !setting.secret)
            .map(|(name, setting)| (name.clone(), setting.value.clone().into()))
            .collect();
        if !settings.is_empty() {
            table.insert("config".to_owned(), settings.into());
        }
    }
    toml::to_string(&table).map_err(|error| {
        let what = "the settings of the pipeline cannot be written as TOML";
        Finding::new(Code::Io, what, "report it").because(error).into()
    })
}
