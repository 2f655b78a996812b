//! Topics: what there is, as the core's specs; and how a topic is made.
//!
//! Listing asks for metadata of everything this user may see and for the configuration of those topics,
//! in two requests; the answer is kept for [`FRESH`], because each partition asks when it starts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::log::{LogError, RecordError, TopicSpec};
use millstream_core::message::{Record, Topic};
use rdkafka::admin::{
    AdminOptions, ConfigResource, NewPartitions, NewTopic, OwnedResourceSpecifier,
    ResourceSpecifier, TopicReplication, TopicResult,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tokio::time::Instant;

use crate::admin::Admin;
use crate::client::CALL;
use crate::errors;

/// What a record takes beyond its payload: the batch's header, lengths, and two bytes a header.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 512;

/// What a broker takes if nothing is said.
const MESSAGE_BYTES_DEFAULT: usize = 1_048_588;

/// So long a listing is believed.
const FRESH: Duration = Duration::from_secs(5);

/// A topic that was made is waited for so long.
const APPEARS_WITHIN: Duration = Duration::from_secs(20);
const APPEARS_POLL: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Cache {
    /// By name; shared, since every append looks into it.
    topics: Arc<BTreeMap<Topic, TopicSpec>>,
    listed: Option<Instant>,
}

/// See the module.
pub(crate) struct Topics {
    admin: Arc<Admin>,
    cache: Mutex<Cache>,
}

impl Topics {
    pub(crate) fn new(admin: Arc<Admin>) -> Self {
        Self { admin, cache: Mutex::default() }
    }

    /// All topics, as of now or a moment ago.
    pub(crate) async fn list(&self) -> Result<Arc<BTreeMap<Topic, TopicSpec>>, LogError> {
        let known = {
            let cache = self.lock();
            let fresh = cache.listed.is_some_and(|listed| listed.elapsed() < FRESH);
            fresh.then(|| Arc::clone(&cache.topics))
        };
        match known {
            Some(topics) => Ok(topics),
            None => self.refresh().await,
        }
    }

    /// A topic as it was listed last, asked for anew if it is not known.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<TopicSpec>, LogError> {
        if let Some(known) = self.known().get(name) {
            return Ok(Some(known.clone()));
        }
        Ok(self.list().await?.get(name).cloned())
    }

    /// What was listed last.
    pub(crate) fn known(&self) -> Arc<BTreeMap<Topic, TopicSpec>> {
        Arc::clone(&self.lock().topics)
    }

    /// Believes the last listing no more.
    pub(crate) fn forget(&self) {
        *self.lock() = Cache::default();
    }

    /// For each record why its topic does not take it, if so. What does not fit is refused here: a
    /// broker would refuse all that comes with it.
    pub(crate) async fn refusals<'a>(
        &self,
        records: impl Iterator<Item = &'a Record> + Clone + Send,
    ) -> Result<Vec<Option<RecordError>>, LogError> {
        let found = refusals_by(&self.known(), records.clone());
        if !found.iter().flatten().any(|error| matches!(error, RecordError::UnknownTopic { .. })) {
            return Ok(found);
        }
        Ok(refusals_by(&*self.refresh().await?, records))
    }

    /// Lists anew.
    pub(crate) async fn refresh(&self) -> Result<Arc<BTreeMap<Topic, TopicSpec>>, LogError> {
        let admin = Arc::clone(&self.admin);
        let counts = tokio::task::spawn_blocking(move || counted(&admin, None));
        let counts = counts.await.map_err(|error| LogError::Unavailable(error.to_string()))??;
        let names: Vec<ResourceSpecifier<'_>> =
            counts.keys().map(|name| ResourceSpecifier::Topic(name)).collect();
        let mut configs = BTreeMap::new();
        if !names.is_empty() {
            let answers = self.admin.describe_configs(&names, &options()).await;
            let answers = answers.map_err(|error| self.error("describing topics", &error))?;
            // A topic whose configuration this user may not see has the defaults, as far as we know.
            for config in answers.into_iter().flatten() {
                if let OwnedResourceSpecifier::Topic(name) = &config.specifier {
                    configs.insert(name.clone(), config);
                }
            }
        }
        let spec = |(name, counted): (String, Counted)| {
            let spec = spec(&name, &counted, configs.get(&name));
            (spec.name.clone(), spec)
        };
        let topics = Arc::new(counts.into_iter().map(spec).collect::<BTreeMap<_, _>>());
        *self.lock() = Cache { topics: Arc::clone(&topics), listed: Some(Instant::now()) };
        Ok(topics)
    }

    /// Makes a topic, or adds partitions to it.
    pub(crate) async fn create(&self, spec: &TopicSpec) -> Result<(), LogError> {
        let operation = format!("creating topic {}", spec.name);
        let there = self.refresh().await?.get(&spec.name).map(|there| there.partitions);
        match there {
            Some(there) if there == spec.partitions => return Ok(()),
            Some(there) if there > spec.partitions => {
                return Err(LogError::Fatal(format!(
                    "{operation}: it has {there} partitions, more than the {} asked for: Kafka cannot take partitions away, ask for {there} or use another name",
                    spec.partitions,
                )));
            }
            Some(_) => self.grow(spec, &operation).await?,
            None => self.make(spec, &operation).await?,
        }
        self.wait_for(spec, &operation).await
    }

    async fn make(&self, spec: &TopicSpec, operation: &str) -> Result<(), LogError> {
        let replication = spec.replication.map_or(-1, |n| i32::try_from(n).unwrap_or(-1));
        let partitions = i32::try_from(spec.partitions).unwrap_or(i32::MAX);
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let retention_ms = spec.retention.map_or(-1, millis).to_string();
        let retention_bytes =
            spec.retention_bytes.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX)).to_string();
        let message_bytes =
            spec.message_bytes_max.saturating_add(RECORD_OVERHEAD_BYTES).to_string();
        let cleanup = match (spec.compacted, spec.retention) {
            (false, _) => "delete",
            (true, None) => "compact",
            (true, Some(_)) => "compact,delete",
        };
        let time = if spec.append_time { "LogAppendTime" } else { "CreateTime" };
        let topic = NewTopic::new(&spec.name, partitions, TopicReplication::Fixed(replication))
            .set("retention.ms", &retention_ms)
            .set("retention.bytes", &retention_bytes)
            .set("max.message.bytes", &message_bytes)
            .set("message.timestamp.type", time)
            .set("cleanup.policy", cleanup);
        let answers = self.admin.create_topics([&topic], &options()).await;
        self.answered(operation, answers, Code::TopicAlreadyExists)
    }

    async fn grow(&self, spec: &TopicSpec, operation: &str) -> Result<(), LogError> {
        let count = usize::try_from(spec.partitions).unwrap_or(usize::MAX);
        let more = NewPartitions::new(&spec.name, count);
        let answers = self.admin.create_partitions([&more], &options()).await;
        // Another host was faster.
        self.answered(operation, answers, Code::InvalidPartitions)
    }

    fn answered(
        &self,
        operation: &str,
        answers: Result<Vec<TopicResult>, KafkaError>,
        as_good: Code,
    ) -> Result<(), LogError> {
        let answers = answers.map_err(|error| self.error(operation, &error))?;
        for answer in answers {
            match answer {
                Ok(_) => {}
                Err((_, code)) if code == as_good => {}
                Err((_, code)) => {
                    return Err(errors::of_code(operation, code, &code.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Waits until every partition has a leader, as far as this host is told.
    async fn wait_for(&self, spec: &TopicSpec, operation: &str) -> Result<(), LogError> {
        let deadline = Instant::now() + APPEARS_WITHIN;
        loop {
            let (admin, name) = (Arc::clone(&self.admin), spec.name.to_string());
            let looked = tokio::task::spawn_blocking(move || {
                counted(&admin, Some(&name)).map(|mut counts| counts.remove(&name))
            });
            let looked = looked.await.map_err(|error| LogError::Unavailable(error.to_string()))?;
            if let Ok(Some(counted)) = looked
                && counted.led >= spec.partitions
            {
                return self.refresh().await.map(|_| ());
            }
            if Instant::now() >= deadline {
                return Err(LogError::Unavailable(format!("{operation}: it does not appear")));
            }
            tokio::time::sleep(APPEARS_POLL).await;
        }
    }

    fn error(&self, operation: &str, error: &KafkaError) -> LogError {
        let said = self.admin.inner().context().lasting_error(operation);
        match errors::log_error(operation, error) {
            LogError::Unavailable(text) => said.unwrap_or(LogError::Unavailable(text)),
            error => error,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CALL)).operation_timeout(Some(CALL))
}

/// Partitions and replicas of topics, and how many of the partitions have a leader.
struct Counted {
    partitions: u32,
    replication: u32,
    led: u32,
}

/// Counts them for one topic or all.
fn counted(admin: &Admin, topic: Option<&str>) -> Result<BTreeMap<String, Counted>, LogError> {
    let operation = "listing topics";
    let client = admin.inner();
    let metadata = client.fetch_metadata(topic, CALL).map_err(|error| {
        let said = client.context().lasting_error(operation);
        match errors::log_error(operation, &error) {
            LogError::Unavailable(text) => said.unwrap_or(LogError::Unavailable(text)),
            error => error,
        }
    })?;
    // A broker that was away knows nobody, not even itself, until the controller knows it again.
    if metadata.brokers().is_empty() {
        return Err(LogError::Unavailable(format!("{operation}: no broker is alive")));
    }
    let mut counts = BTreeMap::new();
    for topic in metadata.topics() {
        let partitions = topic.partitions();
        if topic.error().is_some() || partitions.is_empty() || is_internal(topic.name()) {
            continue;
        }
        // A topic is there though its leaders are away: whoever takes it for missing gives up messages.
        let led = partitions.iter().filter(|p| p.leader() >= 0).count();
        let replicas = partitions.iter().map(|p| p.replicas().len()).max().unwrap_or(0);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (partitions, replication) = (count(partitions.len()), count(replicas));
        let counted = Counted { partitions, replication, led: count(led) };
        counts.insert(topic.name().to_owned(), counted);
    }
    Ok(counts)
}

/// Kafka's own topics.
fn is_internal(topic: &str) -> bool {
    matches!(topic, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
        || topic == "__cluster_metadata"
}

fn spec(name: &str, counted: &Counted, config: Option<&ConfigResource>) -> TopicSpec {
    let value =
        |key: &str| config.and_then(|c| c.get(key)).and_then(|entry| entry.value.as_deref());
    let number = |key: &str| value(key).and_then(|text| text.parse::<i64>().ok());
    // Negative: no limit.
    let limit = |key: &str| number(key).and_then(|n| u64::try_from(n).ok());
    let deletes = value("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    let message_bytes = limit("max.message.bytes")
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(MESSAGE_BYTES_DEFAULT);
    TopicSpec {
        name: name.into(),
        partitions: counted.partitions,
        retention: limit("retention.ms").filter(|_| deletes).map(Duration::from_millis),
        retention_bytes: limit("retention.bytes").filter(|_| deletes),
        message_bytes_max: message_bytes.saturating_sub(RECORD_OVERHEAD_BYTES),
        append_time: value("message.timestamp.type") == Some("LogAppendTime"),
        compacted: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
        replication: Some(counted.replication),
    }
}

/// For each record why its topic does not take it, by this listing.
fn refusals_by<'a>(
    known: &BTreeMap<Topic, TopicSpec>,
    records: impl Iterator<Item = &'a Record>,
) -> Vec<Option<RecordError>> {
    let refusal = |record: &Record| {
        let topic = || record.topic.clone();
        let Some(spec) = known.get(&record.topic) else {
            let reason = "there is no such topic".to_owned();
            return Some(RecordError::UnknownTopic { topic: topic(), reason });
        };
        if let Some(number) = record.partition.filter(|number| *number >= spec.partitions) {
            let reason = format!("it has no partition {number}");
            return Some(RecordError::UnknownTopic { topic: topic(), reason });
        }
        let (size_bytes, max_bytes) = (record.payload_bytes(), spec.message_bytes_max);
        let too_large = || RecordError::TooLarge { topic: topic(), size_bytes, max_bytes };
        (size_bytes > max_bytes).then(too_large)
    };
    records.map(refusal).collect()
}
