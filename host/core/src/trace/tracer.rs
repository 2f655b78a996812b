//! Tracer: decides which messages of a pipeline are traced, and records what happens to them.
//!
//! Used by `attempt` and, when the log has acknowledged, by the partition. Which span follows from which:
//! - a message's own `traceparent` is the parent of each of its attempts, and says whether they are recorded;
//! - an attempt that continues an earlier one (a retry, a redriven dead letter) is in the trace of that one
//!   and has a link to it; it is its parent too, if the message brought no context of that trace;
//! - a message without either is recorded by the pipeline's ratio, and begins a trace.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;

use crate::clock::WallClock;
use crate::headers::cut;
use crate::in_hand::{InHand, ReadFrom};
use crate::message::Record;
use crate::outcome::Outcome;
use crate::plugin::PluginIdentity;
use crate::settle::Ending;

use super::{Incoming, Operation, Outgoing, Span, SpanContext, SpanId, SpanSink, TraceId, Value};

/// The longest description of a failure, in bytes.
const FAILURE_BYTES_MAX: usize = 1024;
/// The attributes that a span has at most.
const ATTRIBUTES_MAX: usize = 24;

/// How many of the messages without context are traced, decided by their trace's id: every host that
/// samples by that id decides alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio(u64);

impl Ratio {
    /// None.
    pub const NONE: Self = Self(0);
    /// The bits of an id that count as random for the W3C.
    const RANDOM: u64 = 1 << 56;

    /// So many: from 0, none, to 1, all. What is no number is none.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and 2^56, rounded"
    )]
    pub fn new(share: f64) -> Self {
        Self((share.clamp(0.0, 1.0) * Self::RANDOM as f64).round() as u64)
    }

    /// Whether it takes a trace whose id ends with these bits.
    fn takes(self, low: u64) -> bool {
        low % Self::RANDOM >= Self::RANDOM - self.0
    }
}

/// What a pipeline needs to trace messages. Injected: the core draws no random numbers by itself.
#[derive(Clone)]
pub struct Traces {
    /// Where spans go.
    pub sink: Arc<dyn SpanSink>,
    /// Draws 64 random bits.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// How many of the messages are traced that bring no context.
    pub sample: Ratio,
    /// The log, as `messaging.system` names it.
    pub system: &'static str,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").field("sample", &self.sample).finish_non_exhaustive()
    }
}

/// See the module.
pub(crate) struct Tracer {
    traces: Traces,
    clock: Arc<dyn WallClock>,
    pipeline: ByteString,
    group: ByteString,
}

/// An attempt of a message that belongs to a trace.
pub(crate) struct TracedAttempt {
    /// What its outputs carry.
    pub(crate) outgoing: Outgoing,
    /// Absent if the trace is not recorded.
    recording: Option<Recording>,
}

struct Recording {
    context: SpanContext,
    parent: Option<SpanId>,
    link: Option<SpanContext>,
    state: Option<ByteString>,
    begin_nanos: u64,
}

/// What stays with a message of its last attempt that was recorded.
#[derive(Clone, Debug)]
pub(crate) struct TraceOfAttempt {
    /// The attempt's span.
    pub(crate) context: SpanContext,
    state: Option<ByteString>,
    ended_nanos: u64,
}

impl TracedAttempt {
    /// The trace, if it is recorded.
    pub(crate) fn trace(&self) -> Option<TraceId> {
        self.recording.as_ref().map(|recording| recording.context.trace)
    }
}

impl Tracer {
    pub(crate) fn new(
        traces: Traces,
        clock: Arc<dyn WallClock>,
        pipeline: &str,
        group: &str,
    ) -> Self {
        Self { traces, clock, pipeline: pipeline.into(), group: group.into() }
    }

    /// An attempt begins. `None` if its message belongs to no trace.
    pub(crate) fn begin(&self, item: &InHand) -> Option<TracedAttempt> {
        let incoming = Incoming::of(&item.message.headers);
        let continued = item.continues().filter(|context| context.sampled);
        let (trace, parent) = match (&incoming, continued) {
            (Some(own), Some(before)) if own.context.trace == before.trace => {
                (before.trace, Some(own.context.span))
            }
            (_, Some(before)) => (before.trace, Some(before.span)),
            (Some(own), None) if own.context.sampled => (own.context.trace, Some(own.context.span)),
            (Some(own), None) => {
                return Some(TracedAttempt { outgoing: own.passed_on(), recording: None });
            }
            (None, None) => (self.sampled()?, None),
        };
        let context = SpanContext { trace, span: self.span_id(), sampled: true };
        let state = incoming.filter(|own| own.context.trace == trace).and_then(|own| own.state);
        let outgoing = Outgoing::from(context, state.as_ref());
        let begin_nanos = self.clock.now_nanos();
        let recording = Recording { context, parent, link: continued, state, begin_nanos };
        Some(TracedAttempt { outgoing, recording: Some(recording) })
    }

