//! The admin API of a host: metrics, health, status, and its log over HTTP.
//!
//! Beside the message's way. [`AdminServer`] runs inside the host; [`RemoteLog`] is the same log seen
//! from another process, so that `produce`, `consume`, `topics`, `lag` and `dlq` work on a running host as
//! they do on a folder.
//!
//! Who may ask what is `access`; what a request must look like before it is heard is `guard`: it must name the address it means
//! (`Host`) and come from no other site (`Origin`, `Sec-Fetch-Site`), so that a page in an operator's browser reaches
//! nothing, whatever name it gives this address. Every write is in the audit trail (`trail`).
//!
//! | route | what |
//! |---|---|
//! | `GET /` | the console's page (`page`), which asks the API like anybody else |
//! | `GET /metrics` | Prometheus text |
//! | `GET /health/live`, `GET /health/ready` | 200, or 503 with reasons |
//! | `GET /api/v1/openapi.json` | this table, in full |
//! | `GET /api/v1/status`, `overview` | what the host says of its pipelines; the same for the console, with rates and problems |
//! | `GET /api/v1/audit`, `jobs` | who changed what; what is under way |
//! | `GET /api/v1/pipelines/{p}/dead-letters`, `…/{topic}/{partition}/{offset}` | listed, and one in full |
//! | `POST …/{topic}/{partition}/{offset}/replay` | a letter's last attempt again, which goes nowhere |
//! | `POST /api/v1/pipelines/{p}/redrive`, `purge` | begins to put letters back, or give them up |
//! | `GET /api/v1/pipelines/{p}/versions`, `POST …/rollback` | what was deployed; begins to go back |
//! | `GET /api/v1/topics`, `PUT /api/v1/topics/{name}` | list, create |
//! | `POST /api/v1/append`, `fetch`, `ends`, `committed`, `delete-before` | the log's port |
//! | `POST /api/v1/writer`, `append-all` | taking a writer's name, and appending all or nothing under it |
//!
//! Errors are JSON: `{"error":"what, why, what to do","class":"unavailable|fenced|fatal|request"}`.

mod access;
mod asked;
pub mod connections;
mod dead_letter_api;
mod failure;
#[cfg(test)]
mod fake_log;
mod guard;
mod jobs;
mod limits;
mod log_api;
mod observe;
mod openapi;
mod overview;
mod page;
mod remote_log;
mod server;
mod token;
mod trail;
mod version_api;
mod wire;
mod writers;

pub use observe::PipelineReadiness;
pub use overview::ServedPipeline;
pub use remote_log::{ConnectError, RemoteLog, host_status};
pub use server::{AdminServer, AdminState, BindError};
pub use token::{Token, TokenError, TokenSource};
