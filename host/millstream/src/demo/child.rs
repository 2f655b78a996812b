//! The demo's child processes: the host and the tools, as a user would start them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::exit::Failure;
use crate::finding::{Code, Finding};

/// How long the host may take to be ready, compiling the plugin included.
const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

fn failed(what: String, why: String) -> Failure {
    let fix = "look into host.log in the demo's folder";
    Finding::new(Code::LogUnavailable, what, fix).because(why).into()
}

/// The commands beside the host.
pub(super) struct Tools {
    program: PathBuf,
    folder: PathBuf,
}

#[derive(Deserialize)]
struct Listing {
    letters: Vec<Letter>,
}

#[derive(Deserialize)]
struct Letter {
    topic: String,
    partition: u32,
    offset: u64,
}

#[derive(Deserialize)]
struct Shown {
    message: serde_json::Value,
}

#[derive(Deserialize)]
struct Lag {
    due_lag: u64,
    waiting: u64,
}

impl Tools {
    pub(super) fn new(folder: &Path) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::io("cannot find this program's own file", &error))?;
        Ok(Self { program, folder: folder.to_owned() })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(&self.folder).kill_on_drop(true);
        command
    }

    async fn output(&self, args: &[&str], stdin: &str) -> Result<(bool, String, String), Failure> {
        let name = format!("millstream {}", args.join(" "));
        let not_run = |error| Failure::io(format!("cannot run `{name}`"), &error);
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(not_run)?;
        let input = child.stdin.take();
        let feed = async {
            if let Some(mut input) = input {
                // A child that ended early says why itself.
                let _ = input.write_all(stdin.as_bytes()).await;
            }
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), feed);
        let output = output.map_err(not_run)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((output.status.success(), text(output.stdout), text(output.stderr)))
    }

    async fn run(&self, args: &[&str], stdin: &str) -> Result<String, Failure> {
        match self.output(args, stdin).await? {
            (true, stdout, _) => Ok(stdout),
            (false, _, stderr) => {
                Err(failed(format!("`millstream {}` failed", args.join(" ")), stderr))
            }
        }
    }

    /// Builds a plugin into a file of the demo's folder.
    pub(super) async fn build(
        &self,
        source: &Path,
        name: &str,
        more: &[&str],
    ) -> Result<PathBuf, Failure> {
        let built = self.folder.join(name);
        let source = source
            .canonicalize()
            .map_err(|error| Failure::io(format!("cannot find {}", source.display()), &error))?;
        let (source, out) = (source.to_string_lossy(), built.to_string_lossy());
        let mut args = vec!["plugin", "build", &*source, "--out", &*out];
        args.extend(more);
        self.run(&args, "").await?;
        Ok(built)
    }

    /// Sends messages.
    pub(super) async fn produce(&self, topic: &str, lines: &str) -> Result<(), Failure> {
        self.run(&["produce", topic], lines).await.map(drop)
    }

    /// Sends messages to a host that is killed meanwhile.
    pub(super) async fn produce_and_expect_trouble(&self, topic: &str, lines: &str) {
        // Whether it failed or was just fast enough: the part is sent again.
        let _ = self.output(&["produce", topic], lines).await;
    }

    /// A topic's messages, as lines.
    pub(super) async fn consume(&self, topic: &str) -> Result<String, Failure> {
        self.run(&["consume", topic, "--from-beginning"], "").await
    }

    /// How many messages a topic has.
    pub(super) async fn count(&self, topic: &str) -> Result<u64, Failure> {
        Ok(self.consume(topic).await?.lines().count() as u64)
    }

    /// How many messages of a pipeline are not settled, retries that wait included.
    pub(super) async fn unsettled(&self, pipeline: &str) -> Result<u64, Failure> {
        let text = self.run(&["lag", pipeline, "--json"], "").await?;
        let lags: Vec<Lag> = serde_json::from_str(&text).map_err(|error| {
            failed("`millstream lag --json` is not JSON".into(), error.to_string())
        })?;
        Ok(lags.iter().map(|lag| lag.due_lag + lag.waiting).sum())
    }

    /// The dead letters that nothing was done about, as lines.
    pub(super) async fn dead(&self, pipeline: &str) -> Result<String, Failure> {
        let limit = usize::MAX.to_string();
        let listed = self.run(&["dlq", "list", pipeline, "--json", "--limit", &limit], "").await?;
        let listed: Vec<Listing> = serde_json::from_str(&listed).map_err(|error| {
            failed("`millstream dlq list --json` is not JSON".into(), error.to_string())
        })?;
        let mut lines = String::new();
        for letter in listed.into_iter().flat_map(|listing| listing.letters) {
            let position = format!("{}/{}/{}", letter.topic, letter.partition, letter.offset);
            let shown = self.run(&["dlq", "show", &position, "--json"], "").await?;
            let shown: Shown = serde_json::from_str(&shown).map_err(|error| {
                failed("`millstream dlq show --json` is not JSON".into(), error.to_string())
            })?;
            lines.push_str(&shown.message.to_string());
            lines.push('\n');
        }
        Ok(lines)
    }

    /// Puts all dead letters back.
    pub(super) async fn redrive(&self, pipeline: &str) -> Result<(), Failure> {
        self.run(&["dlq", "redrive", pipeline, "--yes"], "").await.map(drop)
    }
}

/// The host.
pub(super) struct Host {
    child: Child,
}

impl Host {
    /// Starts the host and waits until it is ready.
    pub(super) async fn start(folder: &Path, tools: &Tools) -> Result<Self, Failure> {
        let log = folder.join("host.log");
        let open = std::fs::OpenOptions::new().create(true).append(true).open(&log);
        let open = open.map_err(|e| Failure::io(format!("cannot write {}", log.display()), &e))?;
        let also = open
            .try_clone()
            .map_err(|e| Failure::io(format!("cannot write {}", log.display()), &e))?;
        let mut command = tools.command(&["run"]);
        command.stdin(Stdio::null()).stdout(open).stderr(also);
        let child = command.spawn().map_err(|e| Failure::io("cannot start the host", &e))?;
        let mut host = Self { child };
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(Some(status)) = host.child.try_wait() {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(failed(format!("the host ended at once with {status}"), text));
            }
            // Reached only when the host has the folder and answers.
            let (ok, ready, _) = tools.output(&["status", "--json"], "").await?;
            if ok && is_ready(&ready) {
                return Ok(host);
            }
            if Instant::now() > deadline {
                return Err(failed(format!("the host is not ready after {READY_WITHIN:?}"), ready));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// SIGKILL: no chance to tidy up.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| Failure::io("cannot kill the host", &error))
    }

    /// SIGTERM: the host drains and ends.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        if let Some(pid) = self.child.id() {
            let signal = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
            signal.map_err(|error| Failure::io("cannot signal the host", &error))?;
        }
        let status = self.child.wait().await;
        let status = status.map_err(|error| Failure::io("cannot wait for the host", &error))?;
        if status.success() {
            return Ok(());
        }
        Err(failed("the host did not end well".to_owned(), status.to_string()))
    }
}

fn is_ready(report: &str) -> bool {
    #[derive(Deserialize)]
    struct Report {
        ready: bool,
    }
    serde_json::from_str::<Report>(report).is_ok_and(|report| report.ready)
}
