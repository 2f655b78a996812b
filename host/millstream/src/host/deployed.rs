//! Deployed: what each pipeline of a host runs, at its start and as it changes.
//!
//! Where nothing was deployed it is the file of the configuration, which is loaded before anything begins: what is wrong
//! with it ends the start. Where something was, the control store rules: the pipeline begins when its follower has
//! loaded that, and says so while it cannot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::deploy::follower::{self, Followed};
use millstream_core::deploy::{Control, DeployError};
use millstream_core::log::Log;
use millstream_core::metrics::Metrics;
use millstream_core::plugin::Plugin;
use millstream_core::plugin_slot::PluginSlot;
use millstream_core::shutdown::{Shutdown, Trigger};
use millstream_core::status::PipelineStatus;
use millstream_sandbox::Sandbox;

use crate::commands::Context;
use crate::config::{Config, PipelineConfig};
use crate::deploying::SandboxLoader;
use crate::exit::Failure;
use crate::finding::{Code, Finding};
use crate::plugin_file;

/// How long the last words of a host may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// What the pipelines of a host run.
pub(super) struct Deployed(BTreeMap<String, Running>);

struct Running {
    config: PipelineConfig,
    slot: Arc<PluginSlot>,
    status: Arc<PipelineStatus>,
    loader: Arc<SandboxLoader>,
    file: Option<Arc<dyn Plugin>>,
}

/// The task that follows the control topics.
pub(super) struct Following {
    stop: Trigger,
    task: tokio::task::JoinHandle<()>,
}

/// The sandbox of all plugins of a host.
///
/// # Errors
/// When the machine does not give what it needs.
pub(super) async fn sandbox(config: &Config) -> Result<Arc<Sandbox>, Failure> {
    let options = plugin_file::sandbox_options(config);
    let made = tokio::task::spawn_blocking(move || Sandbox::new(options)).await;
    let made = made.map_err(|error| {
        let what = "starting the sandbox ended";
        Failure::from(Finding::new(Code::PluginUnusable, what, "report it").because(error))
    })?;
    made.map(Arc::new).map_err(|error| plugin_file::sandbox_finding(&error).into())
}

impl Deployed {
    /// Finds out what each pipeline runs, and loads the files of those that run them; all do without a log.
    ///
    /// # Errors
    /// Everything that is wrong with these files; or the log does not tell what was deployed.
    pub(super) async fn load(
        context: &Context,
        config: &Config,
        log: Option<Arc<dyn Log>>,
        sandbox: &Arc<Sandbox>,
        metrics: &Metrics,
    ) -> Result<Self, Failure> {
        let (mut all, mut findings) = (BTreeMap::new(), Vec::new());
        for pipeline in &config.pipelines {
            let loader = SandboxLoader::new(Arc::clone(sandbox), pipeline.clone(), metrics.clone());
            let loader = Arc::new(loader);
            let rules = match &log {
                Some(log) => says_what_rules(context, &**log, pipeline).await?,
                None => false,
            };
            let (slot, file) = if rules {
                (PluginSlot::empty(), None)
            } else {
                match loader.load_file_or_findings().await {
                    Ok(plugin) => (PluginSlot::holding(Arc::clone(&plugin)), Some(plugin)),
                    Err(found) => {
                        findings.extend(found);
                        continue;
                    }
                }
            };
            let (config, status) = (pipeline.clone(), Arc::default());
            let running = Running { config, slot, status, loader, file };
            all.insert(pipeline.spec.name.clone(), running);
        }
        if findings.is_empty() { Ok(Self(all)) } else { Err(findings.into()) }
    }

    /// The slot of a pipeline.
    pub(super) fn slot(&self, pipeline: &str) -> Option<Arc<PluginSlot>> {
        self.0.get(pipeline).map(|running| Arc::clone(&running.slot))
    }

    /// Where a pipeline tells about itself.
    pub(super) fn status(&self, pipeline: &str) -> Arc<PipelineStatus> {
        self.0.get(pipeline).map(|running| Arc::clone(&running.status)).unwrap_or_default()
    }

    /// Begins to follow what is deployed from now on.
    pub(super) fn follow(self, log: &Arc<dyn Log>, host: &str) -> Following {
        let followed = self.0.into_iter().map(|(pipeline, running)| Followed {
            pipeline,
            group: running.config.spec.group,
            host: host.to_owned(),
            slot: running.slot,
            status: running.status,
            loader: running.loader,
            outputs: running.config.spec.outputs,
            file: running.file,
        });
        let (stop, stopped) = Shutdown::new();
        let following = follower::follow(Arc::clone(log), followed.collect(), stopped);
        Following { stop, task: tokio::spawn(following) }
    }
}

impl Following {
    /// Says that this host ends.
    pub(super) async fn stop(self) {
        let Self { stop, mut task } = self;
        stop.request();
        if tokio::time::timeout(LEAVE_WITHIN, &mut task).await.is_err() {
            // The log does not answer; who deploys next finds out.
            task.abort();
        }
    }
}

/// Whether something was deployed to a pipeline, so that its file does not count; says so.
async fn says_what_rules(
    context: &Context,
    log: &dyn Log,
    pipeline: &PipelineConfig,
) -> Result<bool, Failure> {
    let name = &pipeline.spec.name;
    let control = match Control::open(log, &pipeline.spec.group).await {
        Ok(control) => control,
        // Nothing was deployed there.
        Err(DeployError::NoTopic { .. }) => return Ok(false),
        Err(error) => {
            let what = format!("what is deployed to pipeline {name} is not known");
            let fix = "see that the log answers, then start again";
            return Err(Finding::new(Code::LogUnavailable, what, fix).because(error).into());
        }
    };
    let Some(change) = control.current() else { return Ok(false) };
    let Some(digest) = &change.digest else { return Ok(false) };
    let now = control.name_of(Some(digest));
    context.terminal.say(&format!(
        "{name}: {now} ({digest}) is deployed, by {}: it runs, not the file {}",
        change.by,
        pipeline.plugin.display()
    ));
    Ok(true)
}
