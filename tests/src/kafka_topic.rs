//! A Kafka topic as a stranger's client sees it: written and read by rdkafka directly, with nothing of
//! Millstream's adapter between.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::kafka::unique;

/// No broker takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than transactions may stay open, and the broker takes to notice.
const TRANSACTIONS_END_WITHIN: Duration = Duration::from_secs(120);

/// A message of a topic.
#[derive(Clone, Debug)]
pub struct Read {
    /// The partition's number.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
    /// The key, as text.
    pub key: String,
    /// The value, as text.
    pub value: String,
}

/// Writes messages with a producer of its own.
pub struct Writer {
    producer: BaseProducer,
}

impl Writer {
    /// A producer for a cluster.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(bootstrap: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true");
        Self { producer: config.create().unwrap() }
    }

    /// Writes a message; it is there when [`Writer::flush`] has returned.
    ///
    /// # Panics
    /// When it is refused.
    pub fn write(&self, topic: &str, key: &str, value: &str) {
        self.send(topic, BaseRecord::to(topic).key(key).payload(value));
    }

    /// The same with a time of its own, in epoch milliseconds.
    ///
    /// # Panics
    /// When it is refused.
    pub fn write_at(&self, topic: &str, key: &str, value: &str, time_ms: i64) {
        self.send(topic, BaseRecord::to(topic).key(key).payload(value).timestamp(time_ms));
    }

    fn send(&self, topic: &str, mut record: BaseRecord<'_, str, str>) {
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("writing to {topic}: {error}"),
            }
        }
    }

    /// Waits until everything is written.
    ///
    /// # Panics
    /// When it is not in time.
    pub fn flush(&self) {
        self.producer.flush(PATIENCE).unwrap();
    }
}

/// Writes messages (key, value) in a transaction of their own, and commits or aborts it.
///
/// # Panics
/// When the cluster refuses it.
pub fn write_transaction(bootstrap: &str, topic: &str, messages: &[(&str, &str)], commit: bool) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("transactional.id", unique("writer"));
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    let writer = Writer { producer };
    for (key, value) in messages {
        writer.write(topic, key, value);
    }
    // What is aborted before it was sent would leave nothing in the topic.
    writer.flush();
    match commit {
        true => writer.producer.commit_transaction(PATIENCE).unwrap(),
        false => writer.producer.abort_transaction(PATIENCE).unwrap(),
    }
}

/// Waits until no transaction is open in a topic. That of a host that was killed holds back what others wrote
/// behind it, until it is fenced or has timed out; who reads before takes that for lost.
pub fn until_no_transaction_is_open(bootstrap: &str, topic: &str) {
    let reader = |isolation: &str| -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "reader-joins-no-group")
            .set("isolation.level", isolation)
            .create()
            .unwrap()
    };
    let (committed, all) = (reader("read_committed"), reader("read_uncommitted"));
    let partitions = all_partitions(&all, topic, Offset::Beginning);
    for element in partitions.elements() {
        let end = |reader: &BaseConsumer| {
            reader.fetch_watermarks(topic, element.partition(), PATIENCE).map(|(_, end)| end)
        };
        crate::waiting::until("no transaction is open", TRANSACTIONS_END_WITHIN, || {
            (end(&committed).ok()? == end(&all).ok()?).then_some(())
        });
    }
}

/// All messages of a topic that a reader of committed messages sees, in the order of each partition.
///
/// # Panics
/// When they cannot be read.
pub fn read(bootstrap: &str, topic: &str) -> Vec<Read> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader-joins-no-group")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let list = all_partitions(&consumer, topic, Offset::Beginning);
    let count = list.count();
    consumer.assign(&list).unwrap();
    let (mut messages, mut ended) = (Vec::new(), 0);
    while ended < count {
        match consumer.poll(PATIENCE) {
            Some(Ok(message)) => {
                let text = |bytes: Option<&[u8]>| {
                    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
                };
                messages.push(Read {
                    partition: message.partition(),
                    offset: message.offset(),
                    key: text(message.key()),
                    value: text(message.payload()),
                });
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => panic!("reading {topic}: {error}"),
            None => panic!("reading {topic}: nothing came within {PATIENCE:?}"),
        }
    }
    messages
}

/// What a group has committed in a partition, as it stands there.
#[derive(Clone, Debug)]
pub struct RawCommit {
    /// The partition's number.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// What is written beside it.
    pub metadata: String,
}

/// What a group has committed in the partitions of a topic that have a commit.
///
/// # Panics
/// When it cannot be read.
pub fn commits(bootstrap: &str, group: &str, topic: &str) -> Vec<RawCommit> {
    let consumer = of_group(bootstrap, group);
    let list = all_partitions(&consumer, topic, Offset::Invalid);
    let committed = consumer.committed_offsets(list, PATIENCE).unwrap();
    let found = committed.elements().into_iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => {
            let metadata = element.metadata().to_owned();
            Some(RawCommit { partition: element.partition(), offset, metadata })
        }
        _ => None,
    });
    found.collect()
}

/// Commits for a group that has no members.
///
/// # Panics
/// When that is refused.
pub fn write_commits(bootstrap: &str, group: &str, topic: &str, commits: &[RawCommit]) {
    let mut list = TopicPartitionList::new();
    for commit in commits {
        list.add_partition_offset(topic, commit.partition, Offset::Offset(commit.offset)).unwrap();
        let mut element = list.find_partition(topic, commit.partition).unwrap();
        element.set_metadata(commit.metadata.as_str());
    }
    of_group(bootstrap, group).commit(&list, CommitMode::Sync).unwrap();
}

fn of_group(bootstrap: &str, group: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", group);
    config.set("enable.auto.commit", "false").create().unwrap()
}

fn all_partitions(consumer: &BaseConsumer, topic: &str, offset: Offset) -> TopicPartitionList {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let count = metadata.topics().iter().map(|topic| topic.partitions().len()).sum::<usize>();
    let mut list = TopicPartitionList::new();
    for number in 0..count {
        list.add_partition_offset(topic, i32::try_from(number).unwrap(), offset).unwrap();
    }
    list
}

/// How often each value is there.
pub fn counts(messages: &[Read]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for message in messages {
        *counts.entry(&*message.value).or_insert(0) += 1;
    }
    counts
}
