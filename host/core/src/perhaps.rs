//! Perhaps: branches of a `select!` for what may not be under way. What is not there never ends.

use futures::future::BoxFuture;
use tokio::time::Instant;

/// What this future gives, if there is one.
pub(crate) async fn ended<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Waits until then, if that is ever.
pub(crate) async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
