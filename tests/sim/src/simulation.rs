//! Simulation: one seed from beginning to end. First with faults, then without; then everything
//! must be settled, and a stop must leave it committed.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::pipeline_spec::KeepOrder;
use millstream_log_simulated::{Draw, Faults, Patience, SimCluster};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::history::History;
use crate::host::{Order, World, host};
use crate::planted::Bug;
use crate::scenario::Scenario;
use crate::troubles::{Forgotten, Trouble};

/// More calls to the log than this mean that the core goes in circles.
const CALLS_MAX: u64 = 400_000;

/// How long a host may still hold something when all is settled: a start, a commit, a look at the log's ends.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(20);

/// How often the simulation looks whether all is settled, or something broke.
const LOOK: Duration = Duration::from_millis(100);

/// What came of a seed.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The promise that was broken, and how.
    pub violation: Option<String>,
    /// The last lines of what happened.
    pub trace: Vec<String>,
    /// The same for the same history.
    pub hash: u64,
    /// Attempts made.
    pub attempts: usize,
    /// Calls to the log.
    pub calls: u64,
    /// Virtual time.
    pub lasted: Duration,
    /// What was drawn, in short.
    pub drawn: String,
}

/// What a simulation is to do beside what its seed says.
#[derive(Clone, Default)]
pub struct Options {
    /// A planted bug.
    pub bug: Option<Bug>,
    /// Keep the whole trace.
    pub keep_trace: bool,
    /// Promises that are not looked at, by how they begin: to see past a known failure.
    pub ignored: Vec<String>,
}

/// Simulates a seed.
///
/// # Errors
/// When the operating system gives no runtime.
pub fn simulate(seed: u64, options: &Options) -> std::io::Result<Report> {
    play(Scenario::draw(seed), options)
}

/// Simulates a scenario.
///
/// # Errors
/// When the operating system gives no runtime.
pub fn play(scenario: Scenario, options: &Options) -> std::io::Result<Report> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(run(Arc::new(scenario), options)))
}

async fn run(scenario: Arc<Scenario>, options: &Options) -> Report {
    let begin = Instant::now();
    // What the cluster draws must not move when a scenario draws one number more.
    let mut draw = Draw::new(scenario.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let history = Arc::new(History::new(scenario.clone()));
    if options.keep_trace {
        history.book().trace.keep_all();
    }
    history.book().ignored = options.ignored.clone();
    let cluster = SimCluster::new(draw.fork(1), scenario.faults.clone(), history.clone());
    cluster.set_commit_metadata_bytes_max(scenario.commit_metadata_bytes_max);
    cluster.set_patience(Patience {
        session: Duration::from_millis(draw.between(0, 8_000)),
        release: Duration::from_secs(60),
    });
    cluster.set_eager(scenario.eager);
    for spec in &scenario.topics {
        cluster.create_topic(spec.clone());
    }
    let world = World {
        scenario: scenario.clone(),
        cluster: cluster.clone(),
        history: history.clone(),
        bug: options.bug,
        clocks: Arc::default(),
        held: Arc::default(),
    };
    let mut hosts = JoinSet::new();
    let mut orders = Vec::new();
    for number in 0..scenario.hosts {
        let (sender, receiver) = watch::channel(Order::Run);
        orders.push(sender);
        hosts.spawn(host(world.clone(), number, receiver, draw.fork(10 + number as u64)));
    }
    let rough = rough(&world, &orders);
    watched(&world, rough).await;
    if history.violation().is_none() {
        calm(&world, &orders, &mut hosts, &mut draw).await;
    }
    hosts.shutdown().await;
    // The cluster tells the history: it is never asked while the book is open.
    let calls = cluster.calls();
    let book = history.book();
    Report {
        seed: scenario.seed,
        violation: book.violation.clone(),
        trace: book.trace.lines().map(str::to_owned).collect(),
        hash: book.trace.hash(),
        attempts: book.runs.len(),
        calls,
        lasted: begin.elapsed(),
        drawn: drawn(&scenario),
    }
}

/// Does something until it is done or a promise is broken.
async fn watched(world: &World, doing: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = doing => {}
        () = broken(world) => {}
    }
}

