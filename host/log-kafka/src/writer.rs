//! Writers: appending all or nothing under a name, which is the id of a transactional producer.
//!
//! Kafka fences by that id: taking the name ends what its earlier owner had begun (it is committed if its commit had
//! been asked for, else aborted), and the brokers refuse what that one sends afterwards. A client that was killed with
//! records on the wire leaves nothing that lands later.

use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::log::{LogError, RecordError, TransactError, WRITER_NAME_BYTES_MAX, Writer};
use millstream_core::message::Record;
use rdkafka::producer::Producer as _;

use crate::client::{self, CALL, Context};
use crate::deliveries::Deliveries;
use crate::errors;
use crate::log::blocking;
use crate::options::KafkaOptions;
use crate::producer;
use crate::topics::Topics;
use crate::transactions::{self, Ended, Native};

/// See the module.
pub(crate) struct KafkaWriter {
    name: Arc<str>,
    topics: Arc<Topics>,
    native: Arc<Native>,
}

impl KafkaWriter {
    /// Takes a name.
    pub(crate) async fn begin(
        options: Arc<KafkaOptions>,
        topics: Arc<Topics>,
        name: &str,
    ) -> Result<Self, LogError> {
        if name.is_empty() || name.len() > WRITER_NAME_BYTES_MAX {
            return Err(LogError::Fatal(format!(
                "a writer's name needs 1 to {WRITER_NAME_BYTES_MAX} bytes, {name:?} has {}",
                name.len()
            )));
        }
        let name: Arc<str> = name.into();
        let taken = Arc::clone(&name);
        let native = blocking(move || {
            let operation = format!("taking the writer's name {taken}");
            let client_id = format!("millstream-{}-writer", options.host_id);
            let config = client::transactional_as(&options, &taken, &client_id);
            let context = Deliveries::new(Context::new(Arc::clone(&options), "writer"));
            let native: Native = config
                .create_with_context(context)
                .map_err(|error| errors::log_error(&operation, &error))?;
            transactions::init(&native).map_err(|error| errors::log_error(&operation, &error))?;
            Ok(Arc::new(native))
        });
        let native = native.await?;
        Ok(Self { name, topics, native })
    }
}

#[async_trait]
impl Writer for KafkaWriter {
    async fn append_all(&self, records: &[Record]) -> Result<(), TransactError> {
        let refusals = self.topics.refusals(records.iter()).await?;
        for (index, refusal) in refusals.into_iter().enumerate() {
            if let Some(error) = refusal {
                return Err(TransactError::Offender { index, error });
            }
        }
        let (native, records) = (Arc::clone(&self.native), records.to_vec());
        let operation = format!("writing all or nothing as {}", self.name);
        let written = blocking(move || Ok(write(&native, &operation, &records)));
        written.await?
    }
}

fn write(native: &Native, operation: &str, records: &[Record]) -> Result<(), TransactError> {
    let ended = match native.begin_transaction() {
        Ok(()) => match transactions::produce(native, records.iter()) {
            Ok(delivered) => match first_refusal(records, &delivered) {
                None => transactions::commit(native, operation),
                // It is listed, so the client is behind: it knows it the next time.
                Some(Ok(TransactError::Offender {
                    error: error @ RecordError::UnknownTopic { .. },
                    ..
                })) => {
                    for topic in producer::unknown_topics(records.iter().zip(&delivered)) {
                        // That the cluster does not answer shows when the records are sent again.
                        let _ = native.client().fetch_metadata(Some(&topic), CALL);
                    }
                    let error = LogError::Unavailable(format!("{operation}: {error}"));
                    transactions::after_abort(native, operation, Ended::Aborted(error))
                }
                Some(Ok(offender)) => {
                    let ended = Ended::Without(vec![(0, offender)]);
                    transactions::after_abort(native, operation, ended)
                }
                Some(Err(error)) => {
                    transactions::after_abort(native, operation, Ended::Aborted(error))
                }
            },
            Err(error) => transactions::abort(native, operation, &error),
        },
        Err(error) => transactions::abort(native, operation, &error),
    };
    match ended {
        Ended::Committed => Ok(()),
        Ended::Without(refused) => Err(refused.into_iter().next().map_or_else(
            || LogError::Unavailable(format!("{operation}: it was aborted")).into(),
            |(_, offender)| offender,
        )),
        Ended::Aborted(error) | Ended::Lost(error) => Err(error.into()),
    }
}

/// The first record that is refused for good, or else what keeps the records from being delivered.
fn first_refusal(
    records: &[Record],
    delivered: &[crate::deliveries::Delivered],
) -> Option<Result<TransactError, LogError>> {
    let mut passing = None;
    for (index, (record, delivered)) in records.iter().zip(delivered).enumerate() {
        let Err(code) = delivered else { continue };
        match producer::refusal(record, *code) {
            Ok(error) => return Some(Ok(TransactError::Offender { index, error })),
            Err(error) => passing = passing.or(Some(Err(error))),
        }
    }
    passing
}
