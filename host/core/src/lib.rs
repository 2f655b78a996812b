//! The way of a message: intake, lane, dedupe, attempt, settle, ledger, commit.
//!
//! ```text
//! log ──▶ intake ──▶ lane ──▶ dedupe ──▶ attempt ──▶ settle ──▶ ledger ──▶ commit
//! ```
//!
//! This crate has the stations and the ports (`log`, `plugin`, `idempotency`, `clock`) and none of
//! their heavy implementations: it builds without wasmtime, librdkafka or a C compiler, and runs
//! deterministically in the simulator.

pub mod clock;
pub mod idempotency;
pub mod log;
pub mod message;
pub mod names;
pub mod outcome;
pub mod pipeline_spec;
pub mod plugin;
