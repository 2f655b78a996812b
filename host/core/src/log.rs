//! Port to a partitioned, replayable log with consumer groups: the first and last station.
//!
//! Boundary: the core never sees an adapter's types. Adapters: `log-embedded` (a local directory),
//! `log-simulated` (in memory, with faults), and `kafka` later.
//!
//! What an adapter promises:
//! - `append` and `transact` answer only when what they answer for is as durable as configured.
//! - A partition's messages arrive in offset order, with gaps where the log has gaps, each at least
//!   once per attachment. `Batch::next` moves over the gaps.
//! - Nothing of a partition arrives before it was attached, nor after it was detached or released.
//! - A commit or transaction of a member that lost the partition is refused (`Fenced`).
//! - `next` is cancel-safe: a dropped call loses nothing.
//!
//! A queue (RabbitMQ, SQS, …) fits behind the same port: its adapter numbers deliveries itself, and
//! a [`Commit`] says exactly which numbers are settled, so it acknowledges those that became so.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::idempotency::Mark;
use crate::lag;
use crate::message::{EpochMs, Message, Offset, Partition, Record, Topic};

/// Why a log did not do what it was asked, by what the caller does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// It may pass by itself (broker away, disk full, timeout): wait, then ask again. An append may
    /// have happened all the same.
    #[error("{0}")]
    Unavailable(String),
    /// This member no longer owns what it asked for: give the partitions up, settle nothing.
    #[error("{0}")]
    Fenced(String),
    /// Nothing helps but a person: stop the pipeline and say why.
    #[error("{0}")]
    Fatal(String),
}

/// Why one record was refused while others of its batch may be fine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The record is larger than its topic takes.
    #[error(
        "record of {size_bytes} bytes is larger than the {max_bytes} bytes topic {topic} takes"
    )]
    TooLarge {
        /// The topic.
        topic: Topic,
        /// The record's payload.
        size_bytes: usize,
        /// The topic's limit.
        max_bytes: usize,
    },
    /// There is no such topic, or no such partition of it.
    #[error("topic {topic} has no partition to take the record: {reason}")]
    UnknownTopic {
        /// The topic.
        topic: Topic,
        /// What exactly is missing.
        reason: String,
    },
    /// The log refuses this writer.
    #[error("writing to topic {topic} is not allowed: {reason}")]
    Denied {
        /// The topic.
        topic: Topic,
        /// What the log said.
        reason: String,
    },
}

/// Where a record came to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The partition's number.
    pub partition: u32,
    /// The offset there.
    pub offset: Offset,
}

/// A transaction did not happen; nothing of it is visible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactError {
    /// This record was refused; without it the rest may succeed.
    #[error("record {index}: {error}")]
    Offender {
        /// Index into [`Transaction::records`].
        index: usize,
        /// Why.
        error: RecordError,
    },
    /// The log as a whole.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What is settled of one partition: written as a commit, read back by the next owner.
///
/// All offsets below `next` are settled, and those in `settled_above`. `attempts` keeps the count of
/// messages that are retried in place, so that a restart does not forget it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The next offset that is not settled.
    pub next: Offset,
    /// Settled ranges above `next`, ascending, apart from one another.
    pub settled_above: Vec<Range<Offset>>,
    /// (offset, attempts made) of messages retried in place.
    pub attempts: Vec<(Offset, u32)>,
    /// How many owners in a row, the one that commits included, have not said that they ended in order.
    pub owners: u32,
    /// (offset, hosts that died or may die of it) of messages that were handled while nothing else was.
    pub suspects: Vec<(Offset, u32)>,
}

/// Commits of several partitions, source and companions, in one request.
pub type Commits = Vec<(Partition, Commit)>;

/// All or nothing: records, idempotency marks and commits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    /// Outputs, retries and dead letters.
    pub records: Vec<Record>,
    /// Idempotency marks of the messages that became done.
    pub marks: Vec<Mark>,
    /// What is settled with it.
    pub commits: Commits,
}

/// The longest name of a [`Writer`].
pub const WRITER_NAME_BYTES_MAX: usize = 300;

/// How much a caller takes at once. A single message larger than `bytes` is handed over alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Messages.
    pub messages: usize,
    /// Bytes, counted as [`Message::size_bytes`].
    pub bytes: usize,
}

/// Consecutive messages of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The partition.
    pub partition: Partition,
    /// The messages, by ascending offset. May be empty when the log only moved over a gap.
    pub messages: Vec<Message>,
    /// Where reading goes on: beyond the last message and any gap behind it.
    pub next: Offset,
    /// The end of the partition as of this batch: the offset after the last readable message.
    pub end: Offset,
}

