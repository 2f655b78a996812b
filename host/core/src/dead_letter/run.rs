//! Run: one redrive or purge at a time on a dead-letter topic, each batch of it all or nothing.
//!
//! A batch is the copies, the record of the states they change, and the run's own record with one more batch counted:
//! they are appended together (`Log::writer`), so a process that is killed leaves either all of them or none, and what
//! it had on the wire never lands. Who comes next goes by the states alone.
//!
//! Who is at it stands in the run's record, and is replaced with every batch, and every [`RENEW_AFTER`] while nothing is
//! changed. Another run is refused while the record of one that has not ended changes, and takes over when it did not
//! for [`LEASE`], or its process is known to be gone. That is courtesy: should the other live all the same (stopped for
//! longer, cut off), its writer's name is taken, and it is told so.
//!
//! An append without an answer is looked for: the name is taken anew, which settles it, and the run's record tells.
//! If that record is another's by then, this run ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::state_record::{self, Owner, RunRecord};
use super::states::{States, Until};
use super::{DeadLetterError, log_error};
use crate::log::{
    Log, LogError, RecordError, TopicSpec, TransactError, WRITER_NAME_BYTES_MAX, Writer,
};
use crate::message::{EpochMs, Partition, Record};

/// How long the record of a run must stand still before another takes over.
pub const LEASE: Duration = Duration::from_secs(10);
/// How often a run shows that it lives.
const RENEW_AFTER: Duration = Duration::from_secs(3);
/// How often the record of another is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long an append that got no answer is asked about.
const GIVE_UP_AFTER: Duration = Duration::from_secs(120);
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// A run, and what it needs of the log.
pub(super) struct Run<'a> {
    log: &'a dyn Log,
    /// The dead-letter topic.
    topic: String,
    writer_name: String,
    writer: Option<Arc<dyn Writer>>,
    /// Partition 0, where the run's record is.
    states: States,
    topics: Vec<TopicSpec>,
    /// The record as it is known to be in the log: ours, or of whoever was before.
    seen: Option<RunRecord>,
    record: RunRecord,
    renewed: Instant,
    /// Letters that a killed run of the same had changed.
    pub(super) resumed: Option<u64>,
}

/// Who asks for a run, and for what.
pub(super) struct Asked<'a> {
    pub(super) id: &'a str,
    pub(super) at: EpochMs,
    pub(super) owner: &'a Owner,
    pub(super) asked: &'a str,
    pub(super) writer_prefix: &'a str,
    pub(super) is_gone: &'a (dyn Fn(&Owner) -> bool + Sync),
}

impl<'a> Asked<'a> {
    pub(super) fn new(id: &'a str, at: EpochMs, owner: &'a Owner, asked: &'a str) -> Self {
        Self { id, at, owner, asked, writer_prefix: "", is_gone: &|_| false }
    }
}

impl<'a> Run<'a> {
    /// Waits for another run to be seen at work or dead, and takes its place if it is.
    pub(super) async fn begin(
        log: &'a dyn Log,
        topics: &[TopicSpec],
        topic: &str,
        asked: &Asked<'_>,
    ) -> Result<Self, DeadLetterError> {
        let mut states = States::of(&Partition::new(topic, 0));
        states.read(log, topics, Until::Readable).await?;
        if let Some(other) = states.run().filter(|run| !run.ended).cloned()
            && !(asked.is_gone)(&other.owner)
        {
            tracing::warn!(
                id = other.id,
                by = other.owner.name,
                topic,
                "another redrive or purge has not ended: waiting up to {LEASE:?} to see whether it is at work"
            );
            let deadline = Instant::now() + LEASE;
            while Instant::now() < deadline {
                tokio::time::sleep(LOOK_EVERY).await;
                states.read(log, topics, Until::Readable).await?;
                match states.run() {
                    Some(run) if run.ended => break,
                    Some(run) if *run != other => return Err(at_work(topic, run)),
                    _ => {}
                }
            }
        }
        let mut name = format!("{}millstream-dead-letters-{topic}", asked.writer_prefix);
        name.truncate(name.floor_char_boundary(WRITER_NAME_BYTES_MAX));
        let observed = states.run().cloned();
        let writer = take(log, &name, Instant::now() + GIVE_UP_AFTER).await?;
        // The last batch of one that was killed may have come through just now; it is the same run all the same.
        states.read(log, topics, Until::End).await?;
        if let Some(run) = states.run().filter(|run| !run.ended)
            && observed.is_none_or(|observed| observed.claim != run.claim)
            && !(asked.is_gone)(&run.owner)
        {
            return Err(at_work(topic, run));
        }
        let seen = states.run().cloned();
        let mut record =
            RunRecord::new(asked.id, asked.at, asked.owner.clone(), asked.asked.to_owned());
        let killed = seen.as_ref().filter(|run| !run.ended && run.asked == asked.asked);
        let resumed = killed.map(|run| run.letters);
        if let Some(run) = killed {
            (record.id, record.letters) = (run.id.clone(), run.letters);
        }
        record.batches = seen.as_ref().map_or(0, |run| run.batches);
        let mut run = Self {
            log,
            topic: topic.to_owned(),
            writer_name: name,
            writer: Some(writer),
            states,
            topics: topics.to_vec(),
            seen,
            record,
            renewed: Instant::now(),
            resumed,
        };
        run.must_be_written(&[], 0).await?;
        Ok(run)
    }

