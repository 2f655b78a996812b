//! Committer: sends one commit at a time for the member, on a thread of its own, and tells what became of
//! each partition of it.
//!
//! By `rd_kafka_commit_queue`, since rdkafka's own calls tell less: its asynchronous commit never calls
//! back with librdkafka's event interface, and its synchronous one answers "committed" when only some of
//! the partitions were.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use millstream_core::log::LogError;
use millstream_core::message::Partition;
use rdkafka::TopicPartitionList;
use rdkafka::bindings;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::types::{RDKafka, RDKafkaRespErr, RDKafkaTopicPartitionList};

use crate::member::{Command, MemberContext, partition_of};

/// What became of a commit.
#[derive(Debug, Default)]
pub(crate) struct CommitAnswer {
    /// Why all of it failed, if it did.
    pub(crate) error: Option<Code>,
    /// Partitions that failed by themselves.
    pub(crate) partitions: Vec<(Partition, Code)>,
}

/// See the module. The thread ends with the value, after the commit under way.
pub(crate) struct Committer {
    lists: SyncSender<TopicPartitionList>,
}

impl Committer {
    pub(crate) fn start(
        consumer: Arc<BaseConsumer<MemberContext>>,
        answers: SyncSender<Command>,
    ) -> Result<Self, LogError> {
        let (lists, receiver) = sync_channel::<TopicPartitionList>(1);
        let commit_all = move || {
            while let Ok(list) = receiver.recv() {
                let answer = commit(&consumer, &list);
                if answers.send(Command::Committed(answer)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("kafka-commits".to_owned())
            .spawn(commit_all)
            .map_err(|error| LogError::Unavailable(format!("no thread for Kafka: {error}")))?;
        Ok(Self { lists })
    }

    /// Sends a commit; there must be none under way.
    pub(crate) fn commit(&self, list: TopicPartitionList) {
        // The thread ends only with this.
        let _ = self.lists.send(list);
    }
}

/// Commits and waits for the answer.
#[expect(unsafe_code, reason = "rdkafka has no commit that tells of each partition")]
fn commit(consumer: &BaseConsumer<MemberContext>, list: &TopicPartitionList) -> CommitAnswer {
    let mut answer = CommitAnswer::default();
    // SAFETY: client and list live through the call; without a queue the callback runs within it, on
    // this thread, so `answer` outlives it.
    let error = unsafe {
        bindings::rd_kafka_commit_queue(
            consumer.client().native_ptr(),
            list.ptr(),
            ptr::null_mut(),
            Some(answered),
            (&raw mut answer).cast(),
        )
    };
    if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        answer.error = Some(error.into());
    }
    answer
}

#[expect(unsafe_code, reason = "called by librdkafka with pointers")]
unsafe extern "C" fn answered(
    _: *mut RDKafka,
    error: RDKafkaRespErr,
    offsets: *mut RDKafkaTopicPartitionList,
    answer: *mut c_void,
) {
    const NONE: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    // SAFETY: the pointer that `commit` handed over.
    let answer = unsafe { &mut *answer.cast::<CommitAnswer>() };
    if error != NONE {
        answer.error = Some(error.into());
    }
    if offsets.is_null() {
        return;
    }
    // SAFETY: librdkafka's list, valid within the callback.
    let elements = unsafe {
        let count = usize::try_from((*offsets).cnt).unwrap_or(0);
        std::slice::from_raw_parts((*offsets).elems, count)
    };
    for element in elements.iter().filter(|element| element.err != NONE) {
        // SAFETY: topic names end with a zero byte.
        let topic = unsafe { CStr::from_ptr(element.topic) }.to_string_lossy();
        answer.partitions.push((partition_of(&topic, element.partition), element.err.into()));
    }
}
