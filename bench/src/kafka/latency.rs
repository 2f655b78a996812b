//! Latency: from just before a message is produced to its output in a read-committed consumer, at a
//! steady rate that leaves every contender idle most of the time.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use hdrhistogram::Histogram;
use millstream_bench::figures::Rounds;
use millstream_bench::table::progress;
use millstream_tests::kafka::unique;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::child::Contestant;
use crate::contender::{Contender, Delivery, Task, Tools};
use crate::effort::Effort;
use crate::receiver::Receiver;
use crate::steady::Steady;

/// Who is measured: the loop and those whose latency is a choice of their own.
pub(crate) const CONTENDERS: [Contender; 5] = [
    Contender::Loop,
    Contender::Millstream(Delivery::AtLeastOnce),
    Contender::Millstream(Delivery::ExactlyOnce),
    Contender::Streams(Delivery::AtLeastOnce),
    Contender::Streams(Delivery::ExactlyOnce),
];

/// Messages a second.
pub(crate) const PER_SECOND: u32 = 1_000;

/// How long the last outputs may take.
const END_WITHIN: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What the rounds of a contender came to, in milliseconds.
pub(crate) struct Latency {
    pub(crate) contender: Contender,
    pub(crate) p50: Rounds,
    pub(crate) p99: Rounds,
    pub(crate) p999: Rounds,
    pub(crate) max: Rounds,
}

/// Measures all of them.
///
/// # Errors
/// When one fails or loses a message.
pub(crate) fn measure(
    broker: &Broker,
    tools: &Tools,
    contenders: &[Contender],
    effort: &Effort,
) -> anyhow::Result<Vec<Latency>> {
    let progress = progress(contenders.len() as u64 * u64::from(effort.rounds));
    let mut rounds: Vec<Vec<Histogram<u64>>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..effort.rounds as usize {
        for step in 0..contenders.len() {
            let index = (round + step) % contenders.len();
            let (Some(contender), Some(rounds)) = (contenders.get(index), rounds.get_mut(index))
            else {
                continue;
            };
            progress.set_message(format!("latency, {}", contender.name()));
            let run = once(broker, tools, *contender, effort);
            rounds.push(run.with_context(|| format!("latency, {}", contender.name()))?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    let latency = |(contender, rounds): (&Contender, &Vec<Histogram<u64>>)| {
        let at = |quantile: f64| {
            let micros = rounds.iter().map(|round| round.value_at_quantile(quantile));
            Rounds::of(micros.map(|micros| micros as f64 / 1e3).collect())
        };
        let (p50, p99, p999, max) = (at(0.5)?, at(0.99)?, at(0.999)?, at(1.0)?);
        Some(Latency { contender: *contender, p50, p99, p999, max })
    };
    Ok(contenders.iter().zip(&rounds).filter_map(latency).collect())
}

/// Microseconds of the messages of one run.
fn once(
    broker: &Broker,
    tools: &Tools,
    contender: Contender,
    effort: &Effort,
) -> anyhow::Result<Histogram<u64>> {
    let (group, source, output) = (unique("group"), unique("source"), unique("output"));
    broker.create(&source, &[])?;
    broker.create(&output, &[])?;
    let task = Task {
        bootstrap: broker.bootstrap(),
        group: &group,
        source: &source,
        output: &output,
        transaction_every: None,
    };
    let origin = Instant::now();
    let receiver = Receiver::of(broker, &output, origin)?;
    let mut steady = Steady::to(broker, &source, origin)?;
    let mut running = contender.start(tools, &task)?;
    let micros = std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receiver.run());
        let sent = send(&mut steady, &receiver, &mut running.process, effort);
        receiver.stop();
        let micros = receiving.join().map_err(|_| anyhow!("the receiving thread panicked"))?;
        sent.and(micros)
    })?;
    running.stop()?;
    broker.delete(&[&source, &output])?;
    Ok(micros)
}

/// Sends everything, and waits until all of it was received.
fn send(
    steady: &mut Steady,
    receiver: &Receiver,
    process: &mut Contestant,
    effort: &Effort,
) -> anyhow::Result<()> {
    steady.knock(process, || Ok(receiver.received() > 0))?;
    steady.run(PER_SECOND, effort.warm_up)?;
    receiver.measure_from(steady.sent());
    steady.run(PER_SECOND, effort.steady)?;
    let deadline = Instant::now() + END_WITHIN;
    while receiver.received() < steady.sent() {
        process.still_runs()?;
        if Instant::now() > deadline {
            let (received, sent) = (receiver.received(), steady.sent());
            bail!("{received} of {sent} came out:\n{}", process.last_said());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
