//! `versions`: what was deployed to a pipeline, by whom, and what is in use.

use clap::Args;
use millstream_core::deploy::{Change, Control, DeployError, HostRow, Version};
use serde::Serialize;
use std::collections::BTreeMap;

use crate::access;
use crate::commands::Context;
use crate::commands::deploy::find;
use crate::config::summary;
use crate::deploying;
use crate::exit::{Exit, Failure};
use crate::table::{self, Column};

/// How many changes are shown to a person.
const CHANGES_SHOWN: usize = 10;
/// How much of a digest is shown to a person.
const DIGITS_SHOWN: usize = 19;

/// Arguments of `versions`.
#[derive(Debug, Args)]
pub struct VersionsArgs {
    /// The pipeline
    pipeline: String,
    /// As JSON, with all changes
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing {
    pipeline: String,
    /// The digest in use; `None` is the file.
    in_use: Option<String>,
    versions: Vec<Version>,
    changes: Vec<Change>,
    hosts: BTreeMap<String, HostRow>,
}

/// Prints them.
///
/// # Errors
/// When the log does not answer.
pub async fn run(context: &Context, args: VersionsArgs) -> Result<Exit, Failure> {
    let config = context.config()?;
    let pipeline = find(&config, &args.pipeline)?;
    let access = access::open(context, &context.place()?).await?;
    let control = Control::open(&*access.log, &pipeline.spec.group).await;
    access.close().await;
    let control = match control {
        Ok(control) => Some(control),
        Err(DeployError::NoTopic { .. }) => None,
        Err(error) => {
            let what = format!("the versions of pipeline {} are not known", args.pipeline);
            return Err(deploying::finding(&what, &error).into());
        }
    };
    let current = control.as_ref().and_then(Control::current);
    let listing = Listing {
        pipeline: args.pipeline,
        in_use: current.and_then(|change| change.digest),
        versions: control.as_ref().map(Control::versions).unwrap_or_default(),
        changes: control.as_ref().map(Control::changes).unwrap_or_default(),
        hosts: control.as_ref().map(Control::hosts).unwrap_or_default(),
    };
    if args.json {
        table::print_json(&context.terminal, &listing)?;
        return Ok(Exit::Done);
    }
    if listing.changes.is_empty() {
        let file = pipeline.plugin.display();
        let text = format!("{}: nothing was deployed, it runs {file}", listing.pipeline);
        context.terminal.print(&text)?;
        return Ok(Exit::Done);
    }
    context.terminal.print(&show(&listing, control.as_ref()))?;
    Ok(Exit::Done)
}

fn show(listing: &Listing, control: Option<&Control>) -> String {
    let columns = [
        Column::Text("version"),
        Column::Text("digest"),
        Column::Text("size"),
        Column::Text("deployed"),
        Column::Text("by"),
        Column::Text(""),
    ];
    let before = control.and_then(|control| control.past().before().cloned());
    let row = |version: &Version| {
        let digest = Some(&version.digest);
        let state = match () {
            () if listing.in_use.as_ref() == digest => "in use",
            () if before.as_ref().is_some_and(|before| before.as_ref() == digest) => {
                "a rollback goes here"
            }
            () => "",
        };
        vec![
            version.version.clone(),
            version.digest.chars().take(DIGITS_SHOWN).collect(),
            summary::size(usize::try_from(version.size_bytes).unwrap_or(usize::MAX)),
            table::time(version.at),
            version.by.clone(),
            state.to_owned(),
        ]
    };
    let mut lines =
        vec![table::layout(&columns, &listing.versions.iter().map(row).collect::<Vec<_>>())];
    if listing.in_use.is_none() {
        lines.push("in use is the file of the configuration".to_owned());
    } else if before == Some(None) {
        lines.push("a rollback goes to the file of the configuration".to_owned());
    }
    let changes =
        [Column::Text("change"), Column::Text("when"), Column::Text("by"), Column::Text("to")];
    let change = |change: &Change| {
        let kind = if change.rollback { "rollback" } else { "deploy" };
        let to = control.map(|control| control.name_of(change.digest.as_deref()));
        vec![kind.to_owned(), table::time(change.at), change.by.clone(), to.unwrap_or_default()]
    };
    let shown = listing.changes.iter().rev().take(CHANGES_SHOWN).map(change);
    lines.push(String::new());
    lines.push(table::layout(&changes, &shown.collect::<Vec<_>>()));
    lines.join("\n")
}
