//! The book: what is true in the simulated world, kept from what the cluster and the handler tell.
//!
//! It knows nothing of the core. The checks read it; what they find is noted here, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::log::Commit;
use millstream_core::message::{EpochMs, Offset, Partition, Topic};
use millstream_core::pipeline_spec::{Delivery, Ordering};
use millstream_log_simulated::{Epoch, HostId};

use crate::facts::{Facts, Uid};
use crate::runs::{Run, RunId};
use crate::scenario::Scenario;
use crate::trace::Trace;

/// A place where a message stands in the log: its source, or a retry tier.
#[derive(Clone, Debug)]
pub(crate) struct Carrier {
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    /// Attempts made, as written there; 0 at the source.
    pub(crate) attempts: u32,
    /// How often it was put behind an earlier message since the last attempt.
    pub(crate) waits: u32,
    pub(crate) writer: Option<HostId>,
    /// Its writer was gone by then.
    pub(crate) late: bool,
    /// The log has removed it.
    pub(crate) removed: bool,
    /// When it became readable.
    pub(crate) written: Duration,
    /// The log's time of it.
    pub(crate) timestamp: EpochMs,
}

impl Carrier {
    /// Whether it comes from a zombie, as this host sees it: from another host, or from itself under an assignment
    /// that is over.
    pub(crate) fn is_foreign(&self, host: HostId) -> bool {
        self.late || self.writer.is_some_and(|writer| writer != host)
    }
}

#[derive(Debug)]
pub(crate) struct MessageBook {
    pub(crate) facts: Facts,
    /// The source first.
    pub(crate) carriers: Vec<Carrier>,
    pub(crate) runs: Vec<RunId>,
    pub(crate) dead_letters: u32,
    pub(crate) paused: u32,
    /// How many hosts it has killed.
    pub(crate) killed: u32,
    /// The log has refused something that it caused, for good.
    pub(crate) refused: bool,
    /// The log has removed it from the source before it had ended.
    pub(crate) removed: bool,
}

/// What a host knows of an assignment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) epoch: Epoch,
    pub(crate) at: Duration,
    /// The source was attached under it. An attempt before that belongs to what the host had
    /// before: a worker may begin one more while it is being cancelled.
    pub(crate) attached: bool,
}

/// What must not overtake one another.
pub(crate) type Lane = (Partition, Option<Bytes>);

/// What a topic is to the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Source,
    Tier(Topic),
    DeadLetters(Topic),
    Output,
    Unknown,
}

pub(crate) struct Book {
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) trace: Trace,
    pub(crate) violation: Option<String>,
    /// Promises that are not looked at.
    pub(crate) ignored: Vec<String>,
    /// No fault is injected any more.
    pub(crate) calm: bool,
    pub(crate) messages: BTreeMap<Uid, MessageBook>,
    /// Which message stands where, sources and tiers.
    pub(crate) at: BTreeMap<Partition, BTreeMap<Offset, Uid>>,
    pub(crate) commits: BTreeMap<Partition, Commit>,
    pub(crate) owners: BTreeMap<Partition, (HostId, Epoch)>,
    pub(crate) told: BTreeMap<(HostId, Partition), Told>,
    pub(crate) runs: BTreeMap<RunId, Run>,
    pub(crate) running: BTreeSet<RunId>,
    pub(crate) first_attempts: BTreeMap<Lane, Offset>,
    pub(crate) marked: BTreeMap<(Partition, Bytes), BTreeSet<Offset>>,
    pub(crate) in_flight: BTreeMap<HostId, BTreeMap<(Partition, Offset), usize>>,
    pub(crate) last_activity: Duration,
    /// The last run in each lane, by host.
    pub(crate) last_in_lane: BTreeMap<(HostId, Lane), RunId>,
    /// How much too early each host may be by its wall clock: how far that was ahead of the cluster's, and has jumped
    /// forward since.
    pub(crate) skews: BTreeMap<HostId, EpochMs>,
    /// Up to which message a lane has outputs in a partition.
    pub(crate) sent_up_to: BTreeMap<(Lane, Partition), Offset>,
    /// Since when a host has been asked to give a partition back.
    pub(crate) revoked: BTreeMap<(HostId, Partition), Duration>,
    /// A host ended with messages in hand, or cancelled some: at most once may lose them.
    pub(crate) lossy: bool,
    /// A dead letter was refused: only a person can mend that, so the pipeline stops.
    pub(crate) needs_a_person: bool,
    /// The log has forgotten commits.
    pub(crate) forgot: bool,
    /// How many messages each source partition has in all.
    pub(crate) produced: BTreeMap<Partition, usize>,
    /// The size of the largest message.
    pub(crate) largest: usize,
    kinds: BTreeMap<Topic, Kind>,
}

impl Book {
    pub(crate) fn new(scenario: Arc<Scenario>) -> Self {
        let messages = scenario.messages.iter().map(|(_, facts)| {
            let book = MessageBook {
                facts: facts.clone(),
                carriers: Vec::new(),
                runs: Vec::new(),
                dead_letters: 0,
                paused: 0,
                killed: 0,
                refused: false,
                removed: false,
            };
            (facts.uid, book)
        });
        let mut produced = BTreeMap::new();
        for (_, facts) in &scenario.messages {
            *produced.entry(facts.partition.clone()).or_default() += 1;
        }
        let sizes = scenario.messages.iter().map(|(_, facts)| facts.size_bytes());
        Self {
            largest: sizes.max().unwrap_or(0),
            produced,
            messages: messages.collect(),
            scenario,
            trace: Trace::default(),
            violation: None,
            ignored: Vec::new(),
            calm: false,
            at: BTreeMap::new(),
            commits: BTreeMap::new(),
            owners: BTreeMap::new(),
            told: BTreeMap::new(),
            runs: BTreeMap::new(),
            running: BTreeSet::new(),
            first_attempts: BTreeMap::new(),
            marked: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            last_activity: Duration::ZERO,
            last_in_lane: BTreeMap::new(),
            skews: BTreeMap::new(),
            sent_up_to: BTreeMap::new(),
            revoked: BTreeMap::new(),
            lossy: false,
            needs_a_person: false,
            forgot: false,
            kinds: BTreeMap::new(),
        }
    }

