//! Consumer: one member of a group, which reads the partitions it attached.
//!
//! Invariants: a position moves only when its messages are handed over, with no wait in between, so
//! a dropped `next` loses nothing. A partition's attachment ends with its release, and what was
//! being read for it is thrown away.
//!
//! Limits: what is read ahead of the store is at most [`AHEAD_BYTES_MAX`] over all partitions.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use millstream_core::log::{
    Batch, Commit, Commits, Consumer, Event, LogError, Room, Subscription, TransactError,
    Transaction, source_of,
};
use millstream_core::message::{Offset, Partition, Topic};

use crate::groups::{Mailbox, Member};
use crate::locks::lock;
use crate::reading::{STRETCH_BYTES_MAX, STRETCH_BYTES_MIN, messages_of, stretch};
use crate::record_batch::StoredBatch;
use crate::shared::Shared;
use crate::topics::PartitionState;

/// What may be read ahead, in bytes.
const AHEAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A member of a consumer group of an embedded log.
pub(crate) struct EmbeddedConsumer {
    shared: Arc<Shared>,
    member: Member,
    topics: Vec<Topic>,
    mailbox: Arc<Mailbox>,
    reading: Mutex<Reading>,
}

#[derive(Default)]
struct Reading {
    attached: Vec<Attached>,
    /// Whose turn it is.
    turn: usize,
    /// Tells attachments of one partition apart.
    attachments: u64,
}

struct Attached {
    state: Arc<PartitionState>,
    attachment: u64,
    position: Offset,
    paused: bool,
    /// Batches read from the store, from the position on.
    ahead: VecDeque<StoredBatch>,
}

/// What there is to do for the next event.
enum Next {
    Hand(Batch),
    Read { state: Arc<PartitionState>, attachment: u64, from: Offset, bytes_max: usize },
    Wait,
}

impl EmbeddedConsumer {
    /// Joins a group.
    pub(crate) fn join(shared: Arc<Shared>, subscription: Subscription) -> Self {
        let mailbox = Arc::new(Mailbox::default());
        let topics = subscription.topics;
        let member = shared.groups.join(&subscription.group, topics.clone(), mailbox.clone());
        shared.queue.wake();
        Self { shared, member, topics, mailbox, reading: Mutex::default() }
    }

    fn next_step(&self, room: Room) -> Result<Next, LogError> {
        let mut reading = lock(&self.reading);
        let count = reading.attached.len();
        let stretch_bytes =
            (AHEAD_BYTES_MAX / count.max(1)).clamp(STRETCH_BYTES_MIN, STRETCH_BYTES_MAX);
        for step in 0..count {
            let index = (reading.turn + step) % count;
            let Some(attached) = reading.attached.get_mut(index) else { continue };
            if attached.paused {
                continue;
            }
            match self.look(attached, room, stretch_bytes)? {
                Next::Wait => {}
                hand @ Next::Hand(_) => {
                    reading.turn = (index + 1) % count;
                    return Ok(hand);
                }
                read @ Next::Read { .. } => {
                    reading.turn = index;
                    return Ok(read);
                }
            }
        }
        Ok(Next::Wait)
    }

    fn look(&self, attached: &mut Attached, room: Room, bytes: usize) -> Result<Next, LogError> {
        let state = attached.state.clone();
        let start = state.start();
        let moved = attached.position < start;
        if moved {
            attached.position = start;
            attached.ahead.clear();
        }
        let from = attached.position;
        let end = state.end();
        if from >= end {
            if !moved {
                return Ok(Next::Wait);
            }
            let partition = state.source.clone();
            return Ok(Next::Hand(Batch { partition, messages: Vec::new(), next: from, end }));
        }
        while attached.ahead.front().is_some_and(|batch| batch.last < from) {
            attached.ahead.pop_front();
        }
        let holds = attached.ahead.front().is_some_and(|batch| batch.base <= from);
        let tail;
        let batches: &[StoredBatch] = if holds {
            attached.ahead.make_contiguous()
        } else {
            attached.ahead.clear();
            tail = state.tail_from(from, room.bytes);
            &tail
        };
        if batches.is_empty() {
            let attachment = attached.attachment;
            return Ok(Next::Read { state, attachment, from, bytes_max: bytes });
        }
        let batch = messages_of(&state, batches, from, room, || self.shared.store())?;
        attached.position = batch.next;
        Ok(Next::Hand(batch))
    }

