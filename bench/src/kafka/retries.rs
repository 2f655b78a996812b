//! Retries: how late after their due time second attempts are, when every first one fails.
//!
//! A message is due one delay after the broker put its retry into the tier. The attempt is taken to be
//! when the broker put its output into the output topic: both times are the broker's, in milliseconds,
//! and the lateness has the handler and a produce in it.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use millstream_bench::figures::Rounds;
use millstream_bench::guest_file;
use millstream_bench::table::progress;
use millstream_tests::kafka::unique;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::child::Contestant;
use crate::contender::{Contender, Delivery, Task, start_host};
use crate::due::{Due, Late};
use crate::effort::Effort;
use crate::host::HostSetup;
use crate::offsets::Offsets;
use crate::steady::Steady;

/// Who is measured.
pub(crate) const CONTENDERS: [Contender; 2] =
    [Contender::Millstream(Delivery::AtLeastOnce), Contender::Millstream(Delivery::ExactlyOnce)];

/// Failures a second.
pub(crate) const PER_SECOND: u32 = 500;

/// The only delay, as the configuration and the tier's name have it.
pub(crate) const DELAY: &str = "1s";
const DELAY_TIME: Duration = Duration::from_secs(1);

/// How long the last outputs may take.
const END_WITHIN: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the rounds came to, in milliseconds.
pub(crate) struct Retries {
    pub(crate) contender: Contender,
    pub(crate) p50: Rounds,
    pub(crate) p99: Rounds,
    pub(crate) max: Rounds,
    /// Attempts before their due time, of all rounds.
    pub(crate) early: u64,
    /// Attempts that were measured, of all rounds.
    pub(crate) attempts: u64,
}

/// Measures Millstream with each delivery.
///
/// # Errors
/// When it fails or loses a message.
pub(crate) fn measure(
    broker: &Broker,
    contenders: &[Contender],
    effort: &Effort,
) -> anyhow::Result<Vec<Retries>> {
    let progress = progress(contenders.len() as u64 * u64::from(effort.rounds));
    let mut rounds: Vec<Vec<Late>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..effort.rounds {
        for (contender, rounds) in contenders.iter().zip(&mut rounds) {
            let Contender::Millstream(delivery) = contender else { continue };
            progress.set_message(format!("retries, {}", contender.name()));
            let late = once(broker, *delivery, effort);
            rounds.push(late.with_context(|| format!("retries, {}", contender.name()))?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    let retries = |(contender, rounds): (&Contender, &Vec<Late>)| {
        let at = |quantile: f64| {
            let ms = rounds.iter().map(|late| late.ms.value_at_quantile(quantile) as f64);
            Rounds::of(ms.collect())
        };
        Some(Retries {
            contender: *contender,
            p50: at(0.5)?,
            p99: at(0.99)?,
            max: at(1.0)?,
            early: rounds.iter().map(|late| late.early).sum(),
            attempts: rounds.iter().map(|late| late.ms.len() + late.early).sum(),
        })
    };
    Ok(contenders.iter().zip(&rounds).filter_map(retries).collect())
}

fn once(broker: &Broker, delivery: Delivery, effort: &Effort) -> anyhow::Result<Late> {
    let (group, source, output) = (unique("group"), unique("source"), unique("output"));
    broker.create(&source, &[])?;
    broker.create(&output, &[("message.timestamp.type", "LogAppendTime")])?;
    let task = Task {
        bootstrap: broker.bootstrap(),
        group: &group,
        source: &source,
        output: &output,
        transaction_every: None,
    };
    let delays = format!("[\"{DELAY}\"]");
    let plugin = guest_file::build("failing-first")?;
    let setup = HostSetup { delivery, plugin, retry_delays: &delays, transaction_every: None };
    let mut running = start_host(&setup, &task)?;
    let offsets = Offsets::of(broker, &group, &source, &output)?;
    let mut steady = Steady::to(broker, &source, Instant::now())?;
    steady.knock(&mut running.process, || Ok(offsets.readable()? > 0))?;
    // Which the host has made by now.
    let tier = format!("{source}.retry.{DELAY}");
    let due = Due::of(broker, &tier, &output)?;
    let late = std::thread::scope(|scope| {
        let reading = scope.spawn(|| due.run());
        let numbers = send(&mut steady, &due, &mut running.process, effort);
        due.stop();
        let times = reading.join().map_err(|_| anyhow!("the reading thread panicked"))?;
        let numbers = numbers?;
        times?.late(numbers, DELAY_TIME)
    })?;
    running.stop()?;
    broker.delete(&[&source, &output, &tier])?;
    Ok(late)
}

/// Sends everything, and waits until all of it was attempted again; the numbers that are measured.
fn send(
    steady: &mut Steady,
    due: &Due,
    process: &mut Contestant,
    effort: &Effort,
) -> anyhow::Result<Range<u64>> {
    steady.run(PER_SECOND, effort.warm_up)?;
    let first = steady.sent();
    steady.run(PER_SECOND, effort.steady)?;
    let deadline = Instant::now() + END_WITHIN;
    while due.attempted() < steady.sent() {
        process.still_runs()?;
        if Instant::now() > deadline {
            let (attempted, sent) = (due.attempted(), steady.sent());
            bail!("{attempted} of {sent} came out:\n{}", process.last_said());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(first..steady.sent())
}
