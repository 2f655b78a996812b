//! A message in hand: between intake and the ledger, with what the stations need to know of it.

use std::sync::Arc;

use crate::dedupe::{HeldKey, Holder};
use crate::headers::CompanionHeaders;
use crate::message::{Message, Offset};
use crate::plugin::{AttemptContext, PluginIdentity};
use crate::trace::{self, SpanContext, TraceId, TraceOfAttempt};

/// Where a message in hand was read, so which ledger it is settled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The source partition.
    Source,
    /// The retry tier of this number in the partition's list, at this offset.
    Tier {
        /// Which tier.
        tier: usize,
        /// The offset in the tier; the message itself has that of the source.
        offset: Offset,
    },
}

/// See the module.
#[derive(Debug)]
pub struct InHand {
    /// As the plugin is to see it: position, time and headers are those of the source.
    pub message: Message,
    /// `attempt` is the number of the attempt that is to be made or was made last.
    pub context: AttemptContext,
    /// Where it was read.
    pub read_from: ReadFrom,
    /// What the companion topic said of it; `None` for a message of the source.
    pub provenance: Option<Box<CompanionHeaders>>,
    /// Its idempotency key.
    pub key: Option<HeldKey>,
    /// What it takes of the in-flight budget.
    pub size_bytes: usize,
    /// Whether it waits, or has waited, for its turn: it takes nothing of the in-flight budget then.
    pub waits: bool,
    /// How often in a row it met a `pause`.
    pub pauses: u32,
    /// Why it is not attempted, if it is not: it becomes a dead letter in its turn.
    pub refused: Option<String>,
    /// Its last attempt here, if it was traced.
    pub(crate) trace: Option<Box<TraceOfAttempt>>,
    /// Which version of the plugin made the last attempt here, if that failed.
    pub attempted_by: Option<Arc<PluginIdentity>>,
}

impl InHand {
    /// A message of the source, never tried.
    pub fn of_source(message: Message, attempts_made: u32) -> Self {
        let context = AttemptContext {
            attempt: attempts_made.saturating_add(1),
            turn: message.offset,
            timestamp: message.timestamp,
            trace: None,
        };
        let size_bytes = message.size_bytes();
        let read_from = ReadFrom::Source;
        Self {
            message,
            context,
            read_from,
            provenance: None,
            key: None,
            size_bytes,
            waits: false,
            pauses: 0,
            refused: None,
            trace: None,
            attempted_by: None,
        }
    }

    /// The span of its last attempt, here or before it was put off, if that was traced.
    pub(crate) fn continues(&self) -> Option<SpanContext> {
        let here = self.trace.as_ref().map(|attempt| attempt.context);
        here.or_else(|| self.provenance.as_ref()?.trace)
    }

    /// The trace it belongs to, for lines of the log.
    pub fn trace_id(&self) -> Option<TraceId> {
        let continued = self.continues().map(|span| span.trace);
        continued.or_else(|| trace::id_in(&self.message.headers))
    }

    /// How it asks for its idempotency key.
    pub fn holder(&self) -> Holder {
        Holder { turn: self.context.turn, read_from: self.read_from }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Found by fuzzing: the count stands in commit metadata, which strangers may have written.
    #[test]
    fn a_count_of_attempts_that_cannot_grow_is_not_forgotten() {
        let message = Message {
            topic: "orders".into(),
            partition: 0,
            offset: 7,
            timestamp: 0,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let attempt = |made| InHand::of_source(message.clone(), made).context.attempt;
        assert_eq!((attempt(0), attempt(3), attempt(u32::MAX)), (1, 4, u32::MAX));
    }
}