    /// The attempt has ended, so long after it began.
    pub(crate) fn end(
        &self,
        attempt: TracedAttempt,
        item: &mut InHand,
        ended: AttemptEnded<'_>,
        took: Duration,
    ) {
        let Some(Recording { context, parent, link, state, begin_nanos }) = attempt.recording
        else {
            return;
        };
        let end_nanos = begin_nanos.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(0));
        let mut attributes = self.attributes(Operation::Process, item);
        let (outcome, failure) = match ended.failed {
            None => ("done", None),
            Some(failed) => {
                attributes.push(("error.type", failed.kind().into()));
                (failed.kind(), Some(cut(failed.reason(), FAILURE_BYTES_MAX)))
            }
        };
        attributes.push(("millstream.outcome", outcome.into()));
        if failure.is_none() {
            attributes.push(("millstream.outputs", ended.outputs.into()));
        }
        attributes.push(("millstream.plugin.name", (&*ended.plugin.name).into()));
        attributes.push(("millstream.plugin.version", (&*ended.plugin.version).into()));
        attributes.push(("millstream.plugin.digest", (&*ended.plugin.digest).into()));
        item.trace = Some(Box::new(TraceOfAttempt {
            context,
            state: state.clone(),
            ended_nanos: end_nanos,
        }));
        self.traces.sink.ended(Span {
            context,
            state,
            parent,
            link,
            operation: Operation::Process,
            topic: item.message.topic.clone(),
            begin_nanos,
            end_nanos,
            attributes,
            failure,
        });
    }

    /// The log has taken what came of an attempt.
    pub(crate) fn settled(&self, item: &InHand, ending: &Ending, records: &[Record]) {
        let Some(attempt) = item.trace.as_deref() else { return };
        let mut attributes = self.attributes(Operation::Settle, item);
        let ending = match ending {
            Ending::Done => "done",
            Ending::Retry(_) => "retry",
            Ending::Dead(_) => "dead_letter",
            // The attempt before was settled when it was made.
            Ending::Behind => return,
        };
        attributes.push(("millstream.ending", ending.into()));
        attributes.push(("millstream.records", records.len().into()));
        if let Some(copy) = records.first().filter(|_| ending != "done") {
            attributes.push(("millstream.to", (&*copy.topic).into()));
        }
        self.traces.sink.ended(Span {
            context: SpanContext { span: self.span_id(), ..attempt.context },
            state: attempt.state.clone(),
            parent: Some(attempt.context.span),
            link: None,
            operation: Operation::Settle,
            topic: item.message.topic.clone(),
            begin_nanos: attempt.ended_nanos,
            end_nanos: self.clock.now_nanos().max(attempt.ended_nanos),
            attributes,
            failure: None,
        });
    }

    /// What every span of a message says. Never a key nor a value: they are the user's.
    fn attributes(&self, operation: Operation, item: &InHand) -> Vec<(&'static str, Value)> {
        let message = &item.message;
        let mut attributes = Vec::with_capacity(ATTRIBUTES_MAX);
        attributes.push(("messaging.system", self.traces.system.into()));
        attributes.push(("messaging.operation.name", operation.as_str().into()));
        attributes.push(("messaging.operation.type", operation.as_str().into()));
        attributes.push(("messaging.destination.name", (&*message.topic).into()));
        let partition = Value::Text(message.partition.to_string().into());
        attributes.push(("messaging.destination.partition.id", partition));
        attributes.push(("messaging.consumer.group.name", Value::Text(self.group.clone())));
        let is_kafka = self.traces.system == "kafka";
        let offset = if is_kafka { "messaging.kafka.offset" } else { "millstream.offset" };
        attributes.push((offset, message.offset.into()));
        match &message.value {
            Some(value) => attributes.push(("messaging.message.body.size", value.len().into())),
            None if is_kafka => {
                attributes.push(("messaging.kafka.message.tombstone", Value::Truth(true)));
            }
            None => {}
        }
        attributes.push(("millstream.pipeline", Value::Text(self.pipeline.clone())));
        attributes.push(("millstream.attempt", item.context.attempt.into()));
        attributes.push(("millstream.turn", item.context.turn.into()));
        if let (ReadFrom::Tier { offset, .. }, Some(found)) = (item.read_from, &item.provenance) {
            if let Some(tier) = &found.tier {
                attributes.push(("millstream.tier", Value::Text(tier.clone())));
            }
            attributes.push(("millstream.tier.offset", offset.into()));
            if found.redrive_count() > 0 {
                attributes.push(("millstream.redrives", found.redrive_count().into()));
            }
        }
        attributes
    }

    /// A new trace, if the ratio takes it.
    fn sampled(&self) -> Option<TraceId> {
        if self.traces.sample == Ratio::NONE {
            return None;
        }
        // The half that decides first: of most messages no more is drawn.
        let low = (self.traces.random)();
        if !self.traces.sample.takes(low) {
            return None;
        }
        let high = (self.traces.random)();
        NonZeroU128::new(u128::from(high) << 64 | u128::from(low)).map(TraceId)
    }

    fn span_id(&self) -> SpanId {
        SpanId(NonZeroU64::new((self.traces.random)()).unwrap_or(NonZeroU64::MAX))
    }
}

/// How an attempt ended.
pub(crate) struct AttemptEnded<'a> {
    /// What it failed with; `None` if it did not.
    pub(crate) failed: Option<&'a Outcome>,
    /// How many outputs it has.
    pub(crate) outputs: usize,
    /// The plugin that was run.
    pub(crate) plugin: &'a PluginIdentity,
}