async fn broken(world: &World) {
    while world.history.violation().is_none() {
        tokio::time::sleep(LOOK).await;
        let calls = world.cluster.calls();
        if calls > CALLS_MAX {
            let what = format!("{calls} calls to the log");
            world.history.book().violate("the core does not go in circles", what);
        }
    }
}

/// The first phase: messages are produced and troubles happen, each at its time.
async fn rough(world: &World, orders: &[watch::Sender<Order>]) {
    let scenario = &world.scenario;
    let begin = Instant::now();
    let producing = async {
        for (at, facts) in &scenario.messages {
            tokio::time::sleep_until(begin + *at).await;
            world.cluster.produce(vec![facts.record()]);
        }
    };
    let troubling = async {
        let mut troubles = JoinSet::new();
        for (number, (at, trouble)) in (1..).zip(&scenario.troubles) {
            tokio::time::sleep_until(begin + *at).await;
            world.history.note(&format!("TROUBLE {trouble:?}"));
            trouble_now(world, orders, trouble, number, &mut troubles);
        }
        while troubles.join_next().await.is_some() {}
    };
    let lasting = tokio::time::sleep_until(begin + scenario.rough);
    tokio::join!(producing, troubling, lasting);
}

fn trouble_now(
    world: &World,
    orders: &[watch::Sender<Order>],
    trouble: &Trouble,
    number: u64,
    troubles: &mut JoinSet<()>,
) {
    let order = |host: &usize, order: Order| {
        if let Some(sender) = orders.get(*host) {
            sender.send_replace(order);
        }
    };
    let cluster = world.cluster.clone();
    match trouble {
        Trouble::Shake { chance, at_once } => {
            cluster.shake(&world.scenario.spec.group, *chance, *at_once);
        }
        Trouble::Crash(host) => order(host, Order::Die(number)),
        Trouble::Stop(host) => order(host, Order::Stop(number)),
        Trouble::Outage(away) => {
            let away = *away;
            cluster.set_outage(true);
            troubles.spawn(async move {
                tokio::time::sleep(away).await;
                cluster.set_outage(false);
            });
        }
        Trouble::FullDisk(away) => {
            let away = *away;
            cluster.set_full_disk(true);
            troubles.spawn(async move {
                tokio::time::sleep(away).await;
                cluster.set_full_disk(false);
            });
        }
        Trouble::Expel => cluster.expel(&world.scenario.spec.group),
        Trouble::ClockJump(host, by) => world.jump(*host, *by),
        Trouble::Retain(topic, per_mille) => cluster.retain(topic, *per_mille),
        Trouble::Compact(topic) => cluster.compact(topic),
        Trouble::Forget(which) => {
            orders.iter().for_each(|sender| {
                sender.send_replace(Order::Die(number));
            });
            let (which, scenario) = (*which, world.scenario.clone());
            troubles.spawn(async move {
                // All of them are dead by then, and none is back.
                tokio::time::sleep(Duration::from_millis(1)).await;
                cluster.forget_commits(&scenario.spec.group, |partition, _| {
                    let is_source = scenario.spec.topics.contains(&partition.topic);
                    match which {
                        Forgotten::Sources => is_source,
                        Forgotten::Companions => !is_source,
                        Forgotten::All => true,
                    }
                });
            });
        }
        Trouble::StoreOutage(away) => {
            let away = *away;
            cluster.set_store_outage(true);
            troubles.spawn(async move {
                tokio::time::sleep(away).await;
                cluster.set_store_outage(false);
            });
        }
    }
}