    fn keep_ahead(&self, attachment: u64, from: Offset, batches: Vec<StoredBatch>) {
        let mut reading = lock(&self.reading);
        let attached = reading.attached.iter_mut().find(|a| a.attachment == attachment);
        if let Some(attached) = attached.filter(|attached| attached.position == from) {
            attached.ahead = batches.into();
        }
    }

    fn detach(&self, gone: impl Fn(&Partition) -> bool) {
        let signal = &self.mailbox.signal;
        lock(&self.reading).attached.retain(|attached| {
            let keep = !gone(&attached.state.source);
            if !keep {
                attached.state.unwatch(signal);
            }
            keep
        });
    }

    fn set_paused(&self, partitions: &[Partition], paused: bool) {
        for attached in &mut lock(&self.reading).attached {
            if partitions.contains(&attached.state.source) {
                attached.paused = paused;
            }
        }
        if !paused {
            self.mailbox.signal.notify_one();
        }
    }

    fn fenced(&self, partition: &Partition) -> Result<(), LogError> {
        self.shared.groups.check(&self.member, partition).map_err(LogError::Fenced)
    }

    fn leave(&self) {
        self.detach(|_| true);
        self.shared.groups.leave(&self.member);
        self.shared.queue.wake();
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        // A member that just vanishes (its task was dropped) must not keep its partitions.
        self.leave();
    }
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn next(&self, room: Room) -> Result<Event, LogError> {
        loop {
            if let Some(event) = lock(&self.mailbox.events).pop_front() {
                return Ok(event);
            }
            if self.shared.is_closing() {
                return Err(self.shared.closed());
            }
            if let Some(broken) = self.shared.broken() {
                return Err(broken);
            }
            let step = if room.messages == 0 { Next::Wait } else { self.next_step(room)? };
            match step {
                Next::Hand(batch) => return Ok(Event::Messages(batch)),
                Next::Read { state, attachment, from, bytes_max } => {
                    let batches = stretch(&self.shared, state, from, bytes_max).await?;
                    self.keep_ahead(attachment, from, batches);
                }
                // A permit is kept if it was told since we looked.
                Next::Wait => self.mailbox.signal.notified().await,
            }
        }
    }

    async fn attach(&self, partition: &Partition, from: Offset) -> Result<(), LogError> {
        self.fenced(partition)?;
        let state = self.shared.partition(partition)?;
        let end = state.end();
        if from > end {
            return Err(LogError::Fatal(format!(
                "{partition} cannot be read from offset {from}: it ends at {end}; the offset is of \
                 another log, or this one was replaced: reset the group's commit"
            )));
        }
        let mut reading = lock(&self.reading);
        reading.attachments += 1;
        let attachment = reading.attachments;
        let known = reading.attached.iter_mut().find(|a| a.state.source == *partition);
        if let Some(attached) = known {
            attached.attachment = attachment;
            attached.position = from;
            attached.ahead.clear();
        } else {
            state.watch(&self.mailbox.signal);
            reading.attached.push(Attached {
                state,
                attachment,
                position: from,
                paused: false,
                ahead: VecDeque::new(),
            });
        }
        drop(reading);
        self.mailbox.signal.notify_one();
        Ok(())
    }

    fn pause(&self, partitions: &[Partition]) {
        self.set_paused(partitions, true);
    }

    fn resume(&self, partitions: &[Partition]) {
        self.set_paused(partitions, false);
    }

    async fn committed(&self, partitions: &[Partition]) -> Result<Vec<Option<Commit>>, LogError> {
        crate::log::committed(&self.shared, &self.member.group, partitions).await
    }

    async fn commit(&self, commits: Commits) -> Result<(), LogError> {
        let transaction = Transaction { commits, ..Transaction::default() };
        self.transact(Arc::new(transaction)).await.map_err(|error| match error {
            TransactError::Log(error) => error,
            // There is no record to offend.
            offender @ TransactError::Offender { .. } => LogError::Fatal(offender.to_string()),
        })
    }

    async fn transact(&self, transaction: Arc<Transaction>) -> Result<(), TransactError> {
        crate::log::transact(&self.shared, Some(self.member.clone()), transaction).await
    }

    async fn release(&self, partitions: &[Partition]) {
        self.detach(|attached| {
            partitions.iter().any(|released| {
                let beside = match source_of(&attached.topic, &self.topics) {
                    Some(source) => *source == released.topic,
                    // A companion that names no source stays while another partition of its number
                    // is owned; `check` refuses it afterwards.
                    None => true,
                };
                beside && attached.number == released.number
            })
        });
        self.shared.groups.release(&self.member, partitions);
        self.shared.queue.wake();
    }

    async fn close(&self) {
        self.leave();
    }
}
