//! Reader: reads partitions by hand, in no group, from exactly the offsets it is told.
//!
//! Beside the group's member, which owns and commits but reads nothing: so a partition is read from
//! where it is attached whatever the group does, source partitions and retry tiers alike, and a tier
//! causes no rebalance. Each partition has a queue of its own in librdkafka, so a paused one is just not
//! looked at; `rd_kafka_pause_partitions` would throw away what was fetched.
//!
//! Invariants:
//! - messages of a partition come in offset order, from the offset it was attached at;
//! - nothing of a partition comes before it is attached nor after it is detached;
//! - at the end of a partition the batch moves over markers and other gaps, so that lag reaches 0.
//!
//! Limit: each queue holds a 32nd of the pipeline's in-flight bytes, and one fetch more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::log::{Batch, LogError, Room};
use millstream_core::message::{Message, Offset, Partition};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::Notify;

use crate::client::Context;
use crate::errors::{self, Class};
use crate::polled::Polled;
use crate::records;

struct Attached {
    partition: Partition,
    queue: PartitionQueue<Context>,
    /// Set by librdkafka's thread when something comes into the empty queue.
    ready: Arc<AtomicBool>,
    paused: bool,
    next: Offset,
    /// Taken out of the queue, and left for the next batch because this one was full.
    held: Option<Message>,
}

#[derive(Default)]
struct State {
    attached: Vec<Attached>,
    /// Whose turn it is.
    turn: usize,
}

/// What a look at the queues came to.
pub(crate) enum Taken {
    /// Messages, or a gap that was passed.
    Batch(Batch),
    /// The offset where this partition would be read on is not there (any more).
    OutOfRange(Partition, Offset),
}

/// See the module.
pub(crate) struct Reader {
    consumer: Polled,
    state: Mutex<State>,
    /// Told when something may be there.
    wake: Arc<Notify>,
}

impl Reader {
    pub(crate) fn new(consumer: Polled, wake: Arc<Notify>) -> Self {
        Self { consumer, state: Mutex::default(), wake }
    }

    /// Starts reading at `from`, or goes on there.
    pub(crate) fn attach(&self, partition: &Partition, from: Offset) -> Result<(), LogError> {
        let failed = |error: &KafkaError| {
            errors::log_error(&format!("reading {partition} from offset {from}"), error)
        };
        self.detach(|attached| attached == partition);
        let number = records::raw_partition(partition.number);
        // Before it is assigned, or its first messages would come by the main queue.
        let queue = self.consumer.shared().split_partition_queue(&partition.topic, number);
        let mut queue = queue.ok_or_else(|| {
            LogError::Fatal(format!("{partition} cannot be read: no such topic name"))
        })?;
        let ready = Arc::new(AtomicBool::new(true));
        let (tell, wake) = (Arc::clone(&ready), Arc::clone(&self.wake));
        queue.set_nonempty_callback(move || {
            tell.store(true, Ordering::Release);
            wake.notify_one();
        });
        let mut list = TopicPartitionList::with_capacity(1);
        let offset = rdkafka::Offset::Offset(records::raw_offset(from));
        list.add_partition_offset(&partition.topic, number, offset).map_err(|e| failed(&e))?;
        self.consumer.incremental_assign(&list).map_err(|e| failed(&e))?;
        let partition = partition.clone();
        let held = None;
        let attached = Attached { partition, queue, ready, paused: false, next: from, held };
        self.lock().attached.push(attached);
        self.wake.notify_one();
        Ok(())
    }

    /// Reads these no more.
    pub(crate) fn detach(&self, gone: impl Fn(&Partition) -> bool) {
        let mut list = TopicPartitionList::new();
        self.lock().attached.retain(|attached| {
            let gone = gone(&attached.partition);
            if gone {
                let number = records::raw_partition(attached.partition.number);
                list.add_partition(&attached.partition.topic, number);
            }
            !gone
        });
        if list.count() > 0
            && let Err(error) = self.consumer.incremental_unassign(&list)
        {
            // They are not asked for any more, whatever is still fetched.
            tracing::debug!(%error, "partitions could not be unassigned from the reader");
        }
    }

    pub(crate) fn set_paused(&self, partitions: &[Partition], paused: bool) {
        for attached in &mut self.lock().attached {
            if partitions.contains(&attached.partition) {
                attached.paused = paused;
            }
        }
        if !paused {
            self.wake.notify_one();
        }
    }

