//! The configuration file as it is typed: every key, nothing checked but the type.
//!
//! Second step of `config`. Durations (`"5s"`), sizes (`"64MiB"`) and words (`"key"`) are texts
//! here, so that `checked` can say what is wrong with them and where. A field's doc says its effect,
//! unit, default and worst case.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Visitor};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawConfig {
    /// What concerns the process.
    #[serde(default)]
    pub host: RawHost,
    /// The log that pipelines read and write.
    #[serde(default)]
    pub log: RawLog,
    /// Where spans of messages go. Default: nothing is traced.
    pub traces: Option<RawTraces>,
    /// The pipelines by name.
    #[serde(default)]
    pub pipelines: BTreeMap<String, RawPipeline>,
}

/// `[host]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHost {
    /// Folder of the embedded log, compiled plugins, the admin token and the host's id, relative to
    /// the file's folder. Default `data`.
    pub data_dir: Option<String>,
    /// Address of metrics, health and API. Default `127.0.0.1:9464`; anything but loopback needs
    /// `admin_token`.
    pub admin: Option<String>,
    /// What opens the whole admin API. Default: made at start, in `<data_dir>/admin.token`.
    pub admin_token: Option<String>,
    /// What opens only what changes nothing and shows no message. Default: none, and on loopback such
    /// reads are free.
    pub admin_read_token: Option<String>,
    /// What opens metrics and health only, for Prometheus. Default: none.
    pub metrics_token: Option<String>,
    /// Whether metrics and health are free beyond loopback too. Default `false`.
    pub open_probes: Option<bool>,
    /// Further names (`name` or `name:port`) by which the admin API is reached: those of a service, a proxy or a
    /// forwarded port. Default: none; the `Host` header must be the address itself.
    pub allowed_hosts: Option<Vec<String>>,
    /// Kafka: names this host among those alive, and again after a restart. Two hosts with one id put
    /// one another out. Default: made once, in `<data_dir>/host.id`.
    pub id: Option<String>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLog {
    /// `embedded` (default): a folder of this machine. `kafka`: a cluster.
    pub kind: Option<String>,
    /// Embedded. `always` (default): every write is on disk before it is answered. A duration: at
    /// least so often; a power cut may cost what was written since.
    pub durability: Option<String>,
    /// How topics are made that the pipelines need and the log does not have.
    pub new_topics: Option<RawNewTopics>,
    /// Kafka: `host:port` of some brokers, separated by commas; the others are found by them.
    pub bootstrap_servers: Option<String>,
    /// Kafka: properties of librdkafka. Those the promises rest on are refused by name; secrets must
    /// come from `${…}`.
    pub client: Option<BTreeMap<String, Scalar>>,
    /// Kafka: `classic` (default), the members of a group agree on who reads what; `consumer`, the
    /// broker decides (experimental).
    pub group_protocol: Option<String>,
    /// Kafka: whether a host that is back within the session timeout keeps its partitions. Default
    /// `false`; with `true` the partitions of a host that is gone wait that long.
    pub static_membership: Option<bool>,
    /// Kafka: a file with a JSON Web Token for SASL/OAUTHBEARER, read anew before the token expires.
    pub oauth_token_file: Option<String>,
}

/// `[log] new_topics`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawNewTopics {
    /// Partitions: the most messages of one topic that are handled in order side by side. Default 4.
    pub partitions: Option<u32>,
    /// Messages older than this may be removed, handled or not. Default `forever`.
    pub retention: Option<String>,
    /// A partition larger than this loses its oldest messages. Default: no limit.
    pub retention_bytes: Option<String>,
    /// The largest message taken (key, value, headers). Default `1MiB`.
    pub message_max: Option<String>,
    /// Kafka: copies of each partition. Default: the cluster's.
    pub replication: Option<u32>,
}

/// `[traces]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTraces {
    /// Who takes spans, by OTLP over HTTP: `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// Headers that go with them. Secrets must come from `${…}`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The share of the messages without `traceparent` that is traced. Default 0.01.
    pub sample: Option<f64>,
    /// The name of the service under which spans are found. Default `millstream`.
    pub service: Option<String>,
}

