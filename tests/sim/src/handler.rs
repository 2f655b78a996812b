//! The scripted handler: plays each message's script and reports every attempt to the history.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millstream_core::message::{Header, Message};
use millstream_core::outcome::{Destination, Fault, Outcome, Output};
use millstream_core::plugin::{AttemptContext, Instance, Plugin, PluginError, PluginIdentity};
use millstream_log_simulated::HostId;
use tokio::sync::Notify;

use crate::facts::{Act, End, UID};
use crate::history::History;
use crate::runs::{Ended, RunId};
use crate::scenario::OUTPUT_BYTES_MAX;

/// The header of an output that says which run made it.
pub const RUN: &str = "run";

/// The header of an output that says which of its run's outputs it is.
pub const INDEX: &str = "index";

/// The plugin as one host has loaded it.
pub struct ScriptedPlugin {
    identity: PluginIdentity,
    history: Arc<History>,
    host: HostId,
    kill: Arc<Notify>,
}

impl ScriptedPlugin {
    /// The plugin on `host`, reporting to `history`; a message that kills its host tells `kill`.
    pub fn new(history: Arc<History>, host: HostId, kill: Arc<Notify>) -> Self {
        let identity = PluginIdentity {
            name: "scripted".to_owned(),
            version: "1".to_owned(),
            digest: "sha256:0".to_owned(),
        };
        Self { identity, history, host, kill }
    }
}

#[async_trait]
impl Plugin for ScriptedPlugin {
    fn identity(&self) -> &PluginIdentity {
        &self.identity
    }

    async fn instance(&self) -> Result<Box<dyn Instance>, PluginError> {
        let (history, kill) = (self.history.clone(), self.kill.clone());
        Ok(Box::new(ScriptedInstance { history, host: self.host, kill }))
    }
}

struct ScriptedInstance {
    history: Arc<History>,
    host: HostId,
    kill: Arc<Notify>,
}

/// An attempt that is under way; dropped before its end it was cancelled.
struct Running<'a> {
    history: &'a History,
    run: RunId,
    ended: bool,
}

impl Running<'_> {
    fn end(&mut self, ended: Ended) {
        self.ended = true;
        self.history.attempt_ended(self.run, ended);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.history.attempt_ended(self.run, Ended::Cancelled);
        }
    }
}

#[async_trait]
impl Instance for ScriptedInstance {
    async fn handle(&mut self, message: &Message, context: AttemptContext) -> Outcome {
        let Some(begun) = self.history.attempt_started(self.host, message, context) else {
            // The history has noted that no such message exists.
            return Outcome::Reject { reason: "unknown to the simulation".to_owned() };
        };
        let mut running = Running { history: &self.history, run: begun.run, ended: false };
        let Act { takes_ms, end } = begun.act;
        if takes_ms > 0 {
            tokio::time::sleep(Duration::from_millis(takes_ms)).await;
        }
        if let Some(pause_ms) = begun.pause_ms {
            running.end(Ended::Paused);
            let pause = Duration::from_millis(pause_ms);
            return Outcome::Pause { reason: "the dependency is down".to_owned(), pause };
        }
        if end == End::Kill {
            self.history.host_killed(message);
            self.kill.notify_one();
            // The host is not polled again.
            std::future::pending::<()>().await;
        }
        running.end(Ended::Did(end.clone()));
        outcome(end, begun.run, message)
    }
}

fn outcome(end: End, run: RunId, message: &Message) -> Outcome {
    match end {
        End::Done(count) => {
            Outcome::Done((0..count).map(|index| output(run, index, message)).collect())
        }
        End::Retry(after) => {
            Outcome::Retry { reason: "not now".to_owned(), after: after.map(Duration::from_millis) }
        }
        // Nobody waits for it.
        End::Kill | End::Reject => Outcome::Reject { reason: "never".to_owned() },
        End::Fault(kind) => Outcome::Fault(Fault {
            kind,
            reason: "scripted".to_owned(),
            backtrace: Some("at script".to_owned()),
        }),
        End::Oversize => {
            let large = Bytes::from(vec![b'x'; OUTPUT_BYTES_MAX + 1]);
            let large = Output { value: Some(large), ..output(run, 1, message) };
            Outcome::Done(vec![output(run, 0, message), large])
        }
        End::Unnamed => {
            let to = Destination::Named("nowhere".to_owned());
            Outcome::Done(vec![output(run, 0, message), Output { to, ..output(run, 1, message) }])
        }
    }
}

fn output(run: RunId, index: usize, message: &Message) -> Output {
    let uid = message.headers.iter().filter(|h| h.name == UID).cloned();
    let marks = [Header::new(RUN, run.0.to_string()), Header::new(INDEX, index.to_string())];
    let to = match index % 2 {
        0 => Destination::Default,
        _ => Destination::Named("audit".to_owned()),
    };
    Output {
        to,
        key: message.key.clone(),
        value: Some(Bytes::from_static(b"output")),
        headers: uid.chain(marks).collect(),
        partition: None,
        timestamp: None,
    }
}
