//! For `fuzz/` only: commit metadata, which anybody may have written. No part of the crate's promises.

use millstream_core::log::Commit;
use millstream_core::message::{Offset, Partition};

use crate::commit_metadata::{self, METADATA_BYTES_MAX};

/// The offset that the metadata stands beside.
pub const NEXT: Offset = 1_000;

const CLUSTER: &str = "cluster";

fn partition() -> Partition {
    Partition::new("orders", 0)
}

/// What is believed of this text.
pub fn read(text: &str) -> Commit {
    commit_metadata::decode(CLUSTER, &partition(), NEXT, text)
}

/// The text with this body, its prefix and checksum right.
pub fn sealed(body: &[u8]) -> String {
    commit_metadata::sealed(CLUSTER, &partition(), body)
}

/// The text beside a commit.
///
/// # Panics
/// If a broker would refuse it.
pub fn written(commit: &Commit) -> String {
    let text = commit_metadata::encode(CLUSTER, &partition(), commit);
    assert!(text.len() <= METADATA_BYTES_MAX, "{} bytes for {commit:?}", text.len());
    text
}

/// The body of a text that was written here.
pub fn body(text: &str) -> Vec<u8> {
    commit_metadata::body(text).unwrap_or_default()
}
