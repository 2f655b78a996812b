//! The keys of `[log]` that belong to Kafka.
//!
//! Part of `log`. What the client library takes is its own affair; checked are the properties that
//! the promises rest on, secrets that stand in the file, and what does not go together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::bounds::{Bounds, Checker};
use crate::config::checked::Setting;
use crate::config::document::join;
use crate::config::raw::Scalar;
use crate::finding::{Code, Finding};
use crate::kafka;

/// How a cluster is reached, checked.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// Properties of the client library.
    pub client: BTreeMap<String, Setting>,
    /// How a group agrees on who reads what.
    pub group_protocol: GroupProtocol,
    /// Whether a host that is back within the session timeout keeps its partitions.
    pub static_membership: bool,
    /// A file with a JSON Web Token.
    pub oauth_token_file: Option<PathBuf>,
    /// Longest time between two polls before the group goes on without the member.
    pub poll_interval_max: Duration,
}

/// How a group agrees on who reads what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupProtocol {
    /// Its members agree.
    Classic,
    /// The broker decides.
    Consumer,
}

/// The keys of `[log]` that belong to Kafka, as they are typed.
pub(super) struct RawKafka {
    pub(super) bootstrap_servers: Option<String>,
    pub(super) client: BTreeMap<String, Scalar>,
    pub(super) group_protocol: Option<String>,
    pub(super) static_membership: Option<bool>,
    pub(super) oauth_token_file: Option<String>,
}

const CLIENT: &str = "log.client";
const POLL_INTERVAL: &str = "max.poll.interval.ms";
/// What the client library has if nothing is said.
const POLL_INTERVAL_DEFAULT_MS: u32 = 300_000;
/// Both names of one property.
const SASL_MECHANISM: [&str; 2] = ["sasl.mechanism", "sasl.mechanisms"];
/// Properties that the client library refuses with `group_protocol = "consumer"`, at the first
/// subscription only.
const CLASSIC_ONLY: [&str; 4] = [
    "group.protocol.type",
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
    "session.timeout.ms",
];

/// Checks the keys.
pub(super) fn check(checker: &mut Checker<'_>, raw: RawKafka) -> KafkaConfig {
    if !kafka::AVAILABLE {
        checker.value(kafka::unavailable(), "log.kind");
    }
    let group_protocol = group_protocol(checker, raw.group_protocol.as_deref());
    properties(checker, &raw.client, group_protocol);
    let oauth_token_file = oauth_token_file(checker, raw.oauth_token_file, &raw.client);
    KafkaConfig {
        bootstrap_servers: bootstrap_servers(checker, raw.bootstrap_servers.as_deref()),
        poll_interval_max: poll_interval(checker, &raw.client),
        client: settings(checker, raw.client),
        group_protocol,
        static_membership: raw.static_membership.unwrap_or(false),
        oauth_token_file,
    }
}

fn bootstrap_servers(checker: &mut Checker<'_>, text: Option<&str>) -> String {
    let path = "log.bootstrap_servers";
    let fix = "name some brokers: `bootstrap_servers = \"kafka-1:9092,kafka-2:9092\"`";
    let Some(text) = text else {
        let finding = Finding::new(Code::WrongShape, "`log` has no `bootstrap_servers`", fix);
        checker.value(finding.because("`kind = \"kafka\"` does not say where it is"), "log.kind");
        return String::new();
    };
    let servers: Vec<&str> = text.split(',').map(str::trim).collect();
    // One finding is enough: the first that is wrong shows how they are written.
    if let Some(why) = servers.iter().find_map(|server| server_problem(server)) {
        let shown = checker.document.shown(path, text);
        let finding = Finding::new(Code::BadValue, format!("`{path}` cannot be {shown}"), fix);
        checker.value(finding.because(why), path);
    }
    servers.join(",")
}

/// What is wrong with one `host:port`. Does not name it: it may come from a variable.
fn server_problem(server: &str) -> Option<&'static str> {
    if server.is_empty() {
        return Some("a server's name is empty");
    }
    if server.contains("://") {
        return Some("a server has no `://`: what is spoken says `client`'s \"security.protocol\"");
    }
    // An IPv6 address has colons of its own, and stands in brackets.
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        _ => return Some("a server is a host and a port, `host:port`"),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(fits),
    };
    if !is_host {
        return Some("a server's host is a name or an address (IPv6 in brackets)");
    }
    if port.parse::<u16>().map_or(true, |port| port == 0) {
        return Some("a server's port is a number from 1 to 65535");
    }
    None
}

