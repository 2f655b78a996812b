//! What librdkafka tells a member in its callbacks: recorded here, acted on by the member's thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use millstream_core::message::Partition;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::client::Context;
use crate::records;

/// What librdkafka told in a callback.
pub(super) enum Happened {
    Assigned(Vec<Partition>),
    Revoked { partitions: Vec<Partition>, lost: bool },
}

/// Context of the member's client: records what happens.
pub(crate) struct MemberContext {
    client: Context,
    pub(super) happened: Mutex<VecDeque<Happened>>,
    /// The client is being closed: nobody is left to release anything.
    pub(super) closing: AtomicBool,
}

impl MemberContext {
    pub(super) fn new(client: Context) -> Self {
        Self { client, happened: Mutex::default(), closing: AtomicBool::new(false) }
    }

    fn record(&self, happened: Happened) {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner).push_back(happened);
    }
}

impl ClientContext for MemberContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.client.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client.error(error, reason);
    }

    fn generate_oauth_token(
        &self,
        config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.client.generate_oauth_token(config)
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions = partitions_of(list);
        if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.record(Happened::Assigned(partitions));
            return;
        }
        if self.closing.load(Ordering::Acquire) {
            unassign(consumer, list);
            return;
        }
        self.record(Happened::Revoked { partitions, lost: consumer.assignment_lost() });
    }
}

/// The partition that librdkafka means.
pub(crate) fn partition_of(topic: &str, number: i32) -> Partition {
    Partition::new(topic, u32::try_from(number).unwrap_or(u32::MAX))
}

fn partitions_of(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|e| partition_of(e.topic(), e.partition())).collect()
}

pub(super) fn list_of<'a>(
    partitions: impl IntoIterator<Item = &'a Partition>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, records::raw_partition(partition.number));
    }
    list
}

pub(super) fn unassign(consumer: &BaseConsumer<MemberContext>, list: &TopicPartitionList) {
    let unassigned = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    };
    if let Err(error) = unassigned {
        tracing::warn!(%error, "partitions could not be given back to the group");
    }
}
