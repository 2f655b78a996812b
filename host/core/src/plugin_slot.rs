//! Plugin slot: which version of its plugin a pipeline uses now, and that it may be another from one message to
//! the next.
//!
//! Beside `attempt`: workers follow the slot. Whoever deploys puts a version in; a worker finishes the message in
//! hand, and makes an instance of the new version before its next one. Intake, lanes and commits know nothing of it.
//!
//! Invariants:
//! - an attempt is made by one version from its begin to its end, and [`InHand::attempted_by`] says which;
//! - no attempt begins with a version that the slot held before another, once the worker has seen the other;
//! - an empty slot attempts nothing: messages go back to their lanes as they came.
//!
//! [`InHand::attempted_by`]: crate::in_hand::InHand::attempted_by

use std::sync::Arc;

use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::plugin::{Plugin, PluginIdentity};
use crate::status::PipelineStatus;

/// A version in use. Cheap to clone.
#[derive(Clone)]
pub struct InUse {
    /// Makes its instances.
    pub plugin: Arc<dyn Plugin>,
    /// Which version it is.
    pub identity: Arc<PluginIdentity>,
}

/// What a slot holds.
#[derive(Clone)]
pub enum Held {
    /// A version.
    Version(InUse),
    /// None yet: it is being loaded.
    Nothing,
    /// None: the version it should hold cannot be loaded, for this reason.
    Unusable(Arc<str>),
}

/// See the module.
pub struct PluginSlot(watch::Sender<Held>);

impl PluginSlot {
    /// A slot with a version in it.
    pub fn holding(plugin: Arc<dyn Plugin>) -> Arc<Self> {
        let slot = Self::empty();
        slot.put(plugin);
        slot
    }

    /// A slot without one yet.
    pub fn empty() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Held::Nothing)))
    }

    /// From now on this version handles messages.
    pub fn put(&self, plugin: Arc<dyn Plugin>) {
        let identity = Arc::new(plugin.identity().clone());
        self.0.send_replace(Held::Version(InUse { plugin, identity }));
    }

    /// From now on nothing is handled, for this reason.
    pub fn clear(&self, reason: &str) {
        self.0.send_replace(Held::Unusable(reason.into()));
    }

    /// What it holds, now and later.
    pub fn follow(&self) -> watch::Receiver<Held> {
        self.0.subscribe()
    }

    /// The version it holds.
    pub fn identity(&self) -> Option<Arc<PluginIdentity>> {
        match &*self.0.borrow() {
            Held::Version(version) => Some(Arc::clone(&version.identity)),
            Held::Nothing | Held::Unusable(_) => None,
        }
    }

    /// Waits until it holds a version, or is known to get none. Cancel-safe.
    ///
    /// # Errors
    /// Why it gets none.
    pub async fn decided(&self) -> Result<(), Arc<str>> {
        let mut held = self.follow();
        // An error would mean that the sender is gone, and it is ours.
        let decided = held.wait_for(|held| !matches!(held, Held::Nothing)).await;
        match decided.as_deref() {
            Ok(Held::Unusable(reason)) => Err(Arc::clone(reason)),
            Ok(Held::Version(_) | Held::Nothing) | Err(_) => Ok(()),
        }
    }

    /// Waits until it holds a version. Cancel-safe.
    pub async fn filled(&self) {
        let mut held = self.follow();
        let _ = held.wait_for(|held| matches!(held, Held::Version(_))).await;
    }

    /// Waits until it holds none. Cancel-safe.
    pub async fn emptied(&self) {
        let mut held = self.follow();
        let _ = held.wait_for(|held| !matches!(held, Held::Version(_))).await;
    }
}

/// Shows in metrics and status which version the slot holds, for as long as it is polled. One series at a time:
/// digests come without end.
pub(crate) async fn show(
    slot: &PluginSlot,
    pipeline: &str,
    status: &PipelineStatus,
    metrics: &Metrics,
) {
    let swaps = metrics.plugin_swaps.with_label_values(&[pipeline]);
    let mut held = slot.follow();
    loop {
        let identity = match &*held.borrow_and_update() {
            Held::Version(version) => Some(Arc::clone(&version.identity)),
            Held::Nothing | Held::Unusable(_) => None,
        };
        let before = status.plugin_is(identity.clone());
        if before != identity {
            if let Some(before) = &before {
                let labels = [pipeline, &before.name, &before.version, &before.digest];
                // It was set by this very function.
                let _ = metrics.plugin_info.remove_label_values(&labels);
            }
            if let (Some(before), Some(now)) = (&before, &identity) {
                swaps.inc();
                tracing::info!(
                    pipeline, from = %before.version, to = %now.version, digest = %now.digest,
                    "another version of the plugin handles messages from here on"
                );
            }
        }
        if let Some(now) = &identity {
            let labels = [pipeline, &now.name, &now.version, &now.digest];
            metrics.plugin_info.with_label_values(&labels).set(1);
        }
        if held.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests;
