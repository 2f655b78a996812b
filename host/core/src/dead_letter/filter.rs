//! Which dead letters: what a list shows and a redrive takes.

use bytes::Bytes;

use super::letter::Letter;
use super::state_record::State;
use crate::jsonl::Payload;
use crate::message::{EpochMs, Offset};

/// Which dead letters; what is `None` chooses nothing out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this source topic.
    pub source: Option<String>,
    /// Those in this partition.
    pub partition: Option<u32>,
    /// The one at this offset of its dead-letter partition.
    pub offset: Option<Offset>,
    /// Those that failed like this, as [`crate::outcome::Outcome::kind`] says it, the simple name of another
    /// program's exception, or [`super::FOREIGN`].
    pub kind: Option<String>,
    /// Those with this text in their reason.
    pub reason: Option<String>,
    /// Those that failed with this version of the plugin.
    pub plugin_version: Option<String>,
    /// Those with exactly this key.
    pub key: Option<Bytes>,
    /// Those that became dead letters at this time or later.
    pub since: Option<EpochMs>,
    /// Those that became dead letters before this time.
    pub until: Option<EpochMs>,
    /// Those of which this became.
    pub state: States,
}

/// Letters of which states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum States {
    /// Those nobody has done anything about.
    #[default]
    Open,
    /// Those of this state.
    Only(State),
    /// All that are still there.
    All,
}

impl Filter {
    /// Whether the letter is meant.
    pub(super) fn takes(&self, letter: &Letter) -> bool {
        let message = &letter.message;
        let state = match self.state {
            States::Open => letter.state == State::Open,
            States::Only(state) => letter.state == state,
            States::All => true,
        };
        state
            && self.offset.is_none_or(|offset| offset == message.offset)
            && self.since.is_none_or(|since| message.timestamp >= since)
            && self.until.is_none_or(|until| message.timestamp < until)
            && self.key.as_ref().is_none_or(|key| message.key.as_ref() == Some(key))
            && self.kind.as_ref().is_none_or(|kind| kind == letter.kind())
            && self.reason.as_ref().is_none_or(|text| letter.reason().contains(&**text))
            && self
                .plugin_version
                .as_ref()
                .is_none_or(|version| letter.plugin_version() == Some(version))
    }

    /// What is chosen, for the audit trail, and to tell one request from another.
    pub fn describe(&self) -> serde_json::Value {
        let state = match self.state {
            States::Open => "open",
            States::Only(state) => state.as_str(),
            States::All => "all",
        };
        let mut all = serde_json::json!({
            "source": self.source,
            "partition": self.partition,
            "offset": self.offset,
            "kind": self.kind,
            "reason": self.reason,
            "plugin_version": self.plugin_version,
            "key": self.key.clone().map(Payload),
            "since": self.since,
            "until": self.until,
            "state": state,
        });
        if let Some(fields) = all.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        all
    }
}
