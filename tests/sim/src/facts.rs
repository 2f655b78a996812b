//! Facts: the messages of a scenario, and how the handler will treat each.
//!
//! A message is known by the number in its header `uid`, wherever it goes. What the handler does
//! depends on the message and the attempt's number alone, as a plugin's does.

use std::time::Duration;

use bytes::Bytes;
use millstream_core::idempotency::KeySource;
use millstream_core::log::TopicSpec;
use millstream_core::message::{EpochMs, Header, Message, Offset, Partition, Record};
use millstream_core::outcome::FaultKind;
use millstream_core::pipeline_spec::PipelineSpec;
use millstream_log_simulated::{Draw, WALL_CLOCK_BEGIN};

use crate::scenario::IDEMPOTENCY_HEADER;

/// Which message of the scenario, wherever it stands.
pub type Uid = u64;

/// The header that carries a [`Uid`].
pub const UID: &str = "uid";

/// How an attempt ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Handled, with so many outputs.
    Done(usize),
    /// Asks for another attempt, not before so many milliseconds.
    Retry(Option<u64>),
    /// Will never take it.
    Reject,
    /// Faults.
    Fault(FaultKind),
    /// Sends an output that its topic does not take.
    Oversize,
    /// Sends to an output that is not named.
    Unnamed,
    /// Kills its host.
    Kill,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Act {
    /// How long it takes.
    pub takes_ms: u64,
    /// How it ends.
    pub end: End,
}

/// What the handler does with one message.
#[derive(Clone, Debug)]
pub struct Script {
    /// How often it pauses before anything else, whoever asks.
    pub pauses: u32,
    /// How long it wants to pause.
    pub pause_ms: u64,
    /// By attempt number; beyond the last, the last.
    pub acts: Vec<Act>,
}

impl Script {
    /// After so many failures the message kills whoever handles it.
    pub(crate) fn kill_after(&mut self, failures: usize) {
        self.acts.retain(|act| !matches!(act.end, End::Done(_) | End::Reject));
        self.acts.truncate(failures);
        self.acts.push(Act { takes_ms: 0, end: End::Kill });
    }

    /// Whether it does.
    pub(crate) fn kills(&self) -> bool {
        self.acts.iter().any(|act| act.end == End::Kill)
    }

    /// What the attempt of this number does.
    pub fn act(&self, attempt: u32) -> Option<&Act> {
        let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        self.acts.get(index).or(self.acts.last())
    }
}

/// One message of the scenario.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Which.
    pub uid: Uid,
    /// Where it is produced.
    pub partition: Partition,
    /// Where it came to stand, once it was produced.
    pub offset: Option<Offset>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, [`UID`] among them.
    pub headers: Vec<Header>,
    /// Its time.
    pub timestamp: EpochMs,
    /// Its idempotency key, if the pipeline looks for one and it has one.
    pub idempotency: Option<Bytes>,
    /// How it is treated.
    pub script: Script,
}

impl Facts {
    /// How the core counts it.
    pub fn size_bytes(&self) -> usize {
        let Record { key, value, headers, .. } = self.record();
        let (topic, partition) = (self.partition.topic.clone(), self.partition.number);
        let (offset, timestamp) = (0, self.timestamp);
        Message { topic, partition, offset, timestamp, key, value, headers }.size_bytes()
    }

    /// What is appended to the source.
    pub fn record(&self) -> Record {
        Record {
            topic: self.partition.topic.clone(),
            partition: Some(self.partition.number),
            timestamp: Some(self.timestamp),
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers.clone(),
        }
    }
}

/// A decimal number in a header; the last, if it repeats.
pub fn number(headers: &[Header], name: &str) -> Option<u64> {
    let header = headers.iter().rev().find(|h| h.name == name)?;
    std::str::from_utf8(&header.value).ok()?.parse().ok()
}

/// Whether a header belongs to the host.
pub fn is_hosts(header: &Header) -> bool {
    header.name.starts_with("millstream-") || header.name.starts_with("__dlq.")
}

