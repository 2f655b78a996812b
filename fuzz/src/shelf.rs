//! Shelf: a log in memory that always answers at once, for tools that read and write one.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use millstream_core::log::{
    Appended, Batch, Commit, Consumer, Ends, Log, LogError, RecordError, Room, Subscription,
    TopicSpec, TransactError, Writer,
};
use millstream_core::message::{EpochMs, Message, Offset, Partition, Record};

/// The time of every append.
const APPENDED: EpochMs = 1_700_000_000_000;

/// See the module. Its topics have one partition each, and are there.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<BTreeMap<Partition, (Offset, Vec<Message>)>>>);

impl Shelf {
    /// With these topics.
    pub fn new(topics: &[&str]) -> Self {
        let empty = |topic: &&str| (Partition::new(*topic, 0), (0, Vec::new()));
        Self(Arc::new(Mutex::new(topics.iter().map(empty).collect())))
    }

    /// Appends a record.
    pub fn put(&self, record: Record) -> Offset {
        self.of(&Partition::new(record.topic.clone(), 0), |start, messages| {
            let offset = messages.last().map_or(*start, |last| last.offset + 1);
            messages.push(Message {
                topic: record.topic,
                partition: 0,
                offset,
                timestamp: APPENDED,
                key: record.key,
                value: record.value,
                headers: record.headers,
            });
            offset
        })
    }

    /// The messages of a topic.
    pub fn all(&self, topic: &str) -> Vec<Message> {
        self.of(&Partition::new(topic, 0), |_, messages| messages.clone())
    }

    fn of<T>(
        &self,
        partition: &Partition,
        work: impl FnOnce(&mut Offset, &mut Vec<Message>) -> T,
    ) -> T {
        let mut partitions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, messages) = partitions.entry(partition.clone()).or_default();
        work(start, messages)
    }

    fn ends_of(&self, partition: &Partition) -> Ends {
        self.of(partition, |start, messages| {
            let end = messages.last().map_or(*start, |last| last.offset + 1);
            Ends { start: *start, end, high: end }
        })
    }
}

/// What is done over a shelf is done at once.
pub fn done<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits for something"),
    }
}

#[async_trait]
impl Writer for Shelf {
    async fn append_all(&self, records: &[Record]) -> Result<(), TransactError> {
        for record in records {
            self.put(record.clone());
        }
        Ok(())
    }
}

#[async_trait]
impl Log for Shelf {
    fn cluster_id(&self) -> &str {
        "shelf"
    }

    fn commit_metadata_bytes_max(&self) -> usize {
        4096
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        let partitions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spec = |partition: &Partition| TopicSpec {
            name: partition.topic.clone(),
            partitions: 1,
            retention: None,
            retention_bytes: None,
            message_bytes_max: 1 << 20,
            append_time: true,
            compacted: false,
            replication: None,
        };
        Ok(partitions.keys().map(spec).collect())
    }

    async fn create_topic(&self, spec: TopicSpec) -> Result<(), LogError> {
        self.of(&Partition::new(spec.name, 0), |_, _| Ok(()))
    }

    async fn append(
        &self,
        records: &[&Record],
    ) -> Result<Vec<Result<Appended, RecordError>>, LogError> {
        let one =
            |record: &&Record| Ok(Appended { partition: 0, offset: self.put((*record).clone()) });
        Ok(records.iter().map(one).collect())
    }

    async fn fetch(
        &self,
        partition: &Partition,
        from: Offset,
        room: Room,
    ) -> Result<Batch, LogError> {
        let end = self.ends_of(partition).end;
        let messages = self.all(&partition.topic).into_iter().filter(|m| m.offset >= from);
        let messages: Vec<_> = messages.take(room.messages).collect();
        let next = messages.last().map_or(from, |last| last.offset + 1);
        Ok(Batch { partition: partition.clone(), messages, next, end })
    }

    async fn ends(&self, partitions: &[Partition]) -> Result<Vec<Ends>, LogError> {
        Ok(partitions.iter().map(|partition| self.ends_of(partition)).collect())
    }

    async fn committed(
        &self,
        _group: &str,
        partitions: &[Partition],
    ) -> Result<Vec<Option<Commit>>, LogError> {
        Ok(vec![None; partitions.len()])
    }

    async fn delete_before(&self, partition: &Partition, before: Offset) -> Result<(), LogError> {
        self.of(partition, |start, messages| {
            *start = before.max(*start);
            messages.retain(|message| message.offset >= before);
        });
        Ok(())
    }

    async fn writer(&self, _: &str) -> Result<Arc<dyn Writer>, LogError> {
        Ok(Arc::new(self.clone()))
    }

    async fn consumer(&self, _: Subscription) -> Result<Arc<dyn Consumer>, LogError> {
        Err(LogError::Fatal("nothing is consumed here".to_owned()))
    }
}
