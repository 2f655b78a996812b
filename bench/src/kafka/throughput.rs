//! Throughput: messages a second of each contender over a source that is full when it starts, beside the
//! loop of the same round.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use indicatif::ProgressBar;
use millstream_bench::figures::Rounds;
use millstream_bench::table::progress;
use millstream_tests::kafka::unique;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::checked;
use crate::contender::{Contender, Running, Task, Tools};
use crate::effort::{Effort, Workload};
use crate::offsets::Offsets;
use crate::samples::{self, Sample, Speed};
use crate::source;

/// How often a contender is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A contender without an output for so long stands, or never started.
const STANDSTILL: Duration = Duration::from_secs(60);

/// What transactions of throughput runs are committed after, Millstream's as those of Kafka Streams.
const TRANSACTION_EVERY: &str = "100ms";

/// One workload.
pub(crate) struct Throughput {
    pub(crate) workload: Workload,
    pub(crate) rows: Vec<Row>,
}

/// What the rounds of a contender came to.
pub(crate) struct Row {
    pub(crate) contender: Contender,
    /// Its share of the loop of the same round, if that was run.
    pub(crate) of_loop: Option<Rounds>,
    pub(crate) per_second: Rounds,
    pub(crate) cpu_us: Option<Rounds>,
    pub(crate) memory_mib: Option<Rounds>,
    /// Outputs that were there more than once, of all rounds.
    pub(crate) doubled: u64,
}

struct Run {
    speed: Speed,
    memory_mib: Option<f64>,
    doubled: u64,
}

/// Measures all of them, with each size of messages.
///
/// # Errors
/// When one fails or loses a message.
pub(crate) fn measure(
    broker: &Broker,
    tools: &Tools,
    contenders: &[Contender],
    effort: &Effort,
) -> anyhow::Result<Vec<Throughput>> {
    let workloads = effort.workloads();
    let progress = progress((workloads.len() * contenders.len()) as u64 * u64::from(effort.rounds));
    let mut measured = Vec::new();
    for workload in workloads {
        progress.set_message(format!("filling, {} bytes", workload.value_bytes));
        let source = unique("source");
        source::fill(broker, &source, workload)?;
        let mut runs: Vec<Vec<Run>> = contenders.iter().map(|_| Vec::new()).collect();
        for round in 0..effort.rounds as usize {
            for step in 0..contenders.len() {
                let index = (round + step) % contenders.len();
                let (Some(contender), Some(runs)) = (contenders.get(index), runs.get_mut(index))
                else {
                    continue;
                };
                let run = once(broker, tools, *contender, workload, &source, &progress);
                runs.push(run.with_context(|| contender.name())?);
                progress.inc(1);
            }
        }
        broker.delete(&[&source])?;
        measured.push(Throughput { workload, rows: rows(contenders, &runs) });
    }
    progress.finish_and_clear();
    Ok(measured)
}

fn once(
    broker: &Broker,
    tools: &Tools,
    contender: Contender,
    workload: Workload,
    source: &str,
    progress: &ProgressBar,
) -> anyhow::Result<Run> {
    let (group, output) = (unique("group"), unique("output"));
    broker.create(&output, &[])?;
    let task = Task {
        bootstrap: broker.bootstrap(),
        group: &group,
        source,
        output: &output,
        transaction_every: Some(TRANSACTION_EVERY),
    };
    let offsets = Offsets::of(broker, &group, source, &output)?;
    let mut running = contender.start(tools, &task)?;
    let Workload { value_bytes, messages } = workload;
    let pid = running.process.pid();
    progress.set_message(format!("{value_bytes} bytes, {}, process {pid}", contender.name()));
    let samples = watch(&mut running, &offsets, messages)?;
    let memory_mib = running.process.memory_peak_mib();
    running.stop()?;
    let doubled = checked::doubled(broker, &output, workload)?;
    ensure!(doubled == 0 || !contender.promises_once(), "{doubled} outputs are there twice");
    broker.delete(&[&output])?;
    let speed = samples::speed(&samples, messages).context("too few samples")?;
    Ok(Run { speed, memory_mib, doubled })
}

/// Looks until every output can be read and the source is committed.
fn watch(running: &mut Running, offsets: &Offsets, messages: u64) -> anyhow::Result<Vec<Sample>> {
    let mut samples: Vec<Sample> = Vec::new();
    let mut moved_at = Instant::now();
    loop {
        let sample = Sample {
            at: Instant::now(),
            readable: offsets.readable()?,
            cpu: running.process.cpu(),
        };
        if samples.last().is_none_or(|last| last.readable < sample.readable) {
            moved_at = sample.at;
        }
        samples.push(sample);
        if sample.readable >= messages && offsets.all_committed()? {
            return Ok(samples);
        }
        running.process.still_runs()?;
        if moved_at.elapsed() > STANDSTILL {
            let said = running.process.last_said();
            bail!("it stands at {} of {messages} outputs:\n{said}", sample.readable);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn rows(contenders: &[Contender], runs: &[Vec<Run>]) -> Vec<Row> {
    let mut both = contenders.iter().zip(runs);
    let loops = both.find(|(contender, _)| **contender == Contender::Loop).map(|(_, runs)| runs);
    let of = |values: &mut dyn Iterator<Item = f64>| Rounds::of(values.collect());
    let row = |(contender, runs): (&Contender, &Vec<Run>)| {
        let shares = loops.map(|loops| {
            let pairs = runs.iter().zip(loops);
            pairs.map(|(run, its_loop)| run.speed.per_second / its_loop.speed.per_second)
        });
        Some(Row {
            contender: *contender,
            of_loop: shares.and_then(|mut shares| of(&mut shares)),
            per_second: of(&mut runs.iter().map(|run| run.speed.per_second))?,
            cpu_us: of(&mut runs.iter().filter_map(|run| run.speed.cpu_us)),
            memory_mib: of(&mut runs.iter().filter_map(|run| run.memory_mib)),
            doubled: runs.iter().map(|run| run.doubled).sum(),
        })
    };
    contenders.iter().zip(runs).filter_map(row).collect()
}