pub(crate) fn draw_messages(
    draw: &mut Draw,
    (hot, mut hot_draw): (u32, Draw),
    spec: &PipelineSpec,
    sources: &[TopicSpec],
    count: usize,
    rough_ms: u64,
) -> Vec<(Duration, Facts)> {
    let keys = draw.between(1, 12);
    let shared_keys = draw.between(1, 40);
    let slow_ms = *draw.pick(&[0, 3, 40, 600]).unwrap_or(&0);
    let failing = u32::try_from(draw.below(600)).unwrap_or(0);
    let failing = if count > 200 { failing + 400 } else { failing };
    let mut at_ms: Vec<u64> = (0..count).map(|_| draw.between(0, rough_ms)).collect();
    if draw.chance(400) {
        // Everything is there before the first host starts.
        at_ms.fill(0);
    }
    at_ms.sort_unstable();
    let mut messages = Vec::with_capacity(count);
    for (at_ms, uid) in at_ms.into_iter().zip(1..) {
        let source = draw.pick(sources);
        let Some(source) = source else { break };
        let key_number = draw.below(keys);
        // Most messages have one key, then.
        let key_number = if hot_draw.chance(hot) { 0 } else { key_number };
        let key = (!draw.chance(150)).then(|| Bytes::from(format!("key-{key_number}")));
        let number = match key {
            Some(_) => key_number % u64::from(source.partitions),
            None => draw.below(u64::from(source.partitions)),
        };
        let partition =
            Partition::new(source.name.clone(), u32::try_from(number).unwrap_or_default());
        let value = draw_value(draw, shared_keys);
        let headers = draw_headers(draw, uid, shared_keys);
        let idempotency = spec.idempotency.as_ref().and_then(|idempotency| {
            key_of(&idempotency.key, &partition, key.as_ref(), value.as_ref(), &headers)
        });
        let script = draw_script(draw, slow_ms, failing);
        // Times lie before, at and behind the time of producing: nothing may hang on them.
        let offset = EpochMs::try_from(draw.between(0, 20_000)).unwrap_or(0) - 10_000;
        let facts = Facts {
            uid,
            partition,
            offset: None,
            key,
            value,
            headers,
            timestamp: WALL_CLOCK_BEGIN + EpochMs::try_from(at_ms).unwrap_or(0) + offset,
            idempotency,
            script,
        };
        messages.push((Duration::from_millis(at_ms), facts));
    }
    messages
}

fn key_of(
    source: &KeySource,
    partition: &Partition,
    key: Option<&Bytes>,
    value: Option<&Bytes>,
    headers: &[Header],
) -> Option<Bytes> {
    source.key_of(&Message {
        topic: partition.topic.clone(),
        partition: partition.number,
        offset: 0,
        timestamp: 0,
        key: key.cloned(),
        value: value.cloned(),
        headers: headers.to_vec(),
    })
}

fn draw_value(draw: &mut Draw, shared_keys: u64) -> Option<Bytes> {
    let padding = "x".repeat(draw.count(0, 200) * draw.count(0, 3));
    match draw.below(20) {
        0 => None,
        1 => Some(Bytes::from_static(&[0xff, 0x00, 0xfe])),
        _ => {
            let id = draw.below(shared_keys);
            Some(Bytes::from(format!("{{\"id\":\"id-{id}\",\"pad\":\"{padding}\"}}")))
        }
    }
}

fn draw_headers(draw: &mut Draw, uid: Uid, shared_keys: u64) -> Vec<Header> {
    let mut headers = vec![Header::new(UID, uid.to_string())];
    if draw.chance(800) {
        let key = draw.below(shared_keys);
        headers.push(Header::new(IDEMPOTENCY_HEADER, format!("idem-{key}")));
    }
    if draw.chance(300) {
        headers.push(Header::new("twice", Bytes::from_static(&[1, 255])));
        headers.push(Header::new("twice", Bytes::new()));
    }
    if draw.chance(100) {
        // The host's own headers on a source topic are somebody else's data.
        headers.push(Header::new("millstream-attempt", "99"));
        headers.push(Header::new("millstream-turn", "7"));
    }
    headers
}

fn draw_script(draw: &mut Draw, slow_ms: u64, failing: u32) -> Script {
    let failures = if draw.chance(failing) { draw.between(1, 5) } else { 0 };
    let mut acts = Vec::new();
    for _ in 0..failures {
        let end = match draw.below(20) {
            0..11 => End::Retry(draw.chance(300).then(|| draw.between(1, 3_000))),
            11..13 => End::Reject,
            13 => End::Oversize,
            14 => End::Unnamed,
            _ => End::Fault(*draw.pick(&FaultKind::ALL).unwrap_or(&FaultKind::Trap)),
        };
        acts.push(Act { takes_ms: takes(draw, slow_ms), end });
    }
    acts.push(Act { takes_ms: takes(draw, slow_ms), end: End::Done(draw.count(0, 3)) });
    let pauses = if draw.chance(40) { draw.between(1, 4) } else { 0 };
    Script { pauses: u32::try_from(pauses).unwrap_or(0), pause_ms: draw.between(0, 5_000), acts }
}

fn takes(draw: &mut Draw, slow_ms: u64) -> u64 {
    // Mostly at once: a handler that never yields is the common one.
    if draw.chance(600) { 0 } else { draw.between(0, slow_ms) }
}
