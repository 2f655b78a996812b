//! Redrive: dead letters back to where the pipeline takes them up again. The order of its steps and
//! what a crash between them means stand in the header of `dead_letter`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Content, DeadLetterError, DeadLetters, Filter, Place, Scan, log_error, redriven_marker,
};
use crate::headers::{self, CompanionHeaders, Redrive};
use crate::log::{RecordError, TopicSpec};
use crate::message::{EpochMs, Message, Offset, Record, Topic};
use crate::names::{REDRIVE_DELAY, delay_text};

/// Letters the log refused, named in the report one by one up to this many.
const REFUSED_NAMED_MAX: usize = 100;

/// Which letters to put back, and how it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedriveRequest {
    /// Which letters.
    pub filter: Filter,
    /// At most so many; `None` is all there are when it begins.
    pub limit: Option<u64>,
    /// Names this redrive, in `millstream-redrive-id`.
    pub id: String,
    /// The time now, for `millstream-redrive-at`.
    pub at: EpochMs,
    /// Only count; write nothing.
    pub dry_run: bool,
}

/// How far a redrive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Offsets read, over all partitions so far.
    pub read: u64,
    /// Offsets to read in the partitions seen so far.
    pub total: u64,
    /// Letters put back.
    pub redriven: u64,
}

/// What a redrive did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RedriveReport {
    /// Letters put back.
    pub redriven: u64,
    /// How many went to which tier.
    pub tiers: BTreeMap<String, u64>,
    /// Letters that the filter or the limit left, as far as they were looked at.
    pub left: u64,
    /// Letters that are not this pipeline's to put back; `dlq list` says why.
    pub foreign: u64,
    /// Letters that the log refused; they stay.
    pub refused: u64,
    /// The first of them.
    pub refused_letters: Vec<Refused>,
    /// Whether nothing was written.
    pub dry_run: bool,
}

/// A letter that the log refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// `topic[partition]@offset` of the letter.
    pub position: String,
    /// What the log said.
    pub reason: String,
}

