//! The configuration, checked and complete: what every command works with.
//!
//! Third step of `config`. A [`Config`] exists only if nothing in the file is an error; every value
//! is within its bounds and every default is filled in.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_core::log::TopicSpec;
use millstream_core::message::Topic;
use millstream_core::pipeline_spec::PipelineSpec;
use millstream_sandbox::Limits;

use crate::config::bounds::{Bounds, Checker};
use crate::config::document::{Document, join};
use crate::config::raw::{RawConfig, RawHost, RawLog, RawNewTopics};
use crate::config::{pipeline, topics};
use crate::finding::{Code, Finding, Severity};

/// The checked file.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// What concerns the process.
    pub host: HostOptions,
    /// The log.
    pub log: LogOptions,
    /// The pipelines by name; may be none (tools work without).
    pub pipelines: Vec<PipelineConfig>,
    /// What works but is likely not meant so.
    pub warnings: Vec<Finding>,
}

/// `[host]`, checked.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Folder of the embedded log, compiled plugins and admin token.
    pub data_dir: PathBuf,
    /// Address of metrics, health and API; port 0 lets the system choose.
    pub admin: SocketAddr,
    /// What a caller of the API must show; `None`: made at start.
    pub admin_token: Option<Secret>,
}

/// `[log]`, checked.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// When a write counts as safe.
    pub durability: Durability,
    /// How missing topics are made.
    pub new_topics: NewTopics,
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
}

impl HostOptions {
    /// The embedded log's own folder.
    pub fn log_dir(&self) -> PathBuf {
        log_dir(&self.data_dir)
    }

    /// Where the token stands that this machine's commands show to the host.
    pub fn token_file(&self) -> PathBuf {
        token_file(&self.data_dir)
    }

    /// Where compiled plugins are kept.
    pub fn compiled_dir(&self) -> PathBuf {
        self.data_dir.join("compiled")
    }
}

/// The embedded log's folder within a data folder: a folder of its own, which the log wants.
pub fn log_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("log")
}

/// The file of the admin token within a data folder.
pub fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.token")
}

impl Default for NewTopics {
    fn default() -> Self {
        Self { partitions: 4, retention: None, retention_bytes: None, message_bytes_max: 1 << 20 }
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
        }
    }
}

/// `[pipelines.NAME]`, checked.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// What the core runs.
    pub spec: PipelineSpec,
    /// The plugin's file.
    pub plugin: PathBuf,
    /// What an attempt may use.
    pub limits: Limits,
    /// The plugin's settings (`wasi:config`); `None`: not granted.
    pub settings: Option<BTreeMap<String, Setting>>,
}

/// A setting of a plugin.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// What the plugin reads.
    pub value: String,
    /// Whether it came from a variable or a file, and so is never shown.
    pub secret: bool,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret { f.write_str("***") } else { write!(f, "{:?}", self.value) }
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text, for who needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the host listens if nothing else is said.
const ADMIN_DEFAULT: &str = "127.0.0.1:9464";
/// A token that can be guessed is no token.
const TOKEN_CHARS_MIN: usize = 16;
/// What fits in a header that every server takes.
const TOKEN_CHARS_MAX: usize = 512;
const DAY: Duration = Duration::from_secs(86_400);
/// Bounds of every retention.
pub const RETENTION: Bounds<Duration> = Bounds {
    min: (Duration::from_secs(60), "1m"),
    max: (Duration::from_secs(36_500 * 86_400), "36500d"),
    reason: "messages must outlive a restart; for no limit write \"forever\"",
};

/// Checks what was typed.
pub(super) fn check(document: &Document, raw: RawConfig) -> Result<Config, Vec<Finding>> {
    let mut checker = Checker::new(document);
    let host = host(&mut checker, raw.host);
    let log = log(&mut checker, raw.log);
    let grouped = topics::topics_of_several_groups(&raw.pipelines);
    let mut pipelines = Vec::new();
    for (name, pipeline) in raw.pipelines {
        let path = join("pipelines", &name);
        pipelines.push(pipeline::check(&mut checker, &path, name, pipeline, &grouped));
    }
    topics::check(&mut checker, &pipelines);
    let findings = checker.into_findings();
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(findings);
    }
    Ok(Config { file: document.file().to_owned(), host, log, pipelines, warnings: findings })
}

