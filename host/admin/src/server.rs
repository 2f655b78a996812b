//! The server: what it is given, where it listens, what it answers.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post, put};
use millstream_core::clock::WallClock;
use millstream_core::dead_letter::Owner;
use millstream_core::log::Log;
use millstream_core::pipeline_spec::PipelineSpec;
use prometheus::Registry;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::access::Tokens;
use crate::failure::Failure;
use crate::guard::{Guard, guard};
use crate::jobs::Jobs;
use crate::limits::{REPLAYS_MAX, SCANS_MAX};
use crate::observe::{self, PipelineReadiness};
use crate::overview::{Sampler, ServedPipeline};
use crate::token::{Token, TokenError, TokenInUse, TokenSource};
use crate::trail::{Caller, Trail};
use crate::writers::{self, Writers};
use crate::{connections, dead_letter_api, log_api, openapi, page, version_api};

/// What the server shows and who may see it.
pub struct AdminState {
    /// The host's log.
    pub log: Arc<dyn Log>,
    /// The host's metrics.
    pub registry: Registry,
    /// Tells of every pipeline whether it is ready; asked for each `/health/ready`, must not block.
    pub readiness: Arc<dyn Fn() -> Vec<PipelineReadiness> + Send + Sync>,
    /// Tells what `/api/v1/status` answers; must not block.
    pub status: Arc<dyn Fn() -> Value + Send + Sync>,
    /// The pipelines, for the console.
    pub pipelines: Vec<ServedPipeline>,
    /// The wall clock.
    pub clock: Arc<dyn WallClock>,
    /// This process, for what it changes.
    pub owner: Owner,
    /// The token that opens everything.
    pub token: TokenSource,
    /// One that opens what changes nothing and shows no message. With it configured, such reads need a token
    /// on loopback too.
    pub read_token: Option<Token>,
    /// One that opens `/metrics` and `/health` only.
    pub metrics_token: Option<Token>,
    /// Whether `/metrics` and `/health` need no token beyond loopback either. On loopback they never
    /// do.
    pub open_probes: bool,
    /// Names (`name:port`, as the `Host` header has it) the server is reached by beside its address:
    /// those of a service or a proxy.
    pub allowed_hosts: Vec<String>,
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error(
        "the admin address {address} is in use by another process, perhaps another host: stop it, or set `host.admin` to a free address (port 0 takes any)"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system does not let us listen there.
    #[error(
        "the admin address {address} cannot be listened on: {error}: set `host.admin` to an address of this machine and a port above 1023"
    )]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// More than this machine could ask, and the token would be a file on this machine.
    #[error(
        "the admin address {address} is reached from other machines, and no token is configured: set `host.admin_token`, or `host.admin` to an address on 127.0.0.1"
    )]
    NeedsToken {
        /// The address.
        address: SocketAddr,
    },
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// What the handlers share.
pub(crate) struct Served {
    pub(crate) writers: Writers,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) registry: Registry,
    pub(crate) readiness: Arc<dyn Fn() -> Vec<PipelineReadiness> + Send + Sync>,
    pub(crate) status: Arc<dyn Fn() -> Value + Send + Sync>,
    pub(crate) clock: Arc<dyn WallClock>,
    pub(crate) sampler: Sampler,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) trail: Trail,
    /// Room for those who read all dead letters of a pipeline.
    pub(crate) scans: Semaphore,
    pub(crate) replays: Semaphore,
    owner: Owner,
}

impl Served {
    /// What the pipeline of this name is.
    pub(crate) fn spec(&self, pipeline: &str) -> Result<&PipelineSpec, Failure> {
        self.pipeline(pipeline).map(|served| &served.spec)
    }

    /// This process, in the name of who asks.
    pub(crate) fn owner(&self, caller: &Caller) -> Owner {
        Owner { name: caller.by.clone(), ..self.owner.clone() }
    }

    /// The pipeline of this name.
    pub(crate) fn pipeline(&self, pipeline: &str) -> Result<&ServedPipeline, Failure> {
        let served = self.sampler.pipeline(pipeline);
        served.ok_or_else(|| {
            let text = format!(
                "this host has no pipeline {pipeline}: /api/v1/overview names those it has"
            );
            Failure::request(StatusCode::NOT_FOUND, text)
        })
    }
}

/// A server that has its address and token and waits to serve.
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    served: Arc<Served>,
    token: TokenInUse,
}

