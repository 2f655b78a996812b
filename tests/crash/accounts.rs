//! Accounts: from what stands in the topics at the end, and what had been committed at each kill,
//! whether every promise was kept. Knows the promises, not the host's code.
//!
//! A message counts as settled at a kill if its offset was committed, and those of all copies of it
//! that stood in retry tiers. From then on nothing may be done about it: what stands behind the ends
//! that its topics had at that kill was done later.

use std::collections::{BTreeMap, BTreeSet};

use millstream_tests::commits::Look;
use millstream_tests::topic::Line;

use crate::orders::{self, DELAYS, Fate};

pub(crate) const SOURCE: &str = "orders.created";
pub(crate) const OUTPUT: &str = "orders.priced";
pub(crate) const DEAD: &str = "orders.created.dlq";

pub(crate) fn tier(delay: &str) -> String {
    format!("{SOURCE}.retry.{delay}")
}

/// What was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    ExactlyOnce,
    AtLeastOnce,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
}

/// A retry or a dead letter.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub(crate) at: At,
    /// The source message it is a copy of.
    pub(crate) turn: At,
    pub(crate) attempt: u64,
    pub(crate) kind: String,
}

/// Everything that happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Order numbers in the source.
    pub(crate) source: BTreeMap<At, u64>,
    /// Order number and attempt of each output.
    pub(crate) outputs: BTreeMap<At, (u64, u64)>,
    /// By topic.
    pub(crate) tiers: BTreeMap<String, Vec<Copy>>,
    pub(crate) dead: Vec<Copy>,
    /// At each kill, and after the end.
    pub(crate) looks: Vec<Look>,
    /// Orders that `produce` said were appended.
    pub(crate) acknowledged: BTreeSet<u64>,
}

/// Topic and place of each copy of a message.
type Copies<'a> = BTreeMap<At, Vec<(&'a str, At)>>;

/// Whether a message and all its copies were settled then.
fn is_settled(look: &Look, copies: &Copies<'_>, message: At) -> bool {
    let mut copies = copies.get(&message).into_iter().flatten();
    look.settled(SOURCE, message.partition, message.offset)
        && copies.all(|(topic, at)| {
            !look.has(topic, at.partition, at.offset)
                || look.settled(topic, at.partition, at.offset)
        })
}

fn at(line: &Line) -> At {
    At { partition: line.partition, offset: line.offset }
}

fn order(line: &Line) -> u64 {
    orders::number(line.json()["order_id"].as_str().unwrap_or_default())
}

fn copy(line: &Line) -> Copy {
    let turn = At { partition: line.partition, offset: line.number("millstream-turn") };
    let attempt = line.number("millstream-attempt");
    Copy { at: at(line), turn, attempt, kind: line.header("millstream-error-kind").to_owned() }
}

impl History {
    /// Reads what stands in the topics that keep everything.
    pub(crate) fn read(&mut self, consume: impl Fn(&str) -> Vec<Line>) {
        let attempt = |line: &Line| line.json()["attempt"].as_u64().unwrap_or_default();
        self.source = consume(SOURCE).iter().map(|line| (at(line), order(line))).collect();
        let outputs = consume(OUTPUT);
        self.outputs = outputs.iter().map(|l| (at(l), (order(l), attempt(l)))).collect();
        self.dead = consume(DEAD).iter().map(copy).collect();
    }

    /// Adds what stands in the tiers now: what is settled of them is removed as time goes by.
    pub(crate) fn read_tiers(&mut self, consume: impl Fn(&str) -> Vec<Line>) {
        for topic in DELAYS.map(tier) {
            let copies = self.tiers.entry(topic.clone()).or_default();
            let known: BTreeSet<At> = copies.iter().map(|copy| copy.at).collect();
            let found = consume(&topic);
            copies.extend(found.iter().map(copy).filter(|copy| !known.contains(&copy.at)));
        }
    }

