//! Clients: how every librdkafka client of a host is configured, and what it says of itself.
//!
//! One context for all: log lines go to `tracing`, the last error that a person must mend is kept (a
//! call that times out because the password is wrong says so), and OAUTHBEARER tokens are read from
//! their file.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millstream_core::log::{LogError, Room, Subscription};
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::errors::{self, Class};
use crate::options::{GroupProtocol, KafkaOptions};

/// How long a call to the brokers may take.
pub(crate) const CALL: Duration = Duration::from_secs(10);

/// A produced message is given up after this, and then sent again by the core. Until then librdkafka sends
/// it again itself, and the broker drops what it has already; after it, nobody can know, and it may stand
/// there twice. So it is longer than a leader's election, a stalled disk or a broker's restart: Kafka's own
/// default (`delivery.timeout.ms`). Price: when a drain ends without an acknowledgement, a message that is
/// handled again by the next owner may be followed by its first copy.
const MESSAGE_TIMEOUT_MS: &str = "120000";

/// An open transaction of a host that died holds readers up so long.
const TRANSACTION_TIMEOUT_MS: &str = "10000";

/// How often the member is told whether it is in its group.
pub(crate) const JOIN_STATE_EVERY: &str = "statistics.interval.ms";
const JOIN_STATE_EVERY_MS: &str = "250";

/// A full local queue is looked at again after this; librdkafka's default of a second throttles.
const FETCH_QUEUE_BACKOFF_MS: &str = "5";

/// Part of the in-flight bytes that is read ahead for each partition.
const READ_AHEAD_PART: usize = 32;

/// See the module.
#[derive(Clone)]
pub(crate) struct Context {
    options: Arc<KafkaOptions>,
    /// Who speaks, for log lines.
    name: Arc<str>,
    lasting: Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>,
    /// What the client told of last, whether it passes or not.
    last: Arc<Mutex<Option<String>>>,
}

impl Context {
    pub(crate) fn new(options: Arc<KafkaOptions>, name: &str) -> Self {
        Self { options, name: name.into(), lasting: Arc::default(), last: Arc::default() }
    }

    /// What the client has told of its connections last; why a call was not answered in time.
    pub(crate) fn last_said(&self) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone().unwrap_or_else(|| "the client tells of no error".to_owned())
    }

    /// The last error that does not pass by itself, if the client told of one.
    pub(crate) fn lasting_error(&self, operation: &str) -> Option<LogError> {
        let lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        let (code, reason) = lasting.as_ref()?;
        Some(errors::of_code(operation, *code, reason))
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let client = &*self.name;
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::warn!(client, facility, "librdkafka: {text}"),
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::info!(client, facility, "librdkafka: {text}");
            }
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(client, facility, "librdkafka: {text}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let mut lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        // A handshake that fails looks like a broken connection, but trying again does not help.
        if errors::class(code) != Class::Passing || code == RDKafkaErrorCode::SSL {
            *lasting = Some((code, reason.to_owned()));
        }
        drop(lasting);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        tracing::debug!(client = %self.name, %error, reason, "librdkafka");
    }

    fn generate_oauth_token(
        &self,
        _config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let Some(file) = &self.options.oauth_token_file else {
            return Err("no token: set `log.oauth_token_file`".into());
        };
        let token = std::fs::read_to_string(file)
            .map_err(|error| format!("`log.oauth_token_file` {}: {error}", file.display()))?;
        let token = token.trim().to_owned();
        let (principal_name, lifetime_ms) = claims(&token)
            .ok_or_else(|| format!("{} holds no JSON Web Token with `exp`", file.display()))?;
        Ok(OAuthToken { token, principal_name, lifetime_ms })
    }
}

/// Whose token it is, and when it expires (epoch milliseconds).
fn claims(token: &str) -> Option<(String, i64)> {
    let body = token.split('.').nth(1)?;
    let body = URL_SAFE_NO_PAD.decode(body.trim_end_matches('=')).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&body).ok()?;
    let subject = claims.get("sub").and_then(|sub| sub.as_str()).unwrap_or("").to_owned();
    let expires = claims.get("exp")?.as_f64()?;
    Some((subject, (expires * 1000.0) as i64))
}

/// What every client has.
fn base(options: &KafkaOptions, client_id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    // What the user may change comes first, so that theirs goes before ours.
    config.set("topic.metadata.refresh.interval.ms", "30000");
    config.set("reconnect.backoff.max.ms", "2000");
    config.set("socket.keepalive.enable", "true");
    for (name, value) in &options.client {
        config.set(name, value);
    }
    config.set("bootstrap.servers", &options.bootstrap_servers);
    config.set("client.id", client_id);
    // Else a producer that asks for a topic which is gone makes it anew, with the broker's defaults.
    config.set("allow.auto.create.topics", "false");
    config.set_log_level(RDKafkaLogLevel::Info);
    config
}

/// A property that the user has not set.
fn default(options: &KafkaOptions, config: &mut ClientConfig, name: &str, value: &str) {
    if !options.client.contains_key(name) {
        config.set(name, value);
    }
}

fn consumer(options: &KafkaOptions, client_id: &str, group: &str) -> ClientConfig {
    let mut config = base(options, client_id);
    config.set("group.id", group);
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "error");
    config.set("isolation.level", "read_committed");
    config
}

