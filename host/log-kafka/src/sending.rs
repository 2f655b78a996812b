//! Sending: offsets on their way into a transaction, on a thread of their own: librdkafka 2.12 never answers
//! when the group's coordinator dies at the wrong moment, and the records need not wait for them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use millstream_core::log::LogError;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;

use crate::client::CALL;
use crate::transactions::Native;

/// See the module.
pub(crate) struct Sending {
    answer: Option<Receiver<Result<(), KafkaError>>>,
}

impl Sending {
    pub(crate) fn begin(
        native: &Arc<Native>,
        offsets: TopicPartitionList,
        group: ConsumerGroupMetadata,
    ) -> Result<Self, LogError> {
        if offsets.count() == 0 {
            return Ok(Self { answer: None });
        }
        let (reply, answer) = sync_channel(1);
        let native = Arc::clone(native);
        let send = move || {
            let _ = reply.send(native.send_offsets_to_transaction(&offsets, &group, CALL));
        };
        let thread = std::thread::Builder::new().name("kafka-offsets".to_owned()).spawn(send);
        match thread {
            Ok(_) => Ok(Self { answer: Some(answer) }),
            Err(error) => Err(LogError::Unavailable(format!("no thread for Kafka: {error}"))),
        }
    }

    /// Waits for its end. `None` if there is none; the thread keeps the producer until it has ended.
    pub(crate) fn ended(self) -> Option<Result<(), KafkaError>> {
        match self.answer {
            Some(answer) => answer.recv_timeout(CALL * 2).ok(),
            None => Some(Ok(())),
        }
    }
}
