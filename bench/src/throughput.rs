//! Throughput: the embedded pipeline's messages per second beside bare loops over the same storage.
//!
//! Every run has a fresh folder, the same messages and the same durability; a round has every run
//! once, and begins with another one each time.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use millstream_bench::table::progress;
use millstream_core::pipeline_spec::{Delivery, Ordering};
use millstream_core::plugin::Plugin;
use serde::Serialize;

use crate::effort::Effort;
use crate::figures::{Rounds, Took};
use crate::messages::Keys;
use crate::pipeline_run::{self, PipelineSetup};
use crate::{log_loop, store_loop};

/// The share of a bare loop's throughput that the pipeline is to reach.
pub(crate) const AIM_SHARE: f64 = 0.5;

/// `in_flight.messages` where a pipeline does not say.
const IN_FLIGHT_DEFAULT: usize = 1_000;

/// What is run.
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) role: Role,
    kind: Kind,
    delivery: Delivery,
}

/// What a run is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Pipelines are compared with it.
    Baseline,
    /// It has an aim.
    Pipeline,
    /// It says where the time goes.
    Information,
}

enum Kind {
    Store,
    Log,
    Pipeline(PipelineSetup),
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Throughput {
    /// The run in words.
    pub(crate) run: String,
    /// What it is there for.
    pub(crate) role: Role,
    /// Messages per second.
    pub(crate) per_second: Rounds,
    /// Microseconds of all cores a message, the storage library's own threads included.
    pub(crate) cpu_us: Option<f64>,
    /// The most memory of the process in any round, in MiB, the filled log and its readers included.
    pub(crate) memory_mib: Option<f64>,
    /// Its share of the loop over the storage library, median to median, if that was run.
    pub(crate) of_store_loop: Option<f64>,
    /// Its share of the loop over the log that writes and commits as it does, median to median, if
    /// that was run.
    pub(crate) of_log_loop: Option<f64>,
}

/// All runs, or those that have a name of `only`, or have it in theirs if none has it.
pub(crate) fn runs(
    cores: usize,
    sandboxed: &Arc<dyn Plugin>,
    native: &Arc<dyn Plugin>,
    only: &[String],
) -> Vec<Run> {
    use Delivery::{AtLeastOnce, ExactlyOnce};
    let loops = [
        ("bare loop, storage library", Kind::Store, AtLeastOnce),
        ("bare loop, log, append", Kind::Log, AtLeastOnce),
        ("bare loop, log, transact", Kind::Log, ExactlyOnce),
    ];
    let pipeline = |delivery, ordering, role, note: &str, change: &dyn Fn(&mut PipelineSetup)| {
        let mut setup = PipelineSetup {
            plugin: Arc::clone(sandboxed),
            delivery,
            ordering,
            in_flight_messages: IN_FLIGHT_DEFAULT,
            instances: cores,
            idempotency: None,
        };
        change(&mut setup);
        let order = if ordering == Ordering::Key { "key" } else { "partition" };
        let once = if delivery == ExactlyOnce { "exactly once" } else { "at least once" };
        let name = format!("pipeline, {once}, by {order}{note}");
        Run { name, role, kind: Kind::Pipeline(setup), delivery }
    };
    let as_it_is = |_: &mut PipelineSetup| {};
    let without_sandbox = |setup: &mut PipelineSetup| setup.plugin = Arc::clone(native);
    let ten_fold = |setup: &mut PipelineSetup| setup.in_flight_messages = 10 * IN_FLIGHT_DEFAULT;
    let keys = |setup: &mut PipelineSetup| setup.idempotency = Some(Keys::Ascending);
    let random = |setup: &mut PipelineSetup| setup.idempotency = Some(Keys::Random);
    let (aimed, information) = (Role::Pipeline, Role::Information);
    let pipelines = [
        pipeline(AtLeastOnce, Ordering::Key, aimed, "", &as_it_is),
        pipeline(AtLeastOnce, Ordering::Partition, aimed, "", &as_it_is),
        pipeline(ExactlyOnce, Ordering::Key, aimed, "", &as_it_is),
        pipeline(ExactlyOnce, Ordering::Partition, aimed, "", &as_it_is),
        pipeline(AtLeastOnce, Ordering::Key, information, ", no sandbox", &without_sandbox),
        pipeline(AtLeastOnce, Ordering::Key, information, ", 10,000 in flight", &ten_fold),
        pipeline(ExactlyOnce, Ordering::Key, information, ", 10,000 in flight", &ten_fold),
        pipeline(AtLeastOnce, Ordering::Key, information, ", idempotency keys", &keys),
        pipeline(AtLeastOnce, Ordering::Key, information, ", random idempotency keys", &random),
        pipeline(ExactlyOnce, Ordering::Key, information, ", idempotency keys", &keys),
        pipeline(ExactlyOnce, Ordering::Key, information, ", random idempotency keys", &random),
    ];
    let loops = loops.into_iter().map(|(name, kind, delivery)| Run {
        name: name.to_owned(),
        role: Role::Baseline,
        kind,
        delivery,
    });
    let all: Vec<Run> = loops.chain(pipelines).collect();
    let names: Vec<String> = all.iter().map(|run| run.name.clone()).collect();
    let is_meant = |name: &str, only: &String| match names.contains(only) {
        true => name == only,
        false => name.contains(only.as_str()),
    };
    let is_wanted =
        |run: &Run| only.is_empty() || only.iter().any(|only| is_meant(&run.name, only));
    all.into_iter().filter(is_wanted).collect()
}

/// Measures all of them.
///
/// # Errors
/// When one fails, or loses or doubles a message.
pub(crate) fn measure(runs: &[Run], dir: &Path, effort: Effort) -> anyhow::Result<Vec<Throughput>> {
    let progress = progress(runs.len() as u64 * u64::from(effort.throughput_rounds));
    let mut rounds: Vec<(Vec<f64>, Vec<f64>, Vec<f64>)> = vec![Default::default(); runs.len()];
    for round in 0..effort.throughput_rounds as usize {
        for step in 0..runs.len() {
            let index = (round + step) % runs.len();
            let (Some(run), Some((rates, cpu, memory))) = (runs.get(index), rounds.get_mut(index))
            else {
                continue;
            };
            progress.set_message(run.name.clone());
            let took = once(run, dir, effort.messages).with_context(|| run.name.clone())?;
            let messages = effort.messages as f64;
            rates.push(messages / took.time.as_secs_f64());
            cpu.extend(took.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / messages));
            memory.extend(took.memory_mib);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    let medians = |(run, (rates, cpu, memory))| {
        Some((run, Rounds::of(rates)?, Rounds::of(cpu), Rounds::of(memory)))
    };
    let measured: Vec<(&Run, Rounds, Option<Rounds>, Option<Rounds>)> =
        runs.iter().zip(rounds).filter_map(medians).collect();
    let share =
        |(run, per_second, cpu_us, memory_mib): &(&Run, Rounds, Option<Rounds>, Option<Rounds>)| {
            let of = |is_baseline: &dyn Fn(&Run) -> bool| {
                let found = measured.iter().find(|(run, ..)| is_baseline(run));
                found.map(|(_, baseline, ..)| per_second.median / baseline.median)
            };
            Throughput {
                run: run.name.clone(),
                role: run.role,
                per_second: *per_second,
                cpu_us: cpu_us.map(|cpu| cpu.median),
                memory_mib: memory_mib.map(|memory| memory.max),
                of_store_loop: of(&|other| matches!(other.kind, Kind::Store)),
                of_log_loop: of(&|other| {
                    matches!(other.kind, Kind::Log) && other.delivery == run.delivery
                }),
            }
        };
    Ok(measured.iter().map(share).collect())
}

fn once(run: &Run, dir: &Path, messages: u64) -> anyhow::Result<Took> {
    let folder = tempfile::Builder::new().prefix("millstream-bench-").tempdir_in(dir)?;
    // As the host has it, and of its own: nothing of the last run is left in it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let took = match &run.kind {
        Kind::Store => store_loop::run(folder.path(), messages),
        Kind::Log => runtime.block_on(log_loop::run(folder.path(), messages, run.delivery)),
        Kind::Pipeline(setup) => {
            runtime.block_on(pipeline_run::run(folder.path(), messages, setup))
        }
    }?;
    folder.close().context("the folder of the run cannot be removed")?;
    Ok(took)
}