/// The member of a group: it owns partitions and commits; it reads nothing.
pub(crate) fn member(options: &KafkaOptions, subscription: &Subscription) -> ClientConfig {
    let client_id = format!("millstream-{}-{}", subscription.pipeline, options.host_id);
    let mut config = consumer(options, &client_id, &subscription.group);
    match options.group_protocol {
        GroupProtocol::Classic => {
            // Tells whether it is in its group, which nothing else does.
            config.set(JOIN_STATE_EVERY, JOIN_STATE_EVERY_MS);
            let name = "partition.assignment.strategy";
            default(options, &mut config, name, "cooperative-sticky");
        }
        GroupProtocol::Consumer => {
            config.set("group.protocol", "consumer");
        }
    }
    if options.static_membership {
        config.set("group.instance.id", client_id);
    }
    // Its partitions are paused at once; the little that is fetched before costs nothing.
    config.set("queued.min.messages", "1");
    config.set("queued.max.messages.kbytes", "1");
    config.set("fetch.message.max.bytes", "1024");
    config
}

/// Reads partitions by hand, in no group.
pub(crate) fn reader(options: &KafkaOptions, name: &str, in_flight: Room) -> ClientConfig {
    let client_id = format!("millstream-{name}-{}-reader", options.host_id);
    // librdkafka wants a group for its consumer calls; this one is never joined.
    let mut config = consumer(options, &client_id, "millstream-reader-joins-no-group");
    let ahead = (in_flight.bytes / READ_AHEAD_PART).clamp(256 << 10, 16 << 20);
    config.set("queued.max.messages.kbytes", (ahead >> 10).to_string());
    config.set("queued.min.messages", "100000");
    config.set("fetch.queue.backoff.ms", FETCH_QUEUE_BACKOFF_MS);
    config.set("enable.partition.eof", "true");
    default(options, &mut config, "fetch.wait.max.ms", "100");
    default(options, &mut config, "fetch.error.backoff.ms", "50");
    let most = (ahead * 2).max(1 << 20).to_string();
    default(options, &mut config, "fetch.message.max.bytes", "1048576");
    default(options, &mut config, "fetch.max.bytes", &most);
    config
}

/// Asks for metadata, ends and commits.
pub(crate) fn tool(options: &KafkaOptions, group: &str, committed: bool) -> ClientConfig {
    let client_id = format!("millstream-{}-tool", options.host_id);
    let mut config = consumer(options, &client_id, group);
    let level = if committed { "read_committed" } else { "read_uncommitted" };
    config.set("isolation.level", level);
    config
}

fn producing(options: &KafkaOptions, client_id: &str) -> ClientConfig {
    let mut config = base(options, client_id);
    config.set("enable.idempotence", "true");
    config.set("acks", "all");
    // As Java's producers do it, so that keys meet in the same partitions.
    default(options, &mut config, "partitioner", "murmur2_random");
    default(options, &mut config, "message.timeout.ms", MESSAGE_TIMEOUT_MS);
    default(options, &mut config, "message.max.bytes", "100000000");
    default(options, &mut config, "batch.size", "900000");
    default(options, &mut config, "linger.ms", "5");
    default(options, &mut config, "queue.buffering.max.messages", "1000000");
    default(options, &mut config, "queue.buffering.max.kbytes", "262144");
    config
}

/// The producer of everything but transactions.
pub(crate) fn producer(options: &KafkaOptions) -> ClientConfig {
    producing(options, &format!("millstream-{}-producer", options.host_id))
}

/// The producer of a pipeline's transactions.
pub(crate) fn transactional(options: &KafkaOptions, subscription: &Subscription) -> ClientConfig {
    let id = format!("millstream-{}-{}", subscription.pipeline, options.host_id);
    transactional_as(
        options,
        &format!("{}-{id}", subscription.group),
        &format!("{id}-transactions"),
    )
}

/// A producer of transactions of this id, which fences whoever has it.
pub(crate) fn transactional_as(options: &KafkaOptions, id: &str, client_id: &str) -> ClientConfig {
    let mut config = producing(options, client_id);
    config.set("transactional.id", id);
    // librdkafka takes that of the transaction, and refuses a longer one.
    if !options.client.contains_key("message.timeout.ms") {
        config.remove("message.timeout.ms");
    }
    default(options, &mut config, "transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
    // A new transaction right after a commit meets CONCURRENT_TRANSACTIONS.
    default(options, &mut config, "retry.backoff.ms", "5");
    // What is gathered goes at once.
    if !options.client.contains_key("linger.ms") {
        config.set("linger.ms", "1");
    }
    config
}

/// Administers topics.
pub(crate) fn admin(options: &KafkaOptions) -> ClientConfig {
    base(options, &format!("millstream-{}-admin", options.host_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_whose_it_is_and_when_it_expires() {
        let body = URL_SAFE_NO_PAD.encode(r#"{"sub":"ada","exp":1700000000.5}"#);
        assert_eq!(claims(&format!("e30.{body}.")), Some(("ada".to_owned(), 1_700_000_000_500)));
        for hostile in ["", "a", "a.b.c", "e30.e30.", "..", "a.!!!."] {
            assert_eq!(claims(hostile), None, "{hostile}");
        }
    }
}
