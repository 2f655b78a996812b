//! The Kafka benchmark: Millstream beside a plain librdkafka loop, Kafka Streams and Spring Kafka, all
//! copying a topic into another on a broker of their own, all watched from outside.
//!
//! - `throughput`: messages a second, as ratios to the loop of the same round.
//! - `latency`: end to end at 1,000 messages a second.
//! - `retries`: how late after their due time second attempts are.
//!
//! A round has each contender once, and begins with another one each time. What was measured last, on
//! which machine, is in `bench/README.md`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use crate::broker::Broker;
use crate::contender::{Contender, Tools};
use crate::effort::Effort;
use crate::report::Report;

mod about;
mod bare_loop;
mod broker;
mod checked;
mod child;
mod contender;
mod due;
mod effort;
mod host;
mod latency;
mod offsets;
mod peers;
mod profile;
mod receiver;
mod report;
mod retries;
mod samples;
mod source;
mod steady;
mod throughput;

/// Measures Millstream on Kafka beside named contenders, on a broker that it starts itself.
#[derive(Debug, Parser)]
#[command(name = "kafka", args_conflicts_with_subcommands = true)]
struct Args {
    /// A short run that shows that everything works; its figures are noise.
    #[arg(long)]
    quick: bool,
    /// Rounds of each comparison, instead of as many as the effort has.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Messages of 200 bytes of a throughput run, instead of as many as the effort has; of 1 KiB it is
    /// a third.
    #[arg(long, value_parser = clap::value_parser!(u64).range(3_000..=100_000_000))]
    messages: Option<u64>,
    /// Measure only this; repeatable.
    #[arg(long, value_enum)]
    only: Vec<Subject>,
    /// Only contenders whose name contains this; repeatable. Without the loop there are no ratios.
    #[arg(long)]
    run: Vec<String>,
    /// The folder for the broker's data, in a folder of its own that is removed afterwards. A disk,
    /// not a file system in memory.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Also write the report to this file.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Say how to take a profile of the Millstream process, and end.
    #[arg(long)]
    profile: bool,
    #[command(subcommand)]
    hidden: Option<Hidden>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Messages a second.
    Throughput,
    /// From just before produce to a read-committed consumer, at 1,000 messages a second.
    Latency,
    /// How late second attempts are.
    Retries,
}

/// What the benchmark starts itself as.
#[derive(Debug, Subcommand)]
enum Hidden {
    /// The plain loop.
    #[command(hide = true)]
    Loop(bare_loop::LoopArgs),
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Hidden::Loop(args)) = &args.hidden {
        return bare_loop::run(args);
    }
    if args.profile {
        return say(profile::HELP);
    }
    let report = measure(&args)?.text()?;
    if let Some(file) = &args.markdown {
        let named = || format!("the report cannot be written to {}", file.display());
        std::fs::write(file, &report).with_context(named)?;
    }
    say(&report)
}

fn measure(args: &Args) -> anyhow::Result<Report> {
    let effort = effort(args);
    let named = |contender: &Contender| {
        args.run.is_empty() || args.run.iter().any(|part| contender.name().contains(part.as_str()))
    };
    // Before anything is built or started: that is the machine's load without us.
    let mut report = Report::new(args.quick, effort)?;
    let wanted = |subject, all: &[Contender]| {
        let measured = args.only.is_empty() || args.only.contains(&subject);
        if measured { all.iter().copied().filter(named).collect() } else { Vec::new() }
    };
    let throughput = wanted(Subject::Throughput, &Contender::ALL);
    let latency = wanted(Subject::Latency, &latency::CONTENDERS);
    let retries = wanted(Subject::Retries, &retries::CONTENDERS);
    let all = [&throughput[..], &latency, &retries].concat();
    ensure!(!all.is_empty(), "nothing to measure has a name like this: {}", args.run.join(", "));
    let tools = Tools::make(&all)?;
    let broker = Broker::start(&args.dir)?;
    if !throughput.is_empty() {
        report.throughput = throughput::measure(&broker, &tools, &throughput, &effort)?;
    }
    if !latency.is_empty() {
        report.latency = latency::measure(&broker, &tools, &latency, &effort)?;
    }
    if !retries.is_empty() {
        report.retries = retries::measure(&broker, &retries, &effort)?;
    }
    Ok(report)
}

fn effort(args: &Args) -> Effort {
    let mut effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    if let Some(rounds) = args.rounds {
        effort.rounds = rounds;
    }
    if let Some(messages) = args.messages {
        effort.messages = messages;
    }
    effort
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("stdout cannot be written")
}
