//! State records: how what became of dead letters lies in the topic of states beside their topic.
//!
//! Two kinds, told apart by their keys, in the partition of the same number as the letters':
//! - `letters/RUN/FIRST`: these letters are redriven, purged or parked. One for each batch, never replaced; of two
//!   that name a letter the later one counts;
//! - `run`, in partition 0 only: who changes states now and how far they are; replaced with every batch.
//!
//! Whoever may write to the topic can hide dead letters, as whoever may write to the letters' own topic can forge
//! them; what is no record of this form is passed over, and counted.

use std::ops::RangeInclusive;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::message::{EpochMs, Message, Offset, Partition, Record};

/// The key of the run's record.
const RUN_KEY: &[u8] = b"run";
const LETTERS_PREFIX: &str = "letters/";
const VERSION: u32 = 1;
/// A record's largest size: those of the largest batch are below it.
const RECORD_BYTES_MAX: usize = 256 << 10;

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing yet.
    #[default]
    Open,
    /// A copy of it was sent.
    Redriven,
    /// It was given up.
    Purged,
    /// It was redriven too often: it is redriven only if it is asked for parked ones.
    Parked,
}

impl State {
    /// Whether there is nothing left to do about it.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Redriven | Self::Purged)
    }

    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Redriven => "redriven",
            Self::Purged => "purged",
            Self::Parked => "parked",
        }
    }
}

/// What became of letters, by whom and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    /// What they are now.
    pub state: State,
    /// The redrive or purge that did it.
    pub id: String,
    /// When it began.
    pub at: EpochMs,
    /// Who.
    pub by: String,
    /// Where redriven ones were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LettersRecord {
    version: u32,
    #[serde(rename = "letters")]
    ranges: Vec<(Offset, Offset)>,
    change: Change,
}

/// Who changes states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The person or program, for whoever reads it.
    pub name: String,
    /// Names the machine's boot and the process's place on it: a process of the same is looked for by its id.
    pub machine: String,
    /// The process there.
    pub process: u32,
}

/// A redrive or purge and how far it is: the right to change states, and what it needs to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunRecord {
    version: u32,
    /// Names it.
    pub(super) id: String,
    /// Tells whoever is at it from whoever was before, also under the same id.
    pub(super) claim: String,
    /// When it began.
    pub(super) at: EpochMs,
    /// Who is at it.
    pub(super) owner: Owner,
    /// What was asked for: who asks for the same goes on with it.
    pub(super) asked: String,
    /// Batches written, this record's own included: tells whether one that got no answer is there.
    pub(super) batches: u64,
    /// Letters changed.
    pub(super) letters: u64,
    /// Whether it came to its end.
    pub(super) ended: bool,
}

impl RunRecord {
    pub(super) fn new(id: &str, at: EpochMs, owner: Owner, asked: String) -> Self {
        let (version, id, claim) = (VERSION, id.to_owned(), id.to_owned());
        Self { version, id, claim, at, owner, asked, batches: 0, letters: 0, ended: false }
    }

    pub(super) fn record(&self, states: &Partition) -> Record {
        record(states, Bytes::from_static(RUN_KEY), Some(json(self)))
    }
}

/// What a record says.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    Letters(Vec<RangeInclusive<Offset>>, Change),
    Run(RunRecord),
    /// The state of letters that are gone was removed.
    Nothing,
}

/// The record that says that `offsets` (ascending, at least one) were changed so.
pub(super) fn letters(states: &Partition, offsets: &[Offset], change: &Change) -> Record {
    let mut ranges: Vec<(Offset, Offset)> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*offset) => *last = *offset,
            _ => ranges.push((*offset, *offset)),
        }
    }
    let first = offsets.first().copied().unwrap_or_default();
    let key = format!("{LETTERS_PREFIX}{}/{}/{first}", change.id, change.state.as_str());
    let value = LettersRecord { version: VERSION, ranges, change: change.clone() };
    record(states, key.into(), Some(json(&value)))
}

/// The record that removes the one of this key.
pub(super) fn removal(states: &Partition, key: Bytes) -> Record {
    record(states, key, None)
}

fn json<T: Serialize>(value: &T) -> Bytes {
    // Texts and numbers: nothing that JSON cannot say.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn record(states: &Partition, key: Bytes, value: Option<Bytes>) -> Record {
    Record {
        topic: states.topic.clone(),
        partition: Some(states.number),
        timestamp: None,
        key: Some(key),
        value,
        headers: Vec::new(),
    }
}

/// What a message of the topic says; `None` if it is none of ours.
pub(super) fn decode(message: &Message) -> Option<Said> {
    let key = message.key.as_deref()?;
    let is_letters = key.starts_with(LETTERS_PREFIX.as_bytes());
    if key != RUN_KEY && !is_letters {
        return None;
    }
    let Some(value) = message.value.as_deref() else { return Some(Said::Nothing) };
    if value.len() > RECORD_BYTES_MAX {
        return None;
    }
    if !is_letters {
        let run: RunRecord = serde_json::from_slice(value).ok()?;
        return (run.version == VERSION).then_some(Said::Run(run));
    }
    let LettersRecord { version, ranges, change } = serde_json::from_slice(value).ok()?;
    let fits = |(first, last): &(Offset, Offset)| first <= last && *last < Offset::MAX;
    if version != VERSION || !ranges.iter().all(fits) {
        return None;
    }
    Some(Said::Letters(ranges.into_iter().map(|(first, last)| first..=last).collect(), change))
}
