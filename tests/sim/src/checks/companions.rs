//! Companions: copies in retry tiers and dead letters keep the message whole.

use std::time::Duration;

use bytes::Bytes;
use millstream_core::message::{Header, Message, Topic};
use millstream_core::pipeline_spec::{Delivery, KeepOrder, MissingKey};
use millstream_log_simulated::HostId;

use crate::book::{Book, Carrier};
use crate::facts::{End, Facts, Uid, is_hosts, number};
use crate::runs::{Ended, Run};

use super::waits::delay_after;

const DEAD_LETTER_HEADERS: [&str; 6] = [
    "__dlq.errors.topic",
    "__dlq.errors.partition",
    "__dlq.errors.offset",
    "__dlq.errors.group",
    "__dlq.errors.delivery.count",
    "__dlq.errors.message",
];

impl Book {
    /// A copy in a retry tier.
    pub(crate) fn check_copy(
        &mut self,
        at: Duration,
        (host, late): (HostId, bool),
        uid: Uid,
        source: &Topic,
        message: &Message,
    ) {
        self.check_whole(uid, source, message);
        let attempts = number(&message.headers, "millstream-attempt").unwrap_or(0);
        let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
        let limit = self.scenario.attempts_max();
        let waits = number(&message.headers, "millstream-waits").unwrap_or(0);
        let waits = u32::try_from(waits).unwrap_or(u32::MAX);
        let failed = self.runs_of(uid).any(|run| run.number == attempts && run.has_failed());
        let is_behind = waits > 0 && (attempts == 0 || failed);
        if is_behind && self.scenario.spec.retry.keep_order != KeepOrder::OfKey {
            let what = format!("{} goes to {}", self.name(uid), message.position());
            self.violate("only where order is kept a message is put behind another", what);
        }
        if !(failed || is_behind) || attempts >= limit {
            let what = format!(
                "{} goes to {} as attempted {attempts} times of {limit}, and no such attempt failed",
                self.name(uid),
                message.position()
            );
            self.violate("what is retried has failed and may be attempted again", what);
        }
        if !is_behind {
            self.check_tier(uid, attempts, message);
        }
        let carrier = Carrier {
            partition: message.source(),
            offset: message.offset,
            attempts,
            waits,
            writer: Some(host),
            late,
            removed: false,
            written: at,
            timestamp: message.timestamp,
        };
        if self.delivery() == Delivery::ExactlyOnce
            && self.messages.get(&uid).is_some_and(|m| {
                m.carriers.iter().skip(1).any(|c| (c.attempts, c.waits) == (attempts, waits))
            })
        {
            let what = format!("{} was written again to {}", self.name(uid), message.position());
            self.violate("exactly once: each retry is written once", what);
        }
        self.at.entry(message.source()).or_default().insert(message.offset, uid);
        if let Some(book) = self.messages.get_mut(&uid) {
            book.carriers.push(carrier);
        }
    }

    /// The next attempt's delay, or the smallest that is not shorter than what was asked for.
    fn check_tier(&mut self, uid: Uid, attempts: u32, message: &Message) {
        let spec = &self.scenario.spec;
        let expected = |run: &Run| match &run.ended {
            Some((_, Ended::Did(end))) => delay_after(&spec.retry.delays, attempts, end),
            _ => None,
        };
        let run = self.runs_of(uid).find(|run| run.number == attempts && run.has_failed());
        let Some(delay) = run.and_then(expected) else { return };
        let source = self.messages.get(&uid).map(|m| m.facts.partition.topic.clone());
        let topic = source.map(|source| spec.retry.topic.topic(&source, &spec.group, Some(delay)));
        if topic.as_ref() != Some(&message.topic) {
            let what =
                format!("{} goes to {}, not to {topic:?}", self.name(uid), message.position());
            self.violate("a retry takes the tier of its delay", what);
        }
    }

