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

/// Hears when connections are to end.
#[derive(Clone, Debug)]
pub struct Stopped(watch::Receiver<bool>);

impl Stopped {
    /// Waits until they are.
    pub async fn told(&mut self) {
        // An error says that the server is gone, which comes to the same.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}

/// Serves HTTP/1 until `shutdown`, then lets requests under way end for a few seconds.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    serve_each(listener, shutdown, |stream, stopped| connection(stream, router.clone(), stopped))
        .await;
}

/// Serves whatever `connection` speaks: a bounded number of them until `shutdown`, then lets them end for at
/// most five seconds.
pub async fn serve_each<F, R>(
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    connection: F,
) where
    F: Fn(TcpStream, Stopped) -> R,
    R: Future<Output = ()> + Send + 'static,
{
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
                let served = connection(stream, Stopped(stopped.clone()));
                connections.spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
            else => break,
        }
    }
    drop(listener);
    let _ = stop.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIME_MAX, drained).await.is_err() {
        tracing::warn!("requests were cut off: they took longer than the drain");
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
                tracing::warn!(%error, "a connection could not be accepted; going on");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, mut stopped: Stopped) {
    let _ = stream.set_nodelay(true);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
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
        tracing::debug!(%error, "a connection ended early");
    }
}
