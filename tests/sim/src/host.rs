//! Hosts: each runs the real core, dies as it was drawn, and is started again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use millstream_core::idempotency::IdempotencyStore;
use millstream_core::idempotency::in_topic::MarksInTopic;
use millstream_core::log::Log;
use millstream_core::message::EpochMs;
use millstream_core::metrics::Metrics;
use millstream_core::pipeline::{Pipeline, PipelineError, Ports, SuspicionRight, Until};
use millstream_core::plugin_slot::PluginSlot;
use millstream_core::shutdown::{Shutdown, Trigger};
use millstream_core::status::PipelineStatus;
use millstream_log_simulated::{CrashAt, Draw, HostId, SimClock, SimCluster};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::checks::Holds;
use crate::handler::ScriptedPlugin;
use crate::history::History;
use crate::mark_copy::MemoryCopy;
use crate::planted::Bug;
use crate::scenario::Scenario;

/// How long a stop may take beyond the drain deadline: commits and releases under way.
pub const STOP_SLACK: Duration = Duration::from_secs(90);

/// How often it is looked at what a host holds.
const LOOK: Duration = Duration::from_millis(100);

/// What a host is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Run, and after a stop or crash run again.
    Run,
    /// Die now; the number tells one order from another.
    Die(u64),
    /// Stop in order, then run again.
    Stop(u64),
    /// Stop in order and stay away.
    End,
}

/// What all hosts share. Of each host that lives: its clock, and what it told last that it holds.
#[derive(Clone)]
pub struct World {
    /// The scenario.
    pub scenario: Arc<Scenario>,
    /// The cluster.
    pub cluster: SimCluster,
    /// The history.
    pub history: Arc<History>,
    /// A planted bug, if the checks are to be tested.
    pub bug: Option<Bug>,
    /// The clock of each host, by its number.
    pub(crate) clocks: Arc<Mutex<BTreeMap<usize, (HostId, SimClock)>>>,
    /// What each host that lives holds.
    pub(crate) held: Arc<Mutex<BTreeMap<HostId, Holds>>>,
}

impl World {
    fn has_clock(&self, host: usize, id: HostId, clock: &SimClock) {
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.insert(host, (id, clock.clone()));
    }

    /// The clock of a host jumps, if the host lives.
    pub(crate) fn jump(&self, host: usize, by: EpochMs) {
        let clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, clock)) = clocks.get(&host) {
            clock.jump(by);
            let mut book = self.history.book();
            // What was read when it was behind is due too early when it is right again.
            *book.skews.entry(*id).or_default() += by.max(0);
        }
    }

    /// A host that holds something, as it told last.
    pub(crate) fn first_held(&self) -> Option<String> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let first = held.iter().find(|(_, holds)| !holds.are_none());
        first.map(|(host, holds)| format!("{host} has {holds:?}"))
    }
}

/// How a life ended.
#[derive(Debug)]
enum LifeEnd {
    Died,
    /// With how long it took since it was asked to stop, if it was.
    Ran(Result<(), PipelineError>, Option<Duration>),
    DidNotStop,
}

/// A future that is dropped after so many polls: a crash at any await point.
struct DropAfter<F> {
    root: Option<Pin<Box<F>>>,
    polls_left: Option<u64>,
}

impl<F: Future> Future for DropAfter<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(left) = &mut self.polls_left {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => self.root = None,
            }
        }
        match &mut self.root {
            Some(root) => root.as_mut().poll(context).map(Some),
            None => Poll::Ready(None),
        }
    }
}

/// Runs one host until it is ordered to end: one life after the other.
pub async fn host(world: World, number: usize, mut orders: watch::Receiver<Order>, mut draw: Draw) {
    let mut copy = Arc::new(MemoryCopy::default());
    loop {
        if draw.chance(200) {
            // Its disk is lost.
            copy = Arc::default();
        }
        let order = *orders.borrow_and_update();
        if order == Order::End {
            return;
        }
        life(&world, number, &mut orders, &mut draw, &copy).await;
        copy.life_ended();
        if *orders.borrow() != Order::End {
            tokio::time::sleep(Duration::from_millis(draw.between(0, 2_500))).await;
        }
    }
}

