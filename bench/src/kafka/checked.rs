//! Checked: every message of the source is in the output, as it was. A run that loses one fails the
//! benchmark, and one that promises each output once fails if there is one twice.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use millstream_bench::messages;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset};
use tokio::time::Instant;

use crate::broker::{Broker, PARTITIONS, partitions};
use crate::effort::Workload;
use crate::source::number_of;

/// Reading is given up when nothing has come for so long.
const SILENCE: Duration = Duration::from_secs(20);

/// One message in so many is compared byte by byte; making the expected one takes longer than reading.
const COMPARED_EVERY: u64 = 101;

/// Reads the whole output, committed messages only; how many messages are there more than once.
///
/// # Errors
/// When one is missing or is not as it was.
pub(crate) fn doubled(broker: &Broker, output: &str, workload: Workload) -> anyhow::Result<u64> {
    let mut seen = Seen::new(workload.messages);
    let consumer: BaseConsumer = broker.reader("check").create().context("no consumer")?;
    consumer.assign(&partitions(output, Offset::Beginning)?)?;
    let (mut ended, mut last) = (0, Instant::now());
    while ended < PARTITIONS {
        match consumer.poll(Duration::from_millis(100)) {
            None => ensure!(last.elapsed() < SILENCE, "{output} cannot be read to its end"),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => bail!("reading {output}: {error}"),
            Some(Ok(message)) => {
                let number = number_of(&message).context("an output without its number")?;
                seen.add(number)?;
                if number.is_multiple_of(COMPARED_EVERY) {
                    let same = message.key() == Some(&messages::key(number)[..])
                        && message.payload()
                            == Some(&messages::value(number, workload.value_bytes)[..]);
                    ensure!(same, "message {number} is not in {output} as it was");
                }
                last = Instant::now();
            }
        }
    }
    let missing = seen.missing();
    ensure!(missing == 0, "{missing} of {} messages are not in {output}", workload.messages);
    Ok(seen.doubled)
}

/// Which numbers have been seen.
pub(crate) struct Seen {
    each: Vec<bool>,
    different: u64,
    doubled: u64,
}

impl Seen {
    /// Of numbers from 0 to below this.
    pub(crate) fn new(numbers: u64) -> Self {
        let each = vec![false; usize::try_from(numbers).unwrap_or(usize::MAX)];
        Self { each, different: 0, doubled: 0 }
    }

    /// One was seen; whether for the first time.
    ///
    /// # Errors
    /// When there is no such number.
    pub(crate) fn add(&mut self, number: u64) -> anyhow::Result<bool> {
        let place = usize::try_from(number).ok().and_then(|number| self.each.get_mut(number));
        let place = place.with_context(|| format!("there is no message {number}"))?;
        let first = !std::mem::replace(place, true);
        *(if first { &mut self.different } else { &mut self.doubled }) += 1;
        Ok(first)
    }

    /// How many have been seen.
    pub(crate) fn different(&self) -> u64 {
        self.different
    }

    /// How many have not been seen.
    pub(crate) fn missing(&self) -> u64 {
        self.each.len() as u64 - self.different
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_not_made_up_for_by_what_is_there_twice() {
        let mut seen = Seen::new(3);
        for number in [0, 2, 2] {
            seen.add(number).unwrap();
        }
        assert_eq!((seen.missing(), seen.doubled), (1, 1), "1 is missing and 2 is there twice");
        assert!(seen.add(3).is_err(), "0, 1, 2 are all");
    }
}
