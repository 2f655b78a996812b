//! `deploy`: a new version of a pipeline's plugin, checked on every host before it takes effect.
//!
//! It is loaded and tried here first: most of what can be wrong is known before anybody else hears of it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use millstream_core::deploy::{
    self, Changed, DeployRequest, HostState, PLUGIN_BYTES_MAX, Progress,
};
use millstream_core::log::Log;
use millstream_core::plugin::{Plugin as _, PluginIdentity};
use millstream_sandbox::{PluginSource, Sandbox, SandboxOptions};

use crate::access::{self, Access};
use crate::commands::{Context, Place};
use crate::config::{Config, PipelineConfig};
use crate::deploying;
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::terminal::Terminal;
use crate::{plugin_file, table};

/// Arguments of `deploy`.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// The pipeline
    pipeline: String,
    /// The plugin: a .wasm
    plugin: PathBuf,
    /// What the version is called [default: the plugin's own version, else the begin of its digest]
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Messages, one JSON object a line, that every host's check handles; what they cause goes nowhere
    #[arg(long, value_name = "FILE")]
    smoke: Option<PathBuf>,
    #[command(flatten)]
    asked: Asked,
}

/// What `deploy` and `rollback` are both told.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// Who does this, for the audit trail [default: $USER@MACHINE]
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// How long hosts may check
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Deploys.
///
/// # Errors
/// When the version is refused, here or by a host: nothing is changed then.
pub async fn run(context: &Context, args: DeployArgs) -> Result<Exit, Failure> {
    let config = context.config()?;
    let pipeline = find(&config, &args.pipeline)?;
    let what = format!("pipeline {}: {} is not deployed", args.pipeline, args.plugin.display());
    let smoke = match &args.smoke {
        None => Vec::new(),
        Some(file) => smoke_lines(file, &what)?,
    };
    let bytes = read(&args.plugin)?;
    let identity = try_here(&config, pipeline, &args.plugin, bytes.clone(), &smoke).await?;
    let place = context.place()?;
    let access = open(context, &place, pipeline).await?;
    let own_version = deploying::own_version(&identity.version, &identity.digest);
    let request = DeployRequest {
        pipeline: &pipeline.spec.name,
        group: &pipeline.spec.group,
        bytes,
        name: &identity.name,
        version: args.version.as_deref(),
        own_version: &own_version,
        smoke,
        who: deploying::who(args.asked.by.as_deref()),
        timeout: args.asked.timeout,
        hosts: access.may_have_hosts(),
    };
    let mut said = Said::new(context.terminal, request.bytes.len() as u64);
    let changed =
        deploy::deploy(&*access.log, &request, &mut |progress| said.tell(&progress)).await;
    said.done();
    access.close().await;
    let changed = changed.map_err(|error| deploying::finding(&what, &error))?;
    show(context, &pipeline.spec.name, &changed, args.asked.json)
}

/// The pipeline of this name.
pub(crate) fn find<'a>(config: &'a Config, name: &str) -> Result<&'a PipelineConfig, Failure> {
    let found = config.pipelines.iter().find(|pipeline| pipeline.spec.name == name);
    found.ok_or_else(|| {
        let what = format!("there is no pipeline {name:?}");
        let finding = Finding::new(Code::Usage, what, "name a pipeline of the configuration");
        finding.at(config.file.display()).into()
    })
}

/// The log, with the control topic where that is this program's to make.
pub(crate) async fn open(
    context: &Context,
    place: &Place,
    pipeline: &PipelineConfig,
) -> Result<Access, Failure> {
    let access = access::open(context, place).await?;
    if !place.log.is_kafka() {
        let log: &dyn Log = &*access.log;
        let made = log.create_topic(deploy::topic_spec(&pipeline.spec.group)).await;
        made.map_err(|error| Failure::log("the control topic cannot be made", &error))?;
    }
    Ok(access)
}