/// `[pipelines.NAME]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPipeline {
    /// What it reads.
    pub source: RawSource,
    /// The plugin's file, relative to the configuration's folder. Once a version was deployed that runs instead.
    pub plugin: String,
    /// Where the plugin's outputs go: name to topic. Default: none, the plugin may send nothing.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// `at_least_once` (default), `exactly_once`, `at_most_once`.
    pub delivery: Option<String>,
    /// `key` (default), `partition`, `none`.
    pub ordering: Option<String>,
    /// The bound of what is being handled.
    #[serde(default)]
    pub in_flight: RawInFlight,
    /// The bound of what waits in memory, for each partition, for an earlier message of its key.
    #[serde(default)]
    pub waiting: RawWaiting,
    /// Plugin instances, which is how many messages are handled at once. Default: one per core.
    pub instances: Option<u32>,
    /// What happens to messages that fail.
    #[serde(default)]
    pub retry: RawRetry,
    /// Where messages go that are out of attempts or rejected.
    #[serde(default)]
    pub dead_letter: RawDeadLetter,
    /// Which messages count as the same. Default: none do.
    pub idempotency: Option<RawIdempotency>,
    /// What a handling attempt may use.
    #[serde(default)]
    pub limits: RawLimits,
    /// What the plugin may use of the world. Default: its log only.
    #[serde(default)]
    pub capabilities: RawCapabilities,
    /// When progress is written down.
    #[serde(default)]
    pub commit: RawCommit,
    /// How long a stop waits for handlers that run. Default `10s`; then they are cancelled and their
    /// messages handled again at the next start.
    pub drain: Option<String>,
    /// How long the commit of a partition may stand still before the log and the metrics say why. Default
    /// `1m`.
    pub held_up_after: Option<String>,
    /// How much of this pipeline is traced. Default: as `[traces]` says.
    #[serde(default)]
    pub traces: RawPipelineTraces,
}

/// `source`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSource {
    /// The topics, at least one.
    pub topics: Vec<String>,
    /// The consumer group. Default: the pipeline's name.
    pub group: Option<String>,
    /// Where a group without a commit begins: `earliest` (default) or `latest`.
    pub start: Option<String>,
}

/// `in_flight`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawInFlight {
    /// Messages. Default 1000.
    pub messages: Option<u32>,
    /// Bytes. Default `64MiB`; one larger message goes alone.
    pub bytes: Option<String>,
}

/// `waiting`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWaiting {
    /// Messages. Default 100000; what has no room waits in a retry tier.
    pub messages: Option<u32>,
    /// Bytes. Default `256MiB`.
    pub bytes: Option<String>,
}

/// `retry`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRetry {
    /// The wait before each further attempt. Default `["5s", "30s", "5m"]`; `[]` sends a failed
    /// message to the dead letters at once.
    pub delays: Option<Vec<String>>,
    /// Name of the retry tiers. Default `{topic}.retry.{delay}`, with `{group}` when several groups
    /// read one topic.
    pub topic: Option<String>,
    /// Whether later messages wait while one is retried. Default `true`: with `ordering = "key"` those of
    /// its key, with `"partition"` all of the partition. `false` lets them pass.
    pub keep_order: Option<bool>,
    /// Longest wait after a `pause` failure. Default `1m`.
    pub pause_max: Option<String>,
}

/// `dead_letter`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDeadLetter {
    /// The topic's name. Default `{topic}.dlq`, with `{group}` when several groups read one topic.
    pub topic: Option<String>,
    /// How long dead letters are kept. Default `14d`; `forever` keeps them.
    pub retention: Option<String>,
    /// A message with which so many hosts died becomes a dead letter. Default 5; 0: never.
    pub after_host_crashes: Option<u32>,
    /// A letter that was redriven so often and failed again is parked. Default 3; 0: never.
    pub park_after: Option<u32>,
    /// Whether `dlq show` and the admin API's read token see size and digest instead of values. Default `false`.
    pub mask: Option<bool>,
    /// Headers that are masked likewise, by name. Default none.
    #[serde(default)]
    pub mask_headers: Vec<String>,
}

/// `idempotency`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawIdempotency {
    /// `header:NAME`, `key` or `json:POINTER`.
    pub key: String,
    /// How long a handled key is remembered. Default `7d`; a repeat after that is handled again.
    pub ttl: Option<String>,
    /// A message without key: `reject` (default) or `handle`.
    pub missing: Option<String>,
}

/// `limits`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLimits {
    /// Memory of one instance. Default `64MiB`.
    pub memory: Option<String>,
    /// Time of one attempt, by the wall clock. Default `1s`.
    pub time: Option<String>,
    /// Bytes of all outputs of one message. Default `1MiB`.
    pub output: Option<String>,
    /// Number of outputs of one message. Default 1000.
    pub outputs: Option<u32>,
    /// Number of headers of one output. Default 64.
    pub headers: Option<u32>,
    /// Bytes of all headers of one output. Default `64KiB`.
    pub header_bytes: Option<String>,
    /// Function pointers of one instance. Default 50000, enough for interpreters.
    pub table: Option<u32>,
    /// Log lines of one attempt; more are counted and dropped. Default 100.
    pub log_lines: Option<u32>,
}

/// `capabilities`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCapabilities {
    /// Settings the plugin reads by `wasi:config`. Absent: the interface is not granted.
    pub config: Option<BTreeMap<String, Scalar>>,
}

/// `traces`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPipelineTraces {
    /// The share of its messages without `traceparent` that is traced. Default: that of `[traces]`.
    pub sample: Option<f64>,
}

/// `commit`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCommit {
    /// How often what is settled is committed. Default `250ms`; a crash repeats at most so much. On
    /// Kafka with `exactly_once`: how often a transaction is committed, default `50ms`.
    pub interval: Option<String>,
    /// How often what stands is committed again though nothing was settled. Default `1d`.
    pub refresh: Option<String>,
}

/// A setting for a plugin: a text, number or boolean, handed over as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, number or boolean")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}
