//! Every bound of the API, in one place since server and client must agree.

use std::time::Duration;

/// A request's body.
pub(crate) const BODY_BYTES_MAX: usize = 16 << 20;
/// What the client puts into one append: well below the body's bound.
pub(crate) const APPEND_BYTES: usize = 4 << 20;
/// Records in one append.
pub(crate) const APPEND_RECORDS: usize = 1_000;
/// What a fetch answers, as JSON; a longer one is ended early, and `next` says where to go on.
pub(crate) const FETCH_ANSWER_BYTES_MAX: usize = 32 << 20;
/// What a fetch takes from the log, whatever it asks for.
pub(crate) const FETCH_BYTES_MAX: usize = 8 << 20;
/// Likewise in messages.
pub(crate) const FETCH_MESSAGES_MAX: usize = 10_000;
/// What the client reads of any answer.
pub(crate) const ANSWER_BYTES_MAX: u64 = (FETCH_ANSWER_BYTES_MAX + (1 << 20)) as u64;
/// API requests under way at once; with their bodies at most 256 MiB.
pub(crate) const REQUESTS_MAX: usize = 16;
/// Open connections; more wait in the system's queue.
pub(crate) const CONNECTIONS_MAX: usize = 64;
/// A request's head, and what is read ahead of a body.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long a client may take for a request's head, or leave its connection idle.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a request may take, body and log included.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// How long requests under way may go on after the host was told to stop.
pub(crate) const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// The client waits longer than the server works, so that the server's reason arrives.
pub(crate) const CLIENT_TIME_MAX: Duration = Duration::from_secs(40);
/// How long the client tries to connect.
pub(crate) const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Dead letters of a listing, in full; all are counted.
pub(crate) const LETTERS_MAX: u64 = 1_000;
/// The same, if nothing is said.
pub(crate) const LETTERS_SHOWN: u64 = 100;
/// Listings of dead letters at once: each reads all there are.
pub(crate) const SCANS_MAX: usize = 2;
/// Entries of the audit trail in one answer.
pub(crate) const AUDIT_ENTRIES_MAX: usize = 1_000;
/// The same, if nothing is said.
pub(crate) const AUDIT_ENTRIES: usize = 100;
/// Replays at once: each has an instance of the plugin.
pub(crate) const REPLAYS_MAX: usize = 1;
/// What a replay may take, whatever the plugin's limit is: below a request's time.
pub(crate) const REPLAY_TIME_MAX: Duration = Duration::from_secs(20);
/// Changes of a plugin's version in one answer.
pub(crate) const CHANGES_SHOWN: usize = 50;
/// How long hosts may take to load a version that is rolled back to.
pub(crate) const ROLLBACK_TIME_MAX: Duration = Duration::from_secs(60);
