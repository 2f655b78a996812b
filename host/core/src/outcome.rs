//! What a handling attempt came to. Made by `attempt`, acted on by `settle`.

use std::time::Duration;

use bytes::Bytes;

use crate::message::{EpochMs, Header};

/// What one attempt at one message came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Handled; these outputs are to be sent.
    Done(Vec<Output>),
    /// The handler asks for another attempt later; `after` is at least how much later.
    Retry {
        /// Why, in the handler's words.
        reason: String,
        /// The smallest delay the handler wants; the retry tier that is not shorter is taken.
        after: Option<Duration>,
    },
    /// The handler will never take this message.
    Reject {
        /// Why, in the handler's words.
        reason: String,
    },
    /// A dependency is down: stop this lane for a while, without counting an attempt.
    Pause {
        /// Why, in the handler's words.
        reason: String,
        /// How long; clamped by the pipeline.
        pause: Duration,
    },
    /// The attempt did not end by itself.
    Fault(Fault),
}

impl Outcome {
    /// The label of this outcome in metrics and in `millstream-error-kind`; `done` for `Done`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Retry { .. } => "retry",
            Self::Reject { .. } => "reject",
            Self::Pause { .. } => "pause",
            Self::Fault(fault) => fault.kind.as_str(),
        }
    }

    /// Why it is not `Done`, in words.
    pub fn reason(&self) -> &str {
        match self {
            Self::Done(_) => "",
            Self::Retry { reason, .. } | Self::Reject { reason } | Self::Pause { reason, .. } => {
                reason
            }
            Self::Fault(fault) => &fault.reason,
        }
    }
}

/// How an attempt failed without the handler's say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The class.
    pub kind: FaultKind,
    /// One line for a person: what happened, and the limit if one was hit.
    pub reason: String,
    /// The guest's stack, symbolised, if it trapped.
    pub backtrace: Option<String>,
}

/// The classes of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// The guest trapped (a panic is one).
    Trap,
    /// The guest took longer than its time limit.
    Timeout,
    /// The guest asked for more memory, table or stack than its limit.
    Memory,
    /// The outputs are larger, or more, than their limit or than the destination takes.
    Oversize,
    /// What the guest returned, or the message itself, could not be understood.
    Decode,
    /// The guest used something that its pipeline does not grant.
    Denied,
    /// Hosts died while they handled the message.
    HostCrash,
}

impl FaultKind {
    /// Every class that an attempt may come to, for metrics that are to exist before the first fault.
    pub const ALL: [Self; 6] =
        [Self::Trap, Self::Timeout, Self::Memory, Self::Oversize, Self::Decode, Self::Denied];

    /// The word used in metrics and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Oversize => "oversize",
            Self::Decode => "decode",
            Self::Denied => "denied",
            Self::HostCrash => "host-crash",
        }
    }
}

/// One message the handler wants sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Which of the pipeline's outputs.
    pub to: Destination,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; absent is a tombstone.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Vec<Header>,
    /// The partition, where the handler chooses it.
    pub partition: Option<u32>,
    /// The time; absent takes the message's own.
    pub timestamp: Option<EpochMs>,
}

/// Where an output goes: always to something its pipeline names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `outputs.default`.
    Default,
    /// Another entry of `outputs`.
    Named(String),
    /// `outputs.reply`.
    Reply,
}

impl Destination {
    /// The name of this destination in the pipeline's `outputs`.
    pub fn name(&self) -> &str {
        match self {
            Self::Default => "default",
            Self::Named(name) => name,
            Self::Reply => "reply",
        }
    }
}
