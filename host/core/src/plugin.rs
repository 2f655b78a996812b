//! Port to the sandbox: a plugin makes instances, an instance handles one message at a time.
//!
//! Boundary: the core knows neither wasmtime nor Wasm. The simulator's scripted handlers are the
//! second implementation.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::message::{EpochMs, Message, Offset};
use crate::outcome::Outcome;
use crate::trace::TraceId;

/// Which plugin, exactly: written into every retry and dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginIdentity {
    /// The plugin's name.
    pub name: String,
    /// Its version, as its author counts.
    pub version: String,
    /// `sha256:` and the hexadecimal digest of its bytes.
    pub digest: String,
}

/// What the handler is told about an attempt beside the message itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptContext {
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The source offset that is the message's place in the order; seeds pinned clocks and random.
    pub turn: Offset,
    /// When the message was first written: the source's timestamp, also in a retry.
    pub timestamp: EpochMs,
    /// The trace that the attempt is recorded in: for lines of the log, not for the handler.
    pub trace: Option<TraceId>,
}

/// No instance could be made.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PluginError(pub String);

/// A loaded, checked plugin.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// Which plugin this is.
    fn identity(&self) -> &PluginIdentity;

    /// A fresh instance with its own memory.
    ///
    /// # Errors
    /// When there is no room for one, or its start fails.
    async fn instance(&self) -> Result<Box<dyn Instance>, PluginError>;
}

/// See [`Instance::take_usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How long its calls were held back for earlier faults.
    pub rested: Duration,
    /// How often it was made anew, after a fault or a call that was cancelled.
    pub restarts: u64,
    /// Linear memory of the guest now, in bytes.
    pub memory_bytes: usize,
}

/// One instance, used by one worker at a time.
#[async_trait]
pub trait Instance: Send {
    /// Handles one message, whatever the guest does: every failure is an outcome.
    ///
    /// The message's position and headers are those of the source, not of a retry tier, and carry
    /// none of the host's own headers. After a fault the instance replaces itself before the next
    /// message. Dropping the future cancels the guest; the instance must not reuse its memory.
    async fn handle(&mut self, message: &Message, context: AttemptContext) -> Outcome;

    /// What it uses, and what it went through since this was asked last.
    fn take_usage(&mut self) -> Usage {
        Usage::default()
    }
}
