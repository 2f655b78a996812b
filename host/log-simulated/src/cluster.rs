//! The cluster: what outlives hosts. Topics, groups, commits and marks, shared by all hosts.
//!
//! Invariants: nothing here depends on anything but the seed and the order of calls; the lock is
//! never held across an await; time-bound changes (sessions, transactions, patience) are carried
//! out by whoever looks next, so that no task is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_core::clock::WallClock;
use millstream_core::log::{Commit, Ends, TopicSpec};
use millstream_core::message::{EpochMs, Message, Partition, Record};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::draw::Draw;
use crate::faults::Faults;
use crate::group::Group;
use crate::happening::{Happening, HostId, Observer};
use crate::log::SimLog;
use crate::partition_log::PartitionLog;
use crate::sends::Sends;
use crate::store::Marks;
use crate::topics::{Topics, append_all};
use crate::transaction::OpenTransactions;

/// 2025-01-01T00:00:00Z: where the simulated wall clock stands when a cluster begins.
pub const WALL_CLOCK_BEGIN: EpochMs = 1_735_689_600_000;

/// How long the cluster waits for a crashed host, and for a host that was told to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A crashed member's partitions are given to others after this.
    pub session: Duration,
    /// Partitions that were revoked and not released are taken away after this.
    pub release: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { session: Duration::from_secs(6), release: Duration::from_secs(60) }
    }
}

/// A call that kills its host: the `call`-th from the beginning of the host's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashAt {
    /// Counted from 1.
    pub call: u64,
    /// Whether the call is carried out first.
    pub carried_out: bool,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) alive: bool,
    /// Its futures were dropped: a call from now on comes from a task that outlived them.
    pub(crate) buried: bool,
    pub(crate) calls: u64,
    pub(crate) crash_at: Option<CrashAt>,
}

/// What the cluster will do by itself when its time comes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A dead member's partitions are given to others.
    Session { group: String, member: u64 },
    /// A revoked partition that was not released is taken away.
    Release { group: String, partition: Partition, epoch: u64 },
    /// An open transaction ends.
    Resolve { transaction: u64 },
    /// An append that is on the wire lands.
    Land { send: u64 },
}

pub(crate) struct State {
    pub(crate) draw: Draw,
    pub(crate) faults: Faults,
    pub(crate) outage: bool,
    pub(crate) store_outage: bool,
    pub(crate) full_disk: bool,
    pub(crate) eager: bool,
    pub(crate) patience: Patience,
    pub(crate) hosts: BTreeMap<HostId, Host>,
    pub(crate) topics: Topics,
    pub(crate) groups: BTreeMap<String, Group>,
    /// The latest claim of each writer's name.
    pub(crate) writers: BTreeMap<String, u64>,
    pub(crate) marks: Marks,
    pub(crate) open: OpenTransactions,
    pub(crate) sends: Sends,
    pub(crate) agenda: BTreeSet<(Instant, Due)>,
    pub(crate) calls: u64,
    pub(crate) commit_metadata_bytes_max: usize,
    begin: Instant,
    observer: Arc<dyn Observer>,
}

impl State {
    pub(crate) fn tell(&self, happening: &Happening<'_>) {
        self.observer.observe(self.begin.elapsed(), happening);
    }

    pub(crate) fn wall(&self) -> EpochMs {
        WALL_CLOCK_BEGIN + EpochMs::try_from(self.begin.elapsed().as_millis()).unwrap_or(0)
    }

    /// Carries out what is due.
    pub(crate) fn advance(&mut self) {
        let now = Instant::now();
        while let Some((at, due)) = self.agenda.pop_first() {
            if at > now {
                self.agenda.insert((at, due));
                return;
            }
            match due {
                Due::Session { group, member } => self.expire_session(&group, member),
                Due::Release { group, partition, epoch } => {
                    self.take_unreleased(&group, &partition, epoch);
                }
                Due::Resolve { transaction } => self.resolve(transaction),
                Due::Land { send } => self.land(send),
            }
        }
    }

    pub(crate) fn later(&mut self, after: Duration, due: Due) {
        self.agenda.insert((Instant::now() + after, due));
    }
}

