//! The admin API of a host: metrics, health, status, and its log over HTTP.
//!
//! Beside the message's way. [`AdminServer`] runs inside the host; [`RemoteLog`] is the same log seen
//! from another process, so that `produce`, `consume`, `topics`, `lag` and `dlq` work on a running host as
//! they do on a folder.
//!
//! Who may ask: everything needs the host's token, but `/metrics` and `/health/*` on loopback. A
//! request must name the address it means (`Host`) and come from no other site (`Origin`), so that a
//! page in an operator's browser reaches nothing, whatever name it gives this address.
//!
//! | route | what |
//! |---|---|
//! | `GET /metrics` | Prometheus text |
//! | `GET /health/live`, `GET /health/ready` | 200, or 503 with reasons |
//! | `GET /api/v1/status` | what the host says of its pipelines |
//! | `GET /api/v1/topics`, `PUT /api/v1/topics/{name}` | list, create |
//! | `POST /api/v1/append`, `fetch`, `ends`, `committed`, `delete-before` | the log's port |
//! | `POST /api/v1/writer`, `append-all` | taking a writer's name, and appending all or nothing under it |
//!
//! Errors are JSON: `{"error":"what, why, what to do","class":"unavailable|fenced|fatal|request"}`.

pub mod connections;
mod failure;
#[cfg(test)]
mod fake_log;
mod guard;
mod limits;
mod log_api;
mod observe;
mod remote_log;
mod server;
mod token;
mod wire;
mod writers;

pub use observe::PipelineReadiness;
pub use remote_log::{ConnectError, RemoteLog, host_status};
pub use server::{AdminServer, AdminState, BindError};
pub use token::{Token, TokenError, TokenSource};
