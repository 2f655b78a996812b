//! Scenario: everything one seed decides before the simulation begins.
//!
//! Swarm testing: each kind of trouble is switched on or off for a whole seed, since a system that
//! is hit by everything at once hardly ever gets far enough to show what one fault alone does.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::idempotency::{KeySource, mark_record};
use millstream_core::log::TopicSpec;
use millstream_core::message::Topic;
use millstream_core::names::Template;
use millstream_core::pipeline_spec::{
    DeadLetterSpec, Delivery, IdempotencySpec, KeepOrder, MissingKey, Ordering, PipelineSpec,
    RetrySpec, Start,
};
use millstream_log_simulated::{Draw, Faults};

use crate::facts::{Facts, draw_messages};
use crate::troubles::{Switches, Trouble, TroubledTopics, draw_more_troubles, draw_troubles};

/// The largest record an output topic takes; an oversize output is larger.
pub const OUTPUT_BYTES_MAX: usize = 2048;

/// The header a message's idempotency key stands in, where it comes from a header.
pub const IDEMPOTENCY_HEADER: &str = "idem";

/// How often hosts die by themselves, per mille of their lives.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrashChances {
    /// At a call to the log.
    pub at_call: u32,
    /// After a number of polls of their root future.
    pub after_polls: u32,
}

/// A commit that was not written for so long is forgotten, where the log forgets: ten times as long as the
/// core promises to wait before it writes it again.
const COMMITS_KEPT: Duration = Duration::from_secs(20);

/// Apart from what was drawn before there was more to draw.
const MORE: u64 = 0x6d69_6c6c_7374_7265;

