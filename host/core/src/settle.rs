//! Settle: everything an outcome causes, and the only station with side effects.
//!
//! After `attempt`, before `ledger`. It rules what becomes of a failed message (a tier, its place, the
//! dead letters), makes the records, and brings them into the log until the log has acknowledged them.
//!
//! Invariants:
//! - `at_least_once`: outputs first, then the idempotency mark (in one write, where the log can), then (by the
//!   caller) the ledger;
//!   `exactly_once`: all of it with the commit in one transaction;
//! - only `done` marks an idempotency key;
//! - a record that the log refuses for good makes a dead letter of its message and of no other; a dead
//!   letter that is refused as too large goes with minimal headers; if that is refused too, the
//!   pipeline stops: no failure ends as a log line only.

use std::sync::Arc;
use std::time::Duration;

use crate::headers;
use crate::idempotency::{Mark, Scope};
use crate::in_hand::InHand;
use crate::log::{Appended, Consumer, RecordError, TransactError, Transaction};
use crate::message::{EpochMs, Record, Topic};
use crate::outcome::{Fault, FaultKind, Outcome};
use crate::outstanding::Progress;
use crate::partition::Committed;
use crate::pipeline::{Context, PipelineError};
use crate::pipeline_spec::{KeepOrder, RetrySpec};

/// What is to become of a message that was not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Another attempt after this delay, from the retry tier of it.
    Tier(Duration),
    /// Another attempt after this delay, its lane waiting.
    InPlace(Duration),
    /// No more attempts.
    DeadLetter,
}

/// Rules on a failed attempt; `attempt` is its number, from 1. Never called for `Done` and `Pause`.
pub(crate) fn rule(retry: &RetrySpec, attempt: u32, outcome: &Outcome) -> Ruling {
    let asked = match outcome {
        Outcome::Reject { .. } => return Ruling::DeadLetter,
        Outcome::Retry { after, .. } => *after,
        Outcome::Fault(_) | Outcome::Pause { .. } | Outcome::Done(_) => None,
    };
    let made = usize::try_from(attempt).unwrap_or(usize::MAX);
    let Some(next) = made.checked_sub(1).and_then(|index| retry.delays.get(index)) else {
        return Ruling::DeadLetter;
    };
    let longest = retry.delays.iter().max().copied().unwrap_or(*next);
    let delay = match asked {
        // The smallest tier that is not shorter than what was asked for; else the longest there is.
        Some(after) => {
            retry.delays.iter().filter(|d| **d >= after).min().copied().unwrap_or(longest)
        }
        None => *next,
    };
    match retry.keep_order {
        KeepOrder::OfPartition => Ruling::InPlace(delay),
        KeepOrder::OfKey | KeepOrder::No => Ruling::Tier(delay),
    }
}

/// How a message ends here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Handled; the records are its outputs.
    Done,
    /// Put off; the record is its copy in the tier of this delay.
    Retry(Duration),
    /// Put behind an earlier message of its key, not attempted; the record is its copy in a tier.
    Behind,
    /// Given up for this kind of error; the record is its dead letter.
    Dead(String),
}

/// A message with what must be in the log before it is settled.
#[derive(Debug)]
pub(crate) struct Settling {
    /// The message.
    pub(crate) item: InHand,
    /// How it ends.
    pub(crate) ending: Ending,
    /// What is to be appended.
    pub(crate) records: Vec<Record>,
    /// The mark to be made, if it is done and has a key.
    pub(crate) mark: Option<Mark>,
    /// How many records are in a transaction that is under way.
    lent: usize,
    /// Whether its mark is.
    mark_lent: bool,
}

impl Settling {
    /// A message that was handled now.
    pub(crate) fn done(
        context: &Context,
        mut item: InHand,
        records: Vec<Record>,
        scope: &Arc<Scope>,
        now: EpochMs,
    ) -> Self {
        let turn = item.context.turn;
        let mark = item.key.as_mut().and_then(|held| {
            let (ttl, key) = (context.mark_ttl()?, std::mem::take(&mut held.key));
            Some(Mark { scope: Arc::clone(scope), key, turn, expires: now.saturating_add(ttl) })
        });
        Self { item, ending: Ending::Done, records, mark, lent: 0, mark_lent: false }
    }

    /// A message that is put off for `delay`.
    pub(crate) fn retry(
        context: &Context,
        item: InHand,
        outcome: &Outcome,
        delay: Duration,
    ) -> Self {
        let record = context.companion_record(&item, outcome, Some(delay));
        Self {
            item,
            ending: Ending::Retry(delay),
            records: vec![record],
            mark: None,
            lent: 0,
            mark_lent: false,
        }
    }