    /// Notes a broken promise; the first is the one that is shown.
    pub(crate) fn violate(&mut self, promise: &str, what: String) {
        let ignored = self.ignored.iter().any(|ignored| promise.starts_with(ignored));
        if self.violation.is_none() && !ignored {
            self.trace.line(Duration::ZERO, &format!("VIOLATION {promise}: {what}"));
            self.violation = Some(format!("{promise}: {what}"));
            self.trace.freeze();
        }
    }

    pub(crate) fn delivery(&self) -> Delivery {
        self.scenario.spec.delivery
    }

    pub(crate) fn kind(&mut self, topic: &Topic) -> Kind {
        if let Some(kind) = self.kinds.get(topic) {
            return kind.clone();
        }
        let spec = &self.scenario.spec;
        let kind_for = |source: &Topic| {
            if source == topic {
                Some(Kind::Source)
            } else if spec.retry.topic.delay_of(topic, source, &spec.group).is_some() {
                Some(Kind::Tier(source.clone()))
            } else if spec.dead_letter.topic.topic(source, &spec.group, None) == *topic {
                Some(Kind::DeadLetters(source.clone()))
            } else {
                None
            }
        };
        let output = spec.outputs.values().any(|output| output == topic);
        let of_source = spec.topics.iter().find_map(kind_for);
        let kind = of_source.unwrap_or(if output { Kind::Output } else { Kind::Unknown });
        self.kinds.insert(topic.clone(), kind.clone());
        kind
    }

    /// Whether what stands at this place is settled for good: a commit that covers it holds.
    pub(crate) fn is_covered(&self, partition: &Partition, offset: Offset) -> bool {
        self.commits.get(partition).is_some_and(|commit| covers(commit, offset))
    }

    pub(crate) fn is_all_covered(&self, uid: Uid) -> bool {
        self.messages.get(&uid).is_some_and(|message| {
            !message.carriers.is_empty()
                && message.carriers.iter().all(|c| self.is_covered(&c.partition, c.offset))
        })
    }

    /// Whether it was handled, and all that its handling sent is there.
    pub(crate) fn is_done(&self, uid: Uid) -> bool {
        let Some(message) = self.messages.get(&uid) else { return false };
        message.runs.iter().any(|run| self.runs.get(run).is_some_and(Run::is_done_and_sent))
    }

    /// Whether another message of the same idempotency key was handled.
    pub(crate) fn is_duplicate(&self, uid: Uid) -> bool {
        let Some(facts) = self.messages.get(&uid).map(|m| &m.facts) else { return false };
        let Some(key) = facts.idempotency.clone() else { return false };
        let marks = self.marked.get(&(facts.partition.clone(), key));
        marks.is_some_and(|turns| turns.iter().any(|turn| Some(*turn) != facts.offset))
    }

    /// Whether nothing more is to be done for this message.
    pub(crate) fn is_terminal(&self, uid: Uid) -> bool {
        // What the log has removed is nobody's duty any more.
        let gone = self.messages.get(&uid).is_some_and(|m| m.dead_letters > 0 || m.removed);
        gone || self.is_done(uid) || self.is_duplicate(uid)
    }

    /// Whether the source's copy may be settled: the message has ended, or goes on in a tier.
    pub(crate) fn is_settled_at_source(&self, uid: Uid) -> bool {
        let in_tier = self.messages.get(&uid).is_some_and(|m| m.carriers.len() > 1);
        in_tier || self.is_terminal(uid)
    }

    pub(crate) fn lane(&self, facts: &Facts) -> Option<Lane> {
        match (self.scenario.spec.ordering, &facts.key) {
            (Ordering::Partition, _) => Some((facts.partition.clone(), None)),
            (Ordering::Key, Some(key)) => Some((facts.partition.clone(), Some(key.clone()))),
            (Ordering::Key, None) | (Ordering::None, _) => None,
        }
    }

    /// The assignment under which this host acts, if it is still the one that holds.
    pub(crate) fn holds(&self, host: HostId, partition: &Partition) -> Option<Told> {
        let told = self.told.get(&(host, partition.clone()))?;
        (self.owners.get(partition) == Some(&(host, told.epoch))).then_some(*told)
    }

    /// How many copies there are from which a message may be attempted for the so manieth time, and whether one of them
    /// landed when its writer was gone.
    pub(crate) fn copies_for(&self, uid: Uid, number: u32) -> (usize, bool) {
        let carriers = self.messages.get(&uid).into_iter().flat_map(|m| m.carriers.iter().skip(1));
        let copies = carriers.filter(|carrier| carrier.attempts + 1 == number);
        copies.fold((0, false), |(count, late), copy| (count + 1, late || copy.late))
    }

    pub(crate) fn name(&self, uid: Uid) -> String {
        match self.messages.get(&uid).map(|m| &m.facts) {
            Some(Facts { partition, offset: Some(offset), .. }) => {
                format!("message {uid} ({partition}@{offset})")
            }
            _ => format!("message {uid}"),
        }
    }
}

/// Whether a commit says that an offset is settled.
pub(crate) fn covers(commit: &Commit, offset: Offset) -> bool {
    offset < commit.next || commit.settled_above.iter().any(|range| range.contains(&offset))
}
