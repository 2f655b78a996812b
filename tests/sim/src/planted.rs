//! Planted bugs: logs that break a promise between the core and the cluster, and a core that was told
//! something else than the checks. They show that the checks bite: each must be found within a stated number
//! of seeds.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millstream_core::idempotency::{IdempotencyStore, Mark, Scope};
use millstream_core::log::{
    Appended, Batch, Commit, Commits, Consumer, Ends, Event, Log, LogError, RecordError, Room,
    Subscription, TopicSpec, TransactError, Transaction,
};
use millstream_core::message::{EpochMs, Offset, Partition, Record};
use millstream_core::pipeline_spec::{KeepOrder, PipelineSpec};

/// Which promise is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Commits go one offset further than was asked.
    CommitsOneFurther,
    /// One append in seven does not happen and is acknowledged.
    DropsAppends,
    /// Neighbours with the same key change their places in a batch.
    SwapsNeighbours,
    /// Retry copies say that one attempt was made, however many there were.
    ForgetsAttempts,
    /// One transaction in seven writes its records twice.
    WritesTwice,
    /// One commit in seven is one that came before the last.
    CommitsGoBack,
    /// Later messages of a key pass one that is retried.
    KeepsNoOrder,
    /// A message that is out of attempts is attempted once more.
    AttemptsOneMore,
    /// Ten times as many messages as agreed are taken in hand.
    TakesTooMany,
    /// Marks in a topic are not restored when a partition is assigned.
    ForgetsMarks,
    /// What stands committed is never committed again.
    NeverRefreshes,
    /// Records that the log refuses for good are said to be written.
    HidesRefusals,
    /// Commits name no message that is handled with nothing beside it.
    ForgetsNames,
}

impl Bug {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::CommitsOneFurther,
        Self::DropsAppends,
        Self::SwapsNeighbours,
        Self::ForgetsAttempts,
        Self::WritesTwice,
        Self::CommitsGoBack,
        Self::KeepsNoOrder,
        Self::AttemptsOneMore,
        Self::TakesTooMany,
        Self::ForgetsMarks,
        Self::NeverRefreshes,
        Self::HidesRefusals,
        Self::ForgetsNames,
    ];

    /// What the bug puts between core and cluster.
    pub fn between(self, log: Arc<dyn Log>) -> Arc<dyn Log> {
        Arc::new(BrokenLog { log, bug: self, calls: Arc::default() })
    }

    /// What the core is told instead of what was drawn.
    pub fn spec(self, spec: &mut PipelineSpec) {
        match self {
            Self::KeepsNoOrder => spec.retry.keep_order = KeepOrder::No,
            Self::AttemptsOneMore => spec.retry.delays.extend(spec.retry.delays.last().copied()),
            Self::TakesTooMany => {
                spec.in_flight_messages *= 10;
                spec.in_flight_bytes *= 10;
            }
            Self::NeverRefreshes => spec.commit_refresh = Duration::from_secs(86_400),
            _ => {}
        }
    }

    /// What the bug puts between core and store of marks.
    pub fn store(self, store: Arc<dyn IdempotencyStore>) -> Arc<dyn IdempotencyStore> {
        match self {
            Self::ForgetsMarks => Arc::new(ForgetfulStore(store)),
            _ => store,
        }
    }

    fn records(self, records: &mut [Record]) {
        if self != Self::ForgetsAttempts {
            return;
        }
        for record in records.iter_mut().filter(|r| r.topic.contains(".retry.")) {
            for header in record.headers.iter_mut().filter(|h| h.name == "millstream-attempt") {
                header.value = Bytes::from_static(b"1");
            }
        }
    }

    fn commits(self, commits: &mut Commits) {
        let each = commits.iter_mut().map(|(_, commit)| commit);
        match self {
            Self::CommitsOneFurther => each.for_each(|commit| commit.next += 1),
            Self::ForgetsNames => each.for_each(|commit| commit.suspects.clear()),
            _ => {}
        }
    }

    fn batch(self, batch: &mut Batch) {
        if self != Self::SwapsNeighbours {
            return;
        }
        for pair in batch.messages.chunks_exact_mut(2) {
            if let [first, second] = pair
                && first.key.is_some()
                && first.key == second.key
            {
                std::mem::swap(first, second);
                std::mem::swap(&mut first.offset, &mut second.offset);
            }
        }
    }
}

struct BrokenLog {
    log: Arc<dyn Log>,
    bug: Bug,
    calls: Arc<AtomicU64>,
}

struct BrokenConsumer {
    consumer: Arc<dyn Consumer>,
    bug: Bug,
    calls: Arc<AtomicU64>,
    /// The last commits.
    last: Mutex<VecDeque<Commits>>,
}

/// Whether this call is one of those that go wrong.
fn goes_wrong(calls: &AtomicU64) -> bool {
    calls.fetch_add(1, Ordering::Relaxed) % 7 == 6
}

#[async_trait]
impl Log for BrokenLog {
    fn cluster_id(&self) -> &str {
        self.log.cluster_id()
    }