fn read(file: &Path) -> Result<Bytes, Failure> {
    let failed = |error: std::io::Error| {
        Failure::io(format!("the plugin {} cannot be read", file.display()), &error)
    };
    let mut bytes = Vec::new();
    let open = std::fs::File::open(file).map_err(failed)?;
    open.take(PLUGIN_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes.into())
}

fn smoke_lines(file: &Path, what: &str) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::io(format!("the smoke messages {} cannot be read", file.display()), &error)
    })?;
    deploy::smoke_lines(&text).map_err(|error| deploying::finding(what, &error).into())
}

/// Loads and tries the version with the pipeline's configuration, in a sandbox of its own.
async fn try_here(
    config: &Config,
    pipeline: &PipelineConfig,
    file: &Path,
    bytes: Bytes,
    smoke: &[String],
) -> Result<PluginIdentity, Failure> {
    // Compiled code goes nowhere: this machine may be no host.
    let sandbox = SandboxOptions { cache_dir: None, ..plugin_file::sandbox_options(config) };
    let options = plugin_file::plugin_options(pipeline);
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let source = PluginSource::Bytes { name, bytes: bytes.to_vec() };
    let loading = tokio::task::spawn_blocking(move || {
        let sandbox = Sandbox::new(sandbox)
            .map_err(|error| Failure::from(plugin_file::sandbox_finding(&error)))?;
        let loaded = sandbox.load(source, options);
        loaded.map_err(|error| Failure::from(plugin_file::load_findings(&error)))
    });
    let plugin = loading.await.map_err(|error| {
        let what = "loading the plugin ended";
        Failure::from(Finding::new(Code::PluginUnusable, what, "report it").because(error))
    })??;
    deploy::try_out(&*plugin, smoke, &pipeline.spec.outputs).await.map_err(|reason| {
        let (what, fix) = ("the plugin does not work here", "correct it; nothing was deployed");
        let finding = Finding::new(Code::NotDeployed, what, fix).because(reason);
        Failure::from(finding.at(file.display()))
    })?;
    Ok(plugin.identity().clone())
}

/// Tells a person how far it is.
pub(crate) struct Said {
    terminal: Terminal,
    bar: indicatif::ProgressBar,
}

impl Said {
    pub(crate) fn new(terminal: Terminal, bytes: u64) -> Self {
        Self { terminal, bar: terminal.progress("bytes", Some(bytes)) }
    }

    pub(crate) fn tell(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Uploaded(bytes) => self.bar.set_position(*bytes),
            Progress::Host(host, state) => {
                let state = words(state);
                self.bar.suspend(|| self.terminal.say(&format!("host {host}: {state}")));
            }
            Progress::InUse => self.bar.finish_and_clear(),
        }
    }

    pub(crate) fn done(&self) {
        self.bar.finish_and_clear();
    }
}

fn words(state: &HostState) -> String {
    match state {
        HostState::Checking => "checks it".to_owned(),
        HostState::Ready => "would run it".to_owned(),
        HostState::Swapped => "runs it".to_owned(),
        HostState::Trouble(reason) => format!("handles nothing: {reason}"),
        HostState::Gone => "does not answer: it counts as gone".to_owned(),
        HostState::Unconfirmed => {
            "has not said yet that it runs it: it does when it reads it".to_owned()
        }
    }
}

/// Prints what came of a change.
pub(crate) fn show(
    context: &Context,
    pipeline: &str,
    changed: &Changed,
    json: bool,
) -> Result<Exit, Failure> {
    let terminal = &context.terminal;
    if json {
        table::print_json(terminal, changed)?;
    } else if changed.already {
        terminal.print(&format!("{pipeline}: {} is in use already", changed.now))?;
    } else {
        let Changed { now, was, .. } = changed;
        terminal.print(&format!("{pipeline}: {now} is in use; before it was {was}"))?;
    }
    if changed.hosts.is_empty() && !changed.already {
        terminal.say(
            "no host runs: it was tried here alone, with this configuration; hosts take it when they start",
        );
    }
    let trouble = changed.hosts.values().any(|state| matches!(state, HostState::Trouble(_)));
    Ok(if trouble { Exit::Failed } else { Exit::Done })
}
