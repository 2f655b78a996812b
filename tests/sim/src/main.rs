//! `sim`: simulates seeds and shows what broke.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use millstream_sim::{Options, Report, simulate};

/// How many lines of a failing seed's trace are shown, unless all are asked for.
const TAIL: usize = 80;

/// Simulates the core on a log that fails, and checks what it promises.
///
/// Every seed is one history, the same each time.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to simulate.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One seed only, with its whole trace.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Go on after a seed that failed.
    #[arg(long)]
    keep_going: bool,
    /// Look past this promise (as far as its text begins so), to see what else fails. Repeatable.
    #[arg(long)]
    ignore: Vec<String>,
    /// How many seeds are simulated at once.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout().lock();
    if let Some(seed) = arguments.seed {
        let options =
            Options { keep_trace: true, ignored: arguments.ignore.clone(), ..Options::default() };
        let report = simulate(seed, &options).context("no runtime for the simulation")?;
        for line in &report.trace {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "drawn: {}", report.drawn)?;
        writeln!(
            out,
            "seed {seed}: {} attempts, {} calls, {:?} of virtual time, history {:016x}",
            report.attempts, report.calls, report.lasted, report.hash
        )?;
        return Ok(match report.violation {
            None => {
                writeln!(out, "all promises kept")?;
                ExitCode::SUCCESS
            }
            Some(violation) => {
                writeln!(out, "BROKEN {violation}")?;
                ExitCode::FAILURE
            }
        });
    }
    let failed = many(&arguments)?;
    for report in &failed {
        let tail = report.trace.len().saturating_sub(TAIL);
        for line in report.trace.iter().skip(tail) {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "drawn: {}", report.drawn)?;
    }
    for report in &failed {
        let violation = report.violation.as_deref().unwrap_or_default();
        writeln!(out, "BROKEN {violation}\n  make sim SEED={}", report.seed)?;
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn many(arguments: &Arguments) -> anyhow::Result<Vec<Report>> {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(arguments.seeds),
        false => ProgressBar::hidden(),
    };
    let style = "{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left {msg}";
    bar.set_style(ProgressStyle::with_template(style)?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from.saturating_add(arguments.seeds);
    let stop = AtomicBool::new(false);
    let failed: Mutex<Vec<Report>> = Mutex::default();
    let options = Options { ignored: arguments.ignore.clone(), ..Options::default() };
    let work = || -> std::io::Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let report = simulate(seed, &options)?;
            bar.inc(1);
            if report.violation.is_some() {
                stop.store(!arguments.keep_going, Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                failed.push(report);
                bar.set_message(format!("{} failed", failed.len()));
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.threads.max(1)).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(ended) => ended.context("no runtime for the simulation"),
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect::<anyhow::Result<()>>()
    })?;
    let rate = bar.per_sec();
    let done = bar.position();
    bar.finish_and_clear();
    let mut failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    failed.sort_by_key(|report| report.seed);
    let broken = failed.len();
    writeln!(std::io::stdout(), "{done} seeds, {broken} failed, {rate:.0} seeds/s")?;
    Ok(failed)
}