    /// A message that is put behind an earlier one of its key, into this tier.
    pub(crate) fn behind(context: &Context, item: InHand, tier: &Topic, delay: Duration) -> Self {
        let record = context.behind_record(&item, tier, delay);
        Self {
            item,
            ending: Ending::Behind,
            records: vec![record],
            mark: None,
            lent: 0,
            mark_lent: false,
        }
    }

    /// Whether its record is a copy of it in a tier.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self.ending, Ending::Retry(_) | Ending::Behind)
    }

    /// How far the copy has come, if it goes on.
    pub(crate) fn progress(&self) -> Option<Progress> {
        let found = self.item.provenance.as_ref();
        let redrives = found.map_or(0, |found| found.redrive_count());
        let attempts = self.item.context.attempt;
        match self.ending {
            Ending::Retry(_) => Some(Progress { redrives, attempts, waits: 0 }),
            Ending::Behind => {
                let waits = found.map_or(0, |found| found.waits).saturating_add(1);
                Some(Progress { redrives, attempts: attempts.saturating_sub(1), waits })
            }
            Ending::Done | Ending::Dead(_) => None,
        }
    }

    /// A message that becomes a dead letter.
    pub(crate) fn dead(context: &Context, item: InHand, outcome: &Outcome) -> Self {
        let record = context.companion_record(&item, outcome, None);
        let ending = Ending::Dead(outcome.kind().to_owned());
        Self { item, ending, records: vec![record], mark: None, lent: 0, mark_lent: false }
    }

    fn bytes(&self) -> usize {
        self.records.iter().map(Record::payload_bytes).sum()
    }

    /// The log refused one of its records for good: the message becomes a dead letter, a dead letter
    /// one with minimal headers.
    fn refused(&mut self, context: &Context, error: &RecordError) -> Result<(), PipelineError> {
        let kind = match error {
            RecordError::TooLarge { .. } => FaultKind::Oversize,
            RecordError::UnknownTopic { .. } | RecordError::Denied { .. } => FaultKind::Denied,
        };
        let is_dead = matches!(self.ending, Ending::Dead(_));
        let minimal = self.records.first().is_some_and(|r| headers::is_minimal(&r.headers));
        match error {
            RecordError::TooLarge { .. } if is_dead && !minimal => {
                for record in &mut self.records {
                    record.headers = headers::minimal(&record.headers);
                }
            }
            _ if is_dead => {
                return Err(PipelineError::Stopped(format!(
                    "pipeline {}: the dead letter of {} is refused: {error}; nothing is lost, the message stays uncommitted: mend the dead-letter topic and start again",
                    context.spec.name,
                    self.item.message.position(),
                )));
            }
            _ => {
                let outcome = Outcome::Fault(Fault {
                    kind,
                    reason: format!("the log refused what the message caused: {error}"),
                    backtrace: None,
                });
                self.ending = Ending::Dead(kind.as_str().to_owned());
                self.records = vec![context.companion_record(&self.item, &outcome, None)];
                self.mark = None;
            }
        }
        Ok(())
    }
}

/// What the log has acknowledged.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    /// The messages that are settled by it; their records are gone.
    pub(crate) settled: Vec<Settling>,
    /// Where the copies of those that were put off stand, as far as the log tells.
    pub(crate) copies: Vec<(usize, Appended)>,
    /// How many bytes of records are off the way, as they were counted when they were taken on.
    pub(crate) output_bytes: usize,
    /// The commit that went with it (`exactly_once`).
    pub(crate) committed: Option<Committed>,
}

/// The bytes of records that these messages bring to the log.
pub(crate) fn output_bytes(settling: &[Settling]) -> usize {
    settling.iter().map(Settling::bytes).sum()
}

/// Appends what these messages caused and marks their keys (`at_least_once`, `at_most_once`).
///
/// # Errors
/// When the pipeline must stop or has lost the partition; what was not acknowledged is not settled.
pub(crate) async fn append(
    context: Arc<Context>,
    consumer: Arc<dyn Consumer>,
    mut settling: Vec<Settling>,
) -> Result<Acknowledged, PipelineError> {
    if context.marks_go_with_records() && settling.iter().any(|one| one.mark.is_some()) {
        // A log that takes marks as they are has both in one write: half of the cost, and no crash between.
        return transact(context, consumer, settling, None).await;
    }
    let output_bytes = output_bytes(&settling);
    let mut copies = Vec::new();
    // Which messages have records that are not in the log yet: all at first, later the refused.
    let mut left: Vec<usize> = (0..settling.len()).collect();
    while !left.is_empty() {
        let mut owners = Vec::new();
        let mut records = Vec::new();
        for index in left.drain(..) {
            let Some(one) = settling.get(index) else { continue };
            owners.extend(std::iter::repeat_n(index, one.records.len()));
            records.extend(&one.records);
        }
        if records.is_empty() {
            break;
        }
        let log = &context.ports.log;
        let results = context.until_available("append", || log.append(&records)).await?;
        for (owner, result) in owners.into_iter().zip(results) {
            let Some(one) = settling.get_mut(owner) else { continue };
            match result {
                Ok(appended) if one.goes_on() => {
                    copies.push((owner, appended));
                }
                Ok(_) => {}
                // Refused already for an earlier record: its dead letter is on the way.
                Err(_) if left.contains(&owner) => {}
                Err(error) => {
                    one.refused(&context, &error)?;
                    left.push(owner);
                }
            }
        }
    }
    let marks: Vec<Mark> = settling.iter_mut().filter_map(|one| one.mark.take()).collect();
    if !marks.is_empty() {
        let store = context.store()?;
        context.until_available("idempotency mark", || store.mark(marks.clone())).await?;
    }
    Ok(Acknowledged { settled: settling, copies, output_bytes, committed: None })
}

