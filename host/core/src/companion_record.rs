//! Companion records: a message's copy for a retry tier or the dead-letter topic.
//!
//! Made by `settle`. Key, value and original headers are as they were; everything else the host knows
//! stands in its own headers, so that the copy alone is enough to try again, to redrive, to triage.

use std::time::Duration;

use bytes::Bytes;

use crate::headers::{self, CompanionHeaders, ErrorHeaders};
use crate::in_hand::{InHand, ReadFrom};
use crate::message::{Record, Topic};
use crate::names::delay_text;
use crate::outcome::Outcome;
use crate::pipeline::Context;

impl Context {
    /// The copy of a message that was not handled: for the tier of `delay`, or the dead letter.
    pub(crate) fn companion_record(
        &self,
        item: &InHand,
        outcome: &Outcome,
        delay: Option<Duration>,
    ) -> Record {
        let now = self.ports.clock.now();
        let mut found = self.provenance(item);
        found.waits = 0;
        found.attempt = item.context.attempt;
        found.tier = delay.map(|delay| delay_text(delay).into());
        found.first_failed = found.first_failed.or(Some(now));
        found.last_failed = Some(now);
        found.error = Some(error_headers(outcome));
        // Who made the attempt; a message that was not attempted here (a host died of it) was by whoever is in
        // use, as far as anybody knows.
        let attempted_by = item.attempted_by.clone().or_else(|| self.ports.plugin.identity());
        found.plugin = attempted_by.map(|plugin| (*plugin).clone()).or(found.plugin);
        found.idempotency_key = self.idempotency_key_of(item);
        let original = &item.message.headers;
        let (template, headers) = match delay {
            Some(_) => (&self.spec.retry.topic, headers::encode(&found, original)),
            None => (&self.spec.dead_letter.topic, headers::dead_letter_headers(&found, original)),
        };
        let source = self.source_topic_of(item);
        Record {
            topic: template.topic(&source, &self.spec.group, delay),
            // Companions keep the partition's number, so that a retry sits beside its source.
            partition: Some(item.message.partition),
            timestamp: None,
            key: item.message.key.clone(),
            value: item.message.value.clone(),
            headers,
        }
    }

    /// The copy of a message that is put behind an earlier one of its key, without an attempt: for this tier.
    pub(crate) fn behind_record(&self, item: &InHand, tier: &Topic, delay: Duration) -> Record {
        let mut found = self.provenance(item);
        found.attempt = item.context.attempt.saturating_sub(1);
        found.waits = found.waits.saturating_add(1);
        found.tier = Some(delay_text(delay).into());
        Record {
            topic: tier.clone(),
            partition: Some(item.message.partition),
            timestamp: None,
            key: item.message.key.clone(),
            value: item.message.value.clone(),
            headers: headers::encode(&found, &item.message.headers),
        }
    }

    fn provenance(&self, item: &InHand) -> CompanionHeaders {
        let found = match &item.provenance {
            Some(found) => (**found).clone(),
            None => CompanionHeaders::of_source(&item.message, &self.spec.group),
        };
        CompanionHeaders { turn: item.context.turn, trace: item.continues(), ..found }
    }

    /// A message that was never put into its lane does not hold its key, nor does one whose mark has it.
    fn idempotency_key_of(&self, item: &InHand) -> Option<Bytes> {
        let held = item.key.as_ref().map(|held| &held.key).filter(|key| !key.is_empty());
        held.cloned().or_else(|| self.spec.idempotency.as_ref()?.key.key_of(&item.message))
    }

    /// The source topic whose companions the message belongs to. A message that was found in a tier
    /// and is no retry has the tier's topic.
    fn source_topic_of(&self, item: &InHand) -> String {
        let topic = &*item.message.topic;
        if let ReadFrom::Tier { .. } = item.read_from
            && item.provenance.is_none()
        {
            let source = self.spec.topics.iter().find(|source| {
                self.spec.retry.topic.delay_of(topic, source, &self.spec.group).is_some()
            });
            return source.map_or_else(|| topic.to_owned(), ToString::to_string);
        }
        topic.to_owned()
    }
}

fn error_headers(outcome: &Outcome) -> ErrorHeaders {
    let backtrace = match outcome {
        Outcome::Fault(fault) => fault.backtrace.clone(),
        _ => None,
    };
    let (kind, reason) = (outcome.kind().to_owned(), outcome.reason().to_owned());
    ErrorHeaders { kind, reason, backtrace }
}