/// One simulation, complete.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// The pipeline all hosts run.
    pub spec: PipelineSpec,
    /// Source and output topics.
    pub topics: Vec<TopicSpec>,
    /// The messages and when each is produced.
    pub messages: Vec<(Duration, Facts)>,
    /// How many hosts there are.
    pub hosts: usize,
    /// The faults of the first phase.
    pub faults: Faults,
    /// What hits the hosts in the first phase.
    pub troubles: Vec<(Duration, Trouble)>,
    /// How hosts die by themselves in the first phase.
    pub crashes: CrashChances,
    /// How long the first phase lasts.
    pub rough: Duration,
    /// How long the second phase may last until everything is settled.
    pub settles_within: Duration,
    /// What the log keeps with a commit.
    pub commit_metadata_bytes_max: usize,
    /// Whether handling may be repeated for a reason: a host may die, lose a partition, or not
    /// learn that a call happened. Without it nothing excuses a repetition.
    pub repeats_excused: bool,
    /// Hosts die of messages only, and lose no partition otherwise.
    pub only_messages_kill: bool,
    /// Whether rebalances are eager.
    pub eager: bool,
    /// The log forgets a commit that was not written for so long; shown once all is settled.
    pub commits_kept: Option<Duration>,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        // In calm seeds nothing goes wrong at all; in gentle ones hosts and partitions come and go
        // in order.
        let (calm, gentle) = (draw.chance(150), draw.chance(150));
        let mut on = |per_mille: u32| draw.chance(per_mille) && !calm && !gentle;
        let (crashing, shaking, losing) = (on(550), on(500), on(500));
        let (stopping, refusing, outages) = (on(300) || gentle, on(600), on(300));
        let rough_ms = draw.between(1_000, 12_000);
        let hosts = draw.count(1, 3);
        let mut faults = draw_faults(&mut draw, refusing, losing);
        let crashes = CrashChances {
            at_call: if crashing { 600 } else { 0 },
            after_polls: if crashing { 300 } else { 0 },
        };
        let mut troubles = draw_troubles(
            &mut draw,
            rough_ms,
            hosts,
            &[
                (crashing, 0),
                (shaking, 1),
                (shaking || gentle, 2),
                (outages, 3),
                (outages, 4),
                (stopping, 5),
            ],
        );
        let sources = draw_sources(&mut draw);
        let spec = draw_spec(&mut draw, &sources);
        // Now and then enough to fill what the core holds of a retry tier.
        let count = if draw.chance(40) { draw.count(300, 900) } else { draw.count(5, 140) };
        let mut more = Draw::new(seed ^ MORE);
        let hot = if more.chance(250) { more.between(500, 950) } else { 0 };
        let hot = (u32::try_from(hot).unwrap_or(0), more.fork(1));
        let mut messages = draw_messages(&mut draw, hot, &spec, &sources, count, rough_ms);
        let mut topics = sources.clone();
        for name in spec.outputs.values() {
            topics.push(topic(name, 2, OUTPUT_BYTES_MAX));
        }
        let metadata_bytes = match draw.chance(250) {
            true => draw.count(48, 300),
            false => 4096,
        };
        let mut spec = draw_waiting(&mut draw, spec);
        // Each kill costs a restart, so a few seeds do it.
        let killing = draw.chance(200);
        let others_kill =
            crashing || shaking || gentle || losing || stopping || refusing || outages;
        if killing {
            draw_killers(&mut draw, &mut messages);
        }
        let crashes_max = if killing { draw.between(3, 5) } else { 100 };
        spec.dead_letter.after_host_crashes =
            (killing || draw.chance(500)).then_some(u32::try_from(crashes_max).unwrap_or(3));
        let settles_within = settles_within(&spec, &messages);
        let switches = draw_switches(&mut more, calm, gentle, &spec);
        let troubled = troubled_topics(&spec);
        troubles.extend(draw_more_troubles(&mut more, rough_ms, hosts, &switches, &troubled));
        troubles.sort_by_key(|(at, _)| *at);
        let eager = more.chance(350);
        if !calm && !gentle {
            (faults.late_send, faults.late_ms_max) = draw_late(&mut more);
            faults.refused_records = draw_refused(&mut more, &spec);
        }
        let commits_kept = more.chance(150).then_some(COMMITS_KEPT);
        Self {
            seed,
            topics,
            messages,
            hosts,
            repeats_excused: crashing
                || shaking
                || gentle
                || losing
                || stopping
                || outages
                || killing
                || switches.expelling
                || switches.forgetting
                || hosts > 1,
            only_messages_kill: !others_kill
                && !switches.any()
                && faults.refused_records.is_empty(),
            eager,
            commits_kept,
            faults,
            troubles,
            crashes,
            rough: Duration::from_millis(rough_ms),
            settles_within,
            commit_metadata_bytes_max: metadata_bytes,
            spec,
        }
    }

    /// How often a message is attempted at most.
    pub fn attempts_max(&self) -> u32 {
        u32::try_from(self.spec.retry.delays.len()).unwrap_or(u32::MAX).saturating_add(1)
    }
}

fn topic(name: &Topic, partitions: u32, message_bytes_max: usize) -> TopicSpec {
    TopicSpec {
        name: name.clone(),
        partitions,
        retention: None,
        retention_bytes: None,
        message_bytes_max,
        append_time: false,
        compacted: false,
        replication: None,
    }
}

fn draw_sources(draw: &mut Draw) -> Vec<TopicSpec> {
    let mut names: Vec<Topic> = vec!["orders".into()];
    if draw.chance(250) {
        names.push("payments".into());
    }
    names
        .iter()
        .map(|name| topic(name, u32::try_from(draw.between(1, 4)).unwrap_or(1), 8192))
        .collect()
}

fn draw_faults(draw: &mut Draw, refusing: bool, losing: bool) -> Faults {
    let mut maybe = |on: bool, high: u64| {
        let chance = u32::try_from(draw.between(1, high)).unwrap_or(0);
        if on && draw.chance(700) { chance } else { 0 }
    };
    let (refused, store_refused) = (maybe(refusing, 120), maybe(refusing, 300));
    let answer_lost = maybe(losing, 120);
    let (slow, redelivered, gap) = (maybe(true, 40), maybe(true, 150), maybe(true, 200));
    let (open_transaction, uneven) = (maybe(true, 400), maybe(true, 1000));
    let (late, in_part) = (draw.chance(400), draw.chance(300));
    Faults {
        latency_ms_max: *draw.pick(&[0, 1, 5, 25]).unwrap_or(&0),
        slow,
        slow_ms_max: draw.between(100, 3_000),
        refused,
        answer_lost,
        store_refused,
        commit_in_part: if in_part { 500 } else { 0 },
        redelivered,
        gap,
        open_transaction,
        open_ms_max: draw.between(1, 800),
        uneven,
        event_ms_max: if late { draw.between(1, 4_000) } else { 0 },
        ..Faults::default()
    }
}

