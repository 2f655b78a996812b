//! The embedded log: topics, consumer groups and idempotency marks in a local directory.
//!
//! One binary with no server is a complete system. The adapter implements the core's `Log`,
//! `Consumer` and `IdempotencyStore` on the storage library fjall.
//!
//! ```text
//! append, transact, commit, mark ──▶ queue ──▶ writer (one thread) ──▶ store ──▶ readers
//! ```
//!
//! - [`EmbeddedLog`] is the log; [`EmbeddedOptions`] say how it is opened.
//! - `record_batch`, `entries`: what is stored, byte by byte. `store`, `folder`, `journal`,
//!   `acknowledged`: how a directory is opened with distrust, so that nothing answered for is lost
//!   in silence.
//! - `queue`, `writer`: how writes become durable in groups. `background`, `sweep`: sync and
//!   retention.
//! - `marks`: the index that idempotency keys are asked of, brought up to the log when it opens.
//! - `topics`, `groups`, `reading`, `consumer`: how messages reach their readers.
//!
//! Non-obvious invariants: every write has a number, and a store that ends below the acknowledged
//! one is refused; ownership of partitions changes between two writes only; messages are slices of
//! the stored batch.

mod acknowledged;
mod background;
mod consumer;
mod entries;
mod folder;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod groups;
mod journal;
mod locks;
mod log;
mod manifest;
mod marks;
mod options;
mod partitioner;
mod queue;
mod reading;
mod record_batch;
mod shared;
mod store;
mod sweep;
mod topics;
mod writer;
mod writers;

#[cfg(test)]
mod tests;

pub use folder::announced;
pub use log::EmbeddedLog;
pub use options::{Durability, EmbeddedOptions, OpenError};
