//! `dlq`: dead letters of the configured pipelines, or of any topic: listed, shown, put back, given up, run again.
//!
//! The logic is `millstream_core::dead_letter`; here are arguments, tables and words.

mod args;
mod export;
mod list;
mod purge;
mod redrive;
mod replay;
mod show;

use clap::Subcommand;
use millstream_core::dead_letter::{
    DeadLetterError, DeadLetters, Mask, PurgeReport, RedriveReport,
};
use millstream_core::log::Log;

use crate::commands::Context;
use crate::config::{Config, PipelineConfig};
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::terminal::Terminal;
use crate::who;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// What lies there and why it failed, equal failures counted
    List(list::ListArgs),
    /// One dead letter in full: why it failed, headers, value, and what became of it
    Show(show::ShowArgs),
    /// Put dead letters back for another go, each once
    Redrive(redrive::RedriveArgs),
    /// Give dead letters up
    Purge(purge::PurgeArgs),
    /// Run a dead letter's last attempt again on this machine, in the exact plugin
    Replay(replay::ReplayArgs),
    /// Write dead letters as a case for `millstream plugin test`
    Export(export::ExportArgs),
}

/// Runs the command.
///
/// # Errors
/// When there is no such pipeline, topic or letter, or the log does not do it.
pub async fn run(context: &Context, command: DlqCommand) -> Result<Exit, Failure> {
    match command {
        DlqCommand::List(args) => list::run(context, &args).await,
        DlqCommand::Show(args) => show::run(context, &args).await,
        DlqCommand::Redrive(args) => redrive::run(context, &args).await,
        DlqCommand::Purge(args) => purge::run(context, &args).await,
        DlqCommand::Replay(args) => replay::run(context, &args).await,
        DlqCommand::Export(args) => export::run(context, &args).await,
    }
}

/// How often a letter of a topic that is no pipeline's is redriven before it is parked.
const PARK_AFTER: u32 = 3;

/// Whose dead letters.
enum Whose<'a> {
    Pipeline(&'a PipelineConfig),
    Topic(String),
}

impl Whose<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Pipeline(pipeline) => &pipeline.spec.name,
            Self::Topic(topic) => topic,
        }
    }

    fn letters<'b>(&'b self, log: &'b dyn Log) -> DeadLetters<'b> {
        let letters = match self {
            Self::Pipeline(pipeline) => DeadLetters::new(log, &pipeline.spec),
            Self::Topic(topic) => DeadLetters::of_topic(log, &**topic, Some(PARK_AFTER)),
        };
        letters.knowing(&who::is_gone)
    }

    fn mask(&self, asked: MaskAsked) -> Mask {
        let configured = match self {
            Self::Pipeline(pipeline) => pipeline.spec.dead_letter.mask.clone(),
            Self::Topic(_) => Mask::default(),
        };
        match asked {
            MaskAsked::Configured => configured,
            MaskAsked::Masked => Mask { values: true, ..configured },
            MaskAsked::Unmasked => Mask::default(),
        }
    }
}

#[derive(Clone, Copy)]
enum MaskAsked {
    Configured,
    Masked,
    Unmasked,
}

/// The configuration; without one a topic can be named all the same.
fn config_if_any(context: &Context) -> Result<Option<Config>, Failure> {
    if context.config_file.is_none() && !context.config_path().exists() {
        return Ok(None);
    }
    context.config().map(Some)
}

fn failure(error: &DeadLetterError) -> Failure {
    let (code, what, fix) = match error {
        DeadLetterError::Log { .. } => (
            Code::LogUnavailable,
            "the dead letters cannot be reached",
            "give the same command again: what was done stands, and nothing is done twice",
        ),
        DeadLetterError::NotFound(_) => {
            (Code::Usage, "there is no such dead letter", "see `millstream dlq list`")
        }
        DeadLetterError::Refused(_) => (
            Code::Topic,
            "nothing more is done about the dead letters",
            "do what the reason says, then give the command again",
        ),
    };
    Finding::new(code, what, fix).because(error).into()
}

fn letters(count: u64) -> String {
    if count == 1 { "1 dead letter".to_owned() } else { format!("{} dead letters", grouped(count)) }
}

/// `1,204`: counts are read at a glance.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What a stranger may have written, without characters that a terminal obeys.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// What a change would do, before it is done.
trait Preview {
    /// How many letters.
    fn count(&self) -> u64;
}

impl Preview for RedriveReport {
    fn count(&self) -> u64 {
        self.redriven
    }
}

impl Preview for PurgeReport {
    fn count(&self) -> u64 {
        self.purged
    }
}

/// Whether to go on: `--yes`, or a person says so who has seen what would be done.
fn agreed(
    terminal: &Terminal,
    yes: bool,
    preview: &impl Preview,
    shown: &str,
) -> Result<bool, Failure> {
    if yes || preview.count() == 0 {
        return Ok(true);
    }
    terminal.say(shown);
    if let Some(agreed) = terminal.ask("go on?")? {
        return Ok(agreed);
    }
    let what = "this changes dead letters, and there is no terminal to ask";
    let fix = "say `--yes`; see first with `--dry-run`";
    Err(Finding::new(Code::Usage, what, fix)
        .because(format!("{} would be", letters(preview.count())))
        .into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_have_commas_where_people_put_them() {
        for (count, text) in [(0, "0"), (999, "999"), (1_204, "1,204"), (1_000_000, "1,000,000")] {
            assert_eq!(super::grouped(count), text);
        }
    }
}
