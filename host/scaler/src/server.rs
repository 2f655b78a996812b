//! Server: the two addresses, and what runs behind them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use millstream_admin::connections::{self, Stopped};
use millstream_core::pipeline_spec::PipelineSpec;
use millstream_core::shutdown::Shutdown;
use millstream_log_kafka::KafkaOptions;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::grpc::Grpc;
use crate::keda::external_scaler_server::ExternalScalerServer;
use crate::known::Pipelines;
use crate::metrics;
use crate::watch::{self, Cluster};

/// A request: a name and a few keys.
const REQUEST_BYTES_MAX: usize = 64 << 10;
const HEAD_BYTES_MAX: u32 = 16 << 10;
/// Calls and streams of one connection at once.
const CALLS_MAX: u32 = 256;
/// A client that has gone without a word is noticed after both.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// What a scaler is given.
pub struct ScalerOptions {
    /// The cluster.
    pub kafka: KafkaOptions,
    /// The pipelines it tells of.
    pub pipelines: Vec<PipelineSpec>,
    /// Where KEDA asks.
    pub listen: SocketAddr,
    /// Where Prometheus asks.
    pub metrics: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "the address {address} of `{option}` cannot be listened on: {error}: name a free address of this machine with a port above 1023 (port 0 takes any)"
)]
pub struct BindError {
    option: &'static str,
    address: SocketAddr,
    error: std::io::Error,
}

/// A scaler that has its addresses and waits to serve.
pub struct Scaler {
    kafka: KafkaOptions,
    pipelines: Pipelines,
    grpc: (TcpListener, SocketAddr),
    metrics: (TcpListener, SocketAddr),
}

impl Scaler {
    /// Takes the addresses. No broker is asked yet.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(options: ScalerOptions) -> Result<Self, BindError> {
        Ok(Self {
            kafka: options.kafka,
            pipelines: Pipelines::new(options.pipelines),
            grpc: bind("--listen", options.listen).await?,
            metrics: bind("--metrics", options.metrics).await?,
        })
    }

    /// Where KEDA asks.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc.1
    }

    /// Where Prometheus asks.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics.1
    }

    /// Serves until `shutdown`; calls under way may end.
    pub async fn serve(self, shutdown: Shutdown) {
        let cluster = Arc::new(Cluster::new(self.kafka));
        // Dropped at the end, which ends them.
        let mut watching = JoinSet::new();
        for watched in self.pipelines.iter() {
            watching.spawn(watch::watch(Arc::clone(watched), Arc::clone(&cluster)));
        }
        let service = Grpc::new(self.pipelines.clone(), shutdown.clone());
        let service =
            ExternalScalerServer::new(service).max_decoding_message_size(REQUEST_BYTES_MAX);
        let requested = |mut shutdown: Shutdown| async move { shutdown.requested().await };
        let grpc = connections::serve_each(
            self.grpc.0,
            requested(shutdown.clone()),
            move |stream, stopped| connection(stream, service.clone(), stopped),
        );
        let router = router(self.pipelines);
        let metrics = connections::serve(self.metrics.0, router, requested(shutdown));
        tokio::join!(grpc, metrics);
    }
}

async fn bind(
    option: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let listener = TcpListener::bind(address).await;
    let bound = listener.and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|error| BindError { option, address, error })
}

/// One client's HTTP/2 connection, without TLS.
async fn connection(stream: TcpStream, service: ExternalScalerServer<Grpc>, mut stopped: Stopped) {
    let _ = stream.set_nodelay(true);
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(CALLS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWERED_WITHIN)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut served = std::pin::pin!(served);
    let result = tokio::select! {
        result = &mut served => result,
        () = stopped.told() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        // Whatever a client did to its connection is its own affair.
        tracing::debug!(%error, "a connection of gRPC ended early");
    }
}

fn router(pipelines: Pipelines) -> Router {
    // Not to know the lag is no reason to start the process anew: it would forget the last answer.
    let well = || async { "ok\n" };
    Router::new()
        .route("/metrics", get(page))
        .route("/health/live", get(well))
        .route("/health/ready", get(well))
        .fallback(|| async {
            (StatusCode::NOT_FOUND, "the routes are /metrics, /health/live and /health/ready\n")
        })
        .with_state(pipelines)
}

async fn page(State(pipelines): State<Pipelines>) -> Response {
    match metrics::text(&pipelines) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            let text = format!("the metrics cannot be written: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use millstream_core::names::Template;
    use millstream_core::pipeline_spec::{
        DeadLetterSpec, Delivery, KeepOrder, Ordering, RetrySpec, Start,
    };

    use super::*;

    /// A pipeline that reads a topic of its name.
    pub(crate) fn spec(name: &str) -> PipelineSpec {
        let template = |text: &str, tier| Template::new(text, tier).expect("a template");
        PipelineSpec {
            name: name.to_owned(),
            group: name.to_owned(),
            topics: vec![name.into()],
            start: Start::Earliest,
            outputs: BTreeMap::new(),
            delivery: Delivery::AtLeastOnce,
            ordering: Ordering::Key,
            in_flight_messages: 1,
            in_flight_bytes: 1,
            waiting_messages: 1,
            waiting_bytes: 1,
            instances: 1,
            retry: RetrySpec {
                delays: Vec::new(),
                keep_order: KeepOrder::OfKey,
                topic: template("{topic}.retry.{delay}", true),
                pause_min: Duration::from_secs(1),
                pause_max: Duration::from_secs(1),
            },
            dead_letter: DeadLetterSpec {
                topic: template("{topic}.dlq", false),
                retention: None,
                after_host_crashes: None,
                park_after: None,
                mask: millstream_core::dead_letter::Mask::default(),
            },
            idempotency: None,
            commit_interval: Duration::from_secs(1),
            commit_refresh: Duration::from_secs(1),
            transaction_interval: Duration::ZERO,
            held_up_after: Duration::from_secs(1),
            drain: Duration::from_secs(1),
        }
    }
}
