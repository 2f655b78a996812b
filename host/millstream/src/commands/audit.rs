//! `audit`: who changed what, newest last.

use clap::Args;
use millstream_core::audit::{self, Content, Entry, Line, Outcome};

use crate::access;
use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::table::{self, Column};

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// So many entries, the newest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    last: u16,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Prints the end of the audit trail.
///
/// # Errors
/// When the log does not answer.
pub async fn run(context: &Context, args: AuditArgs) -> Result<Exit, Failure> {
    let place = context.place()?;
    let access = access::open(context, &place).await?;
    let lines = audit::last(&*access.log, usize::from(args.last)).await;
    access.close().await;
    let mut lines = lines.map_err(|error| {
        let what = "the audit trail cannot be read";
        Finding::new(Code::LogUnavailable, what, "try again").because(error)
    })?;
    lines.reverse();
    if args.json {
        table::print_json(&context.terminal, &lines)?;
    } else if lines.is_empty() {
        context.terminal.say("nothing was changed yet: the audit trail is empty");
    } else {
        let columns = ["when", "who", "action", "pipeline", "outcome", "what"].map(Column::Text);
        let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
        context.terminal.print(&table::layout(&columns, &rows))?;
    }
    Ok(Exit::Done)
}

fn row(line: &Line) -> Vec<String> {
    let when = table::time(line.at);
    match &line.content {
        Content::Entry(Entry { by, action, pipeline, outcome, text, .. }) => {
            let outcome = match outcome {
                Outcome::Begun => "begun",
                Outcome::Done => "done",
                Outcome::Refused => "refused",
                Outcome::Failed => "failed",
            };
            let pipeline = pipeline.as_deref().unwrap_or("");
            [&when, by, action, pipeline, outcome, text].map(ToString::to_string).to_vec()
        }
        Content::Unreadable { unreadable } => {
            let what = format!("offset {} is no entry: {unreadable}", line.offset);
            [&*when, "?", "?", "", "", &what].map(ToString::to_string).to_vec()
        }
    }
}