/// The ends of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The first offset that is still there.
    pub start: Offset,
    /// The offset after the last message that is readable now.
    pub end: Offset,
    /// The offset after everything that is there, messages of open transactions and markers included:
    /// no `Batch::next`, and so no commit, is beyond it.
    pub high: Offset,
}

/// Asks where the messages of a partition begin that were appended after a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendedAfter {
    /// The partition.
    pub partition: Partition,
    /// Where it is looked.
    pub within: Range<Offset>,
    /// The time.
    pub time: EpochMs,
}

/// What a topic keeps, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// The name.
    pub name: Topic,
    /// The number of partitions, at least 1.
    pub partitions: u32,
    /// Messages older than this may be removed; `None` keeps them for ever.
    pub retention: Option<Duration>,
    /// A partition larger than this loses its oldest messages; `None` is no limit.
    pub retention_bytes: Option<u64>,
    /// The largest record taken, as [`Record::payload_bytes`].
    pub message_bytes_max: usize,
    /// Whether records get the log's time when they are appended, whatever they bring.
    pub append_time: bool,
    /// Whether only the last record of each key must be kept.
    pub compacted: bool,
    /// Replicas of each partition; `None` leaves it to the log, or is not known.
    pub replication: Option<u32>,
}

/// Whom a consumer reads for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The pipeline's name, for messages.
    pub pipeline: String,
    /// The consumer group.
    pub group: String,
    /// The source topics.
    pub topics: Vec<Topic>,
    /// Whether [`Consumer::transact`] will be called.
    pub transactional: bool,
    /// What the pipeline has in flight at most: the adapter reads ahead in proportion.
    pub in_flight: Room,
}

impl Default for Subscription {
    fn default() -> Self {
        Self {
            pipeline: String::new(),
            group: String::new(),
            topics: Vec::new(),
            transactional: false,
            in_flight: Room { messages: 1000, bytes: 64 << 20 },
        }
    }
}

/// The source topic a topic belongs to: itself, or the longest one whose name stands in its name
/// (templates of companion topics have the source's name in them).
pub fn source_of<'a>(topic: &str, sources: &'a [Topic]) -> Option<&'a Topic> {
    let found = sources.iter().filter(|source| topic.contains(&***source));
    found.max_by_key(|source| source.len())
}

/// What a consumer has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These source partitions are ours now. Nothing is read of them before they are attached.
    Assigned(Vec<Partition>),
    /// These must be given back: drain them, commit, then call [`Consumer::release`].
    Revoked(Vec<Partition>),
    /// These are ours no more: settle and commit nothing.
    Lost(Vec<Partition>),
    /// Messages of an attached partition.
    Messages(Batch),
}

/// One member of a consumer group, which also reads the companions of the partitions it owns.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// Waits for the next event. Takes at most `room` of messages; with `room.messages == 0` only
    /// events of assignment are told. Called by one task only.
    ///
    /// # Errors
    /// See [`LogError`]; after `Unavailable` it may be called again.
    async fn next(&self, room: Room) -> Result<Event, LogError>;

    /// Starts reading `partition` (a source partition that is assigned, or a companion of one) at
    /// `from`. If it is attached already, reading goes on from there instead.
    ///
    /// # Errors
    /// See [`LogError`].
    async fn attach(&self, partition: &Partition, from: Offset) -> Result<(), LogError>;

    /// Stops handing over messages of these attached partitions until they are resumed. What was
    /// fetched is kept.
    fn pause(&self, partitions: &[Partition]);

    /// Goes on with paused partitions where they were.
    fn resume(&self, partitions: &[Partition]);

    /// What the group has committed, in the order asked for.
    ///
    /// # Errors
    /// See [`LogError`].
    async fn committed(&self, partitions: &[Partition]) -> Result<Vec<Option<Commit>>, LogError>;

    /// Commits for assigned partitions and their companions, all in one request.
    ///
    /// # Errors
    /// See [`LogError`]; after an error the commit may or may not have happened.
    async fn commit(&self, commits: Commits) -> Result<(), LogError>;

    /// Appends, marks and commits, all or nothing. Several calls may be under way; the adapter may
    /// make one transaction of them.
    ///
    /// # Errors
    /// See [`TransactError`]; after `Unavailable` the transaction may or may not have happened: the
    /// adapter must make the repetition of the same transaction harmless.
    async fn transact(&self, transaction: Arc<Transaction>) -> Result<(), TransactError>;

    /// Gives up partitions (and with each the companions attached beside it) after `Revoked`, or
    /// after a failure. The log may assign them to this member again.
    async fn release(&self, partitions: &[Partition]);

    /// Leaves the group. Everything must have been released.
    async fn close(&self);
}