async fn life(
    world: &World,
    number: usize,
    orders: &mut watch::Receiver<Order>,
    draw: &mut Draw,
    copy: &Arc<MemoryCopy>,
) {
    let calm = world.history.book().calm;
    let chances = world.scenario.crashes;
    let (by_call, by_polls) = (draw.chance(chances.at_call), draw.chance(chances.after_polls));
    // Few calls as often as many: what breaks at the start is not what breaks later.
    let most = *draw.pick(&[30, 200, 1_500]).unwrap_or(&200);
    let crash_at = CrashAt { call: draw.between(1, most), carried_out: draw.chance(600) };
    let polls = draw.between(1, most * 2);
    let log = world.cluster.host((by_call && !calm).then_some(crash_at));
    let id = log.host();
    world.history.note(&format!("{id} starts"));
    let (trigger, shutdown) = Shutdown::new();
    let skew = draw.below(3_000);
    world.history.book().skews.insert(id, EpochMs::try_from(skew).unwrap_or(0));
    let clock = world.cluster.clock(Duration::from_millis(skew));
    world.has_clock(number, id, &clock);
    let own_store = Arc::new(log.clone());
    let mut log: Arc<dyn Log> = Arc::new(log);
    let mut spec = world.scenario.spec.clone();
    if let Some(bug) = world.bug {
        log = bug.between(log);
        bug.spec(&mut spec);
    }
    let store: Arc<dyn IdempotencyStore> = match &spec.idempotency {
        Some(idempotency) if idempotency.in_topic => {
            Arc::new(MarksInTopic::new(Arc::clone(&log), Arc::clone(copy) as _))
        }
        _ => own_store,
    };
    let store = match world.bug {
        Some(bug) => bug.store(store),
        None => store,
    };
    let metrics = match Metrics::new(&prometheus::Registry::new()) {
        Ok(metrics) => metrics,
        Err(error) => {
            let what = format!("metrics: {error}");
            return world.history.book().violate("a fresh registry takes the metrics", what);
        }
    };
    let kill = Arc::new(Notify::new());
    let ports = Ports {
        log,
        plugin: PluginSlot::holding(Arc::new(ScriptedPlugin::new(
            world.history.clone(),
            id,
            kill.clone(),
        ))),
        idempotency: Some(store),
        clock: Arc::new(clock),
        metrics: metrics.clone(),
        suspicion: SuspicionRight::default(),
        traces: None,
    };
    let pipeline = Pipeline::new(spec, ports);
    let status = pipeline.status();
    let root = pipeline.run(shutdown, Until::Shutdown);
    let polls_left = (by_polls && !calm).then_some(polls);
    let root = DropAfter { root: Some(Box::pin(root)), polls_left };
    let living = live(world, orders, trigger, root, id);
    let end = tokio::select! {
        biased;
        () = kill.notified() => LifeEnd::Died,
        end = living => end,
        never = looked_at(world, id, &status, &metrics) => match never {},
    };
    world.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    if let LifeEnd::Ran(Ok(()), Some(took)) = &end
        && *took < world.scenario.spec.drain
    {
        // Not a moment later: burying is a crash to the book.
        if calm {
            world.history.book().check_stopped(id);
        }
    } else {
        world.history.book().lossy = true;
    }
    world.cluster.bury(id);
    world.history.note(&format!("{id} is gone: {end:?}"));
    judge(world, end, calm);
}

async fn live(
    world: &World,
    orders: &mut watch::Receiver<Order>,
    trigger: Trigger,
    mut root: DropAfter<impl Future<Output = Result<(), PipelineError>>>,
    id: HostId,
) -> LifeEnd {
    let mut asked: Option<Instant> = None;
    let stop_within = world.scenario.spec.drain + STOP_SLACK;
    loop {
        tokio::select! {
            biased;
            () = world.cluster.dead(id) => return LifeEnd::Died,
            ended = &mut root => {
                let took = asked.map(|asked| asked.elapsed());
                return ended.map_or(LifeEnd::Died, |ended| LifeEnd::Ran(ended, took));
            }
            changed = orders.changed(), if asked.is_none() => {
                let order = *orders.borrow_and_update();
                match order {
                    Order::Run => {}
                    Order::Die(_) => return LifeEnd::Died,
                    Order::Stop(_) | Order::End => {
                        world.history.note(&format!("{id} is asked to stop"));
                        trigger.request();
                        asked = Some(Instant::now());
                    }
                }
                if changed.is_err() {
                    return LifeEnd::Died;
                }
            }
            () = until(asked.map(|asked| asked + stop_within)) => return LifeEnd::DidNotStop,
        }
    }
}

/// Has a look at what the host holds, again and again.
async fn looked_at(
    world: &World,
    id: HostId,
    status: &PipelineStatus,
    metrics: &Metrics,
) -> Infallible {
    let name = world.scenario.spec.name.as_str();
    loop {
        tokio::time::sleep(LOOK).await;
        let holds = Holds {
            messages: metrics.in_flight_messages.with_label_values(&[name]).get(),
            bytes: metrics.in_flight_bytes.with_label_values(&[name]).get(),
            partitions: status.report().partitions,
        };
        world.history.book().check_memory(id, &holds);
        world.held.lock().unwrap_or_else(PoisonError::into_inner).insert(id, holds);
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn judge(world: &World, end: LifeEnd, began_calm: bool) {
    let mut book = world.history.book();
    match end {
        LifeEnd::Died | LifeEnd::Ran(Ok(()), _) => {}
        LifeEnd::Ran(Err(PipelineError::Stopped(_)), _) if book.needs_a_person => {}
        // No fault of the log is one that a person must see to.
        LifeEnd::Ran(Err(error @ (PipelineError::Stopped(_) | PipelineError::Bug(_))), _) => {
            book.violate("no fault that passes stops the pipeline", error.to_string());
        }
        LifeEnd::Ran(Err(error), _) if began_calm => {
            book.violate("without faults the pipeline does not stop", error.to_string());
        }
        LifeEnd::Ran(Err(PipelineError::Fenced(_)), _) => {}
        LifeEnd::DidNotStop => {
            let drain = world.scenario.spec.drain;
            let what = format!("not after {:?} beyond the drain of {drain:?}", STOP_SLACK);
            book.violate("a stop ends", what);
        }
    }
}
