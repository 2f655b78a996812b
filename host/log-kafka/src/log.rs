//! The log: what pipelines, tools and the admin API ask of a Kafka cluster.
//!
//! librdkafka's calls block; they run on threads for blocking work, each with a time limit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use millstream_core::log::{
    Appended, AppendedAfter, Batch, Commit, Consumer, Ends, Log, LogError, RecordError, Room,
    Subscription, TopicSpec, Writer,
};
use millstream_core::message::{Offset, Partition, Record};
use rdkafka::TopicPartitionList;
use rdkafka::admin::AdminOptions;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use tokio::sync::Notify;

use crate::admin::Admin;
use crate::client::{self, CALL, Context};
use crate::commit_metadata::{self, NET_BYTES_MAX};
use crate::consumer::KafkaConsumer;
use crate::errors;
use crate::group_clients::GroupClients;
use crate::group_hosts::{self, GroupHosts};
use crate::member::Member;
use crate::offsets::{self, EARLIEST, LATEST};
use crate::options::KafkaOptions;
use crate::polled::Polled;
use crate::producer::Producer;
use crate::reader::{Reader, Taken};
use crate::records;
use crate::topics::Topics;
use crate::transactions::Transactions;
use crate::writer::KafkaWriter;

/// How long to wait before the rest of a call is appended again.
const APPEND_AGAIN: Duration = Duration::from_millis(100);

/// How long the first answer of a cluster is waited for.
const CONNECT: Duration = Duration::from_secs(15);

/// How long a fetch waits for messages that are there.
const FETCH: Duration = Duration::from_secs(10);
const FETCH_STEP: Duration = Duration::from_millis(100);

/// How many readers of `fetch` are kept for those who read on where they were.
const FETCHERS_MAX: usize = 8;

/// What a fetch reads ahead is a part of this.
const FETCH_ROOM: Room = Room { messages: 1000, bytes: 16 << 20 };

/// A Kafka cluster.
pub struct KafkaLog {
    options: Arc<KafkaOptions>,
    cluster_id: String,
    topics: Arc<Topics>,
    admin: Arc<Admin>,
    producer: Producer,
    /// Sees what a reader of committed messages sees.
    committed: Arc<Polled>,
    /// Sees everything.
    uncommitted: Arc<Polled>,
    fetchers: Mutex<Vec<Fetcher>>,
    /// Clients that asked for commits.
    group_clients: Arc<GroupClients>,
}

/// A reader that stands somewhere in a partition.
struct Fetcher {
    partition: Partition,
    next: Offset,
    reader: Reader,
}

impl KafkaLog {
    /// Reaches the cluster.
    ///
    /// # Errors
    /// `Unavailable` if no broker answers within 15 s; `Fatal` for what a person must mend: a property
    /// that is none, a user or password that is not known.
    pub async fn connect(options: KafkaOptions) -> Result<Arc<Self>, LogError> {
        let servers = options.bootstrap_servers.clone();
        let options = Arc::new(options);
        let made = Arc::clone(&options);
        let connected = tokio::task::spawn_blocking(move || Self::connect_blocking(made));
        let connected =
            connected.await.map_err(|error| LogError::Unavailable(error.to_string()))?;
        connected.map_err(|error| match error {
            LogError::Unavailable(text) => LogError::Unavailable(format!(
                "no Kafka broker answers at {servers}: {text}: start it, or correct `log.bootstrap_servers`"
            )),
            error => error,
        })
    }

    fn connect_blocking(options: Arc<KafkaOptions>) -> Result<Arc<Self>, LogError> {
        let tool = |committed: bool| {
            let config = client::tool(&options, "millstream-tools-join-no-group", committed);
            Polled::new(&config, Context::new(Arc::clone(&options), "tool")).map(Arc::new)
        };
        let (committed, uncommitted) = (tool(true)?, tool(false)?);
        let operation = "connecting";
        let metadata = committed.fetch_metadata(Some("millstream-probe"), CONNECT);
        metadata.map_err(|error| committed.error(operation, &error))?;
        let cluster_id = committed
            .client()
            .fetch_cluster_id(CONNECT)
            .ok_or_else(|| LogError::Unavailable("the cluster does not tell its id".to_owned()))?;
        let admin = Arc::new(Admin::new(&options)?);
        Ok(Arc::new(Self {
            producer: Producer::new(Arc::clone(&options))?,
            options,
            cluster_id,
            topics: Arc::new(Topics::new(Arc::clone(&admin))),
            admin,
            committed,
            uncommitted,
            fetchers: Mutex::default(),
            group_clients: Arc::default(),
        }))
    }