    /// Everything that is not as promised; empty if all is well.
    pub(crate) fn violations(&self, promise: Promise) -> Vec<String> {
        let mut found = Vec::new();
        self.nothing_is_lost(&mut found);
        self.everything_became_what_it_must(&mut found);
        if promise == Promise::ExactlyOnce {
            self.nothing_is_doubled(&mut found);
        }
        let copies = self.copies();
        for (kill, look) in self.looks.iter().enumerate() {
            self.nothing_settled_is_touched(kill, look, &copies, &mut found);
        }
        self.commits_only_grow(&mut found);
        self.nothing_unsettled_is_removed(&mut found);
        self.all_is_committed(&mut found);
        found
    }

    fn nothing_is_lost(&self, found: &mut Vec<String>) {
        let sent: BTreeSet<u64> = self.source.values().copied().collect();
        for order in self.acknowledged.difference(&sent) {
            found.push(format!("order {order} was acknowledged and is not in the source"));
        }
        let priced: BTreeSet<u64> = self.outputs.values().map(|(order, _)| *order).collect();
        let dead: BTreeSet<At> = self.dead.iter().map(|letter| letter.turn).collect();
        for (at, order) in &self.source {
            let there = match orders::fate(*order) {
                Fate::Priced { .. } => priced.contains(order),
                Fate::Dead => dead.contains(at),
            };
            if !there {
                found.push(format!("order {order} at {at:?} is lost"));
            }
        }
    }

    fn everything_became_what_it_must(&self, found: &mut Vec<String>) {
        for (at, (order, attempt)) in &self.outputs {
            // An attempt that was forgotten would make the number smaller, one counted twice larger.
            let expected = match orders::fate(*order) {
                Fate::Priced { after } => Some(after + 1),
                Fate::Dead => None,
            };
            if expected != Some(*attempt) {
                found.push(format!(
                    "order {order} was priced by attempt {attempt} (output {at:?}), expected {expected:?}"
                ));
            }
        }
        let last = DELAYS.len() as u64 + 1;
        for letter in &self.dead {
            let order = self.source.get(&letter.turn).copied();
            let poison = order.is_some_and(|order| orders::fate(order) == Fate::Dead);
            if !poison || letter.attempt != last || letter.kind != "trap" {
                found.push(format!("a dead letter that should not be so: {letter:?} of {order:?}"));
            }
        }
        for (made, delay) in (1..).zip(DELAYS) {
            for copy in self.tiers.get(&tier(delay)).into_iter().flatten() {
                if copy.attempt != made {
                    found.push(format!("tier {delay} is for attempt {made}, and holds {copy:?}"));
                }
            }
        }
    }

    fn nothing_is_doubled(&self, found: &mut Vec<String>) {
        let mut outputs: BTreeMap<u64, u64> = BTreeMap::new();
        for (order, _) in self.outputs.values() {
            *outputs.entry(*order).or_default() += 1;
        }
        for (order, count) in outputs.into_iter().filter(|(_, count)| *count > 1) {
            found.push(format!("order {order} was priced {count} times"));
        }
        let topics = self.tiers.iter().map(|(topic, copies)| (topic.as_str(), copies));
        for (topic, copies) in topics.chain([(DEAD, &self.dead)]) {
            let mut seen = BTreeSet::new();
            for copy in copies.iter().filter(|copy| !seen.insert(copy.turn)) {
                found.push(format!("{topic} holds {:?} more than once: {copy:?}", copy.turn));
            }
        }
    }

