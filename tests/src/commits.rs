//! What a dead host had committed: read from its folder, which nobody has.

use std::collections::BTreeMap;
use std::path::Path;

use millstream_core::log::{Commit, Log as _};
use millstream_core::message::Partition;
use millstream_log_embedded::{Durability, EmbeddedLog, EmbeddedOptions};

/// (topic, partition number).
pub type PartitionName = (String, u32);

/// One look into a log's folder.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// What the group has committed.
    pub commits: BTreeMap<PartitionName, Commit>,
    /// The first offset that is still there, of every partition.
    pub starts: BTreeMap<PartitionName, u64>,
    /// The offset after the last message of every partition.
    pub ends: BTreeMap<PartitionName, u64>,
}

impl Look {
    /// Whether the group has settled this offset for good.
    pub fn settled(&self, topic: &str, partition: u32, offset: u64) -> bool {
        self.commits.get(&(topic.to_owned(), partition)).is_some_and(|commit| {
            offset < commit.next || commit.settled_above.iter().any(|r| r.contains(&offset))
        })
    }

    /// Whether this offset was there.
    pub fn has(&self, topic: &str, partition: u32, offset: u64) -> bool {
        self.ends.get(&(topic.to_owned(), partition)).is_some_and(|end| offset < *end)
    }
}

/// Reads what stands in the folder of an embedded log that no process has.
///
/// # Panics
/// When it cannot be opened or read.
pub fn look(log_dir: &Path, group: &str) -> Look {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let durability = Durability::Always;
        let options = EmbeddedOptions { durability, ..EmbeddedOptions::default() };
        let log = EmbeddedLog::open(log_dir, options).unwrap();
        let mut look = Look::default();
        for topic in log.topics().await.unwrap() {
            let partitions: Vec<Partition> =
                (0..topic.partitions).map(|n| Partition::new(topic.name.clone(), n)).collect();
            let commits = log.committed(group, &partitions).await.unwrap();
            let ends = log.ends(&partitions).await.unwrap();
            for ((partition, commit), ends) in partitions.into_iter().zip(commits).zip(ends) {
                let name = (partition.topic.to_string(), partition.number);
                look.starts.insert(name.clone(), ends.start);
                look.ends.insert(name.clone(), ends.end);
                look.commits.extend(commit.map(|commit| (name, commit)));
            }
        }
        log.close().await;
        look
    })
}
