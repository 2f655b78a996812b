//! Source: a topic with messages that are there before a contender starts, each numbered in its header.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use millstream_bench::messages;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use crate::broker::{Broker, CALL};
use crate::effort::Workload;
use crate::offsets::Offsets;

/// The producer of everything that contenders read.
pub(crate) type Source = ThreadedProducer<DefaultProducerContext>;

/// How long a full queue is given before the next try.
const FULL: Duration = Duration::from_millis(1);

/// What every producer has: as Java's choose partitions, so that every contender has the same ones.
pub(crate) fn producing(mut config: ClientConfig) -> ClientConfig {
    config.set("enable.idempotence", "true").set("acks", "all");
    config.set("partitioner", "murmur2_random");
    config
}

/// Makes the topic with the workload's messages.
///
/// # Errors
/// When the broker does not take all of them.
pub(crate) fn fill(broker: &Broker, topic: &str, workload: Workload) -> anyhow::Result<()> {
    broker.create(topic, &[])?;
    let mut config = producing(broker.client());
    config.set("linger.ms", "50").set("queue.buffering.max.messages", "500000");
    let producer: Source = config.create().context("no producer")?;
    for number in 0..workload.messages {
        send(&producer, topic, number, &messages::value(number, workload.value_bytes))?;
    }
    producer.flush(CALL * 10).context("filling the source")?;
    let filled = Offsets::of(broker, "fill", topic, topic)?.readable()?;
    ensure!(
        filled == workload.messages,
        "{filled} of {} messages are in {topic}",
        workload.messages
    );
    Ok(())
}

/// Hands message `number` over, waiting while the producer's queue is full.
///
/// # Errors
/// When the producer takes no more messages.
pub(crate) fn send(
    producer: &Source,
    topic: &str,
    number: u64,
    value: &[u8],
) -> anyhow::Result<()> {
    let (key, header) =
        (messages::key(number), messages::header(number, messages::Keys::default()));
    let header = Header { key: &header.name, value: Some(&header.value[..]) };
    let mut record = BaseRecord::to(topic)
        .key(&key[..])
        .payload(value)
        .headers(OwnedHeaders::new_with_capacity(1).insert(header));
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(FULL);
            }
            Err((error, _)) => return Err(anyhow!("sending to {topic}: {error}")),
        }
    }
}

/// The number of a message, from its header, wherever it has got to.
pub(crate) fn number_of(message: &impl rdkafka::Message) -> Option<u64> {
    let headers = message.headers()?;
    let header = headers.iter().find(|header| header.key == "traceparent")?;
    messages::number(header.value?)
}
