//! Instance: one instantiated plugin, kept warm between messages, replaced after anything unclean.
//!
//! Station `attempt` calls it. Invariants: at most one call is in the guest; a store is kept only
//! after a call that returned and kept every limit. A call that trapped, timed out or was dropped
//! takes its store with it, so nothing of it is seen by the next message.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millstream_core::message::Message;
use millstream_core::outcome::{Fault, Outcome};
use millstream_core::plugin::{AttemptContext, Instance, Usage};
use wasmtime::component::ResourceTable;
use wasmtime::{PoolConcurrencyLimitError, Store};
use wasmtime_wasi::WasiCtx;

use crate::capabilities::clock::GuestClock;
use crate::capabilities::random::GuestRandom;
use crate::capabilities::wasi;
use crate::contract::{self, HandleFunction, MessageIn};
use crate::fault::{self, Stage};
use crate::limits::Limiter;
use crate::pacing::{Pace, Run};
use crate::plugin::{LiveInstance, PluginCore};
use crate::plugin_log::InstanceLog;

/// How many host resources (streams, pollables) a guest may hold.
const RESOURCES_MAX: usize = 1_000;

/// How long a lane waits when the pool has no slot. It had one reserved, so it comes back at once.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);

/// What the host keeps beside a guest's memory.
pub(crate) struct State {
    pub(crate) limiter: Limiter,
    pub(crate) log: InstanceLog,
    pub(crate) clock: GuestClock,
    pub(crate) random: GuestRandom,
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
}

impl State {
    fn new(core: &PluginCore) -> Self {
        let log = InstanceLog::new(
            core.log.clone(),
            core.pipeline.clone(),
            core.name.clone(),
            &core.limits,
        );
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            limiter: Limiter::new(&core.limits),
            wasi: wasi::context(&log),
            log,
            clock: GuestClock::new(core.clock),
            random: GuestRandom::new(core.pipeline.clone()),
            table,
        }
    }

    fn begin(&mut self, message: &Message, context: AttemptContext) {
        self.limiter.refused = None;
        self.log.lock().begin(message, context.trace);
        self.clock.begin(context.timestamp);
        self.random.begin(&message.topic, message.partition, context.turn, context.attempt);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // A cancelled call has not finished its log.
        self.log.lock().finish();
    }
}

/// An instance that can take a message.
pub(crate) struct Warm {
    store: Store<State>,
    handle: HandleFunction,
}

/// Why there is no instance.
pub(crate) enum NotStarted {
    /// The guest failed.
    Fault(Fault),
    /// The pool has no slot.
    NoRoom(String),
}

/// Makes a fresh instance, its start bounded by the time limit. What it takes is charged like a fault:
/// an instance that ends its calls well starts once.
pub(crate) async fn start(core: &PluginCore, pace: &mut Pace) -> Result<Warm, NotStarted> {
    let mut store = Store::new(core.pre.engine(), State::new(core));
    store.limiter(|state| &mut state.limiter);
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    store.set_hostcall_fuel(contract::hostcall_fuel(&core.limits));
    store.set_max_component_handles(RESOURCES_MAX);

    let starting = async {
        let instance = core.pre.instantiate_async(&mut store).await?;
        instance.get_typed_func(&mut store, core.handle_export)
    };
    let Run { returned, mut cost } = pace.run(core.limits.time, starting).await;
    let fault = match returned {
        Some(Ok(handle)) => {
            store.data().log.lock().finish();
            pace.burnt(cost);
            return Ok(Warm { store, handle });
        }
        Some(Err(error)) if error.is::<PoolConcurrencyLimitError>() => {
            return Err(NotStarted::NoRoom(error.to_string()));
        }
        Some(Err(error)) => {
            let (state, stage) = (store.data(), Stage::Start);
            fault::of_error(&error, state, &core.limits, core.stack_bytes, stage)
        }
        None => fault::of_timeout(store.data(), &core.limits, cost.rested, Stage::Start),
    };
    cost.add_dropping(store);
    pace.burnt(cost);
    pace.settle().await;
    Err(NotStarted::Fault(fault))
}

/// A plugin's instance, as the core uses it.
pub(crate) struct PluginInstance {
    core: Arc<PluginCore>,
    /// `None` while a call is under way, after a fault and after a cancelled call.
    warm: Option<Warm>,
    pace: Pace,
    /// Since they were asked for.
    restarts: u64,
    /// Counts this instance among the plugin's.
    _live: LiveInstance,
}

impl PluginInstance {
    pub(crate) fn new(core: Arc<PluginCore>, warm: Warm, pace: Pace, live: LiveInstance) -> Self {
        Self { core, warm: Some(warm), pace, restarts: 0, _live: live }
    }
}

#[async_trait]
impl Instance for PluginInstance {
    async fn handle(&mut self, message: &Message, context: AttemptContext) -> Outcome {
        // Taken out: if this future is dropped, the store goes with it.
        let mut warm = match self.warm.take() {
            Some(warm) => warm,
            None => match start(&self.core, &mut self.pace).await {
                Ok(warm) => {
                    self.restarts += 1;
                    warm
                }
                Err(NotStarted::Fault(fault)) => return Outcome::Fault(fault),
                Err(NotStarted::NoRoom(reason)) => {
                    let reason = format!("no room for the plugin's instance: {reason}");
                    return Outcome::Pause { reason, pause: NO_ROOM_PAUSE };
                }
            },
        };
        let limits = &self.core.limits;
        warm.store.data_mut().begin(message, context);
        // From now: a tick that passed between messages must not make the guest yield at once.
        warm.store.set_epoch_deadline(1);
        let call = warm.handle.call_async(&mut warm.store, (MessageIn::new(message, context),));
        let Run { returned, mut cost } = self.pace.run(limits.time, call).await;
        let state = warm.store.data();
        let outcome = match returned {
            Some(Ok((answer,))) => contract::outcome(answer, limits),
            Some(Err(error)) => {
                let stack_bytes = self.core.stack_bytes;
                Outcome::Fault(fault::of_error(&error, state, limits, stack_bytes, Stage::Call))
            }
            None => Outcome::Fault(fault::of_timeout(state, limits, cost.rested, Stage::Call)),
        };
        state.log.lock().finish();
        if matches!(outcome, Outcome::Fault(_)) {
            cost.add_dropping(warm);
            self.pace.burnt(cost);
            self.pace.settle().await;
        } else {
            self.warm = Some(warm);
            self.pace.ended_well(cost);
        }
        outcome
    }

    fn take_usage(&mut self) -> Usage {
        let memory_bytes = self.warm.as_ref().map(|warm| warm.store.data().limiter.memory_bytes());
        Usage {
            rested: self.pace.take_rested(),
            restarts: std::mem::take(&mut self.restarts),
            memory_bytes: memory_bytes.unwrap_or(0),
        }
    }
}
