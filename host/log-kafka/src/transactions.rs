//! Transactions: outcomes, commits of source and tiers, and what else belongs to them, all or nothing.
//!
//! One transactional producer for each pipeline and host, on a thread of its own. Calls of several
//! partitions that come at the same time become one transaction. It is open only while it is written:
//!
//! ```text
//!                 ┌──▶ produce ──▶ delivered ──────┐
//! calls ──▶ begin ┤                                 ├──▶ commit ──▶ answers
//!              ▲  └──▶ still ours? ──▶ offsets ─────┤       │
//!              └──────── abort ◀── offender, not ours, abortable
//! ```
//!
//! Invariants:
//! - a call is answered with success only after the commit that carries it, and with `Unavailable` only
//!   if it is known that it did not happen: sending it again is then harmless;
//! - ownership is looked at after the group's metadata was taken and before offsets are sent: a member
//!   that lost a partition since has metadata of a dead generation, which the broker refuses (KIP-447);
//! - a fatal error gives the producer and all calls up (`Fenced`): the core starts those partitions over
//!   from what was committed.
//!
//! rdkafka's `flush` and `commit_transaction` poll in steps of 100 ms, so what is outstanding is waited for
//! first, to the last report put away; commits take half a millisecond instead of a hundred. The producer's queue is served by a thread
//! of its own: rdkafka's `poll` spins when it is to wait for less than a millisecond.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use millstream_core::log::{Commit, LogError, Subscription, TransactError, Transaction};
use millstream_core::message::{Partition, Record};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{Producer as _, ThreadedProducer};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::client::{self, CALL, Context};
use crate::commit_metadata;
use crate::deliveries::{Delivered, Deliveries};
use crate::errors;
use crate::member::Member;
use crate::options::KafkaOptions;
use crate::producer;
use crate::records;
use crate::sending::Sending;

/// How long the first call waits for those of the other partitions that this member owns: on a busy machine
/// they need some time to get here, and whoever comes later waits for a whole transaction.
const GATHER: Duration = Duration::from_millis(4);

/// How long to wait when librdkafka's queue is full.
const QUEUE_FULL: Duration = Duration::from_millis(1);

/// How long putting away may take before the commit goes on, and how often it is looked for.
const PUT_AWAY: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// How long a step of initialising takes.
const INIT_STEP: Duration = Duration::from_millis(100);

/// Calls waiting: at most one a partition.
const CALLS_MAX: usize = 4096;

/// A transactional producer.
pub(crate) type Native = ThreadedProducer<Deliveries>;

struct Call {
    transaction: Arc<Transaction>,
    reply: oneshot::Sender<Result<(), TransactError>>,
}

impl Call {
    fn answer(self, answer: Result<(), TransactError>) {
        // First: who is answered takes the records back, which copies them if they are still shared.
        drop(self.transaction);
        // Nobody waits any more if the receiver is gone.
        let _ = self.reply.send(answer);
    }
}

/// See the module.
pub(crate) struct Transactions {
    calls: SyncSender<Call>,
}

impl Transactions {
    /// Starts the thread; the producer is made with the first call.
    pub(crate) fn start(
        options: Arc<KafkaOptions>,
        subscription: Subscription,
        member: Arc<Member>,
        cluster_id: String,
    ) -> Result<Self, LogError> {
        let (calls, receiver) = sync_channel(CALLS_MAX);
        let worker = Worker { options, subscription, member, cluster_id, native: None };
        std::thread::Builder::new()
            .name("kafka-transactions".to_owned())
            .spawn(move || worker.run(&receiver))
            .map_err(|error| LogError::Unavailable(format!("no thread for Kafka: {error}")))?;
        Ok(Self { calls })
    }

