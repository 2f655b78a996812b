//! `status`: what a running host says of itself.

use clap::Args;
use serde::Deserialize;

use crate::access;
use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::table::{self, Column};

/// How much of a digest is shown.
const DIGITS_SHOWN: usize = 19;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Status {
    pipelines: Vec<Pipeline>,
}

#[derive(Deserialize)]
struct Pipeline {
    pipeline: String,
    ready: bool,
    trouble: Option<String>,
    plugin: Option<Plugin>,
    partitions: Vec<Partition>,
}

#[derive(Deserialize)]
struct Plugin {
    version: String,
    digest: String,
}

#[derive(Deserialize)]
struct Partition {
    topic: String,
    partition: u32,
    position: u64,
    committed: u64,
    in_flight: usize,
    retries: usize,
    waiting_lanes: usize,
    waiting_messages: usize,
    held_up: Option<HeldUp>,
}

#[derive(Deserialize)]
struct HeldUp {
    offset: Option<u64>,
    by: String,
    seconds: u64,
}

/// Prints the status. Exit code 1 if a pipeline is not ready.
///
/// # Errors
/// When no host runs, or it can't be reached.
pub async fn run(context: &Context, args: StatusArgs) -> Result<Exit, Failure> {
    let place = context.place()?;
    let value = access::host_status(&place).await?;
    let status: Status = serde_json::from_value(value.clone()).map_err(|error| {
        let fix = "use the host's own version of this program";
        Finding::new(Code::LogUnavailable, "the host's status is not understood", fix)
            .because(error)
    })?;
    if args.json {
        table::print_json(&context.terminal, &value)?;
    } else {
        show(context, &status)?;
    }
    let ready = status.pipelines.iter().all(|pipeline| pipeline.ready);
    Ok(if ready { Exit::Done } else { Exit::Failed })
}

fn show(context: &Context, status: &Status) -> Result<(), Failure> {
    let columns = [
        Column::Text("topic"),
        Column::Number("partition"),
        Column::Number("read"),
        Column::Number("committed"),
        Column::Number("in flight"),
        Column::Number("retries"),
        Column::Number("waiting lanes"),
        Column::Number("waiting messages"),
    ];
    for pipeline in &status.pipelines {
        let state = match (&pipeline.trouble, pipeline.ready) {
            (None, true) => "ready".to_owned(),
            (trouble, _) => format!("not ready: {}", trouble.as_deref().unwrap_or("unknown")),
        };
        let version = pipeline.plugin.as_ref().map_or(String::new(), |plugin| {
            let digest: String = plugin.digest.chars().take(DIGITS_SHOWN).collect();
            format!(", version {} ({digest})", plugin.version)
        });
        context.terminal.print(&format!("pipeline {}: {state}{version}", pipeline.pipeline))?;
        let row = |p: &Partition| {
            let numbers = [
                u64::from(p.partition),
                p.position,
                p.committed,
                p.in_flight as u64,
                p.retries as u64,
                p.waiting_lanes as u64,
                p.waiting_messages as u64,
            ];
            let numbers = numbers.iter().map(ToString::to_string);
            std::iter::once(p.topic.clone()).chain(numbers).collect::<Vec<_>>()
        };
        let rows: Vec<_> = pipeline.partitions.iter().map(row).collect();
        if !rows.is_empty() {
            context.terminal.print(&table::layout(&columns, &rows))?;
        }
        for partition in &pipeline.partitions {
            let Some(HeldUp { offset, by, seconds }) = &partition.held_up else { continue };
            let message = offset.map_or(String::new(), |offset| format!(", at offset {offset}"));
            context.terminal.print(&format!(
                "{}[{}] has not moved for {seconds} s{message}: {by}",
                partition.topic, partition.partition
            ))?;
        }
    }
    Ok(())
}