    /// Names the run: that of a killed one if this goes on with it.
    pub(super) fn id(&self) -> &str {
        &self.record.id
    }

    /// Letters changed, those of a killed run included.
    pub(super) fn letters(&self) -> u64 {
        self.record.letters
    }

    /// Appends all of these, with the run's record, which counts so many letters more. Says which record was refused, if
    /// one was: then nothing is appended.
    pub(super) async fn append(
        &mut self,
        records: &[Record],
        letters: u64,
    ) -> Result<Option<(usize, RecordError)>, DeadLetterError> {
        let mut next = self.record.clone();
        next.batches = next.batches.saturating_add(1);
        next.letters = next.letters.saturating_add(letters);
        let mut all = records.to_vec();
        all.push(next.record(self.states.partition()));
        let give_up = Instant::now() + GIVE_UP_AFTER;
        loop {
            let written = match self.writer(&next, give_up).await? {
                // It is there: the answer was lost.
                None => Ok(()),
                Some(writer) => writer.append_all(&all).await,
            };
            match written {
                Ok(()) => {
                    (self.seen, self.record) = (Some(next.clone()), next);
                    self.renewed = Instant::now();
                    return Ok(None);
                }
                Err(TransactError::Offender { index, error }) if index < records.len() => {
                    return Ok(Some((index, error)));
                }
                Err(TransactError::Offender { error, .. }) => return Err(self.refused(&error)),
                Err(TransactError::Log(error @ LogError::Fatal(_))) => {
                    return Err(log_error(self.doing(), error));
                }
                Err(TransactError::Log(error)) => {
                    self.writer = None;
                    if Instant::now() >= give_up {
                        return Err(log_error(self.doing(), error));
                    }
                    tracing::info!(topic = self.topic, %error, "looking what became of the last batch");
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    /// The same for records of which none may be refused.
    pub(super) async fn must_be_written(
        &mut self,
        records: &[Record],
        letters: u64,
    ) -> Result<(), DeadLetterError> {
        match self.append(records, letters).await? {
            None => Ok(()),
            Some((_, error)) => Err(self.refused(&error)),
        }
    }

    /// Shows that this run lives, if it is time to.
    pub(super) async fn renew(&mut self) -> Result<(), DeadLetterError> {
        if self.renewed.elapsed() < RENEW_AFTER {
            return Ok(());
        }
        self.must_be_written(&[], 0).await
    }

    /// The run came to its end.
    pub(super) async fn end(&mut self) -> Result<(), DeadLetterError> {
        self.record.ended = true;
        self.must_be_written(&[], 0).await
    }

    /// The writer that may append `next`; `None` if it is in the log already. Takes the name if it was lost.
    async fn writer(
        &mut self,
        next: &RunRecord,
        give_up: Instant,
    ) -> Result<Option<Arc<dyn Writer>>, DeadLetterError> {
        if let Some(writer) = &self.writer {
            return Ok(Some(Arc::clone(writer)));
        }
        // First looked, then taken: whoever has taken over is not to be disturbed.
        self.look(next, Until::Readable).await?;
        let writer = take(self.log, &self.writer_name, give_up).await?;
        self.writer = Some(Arc::clone(&writer));
        Ok((!self.look(next, Until::End).await?).then_some(writer))
    }

    /// Whether `next` is in the log; fails if another's record is.
    async fn look(&mut self, next: &RunRecord, until: Until) -> Result<bool, DeadLetterError> {
        self.states.read(self.log, &self.topics, until).await?;
        match self.states.run() {
            Some(run) if run == next => Ok(true),
            run if run == self.seen.as_ref() => Ok(false),
            Some(run) => Err(at_work(&self.topic, run)),
            None => Ok(false),
        }
    }

    fn doing(&self) -> String {
        format!("writing what became of dead letters of {}", self.topic)
    }

    fn refused(&self, error: &RecordError) -> DeadLetterError {
        DeadLetterError::Refused(format!(
            "{}: {error}: let {} take records",
            self.doing(),
            self.states.partition().topic
        ))
    }
}

/// Takes a writer's name.
async fn take(
    log: &dyn Log,
    name: &str,
    give_up: Instant,
) -> Result<Arc<dyn Writer>, DeadLetterError> {
    loop {
        match log.writer(name).await {
            Ok(writer) => return Ok(writer),
            Err(error @ (LogError::Unavailable(_) | LogError::Fenced(_)))
                if Instant::now() < give_up =>
            {
                tracing::info!(name, %error, "asking again");
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Err(error) => return Err(log_error(format!("taking the writer's name {name}"), error)),
        }
    }
}

fn at_work(topic: &str, run: &RunRecord) -> DeadLetterError {
    DeadLetterError::Refused(format!(
        "a redrive or purge of {topic} is under way: {} by {}, {} letters so far: wait for its end",
        run.id, run.owner.name, run.letters
    ))
}

/// Records that remove the states of letters that are gone.
pub(super) fn removals(states: &Partition, keys: Vec<Bytes>) -> Vec<Record> {
    keys.into_iter().map(|key| state_record::removal(states, key)).collect()
}
