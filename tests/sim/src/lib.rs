//! Deterministic simulation of the core: the real stations on a simulated log, clock, sandbox and
//! idempotency store, everything drawn from one seed, on one thread and in virtual time.
//!
//! A seed is a [`scenario`]: a pipeline, messages and what the handler does with each, and what
//! goes wrong (the log's faults, and [`troubles`] at times). [`simulation`] plays it, first with faults and then without. The history hears of
//! everything and has it checked against the promises, not against the code. `cargo run -p
//! millstream-sim -- --seed S` repeats a seed and shows what happened.

mod book;
mod checks;
mod describe;
pub mod facts;
pub mod handler;
pub mod history;
pub mod host;
pub mod mark_copy;
pub mod planted;
pub mod runs;
pub mod scenario;
pub mod shorten;
pub mod simulation;
pub mod trace;
pub mod troubles;

pub use shorten::shorten;
pub use simulation::{Options, Report, simulate};