fn host(checker: &mut Checker<'_>, raw: RawHost) -> HostOptions {
    let data_dir = raw.data_dir.as_deref().unwrap_or("data");
    if data_dir.is_empty() {
        let fix = "name a folder, for example \"data\"";
        let finding = Finding::new(Code::BadValue, "`host.data_dir` is empty", fix);
        checker.value(finding, "host.data_dir");
    }
    let admin = address(checker, raw.admin.as_deref().unwrap_or(ADMIN_DEFAULT));
    if !admin.ip().is_loopback() && raw.admin_token.is_none() {
        let fix = "set `admin_token = \"${MILLSTREAM_ADMIN_TOKEN}\"`, or listen on 127.0.0.1";
        let finding = Finding::new(Code::Unsupported, "`host.admin` needs a token", fix);
        let why = "more than this machine reaches it, and it can read and write every topic";
        checker.value(finding.because(why), "host.admin");
    }
    if let Some(token) = &raw.admin_token {
        let visible = token.chars().all(|c| c.is_ascii_graphic());
        if !(TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&token.len()) || !visible {
            let fix = "make one with `openssl rand -hex 32`, and hand it in as `${VARIABLE}`";
            let finding = Finding::new(Code::BadValue, "`host.admin_token` is no token", fix);
            let why = format!(
                "it needs {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} characters, all visible ASCII"
            );
            checker.value(finding.because(why), "host.admin_token");
        } else if !checker.document.is_substituted("host.admin_token") {
            let fix = "hand it in as `${VARIABLE}` or `${file:PATH}`";
            let what = "`host.admin_token` stands in the file itself";
            let why = "who may read the configuration can then call the API";
            let finding = Finding::new(Code::BadValue, what, fix).because(why).warning();
            checker.value(finding, "host.admin_token");
        }
    }
    HostOptions {
        data_dir: checker.document.folder().join(data_dir),
        admin,
        admin_token: raw.admin_token.map(Secret),
    }
}

fn address(checker: &mut Checker<'_>, text: &str) -> SocketAddr {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    match numeric.as_deref().unwrap_or(text).parse() {
        Ok(address) => address,
        Err(_) => {
            let shown = checker.document.shown("host.admin", text);
            let fix = format!("write an IP address and a port, for example \"{ADMIN_DEFAULT}\"");
            let what = format!("`host.admin` cannot be {shown}");
            let finding = Finding::new(Code::BadValue, what, fix).because("it is no address");
            checker.value(finding, "host.admin");
            SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0)
        }
    }
}

fn log(checker: &mut Checker<'_>, raw: RawLog) -> LogOptions {
    let kind = raw.kind.as_deref().unwrap_or("embedded");
    let kafka = kind == "kafka";
    if kafka {
        let fix = "use `kind = \"embedded\"`; a later version reads and writes Kafka";
        let what = "`log.kind = \"kafka\"` is not in this version";
        let why = "this version has the embedded log only";
        let finding = Finding::new(Code::Unsupported, what, fix).because(why);
        checker.value(finding, "log.kind");
    } else {
        checker.word("log.kind", Some(kind), (), &[("embedded", ()), ("kafka", ())]);
    }
    let kafka_only =
        [("bootstrap_servers", raw.bootstrap_servers.is_some()), ("client", raw.client.is_some())];
    for (key, present) in kafka_only {
        if present && !kafka {
            let what = format!("`log.{key}` has no meaning for the embedded log");
            let finding = Finding::new(Code::Unsupported, what, "take it out");
            checker.key(finding.because("it belongs to `kind = \"kafka\"`"), &join("log", key));
        }
    }
    LogOptions {
        durability: durability(checker, raw.durability.as_deref()),
        new_topics: new_topics(checker, raw.new_topics.unwrap_or_default()),
    }
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
    }
}
