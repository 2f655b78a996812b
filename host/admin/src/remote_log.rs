//! The log of a running host, over its admin API: for the tools, which work on it as on a folder.
//!
//! Invariants: classes of errors survive the trip; nothing is sent twice, since an append that was not
//! answered may have happened (the caller decides). It reads and appends; joining a consumer group is
//! the host's alone.
//!
//! Limits: an append is sent in chunks of about 4 MiB, so part of a large one may have happened when a
//! later chunk fails; a record that fits in no request is refused.

use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::log::{
    Appended, Batch, Commit, Consumer, Ends, Log, LogError, RecordError, Room, Subscription,
    TopicSpec, Writer,
};
use millstream_core::message::{Offset, Partition, Record};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::limits::{APPEND_BYTES, APPEND_RECORDS, BODY_BYTES_MAX};
use crate::token::Token;
use crate::wire::*;

mod http;
mod writer;
pub use http::ConnectError;
use http::{Asked, Http};
use writer::RemoteWriter;

/// See the module.
#[derive(Clone, Debug)]
pub struct RemoteLog {
    http: Http,
    cluster_id: Arc<str>,
    commit_metadata_bytes_max: usize,
}

/// What the host at this address says of its pipelines, also while its log does not answer.
///
/// # Errors
/// See [`ConnectError`].
pub async fn host_status(address: &str, token: &Token) -> Result<Value, ConnectError> {
    let http = Http::new(address, token);
    http.get("status").await.map_err(|failed| http.connect_error(failed))
}

impl RemoteLog {
    /// Reaches the host at `address` (`IP:PORT`, as its lock or configuration says) and sees that it
    /// is one.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(address: &str, token: &Token) -> Result<Self, ConnectError> {
        let http = Http::new(address, token);
        let answer: TopicsAnswer = match http.get("topics").await {
            Ok(answer) => answer,
            Err(failed) => return Err(http.connect_error(failed)),
        };
        Ok(Self {
            http,
            cluster_id: answer.cluster_id.into(),
            commit_metadata_bytes_max: answer.commit_metadata_bytes_max,
        })
    }

    async fn post<Q, A>(&self, route: &str, request: &Q) -> Result<A, LogError>
    where
        Q: Serialize,
        A: DeserializeOwned + Send + 'static,
    {
        Ok(self.http.send(Asked::Post, route, request).await?)
    }

    async fn append_chunk(
        &self,
        records: Vec<RecordJson>,
        results: &mut [Option<Result<Appended, RecordError>>],
        owners: &[usize],
    ) -> Result<(), LogError> {
        if records.is_empty() {
            return Ok(());
        }
        let answer: AppendAnswer = self.post("append", &AppendRequest { records }).await?;
        self.same_count(owners.len(), answer.results.len())?;
        for (owner, result) in owners.iter().zip(answer.results) {
            if let Some(slot) = results.get_mut(*owner) {
                *slot = Some(result.into());
            }
        }
        Ok(())
    }

    fn same_count(&self, asked: usize, answered: usize) -> Result<(), LogError> {
        if asked == answered {
            return Ok(());
        }
        Err(LogError::Fatal(format!(
            "the host at {} answered for {answered} of {asked}: it is of another version; use its own `millstream`",
            self.http.address()
        )))
    }
}

#[async_trait]
impl Log for RemoteLog {
    fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn commit_metadata_bytes_max(&self) -> usize {
        self.commit_metadata_bytes_max
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        let answer: TopicsAnswer = self.http.get("topics").await?;
        Ok(answer.topics.into_iter().map(|topic| topic.spec.named(&topic.name)).collect())
    }

    async fn create_topic(&self, spec: TopicSpec) -> Result<(), LogError> {
        let route = format!("topics/{}", http::path_segment(&spec.name));
        let Done {} = self.http.send(Asked::Put, &route, &TopicJson::from(&spec)).await?;
        Ok(())
    }

    async fn append(
        &self,
        records: &[&Record],
    ) -> Result<Vec<Result<Appended, RecordError>>, LogError> {
        let mut results = vec![None; records.len()];
        let (mut chunk, mut owners, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (index, record) in records.iter().enumerate() {
            let json_bytes = json_bytes_max(record);
            if json_bytes > BODY_BYTES_MAX - 64 {
                let error = RecordError::Denied {
                    topic: record.topic.clone(),
                    reason: format!(
                        "the record takes up to {json_bytes} bytes as JSON, and a request to a running host at most {BODY_BYTES_MAX}: stop the host to write it"
                    ),
                };
                if let Some(slot) = results.get_mut(index) {
                    *slot = Some(Err(error));
                }
                continue;
            }
            if bytes + json_bytes > APPEND_BYTES || chunk.len() == APPEND_RECORDS {
                let full = std::mem::take(&mut chunk);
                self.append_chunk(full, &mut results, &std::mem::take(&mut owners)).await?;
                bytes = 0;
            }
            chunk.push(RecordJson::from(*record));
            owners.push(index);
            bytes += json_bytes;
        }
        self.append_chunk(chunk, &mut results, &owners).await?;
        let answered: Vec<_> = results.into_iter().flatten().collect();
        self.same_count(records.len(), answered.len())?;
        Ok(answered)
    }

    async fn fetch(
        &self,
        partition: &Partition,
        from: Offset,
        room: Room,
    ) -> Result<Batch, LogError> {
        let request = FetchRequest {
            topic: partition.topic.to_string(),
            partition: partition.number,
            from,
            messages: room.messages,
            bytes: room.bytes,
        };
        let answer: FetchAnswer = self.post("fetch", &request).await?;
        let messages = answer.messages.into_iter().map(|message| message.of(partition)).collect();
        let partition = partition.clone();
        Ok(Batch { partition, messages, next: answer.next, end: answer.end })
    }

    async fn ends(&self, partitions: &[Partition]) -> Result<Vec<Ends>, LogError> {
        let asked = partitions.iter().map(PartitionJson::from).collect();
        let answer: EndsAnswer = self.post("ends", &EndsRequest { partitions: asked }).await?;
        self.same_count(partitions.len(), answer.ends.len())?;
        Ok(answer.ends.into_iter().map(Ends::from).collect())
    }

    async fn committed(
        &self,
        group: &str,
        partitions: &[Partition],
    ) -> Result<Vec<Option<Commit>>, LogError> {
        let asked = partitions.iter().map(PartitionJson::from).collect();
        let request = CommittedRequest { group: group.to_owned(), partitions: asked };
        let answer: CommittedAnswer = self.post("committed", &request).await?;
        self.same_count(partitions.len(), answer.commits.len())?;
        Ok(answer.commits.into_iter().map(|commit| commit.map(Commit::from)).collect())
    }

    async fn delete_before(&self, partition: &Partition, before: Offset) -> Result<(), LogError> {
        let topic = partition.topic.to_string();
        let request = DeleteBeforeRequest { topic, partition: partition.number, before };
        let Done {} = self.post("delete-before", &request).await?;
        Ok(())
    }

    async fn writer(&self, name: &str) -> Result<Arc<dyn Writer>, LogError> {
        Ok(Arc::new(RemoteWriter::begin(self.clone(), name).await?))
    }

    async fn consumer(&self, subscription: Subscription) -> Result<Arc<dyn Consumer>, LogError> {
        Err(LogError::Fatal(format!(
            "pipeline {}: a running host owns this log; nobody joins a group beside it: stop the host at {} first, or add the pipeline to its configuration",
            subscription.pipeline,
            self.http.address(),
        )))
    }
}

#[cfg(test)]
mod tests;