/// The second phase: no faults, everything settles; then all hosts stop in order.
async fn calm(
    world: &World,
    orders: &[watch::Sender<Order>],
    hosts: &mut JoinSet<()>,
    draw: &mut Draw,
) {
    world.history.note("CALM: no faults from now on");
    world.history.book().calm = true;
    world.cluster.set_outage(false);
    world.cluster.set_store_outage(false);
    world.cluster.set_full_disk(false);
    world.cluster.land_all();
    world.cluster.spare_hosts();
    world.cluster.set_faults(Faults { latency_ms_max: draw.below(6), ..Faults::default() });
    let begin = Instant::now();
    if draw.chance(300) {
        // A stop without faults, in the midst of it.
        let wait = Duration::from_millis(draw.between(0, 3_000));
        watched(world, tokio::time::sleep(wait)).await;
        if let Some(order) = draw.pick(orders) {
            order.send_replace(Order::Stop(u64::MAX));
        }
    }
    let settling = async {
        loop {
            tokio::time::sleep(LOOK).await;
            let elapsed = begin.elapsed();
            let at = world.scenario.rough + elapsed;
            if world.history.book().is_settled(at) {
                nothing_held(world).await;
                // What the log has removed may still be in a host's hand, and goes on into a tier from there.
                if world.history.book().is_settled(at) {
                    return;
                }
            }
            if elapsed > world.scenario.settles_within {
                let mut book = world.history.book();
                let left = book.first_left();
                let what = format!("not within {:?}: {left}", world.scenario.settles_within);
                book.violate("everything settles once faults stop", what);
                return;
            }
        }
    };
    watched(world, settling).await;
    watched(world, forgetting(world, begin)).await;
    world.history.note("END: hosts are asked to stop");
    for order in orders {
        order.send_replace(Order::End);
    }
    let stopping = async { while hosts.join_next().await.is_some() {} };
    watched(world, stopping).await;
    world.history.book().check_end();
}

/// What is settled leaves the hosts' memory soon.
async fn nothing_held(world: &World) {
    let settled = Instant::now();
    while let Some(held) = world.first_held() {
        tokio::time::sleep(LOOK).await;
        if settled.elapsed() > FORGOTTEN_WITHIN {
            return world.history.book().violate("what is settled takes no memory", held);
        }
    }
}

/// Everything is settled and nothing comes. Where the log forgets commits it would do so now.
async fn forgetting(world: &World, since: Instant) {
    let Some(kept) = world.scenario.commits_kept else { return };
    while since.elapsed() < kept * 2 {
        tokio::time::sleep(kept / 20).await;
        if since.elapsed() > kept {
            let group = &world.scenario.spec.group;
            world.cluster.forget_commits(group, |_, stood| stood > kept);
        }
    }
}

fn drawn(scenario: &Scenario) -> String {
    let spec = &scenario.spec;
    format!(
        "{:?}, order {:?}{}, {} messages, {} hosts, {} in flight of {} bytes, {} instances, delays {:?}, idempotency {:?}, commit every {:?}, drain {:?}, metadata {} bytes, faults {:?}, crashes {:?}, {}commits kept {:?}",
        spec.delivery,
        spec.ordering,
        match spec.retry.keep_order {
            KeepOrder::OfPartition => " retried in place".to_owned(),
            KeepOrder::OfKey => format!(
                " kept ({} messages of {} bytes may wait)",
                spec.waiting_messages, spec.waiting_bytes
            ),
            KeepOrder::No => String::new(),
        },
        scenario.messages.len(),
        scenario.hosts,
        spec.in_flight_messages,
        spec.in_flight_bytes,
        spec.instances,
        spec.retry.delays,
        spec.idempotency.as_ref().map(|i| (&i.key, i.missing)),
        spec.commit_interval,
        spec.drain,
        scenario.commit_metadata_bytes_max,
        scenario.faults,
        scenario.crashes,
        if scenario.eager { "eager rebalances, " } else { "" },
        scenario.commits_kept,
    )
}
