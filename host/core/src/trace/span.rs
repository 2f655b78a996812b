//! Spans: what is recorded of a message, and the port it goes to.
//!
//! Boundary: the core knows no exporter. Names of attributes are those of OpenTelemetry's messaging
//! conventions, and `millstream.*` for what they have no word for; docs/traces.md lists them.

use bytestring::ByteString;

use crate::message::Topic;

use super::{SpanContext, SpanId};

/// What was done with the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The plugin was run.
    Process,
    /// What came of it was brought into the log.
    Settle,
}

impl Operation {
    /// Its name and type in OpenTelemetry's words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Settle => "settle",
        }
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(ByteString),
    /// A number.
    Number(i64),
    /// A yes or no.
    Truth(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which.
    pub context: SpanContext,
    /// What vendors keep beside it.
    pub state: Option<ByteString>,
    /// Which span it is a part of, or follows from.
    pub parent: Option<SpanId>,
    /// The earlier attempt that it continues.
    pub link: Option<SpanContext>,
    /// What it is about.
    pub operation: Operation,
    /// The topic that its name names.
    pub topic: Topic,
    /// When it began, in nanoseconds since the Unix epoch.
    pub begin_nanos: u64,
    /// When it ended.
    pub end_nanos: u64,
    /// More about it.
    pub attributes: Vec<(&'static str, Value)>,
    /// What failed, in words; `None` if nothing did.
    pub failure: Option<String>,
}

/// Where spans go.
pub trait SpanSink: Send + Sync + 'static {
    /// Takes a span. Called on a message's way: it must not wait, so what it has no room for it drops.
    fn ended(&self, span: Span);
}
