//! Consumer: a group's member, the reader beside it, and (for `exactly_once`) its transactions.

use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::log::{
    Commit, Commits, Consumer, Event, LogError, RecordError, Room, TransactError, Transaction,
};
use millstream_core::message::{Offset, Partition};
use rdkafka::consumer::Consumer as _;
use tokio::sync::Notify;

use crate::client::CALL;
use crate::log;
use crate::member::Member;
use crate::polled::Polled;
use crate::reader::{Reader, Taken};
use crate::records;
use crate::topics::Topics;
use crate::transactions::Transactions;

/// See the module.
pub(crate) struct KafkaConsumer {
    pub(crate) pipeline: String,
    pub(crate) cluster_id: String,
    /// Asked for the ends of a partition that cannot be read on.
    pub(crate) ends: Arc<Polled>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) member: Arc<Member>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) transactions: Option<Transactions>,
    /// Told when there may be an event or messages.
    pub(crate) wake: Arc<Notify>,
}

impl KafkaConsumer {
    /// Stops reading these source partitions and the companions beside them.
    fn detach(&self, sources: &[Partition]) {
        self.reader.detach(|attached| {
            self.member.source_of(attached).is_some_and(|source| sources.contains(&source))
        });
    }

    /// Goes on at the start of a partition whose messages retention has removed under us.
    async fn read_on(&self, partition: Partition, wanted: Offset) -> Result<(), LogError> {
        let (client, asked) = (Arc::clone(&self.ends), partition.clone());
        let ends = tokio::task::spawn_blocking(move || {
            let number = records::raw_partition(asked.number);
            client
                .fetch_watermarks(&asked.topic, number, CALL)
                .map_err(|error| client.error(&format!("asking for the ends of {asked}"), &error))
        });
        let ends = ends.await.map_err(|error| LogError::Unavailable(error.to_string()))?;
        let (start, high) = match ends {
            Ok((start, high)) => (records::offset(start), records::offset(high)),
            Err(LogError::Unavailable(reason)) => {
                tracing::warn!(pipeline = %self.pipeline, %partition, %reason, "trying to read on");
                (wanted, wanted)
            }
            Err(error) => return Err(error),
        };
        if wanted > high {
            return Err(LogError::Fatal(format!(
                "pipeline {}: {partition} ends at {high}, below offset {wanted} that was read before: messages were cut off or the topic was made anew; reset the group's offset or use another group",
                self.pipeline
            )));
        }
        if wanted < start {
            tracing::error!(
                pipeline = %self.pipeline, %partition, skipped = start - wanted, from = wanted, to = start,
                "retention removed messages before they were read; going on at the first that is left"
            );
        }
        self.reader.attach(&partition, wanted.max(start))
    }
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn next(&self, room: Room) -> Result<Event, LogError> {
        loop {
            if let Some(event) = self.member.take_event()? {
                if let Event::Lost(lost) = &event {
                    self.detach(lost);
                }
                return Ok(event);
            }
            let taken = if room.messages == 0 { None } else { self.reader.take(room)? };
            match taken {
                Some(Taken::Batch(batch)) => return Ok(Event::Messages(batch)),
                Some(Taken::OutOfRange(partition, wanted)) => {
                    self.read_on(partition, wanted).await?;
                }
                // A permit is kept if it was told since we looked.
                None => self.wake.notified().await,
            }
        }
    }

    async fn attach(&self, partition: &Partition, from: Offset) -> Result<(), LogError> {
        if !self.member.owns(partition) {
            let text = format!("reading {partition}: it is not assigned to this member");
            return Err(LogError::Fenced(text));
        }
        let (reader, attached) = (Arc::clone(&self.reader), partition.clone());
        let done = tokio::task::spawn_blocking(move || reader.attach(&attached, from)).await;
        done.map_err(|error| LogError::Unavailable(error.to_string()))??;
        if !self.member.owns(partition) {
            // Lost meanwhile.
            self.reader.detach(|attached| attached == partition);
        }
        Ok(())
    }

    fn pause(&self, partitions: &[Partition]) {
        self.reader.set_paused(partitions, true);
    }

    fn resume(&self, partitions: &[Partition]) {
        self.reader.set_paused(partitions, false);
    }

    async fn committed(&self, partitions: &[Partition]) -> Result<Vec<Option<Commit>>, LogError> {
        let consumer = Arc::clone(self.member.consumer());
        let ask = move |list| consumer.committed_offsets(list, CALL);
        log::committed(ask, &self.cluster_id, self.member.group(), partitions).await
    }

    async fn commit(&self, commits: Commits) -> Result<(), LogError> {
        self.member.commit(commits).await
    }

    async fn transact(&self, transaction: Arc<Transaction>) -> Result<(), TransactError> {
        if !transaction.marks.is_empty() {
            let text = "idempotency marks have no place in this log";
            return Err(TransactError::Log(LogError::Fatal(text.to_owned())));
        }
        let refusals = self.topics.refusals(transaction.records.iter()).await?;
        let offender = refusals.into_iter().enumerate().find_map(|(index, e)| Some((index, e?)));
        if let Some((index, error)) = offender {
            return Err(TransactError::Offender { index, error });
        }
        match &self.transactions {
            Some(transactions) => match transactions.transact(transaction).await {
                // The producer is behind the listing, or the listing behind the cluster: who tries again
                // looks again.
                Err(TransactError::Offender {
                    error: RecordError::UnknownTopic { topic, reason },
                    ..
                }) => {
                    self.topics.forget();
                    let text = format!("transaction: writing to {topic}: {reason}");
                    Err(TransactError::Log(LogError::Unavailable(text)))
                }
                ended => ended,
            },
            None => {
                let text = "this consumer was not subscribed for transactions";
                Err(TransactError::Log(LogError::Fatal(text.to_owned())))
            }
        }
    }

    async fn release(&self, partitions: &[Partition]) {
        self.detach(partitions);
        self.member.release(partitions.to_vec()).await;
    }

    async fn close(&self) {
        self.reader.detach(|_| true);
        self.member.close().await;
    }
}
