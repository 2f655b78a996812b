//! A host that is killed and stopped: nothing lost, nothing handled again after its commit held.
//!
//! The real program on the embedded log: a child process that gets SIGKILL again and again while
//! messages stream in, and SIGTERM under load; and messages that are sent twice. `MILLSTREAM_SOAK=1`
//! kills it 200 times.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this is a test: what is not as expected ends it"
)]

mod accounts;
mod host_crash;
mod kills;
mod order;
mod orders;
mod redrive;
mod stop;
mod twice;
