//! Host: the process that runs pipelines. Assembles log, sandbox, admin API and pipelines, and takes
//! them down again in order.
//!
//! Everything that can be refused is refused before the first message: configuration, folder or
//! cluster, plugins, topics, the admin address. A pipeline that stops does not take others with it; the host
//! ends when all have ended, or at SIGTERM or SIGINT (a second one ends it at once).

mod deployed;
pub mod identity;
mod log;
mod pipelines;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use millstream_admin::{
    AdminServer, AdminState, PipelineReadiness, ServedPipeline, Token, TokenSource,
};
use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_core::lag;
use millstream_core::log::Log;
use millstream_core::metrics::Metrics;
use millstream_core::pipeline::{PipelineError, Ports, SuspicionRight, Until};
use millstream_core::shutdown::{Shutdown, Trigger};
use millstream_core::status::PipelineStatus;
use prometheus::Registry;
use tokio::task::JoinSet;

use crate::commands::Context;
use crate::config::{Config, LogKind, PipelineConfig, Secret, summary};
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding, Severity};
use crate::terminal::Terminal;
use crate::traces::HostTraces;
use crate::{topic_check, topic_plan, who};

use deployed::Deployed;
use log::HostLog;

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
    let signals = tokio::spawn(listen(context.terminal, trigger));

    let observed = Observed::new()?;
    let sandbox = deployed::sandbox(&config).await?;
    let loading = |log| Deployed::load(context, &config, log, &sandbox, &observed.metrics);
    // A log that is not there yet has nothing deployed, and is not made for a plugin that cannot be loaded.
    let is_new = !config.log.kind.is_kafka() && !config.host.log_dir().exists();
    let early = if is_new { Some(loading(None).await?) } else { None };
    let mut log = HostLog::open(&config).await?;
    let deployed = match early {
        Some(deployed) => Ok(deployed),
        None => loading(Some(Arc::clone(&log.log))).await,
    };
    let ended = match deployed {
        Ok(deployed) => {
            with_log(context, &config, &mut log, deployed, observed, shutdown, until).await
        }
        Err(failure) => Err(failure),
    };
    log.close().await;
    signals.abort();
    ended
}

/// The numbers of a host, and where they hang.
struct Observed {
    registry: Registry,
    metrics: Metrics,
}

impl Observed {
    fn new() -> Result<Self, Failure> {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).map_err(|error| {
            Finding::new(Code::Io, "the metrics cannot be registered", "report it").because(error)
        })?;
        Ok(Self { registry, metrics })
    }
}

async fn with_log(
    context: &Context,
    config: &Config,
    log: &mut HostLog,
    deployed: Deployed,
    observed: Observed,
    shutdown: Shutdown,
    until: Until,
) -> Result<Exit, Failure> {
    topics(context, config, &*log.log).await?;
    let Observed { registry, metrics } = observed;
    let traces = HostTraces::start(config, &metrics)?;
    let suspicion = SuspicionRight::default();
    let mut pipelines = Vec::new();
    let mut statuses = BTreeMap::new();
    for pipeline in &config.pipelines {
        let name = pipeline.spec.name.clone();
        let Some(slot) = deployed.slot(&name) else { continue };
        let ports = Ports {
            log: Arc::clone(&log.log),
            plugin: slot,
            idempotency: log.idempotency.clone(),
            clock: Arc::new(SystemClock),
            metrics: metrics.clone(),
            suspicion: suspicion.clone(),
            traces: traces.as_ref().map(|traces| traces.of(pipeline)),
        };
        let status = deployed.status(&name);
        statuses.insert(name, status);
        pipelines.push((pipeline.spec.clone(), ports));
    }
    let (admin, address) = serve_admin(config, log, registry, statuses, &deployed).await?;
    context.terminal.say(&format!("console, admin API and metrics at http://{address}"));

    let mut running = JoinSet::new();
    for (spec, ports) in pipelines {
        let (name, shutdown) = (spec.name.clone(), shutdown.clone());
        let status = deployed.status(&name);
        running.spawn(
            async move { (name, pipelines::run(spec, ports, status, shutdown, until).await) },
        );
    }
    let following = deployed.follow(&log.log, log.host_id());
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
    following.stop().await;
    if let Some(traces) = traces {
        traces.close().await;
    }
    admin.stop().await;
    if until == Until::CaughtUp && exit == Exit::Done {
        tell_what_is_left(context, config, &*log.log).await;
    }
    Ok(exit)
}

/// Sees that every topic is there and as it is needed. An embedded log is the host's own: what is
/// missing is made. A cluster is not: who may make topics there decides on partitions and copies.
async fn topics(context: &Context, config: &Config, log: &dyn Log) -> Result<(), Failure> {
    let plan = topic_plan::plan(log, &config.pipelines, &config.log.new_topics).await?;
    if let LogKind::Kafka(kafka) = &config.log.kind {
        let (errors, warnings) = topic_check::findings(&plan, kafka)
            .into_iter()
            .partition::<Vec<_>, _>(|finding| finding.severity == Severity::Error);
        warnings.iter().for_each(|warning| context.terminal.show(warning));
        return if errors.is_empty() { Ok(()) } else { Err(errors.into()) };
    }
    for planned in plan {
        if planned.apply(log).await? {
            tracing::info!(topic = %planned.spec.name, partitions = planned.spec.partitions, "topic created");
        }
    }
    Ok(())
}

