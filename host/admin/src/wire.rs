//! The log's port as JSON, the same types for server and client.
//!
//! Bytes stand as in lines of messages: text as a string, else `{"base64":"…"}`; absent as `null`.
//! What arrives is hostile until converted; the log checks topics and sizes itself.

use std::time::Duration;

use bytes::Bytes;
use millstream_core::jsonl::Payload;
use millstream_core::log::{Appended, Commit, Ends, RecordError, TopicSpec};
use millstream_core::message::{EpochMs, Header, Message, Offset, Partition, Record};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartitionJson {
    pub(crate) topic: String,
    pub(crate) partition: u32,
}

impl From<&Partition> for PartitionJson {
    fn from(partition: &Partition) -> Self {
        Self { topic: partition.topic.to_string(), partition: partition.number }
    }
}

impl From<PartitionJson> for Partition {
    fn from(json: PartitionJson) -> Self {
        Self::new(json.topic, json.partition)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordJson {
    topic: String,
    #[serde(default)]
    partition: Option<u32>,
    #[serde(default)]
    timestamp: Option<EpochMs>,
    #[serde(default)]
    key: Option<Payload>,
    // Not defaulted: a tombstone deletes, so it must be written as `null`.
    #[serde(deserialize_with = "given")]
    value: Option<Payload>,
    #[serde(default)]
    headers: Vec<(String, Payload)>,
}

fn given<'de, D: serde::Deserializer<'de>>(json: D) -> Result<Option<Payload>, D::Error> {
    Option::deserialize(json)
}

impl From<&Record> for RecordJson {
    fn from(record: &Record) -> Self {
        Self {
            topic: record.topic.to_string(),
            partition: record.partition,
            timestamp: record.timestamp,
            key: record.key.clone().map(Payload),
            value: record.value.clone().map(Payload),
            headers: headers_out(&record.headers),
        }
    }
}

impl From<RecordJson> for Record {
    fn from(json: RecordJson) -> Self {
        Self {
            topic: json.topic.into(),
            partition: json.partition,
            timestamp: json.timestamp,
            key: json.key.map(|key| key.0),
            value: json.value.map(|value| value.0),
            headers: headers_in(json.headers),
        }
    }
}

/// A message of an answer that names its partition once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MessageJson {
    offset: Offset,
    timestamp: EpochMs,
    key: Option<Payload>,
    value: Option<Payload>,
    headers: Vec<(String, Payload)>,
}

impl From<&Message> for MessageJson {
    fn from(message: &Message) -> Self {
        Self {
            offset: message.offset,
            timestamp: message.timestamp,
            key: message.key.clone().map(Payload),
            value: message.value.clone().map(Payload),
            headers: headers_out(&message.headers),
        }
    }
}

impl MessageJson {
    pub(crate) fn of(self, partition: &Partition) -> Message {
        Message {
            topic: partition.topic.clone(),
            partition: partition.number,
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.map(|key| key.0),
            value: self.value.map(|value| value.0),
            headers: headers_in(self.headers),
        }
    }
}

fn headers_out(headers: &[Header]) -> Vec<(String, Payload)> {
    headers.iter().map(|h| (h.name.to_string(), Payload(h.value.clone()))).collect()
}

fn headers_in(headers: Vec<(String, Payload)>) -> Vec<Header> {
    headers.into_iter().map(|(name, value)| Header::new(name, value.0)).collect()
}

/// `PUT /topics/{name}` has the name in its path.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopicJson {
    partitions: u32,
    #[serde(default)]
    retention_ms: Option<u64>,
    #[serde(default)]
    retention_bytes: Option<u64>,
    message_bytes_max: usize,
    #[serde(default)]
    append_time: bool,
    #[serde(default)]
    compacted: bool,
    #[serde(default)]
    replication: Option<u32>,
}

impl From<&TopicSpec> for TopicJson {
    fn from(spec: &TopicSpec) -> Self {
        // Some 584 million years fit; longer is as good as that.
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            partitions: spec.partitions,
            retention_ms: spec.retention.map(millis),
            retention_bytes: spec.retention_bytes,
            message_bytes_max: spec.message_bytes_max,
            append_time: spec.append_time,
            compacted: spec.compacted,
            replication: spec.replication,
        }
    }
}

