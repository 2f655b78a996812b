//! The embedded log keeps what the port promises: the same checks that the simulated log passes.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test ends where it fails")]

use std::sync::Arc;

use millstream_log_embedded::{EmbeddedLog, EmbeddedOptions};
use millstream_log_simulated::conformance;

fn open(folder: &tempfile::TempDir) -> Arc<EmbeddedLog> {
    let options = EmbeddedOptions { reserve_bytes: 1 << 20, ..EmbeddedOptions::default() };
    EmbeddedLog::open(&folder.path().join("log"), options).expect("an empty folder opens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_its_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(conformance::check(open(&folder)).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_take_over_from_one_another() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(conformance::check_members(open(&folder)).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_idempotency_store_keeps_its_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    assert_eq!(conformance::check_store(log.clone(), log).await, Ok(()));
}