    /// A dead letter.
    pub(crate) fn check_dead_letter(&mut self, uid: Uid, source: &Topic, message: &Message) {
        self.check_whole(uid, source, message);
        let name = format!("{} as {}", self.name(uid), message.position());
        self.check_dead_letter_headers(uid, &name, message);
        let limit = self.scenario.attempts_max();
        let last_word = |run: &Run| match &run.ended {
            Some((_, Ended::Did(End::Reject))) => true,
            _ => run.has_failed() && run.number == limit,
        };
        let idempotency = self.scenario.spec.idempotency.as_ref();
        let without_key = idempotency.is_some_and(|i| i.missing == MissingKey::Reject)
            && self.messages.get(&uid).is_some_and(|m| m.facts.idempotency.is_none());
        let refused = self.messages.get(&uid).is_some_and(|m| m.refused);
        let kind = message.headers.iter().find(|h| h.name == "millstream-error-kind");
        let killed_hosts =
            kind.is_some_and(|kind| &kind.value[..] == b"host-crash") && self.may_be_named(uid);
        let excused = without_key || refused || killed_hosts;
        if !excused && !self.runs_of(uid).any(last_word) {
            let what = format!("{name}: it was not rejected and has attempts left");
            self.violate("only what is rejected or out of attempts is dead", what);
        }
        let exactly_once = self.delivery() == Delivery::ExactlyOnce;
        let Some(book) = self.messages.get_mut(&uid) else { return };
        book.dead_letters += 1;
        if exactly_once && book.dead_letters > 1 {
            self.violate("exactly once: a message dies once", name);
        } else if exactly_once && self.is_done(uid) && self.has_outputs(uid) {
            self.violate("exactly once: what is handled is not dead", name);
        }
    }

    fn check_dead_letter_headers(&mut self, uid: Uid, name: &str, message: &Message) {
        // One that was too large goes without what can be found elsewhere.
        let refused = self.messages.get(&uid).is_some_and(|m| m.refused);
        if refused && !message.headers.iter().any(|h| h.name.starts_with("__dlq.")) {
            return;
        }
        for header in DEAD_LETTER_HEADERS {
            if !message.headers.iter().any(|h| h.name == header) {
                self.violate("a dead letter is whole", format!("{name} has no header {header}"));
            }
        }
        let Some(facts) = self.messages.get(&uid).map(|m| m.facts.clone()) else { return };
        let key = message.headers.iter().find(|h| h.name == "millstream-idempotency-key");
        if facts.idempotency.is_some() && key.is_none_or(|key| key.value.is_empty()) {
            self.violate("a dead letter is whole", format!("{name} does not name its key"));
        }
        for (header, expected) in [
            ("__dlq.errors.topic", facts.partition.topic.to_string()),
            ("__dlq.errors.partition", facts.partition.number.to_string()),
            ("__dlq.errors.offset", facts.offset.unwrap_or_default().to_string()),
        ] {
            let value = message.headers.iter().find(|h| h.name == header).map(|h| &h.value);
            if value != Some(&Bytes::from(expected.clone())) {
                let what = format!("{name}: expected {header} to be {expected}, saw {value:?}");
                self.violate("a dead letter is whole", what);
            }
        }
    }

    fn runs_of(&self, uid: Uid) -> impl Iterator<Item = &Run> {
        let runs = self.messages.get(&uid).into_iter().flat_map(|m| m.runs.iter());
        runs.filter_map(|id| self.runs.get(id))
    }

    pub(crate) fn has_outputs(&self, uid: Uid) -> bool {
        self.runs_of(uid).any(|run| !run.outputs.is_empty())
    }

    fn check_whole(&mut self, uid: Uid, source: &Topic, message: &Message) {
        let Some(facts) = self.messages.get(&uid).map(|m| m.facts.clone()) else { return };
        let name = format!("{} as {}", self.name(uid), message.position());
        if *source != facts.partition.topic || message.partition != facts.partition.number {
            let what = format!("{name} is not beside its source");
            self.violate("a companion keeps topic and partition number", what);
        }
        if message.key != facts.key || message.value != facts.value {
            self.violate("a companion keeps key and value", name.clone());
        }
        let original: Vec<&Header> = facts.headers.iter().filter(|h| !is_hosts(h)).collect();
        let kept: Vec<&Header> = message.headers.iter().filter(|h| !is_hosts(h)).collect();
        if original != kept {
            let what = format!("{name}: expected {original:?}, saw {kept:?}");
            self.violate("a companion keeps the headers", what);
        }
        for (header, expected) in origin(&self.scenario.spec.group, &facts) {
            let mut seen = message.headers.iter().filter(|h| h.name == header.as_str());
            let value = seen.next().map(|h| h.value.clone());
            if value != Some(Bytes::from(expected.clone())) || seen.next().is_some() {
                let what = format!("{name}: expected {header} to be {expected}, saw {value:?}");
                self.violate("a companion says where it comes from, once", what);
            }
        }
    }
}

fn origin(group: &str, facts: &Facts) -> [(String, String); 6] {
    let offset = facts.offset.unwrap_or_default().to_string();
    [
        ("topic", facts.partition.topic.to_string()),
        ("partition", facts.partition.number.to_string()),
        ("offset", offset.clone()),
        ("timestamp", facts.timestamp.to_string()),
        ("group", group.to_owned()),
        ("turn", offset),
    ]
    .map(|(name, value)| match name {
        "turn" => ("millstream-turn".to_owned(), value),
        _ => (format!("millstream-origin-{name}"), value),
    })
}