    fn commit_metadata_bytes_max(&self) -> usize {
        self.log.commit_metadata_bytes_max()
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        self.log.topics().await
    }

    async fn create_topic(&self, spec: TopicSpec) -> Result<(), LogError> {
        self.log.create_topic(spec).await
    }

    async fn append(
        &self,
        records: &[&Record],
    ) -> Result<Vec<Result<Appended, RecordError>>, LogError> {
        let mut records: Vec<Record> = records.iter().copied().cloned().collect();
        self.bug.records(&mut records);
        if self.bug == Bug::DropsAppends && goes_wrong(&self.calls) {
            let nowhere = |r: &Record| Appended { partition: r.partition.unwrap_or(0), offset: 0 };
            return Ok(records.iter().map(nowhere).map(Ok).collect());
        }
        let mut answers = self.log.append(&records.iter().collect::<Vec<_>>()).await?;
        if self.bug == Bug::HidesRefusals {
            for answer in answers.iter_mut().filter(|answer| answer.is_err()) {
                *answer = Ok(Appended { partition: 0, offset: 0 });
            }
        }
        Ok(answers)
    }

    async fn fetch(
        &self,
        partition: &Partition,
        from: Offset,
        room: Room,
    ) -> Result<Batch, LogError> {
        self.log.fetch(partition, from, room).await
    }

    async fn ends(&self, partitions: &[Partition]) -> Result<Vec<Ends>, LogError> {
        self.log.ends(partitions).await
    }

    async fn committed(
        &self,
        group: &str,
        partitions: &[Partition],
    ) -> Result<Vec<Option<Commit>>, LogError> {
        self.log.committed(group, partitions).await
    }

    async fn delete_before(&self, partition: &Partition, before: Offset) -> Result<(), LogError> {
        self.log.delete_before(partition, before).await
    }

    async fn consumer(&self, subscription: Subscription) -> Result<Arc<dyn Consumer>, LogError> {
        let consumer = self.log.consumer(subscription).await?;
        let (bug, calls, last) = (self.bug, self.calls.clone(), Mutex::default());
        Ok(Arc::new(BrokenConsumer { consumer, bug, calls, last }))
    }
}

#[async_trait]
impl Consumer for BrokenConsumer {
    async fn next(&self, room: Room) -> Result<Event, LogError> {
        let mut event = self.consumer.next(room).await?;
        if let Event::Messages(batch) = &mut event {
            self.bug.batch(batch);
        }
        Ok(event)
    }

    async fn attach(&self, partition: &Partition, from: Offset) -> Result<(), LogError> {
        self.consumer.attach(partition, from).await
    }

    fn pause(&self, partitions: &[Partition]) {
        self.consumer.pause(partitions);
    }

    fn resume(&self, partitions: &[Partition]) {
        self.consumer.resume(partitions);
    }

    async fn committed(&self, partitions: &[Partition]) -> Result<Vec<Option<Commit>>, LogError> {
        self.consumer.committed(partitions).await
    }

    async fn commit(&self, mut commits: Commits) -> Result<(), LogError> {
        self.bug.commits(&mut commits);
        if self.bug == Bug::CommitsGoBack {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.push_back(commits.clone());
            if goes_wrong(&self.calls) {
                commits = last.front().cloned().unwrap_or_default();
            }
            if last.len() > 2 {
                last.pop_front();
            }
        }
        self.consumer.commit(commits).await
    }

    async fn transact(&self, transaction: Arc<Transaction>) -> Result<(), TransactError> {
        let mut transaction = Arc::unwrap_or_clone(transaction);
        self.bug.records(&mut transaction.records);
        self.bug.commits(&mut transaction.commits);
        match self.bug {
            Bug::DropsAppends if goes_wrong(&self.calls) => transaction.records.clear(),
            Bug::WritesTwice if goes_wrong(&self.calls) => {
                transaction.records.extend_from_within(..);
            }
            _ => {}
        }
        self.consumer.transact(Arc::new(transaction)).await
    }

    async fn release(&self, partitions: &[Partition]) {
        self.consumer.release(partitions).await;
    }

    async fn close(&self) {
        self.consumer.close().await;
    }
}

struct ForgetfulStore(Arc<dyn IdempotencyStore>);

#[async_trait]
impl IdempotencyStore for ForgetfulStore {
    async fn lookup(
        &self,
        scope: &Scope,
        keys: &[Bytes],
        now: EpochMs,
    ) -> Result<Vec<Option<Offset>>, LogError> {
        self.0.lookup(scope, keys, now).await
    }

    async fn mark(&self, marks: Vec<Mark>) -> Result<(), LogError> {
        self.0.mark(marks).await
    }

    async fn restore(&self, _: &Scope) -> Result<(), LogError> {
        Ok(())
    }

    fn records(&self, marks: &[Mark]) -> Option<Vec<Record>> {
        self.0.records(marks)
    }

    async fn marked(&self, marks: &[Mark]) -> Result<(), LogError> {
        self.0.marked(marks).await
    }
}