impl std::fmt::Debug for AdminServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl AdminServer {
    /// Takes the address, then makes the token: a host that finds the address taken leaves the token
    /// of the other alone.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(address: SocketAddr, state: AdminState) -> Result<Self, BindError> {
        let loopback = address.ip().is_loopback();
        if !loopback && matches!(state.token, TokenSource::MadeAtStart { .. }) {
            return Err(BindError::NeedsToken { address });
        }
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => BindError::InUse { address },
            _ => BindError::Address { address, error },
        })?;
        let address =
            listener.local_addr().map_err(|error| BindError::Address { address, error })?;
        let token = TokenInUse::of(state.token)?;
        let tokens = Tokens {
            write: token.token.clone(),
            read: state.read_token,
            metrics: state.metrics_token,
        };
        let guard = Guard::new(address, state.allowed_hosts, tokens, state.open_probes);
        let jobs = Arc::new(Jobs::default());
        let sampler = Sampler::new(
            state.pipelines,
            state.registry.clone(),
            Arc::clone(&state.clock),
            Arc::clone(&jobs),
            state.log.cluster_id().to_owned(),
        );
        let served = Arc::new(Served {
            writers: Writers::default(),
            log: state.log,
            registry: state.registry,
            readiness: state.readiness,
            status: state.status,
            clock: state.clock,
            sampler,
            jobs,
            trail: Trail::default(),
            scans: Semaphore::new(SCANS_MAX),
            replays: Semaphore::new(REPLAYS_MAX),
            owner: state.owner,
        });
        let router = router(Arc::clone(&served), guard);
        Ok(Self { listener, address, router, served, token })
    }

    /// The address, with the port the system chose if it was left to it.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves, lets requests under way end for a few seconds, and removes the
    /// token's file. Dropping the future ends it at once.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, router, served, token, .. } = self;
        tokio::select! {
            () = connections::serve(listener, router, shutdown) => {}
            () = served.sampler.run() => {}
        }
        drop(token);
    }
}

/// Every route of the API, as `docs/openapi.json` describes it.
fn routes() -> Vec<(&'static str, MethodRouter<Arc<Served>>)> {
    vec![
        ("/metrics", get(observe::metrics)),
        ("/health/live", get(observe::live)),
        ("/health/ready", get(observe::ready)),
        ("/api/v1/openapi.json", get(openapi::document)),
        ("/api/v1/status", get(observe::status)),
        ("/api/v1/overview", get(observe::overview)),
        ("/api/v1/audit", get(observe::audit)),
        ("/api/v1/jobs", get(dead_letter_api::jobs)),
        ("/api/v1/pipelines/{pipeline}/dead-letters", get(dead_letter_api::list)),
        (
            "/api/v1/pipelines/{pipeline}/dead-letters/{topic}/{partition}/{offset}",
            get(dead_letter_api::show),
        ),
        (
            "/api/v1/pipelines/{pipeline}/dead-letters/{topic}/{partition}/{offset}/replay",
            post(dead_letter_api::replay),
        ),
        ("/api/v1/pipelines/{pipeline}/redrive", post(dead_letter_api::redrive)),
        ("/api/v1/pipelines/{pipeline}/purge", post(dead_letter_api::purge)),
        ("/api/v1/pipelines/{pipeline}/versions", get(version_api::list)),
        ("/api/v1/pipelines/{pipeline}/rollback", post(version_api::rollback)),
        ("/api/v1/topics", get(log_api::topics)),
        ("/api/v1/topics/{name}", put(log_api::create_topic)),
        ("/api/v1/append", post(log_api::append)),
        ("/api/v1/fetch", post(log_api::fetch)),
        ("/api/v1/ends", post(log_api::ends)),
        ("/api/v1/committed", post(log_api::committed)),
        ("/api/v1/delete-before", post(log_api::delete_before)),
        ("/api/v1/writer", post(writers::take)),
        ("/api/v1/append-all", post(writers::append_all)),
    ]
}

fn router(served: Arc<Served>, guarding: Guard) -> Router {
    let api = routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    api.route("/", get(page::home))
        .route("/console", get(page::home))
        .route("/console/", get(page::part))
        .route("/console/{part}", get(page::part))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .with_state(served)
        // Outermost, so that the fallbacks stand behind it too.
        .layer(from_fn_with_state(Arc::new(guarding), guard))
}

async fn unknown_route(uri: Uri) -> Failure {
    let text = format!("there is no {}: see /api/v1/openapi.json for what there is", uri.path());
    Failure::request(StatusCode::NOT_FOUND, text)
}

async fn unknown_method(method: Method, uri: Uri) -> Failure {
    let text = format!(
        "{} does not take {method}: see /api/v1/openapi.json for what it takes",
        uri.path()
    );
    Failure::request(StatusCode::METHOD_NOT_ALLOWED, text)
}

#[cfg(test)]
mod tests;
