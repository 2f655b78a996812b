//! A filled log: what the loops over the embedded log and the pipelines begin with.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_core::log::{Log as _, TopicSpec};
use millstream_core::message::{Offset, Partition, Topic};
use millstream_log_embedded::{Durability, EmbeddedLog, EmbeddedOptions};

use crate::messages::{Keys, record};

/// The topic that is read.
pub(crate) const SOURCE: &str = "orders";

/// The topic that is written.
pub(crate) const OUTPUT: &str = "orders.out";

/// The group that reads.
pub(crate) const GROUP: &str = "bench";

/// Partitions of both topics.
pub(crate) const PARTITIONS: u32 = 4;

/// How often everything syncs to the disk, the loops as well as the pipelines.
pub(crate) const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Messages of an append while the source is filled.
const FILL_MESSAGES: u64 = 1_000;

/// A log in `dir` whose source has `messages` and whose output is empty, opened afresh, as a host
/// finds it when it starts.
pub(crate) async fn open(
    dir: &Path,
    messages: u64,
    keys: Keys,
) -> anyhow::Result<Arc<EmbeddedLog>> {
    let log = EmbeddedLog::open(dir, options())?;
    for name in [SOURCE, OUTPUT] {
        let topic = TopicSpec {
            name: name.into(),
            partitions: PARTITIONS,
            retention: None,
            retention_bytes: None,
            message_bytes_max: 1 << 20,
            append_time: false,
            compacted: false,
            replication: None,
        };
        log.create_topic(topic).await?;
    }
    let source = Topic::from(SOURCE);
    let now = SystemClock.now();
    for begin in (0..messages).step_by(usize::try_from(FILL_MESSAGES)?) {
        let end = messages.min(begin + FILL_MESSAGES);
        let records: Vec<_> =
            (begin..end).map(|number| record(&source, number, now, keys)).collect();
        for appended in log.append(&records.iter().collect::<Vec<_>>()).await? {
            appended?;
        }
    }
    log.close().await;
    drop(log);
    let log = EmbeddedLog::open(dir, options())?;
    let filled = total(&ends(&log, SOURCE).await?);
    ensure!(filled == messages, "{filled} of {messages} messages are in the source");
    Ok(log)
}

fn options() -> EmbeddedOptions {
    EmbeddedOptions { durability: Durability::Interval(SYNC_EVERY), ..EmbeddedOptions::default() }
}

/// All partitions of a topic.
pub(crate) fn partitions(topic: &str) -> Vec<Partition> {
    let topic = Topic::from(topic);
    (0..PARTITIONS).map(|number| Partition::new(topic.clone(), number)).collect()
}

/// The ends of a topic's partitions.
pub(crate) async fn ends(log: &EmbeddedLog, topic: &str) -> anyhow::Result<Vec<Offset>> {
    let ends = log.ends(&partitions(topic)).await?;
    Ok(ends.into_iter().map(|ends| ends.end).collect())
}

/// The messages of partitions with these ends.
pub(crate) fn total(ends: &[Offset]) -> u64 {
    ends.iter().sum()
}

/// Whether the group has committed the whole source.
pub(crate) async fn is_committed(log: &EmbeddedLog) -> anyhow::Result<bool> {
    let commits = log.committed(GROUP, &partitions(SOURCE)).await?;
    let committed: Vec<Offset> =
        commits.into_iter().map(|commit| commit.map_or(0, |commit| commit.next)).collect();
    Ok(committed == ends(log, SOURCE).await?)
}

/// Every message is in the output, once, and committed.
///
/// # Errors
/// When that is not so.
pub(crate) async fn check_outputs(log: &EmbeddedLog, messages: u64) -> anyhow::Result<()> {
    let outputs = total(&ends(log, OUTPUT).await?);
    ensure!(outputs == messages, "{messages} messages made {outputs} outputs");
    ensure!(is_committed(log).await.context("commits")?, "not every message is committed");
    Ok(())
}
