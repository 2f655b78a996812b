//! The configuration, checked and complete: what every command works with.
//!
//! Third step of `config`. A [`Config`] exists only if nothing in the file is an error; every value
//! is within its bounds and every default is filled in.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_core::pipeline_spec::PipelineSpec;
use millstream_sandbox::Limits;

use crate::config::bounds::{Bounds, Checker};
use crate::config::document::{Document, join};
use crate::config::log::{self, LogOptions};
use crate::config::names::Kind;
use crate::config::raw::{RawConfig, RawHost};
use crate::config::traces::{self, TracesOptions};
use crate::config::{admin, pipeline, topics};
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
    /// Where spans go; `None`: nothing is traced.
    pub traces: Option<TracesOptions>,
    /// The pipelines by name; may be none (tools work without).
    pub pipelines: Vec<PipelineConfig>,
    /// What works but is likely not meant so.
    pub warnings: Vec<Finding>,
}

/// `[host]`, checked.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Folder of the embedded log, compiled plugins, admin token and the host's id.
    pub data_dir: PathBuf,
    /// Address of metrics, health and API; port 0 lets the system choose.
    pub admin: SocketAddr,
    /// What opens the whole API; `None`: made at start.
    pub admin_token: Option<Secret>,
    /// What opens only reads; `None`: on loopback they are free.
    pub admin_read_token: Option<Secret>,
    /// What opens metrics and health only.
    pub metrics_token: Option<Secret>,
    /// Whether metrics and health are free beyond loopback too.
    pub open_probes: bool,
    /// Further names by which the API is reached.
    pub allowed_hosts: Vec<String>,
    /// Which host this is to a cluster; `None`: made once, and kept in `data_dir`.
    pub id: Option<String>,
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

    /// Where the host's id is kept.
    pub fn id_file(&self) -> PathBuf {
        self.data_dir.join("host.id")
    }

    /// Where copies of idempotency marks that lie in a cluster are kept, a folder for each cluster.
    pub fn marks_dir(&self) -> PathBuf {
        self.data_dir.join("marks")
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
    /// The share of its messages that is traced, if it is another than that of `[traces]`.
    pub trace_sample: Option<f64>,
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
    /// Keeps a text from being shown.
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

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
/// Bounds of every retention.
pub const RETENTION: Bounds<Duration> = Bounds {
    min: (Duration::from_secs(60), "1m"),
    max: (Duration::from_secs(36_500 * 86_400), "36500d"),
    reason: "messages must outlive a restart; for no limit write \"forever\"",
};

/// Checks what was typed.
pub(super) fn check(document: &Document, raw: RawConfig) -> Result<Config, Vec<Finding>> {
    let mut checker = Checker::new(document);
    let log = log::check(&mut checker, raw.log);
    let host = host(&mut checker, raw.host, log.kind.is_kafka());
    let grouped = topics::topics_of_several_groups(&raw.pipelines);
    let mut pipelines = Vec::new();
    for (name, pipeline) in raw.pipelines {
        let path = join("pipelines", &name);
        pipelines.push(pipeline::check(&mut checker, &path, name, pipeline, &grouped, &log.kind));
    }
    topics::check(&mut checker, &pipelines);
    let traces = raw.traces.map(|raw| traces::check(&mut checker, raw));
    for pipeline in pipelines.iter().filter(|_| traces.is_none()) {
        if pipeline.trace_sample.is_some() {
            traces::without_receiver(&mut checker, &pipeline.spec.name);
        }
    }
    let findings = checker.into_findings();
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(findings);
    }
    let file = document.file().to_owned();
    Ok(Config { file, host, log, traces, pipelines, warnings: findings })
}

fn host(checker: &mut Checker<'_>, raw: RawHost, is_kafka: bool) -> HostOptions {
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
    admin::check(checker, &raw);
    if let Some(id) = &raw.id {
        if is_kafka {
            checker.name("host.id", id, Kind::Host);
        } else {
            log::no_meaning(checker, "host.id", is_kafka);
        }
    }
    HostOptions {
        data_dir: checker.document.folder().join(data_dir),
        admin,
        admin_token: raw.admin_token.map(Secret::new),
        admin_read_token: raw.admin_read_token.map(Secret::new),
        metrics_token: raw.metrics_token.map(Secret::new),
        open_probes: raw.open_probes.unwrap_or(false),
        allowed_hosts: raw.allowed_hosts.unwrap_or_default(),
        id: raw.id,
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
