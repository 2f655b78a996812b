//! A small log in memory for this crate's tests, which fails when it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use millstream_core::log::*;
use millstream_core::message::{Message, Offset, Partition, Record};
use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct FakeLog {
    pub(crate) topics: Mutex<Vec<TopicSpec>>,
    pub(crate) messages: Mutex<BTreeMap<Partition, Vec<Message>>>,
    pub(crate) starts: Mutex<BTreeMap<Partition, Offset>>,
    pub(crate) commits: Mutex<BTreeMap<(String, Partition), Commit>>,
    /// What every call answers, if set.
    pub(crate) failure: Mutex<Option<LogError>>,
    /// How many records each append brought, those to the audit trail left out.
    pub(crate) appends: Mutex<Vec<usize>>,
    /// If set, `ends` tells the first that it has begun and waits for the second.
    pub(crate) gate: Mutex<Option<(Arc<Notify>, Arc<Notify>)>>,
}

impl FakeLog {
    fn fails(&self) -> Result<(), LogError> {
        self.failure.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn put(&self, record: Record) -> Result<Appended, RecordError> {
        let topics = self.topics.lock().unwrap();
        let Some(topic) = topics.iter().find(|topic| topic.name == record.topic) else {
            let reason = "there is none".to_owned();
            return Err(RecordError::UnknownTopic { topic: record.topic, reason });
        };
        let (size_bytes, max_bytes) = (record.payload_bytes(), topic.message_bytes_max);
        if size_bytes > max_bytes {
            return Err(RecordError::TooLarge { topic: record.topic, size_bytes, max_bytes });
        }
        let number = record.partition.unwrap_or(0);
        let partition = Partition::new(record.topic.clone(), number);
        let mut all = self.messages.lock().unwrap();
        let messages = all.entry(partition).or_default();
        let offset = messages.len() as Offset;
        messages.push(Message {
            topic: record.topic,
            partition: number,
            offset,
            timestamp: record.timestamp.unwrap_or(7),
            key: record.key,
            value: record.value,
            headers: record.headers,
        });
        Ok(Appended { partition: number, offset })
    }
}

pub(crate) fn topic(name: &str) -> TopicSpec {
    TopicSpec {
        name: name.into(),
        partitions: 3,
        retention: None,
        retention_bytes: None,
        message_bytes_max: 32 << 20,
        append_time: false,
        compacted: false,
        replication: None,
    }
}

/// Refuses the first record that has no value, and takes all others; it does not fence.
struct FakeWriter;

#[async_trait]
impl Writer for FakeWriter {
    async fn append_all(&self, records: &[Record]) -> Result<(), TransactError> {
        let Some(index) = records.iter().position(|record| record.value.is_none()) else {
            return Ok(());
        };
        let topic = records[index].topic.clone();
        let error = RecordError::Denied { topic, reason: "no value".to_owned() };
        Err(TransactError::Offender { index, error })
    }
}

#[async_trait]
impl Log for FakeLog {
    fn cluster_id(&self) -> &str {
        "fake-1"
    }
    fn commit_metadata_bytes_max(&self) -> usize {
        4_000
    }
    async fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        self.fails()?;
        Ok(self.topics.lock().unwrap().clone())
    }
    async fn create_topic(&self, spec: TopicSpec) -> Result<(), LogError> {
        self.fails()?;
        self.topics.lock().unwrap().push(spec);
        Ok(())
    }
    async fn append(
        &self,
        records: &[&Record],
    ) -> Result<Vec<Result<Appended, RecordError>>, LogError> {
        self.fails()?;
        if records.iter().any(|record| *record.topic != *millstream_core::audit::TOPIC) {
            self.appends.lock().unwrap().push(records.len());
        }
        Ok(records.iter().map(|record| self.put((*record).clone())).collect())
    }
    async fn fetch(
        &self,
        partition: &Partition,
        from: Offset,
        room: Room,
    ) -> Result<Batch, LogError> {
        self.fails()?;
        let all = self.messages.lock().unwrap();
        let messages = all.get(partition).cloned().unwrap_or_default();
        let end = messages.len() as Offset;
        let messages: Vec<_> =
            messages.into_iter().filter(|m| m.offset >= from).take(room.messages).collect();
        let next = messages.last().map_or(from, |m| m.offset + 1);
        Ok(Batch { partition: partition.clone(), messages, next, end })
    }
    async fn ends(&self, partitions: &[Partition]) -> Result<Vec<Ends>, LogError> {
        self.fails()?;
        let gate = self.gate.lock().unwrap().clone();
        if let Some((begun, go)) = gate {
            begun.notify_one();
            go.notified().await;
        }
        let all = self.messages.lock().unwrap();
        let starts = self.starts.lock().unwrap();
        let ends = |partition| {
            let end = all.get(partition).map_or(0, Vec::len) as Offset;
            Ends { start: starts.get(partition).copied().unwrap_or(0), end, high: end + 1 }
        };
        Ok(partitions.iter().map(ends).collect())
    }
    async fn committed(
        &self,
        group: &str,
        partitions: &[Partition],
    ) -> Result<Vec<Option<Commit>>, LogError> {
        self.fails()?;
        let commits = self.commits.lock().unwrap();
        Ok(partitions
            .iter()
            .map(|p| commits.get(&(group.to_owned(), p.clone())).cloned())
            .collect())
    }
    async fn delete_before(&self, partition: &Partition, before: Offset) -> Result<(), LogError> {
        self.fails()?;
        self.starts.lock().unwrap().insert(partition.clone(), before);
        Ok(())
    }
    async fn writer(&self, _: &str) -> Result<Arc<dyn Writer>, LogError> {
        Ok(Arc::new(FakeWriter))
    }

    async fn consumer(&self, _: Subscription) -> Result<Arc<dyn Consumer>, LogError> {
        Err(LogError::Fatal("no groups here".to_owned()))
    }
}

/// A server on a free port of this machine, and what it serves.
pub(crate) struct Running {
    pub(crate) log: Arc<FakeLog>,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) stop: tokio::sync::oneshot::Sender<()>,
    pub(crate) served: tokio::task::JoinHandle<()>,
}

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn state(log: &Arc<FakeLog>) -> crate::AdminState {
    crate::AdminState {
        log: Arc::clone(log) as _,
        registry: prometheus::Registry::new(),
        readiness: Arc::new(Vec::new),
        status: Arc::new(|| serde_json::json!({ "pipelines": {} })),
        pipelines: Vec::new(),
        clock: Arc::new(millstream_core::clock::SystemClock),
        owner: millstream_core::dead_letter::Owner {
            name: String::new(),
            machine: String::new(),
            process: 1,
        },
        token: crate::TokenSource::Given(token()),
        read_token: None,
        metrics_token: None,
        open_probes: false,
        allowed_hosts: Vec::new(),
    }
}

pub(crate) fn token() -> crate::Token {
    crate::Token::new(TOKEN).expect("it is one")
}

pub(crate) async fn run(log: Arc<FakeLog>, state: crate::AdminState) -> Running {
    let any = "127.0.0.1:0".parse().expect("an address");
    let server = crate::AdminServer::bind(any, state).await.expect("a free port");
    let address = server.local_addr();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let served = tokio::spawn(server.serve(async move {
        let _ = stopped.await;
    }));
    Running { log, address, stop, served }
}

pub(crate) async fn run_plain() -> Running {
    let log = Arc::new(FakeLog::default());
    let state = state(&log);
    run(log, state).await
}