fn draw_spec(draw: &mut Draw, sources: &[TopicSpec]) -> PipelineSpec {
    let millis = |draw: &mut Draw, low, high| Duration::from_millis(draw.between(low, high));
    let delivery = match draw.below(100) {
        0..50 => Delivery::AtLeastOnce,
        50..85 => Delivery::ExactlyOnce,
        _ => Delivery::AtMostOnce,
    };
    let ordering = match draw.below(4) {
        0 => Ordering::Partition,
        1 | 2 => Ordering::Key,
        _ => Ordering::None,
    };
    let keep_order = match ordering {
        Ordering::Partition if draw.chance(800) => KeepOrder::OfPartition,
        _ => KeepOrder::No,
    };
    let mut delays: Vec<Duration> = (0..draw.below(4)).map(|_| millis(draw, 5, 2_500)).collect();
    delays.sort();
    // The same delay twice is one tier that a message passes twice.
    if delays.len() > 1 && draw.chance(200) {
        delays.push(delays.last().copied().unwrap_or_default());
    }
    // Templates that the core takes; the simulation knows them by these names.
    let template = |text: &str, tier: bool| match Template::new(text, tier) {
        Ok(template) => template,
        Err(reason) => unreachable!("template {text}: {reason}"),
    };
    PipelineSpec {
        name: "sim".to_owned(),
        group: "sim-group".to_owned(),
        topics: sources.iter().map(|t| t.name.clone()).collect(),
        start: Start::Earliest,
        outputs: BTreeMap::from([
            ("default".to_owned(), "priced".into()),
            ("audit".to_owned(), "audited".into()),
        ]),
        delivery,
        ordering,
        in_flight_messages: draw.count(1, 64),
        in_flight_bytes: *draw.pick(&[1_000, 5_000, 40_000, 1_000_000]).unwrap_or(&1_000_000),
        waiting_messages: 0,
        waiting_bytes: 0,
        instances: draw.count(1, 4),
        retry: RetrySpec {
            delays,
            keep_order,
            topic: template("{topic}.retry.{delay}", true),
            pause_min: millis(draw, 5, 50),
            pause_max: millis(draw, 100, 1_500),
        },
        dead_letter: DeadLetterSpec {
            topic: template("{topic}.dlq", false),
            retention: None,
            after_host_crashes: None,
            park_after: None,
            mask: millstream_core::dead_letter::Mask::default(),
        },
        idempotency: draw_idempotency(draw),
        commit_interval: millis(draw, 1, 800),
        commit_refresh: Duration::from_secs(2),
        held_up_after: Duration::from_secs(60),
        transaction_interval: match draw.chance(500) {
            true => Duration::ZERO,
            false => millis(draw, 1, 300),
        },
        drain: millis(draw, 50, 5_000),
    }
}

fn draw_idempotency(draw: &mut Draw) -> Option<IdempotencySpec> {
    let wanted = draw.chance(400);
    let key = match draw.below(4) {
        0 | 1 => KeySource::Header(IDEMPOTENCY_HEADER.to_owned()),
        2 => KeySource::JsonPointer("/id".to_owned()),
        _ => KeySource::MessageKey,
    };
    let missing = if draw.chance(500) { MissingKey::Reject } else { MissingKey::Handle };
    let ttl = Duration::from_secs(7 * 24 * 3600);
    let in_topic = draw.chance(500);
    wanted.then_some(IdempotencySpec { key, ttl, missing, in_topic })
}