pub(crate) struct Shared {
    state: Mutex<State>,
    /// Notified whenever something changed that a waiting call may wait for.
    pub(crate) changed: Notify,
    /// Notified when a host crashed by itself.
    pub(crate) crashed: Notify,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A checker that panicked while it was told has its say in its own test; the state is whole.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance();
        state
    }

    /// Changes the state and wakes who may wait for it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        result
    }

    /// Waits until `ready` gives something, looking again at every change and at every time that
    /// the cluster does something by itself.
    pub(crate) async fn wait_for<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            let wake = {
                let mut state = self.lock();
                if let Some(result) = ready(&mut state) {
                    return result;
                }
                state.agenda.first().map(|(at, _)| *at)
            };
            sleep_or(wake, changed).await;
        }
    }

    pub(crate) fn crash(&self, host: HostId) {
        self.change(|state| state.crash(host));
        self.crashed.notify_waiters();
    }
}

/// A simulated cluster; a clone is the same cluster.
#[derive(Clone)]
pub struct SimCluster {
    shared: Arc<Shared>,
}

impl SimCluster {
    /// An empty cluster whose chances are drawn from `draw`. Needs a tokio runtime around it, for
    /// its clock.
    pub fn new(draw: Draw, faults: Faults, observer: Arc<dyn Observer>) -> Self {
        let state = State {
            draw,
            faults,
            outage: false,
            store_outage: false,
            full_disk: false,
            eager: false,
            patience: Patience::default(),
            hosts: BTreeMap::new(),
            topics: Topics::default(),
            groups: BTreeMap::new(),
            writers: BTreeMap::new(),
            marks: Marks::default(),
            open: OpenTransactions::default(),
            sends: Sends::default(),
            agenda: BTreeSet::new(),
            calls: 0,
            commit_metadata_bytes_max: 4096,
            begin: Instant::now(),
            observer,
        };
        let shared =
            Shared { state: Mutex::new(state), changed: Notify::new(), crashed: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// A new life of a host: its log and idempotency store.
    pub fn host(&self, crash_at: Option<CrashAt>) -> SimLog {
        let host = self.shared.change(|state| {
            let host = HostId(state.hosts.len() as u64 + 1);
            state.hosts.insert(host, Host { alive: true, buried: false, calls: 0, crash_at });
            host
        });
        SimLog::new(self.shared.clone(), host)
    }

    /// The host is dead: its calls are never answered, its session ends after a while. Whoever runs
    /// it drops its futures now.
    pub fn crash(&self, host: HostId) {
        self.shared.crash(host);
    }

    /// The host's futures are gone, after a crash or a stop: a call from now on is told as
    /// [`Happening::CallOfTheDead`].
    pub fn bury(&self, host: HostId) {
        self.shared.crash(host);
        self.shared.change(|state| {
            if let Some(host) = state.hosts.get_mut(&host) {
                host.buried = true;
            }
        });
    }

    /// Waits until the host is dead, by [`CrashAt`] or by [`Self::crash`].
    pub async fn dead(&self, host: HostId) {
        loop {
            let crashed = self.shared.crashed.notified();
            if !self.shared.lock().hosts.get(&host).is_some_and(|h| h.alive) {
                return;
            }
            crashed.await;
        }
    }

    /// Changes the faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.change(|state| state.faults = faults);
    }

    /// Whether every call of every host fails, as when the brokers are away.
    pub fn set_outage(&self, outage: bool) {
        self.shared.change(|state| state.outage = outage);
    }

    /// Whether every call to the idempotency store fails.
    pub fn set_store_outage(&self, outage: bool) {
        self.shared.change(|state| state.store_outage = outage);
    }

    /// Whether nothing can be written: appends, transactions and new topics are refused, the rest goes on.
    pub fn set_full_disk(&self, full: bool) {
        self.shared.change(|state| state.full_disk = full);
    }

    /// Whether a rebalance takes all partitions from all members before any is given anew (Kafka's eager
    /// protocol), not only those that move.
    pub fn set_eager(&self, eager: bool) {
        self.shared.change(|state| state.eager = eager);
    }

    /// No host dies by itself from now on.
    pub fn spare_hosts(&self) {
        self.shared.change(|state| state.hosts.values_mut().for_each(|h| h.crash_at = None));
    }

    /// How long the cluster waits for others.
    pub fn set_patience(&self, patience: Patience) {
        self.shared.change(|state| state.patience = patience);
    }

    /// What [`millstream_core::log::Log::commit_metadata_bytes_max`] answers.
    pub fn set_commit_metadata_bytes_max(&self, bytes: usize) {
        self.shared.change(|state| state.commit_metadata_bytes_max = bytes);
    }

    /// Creates a topic, or adds partitions to it, from outside and without faults.
    pub fn create_topic(&self, spec: TopicSpec) {
        // Outside means the simulation itself, which asks for nothing that can be refused.
        let _ = self.shared.change(|state| state.topics.create(spec));
    }

    /// Appends from outside, without faults but with gaps. Records that the log does not take are
    /// left out.
    pub fn produce(&self, records: Vec<Record>) {
        self.shared.change(|state| append_all(state, None, false, records));
    }

    /// Takes partitions of a group away from their owners, each with `per_mille` chance: at once
    /// (`Lost`), or with time to give back (`Revoked`). They are given to members anew.
    pub fn shake(&self, group: &str, per_mille: u32, at_once: bool) {
        self.shared.change(|state| state.shake(group, per_mille, at_once));
    }

    /// Throws a member of the group out, drawn from those that are alive: it owns nothing any more, and its
    /// next poll says so.
    pub fn expel(&self, group: &str) {
        self.shared.change(|state| state.expel(group));
    }

    /// Retention removes the `per_mille` of each partition of a topic that are oldest.
    pub fn retain(&self, topic: &str, per_mille: u32) {
        self.shared.change(|state| {
            state.remove(topic, |log| {
                let readable = log.messages().count() as u64;
                let count = readable.saturating_mul(u64::from(per_mille)) / 1000;
                log.retain(usize::try_from(count).unwrap_or(usize::MAX))
            });
        });
    }

    /// Compaction leaves the last message of each key of a topic, and those without a key.
    pub fn compact(&self, topic: &str) {
        self.shared.change(|state| state.remove(topic, PartitionLog::compact));
    }

    /// Forgets the commits of a group's partitions for which `forgets` says so, given for how long they have
    /// stood: brokers keep them for a time only.
    pub fn forget_commits(&self, group: &str, forgets: impl Fn(&Partition, Duration) -> bool) {
        self.shared.change(|state| state.forget_commits(group, forgets));
    }

    /// Everything that is on the wire lands.
    pub fn land_all(&self) {
        self.shared.change(State::land_all);
    }

    /// What the group has committed.
    pub fn committed(&self, group: &str) -> BTreeMap<Partition, Commit> {
        self.shared.lock().groups.get(group).map(|g| g.commits.clone()).unwrap_or_default()
    }

    /// All topics by name.
    pub fn topics(&self) -> Vec<TopicSpec> {
        self.shared.lock().topics.specs()
    }

    /// The readable messages of a topic, by partition and offset.
    pub fn messages(&self, topic: &str) -> Vec<Message> {
        self.shared.lock().topics.messages(topic)
    }

    /// The ends of a partition.
    pub fn ends(&self, partition: &Partition) -> Option<Ends> {
        self.shared.lock().topics.partition(partition).ok().map(PartitionLog::ends)
    }

    /// How many calls all hosts made: a simulation that makes millions is going in circles.
    pub fn calls(&self) -> u64 {
        self.shared.lock().calls
    }

    /// The wall clock of the cluster, shifted for one host.
    pub fn clock(&self, skew: Duration) -> SimClock {
        let skew = EpochMs::try_from(skew.as_millis()).unwrap_or(0);
        SimClock { begin: self.shared.lock().begin, skew: Arc::new(AtomicI64::new(skew)) }
    }
}

/// Waits for the change, or until `wake` if it is given.
pub(crate) async fn sleep_or(wake: Option<Instant>, changed: impl Future<Output = ()>) {
    match wake {
        None => changed.await,
        Some(at) => tokio::select! {
            biased;
            () = changed => {}
            () = tokio::time::sleep_until(at) => {}
        },
    }
}

/// A wall clock that moves with virtual time, and jumps when it is told to. A clone is the same clock.
#[derive(Clone, Debug)]
pub struct SimClock {
    begin: Instant,
    skew: Arc<AtomicI64>,
}

impl SimClock {
    /// Sets the clock forward, or back.
    pub fn jump(&self, by: EpochMs) {
        self.skew.fetch_add(by, Ordering::Relaxed);
    }
}

impl WallClock for SimClock {
    fn now(&self) -> EpochMs {
        let elapsed = EpochMs::try_from(self.begin.elapsed().as_millis()).unwrap_or(0);
        WALL_CLOCK_BEGIN + elapsed + self.skew.load(Ordering::Relaxed)
    }
}
