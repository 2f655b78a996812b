//! The log: opening, closing, and the port as the core asks it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use millstream_core::idempotency::{IdempotencyStore, Mark, Marked, Scope};
use millstream_core::log::{
    Appended, Batch, Commit, Consumer, Ends, Log, LogError, RecordError, Room, Subscription,
    TopicSpec, TransactError, Transaction, Writer as PortWriter,
};
use millstream_core::message::{EpochMs, Offset, Partition, Record};
use tokio::sync::oneshot;

use crate::background::{Stop, sweep_by_interval, sync_by_interval};
use crate::consumer::EmbeddedConsumer;
use crate::entries::{GROUP_BYTES_MAX, commit_key, decode_commit};
use crate::groups::Member;
use crate::locks::{lock, read};
use crate::options::{Durability, EmbeddedOptions, OpenError};
use crate::queue::{Queue, Request};
use crate::reading::fetch;
use crate::shared::Shared;
use crate::store::{Opened, Store};
use crate::sweep::{Keep, MarksCursor, sweep_marks, sweep_topics, trim};
use crate::topics;
use crate::writer::Writer;
use crate::writers;

/// What the port is told a commit may hold; more is kept too, up to a megabyte.
const COMMIT_METADATA_BYTES: usize = 128 * 1024;

/// A log in a local directory. Dropping it closes it.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
    /// Resolves when the last reader has let go of the store.
    closed: oneshot::Receiver<()>,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, which is made if it does not exist. Blocks while journals are read,
    /// which are about 200 MiB at most, and are read twice.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was changed then.
    pub fn open(dir: &Path, options: EmbeddedOptions) -> Result<Arc<Self>, OpenError> {
        let Opened { store, acknowledged, cluster_id, sealed } = Store::open(dir, &options)?;
        let damaged = |error: LogError| OpenError::Damaged {
            folder: dir.to_owned(),
            what: error.to_string(),
        };
        let (topics, _) = topics::load(&store).map_err(damaged)?;
        let (released, closed) = oneshot::channel();
        let store_path = lock(&store.folder).store();
        let store = Arc::new(store.with_release(released));
        let (queue, requests) = Queue::new();
        let shared = Arc::new(Shared::new(
            cluster_id,
            dir.display().to_string(),
            options.clock.clone(),
            queue,
            topics,
            acknowledged,
            store.clone(),
        ));
        let stop = Arc::new(Stop::default());
        let running = Running { stop: stop.clone(), threads: Vec::new(), closed };
        let log = Arc::new(Self { shared: shared.clone(), running: Mutex::new(Some(running)) });
        let writer = Writer::new(shared.clone(), store, requests, sealed, &options);
        log.spawn(dir, "log-writer", move || writer.run())?;
        if let Durability::Interval(interval) = options.durability {
            let (shared, stop) = (shared.clone(), stop.clone());
            log.spawn(dir, "log-sync", move || {
                sync_by_interval(&shared, &stop, interval, &store_path);
            })?;
        }
        log.spawn(dir, "log-sweep", move || {
            sweep_by_interval(&shared, &stop, options.sweep_interval);
        })?;
        Ok(log)
    }

    fn spawn(
        &self,
        dir: &Path,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), OpenError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        let thread = thread.map_err(|error| OpenError::Io { path: dir.to_owned(), error })?;
        if let Some(running) = lock(&self.running).as_mut() {
            running.threads.push(thread);
        }
        Ok(())
    }

    /// Writes down where the host's admin API answers: a second process that wants the folder
    /// tells its user.
    ///
    /// # Errors
    /// `Unavailable` if the lock file cannot be written.
    pub fn announce(&self, admin: &str) -> Result<(), LogError> {
        let store = self.shared.store()?;
        let announced = lock(&store.folder).announce(Some(admin));
        announced.map_err(|error| {
            LogError::Unavailable(format!(
                "the lock file in {} cannot be written ({error})",
                self.shared.folder
            ))
        })
    }

    /// The bytes the log takes on the disk. Journals count with the space they have reserved.
    ///
    /// # Errors
    /// `Fatal` if the log was closed; `Unavailable` if the system does not tell.
    pub fn size_bytes(&self) -> Result<u64, LogError> {
        let store = self.shared.store()?;
        let bytes = store.db.disk_space().map_err(|error| store.read_error("the size", &error))?;
        Ok(bytes.saturating_add(store.index.size_bytes()))
    }

    /// The bytes of a partition's messages as they are stored.
    ///
    /// # Errors
    /// `Fatal` if there is no such partition.
    pub fn partition_bytes(&self, partition: &Partition) -> Result<u64, LogError> {
        Ok(self.shared.partition(partition)?.bytes())
    }

    /// Removes what retention gives up and all expired marks, now.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn sweep(&self) -> Result<(), LogError> {
        let shared = self.shared.clone();
        blocking(&self.shared, move || {
            sweep_topics(&shared)?;
            let mut cursor = MarksCursor::default();
            while !sweep_marks(&shared, &mut cursor, usize::MAX)? {}
            shared.store()?.index.sweep();
            Ok(())
        })
        .await
    }

    /// Answers all that waits, syncs, and frees the folder. Afterwards every call says that the log
    /// was closed. Dropping the log does the same, but blocks.
    pub async fn close(&self) {
        let running = lock(&self.running).take();
        if let Some(running) = running {
            let shared = self.shared.clone();
            let ended = tokio::task::spawn_blocking(move || running.end(&shared)).await;
            if let Ok(closed) = ended {
                // Readers let go of the store when their read is done.
                closed.await.ok();
            }
        }
    }
}