    /// Delivers what is on its way and lets go.
    pub async fn close(self: &Arc<Self>) {
        let log = Arc::clone(self);
        // A panic was reported.
        let _ = tokio::task::spawn_blocking(move || log.producer.flush(CALL)).await;
    }

    /// Who works in a group.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn hosts(&self, group: &str) -> Result<GroupHosts, LogError> {
        let (client, group) = (Arc::clone(&self.committed), group.to_owned());
        blocking(move || {
            let operation = format!("asking for the members of group {group}");
            let found = client.fetch_group_list(Some(&group), CALL);
            let found = found.map_err(|error| client.error(&operation, &error))?;
            let described = found.groups().iter().find(|found| found.name() == group);
            // A group that the cluster does not know has no members yet.
            Ok(described.map_or(GroupHosts::Owning(0), |described| {
                let members = described.members().iter();
                let members = members.map(|member| (member.client_id(), member.assignment()));
                group_hosts::count(described.state(), members)
            }))
        })
        .await
    }

    /// Appends what has no answer yet; a record of which nobody knows the place gets none.
    async fn append_left(
        &self,
        records: &[&Record],
        answers: &mut [Option<Result<Appended, RecordError>>],
    ) -> Result<(), LogError> {
        let refusals = self.topics.refusals(records.iter().copied()).await?;
        for (answer, refusal) in answers.iter_mut().zip(refusals) {
            *answer = answer.take().or(refusal.map(Err));
        }
        let left = records.iter().zip(answers.iter()).filter(|(_, answer)| answer.is_none());
        let fits: Vec<&Record> = left.map(|(record, _)| *record).collect();
        if fits.is_empty() {
            return Ok(());
        }
        let mut appended = self.producer.append(&fits).await?.into_iter();
        for answer in answers.iter_mut().filter(|answer| answer.is_none()) {
            match appended.next() {
                // The producer is behind the listing, or the listing behind the cluster: look again.
                Some(Err(RecordError::UnknownTopic { .. })) => self.topics.forget(),
                appended => *answer = appended,
            }
        }
        Ok(())
    }

    fn fetcher(&self, partition: &Partition, from: Offset) -> Result<Fetcher, LogError> {
        let mut fetchers = self.fetchers.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = |f: &Fetcher| f.partition == *partition && f.next == from;
        let index = fetchers
            .iter()
            .position(stands)
            .or_else(|| (fetchers.len() >= FETCHERS_MAX).then_some(0));
        let kept = index.map(|index| fetchers.remove(index));
        drop(fetchers);
        let mut fetcher = match kept {
            Some(kept) if stands(&kept) => return Ok(kept),
            Some(kept) => kept,
            None => {
                let config = client::reader(&self.options, "fetch", FETCH_ROOM);
                let polled =
                    Polled::new(&config, Context::new(Arc::clone(&self.options), "fetch"))?;
                let reader = Reader::new(polled, Arc::new(Notify::new()));
                Fetcher { partition: partition.clone(), next: from, reader }
            }
        };
        fetcher.reader.detach(|_| true);
        fetcher.reader.attach(partition, from)?;
        (fetcher.partition, fetcher.next) = (partition.clone(), from);
        Ok(fetcher)
    }

    fn keep(&self, fetcher: Fetcher) {
        self.fetchers.lock().unwrap_or_else(PoisonError::into_inner).push(fetcher);
    }
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    let called = tokio::task::spawn_blocking(call).await;
    called.unwrap_or_else(|error| Err(LogError::Unavailable(error.to_string())))
}

fn list_of(
    partitions: &[Partition],
    offset: impl Fn(&Partition) -> rdkafka::Offset,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        let number = records::raw_partition(partition.number);
        list.add_partition_offset(&partition.topic, number, offset(partition))?;
    }
    Ok(list)
}

