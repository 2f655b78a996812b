//! Runs: one attempt each, as the handler saw it.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_log_simulated::{Epoch, HostId};

use crate::facts::{Act, End, Uid};

/// Which attempt of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId(pub u64);

/// How a run came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The handler answered.
    Did(End),
    /// The handler asked for a pause: no attempt.
    Paused,
    /// The future was dropped.
    Cancelled,
}

/// What the handler is to do in a run that begins.
pub struct Begun {
    /// Its number.
    pub run: RunId,
    /// The script's part for it.
    pub act: Act,
    /// It ends in a pause instead.
    pub pause_ms: Option<u64>,
}

/// One attempt at one message.
#[derive(Clone, Debug)]
pub struct Run {
    /// The message.
    pub uid: Uid,
    /// Where it ran.
    pub host: HostId,
    /// Under which assignment of the source partition; `None` if the host had none any more.
    pub epoch: Option<Epoch>,
    /// The attempt's number, from 1.
    pub number: u32,
    /// When it began.
    pub started: Duration,
    /// When it ended, and how.
    pub ended: Option<(Duration, Ended)>,
    /// How often each of its outputs became readable.
    pub outputs: BTreeMap<u64, u32>,
}

impl Run {
    /// Whether it ended in `Done` and all its outputs are readable.
    pub fn is_done_and_sent(&self) -> bool {
        match &self.ended {
            Some((_, Ended::Did(End::Done(count)))) => self.outputs.len() >= *count,
            _ => false,
        }
    }

    /// Whether it ended and counts as an attempt that failed.
    pub fn has_failed(&self) -> bool {
        matches!(&self.ended, Some((_, Ended::Did(end))) if !matches!(end, End::Done(_)))
    }
}
