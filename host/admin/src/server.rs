//! The server: what it is given, where it listens, what it answers.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post, put};
use millstream_core::log::Log;
use prometheus::Registry;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::connections;
use crate::failure::Failure;
use crate::guard::{Guard, guard};
use crate::log_api;
use crate::observe::{self, PipelineReadiness};
use crate::token::{TokenError, TokenInUse, TokenSource};
use crate::writers::{self, Writers};

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
    /// The token callers must show.
    pub token: TokenSource,
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
}

/// A server that has its address and token and waits to serve.
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
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
        let open_probes = loopback || state.open_probes;
        let served = Served {
            writers: Writers::default(),
            log: state.log,
            registry: state.registry,
            readiness: state.readiness,
            status: state.status,
        };
        let guard = Guard::new(address, state.allowed_hosts, token.token.clone(), open_probes);
        Ok(Self { listener, address, router: router(served, guard), token })
    }

    /// The address, with the port the system chose if it was left to it.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves, lets requests under way end for a few seconds, and removes the
    /// token's file. Dropping the future ends it at once.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, router, token, .. } = self;
        connections::serve(listener, router, shutdown).await;
        drop(token);
    }
}

fn router(served: Served, guarding: Guard) -> Router {
    Router::new()
        .route("/metrics", get(observe::metrics))
        .route("/health/live", get(observe::live))
        .route("/health/ready", get(observe::ready))
        .route("/api/v1/status", get(observe::status))
        .route("/api/v1/topics", get(log_api::topics))
        .route("/api/v1/topics/{name}", put(log_api::create_topic))
        .route("/api/v1/append", post(log_api::append))
        .route("/api/v1/fetch", post(log_api::fetch))
        .route("/api/v1/ends", post(log_api::ends))
        .route("/api/v1/committed", post(log_api::committed))
        .route("/api/v1/delete-before", post(log_api::delete_before))
        .route("/api/v1/writer", post(writers::take))
        .route("/api/v1/append-all", post(writers::append_all))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .with_state(Arc::new(served))
        // Outermost, so that the fallbacks stand behind it too.
        .layer(from_fn_with_state(Arc::new(guarding), guard))
}

async fn unknown_route(uri: Uri) -> Failure {
    let text = format!(
        "there is no {}: the routes are /metrics, /health/live, /health/ready and /api/v1/{{status,topics,append,fetch,ends,committed,delete-before,writer,append-all}}",
        uri.path()
    );
    Failure::request(StatusCode::NOT_FOUND, text)
}

async fn unknown_method(method: Method, uri: Uri) -> Failure {
    let text = format!(
        "{} does not take {method}: probes, status and the list of topics are read with GET, topics made with PUT, the rest is POST",
        uri.path()
    );
    Failure::request(StatusCode::METHOD_NOT_ALLOWED, text)
}

#[cfg(test)]
mod tests;
