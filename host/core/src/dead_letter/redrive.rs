//! Redrive: dead letters back to where they are taken up again. What it promises stands in the header of
//! `dead_letter`, how a batch is written in that of `run`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::filter::States as FilterStates;
use super::letter::Letter;
use super::run::{Asked, Run, removals};
use super::scan::Scan;
use super::state_record::{self, Change, Owner, State};
use super::states::{States, Until};
use super::target::{Target, Targets};
use super::trail::Trail;
use super::{DeadLetterError, DeadLetters, Filter, Place};
use crate::headers::{self, Redrive};
use crate::log::RecordError;
use crate::message::{EpochMs, Offset, Record};
use crate::names::REDRIVE_DELAY;

/// Letters that are not sent, named in the report one by one up to this many.
const NAMED_MAX: usize = 100;
/// Letters that go in one batch at most.
const SENT_AT_ONCE_MAX: usize = 1_000;
/// Records of states of letters that are gone, removed with one batch.
const REMOVED_AT_ONCE_MAX: usize = 1_000;

/// Which letters to put back, how, and how it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedriveRequest {
    /// Which letters: open ones, or with [`FilterStates::Only`] parked ones.
    pub filter: Filter,
    /// Where to; `None` is the pipeline's redrive tier, and for a topic that is no pipeline's the source.
    pub to: Option<Target>,
    /// At most so many; `None` is all there are when it begins.
    pub limit: Option<u64>,
    /// At most so many a second.
    pub per_second: Option<NonZeroU32>,
    /// Names this redrive, in `millstream-redrive-id`; nothing else has this name.
    pub id: String,
    /// The time now, for `millstream-redrive-at`.
    pub at: EpochMs,
    /// Who asks for it.
    pub owner: Owner,
    /// Only count; write nothing.
    pub dry_run: bool,
}

/// How far a redrive or purge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Offsets read, over all partitions.
    pub read: u64,
    /// Offsets to read.
    pub total: u64,
    /// Letters put back.
    pub redriven: u64,
}

/// What a redrive did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RedriveReport {
    /// Names it.
    pub id: String,
    /// Letters that it had put back before it was killed, if it was, and this goes on with it.
    pub resumed_after: Option<u64>,
    /// Letters put back.
    pub redriven: u64,
    /// How many went to which topic.
    pub targets: BTreeMap<String, u64>,
    /// Letters that the filter or the limit left, as far as they were looked at; those done before are not counted.
    pub left: u64,
    /// Letters that were redriven too often and are parked now, or were before.
    pub parked: u64,
    /// Letters that cannot be put back there; they stay.
    pub foreign: u64,
    /// Letters that the log refused; they stay.
    pub refused: u64,
    /// The first of both, with the reason.
    pub refused_letters: Vec<Refused>,
    /// Whether nothing was written.
    pub dry_run: bool,
}

/// A letter that was not put back, though it was wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// `topic[partition]@offset` of the letter.
    pub position: String,
    /// Why.
    pub reason: String,
}

impl RedriveReport {
    fn note(&mut self, letter: &Letter, reason: String) {
        if self.refused_letters.len() < NAMED_MAX {
            let position = letter.message.position();
            self.refused_letters.push(Refused { position, reason });
        }
    }
}

/// Letters on their way into a batch.
#[derive(Default)]
struct Batch {
    sent: Vec<(Letter, Record)>,
    /// Those that are found to be parked now.
    parked: Vec<Offset>,
}

/// What the batches of one redrive have in common.
struct Sending<'a, 'b> {
    request: &'b RedriveRequest,
    run: Option<&'b mut Run<'a>>,
    report: &'b mut RedriveReport,
    change: Change,
    /// When the next batch may go.
    next_at: Instant,
}