    pub(crate) async fn transact(
        &self,
        transaction: Arc<Transaction>,
    ) -> Result<(), TransactError> {
        let gone = || TransactError::Log(LogError::Fenced("this member has left".to_owned()));
        let (reply, answer) = oneshot::channel();
        let mut call = Call { transaction, reply };
        loop {
            match self.calls.try_send(call) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return Err(gone()),
                Err(TrySendError::Full(back)) => call = back,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// How a try at a transaction ended.
pub(crate) enum Ended {
    /// It is committed.
    Committed,
    /// It was aborted; these calls are answered, the others go again.
    Without(Vec<(usize, TransactError)>),
    /// It was aborted, for a reason that may pass.
    Aborted(LogError),
    /// The producer is of no use any more, and whether the transaction happened is not known.
    Lost(LogError),
}

struct Worker {
    options: Arc<KafkaOptions>,
    subscription: Subscription,
    member: Arc<Member>,
    cluster_id: String,
    native: Option<Arc<Native>>,
}

impl Worker {
    fn run(mut self, calls: &Receiver<Call>) {
        while let Ok(first) = calls.recv() {
            let mut gathered = vec![first];
            let deadline = Instant::now() + GATHER;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                let wait = if gathered.len() < self.member.owned() { left } else { Duration::ZERO };
                match calls.recv_timeout(wait) {
                    Ok(call) => gathered.push(call),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            self.carry_out(gathered);
        }
    }

    fn carry_out(&mut self, mut calls: Vec<Call>) {
        loop {
            // A task that is gone wants no answer, and its outcomes belong to nobody.
            calls.retain(|call| !call.reply.is_closed());
            if calls.is_empty() {
                return;
            }
            match self.attempt(&calls) {
                Ended::Committed => {
                    for call in calls {
                        call.answer(Ok(()));
                    }
                    return;
                }
                Ended::Without(mut answers) => {
                    answers.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
                    answers.dedup_by_key(|(index, _)| *index);
                    for (index, error) in answers {
                        let call = calls.remove(index);
                        call.answer(Err(error));
                    }
                }
                Ended::Aborted(error) => {
                    for call in calls {
                        call.answer(Err(TransactError::Log(error.clone())));
                    }
                    return;
                }
                Ended::Lost(error) => {
                    self.native = None;
                    let text = error.to_string();
                    tracing::warn!(pipeline = %self.subscription.pipeline, error = text, "the transactional producer is given up; its partitions start over from their commits");
                    let answer = match error {
                        LogError::Fatal(text) => LogError::Fatal(text),
                        LogError::Unavailable(text) | LogError::Fenced(text) => {
                            LogError::Fenced(text)
                        }
                    };
                    for call in calls {
                        call.answer(Err(TransactError::Log(answer.clone())));
                    }
                    return;
                }
            }
        }
    }

    fn operation(&self, what: &str) -> String {
        format!("pipeline {}: {what}", self.subscription.pipeline)
    }

    /// The producer, made and initialised if there is none: that fences an earlier life of this host.
    fn native(&mut self) -> Result<Arc<Native>, LogError> {
        if self.native.is_none() {
            let operation = self.operation("starting the transactional producer");
            let config = client::transactional(&self.options, &self.subscription);
            let context = Context::new(Arc::clone(&self.options), "transactions");
            let native: Native = config
                .create_with_context(Deliveries::new(context))
                .map_err(|error| errors::log_error(&operation, &error))?;
            init(&native).map_err(|error| errors::log_error(&operation, &error))?;
            self.native = Some(Arc::new(native));
        }
        self.native.clone().ok_or_else(|| LogError::Unavailable("no producer".to_owned()))
    }

    fn attempt(&mut self, calls: &[Call]) -> Ended {
        let (operation, cluster_id) = (self.operation("transaction"), self.cluster_id.clone());
        let member = Arc::clone(&self.member);
        let native = &match self.native() {
            Ok(native) => native,
            Err(error @ LogError::Unavailable(_)) => return Ended::Aborted(error),
            // Whoever fenced it while it was made has nothing of these calls.
            Err(error) => {
                self.native = None;
                return Ended::Aborted(error);
            }
        };
        if let Err(error) = native.begin_transaction() {
            return abort(native, &operation, &error);
        }
        // In this order: see the module's invariants.
        let Some(group) = member.consumer().group_metadata() else {
            let error = LogError::Fenced(format!("{operation}: this member is in no group"));
            return after_abort(native, &operation, Ended::Aborted(error));
        };
        let not_ours: Vec<(usize, TransactError)> = calls
            .iter()
            .enumerate()
            .filter_map(|(index, call)| {
                if call.reply.is_closed() {
                    // Its task is gone; the partition may be ours again, with another task that begins from
                    // what was committed.
                    let text = format!("{operation}: nobody waits for it any more");
                    return Some((index, TransactError::Log(LogError::Fenced(text))));
                }
                let mut commits = call.transaction.commits.iter();
                let (lost, _) = commits.find(|(partition, _)| !member.owns(partition))?;
                let text = format!("{operation}: {lost} is not assigned to this member");
                Some((index, TransactError::Log(LogError::Fenced(text))))
            })
            .collect();
        if !not_ours.is_empty() {
            return after_abort(native, &operation, Ended::Without(not_ours));
        }
        // While the records are on their way: what the brokers do for both is most of a transaction's time.
        let sending = match Sending::begin(native, offsets(calls, &cluster_id), group) {
            Ok(sending) => sending,
            Err(error) => return after_abort(native, &operation, Ended::Aborted(error)),
        };
        let every = calls.iter().flat_map(|call| &call.transaction.records);
        let delivered = produce(native, every);
        let Some(sent) = sending.ended() else { return stuck(&operation) };
        let delivered = match delivered {
            Ok(delivered) => delivered,
            Err(error) => return abort(native, &operation, &error),
        };
        // An offender first: what comes with it is refused or given up because of it.
        let refused = refused(calls, &delivered);
        if let Ok(refused) = &refused
            && !refused.is_empty()
        {
            let ended = after_abort(native, &operation, Ended::Without(refused.clone()));
            let records = calls.iter().flat_map(|call| &call.transaction.records);
            for topic in producer::unknown_topics(records.zip(&delivered)) {
                // What is new is known the next time; that nobody answers shows then, too.
                let _ = native.client().fetch_metadata(Some(&topic), CALL);
            }
            return ended;
        }
        let given_up = delivered.iter().any(|delivered| {
            // `State`: it had given the transaction up before it took the record.
            matches!(delivered, Err(Code::PurgeQueue | Code::PurgeInflight | Code::State))
        });
        if given_up {
            // librdkafka has given the transaction up; its records tell only that they were. Why it says to
            // whoever goes on with the transaction.
            let operation = format!("{operation}, which writes to {}", topics(calls));
            let sent = match (&sent, member.consumer().group_metadata()) {
                (Ok(()), Some(group)) => {
                    match Sending::begin(native, offsets(calls, &cluster_id), group) {
                        Ok(sending) => sending.ended(),
                        Err(error) => {
                            return after_abort(native, &operation, Ended::Aborted(error));
                        }
                    }
                }
                _ => Some(sent.clone()),
            };
            match sent {
                Some(Ok(())) => {}
                Some(Err(error)) => return abort(native, &operation, &error),
                None => return stuck(&operation),
            }
        }
        if let Err(error) = refused {
            return after_abort(native, &operation, Ended::Aborted(error));
        }
        if let Err(error) = sent {
            return abort(native, &operation, &error);
        }
        commit(native, &operation)
    }
}

/// Commits what was delivered.
pub(crate) fn commit(native: &Native, operation: &str) -> Ended {
    put_away(native);
    loop {
        match native.commit_transaction(CALL) {
            Ok(()) => return Ended::Committed,
            // Not known yet: it is asked again until it is.
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                tracing::warn!(%operation, %error, "committing; asking again");
            }
            Err(error) => return abort(native, operation, &error),
        }
    }
}

/// Initialises a producer.
pub(crate) fn init(native: &Native) -> Result<(), KafkaError> {
    let deadline = Instant::now() + CALL;
    loop {
        match native.init_transactions(INIT_STEP) {
            Err(KafkaError::Transaction(error))
                if error.is_retriable() && Instant::now() < deadline => {}
            answer => return answer,
        }
    }
}

/// Hands all records over and waits until each is delivered or refused.
pub(crate) fn produce<'a>(
    native: &Native,
    every: impl Iterator<Item = &'a Record> + Clone,
) -> Result<Vec<Delivered>, KafkaError> {
    let count = every.clone().count();
    if count == 0 {
        return Ok(Vec::new());
    }
    let deliveries = Arc::clone(native.client().context());
    let (slot, all) = deliveries.expect(count);
    for (place, record) in every.enumerate() {
        let mut outgoing = records::outgoing(record, slot.opaque(place));
        while let Err((error, back)) = native.send(outgoing) {
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            if code != Code::QueueFull {
                deliveries.report(slot.opaque(place), Err(code));
                break;
            }
            outgoing = back;
            std::thread::sleep(QUEUE_FULL);
        }
    }
    // Each message times out by itself at last.
    all.blocking_recv().map_err(|_| KafkaError::Canceled)
}

/// Waits until the thread that serves the queue has put away what it told of: as long as a report is there,
/// rdkafka's `commit_transaction` waits 100 ms for the next one, which does not come.
fn put_away(native: &Native) {
    let deadline = Instant::now() + PUT_AWAY;
    while native.in_flight_count() > 0 && Instant::now() < deadline {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The producer does not answer any more; the next one fences it, which aborts what it had begun.
fn stuck(operation: &str) -> Ended {
    Ended::Lost(LogError::Unavailable(format!("{operation}: librdkafka does not answer")))
}

/// The topics that the calls write to.
fn topics(calls: &[Call]) -> String {
    let records = calls.iter().flat_map(|call| &call.transaction.records);
    let topics: std::collections::BTreeSet<&str> = records.map(|record| &*record.topic).collect();
    topics.into_iter().collect::<Vec<_>>().join(", ")
}

/// The calls whose own records were refused, each with the first of them.
fn refused(
    calls: &[Call],
    delivered: &[Delivered],
) -> Result<Vec<(usize, TransactError)>, LogError> {
    let mut delivered = delivered.iter();
    let (mut refused, mut passing) = (Vec::new(), None);
    for (call_index, call) in calls.iter().enumerate() {
        let mut first = None;
        for (index, record) in call.transaction.records.iter().enumerate() {
            let Some(Err(code)) = delivered.next() else { continue };
            match producer::refusal(record, *code) {
                Ok(error) if first.is_none() => first = Some((index, error)),
                Ok(_) => {}
                Err(error) => passing = passing.or(Some(error)),
            }
        }
        refused.extend(
            first.map(|(index, error)| (call_index, TransactError::Offender { index, error })),
        );
    }
    match passing {
        // An offender makes the broker refuse what came with it: mend that first.
        Some(error) if refused.is_empty() => Err(error),
        _ => Ok(refused),
    }
}

/// What is committed with the records: of several calls for a partition the furthest.
fn offsets(calls: &[Call], cluster_id: &str) -> TopicPartitionList {
    let mut furthest: std::collections::BTreeMap<&Partition, &Commit> =
        std::collections::BTreeMap::new();
    for (partition, commit) in calls.iter().flat_map(|call| &call.transaction.commits) {
        let stands = furthest.entry(partition).or_insert(commit);
        if commit.next >= stands.next {
            *stands = commit;
        }
    }
    let mut list = TopicPartitionList::with_capacity(furthest.len());
    for (partition, commit) in furthest {
        let number = records::raw_partition(partition.number);
        let mut element = list.add_partition(&partition.topic, number);
        let _ = element.set_offset(rdkafka::Offset::Offset(records::raw_offset(commit.next)));
        element.set_metadata(commit_metadata::encode(cluster_id, partition, commit));
    }
    list
}

/// Ends a transaction that failed with this error.
pub(crate) fn abort(native: &Native, operation: &str, error: &KafkaError) -> Ended {
    let text = errors::log_error(operation, error);
    if let KafkaError::Transaction(detail) = error
        && detail.is_fatal()
    {
        return Ended::Lost(match (detail.code(), text) {
            // The next producer works.
            (Code::Fatal, error) => LogError::Unavailable(error.to_string()),
            (_, error) => error,
        });
    }
    let passing = match text {
        // The generation is dead: the core gives up what it lost when the group says so; the rest goes
        // again with the next generation.
        LogError::Fenced(text) => LogError::Unavailable(text),
        error => error,
    };
    after_abort(native, operation, Ended::Aborted(passing))
}

/// Aborts, then ends so; if that fails the producer is given up.
pub(crate) fn after_abort(native: &Native, operation: &str, ended: Ended) -> Ended {
    loop {
        match native.abort_transaction(CALL) {
            Ok(()) => return ended,
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            Err(error) => {
                // A broker that knows of no transaction has none to abort: its first partition was
                // refused.
                return Ended::Lost(match ended {
                    Ended::Aborted(error @ LogError::Fatal(_)) => error,
                    _ => LogError::Unavailable(format!("{operation}: aborting: {error}")),
                });
            }
        }
    }
}
