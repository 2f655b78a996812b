//! The way of a message: intake, lane, dedupe, attempt, settle, ledger, commit.
//!
//! ```text
//! log ──▶ intake ──▶ lane ──▶ dedupe ──▶ attempt ──▶ settle ──▶ ledger ──▶ commit
//! ```
//!
//! This crate has the stations and the ports (`log`, `plugin`, `idempotency`, `clock`) and none of
//! their heavy implementations: it builds without wasmtime, librdkafka or a C compiler, and runs
//! deterministically in the simulator.

pub mod attempt;
pub mod audit;
pub mod budget;
pub mod clock;
mod companion_record;
pub mod companions;
pub mod dead_letter;
pub mod dedupe;
pub mod deploy;
pub mod headers;
pub mod hot_keys;
pub mod idempotency;
pub mod in_hand;
mod intake;
pub mod jsonl;
pub mod lag;
pub mod lane;
pub mod leb128;
pub mod ledger;
pub mod log;
pub mod message;
pub mod metrics;
pub mod names;
pub mod nearest;
pub mod outcome;
pub mod outstanding;
mod partition;
mod perhaps;
pub mod pipeline;
pub mod pipeline_spec;
pub mod plugin;
pub mod plugin_slot;
pub mod recent_failures;
mod rounds;
mod settle;
pub mod shutdown;
pub mod status;
pub mod tiers;
pub mod trace;
mod work_queue;
