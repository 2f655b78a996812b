//! One host's connection to the cluster: the log port, with the faults of every call.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millstream_core::log::{
    Appended, Batch, Commit, Consumer, Ends, Log, LogError, RecordError, Room, Subscription,
    TopicSpec, Writer,
};
use millstream_core::message::{Offset, Partition, Record};

use crate::cluster::{Shared, State};
use crate::consumer::SimConsumer;
use crate::happening::{Fate, Happening, HostId};
use crate::partition_log::PartitionLog;
use crate::sends::OnTheWire;
use crate::topics::append_all;
use crate::writer::SimWriter;

/// How one call will go.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) fate: Fate,
    pub(crate) before: Duration,
    pub(crate) after: Duration,
}

/// A host's log and idempotency store. A clone is the same host.
#[derive(Clone)]
pub struct SimLog {
    shared: Arc<Shared>,
    host: HostId,
    commit_metadata_bytes_max: usize,
}

impl State {
    /// Decides how a call goes, or `None`: it is the call of a dead host and never answered.
    pub(crate) fn plan(&mut self, host: HostId, call: &'static str, store: bool) -> Option<Plan> {
        let fate = self.fate(host, call, store)?;
        let mut latency = || {
            let slow = self.draw.chance(self.faults.slow);
            let max = if slow { self.faults.slow_ms_max } else { self.faults.latency_ms_max };
            Duration::from_millis(self.draw.between(0, max))
        };
        let (before, after) = (latency(), latency());
        // Brokers that are away are noticed after a while, or a caller that asks again would never
        // let the time pass in which they come back.
        let away = self.is_away(call, store);
        let before = if away { before + Duration::from_millis(20) } else { before };
        Some(Plan { fate, before, after })
    }

    pub(crate) fn fate(&mut self, host: HostId, call: &'static str, store: bool) -> Option<Fate> {
        self.calls += 1;
        let refused = self.draw.chance(self.faults.refused);
        let answer_lost = self.draw.chance(self.faults.answer_lost);
        let store_refused = self.draw.chance(self.faults.store_refused) && store;
        let away = self.is_away(call, store);
        let h = self.hosts.get_mut(&host)?;
        h.calls += 1;
        if !h.alive {
            if h.buried {
                self.tell(&Happening::CallOfTheDead { host, call });
            }
            return None;
        }
        let fate = match h.crash_at.filter(|at| h.calls == at.call) {
            Some(at) if at.carried_out => Fate::CrashAfter,
            Some(_) => Fate::CrashBefore,
            None if away || refused || store_refused => Fate::Refused,
            None if answer_lost => Fate::AnswerLost,
            None => Fate::Answered,
        };
        self.tell(&Happening::Called { host, call, fate });
        Some(fate)
    }
}

/// What a full disk makes impossible.
const WRITES: [&str; 4] = ["append", "append_all", "transact", "create_topic"];

impl State {
    fn is_away(&self, call: &str, store: bool) -> bool {
        self.outage || (store && self.store_outage) || (self.full_disk && WRITES.contains(&call))
    }
}

pub(crate) fn refused(call: &str) -> LogError {
    LogError::Unavailable(format!("{call}: the simulated broker is away"))
}

pub(crate) fn answer_lost(call: &str) -> LogError {
    LogError::Unavailable(format!("{call}: the simulated broker's answer was lost"))
}

pub(crate) async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

impl SimLog {
    pub(crate) fn new(shared: Arc<Shared>, host: HostId) -> Self {
        let commit_metadata_bytes_max = shared.lock().commit_metadata_bytes_max;
        Self { shared, host, commit_metadata_bytes_max }
    }

