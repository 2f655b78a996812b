//! Apache Kafka as a log of Millstream, on librdkafka.
//!
//! ```text
//!            ┌─ member: owns partitions, commits (its own thread, never behind a handler)
//! consumer ──┼─ reader: source and retry tiers by hand, a queue each
//!            └─ transactions: one producer for each pipeline and host (its own thread)
//! log ───────── producer, topics, ends, fetch
//! ```
//!
//! - [`KafkaLog`] is the log; [`KafkaOptions`] say how it is reached.
//! - `errors`: what is waited for, what fences, what stops. `client`: how librdkafka is configured.
//! - `commit_metadata`: what is settled above a committed offset, kept beside it.
//!
//! No type of rdkafka leaves this crate.

mod admin;
mod client;
mod commit_metadata;
mod committer;
mod consumer;
mod deliveries;
mod errors;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod group_clients;
mod group_hosts;
mod log;
mod member;
mod offsets;
mod options;
mod polled;
mod producer;
mod reader;
mod records;
mod sending;
mod topics;
mod transactions;
mod writer;

pub use group_hosts::GroupHosts;
pub use log::KafkaLog;
pub use options::{GroupProtocol, KafkaOptions, is_secret, refused_property};