#[cfg(test)]
impl EmbeddedLog {
    pub(crate) fn shared_for_tests(&self) -> &Shared {
        &self.shared
    }
}

impl Running {
    fn end(self, shared: &Shared) -> oneshot::Receiver<()> {
        shared.begin_closing();
        self.stop.stop();
        for thread in self.threads {
            // A thread that panicked has said so; the others still have work to finish.
            thread.join().ok();
        }
        drop(shared.take_store());
        self.closed
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        if let Some(running) = lock(&self.running).take() {
            running.end(&self.shared);
        }
    }
}

async fn blocking<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(LogError::Fatal(format!(
            "the storage library gave up on reading the log in {}: check the disk, and restore \
             the folder from a copy",
            shared.folder
        )))
    })
}

/// What a group has committed.
pub(crate) async fn committed(
    shared: &Arc<Shared>,
    group: &str,
    partitions: &[Partition],
) -> Result<Vec<Option<Commit>>, LogError> {
    let mut keys = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let state = shared.partition(partition)?;
        keys.push((partition.clone(), commit_key(group, state.topic, partition.number)));
    }
    let store = shared.store()?;
    let group = group.to_owned();
    blocking(shared, move || {
        let read = |(partition, key): (Partition, Vec<u8>)| {
            let stored = store.get(&store.state, &key)?;
            let commit = stored.map(|bytes| decode_commit(&key, &bytes)).transpose();
            commit.map_err(|damage| {
                let what = format!("the commit of group {group} for {partition}");
                store.damage_error(&what, &damage.to_string())
            })
        };
        keys.into_iter().map(read).collect()
    })
    .await
}

/// Writes a transaction, in the name of a member or of nobody.
pub(crate) async fn transact(
    shared: &Shared,
    member: Option<Member>,
    transaction: Arc<Transaction>,
) -> Result<(), TransactError> {
    let ask = |reply| Request::Transact { member, transaction, reply };
    shared.queue.ask(ask).await.unwrap_or_else(|| Err(gone(shared).into()))
}

// The writer ends when the log is closed; or it panicked.
pub(crate) fn gone(shared: &Shared) -> LogError {
    if shared.is_closing() {
        return shared.closed();
    }
    shared.broken().unwrap_or_else(|| {
        LogError::Fatal(format!(
            "the writer of the log in {} ended unexpectedly: start again",
            shared.folder
        ))
    })
}

#[async_trait]
impl Log for EmbeddedLog {
    fn cluster_id(&self) -> &str {
        &self.shared.cluster_id
    }

    fn commit_metadata_bytes_max(&self) -> usize {
        COMMIT_METADATA_BYTES
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        self.shared.store()?;
        let topics = read(&self.shared.topics);
        let mut specs: Vec<_> = topics.values().map(|topic| topic.entry.spec.clone()).collect();
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(specs)
    }

