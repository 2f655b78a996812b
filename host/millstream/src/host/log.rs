//! The log as a host has it: opened or reached, announced, let go.
//!
//! An embedded log is the host's alone while it runs, and keeps its idempotency marks. A cluster has
//! many hosts; each has an [`Identity`] there, which is taken before the cluster is asked anything.

use std::sync::Arc;

use millstream_core::idempotency::IdempotencyStore;
use millstream_core::log::Log;
use millstream_log_embedded::EmbeddedLog;

use crate::access;
use crate::config::{Config, LogKind};
use crate::exit::Failure;
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
    Kafka { cluster: Cluster, identity: Identity },
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
                Ok(Self {
                    log: cluster.log.clone(),
                    idempotency: None,
                    held: Held::Kafka { cluster, identity },
                })
            }
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
            Held::Kafka { cluster, identity } => {
                cluster.close().await;
                // Another host may have the id only now.
                drop(identity);
            }
        }
    }
}