/// What a group has committed, in the order asked for.
pub(crate) async fn committed(
    ask: impl FnOnce(TopicPartitionList) -> KafkaResult<TopicPartitionList> + Send + 'static,
    cluster_id: &str,
    group: &str,
    partitions: &[Partition],
) -> Result<Vec<Option<Commit>>, LogError> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let operation = format!("fetching the commits of group {group}");
    let (partitions, cluster_id) = (partitions.to_vec(), cluster_id.to_owned());
    blocking(move || {
        let failed = |error: &KafkaError| errors::log_error(&operation, error);
        let list = list_of(&partitions, |_| rdkafka::Offset::Invalid).map_err(|e| failed(&e))?;
        let found = ask(list).map_err(|error| failed(&error))?;
        let commit = |partition: &Partition| {
            let number = records::raw_partition(partition.number);
            let Some(element) = found.find_partition(&partition.topic, number) else {
                return Ok(None);
            };
            element.error().map_err(|error| failed(&error))?;
            let rdkafka::Offset::Offset(next) = element.offset() else { return Ok(None) };
            let next = records::offset(next);
            Ok(Some(commit_metadata::decode(&cluster_id, partition, next, element.metadata())))
        };
        partitions.iter().map(commit).collect()
    })
    .await
}

#[async_trait]
impl Log for KafkaLog {
    fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn commit_metadata_bytes_max(&self) -> usize {
        NET_BYTES_MAX
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        Ok(self.topics.list().await?.values().cloned().collect())
    }

    async fn create_topic(&self, spec: TopicSpec) -> Result<(), LogError> {
        self.topics.create(&spec).await
    }

    async fn append(
        &self,
        records: &[&Record],
    ) -> Result<Vec<Result<Appended, RecordError>>, LogError> {
        let mut answers: Vec<Option<_>> = records.iter().map(|_| None).collect();
        loop {
            let ended = self.append_left(records, &mut answers).await;
            if answers.iter().all(Option::is_some) {
                return Ok(answers.into_iter().flatten().collect());
            }
            let unknown =
                "a topic or partition is listed, and not known to its broker or this client";
            let error = match ended {
                Ok(()) => LogError::Unavailable(format!("append: {unknown}")),
                Err(error) => error,
            };
            // If the caller sent all of it again, what is in the log would stand there twice.
            let is_there = answers.iter().any(|answer| matches!(answer, Some(Ok(_))));
            match error {
                LogError::Unavailable(reason) if is_there => {
                    tracing::warn!(%reason, "some records are appended; trying the others again");
                    tokio::time::sleep(APPEND_AGAIN).await;
                }
                error => return Err(error),
            }
        }
    }

    async fn fetch(
        &self,
        partition: &Partition,
        from: Offset,
        room: Room,
    ) -> Result<Batch, LogError> {
        let ends = self.ends(std::slice::from_ref(partition)).await?;
        let ends = ends.first().copied().unwrap_or_default();
        let from = from.max(ends.start);
        let nothing = |next: Offset| Batch {
            partition: partition.clone(),
            messages: Vec::new(),
            next,
            end: ends.end,
        };
        if from >= ends.end || room.messages == 0 {
            return Ok(nothing(from));
        }
        let mut fetcher = self.fetcher(partition, from)?;
        let asked = partition.clone();
        let (taken, fetcher, said) = blocking(move || {
            let deadline = tokio::time::Instant::now() + FETCH;
            loop {
                let taken = fetcher.reader.take_one(&asked, room, FETCH_STEP)?;
                if taken.is_some() || tokio::time::Instant::now() >= deadline {
                    let said = fetcher.reader.last_said();
                    fetcher.next = fetcher.reader.next_of(&asked).unwrap_or(from);
                    return Ok((taken, fetcher, said));
                }
            }
        })
        .await?;
        match taken {
            Some(Taken::Batch(batch)) => {
                self.keep(fetcher);
                Ok(Batch { end: ends.end, ..batch })
            }
            // Retention was faster: the next call begins at the new start.
            Some(Taken::OutOfRange(..)) => Ok(nothing(from)),
            None => Err(LogError::Unavailable(format!(
                "fetching {partition} from offset {from}: no answer within {FETCH:?}: {said}"
            ))),
        }
    }