    async fn create_topic(&self, spec: TopicSpec) -> Result<(), LogError> {
        let ask = |reply| Request::CreateTopic { spec, reply };
        self.shared.queue.ask(ask).await.unwrap_or_else(|| Err(gone(&self.shared)))
    }

    async fn append(
        &self,
        records: &[&Record],
    ) -> Result<Vec<Result<Appended, RecordError>>, LogError> {
        let records = records.iter().copied().cloned().collect();
        let ask = |reply| Request::Append { records, reply };
        self.shared.queue.ask(ask).await.unwrap_or_else(|| Err(gone(&self.shared)))
    }

    async fn fetch(
        &self,
        partition: &Partition,
        from: Offset,
        room: Room,
    ) -> Result<Batch, LogError> {
        let state = self.shared.partition(partition)?;
        self.shared.store()?;
        fetch(&self.shared, &state, from, room).await
    }

    async fn ends(&self, partitions: &[Partition]) -> Result<Vec<Ends>, LogError> {
        partitions.iter().map(|partition| Ok(self.shared.partition(partition)?.ends())).collect()
    }

    async fn committed(
        &self,
        group: &str,
        partitions: &[Partition],
    ) -> Result<Vec<Option<Commit>>, LogError> {
        check_group(group)?;
        committed(&self.shared, group, partitions).await
    }

    async fn delete_before(&self, partition: &Partition, before: Offset) -> Result<(), LogError> {
        let state = self.shared.partition(partition)?;
        let end = state.end();
        if before > end {
            return Err(LogError::Fatal(format!(
                "records of {partition} cannot be deleted before offset {before}: it ends at {end}"
            )));
        }
        let shared = self.shared.clone();
        blocking(&self.shared, move || trim(&shared, &state, Keep::From(before))).await
    }

    async fn writer(&self, name: &str) -> Result<Arc<dyn PortWriter>, LogError> {
        writers::begin(&self.shared, name).await
    }

    async fn consumer(&self, subscription: Subscription) -> Result<Arc<dyn Consumer>, LogError> {
        self.shared.store()?;
        check_group(&subscription.group)?;
        for topic in &subscription.topics {
            if !read(&self.shared.topics).contains_key(topic) {
                return Err(LogError::Fatal(format!(
                    "pipeline {} cannot read topic {topic}: it does not exist in the log in {}; \
                     create it first",
                    subscription.pipeline, self.shared.folder
                )));
            }
        }
        Ok(Arc::new(EmbeddedConsumer::join(self.shared.clone(), subscription)))
    }
}

#[async_trait]
impl IdempotencyStore for EmbeddedLog {
    fn known(&self, scope: &Scope, keys: &[&[u8]], now: EpochMs) -> Option<Vec<Option<Offset>>> {
        let found = self.shared.store().ok()?.index.ask(scope, keys).known().ok()?;
        Some(live(found, now))
    }

    async fn lookup(
        &self,
        scope: &Scope,
        keys: &[Bytes],
        now: EpochMs,
    ) -> Result<Vec<Option<Offset>>, LogError> {
        check_group(&scope.group)?;
        let store = self.shared.store()?;
        let asked = match store.index.ask(scope, keys).known() {
            Ok(found) => return Ok(live(found, now)),
            Err(asked) => asked,
        };
        blocking(&self.shared, move || Ok(live(store.index.read(asked)?, now))).await
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<(), LogError> {
        let transaction = Transaction { marks, ..Transaction::default() };
        transact(&self.shared, None, Arc::new(transaction)).await.map_err(|error| match error {
            TransactError::Log(error) => error,
            // There is no record to offend.
            offender @ TransactError::Offender { .. } => LogError::Fatal(offender.to_string()),
        })
    }
}

/// The turns of the marks that have not expired.
fn live(found: Vec<Option<Marked>>, now: EpochMs) -> Vec<Option<Offset>> {
    let live = |marked: Option<Marked>| marked.filter(|m| m.expires > now).map(|m| m.turn);
    found.into_iter().map(live).collect()
}

fn check_group(group: &str) -> Result<(), LogError> {
    if group.is_empty() || group.len() > GROUP_BYTES_MAX {
        return Err(LogError::Fatal(format!(
            "group name {group:?} is not valid: it needs 1 to {GROUP_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}
