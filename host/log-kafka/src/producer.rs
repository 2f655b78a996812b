//! Producer: appends records with the host's one idempotent producer and waits for all in-sync replicas.
//!
//! Records of one call keep their order within a partition. A batch that the broker refuses whole because
//! it came out larger than the topic takes is sent again record by record, so that only an offender is
//! refused. Of a call that got through in part only the rest is sent again: nothing stands there twice.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::log::{Appended, LogError, RecordError};
use millstream_core::message::{Record, Topic};
use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{Producer as _, ThreadedProducer};

use crate::client::{self, CALL, Context};
use crate::deliveries::{BATCH_RECORDS_MAX, Delivered, Deliveries};
use crate::errors::{self, Class};
use crate::options::KafkaOptions;
use crate::records;

/// How long to wait when librdkafka's queue is full.
const QUEUE_FULL: Duration = Duration::from_millis(1);

/// How long to wait before what did not get through is sent again.
const SEND_AGAIN: Duration = Duration::from_millis(100);

type Native = ThreadedProducer<Deliveries>;

/// See the module.
pub(crate) struct Producer {
    options: Arc<KafkaOptions>,
    /// Replaced after a fatal error, which a producer never recovers from.
    native: Mutex<Arc<Native>>,
}

fn create(options: &Arc<KafkaOptions>) -> Result<Arc<Native>, LogError> {
    let config: ClientConfig = client::producer(options);
    let context = Deliveries::new(Context::new(Arc::clone(options), "producer"));
    let created = config.create_with_context(context);
    created.map(Arc::new).map_err(|error| errors::log_error("creating the Kafka producer", &error))
}

impl Producer {
    pub(crate) fn new(options: Arc<KafkaOptions>) -> Result<Self, LogError> {
        let native = Mutex::new(create(&options)?);
        Ok(Self { options, native })
    }

    /// Appends records that were found to fit their topics.
    pub(crate) async fn append(
        &self,
        records: &[&Record],
    ) -> Result<Vec<Result<Appended, RecordError>>, LogError> {
        let mut delivered = self.deliver(records).await?;
        self.deliver_the_rest(records, &mut delivered).await?;
        self.deliver_one_by_one(records, &mut delivered).await?;
        let answers = records.iter().zip(delivered);
        answers.map(|(record, delivered)| answer(record, delivered)).collect()
    }

    /// Sends again what did not get through while other records of the call did: if the caller sent the
    /// whole call again, those would stand there twice.
    async fn deliver_the_rest(
        &self,
        records: &[&Record],
        delivered: &mut [Delivered],
    ) -> Result<(), LogError> {
        loop {
            let rest = places(records, delivered, passes);
            if rest.is_empty() || rest.len() == records.len() {
                return Ok(());
            }
            let first = rest.first().and_then(|place| records.get(*place));
            let topic = first.map(|record| &*record.topic);
            tracing::warn!(records = rest.len(), topic, "not delivered yet: sending again");
            tokio::time::sleep(SEND_AGAIN).await;
            self.deliver_again(records, &rest, delivered).await?;
        }
    }