    async fn ends(&self, partitions: &[Partition]) -> Result<Vec<Ends>, LogError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        for partition in partitions {
            let there = self.topics.get(&partition.topic).await?;
            let there = there.is_some_and(|spec| partition.number < spec.partitions);
            let grown = !there && {
                let topics = self.topics.refresh().await?;
                topics.get(&partition.topic).is_some_and(|t| partition.number < t.partitions)
            };
            if !there && !grown {
                return Err(LogError::Fatal(format!(
                    "partition {partition} does not exist: create it, or correct the name"
                )));
            }
        }
        let (starts, ends, highs) = tokio::try_join!(
            offsets::all_at(&self.uncommitted, &self.topics, partitions, EARLIEST),
            offsets::all_at(&self.committed, &self.topics, partitions, LATEST),
            offsets::all_at(&self.uncommitted, &self.topics, partitions, LATEST),
        )?;
        let all = starts.into_iter().zip(ends).zip(highs);
        Ok(all.map(|((start, end), high)| Ends { start, end: end.max(start), high }).collect())
    }

    async fn first_after(&self, asked: &[AppendedAfter]) -> Result<Vec<Offset>, LogError> {
        offsets::first_after(&self.committed, &self.topics, asked).await
    }

    async fn committed(
        &self,
        group: &str,
        partitions: &[Partition],
    ) -> Result<Vec<Option<Commit>>, LogError> {
        let (asking, kept) = (group.to_owned(), Arc::clone(&self.group_clients));
        let options = Arc::clone(&self.options);
        let ask = move |list| {
            let client = match kept.take(&asking) {
                Some(client) => client,
                None => {
                    let config = client::tool(&options, &asking, true);
                    let context = Context::new(options, "commits");
                    Polled::new(&config, context).map_err(|_| KafkaError::Canceled)?
                }
            };
            // One that failed is not kept: the next call begins with a new one.
            let found = client.committed_offsets(list, CALL)?;
            kept.keep(asking, client);
            Ok(found)
        };
        committed(ask, &self.cluster_id, group, partitions).await
    }

    async fn delete_before(&self, partition: &Partition, before: Offset) -> Result<(), LogError> {
        let operation = format!("deleting {partition} below offset {before}");
        let failed = |error: &KafkaError| errors::log_error(&operation, error);
        let before = rdkafka::Offset::Offset(records::raw_offset(before));
        let list = list_of(std::slice::from_ref(partition), |_| before).map_err(|e| failed(&e))?;
        let options = AdminOptions::new().request_timeout(Some(CALL)).operation_timeout(Some(CALL));
        let deleted = self.admin.delete_records(&list, &options).await;
        let deleted = deleted.map_err(|error| failed(&error))?;
        for element in deleted.elements() {
            element.error().map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    async fn writer(&self, name: &str) -> Result<Arc<dyn Writer>, LogError> {
        let (options, topics) = (Arc::clone(&self.options), Arc::clone(&self.topics));
        Ok(Arc::new(KafkaWriter::begin(options, topics, name).await?))
    }

    async fn consumer(&self, subscription: Subscription) -> Result<Arc<dyn Consumer>, LogError> {
        let topics = self.topics.refresh().await?;
        if let Some(missing) = subscription.topics.iter().find(|t| !topics.contains_key(*t)) {
            return Err(LogError::Fatal(format!(
                "pipeline {}: topic {missing} does not exist, or this user may not see it: create it (`millstream topics create {missing}`) or correct `source.topics`",
                subscription.pipeline
            )));
        }
        let wake = Arc::new(Notify::new());
        let context = |name: &str| Context::new(Arc::clone(&self.options), name);
        let config = client::reader(&self.options, &subscription.pipeline, subscription.in_flight);
        let reader = Reader::new(Polled::new(&config, context("reader"))?, Arc::clone(&wake));
        let member = Member::join(
            &client::member(&self.options, &subscription),
            context("member"),
            &subscription,
            &self.cluster_id,
            Arc::clone(&wake),
        )?;
        let member = Arc::new(member);
        let transactions = match subscription.transactional {
            false => None,
            true => Some(Transactions::start(
                Arc::clone(&self.options),
                subscription.clone(),
                Arc::clone(&member),
                self.cluster_id.clone(),
            )?),
        };
        Ok(Arc::new(KafkaConsumer {
            pipeline: subscription.pipeline,
            cluster_id: self.cluster_id.clone(),
            ends: Arc::clone(&self.uncommitted),
            topics: Arc::clone(&self.topics),
            member,
            reader: Arc::new(reader),
            transactions,
            wake,
        }))
    }
}
