//! The output: what a handler sends. The fields are those of `record output` in `wit/`.

use crate::message::{Header, Message};

/// Where an output goes: always to something that the pipeline's `outputs` names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// `outputs.default`
    #[default]
    Default,
    /// Another entry of `outputs`, by its name.
    Named(String),
    /// `outputs.reply`
    Reply,
}

impl<N: Into<String>> From<N> for Destination {
    /// `default` and `reply` are destinations of their own, everything else is a name.
    fn from(name: N) -> Self {
        match name.into() {
            name if name == "default" => Self::Default,
            name if name == "reply" => Self::Reply,
            name => Self::Named(name),
        }
    }
}

/// A message to be sent once the one being handled counts as handled.
///
/// ```
/// use millstream_plugin::Output;
///
/// Output::new("4 bolts").to("audit").key("o-17").header("source", "pricing");
/// Output::tombstone("o-17");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "an output is sent when the handler returns it"]
pub struct Output {
    /// Which of the pipeline's outputs.
    pub to: Destination,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; absent makes a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Vec<Header>,
    /// Chooses the partition; absent, the key does.
    pub partition: Option<u32>,
    /// Milliseconds since the Unix epoch; absent, that of the message being handled.
    pub timestamp: Option<i64>,
}

impl Output {
    /// This value, to the default output, without key and headers.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// "What has this key is gone": a key without a value, to the default output.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// To the entry of the pipeline's `outputs` that has this name.
    pub fn to(mut self, destination: impl Into<Destination>) -> Self {
        self.to = destination.into();
        self
    }

    /// To `outputs.reply`.
    pub fn reply(self) -> Self {
        self.to(Destination::Reply)
    }

    /// With this key.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this header behind those it has; names may repeat.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// To this partition, whatever the key says.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// With this time, in milliseconds since the Unix epoch.
    pub fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }
}

/// The message as it came: its key, value and headers, to the default output.
impl From<Message> for Output {
    fn from(message: Message) -> Self {
        Self { key: message.key, value: message.value, headers: message.headers, ..Self::default() }
    }
}