/// One who appends all or nothing, under a name that nobody else has meanwhile: see [`Log::writer`].
#[async_trait]
pub trait Writer: Send + Sync {
    /// Appends all of these records or none of them. One call at a time.
    ///
    /// # Errors
    /// `Offender` if a record is refused: nothing is appended, and the writer goes on. `Fenced` if another took
    /// the name: nothing is appended. After `Unavailable` it may have happened or not, and this writer is of no
    /// use any more: take the name anew, then look.
    async fn append_all(&self, records: &[Record]) -> Result<(), TransactError>;
}

/// A log: what pipelines, tools and the admin API need of it.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Identifies the log; commit metadata of another log is not believed.
    fn cluster_id(&self) -> &str;

    /// How many bytes of settled ranges the log keeps with a commit, counted as
    /// [`crate::ledger::ranges_bytes`] does.
    fn commit_metadata_bytes_max(&self) -> usize;

    /// All topics.
    ///
    /// # Errors
    /// See [`LogError`].
    async fn topics(&self) -> Result<Vec<TopicSpec>, LogError>;

    /// Creates a topic, or leaves it alone if it exists with the same number of partitions; more
    /// partitions than it has are added.
    ///
    /// # Errors
    /// `Fatal` if it exists with more partitions; else see [`LogError`].
    async fn create_topic(&self, spec: TopicSpec) -> Result<(), LogError>;

    /// Appends records; answers for each when all are settled. Records of one partition keep their
    /// order within the call; of several calls at once either may come first. The outer error says that none is known to be appended, nor known not to be.
    /// Of a call that was dropped, or whose host died, the same holds: what is on the wire may land later.
    ///
    /// # Errors
    /// See [`LogError`].
    async fn append(
        &self,
        records: &[&Record],
    ) -> Result<Vec<Result<Appended, RecordError>>, LogError>;

    /// Reads messages from `from` on, without a group. Empty at the end. If `from` is below the
    /// start of the partition reading begins at the start.
    ///
    /// # Errors
    /// See [`LogError`].
    async fn fetch(
        &self,
        partition: &Partition,
        from: Offset,
        room: Room,
    ) -> Result<Batch, LogError>;

    /// The ends of partitions, in the order asked for.
    ///
    /// # Errors
    /// `Fatal` if one does not exist; else see [`LogError`].
    async fn ends(&self, partitions: &[Partition]) -> Result<Vec<Ends>, LogError>;

    /// Of each question the first offset in its range that was appended after its time, or the range's
    /// end, in the order asked; behind a gap any offset of the gap is as good. Times grow with the offset, but for what a clock that was set back left behind.
    ///
    /// # Errors
    /// See [`LogError`].
    async fn first_after(&self, asked: &[AppendedAfter]) -> Result<Vec<Offset>, LogError> {
        let mut found = Vec::with_capacity(asked.len());
        for asked in asked {
            found.push(lag::first_after_by_halves(self, asked).await?);
        }
        Ok(found)
    }

    /// What a group has committed, in the order asked for; for tools.
    ///
    /// # Errors
    /// See [`LogError`].
    async fn committed(
        &self,
        group: &str,
        partitions: &[Partition],
    ) -> Result<Vec<Option<Commit>>, LogError>;

    /// Removes what lies below `before`; the partition's start moves there.
    ///
    /// # Errors
    /// See [`LogError`].
    async fn delete_before(&self, partition: &Partition, before: Offset) -> Result<(), LogError>;

    /// Takes a writer's name (at most [`WRITER_NAME_BYTES_MAX`] bytes). When this answers, what earlier writers of the
    /// name had under way has happened or never will, and what they send from then on is refused as `Fenced`: who was
    /// killed in the middle leaves nothing that lands later.
    ///
    /// # Errors
    /// `Fatal` on a log that has no writers; else see [`LogError`].
    async fn writer(&self, name: &str) -> Result<Arc<dyn Writer>, LogError> {
        Err(LogError::Fatal(format!("this log cannot append all or nothing, which {name} needs")))
    }

    /// Joins a consumer group.
    ///
    /// # Errors
    /// `Fatal` if a topic does not exist; else see [`LogError`].
    async fn consumer(&self, subscription: Subscription) -> Result<Arc<dyn Consumer>, LogError>;
}
