//! `lag`: how far each pipeline is behind, from the log alone.
//!
//! With `--watch` an embedded log is opened for each look and given free in between, so that a host
//! can start meanwhile.

use std::time::Duration;

use clap::Args;
use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_core::lag::{self, PipelineLag};
use millstream_core::log::{Log, LogError};
use tokio::time::Instant;

use crate::access;
use crate::commands::Context;
use crate::config::{Config, summary};
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::table::{self, Column};

mod hot_keys;

/// How often `--watch` looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a log that does not answer is asked again, and how often. One fetch waits for 10 s itself.
const PATIENCE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(200);
/// Clears a terminal and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Arguments of `lag`.
#[derive(Debug, Args)]
pub struct LagArgs {
    /// This pipeline only
    pipeline: Option<String>,
    /// Look again every second
    #[arg(long)]
    watch: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// The keys with the largest share of their partition instead, as the running host counts them
    #[arg(long, conflicts_with = "watch")]
    hot_keys: bool,
}

/// Prints the lag.
///
/// # Errors
/// When there is no such pipeline, or the log cannot be read.
pub async fn run(context: &Context, args: LagArgs) -> Result<Exit, Failure> {
    let mut config = context.config()?;
    if let Some(name) = &args.pipeline {
        config.pipelines.retain(|pipeline| pipeline.spec.name == *name);
    }
    if config.pipelines.is_empty() {
        let fix = "name a pipeline of the configuration, or none for all of them";
        let what = match &args.pipeline {
            Some(name) => format!("there is no pipeline {name:?}"),
            None => "the configuration has no pipelines".to_owned(),
        };
        let finding = Finding::new(Code::Usage, what, fix);
        return Err(finding.at(config.file.display()).into());
    }
    if args.hot_keys {
        return hot_keys::run(context, args.pipeline.as_deref(), args.json).await;
    }
    let place = context.place()?;
    let mut access = access::open(context, &place).await?;
    loop {
        let lags = look(&*access.log, &config).await?;
        if args.json {
            table::print_json(&context.terminal, &lags)?;
        } else {
            let clear = if args.watch && context.terminal.stdout { CLEAR } else { "" };
            context.terminal.print(&format!("{clear}{}", show(&lags)))?;
        }
        if !args.watch {
            return Ok(Exit::Done);
        }
        access = access.wait(context, &place, WATCH_INTERVAL).await?;
    }
}

async fn look(log: &dyn Log, config: &Config) -> Result<Vec<PipelineLag>, Failure> {
    let now = SystemClock.now();
    let mut lags = Vec::with_capacity(config.pipelines.len());
    for pipeline in &config.pipelines {
        let what = || format!("the lag of pipeline {} cannot be told", pipeline.spec.name);
        let lag = patiently(|| lag::of(log, &pipeline.spec, now)).await;
        lags.push(lag.map_err(|error| Failure::log(what(), &error))?);
    }
    Ok(lags)
}

/// Asks again for a while if the log does not answer: when a cluster mends itself, which is when lag is asked
/// for, its next coordinator or leader is known a moment later.
async fn patiently<T, R>(ask: impl Fn() -> R) -> Result<T, LogError>
where
    R: Future<Output = Result<T, LogError>>,
{
    let until = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(LogError::Unavailable(reason)) if Instant::now() < until => {
                tracing::debug!(%reason, "asking again");
                tokio::time::sleep(AGAIN).await;
            }
            answer => return answer,
        }
    }
}

fn show(lags: &[PipelineLag]) -> String {
    let columns = [
        Column::Text("pipeline"),
        Column::Text("topic"),
        Column::Number("partition"),
        Column::Number("committed"),
        Column::Number("end"),
        Column::Number("lag"),
        Column::Number("due"),
        Column::Number("behind"),
    ];
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for pipeline in lags {
        for partition in &pipeline.partitions {
            rows.push(vec![
                pipeline.pipeline.clone(),
                partition.topic.clone(),
                partition.partition.to_string(),
                partition.committed.map_or("-".to_owned(), |offset| offset.to_string()),
                partition.end.to_string(),
                partition.lag.to_string(),
                partition.due.to_string(),
                behind(partition.time_lag_seconds),
            ]);
        }
        notes.push(format!(
            "{}: lag {}, due {}, waiting for a retry {}, behind {}",
            pipeline.pipeline,
            pipeline.lag,
            pipeline.due_lag,
            pipeline.waiting,
            behind(pipeline.time_lag_seconds)
        ));
        for topic in &pipeline.missing_topics {
            notes.push(format!("{}: source topic {topic} does not exist", pipeline.pipeline));
        }
    }
    let notes = notes.join("\n");
    if rows.is_empty() { notes } else { format!("{}\n\n{notes}", table::layout(&columns, &rows)) }
}

fn behind(seconds: f64) -> String {
    // Ages are never negative nor NaN; tenths of a second are enough for a person.
    let tenths = Duration::from_secs_f64((seconds * 10.0).round() / 10.0);
    summary::duration(tenths)
}
