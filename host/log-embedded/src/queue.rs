//! Queue: what waits for the writer thread, bounded in requests and in bytes.
//!
//! A full queue makes callers wait; nothing is dropped. A request larger than the whole queue takes
//! all of it and goes alone.

use std::sync::Arc;

use millstream_core::idempotency::Mark;
use millstream_core::log::{
    Appended, Commits, LogError, RecordError, TopicSpec, TransactError, Transaction,
};
use millstream_core::message::{Offset, Record};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::groups::Member;
use crate::record_batch::{KEY_BYTES, encoded_bytes};
use crate::topics::PartitionState;
use crate::writers::Claim;

/// Requests that may wait.
const REQUESTS_MAX: usize = 1024;
/// Kibibytes that may wait.
const KIB_MAX: u32 = 64 * 1024;

/// Where an answer goes. A caller that went away is no error: what it asked for happened.
pub(crate) type Reply<T> = oneshot::Sender<T>;
/// An answer for each record of an append.
pub(crate) type AppendAnswer = Vec<Result<Appended, RecordError>>;

/// What the writer is asked for.
pub(crate) enum Request {
    /// Append records, each for itself.
    Append { records: Vec<Record>, reply: Reply<Result<AppendAnswer, LogError>> },
    /// All or nothing.
    Transact {
        member: Option<Member>,
        transaction: Arc<Transaction>,
        reply: Reply<Result<(), TransactError>>,
    },
    /// All or nothing, if the claim is still the latest of its name.
    AppendAll {
        claim: Claim,
        transaction: Arc<Transaction>,
        reply: Reply<Result<(), TransactError>>,
    },
    /// Make a topic, or add partitions.
    CreateTopic { spec: TopicSpec, reply: Reply<Result<(), LogError>> },
    /// Move a partition's start and remove the batches below it.
    Trim { trim: Trim, reply: Reply<Result<(), LogError>> },
    /// Remove the marks of these writes, all of which have expired.
    Forget { keys: Vec<Vec<u8>>, reply: Reply<Result<(), LogError>> },
    /// Look up: groups changed, or the log is closing.
    Wake,
}

/// What is removed from a partition.
pub(crate) struct Trim {
    /// The partition.
    pub(crate) partition: Arc<PartitionState>,
    /// Its new start.
    pub(crate) start: Offset,
    /// The bytes of all batches removed by then, if any are.
    pub(crate) bytes_before: Option<u64>,
    /// The batches that lie below the start as a whole.
    pub(crate) batches: Vec<[u8; KEY_BYTES]>,
}

/// A request and the room it takes.
pub(crate) struct Queued {
    pub(crate) request: Request,
    pub(crate) bytes: usize,
    /// Given back when the request was answered.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// The callers' end.
pub(crate) struct Queue {
    requests: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

impl Queue {
    /// A queue, and the writer's end of it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Queued>) {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        (Self { requests, room: Arc::new(Semaphore::new(KIB_MAX as usize)) }, receiver)
    }

    /// Hands a request to the writer once there is room, and waits for the answer. `None` if the
    /// writer has gone.
    pub(crate) async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let request = request(reply);
        let bytes = request.bytes();
        let kib = u32::try_from(bytes / 1024).unwrap_or(KIB_MAX).clamp(1, KIB_MAX);
        let room = self.room.clone().acquire_many_owned(kib).await.ok()?;
        self.requests.send(Queued { request, bytes, room: Some(room) }).await.ok()?;
        answer.await.ok()
    }

    /// The same for the log's own threads, which may block.
    pub(crate) fn ask_blocking<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let request = request(reply);
        let bytes = request.bytes();
        self.requests.blocking_send(Queued { request, bytes, room: None }).ok()?;
        answer.blocking_recv().ok()
    }

    /// Makes the writer look up. A full queue does so by itself.
    pub(crate) fn wake(&self) {
        let wake = Queued { request: Request::Wake, bytes: 0, room: None };
        self.requests.try_send(wake).ok();
    }
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { records, .. } => records.iter().map(encoded_bytes).sum(),
            Self::Transact { transaction, .. } | Self::AppendAll { transaction, .. } => {
                transaction_bytes(transaction)
            }
            Self::Trim { trim, .. } => trim.batches.len() * KEY_BYTES,
            Self::Forget { keys, .. } => keys.iter().map(Vec::len).sum(),
            Self::CreateTopic { .. } | Self::Wake => 0,
        }
    }
}

fn transaction_bytes(transaction: &Transaction) -> usize {
    let records: usize = transaction.records.iter().map(encoded_bytes).sum();
    let marks: usize = transaction.marks.iter().map(mark_bytes).sum();
    records + marks + commits_bytes(&transaction.commits)
}

fn mark_bytes(mark: &Mark) -> usize {
    64 + mark.key.len() + mark.scope.group.len() + mark.scope.partition.topic.len()
}

fn commits_bytes(commits: &Commits) -> usize {
    let bytes = commits.iter().map(|(_, c)| 64 + 16 * (c.settled_above.len() + c.attempts.len()));
    bytes.sum()
}