    /// Sends records one by one that were refused for the size of the batch they were in.
    async fn deliver_one_by_one(
        &self,
        records: &[&Record],
        delivered: &mut [Delivered],
    ) -> Result<(), LogError> {
        let again = places(records, delivered, |_, code| code == Code::MessageSizeTooLarge);
        if records.len() == 1 || again.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            records = again.len(),
            "a batch was larger than its topic takes: sending its records one by one; raise the topic's `max.message.bytes`, or lower `batch.size` in `log.client`"
        );
        for place in again {
            loop {
                self.deliver_again(records, &[place], delivered).await?;
                if places(records, delivered, passes).is_empty() {
                    break;
                }
                tokio::time::sleep(SEND_AGAIN).await;
            }
        }
        Ok(())
    }

    async fn deliver_again(
        &self,
        records: &[&Record],
        places: &[usize],
        delivered: &mut [Delivered],
    ) -> Result<(), LogError> {
        let some: Vec<&Record> =
            places.iter().filter_map(|place| records.get(*place).copied()).collect();
        for (place, answer) in places.iter().zip(self.deliver(&some).await?) {
            if let Some(stands) = delivered.get_mut(*place) {
                *stands = answer;
            }
        }
        Ok(())
    }

    async fn deliver(&self, records: &[&Record]) -> Result<Vec<Delivered>, LogError> {
        let mut all = Vec::with_capacity(records.len());
        for part in records.chunks(BATCH_RECORDS_MAX) {
            all.extend(self.deliver_part(part).await?);
        }
        if all.contains(&Err(Code::Fatal)) {
            self.replace();
        }
        self.ask_for_unknown(records, &all).await;
        Ok(all)
    }

    /// A topic or partition that is new is known to librdkafka when it looks the next time: now.
    async fn ask_for_unknown(&self, records: &[&Record], delivered: &[Delivered]) {
        let unknown = unknown_topics(records.iter().copied().zip(delivered));
        if unknown.is_empty() {
            return;
        }
        let native = Arc::clone(&self.native.lock().unwrap_or_else(PoisonError::into_inner));
        let asked = tokio::task::spawn_blocking(move || {
            for topic in unknown {
                // That the cluster does not answer shows when the records are sent again.
                let _ = native.client().fetch_metadata(Some(&topic), CALL);
            }
        });
        // A panic was reported.
        let _ = asked.await;
        tokio::time::sleep(SEND_AGAIN).await;
    }

    async fn deliver_part(&self, records: &[&Record]) -> Result<Vec<Delivered>, LogError> {
        let native = Arc::clone(&self.native.lock().unwrap_or_else(PoisonError::into_inner));
        let deliveries = Arc::clone(native.client().context());
        let (slot, all) = deliveries.expect(records.len());
        for (place, record) in records.iter().enumerate() {
            let mut outgoing = records::outgoing(record, slot.opaque(place));
            // QueueFull passes as messages are delivered; anything else is this record's own answer.
            while let Err((error, back)) = native.send(outgoing) {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                if code != Code::QueueFull {
                    deliveries.report(slot.opaque(place), Err(code));
                    break;
                }
                outgoing = back;
                tokio::time::sleep(QUEUE_FULL).await;
            }
        }
        all.await.map_err(|_| LogError::Unavailable("append: the producer was replaced".to_owned()))
    }

    fn replace(&self) {
        tracing::warn!("the Kafka producer has met a fatal error; it is replaced");
        match create(&self.options) {
            Ok(native) => *self.native.lock().unwrap_or_else(PoisonError::into_inner) = native,
            Err(error) => tracing::error!(%error, "the Kafka producer cannot be replaced"),
        }
    }

    /// Delivers what is on its way, within a time.
    pub(crate) fn flush(&self, within: Duration) {
        let native = Arc::clone(&self.native.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(error) = native.flush(within) {
            tracing::warn!(%error, "records are still on their way to Kafka; they were not acknowledged to anybody");
        }
        native.client().context().clear();
    }
}

/// Topics of records for which librdkafka knows no topic or partition.
pub(crate) fn unknown_topics<'a>(
    delivered: impl Iterator<Item = (&'a Record, &'a Delivered)>,
) -> BTreeSet<Topic> {
    let unknown = delivered.filter(|(_, delivered)| delivered.is_err_and(is_unknown));
    unknown.map(|(record, _)| record.topic.clone()).collect()
}

fn is_unknown(code: Code) -> bool {
    matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)
}

/// Where the records stand that were not delivered for such a reason.
fn places(
    records: &[&Record],
    delivered: &[Delivered],
    reason: impl Fn(&Record, Code) -> bool,
) -> Vec<usize> {
    let all = records.iter().zip(delivered).enumerate();
    let such = all.filter(|(_, (record, delivered))| delivered.is_err_and(|c| reason(record, c)));
    such.map(|(place, _)| place).collect()
}

/// Whether the same record may get through later.
fn passes(record: &Record, code: Code) -> bool {
    matches!(refusal(record, code), Err(LogError::Unavailable(_)))
}

/// A record's own answer; an error that is not its own fails the call.
fn answer(
    record: &Record,
    delivered: Delivered,
) -> Result<Result<Appended, RecordError>, LogError> {
    match delivered {
        Ok(appended) => Ok(Ok(appended)),
        Err(code) => refusal(record, code).map(Err),
    }
}

/// What a code says of its record.
///
/// # Errors
/// If it says something of the cluster or of this host's rights instead.
pub(crate) fn refusal(record: &Record, code: Code) -> Result<RecordError, LogError> {
    let topic = record.topic.clone();
    match code {
        Code::MessageSizeTooLarge => {
            let size_bytes = record.payload_bytes();
            Ok(RecordError::TooLarge { topic, size_bytes, max_bytes: size_bytes.saturating_sub(1) })
        }
        code if is_unknown(code) || code == Code::InvalidTopic => {
            Ok(RecordError::UnknownTopic { topic, reason: code.to_string() })
        }
        Code::InvalidTimestamp | Code::InvalidRecord | Code::PolicyViolation => {
            Ok(RecordError::Denied { topic, reason: code.to_string() })
        }
        // The next producer delivers it.
        Code::Fatal => Err(LogError::Unavailable(format!("append to {topic}: {code}"))),
        code => {
            let operation = format!("append to {topic}");
            Err(match errors::class(code) {
                // A producer that was fenced is the cluster's to mend: it is replaced.
                Class::Fenced => LogError::Unavailable(format!("{operation}: {code}")),
                Class::Passing | Class::Fatal => {
                    errors::of_code(&operation, code, &code.to_string())
                }
            })
        }
    }
}
