//! A loaded plugin: compiled, linked with what it is granted, with room in the pool.
//!
//! Made by [`crate::Sandbox::load`]; makes instances for the workers of its pipeline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use millstream_core::plugin::{Instance, Plugin, PluginError, PluginIdentity};
use wasmtime::component::{ComponentExportIndex, InstancePre};

use crate::capabilities::Grants;
use crate::capabilities::clock::Clock;
use crate::instance::{self, NotStarted, PluginInstance, State};
use crate::limits::Limits;
use crate::pacing::{Pace, Rests, SharedConduct};
use crate::plugin_log::{PluginLog, TracingLog};
use crate::report::PluginReport;
use crate::room::Reservation;
use crate::ticker::Ticker;

/// How a pipeline uses a plugin.
#[derive(Clone)]
pub struct PluginOptions {
    /// The pipeline's name: stands in log lines and errors, and seeds the derived random numbers.
    pub pipeline: String,
    /// The plugin's name; `None` takes the component's own, else the file's.
    pub name: Option<String>,
    /// Its version, as whoever deployed it calls it; `None` takes the component's own.
    pub version: Option<String>,
    /// What an instance and a call may use.
    pub limits: Limits,
    /// What the plugin may import beyond what every plugin has.
    pub grants: Grants,
    /// How many instances work at once, at least 1. Room for twice as many is reserved.
    pub instances: u32,
    /// Where the plugin's clocks start.
    pub clock: Clock,
    /// Where the plugin's log lines go.
    pub log: Arc<dyn PluginLog>,
}

impl PluginOptions {
    /// A pipeline's plugin with one instance, default limits, nothing granted, its lines to
    /// `tracing`.
    pub fn new(pipeline: impl Into<String>) -> Self {
        Self {
            pipeline: pipeline.into(),
            name: None,
            version: None,
            limits: Limits::default(),
            grants: Grants::default(),
            instances: 1,
            clock: Clock::default(),
            log: Arc::new(TracingLog),
        }
    }
}

/// What all instances of a plugin share.
pub(crate) struct PluginCore {
    pub(crate) pre: InstancePre<State>,
    /// `handle`, looked up once.
    pub(crate) handle_export: ComponentExportIndex,
    pub(crate) limits: Limits,
    pub(crate) stack_bytes: usize,
    pub(crate) clock: Clock,
    pub(crate) log: Arc<dyn PluginLog>,
    pub(crate) pipeline: Arc<str>,
    pub(crate) name: Arc<str>,
    /// What its calls cost, and whether it is held back for that.
    pub(crate) conduct: Arc<SharedConduct>,
    /// How many instances may live at a time.
    pub(crate) instances_max: u32,
    /// How many live now.
    pub(crate) instances_live: AtomicU32,
    /// Given back when the last instance is gone.
    pub(crate) _room: Reservation,
    /// Lets guests yield for as long as any can run.
    pub(crate) _ticker: Arc<Ticker>,
}

/// A plugin that was checked and can handle messages.
pub struct LoadedPlugin {
    core: Arc<PluginCore>,
    identity: PluginIdentity,
    report: PluginReport,
}

impl LoadedPlugin {
    pub(crate) fn new(core: PluginCore, report: PluginReport) -> Arc<Self> {
        let identity = PluginIdentity {
            name: report.name.clone(),
            version: report.version.clone(),
            digest: report.digest.clone(),
        };
        Arc::new(Self { core: Arc::new(core), identity, report })
    }

    /// What was found when it was loaded.
    pub fn report(&self) -> &PluginReport {
        &self.report
    }

    /// How much it was held back for its faults, all its instances together.
    pub fn rests(&self) -> Rests {
        self.core.conduct.rests()
    }
}

#[async_trait]
impl Plugin for LoadedPlugin {
    fn identity(&self) -> &PluginIdentity {
        &self.identity
    }

    async fn instance(&self) -> Result<Box<dyn Instance>, PluginError> {
        let live = LiveInstance::new(&self.core)?;
        let mut pace = Pace::new(self.core.conduct.clone());
        match instance::start(&self.core, &mut pace).await {
            Ok(warm) => Ok(Box::new(PluginInstance::new(self.core.clone(), warm, pace, live))),
            Err(NotStarted::Fault(fault)) => Err(PluginError(format!(
                "plugin {} of pipeline {}: {}: {}",
                self.identity.name,
                self.core.pipeline,
                fault.kind.as_str(),
                fault.reason
            ))),
            Err(NotStarted::NoRoom(reason)) => Err(PluginError(format!(
                "plugin {} of pipeline {}: no room for an instance: {reason}",
                self.identity.name, self.core.pipeline
            ))),
        }
    }
}

/// One of a plugin's live instances: counted, so that no pipeline takes another's room.
pub(crate) struct LiveInstance(Arc<PluginCore>);

impl LiveInstance {
    fn new(core: &Arc<PluginCore>) -> Result<Self, PluginError> {
        let (live, max) = (&core.instances_live, core.instances_max);
        let one_more = |live: u32| (live < max).then_some(live + 1);
        live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).map_err(|live| {
            PluginError(format!(
                "plugin {} of pipeline {} has {live} instances, for which its room is reserved: \
                 raise the pipeline's `instances`",
                core.name, core.pipeline
            ))
        })?;
        Ok(Self(core.clone()))
    }
}

impl Drop for LiveInstance {
    fn drop(&mut self) {
        self.0.instances_live.fetch_sub(1, Ordering::Relaxed);
    }
}
