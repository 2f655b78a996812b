//! Pipeline run: the real pipeline on the embedded log, assembled as the host does it, with what a
//! `[pipelines.NAME]` table has when it says nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use millstream_core::clock::SystemClock;
use millstream_core::idempotency::KeySource;
use millstream_core::metrics::Metrics;
use millstream_core::names::Template;
use millstream_core::pipeline::{Pipeline, PipelineError, Ports, SuspicionRight, Until};
use millstream_core::pipeline_spec::{
    DeadLetterSpec, Delivery, IdempotencySpec, KeepOrder, MissingKey, Ordering, PipelineSpec,
    RetrySpec, Start,
};
use millstream_core::plugin::Plugin;
use millstream_core::plugin_slot::PluginSlot;
use millstream_core::shutdown::Shutdown;
use millstream_log_embedded::EmbeddedLog;
use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::figures::{Stopwatch, Took};
use crate::filled_log::{self, GROUP, OUTPUT, SOURCE};
use crate::log_loop::COMMIT_EVERY;
use crate::messages::Keys;

/// How often the end of the outputs is looked at: what the time measured may be too long by.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A pipeline without an output for so long is not slow, it stands.
const STANDSTILL: Duration = Duration::from_secs(20);

/// What differs between pipelines.
#[derive(Clone)]
pub(crate) struct PipelineSetup {
    pub(crate) plugin: Arc<dyn Plugin>,
    pub(crate) delivery: Delivery,
    pub(crate) ordering: Ordering,
    pub(crate) in_flight_messages: usize,
    pub(crate) instances: usize,
    /// Whether each message's header is its idempotency key, and how those are.
    pub(crate) idempotency: Option<Keys>,
}

/// Runs a pipeline over `messages` in a fresh log in `dir`; answers what it took from its start
/// until the last output was in the log.
///
/// # Errors
/// When the pipeline stops or stands still, or not every message came out once and was committed.
pub(crate) async fn run(dir: &Path, messages: u64, setup: &PipelineSetup) -> anyhow::Result<Took> {
    let log = filled_log::open(dir, messages, setup.idempotency.unwrap_or_default()).await?;
    let ports = Ports {
        log: Arc::clone(&log) as _,
        plugin: PluginSlot::holding(Arc::clone(&setup.plugin)),
        idempotency: Some(Arc::clone(&log) as _),
        clock: Arc::new(SystemClock),
        metrics: Metrics::new(&Registry::new())?,
        suspicion: SuspicionRight::default(),
        traces: None,
    };
    let pipeline = Pipeline::new(spec(setup)?, ports);
    let (trigger, shutdown) = Shutdown::new();
    let watch = Stopwatch::start();
    let mut running = tokio::spawn(pipeline.run(shutdown, Until::Shutdown));
    until_all_out(&log, messages, &mut running).await?;
    let took = watch.took();

    trigger.request();
    running.await.context("the pipeline panicked")??;
    // It has drained: what was not committed yet is now.
    filled_log::check_outputs(&log, messages).await?;
    log.close().await;
    Ok(took)
}

async fn until_all_out(
    log: &EmbeddedLog,
    messages: u64,
    running: &mut JoinHandle<Result<(), PipelineError>>,
) -> anyhow::Result<()> {
    let mut last = (0, Instant::now());
    loop {
        let outputs = filled_log::total(&filled_log::ends(log, OUTPUT).await?);
        if outputs >= messages {
            return Ok(());
        }
        if outputs > last.0 {
            last = (outputs, Instant::now());
        }
        if last.1.elapsed() > STANDSTILL {
            bail!("the pipeline stands still at {outputs} of {messages} outputs");
        }
        tokio::select! {
            biased;
            ended = &mut *running => {
                return Err(match ended.context("the pipeline panicked")? {
                    Ok(()) => anyhow!("the pipeline ended by itself at {outputs} of {messages}"),
                    Err(error) => error.into(),
                });
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn spec(setup: &PipelineSetup) -> anyhow::Result<PipelineSpec> {
    let template = |text, tier| Template::new(text, tier).map_err(|why| anyhow!("{text}: {why}"));
    Ok(PipelineSpec {
        name: "bench".to_owned(),
        group: GROUP.to_owned(),
        topics: vec![SOURCE.into()],
        start: Start::Earliest,
        outputs: BTreeMap::from([("default".to_owned(), OUTPUT.into())]),
        delivery: setup.delivery,
        ordering: setup.ordering,
        in_flight_messages: setup.in_flight_messages,
        in_flight_bytes: 64 << 20,
        waiting_messages: 100_000,
        waiting_bytes: 256 << 20,
        instances: setup.instances,
        retry: RetrySpec {
            delays: [5, 30, 300].map(Duration::from_secs).to_vec(),
            keep_order: match setup.ordering {
                Ordering::Key => KeepOrder::OfKey,
                Ordering::Partition => KeepOrder::OfPartition,
                Ordering::None => KeepOrder::No,
            },
            topic: template("{topic}.retry.{delay}", true)?,
            pause_min: Duration::from_secs(1),
            pause_max: Duration::from_secs(60),
        },
        dead_letter: DeadLetterSpec {
            topic: template("{topic}.dlq", false)?,
            retention: Some(Duration::from_secs(14 * 24 * 3600)),
            after_host_crashes: Some(5),
            park_after: None,
            mask: millstream_core::dead_letter::Mask::default(),
        },
        idempotency: setup.idempotency.map(|_| IdempotencySpec {
            key: KeySource::Header("traceparent".to_owned()),
            ttl: Duration::from_secs(7 * 24 * 3600),
            missing: MissingKey::Reject,
            in_topic: false,
        }),
        commit_interval: COMMIT_EVERY,
        commit_refresh: Duration::from_secs(86_400),
        held_up_after: Duration::from_secs(60),
        transaction_interval: Duration::ZERO,
        drain: Duration::from_secs(10),
    })
}
