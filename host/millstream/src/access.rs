//! Access: the log, wherever it is.
//!
//! A command opens the embedded log's folder itself or, if a host has it, reaches that host through
//! its admin API: the folder's lock says where; the token is the configured one, or stands in
//! `<data_dir>/admin.token`. A Kafka cluster it reaches by itself, whether a host runs or not. Either
//! way the command works on a [`Log`].
//!
//! A folder that another short command has, or a host that is starting or ending, is waited for, at
//! most [`IN_USE_WAIT`].

use std::sync::Arc;
use std::time::Duration;

use millstream_admin::{ConnectError, RemoteLog, Token};
use millstream_core::log::{Log, TopicSpec};
use millstream_core::nearest::nearest;
use millstream_log_embedded::{EmbeddedLog, EmbeddedOptions, OpenError};

use crate::commands::{Context, Place};
use crate::config::{self, Durability, LogKind};
use crate::exit::Failure;
use crate::finding::{Code, Finding};
use crate::host::identity;
use crate::kafka::Cluster;

/// How long a folder is waited for that is in use by a process without an admin API: a command that
/// ends soon, or a host that is starting.
pub const IN_USE_WAIT: Duration = Duration::from_secs(5);
/// How often it is looked again.
const IN_USE_POLL: Duration = Duration::from_millis(100);

/// The log, and how it was reached.
pub struct Access {
    /// The log.
    pub log: Arc<dyn Log>,
    way: Way,
}

enum Way {
    /// This process has the folder.
    Folder(Arc<EmbeddedLog>),
    /// Another process has it.
    Host,
    /// Any number of processes may.
    Cluster(Cluster),
}

impl Access {
    /// Whether hosts may run on it: a folder that this process has opened has none.
    pub fn may_have_hosts(&self) -> bool {
        !matches!(self.way, Way::Folder(_))
    }

    /// Gives the log free at once.
    pub async fn close(self) {
        match self.way {
            Way::Folder(embedded) => embedded.close().await,
            Way::Host => {}
            Way::Cluster(cluster) => cluster.close().await,
        }
    }

    /// Waits, and is there again. An embedded log is free for others meanwhile; a host that has it
    /// may come or go.
    ///
    /// # Errors
    /// When the log cannot be reached again.
    pub async fn wait(
        self,
        context: &Context,
        place: &Place,
        wait: Duration,
    ) -> Result<Self, Failure> {
        match self.way {
            Way::Cluster(_) => {
                tokio::time::sleep(wait).await;
                Ok(self)
            }
            Way::Folder(_) | Way::Host => {
                self.close().await;
                tokio::time::sleep(wait).await;
                open(context, place).await
            }
        }
    }
}

/// Whether there is a log already: an embedded one is made when it is first opened.
pub fn exists(place: &Place) -> bool {
    place.log.is_kafka() || config::log_dir(&place.data_dir).exists()
}

/// Options of the embedded log as configured.
pub fn embedded_options(durability: Durability) -> EmbeddedOptions {
    let durability = match durability {
        Durability::Always => millstream_log_embedded::Durability::Always,
        Durability::Interval(interval) => millstream_log_embedded::Durability::Interval(interval),
    };
    EmbeddedOptions { durability, ..EmbeddedOptions::default() }
}

/// Opens the log's folder, or reaches the host that has it, or the cluster.
///
/// # Errors
/// When that cannot be done.
pub async fn open(context: &Context, place: &Place) -> Result<Access, Failure> {
    match &place.log {
        LogKind::Embedded { durability } => open_folder(context, place, *durability).await,
        LogKind::Kafka(kafka) => {
            // Never the host's own id: a command beside a running host is not that host.
            let id = format!("command-{}", std::process::id());
            let cluster = Cluster::connect(kafka, id).await?;
            let servers = &kafka.bootstrap_servers;
            context.terminal.say_verbose(&format!("reached the cluster at {servers}"));
            Ok(Access { log: cluster.log.clone(), way: Way::Cluster(cluster) })
        }
    }
}

