//! The benchmarks of Millstream, as ratios to named baselines in one run.
//!
//! - `sandbox_cost`: a message through the sandbox, beside the same handler called natively.
//! - `throughput`: the pipeline on the embedded log, beside bare loops over the same storage.
//!
//! Every comparison is interleaved, so that whatever the machine does meanwhile meets both sides.
//! What was measured last, on which machine, is in `bench/README.md`.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use millstream_bench::{figures, messages};
use millstream_core::plugin::Plugin;

use crate::effort::Effort;
use crate::report::Report;

mod effort;
mod filled_log;
mod guest;
mod log_loop;
mod native;
#[path = "../guest/src/passthrough.rs"]
mod passthrough;
mod pipeline_run;
mod report;
mod sandbox_cost;
mod store_loop;
mod throughput;

/// As in the program: it is a third of the figures.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures Millstream beside named baselines.
#[derive(Debug, Parser)]
struct Args {
    /// A short run that shows that everything works; its figures are noise.
    #[arg(long)]
    quick: bool,
    /// The figures as JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Measure only this.
    #[arg(long, value_enum)]
    only: Option<Subject>,
    /// Messages of each throughput run, instead of as many as the effort has.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    messages: Option<u64>,
    /// Only the throughput run of this name, or those that have it in theirs; repeatable. Without the bare loops there
    /// are no shares.
    #[arg(long)]
    run: Vec<String>,
    /// Rounds of each comparison, instead of as many as the effort has.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// The folder for the logs of the throughput runs, each in a folder of its own that is removed
    /// afterwards. A disk, not a file system in memory, or the disk is not measured.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// The cost of the sandbox for each message.
    Sandbox,
    /// The pipeline's messages per second.
    Throughput,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    if let Some(messages) = args.messages {
        effort.messages = messages;
    }
    if let Some(rounds) = args.rounds {
        effort.sandbox_rounds = rounds;
        effort.throughput_rounds = rounds;
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let sandboxed: Arc<dyn Plugin> = guest::load(cores)?;
    let native: Arc<dyn Plugin> = native::plugin();

    let mut report = Report::new(cores, args.quick, effort);
    let wanted = |subject| args.only.is_none_or(|only| only == subject);
    if wanted(Subject::Sandbox) {
        report.sandbox = sandbox_cost::measure(&*sandboxed, &*native, effort)?;
    }
    if wanted(Subject::Throughput) {
        let runs = throughput::runs(cores, &sandboxed, &native, &args.run);
        report.throughput = throughput::measure(&runs, &args.dir, effort)?;
    }
    let text = if args.json { report.json()? } else { report.table() };
    writeln!(std::io::stdout().lock(), "{text}").context("the report cannot be written to stdout")
}