    /// Which life of which host this is.
    pub fn host(&self) -> HostId {
        self.host
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// One call to the log: `carry_out` happens at one moment of it, or not at all.
    pub(crate) async fn ask<T, E: From<LogError>>(
        &self,
        call: &'static str,
        carry_out: impl FnOnce(&mut State, Fate) -> Result<T, E> + Send,
    ) -> Result<T, E> {
        self.ask_either(call, false, carry_out).await
    }

    /// One call to the idempotency store.
    pub(crate) async fn ask_store<T>(
        &self,
        call: &'static str,
        carry_out: impl FnOnce(&mut State, Fate) -> Result<T, LogError> + Send,
    ) -> Result<T, LogError> {
        self.ask_either(call, true, carry_out).await
    }

    async fn ask_either<T, E: From<LogError>>(
        &self,
        call: &'static str,
        store: bool,
        carry_out: impl FnOnce(&mut State, Fate) -> Result<T, E> + Send,
    ) -> Result<T, E> {
        let plan = self.shared.lock().plan(self.host, call, store);
        let Some(Plan { fate, before, after }) = plan else { return self.die().await };
        pass(before).await;
        if !self.shared.lock().hosts.get(&self.host).is_some_and(|h| h.alive) {
            // Another call of this host was its last.
            return self.die().await;
        }
        match fate {
            Fate::Refused => {
                pass(after).await;
                Err(refused(call).into())
            }
            Fate::CrashBefore => self.die().await,
            Fate::CrashAfter => {
                // Dead, whatever came of it.
                drop(self.shared.change(|state| carry_out(state, fate)));
                self.die().await
            }
            Fate::AnswerLost => {
                drop(self.shared.change(|state| carry_out(state, fate)));
                pass(after).await;
                Err(answer_lost(call).into())
            }
            Fate::Answered => {
                let result = self.shared.change(|state| carry_out(state, fate));
                pass(after).await;
                result
            }
        }
    }

    pub(crate) async fn die<T>(&self) -> T {
        self.shared.crash(self.host);
        std::future::pending().await
    }
}

#[async_trait]
impl Log for SimLog {
    fn cluster_id(&self) -> &str {
        "simulated"
    }

    fn commit_metadata_bytes_max(&self) -> usize {
        self.commit_metadata_bytes_max
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        self.ask("topics", |state, _| Ok(state.topics.specs())).await
    }

    async fn create_topic(&self, spec: TopicSpec) -> Result<(), LogError> {
        self.ask("create_topic", |state, _| {
            let known = state.topics.partitions_of(&spec.name).is_some();
            state.topics.create(spec)?;
            if known {
                // More partitions of a source are given to its members.
                let groups: Vec<String> = state.groups.keys().cloned().collect();
                groups.iter().for_each(|group| state.place(group));
            }
            Ok(())
        })
        .await
    }

    async fn append(
        &self,
        records: &[&Record],
    ) -> Result<Vec<Result<Appended, RecordError>>, LogError> {
        let mut records: Vec<Record> = records.iter().copied().cloned().collect();
        let late = self.shared.change(|state| state.draw.chance(state.faults.late_send));
        if late {
            return OnTheWire::append(self, records).await;
        }
        self.ask("append", |state, fate| {
            if fate != Fate::Answered && state.draw.chance(500) {
                let kept = state.draw.count(0, records.len());
                records.truncate(kept);
            }
            Ok(append_all(state, Some(self.host), false, records))
        })
        .await
    }

    async fn fetch(
        &self,
        partition: &Partition,
        from: Offset,
        room: Room,
    ) -> Result<Batch, LogError> {
        self.ask("fetch", |state, _| {
            let log = state.topics.partition(partition)?;
            let (messages, next) = log.read(from, room, true);
            Ok(Batch { partition: partition.clone(), messages, next, end: log.ends().end })
        })
        .await
    }

    async fn ends(&self, partitions: &[Partition]) -> Result<Vec<Ends>, LogError> {
        self.ask("ends", |state, _| {
            let ends = |p: &Partition| state.topics.partition(p).map(PartitionLog::ends);
            partitions.iter().map(ends).collect()
        })
        .await
    }

    async fn committed(
        &self,
        group: &str,
        partitions: &[Partition],
    ) -> Result<Vec<Option<Commit>>, LogError> {
        self.ask("committed", |state, _| Ok(state.committed(group, partitions))).await
    }

    async fn delete_before(&self, partition: &Partition, before: Offset) -> Result<(), LogError> {
        self.ask("delete_before", |state, _| {
            state.topics.partition_mut(partition)?.delete_before(before);
            Ok(())
        })
        .await
    }

    async fn writer(&self, name: &str) -> Result<Arc<dyn Writer>, LogError> {
        Ok(Arc::new(SimWriter::begin(self, name).await?))
    }

    async fn consumer(&self, subscription: Subscription) -> Result<Arc<dyn Consumer>, LogError> {
        let Subscription { group, topics, .. } = subscription;
        let member = self
            .ask("consumer", |state, fate| {
                let member = state.join(&group, self.host, topics)?;
                if fate == Fate::AnswerLost {
                    // Nobody will ever speak for this member: its session ends like a dead one's.
                    state.leave(&group, member);
                }
                Ok::<_, LogError>(member)
            })
            .await?;
        Ok(Arc::new(SimConsumer::new(self.clone(), group, member)))
    }
}

impl State {
    pub(crate) fn committed(&self, group: &str, partitions: &[Partition]) -> Vec<Option<Commit>> {
        let commits = self.groups.get(group).map(|g| &g.commits);
        partitions.iter().map(|p| commits.and_then(|c| c.get(p).cloned())).collect()
    }
}
