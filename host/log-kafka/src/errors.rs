//! Errors of librdkafka by what the core does next: wait, give the partitions up, or stop.
//!
//! `docs/kafka.md` has the same as a table for operators.

use millstream_core::log::LogError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What is done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It may pass by itself.
    Passing,
    /// This member or producer was replaced by another.
    Fenced,
    /// A person must act.
    Fatal,
}

/// The class of an error code.
pub(crate) fn class(code: Code) -> Class {
    match code {
        Code::FencedInstanceId | Code::ProducerFenced | Code::InvalidProducerEpoch => Class::Fenced,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::Authentication
        | Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::InvalidTopic
        | Code::OffsetMetadataTooLarge
        | Code::InvalidCommitOffsetSize
        | Code::PolicyViolation
        | Code::InvalidConfig
        | Code::InvalidReplicationFactor
        | Code::InvalidPartitions
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::InconsistentGroupProtocol
        | Code::InvalidSessionTimeout
        | Code::UnsupportedAssignor
        | Code::UnreleasedInstanceId
        | Code::InvalidArgument
        | Code::Fatal => Class::Fatal,
        _ => Class::Passing,
    }
}

/// What helps, for codes where that is known.
fn advice(code: Code) -> &'static str {
    match code {
        Code::TopicAuthorizationFailed => {
            ": allow this user the topic (docs/kafka.md lists the least rights)"
        }
        Code::GroupAuthorizationFailed => {
            ": allow this user to read the group (docs/kafka.md lists the least rights)"
        }
        Code::TransactionalIdAuthorizationFailed => {
            ": allow this user to describe and write the transactional id (docs/kafka.md)"
        }
        Code::ClusterAuthorizationFailed => {
            ": allow this user what was asked for (docs/kafka.md lists the least rights)"
        }
        Code::SaslAuthenticationFailed | Code::Authentication | Code::UnsupportedSASLMechanism => {
            ": correct the user, password or mechanism in `log.client`"
        }
        Code::FencedInstanceId | Code::ProducerFenced => {
            ": another host with the same `host.id` has joined; give each host an id of its own"
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            ": create it (`millstream topics create --pipelines`) or correct the configuration"
        }
        Code::OffsetMetadataTooLarge => {
            ": set the brokers' `offset.metadata.max.bytes` to 4096 or more"
        }
        _ => "",
    }
}

/// The error of a call.
pub(crate) fn log_error(operation: &str, error: &KafkaError) -> LogError {
    match error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) => {
            LogError::Fatal(format!("{operation}: {error}: correct `log.client`"))
        }
        KafkaError::Transaction(detail) => of_code(operation, detail.code(), &detail.string()),
        _ => match error.rdkafka_error_code() {
            Some(code) => of_code(operation, code, &code.to_string()),
            None => LogError::Unavailable(format!("{operation}: {error}")),
        },
    }
}

/// The error of a code.
pub(crate) fn of_code(operation: &str, code: Code, reason: &str) -> LogError {
    let text = format!("{operation}: {reason}{}", advice(code));
    match class(code) {
        Class::Passing => LogError::Unavailable(text),
        Class::Fenced => LogError::Fenced(text),
        Class::Fatal => LogError::Fatal(text),
    }
}
