//! Purge: dead letters that are given up. They are marked as purged, and removed from the start of their partition as
//! far as nothing is left to do there; one behind a letter that stays is removed with it, or by the topic's retention.

use serde::Serialize;

use super::redrive::{not_noted, tidy};
use super::run::{Asked, Run};
use super::scan::Scan;
use super::state_record::{self, Change, Owner, State};
use super::states::{States, Until};
use super::trail::Trail;
use super::{DeadLetterError, DeadLetters, Filter, Place, Progress, log_error};
use crate::log::TopicSpec;
use crate::message::{EpochMs, Offset};

/// Which letters to give up, and how that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeRequest {
    /// Which letters.
    pub filter: Filter,
    /// At most so many; `None` is all there are when it begins.
    pub limit: Option<u64>,
    /// Names this purge.
    pub id: String,
    /// The time now.
    pub at: EpochMs,
    /// Who asks for it.
    pub owner: Owner,
    /// Only count; write nothing.
    pub dry_run: bool,
}

/// What a purge did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PurgeReport {
    /// Names it.
    pub id: String,
    /// Letters given up.
    pub purged: u64,
    /// Letters that the filter or the limit left, as far as they were looked at.
    pub left: u64,
    /// Messages that are not in the log any more, those that were redriven or purged before included.
    pub removed: u64,
    /// Whether nothing was written.
    pub dry_run: bool,
}

impl<'a> DeadLetters<'a> {
    /// Gives letters up.
    ///
    /// # Errors
    /// `Refused` if another redrive or purge is under way; `Log` when the log fails: what was done stands, and the same
    /// request goes on from there.
    pub async fn purge(
        &self,
        request: &PurgeRequest,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<PurgeReport, DeadLetterError> {
        let asked =
            serde_json::json!({ "purge": request.filter.describe(), "limit": request.limit });
        let asked = asked.to_string();
        let mut topics = self.topics().await?;
        let places = self.places(&request.filter, &topics)?;
        let mut runs = Vec::new();
        if !request.dry_run {
            self.make_states_topics(&places, &topics).await?;
            topics = self.topics().await?;
            let asked = Asked::new(&request.id, request.at, &request.owner, &asked);
            runs = self.begin_runs(&places, &topics, asked).await?;
        }
        let mut report = PurgeReport {
            id: request.id.clone(),
            dry_run: request.dry_run,
            ..PurgeReport::default()
        };
        let trail = match request.dry_run {
            true => None,
            false => {
                let begun = (&*request.id, "purge", None);
                Some(Trail::begin(self, begun, &request.owner, &places, &asked).await?)
            }
        };
        let mut result =
            self.purge_all(request, &places, &topics, &mut runs, &mut report, progress).await;
        for run in &mut runs {
            if result.is_ok() {
                result = run.end().await;
            }
        }
        if let Some(trail) = trail {
            result = trail.end(report.purged, &report, result).await;
        }
        result.map(|()| report)
    }

    async fn purge_all(
        &self,
        request: &PurgeRequest,
        places: &[Place],
        topics: &[TopicSpec],
        runs: &mut [Run<'a>],
        report: &mut PurgeReport,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), DeadLetterError> {
        let mut scans = Vec::with_capacity(places.len());
        for place in places {
            scans.push(Scan::open(self.log, &place.partition).await?);
        }
        let mut told =
            Progress { read: 0, total: scans.iter().map(Scan::length).sum(), redriven: 0 };
        let mut before = 0;
        for (place, mut scan) in places.iter().zip(scans) {
            let index = self.run_of(place, places);
            let mut run = runs.get_mut(index);
            let mut states = States::of(&place.partition);
            let until = if run.is_some() { Until::End } else { Until::Readable };
            states.read(self.log, topics, until).await?;
            if run.is_some() {
                states.must_be_of(&place.partition, scan.high())?;
            }
            if let Some(run) = &mut run {
                tidy(run, &mut states, scan.start()).await?;
            }
            while request.limit.is_none_or(|limit| report.purged < limit) {
                let Some(messages) = scan.next(self.log).await? else { break };
                let mut purged = Vec::new();
                for message in messages {
                    let letter = self.letter(message, place, &states);
                    let chosen = report.purged + purged.len() as u64;
                    if letter.state == State::Purged {
                        continue;
                    }
                    if request.limit.is_none_or(|limit| chosen < limit)
                        && request.filter.takes(&letter)
                    {
                        purged.push(letter.message.offset);
                    } else {
                        report.left += 1;
                    }
                }
                if let Some(run) = &mut run {
                    note(request, run, &mut states, &purged).await?;
                    run.renew().await?;
                }
                report.purged += purged.len() as u64;
                told = Progress { read: before + scan.read(), redriven: report.purged, ..told };
                progress(told);
            }
            if run.is_some() {
                report.removed += self.remove_closed(place, &states).await?;
            }
            before += scan.length();
        }
        Ok(())
    }

    /// Removes what lies at the start of a partition and needs nothing more. Says how much that was.
    async fn remove_closed(&self, place: &Place, states: &States) -> Result<u64, DeadLetterError> {
        let mut scan = Scan::open(self.log, &place.partition).await?;
        let start = scan.start();
        let (mut before, mut count) = (start, 0);
        'reading: while let Some(messages) = scan.next(self.log).await? {
            for message in messages {
                if !states.state(message.offset).is_closed() {
                    break 'reading;
                }
                before = message.offset.saturating_add(1);
                count += 1;
            }
            // Behind the last message there may be a gap that belongs to it.
            before = before.max(scan.seen());
        }
        if before > start {
            self.log.delete_before(&place.partition, before).await.map_err(|error| {
                let doing =
                    format!("removing what is closed of {} below {before}", place.partition);
                log_error(doing, error)
            })?;
        }
        Ok(count)
    }
}

async fn note(
    request: &PurgeRequest,
    run: &mut Run<'_>,
    states: &mut States,
    purged: &[Offset],
) -> Result<(), DeadLetterError> {
    if purged.is_empty() {
        return Ok(());
    }
    let change = Change {
        state: State::Purged,
        id: run.id().to_owned(),
        at: request.at,
        by: request.owner.name.clone(),
        to: None,
    };
    let record = state_record::letters(states.partition(), purged, &change);
    if let Some((_, error)) = run.append(std::slice::from_ref(&record), purged.len() as u64).await?
    {
        return Err(not_noted(states, &error));
    }
    states.put(purged.iter().map(|offset| *offset..=*offset), change);
    Ok(())
}
