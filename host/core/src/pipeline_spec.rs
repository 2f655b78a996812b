//! What one pipeline is: the checked, complete form of a `[pipelines.NAME]` table.
//!
//! Every field has been checked when a value of this type exists; the stations trust it. Every
//! duration, count and size is above zero unless it says otherwise.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::dead_letter::Mask;
use crate::idempotency::KeySource;
use crate::message::Topic;
use crate::names::Template;

/// One pipeline.
#[derive(Clone, Debug)]
pub struct PipelineSpec {
    /// The name, as in the configuration.
    pub name: String,
    /// The consumer group.
    pub group: String,
    /// The source topics, at least one.
    pub topics: Vec<Topic>,
    /// Where a group without a commit begins.
    pub start: Start,
    /// The plugin's outputs: name to topic.
    pub outputs: BTreeMap<String, Topic>,
    /// What is promised about a message's effects.
    pub delivery: Delivery,
    /// What is kept in order.
    pub ordering: Ordering,
    /// The bound of messages in flight.
    pub in_flight_messages: usize,
    /// The bound of bytes in flight.
    pub in_flight_bytes: usize,
    /// How many messages of a partition wait in memory for an earlier one of their key.
    pub waiting_messages: usize,
    /// How many bytes of a partition do.
    pub waiting_bytes: usize,
    /// How many plugin instances work at once.
    pub instances: usize,
    /// What happens to messages that fail.
    pub retry: RetrySpec,
    /// The dead-letter topic.
    pub dead_letter: DeadLetterSpec,
    /// Idempotency, if wanted.
    pub idempotency: Option<IdempotencySpec>,
    /// How often what is settled is committed (`at_least_once`).
    pub commit_interval: Duration,
    /// How often what is committed is committed again though nothing was settled: a log may forget what
    /// is too old (Kafka: `offsets.retention.minutes`, for topics the group does not subscribe to).
    pub commit_refresh: Duration,
    /// How long outcomes are gathered before they go in one transaction (`exactly_once`); zero sends
    /// them as they come. What a log with costly transactions (Kafka) needs.
    pub transaction_interval: Duration,
    /// How long the commit of a partition may stand still before it is told why.
    pub held_up_after: Duration,
    /// How long a drain may take before running handlers are cancelled.
    pub drain: Duration,
}

/// Where a group without a commit begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first message that is there.
    Earliest,
    /// Behind the last message that is there when the partition is first assigned.
    Latest,
}

/// What is promised about a message's effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// No message is lost; after a crash some may be handled again.
    AtLeastOnce,
    /// Outputs, retries, marks and commits in one transaction: each output once for who reads
    /// committed messages.
    ExactlyOnce,
    /// Committed before it is handled: never twice, lost if the host dies meanwhile.
    AtMostOnce,
}

/// What is kept in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// All messages of a partition, one after the other.
    Partition,
    /// Messages of a key; keys in parallel.
    Key,
    /// Nothing.
    None,
}

/// What waits while a message is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepOrder {
    /// Nothing: it is retried in a tier, and later messages pass it.
    No,
    /// Later messages of its key; it is retried in a tier (goes with order by key).
    OfKey,
    /// The whole partition; it is retried in place (goes with order by partition).
    OfPartition,
}

/// What happens to messages that fail.
#[derive(Clone, Debug)]
pub struct RetrySpec {
    /// The delay before each further attempt; attempts at most `delays.len() + 1`.
    pub delays: Vec<Duration>,
    /// What waits while a message is retried.
    pub keep_order: KeepOrder,
    /// How retry tiers are named.
    pub topic: Template,
    /// The shortest and longest wait after a `pause` failure.
    pub pause_min: Duration,
    /// The longest wait after a `pause` failure.
    pub pause_max: Duration,
}

/// The dead-letter topic.
#[derive(Clone, Debug)]
pub struct DeadLetterSpec {
    /// How it is named.
    pub topic: Template,
    /// How long dead letters are kept; `None` for ever.
    pub retention: Option<Duration>,
    /// A message with which so many hosts died becomes one; more than
    /// [`DeadLetterSpec::UNNAMED_HOST_CRASHES`], and `None` for never.
    pub after_host_crashes: Option<u32>,
    /// A letter that was redriven so often is parked; `None` for never.
    pub park_after: Option<u32>,
    /// What those do not see who may only look.
    pub mask: Mask,
}

impl DeadLetterSpec {
    /// Hosts that die before it is looked for what they die of.
    pub const UNNAMED_HOST_CRASHES: u32 = 2;
}

/// Idempotency.
#[derive(Clone, Debug)]
pub struct IdempotencySpec {
    /// Where the key comes from.
    pub key: KeySource,
    /// How long a handled key is remembered.
    pub ttl: Duration,
    /// What to do with a message that has no key: reject it, or handle it without.
    pub missing: MissingKey,
    /// Whether marks lie in a topic beside the source: the log keeps nothing but messages.
    pub in_topic: bool,
}

/// What to do with a message without idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingKey {
    /// It becomes a dead letter.
    Reject,
    /// It is handled, without protection against duplicates.
    Handle,
}
