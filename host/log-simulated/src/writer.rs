//! Writers: appending all or nothing under a name that fences whoever had it before.

use async_trait::async_trait;
use millstream_core::log::{LogError, TransactError, Writer};
use millstream_core::message::Record;

use crate::cluster::State;
use crate::log::SimLog;
use crate::topics::append_all;

/// See the module.
pub(crate) struct SimWriter {
    log: SimLog,
    name: String,
    claim: u64,
}

impl SimWriter {
    /// Takes a name.
    pub(crate) async fn begin(log: &SimLog, name: &str) -> Result<Self, LogError> {
        let claim = log.ask("writer", |state, _| {
            let claim = state.writers.entry(name.to_owned()).or_default();
            *claim += 1;
            Ok::<_, LogError>(*claim)
        });
        Ok(Self { log: log.clone(), name: name.to_owned(), claim: claim.await? })
    }

    fn write(&self, state: &mut State, records: &[Record]) -> Result<(), TransactError> {
        if state.writers.get(&self.name) != Some(&self.claim) {
            let text = format!("another writer has taken the name {}", self.name);
            return Err(LogError::Fenced(text).into());
        }
        let host = self.log.host();
        for (index, record) in records.iter().enumerate() {
            if let Some(error) = state.refusal(host, record) {
                return Err(TransactError::Offender { index, error });
            }
        }
        for (index, answer) in
            append_all(state, None, false, records.to_vec()).into_iter().enumerate()
        {
            answer.map_err(|error| TransactError::Offender { index, error })?;
        }
        Ok(())
    }
}

#[async_trait]
impl Writer for SimWriter {
    async fn append_all(&self, records: &[Record]) -> Result<(), TransactError> {
        self.log.ask("append_all", |state, _| self.write(state, records)).await
    }
}
