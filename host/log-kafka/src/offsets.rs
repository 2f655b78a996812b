//! Offsets: what the brokers tell of partitions, at their ends and at a time (ListOffsets).

use std::sync::Arc;

use millstream_core::log::{AppendedAfter, LogError};
use millstream_core::message::{Offset, Partition};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::client::CALL;
use crate::log::blocking;
use crate::polled::Polled;
use crate::records;
use crate::topics::Topics;

/// Kafka's names for the ends of a partition, in the place of a time (KIP-79).
pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;

/// LATEST or EARLIEST of partitions, in their order, as `client` may see them.
pub(crate) async fn all_at(
    client: &Arc<Polled>,
    topics: &Arc<Topics>,
    partitions: &[Partition],
    what: i64,
) -> Result<Vec<Offset>, LogError> {
    let asked = partitions.iter().map(|partition| (partition.clone(), what)).collect();
    let found = ask(client, topics, asked).await?;
    Ok(found.into_iter().map(Option::unwrap_or_default).collect())
}

/// See [`millstream_core::log::Log::first_after`]: one request for all.
pub(crate) async fn first_after(
    client: &Arc<Polled>,
    topics: &Arc<Topics>,
    asked: &[AppendedAfter],
) -> Result<Vec<Offset>, LogError> {
    // Below zero are names.
    let since = |asked: &AppendedAfter| asked.time.saturating_add(1).max(0);
    let open = asked.iter().filter(|asked| !asked.within.is_empty());
    let times: Vec<_> = open.map(|asked| (asked.partition.clone(), since(asked))).collect();
    let found = if times.is_empty() { Vec::new() } else { ask(client, topics, times).await? };
    let mut found = found.into_iter();
    let first = |asked: &AppendedAfter| {
        let (start, end) = (asked.within.start, asked.within.end);
        if asked.within.is_empty() {
            return start;
        }
        found.next().flatten().unwrap_or(end).clamp(start, end)
    };
    Ok(asked.iter().map(first).collect())
}

/// Asks for each partition at LATEST, EARLIEST or a time. `None`: nothing was appended since.
async fn ask(
    client: &Arc<Polled>,
    topics: &Arc<Topics>,
    asked: Vec<(Partition, i64)>,
) -> Result<Vec<Option<Offset>>, LogError> {
    let (client, topics) = (Arc::clone(client), Arc::clone(topics));
    blocking(move || {
        // It is there: who asks has looked. Its broker, or this client, does not know of it yet, or
        // again. Or it is gone since: who asks again looks again.
        let error_of = |operation: &str, error: &KafkaError| match error.rdkafka_error_code() {
            Some(Code::UnknownPartition | Code::UnknownTopicOrPartition) => {
                topics.forget();
                LogError::Unavailable(format!("{operation}: {error}"))
            }
            _ => client.error(operation, error),
        };
        let mut list = TopicPartitionList::with_capacity(asked.len());
        for (partition, what) in &asked {
            let number = records::raw_partition(partition.number);
            list.add_partition_offset(&partition.topic, number, rdkafka::Offset::from_raw(*what))
                .map_err(|error| client.error("ends", &error))?;
        }
        let found = client.offsets_for_times(list, CALL);
        let found = found.map_err(|error| error_of("asking for the ends", &error))?;
        let offset = |(partition, what): &(Partition, i64)| {
            let number = records::raw_partition(partition.number);
            let element = found.find_partition(&partition.topic, number);
            let operation = format!("asking for the ends of {partition}");
            let element =
                element.ok_or_else(|| LogError::Unavailable(format!("{operation}: none")))?;
            element.error().map_err(|error| error_of(&operation, &error))?;
            match element.offset() {
                rdkafka::Offset::Offset(offset) => Ok(Some(records::offset(offset))),
                rdkafka::Offset::End if *what >= 0 => Ok(None),
                other => Err(LogError::Unavailable(format!("{operation}: {other:?}"))),
            }
        };
        asked.iter().map(offset).collect()
    })
    .await
}