fn group_protocol(checker: &mut Checker<'_>, text: Option<&str>) -> GroupProtocol {
    let path = "log.group_protocol";
    let words = [("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)];
    let protocol = checker.word(path, text, GroupProtocol::Classic, &words);
    if protocol == GroupProtocol::Consumer {
        let what = "`group_protocol = \"consumer\"` is experimental";
        let why = "the client library has open faults with it: a group can come to stand still";
        let fix = "use \"classic\", unless you try it out";
        let finding = Finding::new(Code::Unsupported, what, fix).because(why).warning();
        checker.value(finding, path);
    }
    protocol
}

fn properties(
    checker: &mut Checker<'_>,
    client: &BTreeMap<String, Scalar>,
    group_protocol: GroupProtocol,
) {
    for name in client.keys() {
        let path = join(CLIENT, name);
        if let Some(why) = kafka::refused_property(name) {
            let what = format!("client property `{name}` is not to be set");
            let finding = Finding::new(Code::Unsupported, what, "take it out").because(why);
            checker.key(finding, &path);
        } else if group_protocol == GroupProtocol::Consumer && CLASSIC_ONLY.contains(&name.as_str())
        {
            let what = format!("client property `{name}` does not go with `group_protocol`");
            let why = "with \"consumer\" the broker decides it";
            let fix = "take it out, or set `group_protocol = \"classic\"`";
            checker.key(Finding::new(Code::Unsupported, what, fix).because(why), &path);
        } else if kafka::AVAILABLE
            && kafka::is_secret(name)
            && !checker.document.is_substituted(&path)
        {
            let what = format!("client property `{name}` stands in the file itself");
            let why = "it is a secret: who may read the configuration could use it";
            let fix = "hand it in as `${VARIABLE}` or `${file:PATH}`";
            checker.value(Finding::new(Code::BadValue, what, fix).because(why), &path);
        }
    }
}

fn poll_interval(checker: &mut Checker<'_>, client: &BTreeMap<String, Scalar>) -> Duration {
    const INTERVAL: Bounds<u32> = Bounds {
        min: (1000, "1000"),
        max: (86_400_000, "86400000"),
        reason: "a member that does not poll in this time is put out of its group",
    };
    let path = join(CLIENT, POLL_INTERVAL);
    let millis = match client.get(POLL_INTERVAL).map(|value| value.0.parse()) {
        Some(Ok(millis)) => checker.count(&path, Some(millis), POLL_INTERVAL_DEFAULT_MS, INTERVAL),
        Some(Err(_)) => {
            let what = format!("client property `{POLL_INTERVAL}` is no number");
            let fix = "write milliseconds, for example 300000";
            checker.value(Finding::new(Code::BadValue, what, fix), &path);
            POLL_INTERVAL_DEFAULT_MS
        }
        None => POLL_INTERVAL_DEFAULT_MS,
    };
    Duration::from_millis(u64::from(millis))
}

fn oauth_token_file(
    checker: &mut Checker<'_>,
    text: Option<String>,
    client: &BTreeMap<String, Scalar>,
) -> Option<PathBuf> {
    let path = "log.oauth_token_file";
    let text = text?;
    let mechanism = SASL_MECHANISM.iter().find_map(|name| client.get(*name));
    if text.is_empty() {
        let fix = "name the token's file, relative to this file's folder";
        checker.value(Finding::new(Code::BadValue, format!("`{path}` is empty"), fix), path);
    } else if mechanism.is_none_or(|mechanism| mechanism.0 != "OAUTHBEARER") {
        let what = format!("`{path}` does nothing with this `log.client`");
        let why = "a token is shown with SASL/OAUTHBEARER only";
        let fix = "set `client = { \"security.protocol\" = \"SASL_SSL\", \"sasl.mechanism\" = \
                   \"OAUTHBEARER\" }`, or take the key out";
        checker.key(Finding::new(Code::Unsupported, what, fix).because(why), path);
    }
    Some(checker.document.folder().join(text))
}

fn settings(checker: &Checker<'_>, client: BTreeMap<String, Scalar>) -> BTreeMap<String, Setting> {
    let setting = |(name, value): (String, Scalar)| {
        let outside = checker.document.is_substituted(&join(CLIENT, &name));
        let secret = outside || kafka::is_secret(&name);
        (name, Setting { value: value.0, secret })
    };
    client.into_iter().map(setting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for good in ["kafka:9092", "10.0.0.1:1", "[::1]:9092", "a_b-c.example.com:65535"] {
            assert_eq!(server_problem(good), None, "{good}");
        }
        for bad in [
            "",
            "kafka",
            "kafka:",
            ":9092",
            "kafka:0",
            "kafka:65536",
            "kafka:ninety",
            "::1:9092",
            "[::1]",
            "[kafka]:9092",
            "SSL://kafka:9092",
            "ka fka:9092",
            "kafka:9092/path",
        ] {
            assert!(server_problem(bad).is_some(), "{bad:?} was taken");
        }
    }
}
