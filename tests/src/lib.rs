//! Support of the tests across crates: the real program as child processes, in a folder of their own.
//!
//! Nothing here knows more than a user does, but for [`commits`], which reads what a dead host had
//! committed. What is not as expected ends the test with what the program said.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "only tests use it: what is not as expected ends them"
)]

pub mod browser;
pub mod commits;
pub mod dead_letters;
pub mod draw;
pub mod failing_disk;
pub mod folder;
pub mod host;
pub mod host_crash;
pub mod kafka;
pub mod kafka_topic;
pub mod key_order;
pub mod mounted;
pub mod neighbours;
pub mod pairs;
pub mod program;
pub mod reader;
pub mod span_receiver;
pub mod topic;
pub mod traced;
pub mod versions;
pub mod waiting;
