//! Ends: tells followers when something was appended to their control topics.
//!
//! All topics of a host are asked for together, so following costs one request each [`LOOK_EVERY`], however many
//! pipelines there are. A topic that is not there yet is looked for each [`TOPIC_LOOK_EVERY`].

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::log::{Ends, Log, LogError};
use crate::message::Partition;

/// How often it is looked whether a control topic has something new.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it is looked whether a missing control topic was made.
const TOPIC_LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long to wait after the log failed.
const LOG_AGAIN: Duration = Duration::from_secs(1);

/// A partition, and who is told of its ends.
pub(super) type Watched = (Partition, watch::Sender<Option<Ends>>);

/// Tells the ends of these partitions, of those that are there.
pub(super) async fn watch(log: &dyn Log, watched: Vec<Watched>) {
    let mut listed: Option<Instant> = None;
    let mut there: Vec<&Watched> = Vec::new();
    loop {
        if there.len() < watched.len()
            && listed.is_none_or(|listed| listed.elapsed() >= TOPIC_LOOK_EVERY)
        {
            match log.topics().await {
                Ok(topics) => {
                    let is_there = |partition: &Partition| {
                        topics.iter().any(|topic| topic.name == partition.topic)
                    };
                    there = watched.iter().filter(|(partition, _)| is_there(partition)).collect();
                }
                Err(error) => tracing::debug!(%error, "control topics are not listed"),
            }
            listed = Some(Instant::now());
        }
        let partitions: Vec<Partition> =
            there.iter().map(|(partition, _)| partition.clone()).collect();
        if !partitions.is_empty() {
            match log.ends(&partitions).await {
                Ok(ends) => {
                    for ((_, seen), ends) in there.iter().zip(ends) {
                        seen.send_if_modified(|before| before.replace(ends) != Some(ends));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the ends of control topics are not known");
                    // One may have been removed.
                    if matches!(error, LogError::Fatal(_)) {
                        there.clear();
                    }
                    tokio::time::sleep(LOG_AGAIN).await;
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
