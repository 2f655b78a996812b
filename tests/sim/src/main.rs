//! `sim`: simulates seeds and shows what broke.

use std::io::{IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use millstream_sim::planted::Bug;
use millstream_sim::{Options, Report, shorten, simulate};

/// How many lines of a failing seed's trace are shown, unless all are asked for.
const TAIL: usize = 80;

/// So many of the seeds that failed are shortened; that takes a while.
const SHORTENED_MAX: usize = 3;

/// Simulates the core on a log that fails, and checks what it promises.
///
/// Every seed is one history, the same each time.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to simulate.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One seed only, with its whole trace.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// With `--seed`: show the smallest history that breaks the same promise instead.
    #[arg(long, requires = "seed")]
    shorten: bool,
    /// Say instead how many seeds it takes to find each bug that is planted to test the checks.
    #[arg(long, conflicts_with = "seed")]
    planted: bool,
    /// Go on after a seed that failed.
    #[arg(long)]
    keep_going: bool,
    /// Look past this promise (as far as its text begins so), to see what else fails. Repeatable.
    #[arg(long)]
    ignore: Vec<String>,
    /// How many seeds are simulated at once.
    #[arg(long, default_value_t = cores())]
    threads: usize,
}

/// What the operating system refuses, if a simulation cannot be run.
const RUNTIME: &str = "no runtime for the simulation";

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout().lock();
    if let Some(seed) = arguments.seed {
        let options =
            Options { keep_trace: true, ignored: arguments.ignore.clone(), ..Options::default() };
        let shortened = match arguments.shorten {
            true => shorten(seed, &options).context(RUNTIME)?,
            false => None,
        };
        let report = match shortened {
            Some(shortened) => {
                writeln!(out, "{}", shortened.summary)?;
                shortened.report
            }
            None => simulate(seed, &options).context(RUNTIME)?,
        };
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
    if arguments.planted {
        return planted(&arguments, &mut out);
    }
    let failed = many(&arguments)?;
    let options = Options { ignored: arguments.ignore.clone(), ..Options::default() };
    for report in failed.iter().take(SHORTENED_MAX) {
        let Some(shortened) = shorten(report.seed, &options).context(RUNTIME)? else { continue };
        let trace = &shortened.report.trace;
        for line in trace.iter().skip(trace.len().saturating_sub(TAIL)) {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "drawn: {}", shortened.report.drawn)?;
        writeln!(out, "seed {}, {}\n", report.seed, shortened.summary)?;
    }
    for report in &failed {
        let violation = report.violation.as_deref().unwrap_or_default();
        writeln!(out, "BROKEN {violation}\n  make sim SEED={} for all of it", report.seed)?;
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn planted(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let mut missed = false;
    for bug in Bug::ALL {
        let options = Options { bug: Some(bug), ..Options::default() };
        let mut found = None;
        for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
            found = simulate(seed, &options).context(RUNTIME)?.violation.map(|what| (seed, what));
            if found.is_some() {
                break;
            }
        }
        match found {
            Some((seed, what)) => {
                let seeds = seed - arguments.from + 1;
                let promise = what.split_once(": ").map_or(what.as_str(), |(promise, _)| promise);
                writeln!(out, "{bug:?}: {seeds} seeds, \"{promise}\"")?;
            }
            None => {
                missed = true;
                writeln!(out, "{bug:?}: NOT FOUND in {} seeds", arguments.seeds)?;
            }
        }
    }
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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
            Ok(ended) => ended.context(RUNTIME),
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect::<anyhow::Result<()>>()
    })?;
    let done = bar.position();
    let rate = done as f64 / bar.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let mut failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    failed.sort_by_key(|report| report.seed);
    let broken = failed.len();
    writeln!(std::io::stdout(), "{done} seeds, {broken} failed, {rate:.0} seeds/s")?;
    Ok(failed)
}