    /// Takes what the next partition in turn has; `None` if none has anything.
    pub(crate) fn take(&self, room: Room) -> Result<Option<Taken>, LogError> {
        let mut state = self.lock();
        let count = state.attached.len();
        for step in 0..count {
            let index = (state.turn + step) % count;
            let Some(attached) = state.attached.get_mut(index) else { continue };
            if attached.paused || !attached.ready.swap(false, Ordering::AcqRel) {
                continue;
            }
            let taken = self.take_from(attached, room, Duration::ZERO)?;
            if taken.is_some() {
                state.turn = (index + 1) % count;
                return Ok(taken);
            }
        }
        Ok(None)
    }

    /// Waits for messages of a partition that is attached alone; `None` if none came in time.
    pub(crate) fn take_one(
        &self,
        partition: &Partition,
        room: Room,
        wait: Duration,
    ) -> Result<Option<Taken>, LogError> {
        let mut state = self.lock();
        match state.attached.iter_mut().find(|attached| attached.partition == *partition) {
            Some(attached) => self.take_from(attached, room, wait),
            None => Ok(None),
        }
    }

    /// Where reading of an attached partition goes on.
    pub(crate) fn next_of(&self, partition: &Partition) -> Option<Offset> {
        let state = self.lock();
        state.attached.iter().find(|a| a.partition == *partition).map(|a| a.next)
    }

    fn take_from(
        &self,
        attached: &mut Attached,
        room: Room,
        wait: Duration,
    ) -> Result<Option<Taken>, LogError> {
        let (topic, number) = (attached.partition.topic.clone(), attached.partition.number);
        let mut messages: Vec<Message> = Vec::new();
        let (mut bytes, mut at_end) = (0, false);
        if let Some(message) = attached.held.take() {
            bytes += message.size_bytes();
            attached.next = message.offset + 1;
            messages.push(message);
        }
        loop {
            if messages.len() >= room.messages || (bytes >= room.bytes && !messages.is_empty()) {
                attached.ready.store(true, Ordering::Release);
                break;
            }
            let wait = if messages.is_empty() && !at_end { wait } else { Duration::ZERO };
            match attached.queue.poll(wait) {
                None => break,
                Some(Ok(borrowed)) => {
                    let message = records::message(&topic, number, &borrowed);
                    at_end = false;
                    if message.offset < attached.next {
                        // Left over from before it was attached anew.
                        continue;
                    }
                    let size_bytes = message.size_bytes();
                    if bytes + size_bytes > room.bytes && !messages.is_empty() {
                        attached.held = Some(message);
                        attached.ready.store(true, Ordering::Release);
                        break;
                    }
                    attached.next = message.offset + 1;
                    bytes += size_bytes;
                    messages.push(message);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => at_end = true,
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(
                        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                    ) if messages.is_empty() => {
                        let partition = attached.partition.clone();
                        return Ok(Some(Taken::OutOfRange(partition, attached.next)));
                    }
                    Some(code) if errors::class(code) == Class::Fatal => {
                        let operation = format!("reading {}", attached.partition);
                        return Err(errors::log_error(&operation, &error));
                    }
                    // librdkafka goes on by itself.
                    _ => tracing::debug!(partition = %attached.partition, %error, "fetching"),
                },
            }
        }
        let before = messages.first().map_or(attached.next, |first| first.offset);
        if at_end
            && attached.held.is_none()
            && let Some(position) = self.position(&attached.partition)
        {
            attached.next = attached.next.max(position);
        }
        if messages.is_empty() && attached.next == before {
            return Ok(None);
        }
        let (partition, next) = (attached.partition.clone(), attached.next);
        Ok(Some(Taken::Batch(Batch { partition, messages, next, end: next })))
    }

    /// Where librdkafka stands: beyond markers that it read and nobody sees.
    fn position(&self, partition: &Partition) -> Option<Offset> {
        let positions = self.consumer.position().ok()?;
        let number = records::raw_partition(partition.number);
        match positions.find_partition(&partition.topic, number)?.offset() {
            rdkafka::Offset::Offset(offset) => Some(records::offset(offset)),
            _ => None,
        }
    }

    /// What its client has told of its connections last.
    pub(crate) fn last_said(&self) -> String {
        self.consumer.last_said()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