impl<'a> DeadLetters<'a> {
    /// Puts letters back; see the header of the module for what it promises. `progress` is called
    /// after every batch.
    ///
    /// # Errors
    /// `Refused` before anything is sent if it would go where it must not, or another is under way; `Log` when the log
    /// fails: what `progress` told until then is done, and the same request goes on from there.
    pub async fn redrive(
        &self,
        request: &RedriveRequest,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<RedriveReport, DeadLetterError> {
        let wanted = request.filter.state;
        if !matches!(wanted, FilterStates::Open | FilterStates::Only(State::Open | State::Parked)) {
            return Err(DeadLetterError::Refused(
                "only open or parked letters are redriven: others were sent or given up already"
                    .to_owned(),
            ));
        }
        let default = match self.spec() {
            Some(_) => Target::Tier(REDRIVE_DELAY),
            None => Target::Source,
        };
        let target = request.to.clone().unwrap_or(default);
        let asked = serde_json::json!({
            "redrive": request.filter.describe(),
            "to": target.describe(),
            "limit": request.limit,
        });
        let asked = asked.to_string();
        let mut topics = self.topics().await?;
        let places = self.places(&request.filter, &topics)?;
        let redrive = |id: &str| Redrive { count: 0, id: id.to_owned(), at: request.at };
        let targets = Targets::check(self, target.clone(), &topics, &places, redrive(&request.id))?;
        if !request.dry_run {
            self.make_topics(&targets, &places, &topics).await?;
            topics = self.topics().await?;
        }
        let mut report = RedriveReport { dry_run: request.dry_run, ..RedriveReport::default() };
        let mut runs = match request.dry_run {
            true => Vec::new(),
            false => self.begin_runs(&places, &topics, request.asked(&asked)).await?,
        };
        // One that was killed goes on under its own name, in all of its topics.
        let resumed = runs.iter().find(|run| run.resumed.is_some());
        let id = resumed.map_or(&*request.id, |run| run.id()).to_owned();
        if resumed.is_some() {
            let of_it = runs.iter().filter(|run| run.id() == id);
            report.resumed_after = Some(of_it.map(|run| run.letters()).sum());
        }
        report.id.clone_from(&id);
        let targets = Targets::check(self, target.clone(), &topics, &places, redrive(&id))?;
        let to = target.describe();
        let trail = match request.dry_run {
            true => None,
            false => {
                let begun = (&*id, "redrive", Some(&*to));
                Some(Trail::begin(self, begun, &request.owner, &places, &asked).await?)
            }
        };
        let mut result = self
            .send_all(
                (request, &targets, &target),
                &places,
                &topics,
                &mut runs,
                &mut report,
                progress,
            )
            .await;
        for run in &mut runs {
            if result.is_ok() {
                result = run.end().await;
            }
        }
        if let Some(trail) = trail {
            result = trail.end(report.redriven, &report, result).await;
        }
        result.map(|()| report)
    }

    async fn send_all(
        &self,
        (request, targets, target): (&RedriveRequest, &Targets<'_>, &Target),
        places: &[Place],
        topics: &[crate::log::TopicSpec],
        runs: &mut [Run<'a>],
        report: &mut RedriveReport,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), DeadLetterError> {
        let mut scans = Vec::with_capacity(places.len());
        for place in places {
            scans.push(Scan::open(self.log, &place.partition).await?);
        }
        let mut told =
            Progress { read: 0, total: scans.iter().map(Scan::length).sum(), redriven: 0 };
        let mut before = 0;
        let change = Change {
            state: State::Redriven,
            id: report.id.clone(),
            at: request.at,
            by: request.owner.name.clone(),
            to: Some(target.describe()),
        };
        let at_once = request.per_second.map_or(SENT_AT_ONCE_MAX, |rate| {
            // Ten batches a second at most: as even as transactions of their cost allow.
            usize::try_from(rate.get().div_ceil(10)).unwrap_or(usize::MAX).min(SENT_AT_ONCE_MAX)
        });
        let mut next_at = Instant::now();
        for (place, mut scan) in places.iter().zip(scans) {
            let index = self.run_of(place, places);
            let run = runs.get_mut(index);
            let mut states = States::of(&place.partition);
            let until = if run.is_some() { Until::End } else { Until::Readable };
            states.read(self.log, topics, until).await?;
            if run.is_some() {
                states.must_be_of(&place.partition, scan.high())?;
            }
            let mut sending =
                Sending { request, run, report: &mut *report, change: change.clone(), next_at };
            sending.tidy(&mut states, scan.start()).await?;
            while !sending.is_full(0) {
                let Some(messages) = scan.next(self.log).await? else { break };
                let mut batch = Batch::default();
                for message in messages {
                    let letter = self.letter(message, place, &states);
                    sending.choose(letter, targets, place, &mut batch);
                    if batch.sent.len() >= at_once {
                        sending.send(&mut batch, &states).await?;
                    }
                }
                sending.send(&mut batch, &states).await?;
                if let Some(run) = &mut sending.run {
                    run.renew().await?;
                }
                told.read = before + scan.read();
                told.redriven = sending.report.redriven;
                progress(told);
            }
            next_at = sending.next_at;
            before += scan.length();
        }
        Ok(())
    }

    /// Topics that a log may lack which was filled by other means, or by an earlier version.
    async fn make_topics(
        &self,
        targets: &Targets<'_>,
        places: &[Place],
        topics: &[crate::log::TopicSpec],
    ) -> Result<(), DeadLetterError> {
        for place in places {
            let letters = topics.iter().find(|topic| topic.name == place.partition.topic);
            if let Some(tier) = letters.and_then(|letters| targets.missing_tier(place, letters)) {
                self.make(tier).await?;
            }
        }
        self.make_states_topics(places, topics).await
    }
}

impl RedriveRequest {
    fn asked<'b>(&'b self, asked: &'b str) -> Asked<'b> {
        Asked::new(&self.id, self.at, &self.owner, asked)
    }
}

impl Sending<'_, '_> {
    /// Whether the limit is reached with so many more.
    fn is_full(&self, more: usize) -> bool {
        let done = self.report.redriven + self.report.resumed_after.unwrap_or(0) + more as u64;
        self.request.limit.is_some_and(|limit| done >= limit)
    }

    fn choose(&mut self, letter: Letter, targets: &Targets<'_>, place: &Place, batch: &mut Batch) {
        let newly_parked = letter.state == State::Parked;
        if letter.state.is_closed() {
            return;
        }
        // What this very redrive sent and failed again is not sent once more when it is resumed.
        let sent_by = headers::redrive(&letter.message.headers);
        if sent_by.is_some_and(|redrive| redrive.id == self.change.id) {
            self.report.left += 1;
            return;
        }
        if !self.request.filter.takes(&letter) {
            let as_open = Filter { state: FilterStates::All, ..self.request.filter.clone() };
            if newly_parked && as_open.takes(&letter) {
                self.report.parked += 1;
                batch.parked.push(letter.message.offset);
            } else {
                self.report.left += 1;
            }
            return;
        }
        if self.is_full(batch.sent.len()) {
            self.report.left += 1;
            return;
        }
        match targets.copy(place, &letter) {
            Ok(copy) => batch.sent.push((letter, copy)),
            Err(reason) => {
                self.report.foreign += 1;
                self.report.note(&letter, reason);
            }
        }
    }

    /// Sends a batch and notes what became of its letters, all or nothing.
    async fn send(&mut self, batch: &mut Batch, states: &States) -> Result<(), DeadLetterError> {
        let Batch { mut sent, parked } = std::mem::take(batch);
        let parked: Vec<Offset> = parked
            .into_iter()
            // Those that are noted already stay as they are.
            .filter(|offset| states.state(*offset) == State::Open)
            .collect();
        if let Some(run) = &mut self.run {
            while !sent.is_empty() || !parked.is_empty() {
                let mut records: Vec<Record> = sent.iter().map(|(_, copy)| copy.clone()).collect();
                let offsets: Vec<Offset> = sent.iter().map(|(l, _)| l.message.offset).collect();
                if !offsets.is_empty() {
                    records.push(state_record::letters(states.partition(), &offsets, &self.change));
                }
                if !parked.is_empty() {
                    let change = Change { state: State::Parked, to: None, ..self.change.clone() };
                    records.push(state_record::letters(states.partition(), &parked, &change));
                }
                if self.request.per_second.is_some() {
                    pace(run, self.next_at).await?;
                }
                match run.append(&records, sent.len() as u64).await? {
                    None => break,
                    Some((index, error)) if index < sent.len() => {
                        let (letter, _) = sent.remove(index);
                        self.report.refused += 1;
                        self.report.note(&letter, error.to_string());
                    }
                    Some((_, error)) => return Err(not_noted(states, &error)),
                }
            }
        }
        if let Some(rate) = self.request.per_second {
            let for_these = Duration::from_secs_f64(sent.len() as f64 / f64::from(rate.get()));
            self.next_at = self.next_at.max(Instant::now()) + for_these;
        }
        self.report.redriven += sent.len() as u64;
        for (_, copy) in &sent {
            *self.report.targets.entry(copy.topic.to_string()).or_default() += 1;
        }
        Ok(())
    }

    /// Removes the states of letters that are gone.
    async fn tidy(&mut self, states: &mut States, start: Offset) -> Result<(), DeadLetterError> {
        let Some(run) = &mut self.run else { return Ok(()) };
        tidy(run, states, start).await
    }
}

/// Waits for the time of the next batch, and shows meanwhile that the run lives.
async fn pace(run: &mut Run<'_>, next_at: Instant) -> Result<(), DeadLetterError> {
    while let Some(left) = next_at.checked_duration_since(Instant::now()).filter(|l| !l.is_zero()) {
        tokio::time::sleep(left.min(Duration::from_secs(1))).await;
        run.renew().await?;
    }
    Ok(())
}

/// Removes the states of letters that are gone, a part of them at a time.
pub(super) async fn tidy(
    run: &mut Run<'_>,
    states: &mut States,
    start: Offset,
) -> Result<(), DeadLetterError> {
    let keys = states.forget_below(start, REMOVED_AT_ONCE_MAX);
    if keys.is_empty() {
        return Ok(());
    }
    run.must_be_written(&removals(states.partition(), keys), 0).await
}

pub(super) fn not_noted(states: &States, error: &RecordError) -> DeadLetterError {
    DeadLetterError::Refused(format!(
        "what became of dead letters cannot be noted in {}: {error}: let the topic take records; nothing was sent",
        states.partition()
    ))
}
