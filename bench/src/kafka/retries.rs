//! Retries: how late after their due time second attempts are, when every first one fails.
//!
//! A message is due one delay after the broker put its retry into the tier. The attempt is taken to be
//! when the broker put its output into the output topic: both times are the broker's, in milliseconds,
//! and the lateness has the handler and a produce in it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use millstream_bench::figures::Rounds;
use millstream_bench::guest_file;
use millstream_bench::table::progress;
use millstream_tests::kafka::unique;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, Timestamp};
use tokio::time::Instant;

use crate::broker::{Broker, PARTITIONS, partitions};
use crate::contender::{Contender, Delivery, Task, start_host};
use crate::effort::Effort;
use crate::host::HostSetup;
use crate::offsets::Offsets;
use crate::source::number_of;
use crate::steady::Steady;

/// Who is measured.
pub(crate) const CONTENDERS: [Contender; 2] =
    [Contender::Millstream(Delivery::AtLeastOnce), Contender::Millstream(Delivery::ExactlyOnce)];

/// Failures a second.
pub(crate) const PER_SECOND: u32 = 500;

/// The only delay, as the configuration and the tier's name have it.
pub(crate) const DELAY: &str = "1s";
const DELAY_MS: i64 = 1_000;

/// How long the last outputs may take.
const END_WITHIN: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(20);

const LATE_MS_MAX: u64 = 600_000;

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

struct Late {
    ms: Histogram<u64>,
    early: u64,
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
    steady.run(PER_SECOND, effort.warm_up)?;
    let first = steady.sent();
    steady.run(PER_SECOND, effort.steady)?;

    let deadline = Instant::now() + END_WITHIN;
    let mut attempted = append_times(broker, &output)?;
    while (attempted.len() as u64) < steady.sent() {
        running.process.still_runs()?;
        if Instant::now() > deadline {
            let (came, sent) = (attempted.len(), steady.sent());
            bail!("{came} of {sent} came out:\n{}", running.process.last_said());
        }
        std::thread::sleep(LOOK_EVERY);
        if offsets.readable()? >= steady.sent() {
            attempted = append_times(broker, &output)?;
        }
    }
    running.stop()?;
    let tier = format!("{source}.retry.{DELAY}");
    let put_off = append_times(broker, &tier)?;
    broker.delete(&[&source, &output, &tier])?;
    lateness(first..steady.sent(), &put_off, &attempted)
}

/// How late each of these messages was attempted again.
fn lateness(
    numbers: std::ops::Range<u64>,
    put_off: &HashMap<u64, i64>,
    attempted: &HashMap<u64, i64>,
) -> anyhow::Result<Late> {
    let mut late = Late { ms: Histogram::new_with_bounds(1, LATE_MS_MAX, 3)?, early: 0 };
    for number in numbers {
        let put_off = put_off.get(&number).with_context(|| format!("{number} was not put off"))?;
        let attempted = attempted.get(&number).with_context(|| format!("{number} is missing"))?;
        match u64::try_from(attempted - put_off - DELAY_MS) {
            Ok(ms) => late.ms.saturating_record(ms),
            Err(_) => late.early += 1,
        }
    }
    Ok(late)
}

/// When the broker put each message of a topic there (the first time, if it is there twice).
fn append_times(broker: &Broker, topic: &str) -> anyhow::Result<HashMap<u64, i64>> {
    let consumer: BaseConsumer = broker.reader("times").create().context("no consumer")?;
    consumer.assign(&partitions(topic, Offset::Beginning)?)?;
    let (mut times, mut ended) = (HashMap::new(), 0);
    let deadline = Instant::now() + END_WITHIN;
    while ended < PARTITIONS {
        ensure!(Instant::now() < deadline, "{topic} cannot be read to its end");
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => bail!("reading {topic}: {error}"),
            Some(Ok(message)) => {
                let Timestamp::LogAppendTime(at) = message.timestamp() else {
                    bail!("{topic} does not have the broker's time");
                };
                let number = number_of(&message).context("a message without its number")?;
                times.entry(number).or_insert(at);
            }
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_attempts_are_counted_apart() {
        let put_off = HashMap::from([(0, 0), (1, 10), (2, 20)]);
        let attempted = HashMap::from([(0, 0), (1, 1_013), (2, 1_019)]);
        let late = lateness(1..3, &put_off, &attempted).unwrap();
        assert_eq!((late.ms.len(), late.ms.max(), late.early), (1, 3, 1), "3 ms late, 1 ms early");
        assert!(lateness(1..4, &put_off, &attempted).is_err(), "3 was never put off");
    }
}