async fn open_folder(
    context: &Context,
    place: &Place,
    durability: Durability,
) -> Result<Access, Failure> {
    let folder = config::log_dir(&place.data_dir);
    let deadline = tokio::time::Instant::now() + IN_USE_WAIT;
    loop {
        match EmbeddedLog::open(&folder, embedded_options(durability)) {
            Ok(embedded) => {
                context.terminal.say_verbose(&format!("opened the log in {}", folder.display()));
                return Ok(Access { log: embedded.clone(), way: Way::Folder(embedded) });
            }
            Err(OpenError::InUse { admin: Some(admin), .. }) => {
                context.terminal.say_verbose(&format!(
                    "the log in {} is in use: reaching its host at {admin}",
                    folder.display()
                ));
                match remote(&admin, place).await {
                    Ok(access) => return Ok(access),
                    Err(NotReached::AtAll(failure)) => return Err(failure),
                    Err(NotReached::Yet(error)) if tokio::time::Instant::now() >= deadline => {
                        return Err(connect_failure(&error));
                    }
                    Err(NotReached::Yet(_)) => tokio::time::sleep(IN_USE_POLL).await,
                }
            }
            Err(OpenError::InUse { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(IN_USE_POLL).await;
            }
            Err(error) => return Err(open_finding(&error).into()),
        }
    }
}

/// A host that could not be reached: it may be ending, and the folder free in a moment.
enum NotReached {
    Yet(ConnectError),
    AtAll(Failure),
}

async fn remote(address: &str, place: &Place) -> Result<Access, NotReached> {
    let log = Arc::new(host(address, place).await?);
    Ok(Access { log, way: Way::Host })
}

/// What the host that runs now says of itself, also while its log does not answer; one that is starting is not
/// disturbed.
///
/// # Errors
/// When none runs, or it can't be reached.
pub async fn host_status(place: &Place) -> Result<serde_json::Value, Failure> {
    let (folder, announced) = match place.log {
        LogKind::Embedded { .. } => {
            let folder = config::log_dir(&place.data_dir);
            let announced = millstream_log_embedded::announced(&folder);
            (folder, announced)
        }
        LogKind::Kafka(_) => (place.data_dir.clone(), identity::announced(&place.data_dir)),
    };
    let none = |why: String| {
        let what = format!("no host runs on {}", folder.display());
        Finding::new(Code::LogUnavailable, what, "start one with `millstream run`").because(why)
    };
    let Some(address) = announced else {
        return Err(none("none has announced itself there".to_owned()).into());
    };
    let token = token(&address, place)?;
    millstream_admin::host_status(&address, &token).await.map_err(|error| match error {
        ConnectError::NotThere { .. } => none(error.to_string()).into(),
        error => connect_failure(&error),
    })
}

async fn host(address: &str, place: &Place) -> Result<RemoteLog, NotReached> {
    let token = token(address, place).map_err(NotReached::AtAll)?;
    match RemoteLog::connect(address, &token).await {
        Ok(log) => Ok(log),
        Err(error @ ConnectError::NotThere { .. }) => Err(NotReached::Yet(error)),
        Err(error) => Err(NotReached::AtAll(connect_failure(&error))),
    }
}

fn token(address: &str, place: &Place) -> Result<Token, Failure> {
    let token = match &place.admin_token {
        Some(token) => Token::new(token.expose()),
        None => Token::read(&config::token_file(&place.data_dir)),
    };
    token.map_err(|error| {
        let fix = "run the command as the user who runs the host, with the host's `--config`";
        let what = format!("the token of the running host at {address} is not known");
        Finding::new(Code::LogUnavailable, what, fix).because(error).into()
    })
}

fn connect_failure(error: &ConnectError) -> Failure {
    let what = "the running host cannot be reached";
    let fix = match error {
        ConnectError::NotThere { .. } => "see that the host runs, or stop it, and try again",
        ConnectError::Refused { .. } => "use the host's own configuration and user",
        ConnectError::Unusable { .. } => "use the host's own version of this program",
    };
    Finding::new(Code::LogUnavailable, what, fix).because(error).into()
}

/// Why the folder does not open.
pub fn open_finding(error: &OpenError) -> Finding {
    let (what, otherwise) = ("the log cannot be opened", "remove the reason, then try again");
    Finding::of_text(Code::LogUnavailable, what, &error.to_string(), otherwise)
}

/// The topic, which must exist.
///
/// # Errors
/// When it does not, or the log does not tell.
pub async fn require_topic(log: &dyn Log, name: &str) -> Result<TopicSpec, Failure> {
    let topics = log.topics().await;
    let topics =
        topics.map_err(|error| Failure::log("the log's topics cannot be listed", &error))?;
    if let Some(topic) = topics.iter().find(|topic| &*topic.name == name) {
        return Ok(topic.clone());
    }
    let known: Vec<String> = topics.iter().map(|topic| topic.name.to_string()).collect();
    let fix = match nearest(name, &known) {
        Some(nearest) => {
            format!("did you mean {nearest:?}? Else `millstream topics create {name}`")
        }
        None => format!("make it with `millstream topics create {name}`"),
    };
    Err(Finding::new(Code::Topic, format!("there is no topic {name:?}"), fix).into())
}