fn draw_switches(draw: &mut Draw, calm: bool, gentle: bool, spec: &PipelineSpec) -> Switches {
    let mut on = |per_mille: u32, but: bool| draw.chance(per_mille) && !but;
    Switches {
        expelling: on(200, calm || gentle),
        full_disks: on(200, calm || gentle),
        // Clocks jump and topics are compacted on the best of days.
        jumping: on(250, false),
        compaction: on(200, false),
        retention: on(150, calm),
        // What is forgotten is handled again: other deliveries promise nothing then.
        forgetting: on(100, calm || gentle || spec.delivery != Delivery::AtLeastOnce),
    }
}

fn troubled_topics(spec: &PipelineSpec) -> TroubledTopics {
    let marks = spec.topics.iter().map(|source| mark_record::topic(source, &spec.group));
    let in_topic = spec.idempotency.as_ref().is_some_and(|i| i.in_topic);
    // Topics of marks more often: they are made for it.
    let marks = marks.cycle().take(if in_topic { 4 } else { 0 });
    TroubledTopics {
        sources: spec.topics.clone(),
        compacted: spec.topics.iter().cloned().chain(marks).collect(),
    }
}

/// How often an append lands late, and how late.
fn draw_late(draw: &mut Draw) -> (u32, u64) {
    let late = draw.chance(400);
    let chance = u32::try_from(draw.between(50, 1_000)).unwrap_or(1_000);
    (if late { chance } else { 0 }, draw.between(1, 15_000))
}

/// To which topics records are refused, and how often.
fn draw_refused(draw: &mut Draw, spec: &PipelineSpec) -> BTreeMap<Topic, u32> {
    let companions = spec.topics.iter().flat_map(|source| {
        let tiers = spec
            .retry
            .delays
            .iter()
            .map(|delay| (spec.retry.topic.topic(source, &spec.group, Some(*delay)), 150));
        // Whoever has no place for its dead letters stops, and is started again: not often.
        let dead = (spec.dead_letter.topic.topic(source, &spec.group, None), 40);
        tiers.chain([dead]).collect::<Vec<_>>()
    });
    let outputs = spec.outputs.values().map(|topic| (topic.clone(), 150));
    let topics: BTreeMap<Topic, u64> = outputs.chain(companions).collect();
    let refusing = draw.chance(250);
    let mut refused = BTreeMap::new();
    for (topic, most) in topics {
        let chance = u32::try_from(draw.between(1, most)).unwrap_or(1);
        if draw.chance(400) && refusing {
            refused.insert(topic, chance);
        }
    }
    refused
}

/// Whether order is kept across retries, and what may wait in memory then.
fn draw_waiting(draw: &mut Draw, mut spec: PipelineSpec) -> PipelineSpec {
    if spec.ordering == Ordering::Key && draw.chance(700) {
        spec.retry.keep_order = KeepOrder::OfKey;
    }
    spec.waiting_messages = *draw.pick(&[0, 1, 3, 1_000]).unwrap_or(&0);
    spec.waiting_bytes = *draw.pick(&[0, 800, 1_000_000]).unwrap_or(&0);
    spec
}

/// Makes some messages kill their hosts.
fn draw_killers(draw: &mut Draw, messages: &mut [(Duration, Facts)]) {
    for _ in 0..draw.between(1, 2) {
        let at = draw.count(0, messages.len().saturating_sub(1));
        let failures = if draw.chance(300) { 1 } else { 0 };
        if let Some((_, facts)) = messages.get_mut(at) {
            facts.script.kill_after(failures);
        }
    }
}

/// What everything takes one after the other, and the waits for hosts and members that are gone.
fn settles_within(spec: &PipelineSpec, messages: &[(Duration, Facts)]) -> Duration {
    let delays: Duration = spec.retry.delays.iter().sum();
    let one = |facts: &Facts| {
        let script = &facts.script;
        let acts: u64 = script.acts.iter().map(|act| act.takes_ms).sum();
        delays + Duration::from_millis(acts * 4) + spec.retry.pause_max * script.pauses
    };
    let all: Duration = messages.iter().map(|(_, facts)| one(facts)).sum();
    // What is put behind another waits for a tier's delay once more than it has to.
    let longest = spec.retry.delays.iter().max().copied().unwrap_or_default();
    let behind = longest * u32::try_from(messages.len()).unwrap_or(u32::MAX);
    all * 2 + behind + Duration::from_secs(240)
}
