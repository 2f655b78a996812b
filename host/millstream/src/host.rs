//! Host: the process that runs pipelines. Assembles log, sandbox, admin API and pipelines, and takes
//! them down again in order.
//!
//! Everything that can be refused is refused before the first message: configuration, folder,
//! plugins, topics, the admin address. A pipeline that stops does not take others with it; the host
//! ends when all have ended, or at SIGTERM or SIGINT (a second one ends it at once).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_admin::{AdminServer, AdminState};
use millstream_core::clock::SystemClock;
use millstream_core::metrics::Metrics;
use millstream_core::pipeline::{Pipeline, PipelineError, Ports, Until};
use millstream_core::plugin::Plugin;
use millstream_core::shutdown::{Shutdown, Trigger};
use millstream_core::status::PipelineStatus;
use millstream_log_embedded::EmbeddedLog;
use millstream_sandbox::Sandbox;
use prometheus::Registry;
use tokio::task::JoinSet;

use crate::access;
use crate::commands::Context;
use crate::config::{Config, summary};
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::{plugin_file, topic_plan};

/// Runs the host.
///
/// # Errors
/// When something is refused before the first message.
pub async fn run(context: &Context, config: Config, until: Until) -> Result<Exit, Failure> {
    for warning in &config.warnings {
        context.terminal.show(warning);
    }
    if config.pipelines.is_empty() {
        let fix = "add a table `[pipelines.NAME]`; `millstream plugin new` makes an example";
        let finding = Finding::new(Code::BadValue, "there is nothing to run", fix);
        let why = "the configuration has no pipelines";
        return Err(finding.because(why).at(config.file.display()).into());
    }
    context.terminal.say(summary::summary(&config).trim_end());
    // Signals are heard from here on, so that none is missed while plugins compile.
    let (trigger, shutdown) = Shutdown::new();
    let signals = tokio::spawn(listen(trigger));

    let plugins = load_plugins(&config).await?;
    let folder = config.host.log_dir();
    let log = EmbeddedLog::open(&folder, access::embedded_options(config.log.durability))
        .map_err(|error| access::open_finding(&error))?;
    let ended = with_log(context, &config, &log, plugins, shutdown, until).await;
    log.close().await;
    signals.abort();
    ended
}

async fn with_log(
    context: &Context,
    config: &Config,
    log: &Arc<EmbeddedLog>,
    plugins: BTreeMap<String, Arc<dyn Plugin>>,
    shutdown: Shutdown,
    until: Until,
) -> Result<Exit, Failure> {
    for planned in topic_plan::plan(&**log, &config.pipelines, &config.log.new_topics).await? {
        if planned.apply(&**log).await? {
            tracing::info!(topic = %planned.spec.name, partitions = planned.spec.partitions, "topic created");
        }
    }
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).map_err(|error| {
        Finding::new(Code::Io, "the metrics cannot be registered", "report it").because(error)
    })?;
    let mut pipelines = Vec::new();
    let mut statuses = BTreeMap::new();
    for pipeline in &config.pipelines {
        let name = pipeline.spec.name.clone();
        let Some(plugin) = plugins.get(&name) else { continue };
        let ports = Ports {
            log: Arc::clone(log) as _,
            plugin: Arc::clone(plugin),
            idempotency: Arc::clone(log) as _,
            clock: Arc::new(SystemClock),
            metrics: metrics.clone(),
        };
        let pipeline = Pipeline::new(pipeline.spec.clone(), ports);
        statuses.insert(name.clone(), pipeline.status());
        pipelines.push((name, pipeline));
    }
    let admin = serve_admin(config, log, registry, statuses, shutdown.clone()).await?;
    context.terminal.say(&format!("admin API and metrics at http://{}", admin.address));

    let mut running = JoinSet::new();
    for (name, pipeline) in pipelines {
        let shutdown = shutdown.clone();
        running.spawn(async move { (name, pipeline.run(shutdown, until).await) });
    }
    let mut exit = Exit::Done;
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok((name, Ok(()))) => tracing::info!(pipeline = %name, "pipeline ended"),
            Ok((name, Err(error))) => {
                context.terminal.show(&stopped(&name, &error));
                exit = Exit::Failed;
            }
            Err(error) => {
                let finding = Finding::new(Code::PipelineStopped, "a pipeline ended", "report it");
                context.terminal.show(&finding.because(error));
                exit = Exit::Failed;
            }
        }
    }
    admin.stop().await;
    Ok(exit)
}

fn stopped(name: &str, error: &PipelineError) -> Finding {
    let text = error.to_string();
    // The texts end with what to do.
    let (why, fix) = match text.rsplit_once(": ") {
        Some((why, fix)) => (why.to_owned(), fix.to_owned()),
        None => (text, "remove the reason, then start the host again".to_owned()),
    };
    Finding::new(Code::PipelineStopped, format!("pipeline {name} has stopped"), fix).because(why)
}

/// Loads every pipeline's plugin, or says of each what is wrong with it.
async fn load_plugins(config: &Config) -> Result<BTreeMap<String, Arc<dyn Plugin>>, Failure> {
    let config = config.clone();
    // Compiling takes seconds for a large plugin.
    let loaded = tokio::task::spawn_blocking(move || -> Result<_, Failure> {
        let sandbox = Sandbox::new(plugin_file::sandbox_options(&config))
            .map_err(|error| plugin_file::sandbox_finding(&error))?;
        let mut plugins: BTreeMap<String, Arc<dyn Plugin>> = BTreeMap::new();
        let mut findings = Vec::new();
        for pipeline in &config.pipelines {
            match sandbox.load(pipeline.plugin.as_path(), plugin_file::plugin_options(pipeline)) {
                Ok(plugin) => {
                    plugins.insert(pipeline.spec.name.clone(), plugin);
                }
                Err(error) => findings.extend(plugin_file::load_findings(&error)),
            }
        }
        if findings.is_empty() { Ok(plugins) } else { Err(findings.into()) }
    });
    loaded.await.map_err(|error| {
        Finding::new(Code::PluginUnusable, "loading the plugins ended", "report it").because(error)
    })?
}

/// Asks for a graceful end at the first SIGTERM or SIGINT, and ends the process at the second.
async fn listen(trigger: Trigger) {
    signal().await;
    tracing::info!("asked to end: draining; a second signal ends at once");
    trigger.request();
    signal().await;
    tracing::warn!("asked again: ending at once; what was in hand is uncommitted and comes again");
    std::process::exit(1);
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals can't be heard: only SIGKILL ends this host");
            std::future::pending::<()>().await;
        }
    }
}