impl DeadLetters<'_> {
    /// Puts letters back; see the header of the module for what it promises. `progress` is called
    /// after every batch.
    ///
    /// # Errors
    /// `Refused` before anything is done if the templates name no tier of its own; `Log` when the log
    /// fails: what `progress` told until then is done, the rest is still there.
    pub async fn redrive(
        &self,
        request: &RedriveRequest,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<RedriveReport, DeadLetterError> {
        self.check_tiers()?;
        let mut report = RedriveReport { dry_run: request.dry_run, ..RedriveReport::default() };
        let mut before = Progress { read: 0, total: 0, redriven: 0 };
        for place in self.places(&request.filter).await? {
            if limit_reached(request, &report) {
                break;
            }
            let mut scan = Scan::open(self.log, &self.spec.group, &place.partition).await?;
            let tier = self.tier_of(&place.source);
            if !request.dry_run && scan.length() > 0 {
                self.ensure_tier(&place, &tier).await?;
            }
            before.total += scan.length();
            // Whether nothing was left behind so far, so that the partition's start may move.
            let mut whole = true;
            while !limit_reached(request, &report) {
                let Some(batch) = scan.next(self.log).await? else { break };
                let fates =
                    self.put_back(request, &place, &tier, &scan, batch, &mut report).await?;
                if !request.dry_run {
                    self.take_away(&place, &fates, &mut whole).await?;
                }
                let read = before.read + scan.read();
                progress(Progress { read, total: before.total, redriven: report.redriven });
            }
            before.read += scan.length();
        }
        Ok(report)
    }

    /// Appends the copies of those of a batch that are wanted, and tells what became of each message.
    async fn put_back(
        &self,
        request: &RedriveRequest,
        place: &Place,
        tier: &Topic,
        scan: &Scan,
        batch: Vec<Message>,
        report: &mut RedriveReport,
    ) -> Result<Vec<(Offset, Fate)>, DeadLetterError> {
        let mut fates = Vec::with_capacity(batch.len());
        let mut records = Vec::new();
        // Index into `fates` of each record.
        let mut owners = Vec::new();
        for message in batch {
            let offset = message.offset;
            let wanted = report.redriven + records.len() as u64;
            let fate = match self.content(place, &message) {
                _ if !scan.is_letter(&message) => Fate::Gone,
                content if !request.filter.takes(&message, &content) => Fate::Left,
                Content::Foreign { .. } => Fate::Foreign,
                Content::Ours(_) if request.limit.is_some_and(|limit| wanted >= limit) => {
                    Fate::Left
                }
                Content::Ours(found) => {
                    owners.push(fates.len());
                    records.push(copy(request, tier, *found, message));
                    Fate::Redriven
                }
            };
            fates.push((offset, fate));
        }
        if !request.dry_run && !records.is_empty() {
            let records: Vec<&Record> = records.iter().collect();
            let results = self.log.append(&records).await.map_err(|error| {
                log_error(format!("putting dead letters of {} into {tier}", place.partition), error)
            })?;
            // A result that is missing is no acknowledgement: the letter stays.
            let mut results = results.into_iter();
            for owner in owners {
                let Some((offset, fate)) = fates.get_mut(owner) else { continue };
                match results.next() {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        *fate = Fate::Refused;
                        report.note_refused(place, *offset, &error);
                    }
                    None => *fate = Fate::Left,
                }
            }
        }
        for (_, fate) in &fates {
            match fate {
                Fate::Gone | Fate::Refused => {}
                Fate::Left => report.left += 1,
                Fate::Foreign => report.foreign += 1,
                Fate::Redriven => {
                    report.redriven += 1;
                    *report.tiers.entry(tier.to_string()).or_default() += 1;
                }
            }
        }
        Ok(fates)
    }

    /// Removes what was put back as far as nothing below stays; marks the rest of it.
    async fn take_away(
        &self,
        place: &Place,
        fates: &[(Offset, Fate)],
        whole: &mut bool,
    ) -> Result<(), DeadLetterError> {
        let mut remove_before = None;
        let mut mark = Vec::new();
        for (offset, fate) in fates {
            match fate {
                Fate::Gone | Fate::Redriven if *whole => remove_before = offset.checked_add(1),
                Fate::Gone => {}
                Fate::Redriven => mark.push(*offset),
                Fate::Left | Fate::Foreign | Fate::Refused => *whole = false,
            }
        }
        let partition = &place.partition;
        if let Some(before) = remove_before {
            self.log.delete_before(partition, before).await.map_err(|error| {
                let doing = format!("removing what was redriven from {partition} below {before}");
                log_error(doing, error)
            })?;
        }
        if !mark.is_empty() {
            let doing = || format!("marking what was redriven in {partition}");
            let records = redriven_marker::records(partition, &self.spec.group, &mark);
            let records: Vec<&Record> = records.iter().collect();
            let results =
                self.log.append(&records).await.map_err(|error| log_error(doing(), error))?;
            if let Some(error) = results.into_iter().find_map(Result::err) {
                return Err(DeadLetterError::Refused(format!(
                    "{}: {error}; {} letters from offset {} on were put back and would be again: let the topic take records, or redrive without a filter",
                    doing(),
                    mark.len(),
                    mark.first().copied().unwrap_or_default(),
                )));
            }
        }
        Ok(())
    }

    /// The host makes the tier when the pipeline first runs; a log that was filled by other means may
    /// lack it.
    async fn ensure_tier(&self, place: &Place, tier: &Topic) -> Result<(), DeadLetterError> {
        let failed = |error| log_error(format!("creating the redrive tier {tier}"), error);
        let topics = self.log.topics().await.map_err(failed)?;
        let letters = topics.iter().find(|topic| topic.name == place.partition.topic);
        let Some(letters) = letters else { return Ok(()) };
        let enough =
            |topic: &&TopicSpec| topic.name == *tier && topic.partitions >= letters.partitions;
        if topics.iter().any(|topic| enough(&topic)) {
            return Ok(());
        }
        let spec = TopicSpec {
            name: tier.clone(),
            partitions: letters.partitions,
            // A retry must not vanish before it is handled.
            retention: None,
            retention_bytes: None,
            message_bytes_max: letters.message_bytes_max,
            append_time: true,
            compacted: false,
            replication: letters.replication,
        };
        self.log.create_topic(spec).await.map_err(failed)
    }

    /// A copy in a source topic would be another message, one in the dead-letter topic would come
    /// round for ever.
    fn check_tiers(&self) -> Result<(), DeadLetterError> {
        for source in &self.spec.topics {
            let tier = self.tier_of(source);
            let letters = self.spec.dead_letter.topic.topic(source, &self.spec.group, None);
            if tier == letters || self.spec.topics.contains(&tier) {
                return Err(DeadLetterError::Refused(format!(
                    "pipeline {}: the redrive tier of {source} would be {tier}, which is {}: change `retry.topic`",
                    self.spec.name,
                    if tier == letters { "its dead-letter topic" } else { "a source topic" },
                )));
            }
        }
        Ok(())
    }
}

fn limit_reached(request: &RedriveRequest, report: &RedriveReport) -> bool {
    request.limit.is_some_and(|limit| report.redriven >= limit)
}

/// What became of a message of the dead-letter partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// A marker, or a letter that an earlier run put back.
    Gone,
    /// Not wanted this time.
    Left,
    /// Not ours to put back.
    Foreign,
    /// The log did not take its copy.
    Refused,
    /// Its copy is in the tier (or would be, in a dry run).
    Redriven,
}

impl RedriveReport {
    fn note_refused(&mut self, place: &Place, offset: Offset, error: &RecordError) {
        self.refused += 1;
        if self.refused_letters.len() < REFUSED_NAMED_MAX {
            let position = format!("{}@{offset}", place.partition);
            self.refused_letters.push(Refused { position, reason: error.to_string() });
        }
    }
}

/// The message as it was, never tried since this redrive.
fn copy(
    request: &RedriveRequest,
    tier: &Topic,
    found: CompanionHeaders,
    letter: Message,
) -> Record {
    let count = found.redrive_count().saturating_add(1);
    let found = CompanionHeaders {
        attempt: 0,
        tier: Some(delay_text(REDRIVE_DELAY).into()),
        first_failed: None,
        last_failed: None,
        error: None,
        plugin: None,
        redrive: Some(Redrive { count, id: request.id.clone(), at: request.at }),
        ..found
    };
    Record {
        topic: tier.clone(),
        partition: Some(letter.partition),
        // The tier has append time; the message's own time is in its headers.
        timestamp: None,
        key: letter.key,
        value: letter.value,
        headers: headers::encode(&found, &letter.headers),
    }
}