/// The admin API, which answers until it is stopped: longer than the pipelines, so that one can see
/// them drain.
struct Admin {
    stop: Trigger,
    task: tokio::task::JoinHandle<()>,
}

impl Admin {
    async fn stop(self) {
        self.stop.request();
        // It ends by itself within seconds; a panic in it was logged.
        let _ = self.task.await;
    }
}

async fn serve_admin(
    config: &Config,
    log: &mut HostLog,
    registry: Registry,
    statuses: BTreeMap<String, Arc<PipelineStatus>>,
    deployed: &Deployed,
) -> Result<(Admin, SocketAddr), Failure> {
    let unusable = |why: String| {
        let what = "the admin API cannot be served";
        Failure::from(Finding::of_text(Code::AdminUnusable, what, &why, "correct `host.admin`"))
    };
    let token = match &config.host.admin_token {
        Some(token) => Token::new(token.expose())
            .map(TokenSource::Given)
            .map_err(|error| unusable(error.to_string()))?,
        None => TokenSource::MadeAtStart { file: config.host.token_file() },
    };
    let further = |token: &Option<Secret>| {
        let token = token.as_ref().map(|token| Token::new(token.expose())).transpose();
        token.map_err(|error| unusable(error.to_string()))
    };
    let (read_token, metrics_token) =
        (further(&config.host.admin_read_token)?, further(&config.host.metrics_token)?);
    let served = |pipeline: &PipelineConfig| {
        let status = Arc::clone(statuses.get(&pipeline.spec.name)?);
        let slot = deployed.slot(&pipeline.spec.name)?;
        let (spec, time_limit) = (pipeline.spec.clone(), pipeline.limits.time);
        Some(ServedPipeline { spec, status, slot, time_limit })
    };
    let pipelines = config.pipelines.iter().filter_map(served).collect();
    let statuses = Arc::new(statuses);
    let for_readiness = Arc::clone(&statuses);
    let state = AdminState {
        log: Arc::clone(&log.log),
        registry,
        readiness: Arc::new(move || {
            let readiness = |(name, status): (&String, &Arc<PipelineStatus>)| PipelineReadiness {
                pipeline: name.clone(),
                not_ready: status.report().trouble.into_iter().collect(),
            };
            for_readiness.iter().map(readiness).collect()
        }),
        status: Arc::new(move || report(&statuses)),
        pipelines,
        clock: Arc::new(SystemClock),
        owner: who::owner(None),
        token,
        read_token,
        metrics_token,
        open_probes: config.host.open_probes,
        allowed_hosts: config.host.allowed_hosts.clone(),
    };
    let server = AdminServer::bind(config.host.admin, state)
        .await
        .map_err(|error| unusable(error.to_string()))?;
    let address = server.local_addr();
    log.announce(&address.to_string())?;
    let (stop, mut stopped) = Shutdown::new();
    let task =
        tokio::spawn(async move { server.serve(async move { stopped.requested().await }).await });
    Ok((Admin { stop, task }, address))
}

/// What `/api/v1/status` and `millstream status` show.
fn report(statuses: &BTreeMap<String, Arc<PipelineStatus>>) -> serde_json::Value {
    let pipelines: Vec<serde_json::Value> = statuses
        .iter()
        .map(|(name, status)| {
            let mut report = serde_json::to_value(status.report()).unwrap_or_default();
            if let Some(fields) = report.as_object_mut() {
                fields.insert("pipeline".to_owned(), name.as_str().into());
            }
            report
        })
        .collect();
    let ready = statuses.values().all(|status| status.report().ready);
    serde_json::json!({ "ready": ready, "version": env!("CARGO_PKG_VERSION"), "pipelines": pipelines })
}

/// What a run that ended by itself has left: retries whose time has not come.
async fn tell_what_is_left(context: &Context, config: &Config, log: &dyn Log) {
    for pipeline in &config.pipelines {
        let name = &pipeline.spec.name;
        // Only a courtesy: the run itself is done.
        let Ok(lag) = lag::of(log, &pipeline.spec, SystemClock.now()).await else { continue };
        let waiting = match lag.waiting {
            0 => "and no retries wait".to_owned(),
            1 => "1 retry waits for its time and stays for the next run".to_owned(),
            n => format!("{n} retries wait for their time and stay for the next run"),
        };
        context.terminal.say(&format!("{name}: caught up, {waiting}"));
    }
}

fn stopped(name: &str, error: &PipelineError) -> Finding {
    let what = format!("pipeline {name} has stopped");
    let otherwise = "remove the reason, then start the host again";
    Finding::of_text(Code::PipelineStopped, what, &error.to_string(), otherwise)
}

/// Asks for a graceful end at the first SIGTERM or SIGINT, and ends the process at the second.
async fn listen(terminal: Terminal, trigger: Trigger) {
    signal().await;
    terminal.say("asked to end: finishing what is in hand; a second signal ends at once");
    trigger.request();
    signal().await;
    terminal.say("asked again: ending at once; what was in hand is uncommitted and comes again");
    std::process::exit(1);
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn signal() {
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
