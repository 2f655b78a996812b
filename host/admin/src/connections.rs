//! Connections: a bounded number of them, each with a bound on how long its requests may arrive.
//!
//! Not axum's own loop, since that has neither bound: clients that open connections and say nothing
//! would take all file descriptors, which the log needs.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::limits::{CONNECTIONS_MAX, DRAIN_TIME_MAX, HEAD_BYTES_MAX, HEAD_TIME_MAX};

/// How long to wait after the system refused a connection (too many open files, above all).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then lets requests under way end for at most [`DRAIN_TIME_MAX`].
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            Some((stream, permit)) = accept(&listener, &room) => {
                connections.spawn(connection(stream, router.clone(), stopped.clone(), permit));
            }
            else => break,
        }
    }
    drop(listener);
    let _ = stop.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIME_MAX, drained).await.is_err() {
        tracing::warn!("requests to the admin API were cut off: they took longer than the drain");
        connections.shutdown().await;
    }
}

/// The next connection, once there is room for it. `None` only if there will never be room.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, permit)),
            Err(error) => {
                tracing::warn!(%error, "the admin API could not accept a connection; going on");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    mut stopped: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    let told_to_stop = async move {
        // An error says that the server is gone, which comes to the same.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let result = tokio::select! {
        result = &mut served => result,
        () = told_to_stop => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        // Whatever a client did to its connection is its own affair.
        tracing::debug!(%error, "a connection to the admin API ended early");
    }
}