/// Appends, marks and (`exactly_once`) commits in one transaction.
///
/// # Errors
/// As [`append`]; of a transaction that failed nothing is visible.
pub(crate) async fn transact(
    context: Arc<Context>,
    consumer: Arc<dyn Consumer>,
    mut settling: Vec<Settling>,
    committed: Option<Committed>,
) -> Result<Acknowledged, PipelineError> {
    let output_bytes = output_bytes(&settling);
    let mut wait = crate::pipeline::Backoff::default();
    let mut lent = lend(&context, &mut settling, committed.as_ref())?;
    loop {
        let in_round = committed.is_some().then(|| context.rounds.enter());
        let answer = consumer.transact(Arc::clone(&lent.transaction)).await;
        drop(in_round);
        match answer {
            Ok(()) => break,
            Err(TransactError::Offender { index, error }) => {
                let owner = take_back(&mut settling, lent, index);
                let one = owner.and_then(|owner| settling.get_mut(owner)).ok_or_else(|| {
                    PipelineError::Stopped(format!(
                        "pipeline {}: an idempotency mark is refused: {error}; nothing is lost, its message stays uncommitted: mend the topic and start again",
                        context.spec.name,
                    ))
                })?;
                one.refused(&context, &error)?;
                lent = lend(&context, &mut settling, committed.as_ref())?;
            }
            Err(TransactError::Log(error)) => {
                context.or_wait("transaction", error, &mut wait).await?;
            }
        }
    }
    if !lent.marks.is_empty() {
        let store = context.store()?;
        context.until_available("idempotency copy", || store.marked(&lent.marks)).await?;
    }
    take_back(&mut settling, lent, 0);
    Ok(Acknowledged { settled: settling, copies: Vec::new(), output_bytes, committed })
}

/// What messages have in a transaction.
struct Lent {
    transaction: Arc<Transaction>,
    /// Their marks, where the log has records of them instead.
    marks: Vec<Mark>,
}

/// The transaction of these messages: their records and marks go into it, and come back by [`take_back`]. The log may
/// be asked more than once, and there are many of them, so they are lent instead of copied. The records of marks,
/// where there are any, stand behind all others, and are nobody's.
fn lend(
    context: &Context,
    settling: &mut [Settling],
    committed: Option<&Committed>,
) -> Result<Lent, PipelineError> {
    let mut records = Vec::with_capacity(settling.iter().map(|one| one.records.len()).sum());
    for one in settling.iter_mut() {
        one.lent = one.records.len();
        records.append(&mut one.records);
    }
    let mut marks = Vec::new();
    for one in settling.iter_mut() {
        one.mark_lent = one.mark.is_some();
        marks.extend(one.mark.take());
    }
    let mut beside = Vec::new();
    if !marks.is_empty()
        && let Some(bearers) = context.store()?.records(&marks)
    {
        records.extend(bearers);
        beside = std::mem::take(&mut marks);
    }
    let commits = committed.map(|committed| committed.commits.clone()).unwrap_or_default();
    let transaction = Arc::new(Transaction { records, marks, commits });
    Ok(Lent { transaction, marks: beside })
}

/// Gives records and marks back to their messages; says whose the record at `index` is.
fn take_back(settling: &mut [Settling], lent: Lent, index: usize) -> Option<usize> {
    let Transaction { records, marks, .. } = Arc::unwrap_or_clone(lent.transaction);
    let mut records = records.into_iter();
    let mut marks = marks.into_iter().chain(lent.marks);
    let (mut owner, mut given) = (None, 0);
    for (number, one) in settling.iter_mut().enumerate() {
        one.records.extend(records.by_ref().take(one.lent));
        given += std::mem::take(&mut one.lent);
        if std::mem::take(&mut one.mark_lent) {
            one.mark = marks.next();
        }
        if owner.is_none() && index < given {
            owner = Some(number);
        }
    }
    owner
}

#[cfg(test)]
mod tests;
