//! `[log]`, from texts to a kind of log with what belongs to it.
//!
//! Part of `checked`. Keys of the other kind are refused: a key that does nothing would be taken for
//! one that does.

use std::time::Duration;

use millstream_core::log::TopicSpec;
use millstream_core::message::Topic;

use crate::config::bounds::{Bounds, Checker};
use crate::config::checked::RETENTION;
use crate::config::document::join;
use crate::config::kafka::{self, KafkaConfig};
use crate::config::raw::{RawLog, RawNewTopics};
use crate::finding::{Code, Finding};

/// `[log]`, checked.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Which log, and how it is used.
    pub kind: LogKind,
    /// How missing topics are made.
    pub new_topics: NewTopics,
}

/// Which log, and how it is used.
#[derive(Clone, Debug)]
pub enum LogKind {
    /// A folder of this machine.
    Embedded {
        /// When a write counts as safe.
        durability: Durability,
    },
    /// A cluster.
    Kafka(KafkaConfig),
}

/// When a write to the embedded log counts as safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On disk before it is answered.
    Always,
    /// On disk at least so often; a power cut may cost what was written since.
    Interval(Duration),
}

/// How topics are made that pipelines need and the log does not have.
#[derive(Clone, Debug)]
pub struct NewTopics {
    /// Partitions.
    pub partitions: u32,
    /// How long messages are kept; `None` for ever.
    pub retention: Option<Duration>,
    /// Largest size of a partition; `None` is no limit.
    pub retention_bytes: Option<u64>,
    /// Largest message: key, value and headers.
    pub message_bytes_max: usize,
    /// Copies of each partition; `None` leaves it to the log.
    pub replication: Option<u32>,
}

impl LogKind {
    /// Whether it is Kafka.
    pub fn is_kafka(&self) -> bool {
        matches!(self, Self::Kafka(_))
    }
}

impl Default for NewTopics {
    fn default() -> Self {
        Self {
            partitions: 4,
            retention: None,
            retention_bytes: None,
            message_bytes_max: 1 << 20,
            replication: None,
        }
    }
}

impl NewTopics {
    /// A topic made this way.
    pub fn spec(&self, name: Topic) -> TopicSpec {
        TopicSpec {
            name,
            partitions: self.partitions,
            retention: self.retention,
            retention_bytes: self.retention_bytes,
            message_bytes_max: self.message_bytes_max,
            append_time: false,
            compacted: false,
            replication: self.replication,
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// Checks `[log]`.
pub(super) fn check(checker: &mut Checker<'_>, raw: RawLog) -> LogOptions {
    let kinds = [("embedded", false), ("kafka", true)];
    let is_kafka = checker.word("log.kind", raw.kind.as_deref(), false, &kinds);
    let of_the_other: &[(&str, bool)] = if is_kafka {
        &[("durability", raw.durability.is_some())]
    } else {
        &[
            ("bootstrap_servers", raw.bootstrap_servers.is_some()),
            ("client", raw.client.is_some()),
            ("group_protocol", raw.group_protocol.is_some()),
            ("static_membership", raw.static_membership.is_some()),
            ("oauth_token_file", raw.oauth_token_file.is_some()),
        ]
    };
    for (key, present) in of_the_other {
        if *present {
            no_meaning(checker, &join("log", key), is_kafka);
        }
    }
    let new_topics = raw.new_topics.unwrap_or_default();
    if new_topics.replication.is_some() && !is_kafka {
        no_meaning(checker, "log.new_topics.replication", is_kafka);
    }
    let new_topics = self::new_topics(checker, new_topics);
    let kind = if is_kafka {
        let raw = kafka::RawKafka {
            bootstrap_servers: raw.bootstrap_servers,
            client: raw.client.unwrap_or_default(),
            group_protocol: raw.group_protocol,
            static_membership: raw.static_membership,
            oauth_token_file: raw.oauth_token_file,
        };
        LogKind::Kafka(kafka::check(checker, raw))
    } else {
        LogKind::Embedded { durability: durability(checker, raw.durability.as_deref()) }
    };
    LogOptions { kind, new_topics }
}

/// The key `path` belongs to the other kind of log.
pub(super) fn no_meaning(checker: &mut Checker<'_>, path: &str, is_kafka: bool) {
    let (here, other) =
        if is_kafka { ("Kafka", "embedded") } else { ("the embedded log", "kafka") };
    let what = format!("`{path}` has no meaning for {here}");
    let finding = Finding::new(Code::Unsupported, what, "take it out");
    checker.key(finding.because(format!("it belongs to `kind = \"{other}\"`")), path);
}

fn durability(checker: &mut Checker<'_>, text: Option<&str>) -> Durability {
    const INTERVAL: Bounds<Duration> = Bounds {
        min: (Duration::from_millis(1), "1ms"),
        max: (Duration::from_secs(60), "1m"),
        reason: "a power cut costs what was written in this time; for none write \"always\"",
    };
    match text {
        None | Some("always") => Durability::Always,
        Some(_) => {
            let path = "log.durability";
            Durability::Interval(checker.duration(path, text, DAY, INTERVAL))
        }
    }
}

fn new_topics(checker: &mut Checker<'_>, raw: RawNewTopics) -> NewTopics {
    const PARTITIONS: Bounds<u32> = Bounds {
        min: (1, "1"),
        max: (1024, "1024"),
        reason: "a topic has a partition at least, and each costs memory and open files",
    };
    const PARTITION_BYTES: Bounds<u64> = Bounds {
        min: (1 << 20, "1MiB"),
        max: (1 << 50, "1PiB"),
        reason: "a smaller partition would lose messages before they are read",
    };
    const MESSAGE_BYTES: Bounds<u64> = Bounds {
        min: (1 << 10, "1KiB"),
        max: (64 << 20, "64MiB"),
        reason: "a message is held in memory whole, several times over",
    };
    const REPLICATION: Bounds<u32> = Bounds {
        min: (1, "1"),
        max: (100, "100"),
        reason: "each partition is there once at least, and on no broker twice",
    };
    let path = |key: &str| join("log.new_topics", key);
    let bytes = raw.retention_bytes.as_deref();
    let default = NewTopics::default();
    NewTopics {
        partitions: checker.count(
            &path("partitions"),
            raw.partitions,
            default.partitions,
            PARTITIONS,
        ),
        retention: checker.retention(&path("retention"), raw.retention.as_deref(), None, RETENTION),
        retention_bytes: bytes
            .map(|text| checker.size(&path("retention_bytes"), Some(text), 0, PARTITION_BYTES)),
        message_bytes_max: checker.size_in_memory(
            &path("message_max"),
            raw.message_max.as_deref(),
            default.message_bytes_max as u64,
            MESSAGE_BYTES,
        ),
        replication: raw
            .replication
            .map(|count| checker.count(&path("replication"), Some(count), 1, REPLICATION)),
    }
}
