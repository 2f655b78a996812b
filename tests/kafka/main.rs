//! Kafka: the adapter and the real program against real brokers, which the tests start themselves.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where it fails"
)]

mod adapter;
mod changes;
mod conformance;
mod dead_letters;
mod deploy;
mod failures;
mod host_crash;
mod hosts;
mod kills;
mod order;
mod scaler;
mod security;
mod traces;
mod twice;
mod what_fails;
