//! Options: how a cluster is reached, and which of librdkafka's properties are not the user's.
//!
//! Every property that is not listed here passes through as it is. Those listed are what the promises
//! of delivery, order and bounds rest on; setting one of them is refused by name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// How a cluster is reached.
#[derive(Clone)]
pub struct KafkaOptions {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// Properties of librdkafka beside our own; may hold secrets, so they are never shown.
    pub client: BTreeMap<String, String>,
    /// Names this host among those alive and again after a restart: the transactional ids and, with
    /// static membership, the group's instance ids are made of it. Two hosts with one id fence one
    /// another.
    pub host_id: String,
    /// How members and brokers agree on who reads what.
    pub group_protocol: GroupProtocol,
    /// Whether a restart within the session timeout keeps its partitions (`group.instance.id`).
    pub static_membership: bool,
    /// A file with a JSON Web Token for SASL/OAUTHBEARER, read anew before the token expires.
    pub oauth_token_file: Option<PathBuf>,
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("client", &self.client.keys().collect::<Vec<_>>())
            .field("host_id", &self.host_id)
            .field("group_protocol", &self.group_protocol)
            .field("static_membership", &self.static_membership)
            .finish_non_exhaustive()
    }
}

/// How members and brokers agree on who reads what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The members agree (`cooperative-sticky`, unless `partition.assignment.strategy` says otherwise).
    Classic,
    /// The broker decides (KIP-848). Experimental: librdkafka's side has open stalls.
    Consumer,
}

/// Properties that the host sets itself, each with the reason and what to do instead.
const OURS: &[(&str, &str)] = &[
    ("acks", "a message counts as written when all in-sync replicas have it"),
    ("allow.auto.create.topics", "topics are made by `millstream topics create`"),
    ("auto.commit.interval.ms", "the host commits what is settled: use `commit.interval`"),
    ("auto.commit.enable", "the host commits what is settled: use `commit.interval`"),
    ("auto.offset.reset", "where a new group begins is `source.start`"),
    ("bootstrap.servers", "it is `log.bootstrap_servers`"),
    ("metadata.broker.list", "it is `log.bootstrap_servers`"),
    ("client.id", "it is made of the pipeline's name and `host.id`"),
    ("consume.callback.max.messages", "the host bounds batches: use `in_flight`"),
    ("delivery.report.only.error", "the host waits for every acknowledgement"),
    ("enable.auto.commit", "the host commits what is settled: use `commit.interval`"),
    ("enable.auto.offset.store", "the host keeps offsets itself"),
    ("enable.gapless.guarantee", "the host sends again what failed"),
    ("enable.idempotence", "the host's producer is always idempotent"),
    ("enable.partition.eof", "the host needs it to see that it is caught up"),
    ("fetch.queue.backoff.ms", "its default throttles every fast consumer"),
    ("group.id", "it is `source.group`"),
    ("group.instance.id", "set `log.static_membership = true`; it is made of `host.id`"),
    ("group.protocol", "it is `log.group_protocol`"),
    ("isolation.level", "messages of aborted transactions are never handled"),
    ("max.in.flight", "order is kept by the idempotent producer"),
    ("max.in.flight.requests.per.connection", "order is kept by the idempotent producer"),
    ("message.send.max.retries", "`message.timeout.ms` bounds how long is tried"),
    ("retries", "`message.timeout.ms` bounds how long is tried"),
    ("offset.store.method", "offsets are kept by the broker"),
    ("queued.max.messages.kbytes", "the host bounds what is fetched ahead: use `in_flight.bytes`"),
    ("queued.min.messages", "the host bounds what is fetched ahead: use `in_flight`"),
    ("request.required.acks", "a message counts as written when all in-sync replicas have it"),
    ("statistics.interval.ms", "the host reads them to know whether it is in its group"),
    ("transactional.id", "it is made of the pipeline's group and `host.id`"),
];

/// Why a property of librdkafka is not the user's to set, and what to do instead; `None` if it is.
pub fn refused_property(name: &str) -> Option<&'static str> {
    OURS.iter().find(|(ours, _)| *ours == name).map(|(_, why)| *why)
}

/// Whether a property's value is a secret, which must not stand in a configuration file.
pub fn is_secret(name: &str) -> bool {
    const WHOLE: [&str; 4] = [
        "ssl.key.pem",
        "ssl_key",
        "sasl.oauthbearer.assertion.private.key.pem",
        // Whatever a token is made of.
        "sasl.oauthbearer.config",
    ];
    ["password", "passphrase", "secret"].iter().any(|word| name.contains(word))
        || WHOLE.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_promises_rest_on_is_refused_and_the_rest_passes() {
        for ours in ["enable.auto.commit", "isolation.level", "transactional.id", "group.id"] {
            assert!(refused_property(ours).is_some(), "{ours} is ours");
        }
        for users in ["security.protocol", "linger.ms", "partition.assignment.strategy"] {
            assert_eq!(refused_property(users), None, "{users} is the user's");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let options = KafkaOptions {
            bootstrap_servers: "a:1".to_owned(),
            client: BTreeMap::from([("sasl.password".to_owned(), "hunter2".to_owned())]),
            host_id: "h".to_owned(),
            group_protocol: GroupProtocol::Classic,
            static_membership: false,
            oauth_token_file: None,
        };
        assert!(!format!("{options:?}").contains("hunter2"));
        assert!(is_secret("sasl.password") && is_secret("ssl.keystore.password"));
        assert!(is_secret("sasl.oauthbearer.assertion.private.key.passphrase"));
        assert!(is_secret("sasl.oauthbearer.config") && is_secret("ssl.key.pem"));
        assert!(!is_secret("sasl.username") && !is_secret("ssl.ca.pem"));
    }
}
