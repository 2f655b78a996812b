//! As it was: the message of a dead letter as the plugin was given it last, to run that attempt again.
//!
//! Clock and random of a plugin are derived from the pipeline's name, the source's topic and partition, the turn, the
//! attempt and the message's time: all of it stands in the letter's headers, so the same plugin sees the same again.

use super::letter::{Content, Letter};
use super::theirs;
use crate::headers;
use crate::message::Message;
use crate::plugin::{AttemptContext, PluginIdentity};

/// An attempt that can be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsItWas {
    /// The message.
    pub message: Message,
    /// What the plugin was told about the attempt.
    pub context: AttemptContext,
    /// Which plugin it was; not known of a letter that another program wrote.
    pub plugin: Option<PluginIdentity>,
}

impl AsItWas {
    pub(super) fn of(letter: &Letter) -> Self {
        let message = letter.message.clone();
        let (message, attempt, turn, plugin) = match &letter.content {
            Content::Ours(found) | Content::Foreign { found: Some(found), .. } => {
                let message = Message {
                    topic: (&*found.origin_topic).into(),
                    partition: found.origin_partition,
                    offset: found.origin_offset,
                    timestamp: found.origin_timestamp,
                    headers: headers::strip(&message.headers),
                    ..message
                };
                (message, found.attempt.max(1), found.turn, found.plugin.clone())
            }
            Content::Theirs(theirs) => {
                let message = Message {
                    topic: theirs.topic.as_deref().map_or(message.topic, Into::into),
                    partition: theirs.partition.unwrap_or(message.partition),
                    offset: theirs.offset.unwrap_or(message.offset),
                    timestamp: theirs.timestamp.unwrap_or(message.timestamp),
                    headers: theirs::strip(&message.headers),
                    key: message.key,
                    value: message.value,
                };
                let turn = message.offset;
                (message, 1, turn, None)
            }
            Content::Foreign { found: None, .. } => {
                let turn = message.offset;
                (message, 1, turn, None)
            }
        };
        let context = AttemptContext { attempt, turn, timestamp: message.timestamp, trace: None };
        Self { message, context, plugin }
    }
}
