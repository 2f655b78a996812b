//! Appending all or nothing through a running host.

use async_trait::async_trait;
use millstream_core::log::{LogError, RecordError, TransactError, Writer};
use millstream_core::message::Record;

use super::RemoteLog;
use crate::limits::BODY_BYTES_MAX;
use crate::wire::*;

/// See the module.
pub(super) struct RemoteWriter {
    log: RemoteLog,
    name: String,
    token: u64,
}

impl RemoteWriter {
    pub(super) async fn begin(log: RemoteLog, name: &str) -> Result<Self, LogError> {
        let name = name.to_owned();
        let answer: WriterAnswer =
            log.post("writer", &WriterRequest { name: name.clone() }).await?;
        Ok(Self { log, name, token: answer.token })
    }
}

#[async_trait]
impl Writer for RemoteWriter {
    async fn append_all(&self, records: &[Record]) -> Result<(), TransactError> {
        let sizes = records.iter().map(json_bytes_max);
        let (mut total, mut largest) = (0, (0, 0));
        for (index, size) in sizes.enumerate() {
            total += size;
            if size > largest.1 {
                largest = (index, size);
            }
        }
        if total > BODY_BYTES_MAX - 1024
            && let Some(record) = records.get(largest.0)
        {
            let reason = format!(
                "it takes up to {} bytes as JSON, {total} with what goes with it, and a request to a running host at most {BODY_BYTES_MAX}: stop the host to write it",
                largest.1
            );
            let error = RecordError::Denied { topic: record.topic.clone(), reason };
            return Err(TransactError::Offender { index: largest.0, error });
        }
        let request = AppendAllRequest {
            name: self.name.clone(),
            token: self.token,
            records: records.iter().map(RecordJson::from).collect(),
        };
        let answer: AppendAllAnswer = self.log.post("append-all", &request).await?;
        let Some((index, refused)) = answer.offender else { return Ok(()) };
        match refused.into() {
            Err(error) => Err(TransactError::Offender { index, error }),
            Ok(_) => {
                let text =
                    "the host names a record that it did not refuse: use its own `millstream`";
                Err(LogError::Fatal(text.to_owned()).into())
            }
        }
    }
}