    /// The copies of each message in the tiers: a long run has too many to search through.
    fn copies(&self) -> Copies<'_> {
        let mut of = Copies::new();
        for (topic, copies) in &self.tiers {
            for copy in copies {
                of.entry(copy.turn).or_default().push((topic.as_str(), copy.at));
            }
        }
        of
    }

    fn nothing_settled_is_touched(
        &self,
        kill: usize,
        look: &Look,
        copies: &Copies<'_>,
        found: &mut Vec<String>,
    ) {
        let settled = |at: &&At| is_settled(look, copies, **at);
        let settled: BTreeSet<At> = self.source.keys().filter(settled).copied().collect();
        let topics = self.tiers.iter().map(|(topic, copies)| (topic.as_str(), copies));
        for (topic, copies) in topics.chain([(DEAD, &self.dead)]) {
            let later = |c: &&Copy| !look.has(topic, c.at.partition, c.at.offset);
            for copy in copies.iter().filter(later).filter(|copy| settled.contains(&copy.turn)) {
                found.push(format!(
                    "kill {kill}: the commit of {:?} held, and it was attempted again: {topic} {copy:?}",
                    copy.turn
                ));
            }
        }
        let mut before = BTreeSet::new();
        let mut after = BTreeMap::new();
        for (at, (order, _)) in &self.outputs {
            if look.has(OUTPUT, at.partition, at.offset) {
                before.insert(*order);
            } else {
                after.insert(*order, *at);
            }
        }
        // An order sent twice is handled once: whichever message it was, the other adds nothing.
        for message in settled {
            let order = self.source.get(&message).copied().unwrap_or(u64::MAX);
            let priced = before.contains(&order);
            if let Some(again) = after.get(&order).filter(|_| priced) {
                found.push(format!(
                    "kill {kill}: the commit of {message:?} held, and order {order} was handled again: output {again:?}"
                ));
            }
        }
    }

    fn commits_only_grow(&self, found: &mut Vec<String>) {
        for (kill, pair) in self.looks.windows(2).enumerate() {
            let [earlier, later] = pair else { continue };
            for ((topic, partition), commit) in &earlier.commits {
                let mut offsets =
                    std::iter::once(0..commit.next).chain(commit.settled_above.iter().cloned());
                if !offsets.all(|mut range| range.all(|o| later.settled(topic, *partition, o))) {
                    found.push(format!(
                        "after kill {kill} the commit of {topic}[{partition}] went back: {commit:?}"
                    ));
                }
            }
        }
        for (kill, look) in self.looks.iter().enumerate() {
            for ((topic, partition), commit) in &look.commits {
                let last = commit.settled_above.last().map_or(commit.next, |range| range.end);
                let end = look.ends.get(&(topic.clone(), *partition)).copied().unwrap_or_default();
                if last > end {
                    found.push(format!(
                        "kill {kill}: {topic}[{partition}] ends at {end} and {commit:?} is beyond"
                    ));
                }
            }
        }
    }

    fn nothing_unsettled_is_removed(&self, found: &mut Vec<String>) {
        for (kill, look) in self.looks.iter().enumerate() {
            for ((topic, partition), start) in look.starts.iter().filter(|(_, start)| **start > 0) {
                let commit = look.commits.get(&(topic.clone(), *partition));
                let next = commit.map_or(0, |commit| commit.next);
                if *start > next {
                    found.push(format!(
                        "kill {kill}: {topic}[{partition}] begins at {start}, and the commit is {next}"
                    ));
                }
            }
        }
    }

    /// The last look was after a graceful stop with nothing left to do.
    fn all_is_committed(&self, found: &mut Vec<String>) {
        let Some(last) = self.looks.last() else { return };
        let copies = self.copies();
        for at in self.source.keys().filter(|at| !is_settled(last, &copies, **at)) {
            found.push(format!("{at:?} is not committed at the end"));
        }
    }

    /// The sums, for a person.
    pub(crate) fn sums(&self) -> String {
        let priced: BTreeSet<u64> = self.outputs.values().map(|(order, _)| *order).collect();
        let dead: BTreeSet<At> = self.dead.iter().map(|letter| letter.turn).collect();
        let flaky = self.tiers.values().map(Vec::len).sum::<usize>();
        format!(
            "{} messages = {} handled + {} duplicates + {} dead; {} retries; {} outputs and {} dead letters repeated; {} kills",
            self.source.len(),
            priced.len(),
            self.source.len() - priced.len() - dead.len(),
            dead.len(),
            flaky,
            self.outputs.len() - priced.len(),
            self.dead.len() - dead.len(),
            self.looks.len().saturating_sub(1),
        )
    }
}

#[cfg(test)]
mod tests;
