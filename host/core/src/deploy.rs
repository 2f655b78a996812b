//! Deploying: which version of its plugin a pipeline's hosts run, kept in the log, and how that changes.
//!
//! Beside the message's way. A command (or the admin API) calls [`deploy`] or [`roll_back`]; each host of the pipeline
//! runs a [`follower`], which puts versions into the pipeline's [`PluginSlot`](crate::plugin_slot::PluginSlot).
//! They meet in one control topic for each group, [`topic`]:
//!
//! ```text
//! partition 0   rows (`rows`), the last of each key counts: a table
//!     version/DIGEST       a version that was deployed: name, version, who, when, size, where its bytes are
//!     change/NUMBER/ID     from here on this version is in use, by whom; changes are numbered
//!     proposal             is to be checked by all hosts now
//!     host/HOST            a live host, the change it is at, and whether it is ready
//!     verdict/HOST         what it says of the proposal
//! partition 1   the bytes of plugins, in chunks (`blob`)
//! ```
//!
//! A deploy: bytes, then the proposal; every live host loads the version beside the one that works, makes an
//! instance, runs the smoke messages, and says yes or no; only when all said yes the change is appended, and each host
//! swaps when it reads it. A rollback to the version before needs no check, it was in use: one append.
//!
//! Invariants:
//! - of two changes with one number the one that came first in the log counts, on every host and for every command:
//!   whoever comes second is told, and has changed nothing;
//! - nothing of the topic is believed until parsed (`rows`), no bytes are loaded but with the digest of their version;
//! - a host never handles a message with another version than that of the last change it read; one that can't load
//!   that says so and handles nothing;
//! - without a change the plugin of the configuration (the *file*) is in use.
//!
//! Limits: see the constants here and in the modules.

mod blob;
mod change;
mod check;
mod control;
mod ends;
mod error;
pub mod follower;
mod making;
mod rows;
mod topic_table;

use std::time::Duration;

use crate::log::TopicSpec;
use crate::message::Topic;

pub use change::{
    Changed, DeployRequest, HostState, Kind, Progress, RollbackRequest, Who, deploy, roll_back,
};
pub use check::{smoke_lines, try_out};
pub use control::{Control, Past};
pub use error::DeployError;
pub use rows::{Change, HostRow, Version, label_problem};

/// The largest plugin that is deployed, as the sandbox takes them.
pub const PLUGIN_BYTES_MAX: u64 = 128 << 20;
/// How many versions of a pipeline are kept; the oldest go first, never one that a rollback goes to.
pub const VERSIONS_KEPT: usize = 20;
/// How many changes are kept.
pub const CHANGES_KEPT: usize = 200;
/// Most smoke messages of a deploy.
pub const SMOKE_MESSAGES_MAX: usize = 100;
/// What they may take together, as lines.
pub const SMOKE_BYTES_MAX: usize = 256 << 10;
/// A host that is called and says nothing for so long counts as gone.
pub const ROLL_CALL: Duration = Duration::from_secs(10);
/// How long is waited for hosts to say that they have swapped.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// What a record of the topic may take; chunks are half of it.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The control topic of a group.
pub fn topic(group: &str) -> Topic {
    format!("millstream.control.{group}").into()
}

/// The control topic as it is made.
pub fn topic_spec(group: &str) -> TopicSpec {
    TopicSpec {
        name: topic(group),
        partitions: 2,
        retention: None,
        retention_bytes: None,
        message_bytes_max: MESSAGE_BYTES_MAX,
        append_time: true,
        compacted: true,
        replication: None,
    }
}
