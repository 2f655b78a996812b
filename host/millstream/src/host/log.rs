//! The log as a host has it: opened or reached, announced, let go.
//!
//! An embedded log is the host's alone while it runs, and keeps its idempotency marks. A cluster has
//! many hosts; each has an [`Identity`] there, which is taken before the cluster is asked anything, and its own copy
//! of the marks, which lie in topics.

use std::sync::Arc;

use millstream_core::clock::SystemClock;
use millstream_core::idempotency::IdempotencyStore;
use millstream_core::idempotency::in_topic::MarksInTopic;
use millstream_core::log::Log;
use millstream_log_embedded::EmbeddedLog;
use millstream_mark_copy::{DiskCopy, IndexOptions};

use crate::access;
use crate::config::{Config, LogKind};
use crate::exit::Failure;
use crate::finding::{Code, Finding};
use crate::host::identity::Identity;
use crate::kafka::Cluster;

/// The log of a running host.
pub(super) struct HostLog {
    /// The log.
    pub(super) log: Arc<dyn Log>,
    /// Where idempotency marks are kept, if the log does that.
    pub(super) idempotency: Option<Arc<dyn IdempotencyStore>>,
    held: Held,
}

enum Held {
    Embedded(Arc<EmbeddedLog>),
    Kafka { cluster: Cluster, copy: Option<Arc<DiskCopy>>, identity: Identity },
}

impl HostLog {
    /// Opens or reaches the configured log.
    ///
    /// # Errors
    /// When that cannot be done, or another host has what this one needs for itself.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        match &config.log.kind {
            LogKind::Embedded { durability } => {
                let options = access::embedded_options(*durability);
                let embedded = EmbeddedLog::open(&config.host.log_dir(), options)
                    .map_err(|error| access::open_finding(&error))?;
                Ok(Self {
                    log: embedded.clone(),
                    idempotency: Some(embedded.clone()),
                    held: Held::Embedded(embedded),
                })
            }
            LogKind::Kafka(kafka) => {
                let identity = Identity::take(&config.host)?;
                tracing::info!(host_id = identity.id(), "reaching the Kafka cluster");
                let cluster = Cluster::connect(kafka, identity.id().to_owned()).await?;
                let copy = open_copy(config, cluster.log.cluster_id())?;
                let store = copy.clone().map(|copy| MarksInTopic::new(cluster.log.clone(), copy));
                Ok(Self {
                    log: cluster.log.clone(),
                    idempotency: store.map(|store| Arc::new(store) as _),
                    held: Held::Kafka { cluster, copy, identity },
                })
            }
        }
    }

    /// Which host this is among those of its log: an embedded log has one at a time.
    pub(super) fn host_id(&self) -> &str {
        match &self.held {
            Held::Embedded(_) => "local",
            Held::Kafka { identity, .. } => identity.id(),
        }
    }

    /// Writes down where the host answers, for commands on this machine.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn announce(&mut self, address: &str) -> Result<(), Failure> {
        match &mut self.held {
            Held::Embedded(embedded) => embedded
                .announce(address)
                .map_err(|error| Failure::log("the admin address cannot be announced", &error)),
            Held::Kafka { identity, .. } => identity.announce(address),
        }
    }

    /// Lets go of everything, in order.
    pub(super) async fn close(self) {
        match self.held {
            Held::Embedded(embedded) => embedded.close().await,
            Held::Kafka { cluster, copy, identity } => {
                cluster.close().await;
                if let Some(copy) = copy {
                    // It writes what it has in memory.
                    tokio::task::spawn_blocking(move || copy.close()).await.ok();
                }
                // Another host may have the id only now.
                drop(identity);
            }
        }
    }
}

/// The copy of this cluster's marks, if some pipeline has idempotency keys.
fn open_copy(config: &Config, cluster_id: &str) -> Result<Option<Arc<DiskCopy>>, Failure> {
    if config.pipelines.iter().all(|pipeline| pipeline.spec.idempotency.is_none()) {
        return Ok(None);
    }
    let folder = config.host.marks_dir().join(folder_name(cluster_id));
    match DiskCopy::open(&folder, IndexOptions::new(cluster_id, Arc::new(SystemClock))) {
        Ok(copy) => Ok(Some(Arc::new(copy))),
        Err(error) => {
            let what = "the idempotency marks cannot be kept";
            let fix = "give `host.data_dir` a folder that can be written, on a disk with room";
            Err(Finding::new(Code::Io, what, fix).because(error).into())
        }
    }
}

/// A cluster's id as the name of a folder: it is what a broker says, and must not lead elsewhere.
fn folder_name(cluster_id: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name = |c: char| if plain(c) { c.to_string() } else { format!("%{:x}", u32::from(c)) };
    format!("kafka-{}", cluster_id.chars().map(name).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::folder_name;

    #[test]
    fn a_cluster_id_leads_nowhere_else() {
        assert_eq!(folder_name("Abc-_9"), "kafka-Abc-_9");
        assert_eq!(folder_name("../x"), "kafka-%2e%2e%2fx");
    }
}
