//! Why a deploy or rollback did not happen, by what the caller does next.

use crate::audit::AuditError;
use crate::log::{LogError, RecordError};
use crate::message::Topic;

/// See the module. Unless it says otherwise, nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeployError {
    /// The log as a whole. What was asked for may have happened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The control topic does not take a record.
    #[error("the control topic does not take a record: {0}")]
    Record(#[from] RecordError),
    /// The audit trail can't be written, so nothing was begun.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// There is no control topic.
    #[error("topic {topic} does not exist: make it with `millstream topics create --pipelines`")]
    NoTopic {
        /// Its name.
        topic: Topic,
    },
    /// The request itself is wrong.
    #[error("{0}")]
    Request(String),
    /// A host refuses the version.
    #[error("host {host} refuses it: {reason}")]
    Refused {
        /// Which.
        host: String,
        /// Why.
        reason: String,
    },
    /// A host has not said what it thinks of it.
    #[error(
        "host {host} has not ended its check within {seconds} s: look at its log, or give it longer with `--timeout`"
    )]
    NoAnswer {
        /// Which.
        host: String,
        /// How long it had.
        seconds: u64,
    },
    /// Somebody else proposed or changed meanwhile.
    #[error("{by} was faster with {what}: see `millstream versions`, then decide again")]
    Overtaken {
        /// Who.
        by: String,
        /// What they did.
        what: String,
    },
    /// There is nothing to go back to.
    #[error("{0}")]
    NothingBefore(String),
}

/// The log must be right: a record that is refused is an error.
pub(super) fn appended(
    results: Vec<Result<crate::log::Appended, RecordError>>,
) -> Result<Vec<crate::log::Appended>, DeployError> {
    results.into_iter().map(|result| result.map_err(DeployError::from)).collect()
}
