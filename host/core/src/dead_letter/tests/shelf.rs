//! A log in memory that can refuse what the next calls ask for, and lose the answers of writers.

use super::*;

#[derive(Default)]
pub(super) struct Shelf {
    topics: Mutex<Vec<TopicSpec>>,
    partitions: Mutex<BTreeMap<Partition, (Offset, Vec<Message>)>>,
    writers: Mutex<BTreeMap<String, u64>>,
    pub(super) refused_value: Mutex<Option<Bytes>>,
    /// What happens to the batches of writers from now on, one after the other; then all goes well.
    pub(super) fates: Mutex<std::collections::VecDeque<Fate>>,
    me: std::sync::Weak<Shelf>,
}

/// What happens to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is written and answered.
    Answered,
    /// It is written, and nobody learns of it.
    AnswerLost,
    /// It is not written, and nobody learns of that.
    Lost,
    /// It is written, and whoever asked is killed.
    KilledAfter,
    /// Whoever asked is killed before.
    KilledBefore,
}

impl Shelf {
    pub(super) fn with(topics: &[&str]) -> Arc<Self> {
        Arc::new_cyclic(|me| {
            let topics = Mutex::new(topics.iter().map(|name| topic_spec(name)).collect());
            Self { topics, me: me.clone(), ..Self::default() }
        })
    }

    pub(super) fn put(&self, record: Record) -> Appended {
        let number = record.partition.unwrap_or(0);
        let partition = Partition::new(record.topic, number);
        let mut partitions = self.partitions.lock().unwrap();
        let (start, messages) = partitions.entry(partition.clone()).or_default();
        let offset = messages.last().map_or(*start, |m| m.offset + 1);
        messages.push(Message {
            topic: partition.topic,
            partition: number,
            offset,
            timestamp: 50_000 + offset as i64,
            key: record.key,
            value: record.value,
            headers: record.headers,
        });
        Appended { partition: number, offset }
    }

    pub(super) fn all(&self, topic: &str, number: u32) -> Vec<Message> {
        let partitions = self.partitions.lock().unwrap();
        partitions.get(&Partition::new(topic, number)).map(|p| p.1.clone()).unwrap_or_default()
    }

    pub(super) fn values(&self, topic: &str, number: u32) -> Vec<String> {
        let text = |m: Message| m.value.map(|v| String::from_utf8_lossy(&v).into_owned());
        self.all(topic, number).into_iter().filter_map(text).collect()
    }

    /// All messages and topics, to see that nothing changed.
    pub(super) fn everything(&self) -> (Vec<TopicSpec>, Vec<Message>) {
        let partitions = self.partitions.lock().unwrap();
        let messages = partitions.values().flat_map(|(_, messages)| messages.clone()).collect();
        (self.topics.lock().unwrap().clone(), messages)
    }

    /// The topic is deleted and made again.
    pub(super) fn make_anew(&self, topic: &str) {
        self.partitions.lock().unwrap().retain(|partition, _| *partition.topic != *topic);
    }

    pub(super) fn fate(&self, fates: impl IntoIterator<Item = Fate>) {
        self.fates.lock().unwrap().extend(fates);
    }

    fn refusal(&self, record: &Record) -> Option<RecordError> {
        let topic = record.topic.clone();
        if !self.topics.lock().unwrap().iter().any(|spec| spec.name == record.topic) {
            let reason = "there is none".to_owned();
            return Some(RecordError::UnknownTopic { topic, reason });
        }
        let refused = self.refused_value.lock().unwrap();
        let reason = "not today".to_owned();
        (refused.is_some() && record.value == *refused)
            .then_some(RecordError::Denied { topic, reason })
    }
}

pub(super) fn topic_spec(name: &str) -> TopicSpec {
    TopicSpec {
        name: name.into(),
        partitions: 2,
        retention: None,
        retention_bytes: None,
        message_bytes_max: 1 << 20,
        append_time: true,
        compacted: false,
        replication: None,
    }
}

