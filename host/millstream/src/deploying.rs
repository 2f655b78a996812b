//! Deploying, as this program does it: versions loaded by its sandbox, as the pipeline's table says, and what a command
//! or the admin API needs to ask for a change.
//!
//! The steps themselves are in `millstream_core::deploy`; nothing here decides.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_core::deploy::follower::Loader;
use millstream_core::deploy::{self, DeployError, Version, Who};
use millstream_core::metrics::Metrics;
use millstream_core::plugin::Plugin;
use millstream_sandbox::{LoadError, LoadedPlugin, PluginSource, Sandbox};
use tokio::time::Instant;

use crate::config::PipelineConfig;
use crate::finding::{Code, Finding};
use crate::plugin_file;

/// How long hosts may check if nothing is said: a Python plugin takes some seconds to compile.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// Loads versions for one pipeline of a host.
pub struct SandboxLoader {
    sandbox: Arc<Sandbox>,
    pipeline: PipelineConfig,
    metrics: Metrics,
}

impl SandboxLoader {
    /// For this pipeline.
    pub fn new(sandbox: Arc<Sandbox>, pipeline: PipelineConfig, metrics: Metrics) -> Self {
        Self { sandbox, pipeline, metrics }
    }

    /// Loads the file of the configuration, or says all that is wrong with it.
    ///
    /// # Errors
    /// A finding for each difference.
    pub async fn load_file_or_findings(&self) -> Result<Arc<dyn Plugin>, Vec<Finding>> {
        let source = PluginSource::Path(self.pipeline.plugin.clone());
        match self.load_source(source, None).await {
            Ok(plugin) => Ok(plugin),
            Err(NotLoaded::Refused(error)) => Err(plugin_file::load_findings(&error)),
            Err(NotLoaded::Ended(why)) => {
                let what = "loading the plugins ended";
                Err(vec![Finding::new(Code::PluginUnusable, what, "report it").because(why)])
            }
        }
    }

    async fn load_source(
        &self,
        source: PluginSource,
        named: Option<&Version>,
    ) -> Result<Arc<LoadedPlugin>, NotLoaded> {
        let sandbox = Arc::clone(&self.sandbox);
        let mut options = plugin_file::plugin_options(&self.pipeline);
        options.name = named.map(|version| version.name.clone());
        options.version = named.map(|version| version.version.clone());
        // Compiling takes seconds for a large plugin.
        let begin = Instant::now();
        let loaded = tokio::task::spawn_blocking(move || sandbox.load(source, options)).await;
        let loaded = loaded.map_err(|error| NotLoaded::Ended(error.to_string()))?;
        let plugin = loaded.map_err(|error| NotLoaded::Refused(Box::new(error)))?;
        let took = self.metrics.plugin_load.with_label_values(&[&self.pipeline.spec.name]);
        took.set(begin.elapsed().as_secs_f64());
        Ok(plugin)
    }
}

/// Why a version was not loaded.
enum NotLoaded {
    /// It cannot be used.
    Refused(Box<LoadError>),
    /// Loading it did not come to an end.
    Ended(String),
}

impl NotLoaded {
    /// All that is wrong, on one line: it goes into the log, and to who deploys.
    fn into_line(self) -> String {
        match self {
            Self::Refused(error) => match *error {
                LoadError::Unfit { differences, .. } => differences.join("; "),
                error => error.to_string(),
            },
            Self::Ended(why) => format!("loading ended: {why}: report it"),
        }
    }
}

#[async_trait]
impl Loader for SandboxLoader {
    async fn load(&self, version: &Version, bytes: Bytes) -> Result<Arc<dyn Plugin>, String> {
        let name = format!("version {}", version.version);
        let source = PluginSource::Bytes { name, bytes: bytes.to_vec() };
        let plugin = self.load_source(source, Some(version)).await;
        let plugin = plugin.map_err(NotLoaded::into_line)?;
        Ok(plugin)
    }

    async fn load_file(&self) -> Result<Arc<dyn Plugin>, String> {
        let source = PluginSource::Path(self.pipeline.plugin.clone());
        let plugin = self.load_source(source, None).await;
        let plugin = plugin.map_err(NotLoaded::into_line)?;
        Ok(plugin)
    }
}

/// Who asks, now. `by` is a person's name if one was given.
pub fn who(by: Option<&str>) -> Who {
    let at = SystemClock.now();
    let by = by.map_or_else(user_at_host, ToOwned::to_owned);
    // Unique among all who may ask: the machine's name is in it, and a process asks once a millisecond.
    let machine = machine();
    Who { by, id: format!("{at}-{machine}-{}", std::process::id()), at }
}

/// The user who gave the command, as far as the system tells.
pub(crate) fn user_at_host() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let user = user.ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "somebody".to_owned());
    format!("{user}@{}", machine())
}

fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.or_else(|_| std::fs::read_to_string("/etc/hostname")).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.chars().take(64).collect() }
}

/// Why a change was not made, for a person.
pub fn finding(what: &str, error: &DeployError) -> Finding {
    let (code, otherwise) = match error {
        DeployError::NoTopic { .. } => (Code::Topic, "make it"),
        DeployError::Request(_) => (Code::Usage, "correct it"),
        DeployError::Log(_) | DeployError::Record(_) | DeployError::Audit(_) => {
            (Code::LogUnavailable, "see `millstream versions` for what is in use, then try again")
        }
        DeployError::Refused { .. } => (Code::NotDeployed, "mend that; nothing was changed"),
        DeployError::NoAnswer { .. }
        | DeployError::Overtaken { .. }
        | DeployError::NothingBefore(_) => (Code::NotDeployed, "nothing was changed"),
    };
    Finding::of_text(code, what, &error.to_string(), otherwise)
}

/// The largest part of a version that is its own; what else it holds could not stand in a label.
pub fn own_version(version: &str, digest: &str) -> String {
    if version != "unknown" && deploy::label_problem(version).is_none() {
        return version.to_owned();
    }
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    digits.chars().take(12).collect()
}
