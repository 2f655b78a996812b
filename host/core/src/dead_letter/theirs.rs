//! Theirs: dead letters of other programs, by the headers they write.
//!
//! Read: Spring Kafka (`kafka_dlt-…`, `DeadLetterPublishingRecoverer`; numbers are big-endian bytes), Kafka Connect
//! (`__connect.errors.…`, with `errors.deadletterqueue.context.headers.enable`) and Kafka Streams (KIP-1034,
//! `__streams.errors.…`). They lie in topics that anyone may write to: nothing is taken on trust, and what cannot be
//! what it should is as if it were not there.

use bytes::Bytes;

use crate::headers;
use crate::message::{EpochMs, Header, Offset};

const SPRING: &str = "kafka_dlt-";
/// What Spring's retry topics count with: attempts begin anew.
const SPRING_RETRIES: &str = "retry_topic-";
/// Set by a deserializer that failed: the exception as Java objects.
const SPRING_EXCEPTION: &str = "springDeserializerException";
const CONNECT: &str = "__connect.errors.";
const STREAMS: &str = "__streams.errors.";

/// Longest text that is taken from a header.
const TEXT_BYTES_MAX: usize = 16 << 10;
const NAME_BYTES_MAX: usize = 249;

/// Who wrote a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    SpringKafka,
    KafkaConnect,
    KafkaStreams,
}

impl Writer {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::SpringKafka => "spring-kafka",
            Self::KafkaConnect => "kafka-connect",
            Self::KafkaStreams => "kafka-streams",
        }
    }
}

/// What another program's dead letter says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Theirs {
    pub(super) writer: Writer,
    /// Where it was at first, as far as it says.
    pub(super) topic: Option<String>,
    pub(super) partition: Option<u32>,
    pub(super) offset: Option<Offset>,
    pub(super) timestamp: Option<EpochMs>,
    /// Whose handling failed: a group, or a connector and its task.
    pub(super) handler: Option<String>,
    /// The simple name of the exception's class.
    pub(super) kind: String,
    pub(super) reason: String,
    pub(super) stack: Option<String>,
}

/// Reads the headers of a dead letter; `None` if they are none of these programs'.
pub(super) fn read(all: &[Header]) -> Option<Theirs> {
    let has = |prefix: &str| all.iter().any(|header| header.name.starts_with(prefix));
    if has(STREAMS) {
        return Some(streams(&Reader { all, prefix: STREAMS }));
    }
    if has(CONNECT) {
        return Some(connect(&Reader { all, prefix: CONNECT }));
    }
    has(SPRING).then(|| spring(&Reader { all, prefix: SPRING }))
}

/// The headers the message had before it became a dead letter.
pub(super) fn strip(all: &[Header]) -> Vec<Header> {
    let theirs = [SPRING, SPRING_RETRIES, SPRING_EXCEPTION, CONNECT, STREAMS];
    let is_theirs = |header: &Header| theirs.iter().any(|prefix| header.name.starts_with(prefix));
    let mut kept = headers::strip(all);
    kept.retain(|header| !is_theirs(header));
    kept
}

fn streams(read: &Reader<'_>) -> Theirs {
    let (kind, reason) = failure(read.text("exception"), read.text("message"));
    Theirs {
        writer: Writer::KafkaStreams,
        topic: read.name("topic"),
        partition: read.number("partition"),
        offset: read.number("offset"),
        timestamp: None,
        handler: None,
        kind,
        reason,
        stack: read.text("stacktrace"),
    }
}

fn connect(read: &Reader<'_>) -> Theirs {
    let stack = read.text("exception.stacktrace");
    let message = read.text("exception.message");
    let (kind, mut reason) = failure(read.text("exception.class.name"), message);
    // Converters say "… serialization error: " and no more.
    if reason.trim_end().ends_with(':')
        && let Some(cause) = stack.as_deref().and_then(last_cause)
    {
        reason = format!("{} {cause}", reason.trim_end());
    }
    if let Some(stage) = read.text("stage") {
        reason = format!("{}: {reason}", stage.to_ascii_lowercase().replace('_', " "));
    }
    let task = read.text("task.id").map(|task| format!(" task {task}")).unwrap_or_default();
    Theirs {
        writer: Writer::KafkaConnect,
        topic: read.name("topic"),
        partition: read.number("partition"),
        offset: read.number("offset"),
        timestamp: None,
        handler: read.text("connector.name").map(|name| format!("{name}{task}")),
        kind,
        reason,
        stack,
    }
}

/// What stands in the innermost exception of a Java stack.
fn last_cause(stack: &str) -> Option<&str> {
    stack.lines().rev().find_map(|line| line.trim_start().strip_prefix("Caused by: "))
}

fn spring(read: &Reader<'_>) -> Theirs {
    // The class that failed stands in the cause; the outermost is the listener's own.
    let class = read.text("exception-cause-fqcn").or_else(|| read.text("exception-fqcn"));
    let class = class.or_else(|| read.text("key-exception-fqcn"));
    let message = read.text("exception-message").or_else(|| read.text("key-exception-message"));
    let (kind, reason) = failure(class, message);
    let number = |name: &str| {
        let value = read.value(name)?;
        let number: i64 = match value.len() {
            4 => i32::from_be_bytes(value.as_ref().try_into().ok()?).into(),
            8 => i64::from_be_bytes(value.as_ref().try_into().ok()?),
            _ => return None,
        };
        Some(number)
    };
    Theirs {
        writer: Writer::SpringKafka,
        topic: read.name("original-topic"),
        partition: number("original-partition").and_then(|number| number.try_into().ok()),
        offset: number("original-offset").and_then(|number| number.try_into().ok()),
        timestamp: number("original-timestamp"),
        handler: read.text("original-consumer-group"),
        kind,
        reason,
        stack: read.text("exception-stacktrace").or_else(|| read.text("key-exception-stacktrace")),
    }
}

/// Kind and reason of an exception's class and message.
fn failure(class: Option<String>, message: Option<String>) -> (String, String) {
    let class = class.unwrap_or_default();
    let simple = class.rsplit(['.', '$']).next().unwrap_or_default();
    let kind = if simple.is_empty() { "unknown" } else { simple };
    let reason = message.filter(|message| !message.is_empty()).unwrap_or(class.clone());
    (kind.to_owned(), reason)
}

struct Reader<'a> {
    all: &'a [Header],
    prefix: &'static str,
}

impl Reader<'_> {
    /// Of repeated ones the last: the program that wrote the letter last adds its own behind.
    fn value(&self, name: &str) -> Option<&Bytes> {
        let named = |header: &&Header| header.name.strip_prefix(self.prefix) == Some(name);
        self.all.iter().rev().find(named).map(|header| &header.value)
    }

    fn text(&self, name: &str) -> Option<String> {
        let value = self.value(name)?;
        let part = value.get(..value.len().min(TEXT_BYTES_MAX)).unwrap_or_default();
        Some(String::from_utf8_lossy(part).into_owned())
    }

    /// A topic's name.
    fn name(&self, name: &str) -> Option<String> {
        let value = self.value(name).filter(|value| value.len() <= NAME_BYTES_MAX)?;
        let text = std::str::from_utf8(value).ok()?;
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        (!text.is_empty() && text.chars().all(legal)).then(|| text.to_owned())
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        std::str::from_utf8(self.value(name)?).ok()?.parse().ok()
    }
}