struct ShelfWriter {
    shelf: Arc<Shelf>,
    name: String,
    claim: u64,
}

#[async_trait]
impl Writer for ShelfWriter {
    async fn append_all(&self, records: &[Record]) -> Result<(), TransactError> {
        if self.shelf.writers.lock().unwrap().get(&self.name) != Some(&self.claim) {
            return Err(LogError::Fenced("another has the name".to_owned()).into());
        }
        for (index, record) in records.iter().enumerate() {
            if let Some(error) = self.shelf.refusal(record) {
                return Err(TransactError::Offender { index, error });
            }
        }
        let fate = self.shelf.fates.lock().unwrap().pop_front().unwrap_or(Fate::Answered);
        if matches!(fate, Fate::Answered | Fate::AnswerLost | Fate::KilledAfter) {
            for record in records {
                self.shelf.put(record.clone());
            }
        }
        match fate {
            Fate::Answered => Ok(()),
            Fate::AnswerLost | Fate::Lost => {
                Err(LogError::Unavailable("no answer".to_owned()).into())
            }
            Fate::KilledAfter | Fate::KilledBefore => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Log for Shelf {
    fn cluster_id(&self) -> &str {
        "shelf"
    }
    fn commit_metadata_bytes_max(&self) -> usize {
        4096
    }
    async fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        Ok(self.topics.lock().unwrap().clone())
    }
    async fn create_topic(&self, spec: TopicSpec) -> Result<(), LogError> {
        self.topics.lock().unwrap().push(spec);
        Ok(())
    }
    async fn append(
        &self,
        records: &[&Record],
    ) -> Result<Vec<Result<Appended, RecordError>>, LogError> {
        let one = |record: &&Record| match self.refusal(record) {
            Some(error) => Err(error),
            None => Ok(self.put((*record).clone())),
        };
        Ok(records.iter().map(one).collect())
    }
    async fn fetch(
        &self,
        partition: &Partition,
        from: Offset,
        room: Room,
    ) -> Result<Batch, LogError> {
        let partitions = self.partitions.lock().unwrap();
        let messages = partitions.get(partition).map_or(&[][..], |p| &p.1);
        let end = messages.last().map_or(0, |m| m.offset + 1);
        let begin = messages.partition_point(|message| message.offset < from);
        let some: Vec<_> = messages.iter().skip(begin).take(room.messages).cloned().collect();
        let next = some.last().map_or(from, |m| m.offset + 1);
        Ok(Batch { partition: partition.clone(), messages: some, next, end })
    }
    async fn ends(&self, wanted: &[Partition]) -> Result<Vec<Ends>, LogError> {
        let partitions = self.partitions.lock().unwrap();
        let ends = |partition: &Partition| {
            let Some((start, messages)) = partitions.get(partition) else { return Ends::default() };
            let end = messages.last().map_or(*start, |m| m.offset + 1);
            Ends { start: *start, end, high: end }
        };
        Ok(wanted.iter().map(ends).collect())
    }
    async fn committed(&self, _: &str, _: &[Partition]) -> Result<Vec<Option<Commit>>, LogError> {
        Ok(Vec::new())
    }
    async fn delete_before(&self, partition: &Partition, before: Offset) -> Result<(), LogError> {
        let mut partitions = self.partitions.lock().unwrap();
        let (start, messages) = partitions.entry(partition.clone()).or_default();
        *start = before.max(*start);
        messages.retain(|m| m.offset >= before);
        Ok(())
    }
    async fn writer(&self, name: &str) -> Result<Arc<dyn Writer>, LogError> {
        let mut writers = self.writers.lock().unwrap();
        let claim = writers.entry(name.to_owned()).or_default();
        *claim += 1;
        let shelf = self.me.upgrade().expect("it lives");
        Ok(Arc::new(ShelfWriter { shelf, name: name.to_owned(), claim: *claim }))
    }
    async fn consumer(&self, _: Subscription) -> Result<Arc<dyn Consumer>, LogError> {
        Err(LogError::Fatal("no consumers here".to_owned()))
    }
}
