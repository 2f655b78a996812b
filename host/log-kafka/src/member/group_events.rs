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
use serde::Deserialize;
use tokio::time::Instant;

use crate::client::Context;
use crate::records;

/// What librdkafka told in a callback.
pub(super) enum Happened {
    Assigned(Vec<Partition>),
    Revoked { partitions: Vec<Partition>, lost: bool },
}

/// Where the member is on its way into its group, as librdkafka said last.
#[derive(Clone, Copy)]
pub(super) struct JoinState {
    pub(super) said: Instant,
    /// It waits for the other members.
    pub(super) is_joining: bool,
}

/// What is read of librdkafka's statistics.
#[derive(Deserialize)]
struct Statistics {
    cgrp: Option<GroupStatistics>,
}

#[derive(Deserialize)]
struct GroupStatistics {
    join_state: String,
}

/// Context of the member's client: records what happens.
pub(crate) struct MemberContext {
    client: Context,
    pub(super) happened: Mutex<VecDeque<Happened>>,
    pub(super) join_state: Mutex<Option<JoinState>>,
    /// The client is being closed: nobody is left to release anything.
    pub(super) closing: AtomicBool,
}

impl MemberContext {
    pub(super) fn new(client: Context) -> Self {
        Self {
            client,
            happened: Mutex::default(),
            join_state: Mutex::default(),
            closing: AtomicBool::new(false),
        }
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

    fn stats_raw(&self, statistics: &[u8]) {
        let Ok(Statistics { cgrp: Some(group) }) = serde_json::from_slice(statistics) else {
            return;
        };
        let is_joining = !matches!(&*group.join_state, "steady" | "init");
        let state = JoinState { said: Instant::now(), is_joining };
        *self.join_state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
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
        let is_assigned = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let partitions = partitions_of(list);
        match self.closing.load(Ordering::Acquire) {
            // It does not end before it has an answer.
            true if is_assigned => assign(consumer, list),
            true => unassign(consumer, list),
            false if is_assigned => self.record(Happened::Assigned(partitions)),
            false => {
                let lost = consumer.assignment_lost();
                self.record(Happened::Revoked { partitions, lost });
            }
        }
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

pub(super) fn assign(consumer: &BaseConsumer<MemberContext>, list: &TopicPartitionList) {
    let assigned = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list),
    };
    // Nothing is read here: the reader does that.
    if let Err(error) = assigned.and_then(|()| consumer.pause(list)) {
        tracing::warn!(%error, "an assignment could not be taken");
    }
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
