//! Broker: the one all contenders share, and its topics.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use millstream_tests::kafka::Cluster;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Of every topic that is read or written.
pub(crate) const PARTITIONS: i32 = 6;

/// How long a call to the broker may take.
pub(crate) const CALL: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What stands in the place of a timestamp to ask for the end of a partition (ListOffsets, KIP-79).
const LATEST: Offset = Offset::End;

/// A running broker.
pub(crate) struct Broker {
    // Ends before its folder goes.
    cluster: Cluster,
    admin: AdminClient<DefaultClientContext>,
    runtime: Runtime,
    _dir: TempDir,
}

impl Broker {
    /// Starts one whose data is in a folder of its own in `dir`.
    ///
    /// # Errors
    /// When its folder or a client cannot be made. A broker that does not start ends the process.
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("millstream-bench-").tempdir_in(dir)?;
        let data = dir.path().join("kafka");
        let data = data.to_str().context("the folder's name is not UTF-8")?;
        // A topic that is removed is gone at once, so that its pages are not written to the disk
        // while the next contender runs.
        let gone_at_once = "log.segment.delete.delay.ms=0";
        let cluster = Cluster::start(&["--nodes", "1", "--dir", data, "--set", gone_at_once]);
        let admin = client(&cluster).create().context("no client for the broker")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { cluster, admin, runtime, _dir: dir })
    }

    /// Where clients connect.
    pub(crate) fn bootstrap(&self) -> &str {
        self.cluster.bootstrap()
    }

    /// The least a client needs to be told.
    pub(crate) fn client(&self) -> ClientConfig {
        client(&self.cluster)
    }

    /// A consumer that reads only what is committed, by hand, or asks for offsets.
    pub(crate) fn reader(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config.set("group.id", group).set("enable.auto.commit", "false");
        config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        config.set("fetch.queue.backoff.ms", "5");
        config
    }

    /// Makes a topic, with these settings of its own, and waits until it can be used.
    ///
    /// # Errors
    /// When the broker does not make it.
    pub(crate) fn create(&self, topic: &str, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
        let options = AdminOptions::new().operation_timeout(Some(CALL));
        let answers = self.runtime.block_on(self.admin.create_topics(&[new], &options))?;
        all_done(answers).with_context(|| format!("topic {topic} cannot be made"))?;
        let consumer: BaseConsumer = self.reader("create").create().context("no client")?;
        ends(&consumer, topic).with_context(|| format!("topic {topic} cannot be used"))?;
        Ok(())
    }

    /// Removes topics.
    ///
    /// # Errors
    /// When the broker does not.
    pub(crate) fn delete(&self, topics: &[&str]) -> anyhow::Result<()> {
        let options = AdminOptions::new().operation_timeout(Some(CALL));
        let answers = self.runtime.block_on(self.admin.delete_topics(topics, &options))?;
        all_done(answers).with_context(|| format!("topics {topics:?} cannot be removed"))
    }
}

fn client(cluster: &Cluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap());
    config
}

fn all_done(answers: Vec<rdkafka::admin::TopicResult>) -> anyhow::Result<()> {
    for answer in answers {
        answer.map_err(|(topic, code)| anyhow!("{topic}: {code}"))?;
    }
    Ok(())
}

/// All partitions of a topic, each with this offset.
///
/// # Errors
/// When the offset cannot be set.
pub(crate) fn partitions(topic: &str, offset: Offset) -> anyhow::Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, offset)?;
    }
    Ok(list)
}

/// The sum of the ends of a topic's partitions, as this client can read it.
///
/// # Errors
/// When the broker does not say.
pub(crate) fn ends(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<u64> {
    asked(|| Ok(consumer.offsets_for_times(partitions(topic, LATEST)?, CALL)?)).context("ends")
}

/// The sum of what a group has committed of a topic's partitions.
///
/// # Errors
/// When the broker does not say.
pub(crate) fn committed(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<u64> {
    let none = Offset::Invalid;
    asked(|| Ok(consumer.committed_offsets(partitions(topic, none)?, CALL)?)).context("commits")
}

/// The sum of the offsets that are answered. For a moment after a topic was made, brokers and clients do
/// not all know it: what fails is asked again.
fn asked(ask: impl Fn() -> anyhow::Result<TopicPartitionList>) -> anyhow::Result<u64> {
    let deadline = Instant::now() + CALL;
    loop {
        match ask().and_then(|list| sum(&list)) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            answer => return answer,
        }
    }
}

/// A partition without an offset counts as 0.
fn sum(list: &TopicPartitionList) -> anyhow::Result<u64> {
    let mut sum = 0;
    for element in list.elements() {
        element.error().with_context(|| format!("{}[{}]", element.topic(), element.partition()))?;
        if let Offset::Offset(offset) = element.offset() {
            sum += u64::try_from(offset)?;
        }
    }
    Ok(sum)
}