impl TopicJson {
    pub(crate) fn named(self, name: &str) -> TopicSpec {
        TopicSpec {
            name: name.into(),
            partitions: self.partitions,
            retention: self.retention_ms.map(Duration::from_millis),
            retention_bytes: self.retention_bytes,
            message_bytes_max: self.message_bytes_max,
            append_time: self.append_time,
            compacted: self.compacted,
            replication: self.replication,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NamedTopicJson {
    pub(crate) name: String,
    // Written out below it: `flatten` and `deny_unknown_fields` exclude one another.
    pub(crate) spec: TopicJson,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TopicsAnswer {
    pub(crate) cluster_id: String,
    pub(crate) commit_metadata_bytes_max: usize,
    pub(crate) topics: Vec<NamedTopicJson>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppendRequest {
    pub(crate) records: Vec<RecordJson>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AppendAnswer {
    /// One for each record, in order.
    pub(crate) results: Vec<AppendResult>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum AppendResult {
    Appended { partition: u32, offset: Offset },
    Refused { refused: Refusal, error: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Refusal {
    TooLarge { topic: String, size_bytes: usize, max_bytes: usize },
    UnknownTopic { topic: String, reason: String },
    Denied { topic: String, reason: String },
}

impl From<Result<Appended, RecordError>> for AppendResult {
    fn from(result: Result<Appended, RecordError>) -> Self {
        let error = match result {
            Ok(Appended { partition, offset }) => return Self::Appended { partition, offset },
            Err(error) => error,
        };
        let text = error.to_string();
        let refused = match error {
            RecordError::TooLarge { topic, size_bytes, max_bytes } => {
                Refusal::TooLarge { topic: topic.to_string(), size_bytes, max_bytes }
            }
            RecordError::UnknownTopic { topic, reason } => {
                Refusal::UnknownTopic { topic: topic.to_string(), reason }
            }
            RecordError::Denied { topic, reason } => {
                Refusal::Denied { topic: topic.to_string(), reason }
            }
        };
        Self::Refused { refused, error: text }
    }
}

impl From<AppendResult> for Result<Appended, RecordError> {
    fn from(result: AppendResult) -> Self {
        let refused = match result {
            AppendResult::Appended { partition, offset } => {
                return Ok(Appended { partition, offset });
            }
            AppendResult::Refused { refused, .. } => refused,
        };
        Err(match refused {
            Refusal::TooLarge { topic, size_bytes, max_bytes } => {
                RecordError::TooLarge { topic: topic.into(), size_bytes, max_bytes }
            }
            Refusal::UnknownTopic { topic, reason } => {
                RecordError::UnknownTopic { topic: topic.into(), reason }
            }
            Refusal::Denied { topic, reason } => {
                RecordError::Denied { topic: topic.into(), reason }
            }
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriterRequest {
    pub(crate) name: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WriterAnswer {
    pub(crate) token: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppendAllRequest {
    pub(crate) name: String,
    pub(crate) token: u64,
    pub(crate) records: Vec<RecordJson>,
}

/// All are appended, or none because of this one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AppendAllAnswer {
    pub(crate) offender: Option<(usize, AppendResult)>,
}

/// `messages` and `bytes` are clamped by the server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FetchRequest {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) from: Offset,
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// Written by hand by the server, which must know the size of what it has so far.
#[derive(Debug, Deserialize)]
pub(crate) struct FetchAnswer {
    pub(crate) messages: Vec<MessageJson>,
    pub(crate) next: Offset,
    pub(crate) end: Offset,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndsRequest {
    pub(crate) partitions: Vec<PartitionJson>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndsAnswer {
    pub(crate) ends: Vec<EndsJson>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndsJson {
    start: Offset,
    end: Offset,
    high: Offset,
}

impl From<Ends> for EndsJson {
    fn from(Ends { start, end, high }: Ends) -> Self {
        Self { start, end, high }
    }
}

impl From<EndsJson> for Ends {
    fn from(EndsJson { start, end, high }: EndsJson) -> Self {
        Self { start, end, high }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommittedRequest {
    pub(crate) group: String,
    pub(crate) partitions: Vec<PartitionJson>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CommittedAnswer {
    pub(crate) commits: Vec<Option<CommitJson>>,
}

/// Ranges as pairs of first offset and the offset behind the last.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CommitJson {
    next: Offset,
    settled_above: Vec<(Offset, Offset)>,
    attempts: Vec<(Offset, u32)>,
    #[serde(default)]
    owners: u32,
    #[serde(default)]
    suspects: Vec<(Offset, u32)>,
}

impl From<Commit> for CommitJson {
    fn from(Commit { next, settled_above, attempts, owners, suspects }: Commit) -> Self {
        let settled_above =
            settled_above.into_iter().map(|range| (range.start, range.end)).collect();
        Self { next, settled_above, attempts, owners, suspects }
    }
}

impl From<CommitJson> for Commit {
    fn from(CommitJson { next, settled_above, attempts, owners, suspects }: CommitJson) -> Self {
        let settled_above = settled_above.into_iter().map(|(start, end)| start..end).collect();
        Self { next, settled_above, attempts, owners, suspects }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteBeforeRequest {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) before: Offset,
}

/// An answer that says nothing but that it is done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {}

/// What `payload` of a record comes to as JSON: an upper bound, for chunks that fit.
pub(crate) fn json_bytes_max(record: &Record) -> usize {
    let payload = |bytes: &Bytes| {
        let escaped = |byte: &u8| match byte {
            b'"' | b'\\' => 2,
            0..0x20 => 6,
            _ => 1,
        };
        let text: usize = bytes.iter().map(escaped).sum();
        text.max(bytes.len().div_ceil(3) * 4) + 16
    };
    let headers = record.headers.iter().map(|h| payload(h.name.as_bytes()) + payload(&h.value) + 8);
    let key_and_value = record.key.iter().chain(&record.value).map(payload);
    // Field names, numbers and the topic.
    160 + record.topic.len() * 6 + key_and_value.sum::<usize>() + headers.sum::<usize>()
}
