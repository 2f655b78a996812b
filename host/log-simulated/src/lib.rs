//! A log in memory with seeded faults: the core's adversary in simulations.
//!
//! A [`SimCluster`] is what outlives hosts: topics, groups, commits and idempotency marks. Each life
//! of a host has a [`SimLog`], which is its log and its idempotency store. Time is tokio's, paused;
//! chances come from one [`Draw`]; nothing else moves. Whatever happens is told to an [`Observer`].
//!
//! The log keeps the promises of its port and no more: answers are late, lost or refused, partitions
//! are taken away at once or after asking, messages come twice, offsets have gaps, transactions stay
//! open, hosts die in the middle of a call, appends land when their caller is gone, records are refused,
//! messages and commits are removed.

mod cluster;
pub mod conformance;
mod consumer;
mod draw;
mod faults;
mod group;
mod happening;
mod log;
mod partition_log;
mod sends;
mod store;
mod topics;
mod transaction;
mod writer;

pub use cluster::{CrashAt, Patience, SimClock, SimCluster, WALL_CLOCK_BEGIN};
pub use draw::Draw;
pub use faults::Faults;
pub use happening::{Epoch, Fate, Happening, HostId, Observer, Unobserved};
pub use log::SimLog;

#[cfg(test)]
mod tests;
