//! Audit trail: who changed what and when, for whoever asks afterwards. Beside the message's way; written by
//! commands and by the admin API, read by `millstream audit` and the console.
//!
//! Entries are records of one topic for the whole log, [`TOPIC`], with append time: the log says when, not the
//! writer. Nothing removes them but whoever gives the topic a retention.
//!
//! Invariants:
//! - an entry with [`Outcome::Begun`] is in the log before its change begins, and a change whose entry cannot be
//!   written is not begun: nothing is done that cannot be told later. What came of it is an entry of its own, with
//!   the same `id`; a begun one without it was killed in between;
//! - whatever else stands in the topic is shown as unreadable, never skipped in silence.
//!
//! Limits: an entry has at most [`ENTRY_BYTES_MAX`]; a longer detail is left out, and said to be. A reader takes at
//! most [`READ_MAX`] at once.

use serde::{Deserialize, Serialize};

use crate::log::{Log, LogError, RecordError, Room, TopicSpec};
use crate::message::{EpochMs, Message, Offset, Partition, Record};

/// The topic of the trail.
pub const TOPIC: &str = "millstream.audit";
/// An entry's largest size.
pub const ENTRY_BYTES_MAX: usize = 64 << 10;
/// The longest text of an entry beside its detail.
pub const TEXT_BYTES_MAX: usize = 512;
/// How many entries are read at once.
pub const READ_MAX: usize = 10_000;

const VERSION: u32 = 1;

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is about to be made.
    Begun,
    /// It was made.
    Done,
    /// It was not made, and nothing of it.
    Refused,
    /// It failed on the way: a part of it may have been made.
    Failed,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The format, 1.
    version: u32,
    /// Names the change; all entries of it have the same.
    pub id: String,
    /// Who: a person's name as they gave it, or the kind of token that was shown.
    pub by: String,
    /// What kind of change: `deploy`, `rollback`, `redrive`, `purge`, `topic-create` …
    pub action: String,
    /// The pipeline it is about, if it is about one.
    pub pipeline: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// One sentence for a person.
    pub text: String,
    /// Figures and filters, for a program.
    pub detail: serde_json::Value,
}

/// An entry, or what stands in its place, as it is read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its offset in the trail.
    pub offset: Offset,
    /// When the log took it.
    pub at: EpochMs,
    /// The entry, or why it is none.
    #[serde(flatten)]
    pub content: Content,
}

/// What stands in a line of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// An entry.
    Entry(Entry),
    /// Something else: anyone who may write to the topic can put it there.
    Unreadable {
        /// Why.
        unreadable: String,
    },
}

/// Why an entry was not written, or the trail not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The log as a whole.
    #[error("the audit trail {TOPIC}: {0}")]
    Log(#[from] LogError),
    /// The topic does not take the entry.
    #[error("the audit trail {TOPIC} does not take the entry: {0}: let it, or create the topic")]
    Refused(#[from] RecordError),
}

/// The topic as it is made.
pub fn topic_spec() -> TopicSpec {
    TopicSpec {
        name: TOPIC.into(),
        partitions: 1,
        retention: None,
        retention_bytes: None,
        message_bytes_max: 1 << 20,
        append_time: true,
        compacted: false,
        replication: None,
    }
}

impl Entry {
    /// An entry. Texts are cut at [`TEXT_BYTES_MAX`] and have no control characters: they are shown on terminals.
    pub fn new(id: &str, by: &str, action: &str, outcome: Outcome, text: &str) -> Self {
        Self {
            version: VERSION,
            id: printable(id),
            by: printable(by),
            action: printable(action),
            pipeline: None,
            outcome,
            text: printable(text),
            detail: serde_json::Value::Null,
        }
    }

    /// The same about a pipeline.
    #[must_use]
    pub fn of(mut self, pipeline: &str) -> Self {
        self.pipeline = Some(printable(pipeline));
        self
    }

    /// The same with figures for a program.
    #[must_use]
    pub fn with(mut self, detail: serde_json::Value) -> Self {
        self.detail = detail;
        self
    }

    fn encode(&self) -> Vec<u8> {
        // A map with text keys and no float that is no number: it cannot fail.
        let encoded = serde_json::to_vec(self).unwrap_or_default();
        if encoded.len() <= ENTRY_BYTES_MAX {
            return encoded;
        }
        let left_out = serde_json::json!({ "left_out_bytes": encoded.len() });
        serde_json::to_vec(&self.clone().with(left_out)).unwrap_or_default()
    }
}

/// Writes an entry; makes the topic if it is not there.
///
/// # Errors
/// See [`AuditError`]; whoever was about to make a change does not make it then.
pub async fn write(log: &dyn Log, entry: &Entry) -> Result<(), AuditError> {
    let record = Record {
        topic: TOPIC.into(),
        partition: Some(0),
        timestamp: None,
        key: None,
        value: Some(entry.encode().into()),
        headers: Vec::new(),
    };
    match append(log, &record).await {
        Err(AuditError::Refused(RecordError::UnknownTopic { .. })) => {
            log.create_topic(topic_spec()).await?;
            append(log, &record).await
        }
        answer => answer,
    }
}

async fn append(log: &dyn Log, record: &Record) -> Result<(), AuditError> {
    for result in log.append(&[record]).await? {
        result?;
    }
    Ok(())
}

/// The last `count` entries, newest first; none where there is no trail yet.
///
/// # Errors
/// When the log fails.
pub async fn last(log: &dyn Log, count: usize) -> Result<Vec<Line>, AuditError> {
    let count = count.min(READ_MAX);
    if !log.topics().await?.iter().any(|topic| *topic.name == *TOPIC) {
        return Ok(Vec::new());
    }
    let partition = Partition::new(TOPIC, 0);
    let ends = log.ends(std::slice::from_ref(&partition)).await?;
    let ends = ends.first().copied().unwrap_or_default();
    let mut next = ends.end.saturating_sub(count as u64).max(ends.start);
    let mut lines = Vec::new();
    while next < ends.end {
        let room = Room { messages: count, bytes: 8 << 20 };
        let batch = log.fetch(&partition, next, room).await?;
        if batch.next <= next {
            break;
        }
        next = batch.next;
        lines.extend(batch.messages.iter().filter(|m| m.offset < ends.end).map(line));
    }
    lines.reverse();
    lines.truncate(count);
    Ok(lines)
}

fn line(message: &Message) -> Line {
    let unreadable = |why: String| Content::Unreadable { unreadable: why };
    let content = match message.value.as_deref().map(serde_json::from_slice::<Entry>) {
        Some(Ok(entry)) if entry.version == VERSION => Content::Entry(entry.cleaned()),
        Some(Ok(entry)) => unreadable(format!("it has the format {}", entry.version)),
        Some(Err(error)) => unreadable(format!("it is no entry: {error}")),
        None => unreadable("it is empty".to_owned()),
    };
    Line { offset: message.offset, at: message.timestamp, content }
}

impl Entry {
    /// Whoever may write to the topic can put anything into these texts.
    fn cleaned(self) -> Self {
        let pipeline = self.pipeline.as_deref().map(printable);
        let clean = Self::new(&self.id, &self.by, &self.action, self.outcome, &self.text);
        Self { pipeline, detail: self.detail, ..clean }
    }
}

/// A text as it may stand on a terminal: no control characters, at most [`TEXT_BYTES_MAX`].
pub(crate) fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(TEXT_BYTES_MAX));
    for character in text.chars() {
        if clean.len() + character.len_utf8() > TEXT_BYTES_MAX {
            break;
        }
        clean.push(if character.is_control() { ' ' } else { character });
    }
    clean
}
