//! Traces: which trace a message belongs to, read from headers and written into them (W3C Trace Context).
//!
//! Beside the message's way: `attempt` begins and ends a span for a message that is traced, `settle`
//! carries its context on, and what is recorded goes to a port ([`SpanSink`]). Without that port nothing
//! here runs.
//!
//! ```text
//! message's own traceparent ──▶ attempt's span ──▶ outputs: traceparent
//!                                    │
//!                                    └─▶ retry, dead letter: millstream-trace ──▶ next attempt, linked
//! ```
//!
//! Invariants:
//! - the `traceparent` of a message stays as it was in its retries and dead letters: what they continue
//!   stands beside it, in `millstream-trace`, so that a trace goes on through retries and redrive;
//! - headers are hostile: what is not exactly a context is no context, and never an error.
//!
//! Limits: of `tracestate` at most [`STATE_BYTES_MAX`] are carried on; what is longer is left out.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use bytes::Bytes;
use bytestring::ByteString;

use crate::message::Header;

mod span;
mod tracer;

pub use span::{Operation, Span, SpanSink, Value};
pub(crate) use tracer::{AttemptEnded, TraceOfAttempt, TracedAttempt, Tracer};
pub use tracer::{Ratio, Traces};

/// The header with a message's context.
pub const TRACEPARENT: &str = "traceparent";
/// The header with what vendors keep beside it.
pub const TRACESTATE: &str = "tracestate";
/// What the W3C asks everyone to carry on at least.
pub const STATE_BYTES_MAX: usize = 512;

/// `00-` trace `-` span `-` flags.
const TEXT_BYTES: usize = 55;
/// The one flag there is: the span is recorded.
const SAMPLED: u8 = 1;

/// Names a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub NonZeroU128);

/// Names a span within its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(pub NonZeroU64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A span, named wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// Its trace.
    pub trace: TraceId,
    /// Itself.
    pub span: SpanId,
    /// Whether it is recorded, so that what follows from it should be.
    pub sampled: bool,
}

impl fmt::Display for SpanContext {
    /// As `traceparent` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl SpanContext {
    /// Reads a `traceparent`. Of a version that is not known yet the known part counts, as its rules say.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(TEXT_BYTES)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let version = hexadecimal(parts.next()?, 2)?;
        let trace = hexadecimal(parts.next()?, 32)?;
        let span = hexadecimal(parts.next()?, 16)?;
        let flags = hexadecimal(parts.next()?, 2)?;
        let ends = match version {
            0xff => false,
            0 => rest.is_empty(),
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        if parts.next().is_some() || !ends {
            return None;
        }
        Some(Self {
            trace: TraceId(NonZeroU128::new(trace)?),
            span: SpanId(NonZeroU64::new(u64::try_from(span).ok()?)?),
            sampled: flags & u128::from(SAMPLED) != 0,
        })
    }
}

/// A number of so many digits, in lower case as the W3C wants it.
fn hexadecimal(digits: &[u8], count: usize) -> Option<u128> {
    if digits.len() != count {
        return None;
    }
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// What a message brings with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incoming {
    /// Its `traceparent`.
    pub(crate) context: SpanContext,
    /// The header it came in.
    parent: Bytes,
    /// Its `tracestate`.
    pub(crate) state: Option<ByteString>,
}

impl Incoming {
    /// Reads the original headers of a message. Two contexts are none: nobody knows which is right.
    pub(crate) fn of(headers: &[Header]) -> Option<Self> {
        let mut parents = headers.iter().filter(|header| &*header.name == TRACEPARENT);
        let parent = &parents.next()?.value;
        if parents.next().is_some() {
            return None;
        }
        let context = SpanContext::parse(parent)?;
        Some(Self { context, parent: parent.clone(), state: state_of(headers) })
    }

    /// What a message that follows from it carries, if nothing is recorded here.
    pub(crate) fn passed_on(&self) -> Outgoing {
        Outgoing::new(self.parent.clone(), self.state.as_ref())
    }
}

/// The trace of a message, read for a line of the log.
pub(crate) fn id_in(headers: &[Header]) -> Option<TraceId> {
    Incoming::of(headers).map(|incoming| incoming.context.trace)
}

fn state_of(headers: &[Header]) -> Option<ByteString> {
    let mut states = headers.iter().filter(|header| &*header.name == TRACESTATE);
    let state = &states.next()?.value;
    let fine = |byte: &u8| (0x20..0x7f).contains(byte);
    let takes = states.next().is_none() && (1..=STATE_BYTES_MAX).contains(&state.len());
    let state = Some(state).filter(|state| takes && state.iter().all(fine))?;
    ByteString::try_from(state.clone()).ok()
}

/// The headers that an output gets.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    parent: Header,
    state: Option<Header>,
}

impl Outgoing {
    fn new(parent: Bytes, state: Option<&ByteString>) -> Self {
        let header =
            |name: &'static str, value| Header { name: ByteString::from_static(name), value };
        Self {
            parent: header(TRACEPARENT, parent),
            state: state.map(|state| header(TRACESTATE, state.as_bytes().clone())),
        }
    }

    /// Those that continue `span`.
    pub(crate) fn from(span: SpanContext, state: Option<&ByteString>) -> Self {
        Self::new(Bytes::from(span.to_string()), state)
    }

    /// How much they add to a message at most.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |header: &Header| header.name.len() + header.value.len();
        bytes(&self.parent) + self.state.as_ref().map_or(0, bytes)
    }

    /// Puts them in the place of those that are there: a plugin that hands headers on hands on those of
    /// the message it got.
    pub(crate) fn put_into(&self, headers: &mut Vec<Header>) {
        headers.retain(|header| !matches!(&*header.name, TRACEPARENT | TRACESTATE));
        headers.push(self.parent.clone());
        headers.extend(self.state.clone());
    }
}

#[cfg(test)]
mod tests;
