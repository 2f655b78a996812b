//! Scaler: how many hosts each pipeline needs, told from the broker alone, so that it is right when none runs.
//!
//! ```text
//! broker ──▶ watch (a task for each pipeline) ──▶ known ──┬─▶ grpc: KEDA's external scaler
//!            lag, hosts, rate a host                       └─▶ metrics: Prometheus
//! ```
//!
//! - `watch` asks the broker and never waits for who asks us; `known` is what it found last, and who asks.
//! - `replicas` and `rate` are the rules; `settings` are what a trigger says in its metadata.
//!
//! Invariant: what is not known is never zero. A broker that does not answer leaves the last answer as it is; before the
//! first answer there is none, and whoever asks is told so.
//! Limits: 256 open streams, 64 connections on each address, 64 KiB a request.

mod grpc;
mod known;
mod metrics;
mod rate;
mod replicas;
mod server;
mod settings;
mod watch;

pub use server::{BindError, Scaler, ScalerOptions};

/// KEDA's interface, made from `proto/externalscaler.proto`; the client is for tests.
#[expect(missing_docs, reason = "generated code")]
#[allow(unreachable_pub, reason = "generated code; that it is reachable is up to the generator")]
pub mod keda {
    tonic::include_proto!("externalscaler");
}
