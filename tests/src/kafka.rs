//! A real Kafka as child processes, by the script `tests/kafka-cluster`, which `tests/kafka/README.md`
//! describes. It ends with the process that started it, however that ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use serde::Deserialize;

use crate::program::tree;

/// One node or three, which end when this is dropped.
pub struct Cluster {
    described: Described,
    script: Mutex<Script>,
}

/// What the script prints when everything works. Process ids are there too, but change with restarts.
#[derive(Deserialize)]
struct Described {
    bootstrap: String,
    admin_bootstrap: String,
    tls: Option<BTreeMap<String, PathBuf>>,
}

/// The script, which obeys lines on its stdin and answers each with one.
struct Script {
    child: Child,
    answers: BufReader<ChildStdout>,
    stderr: File,
}

/// The cluster that tests of one process share: one node, without TLS and SASL. Tests keep out of each
/// other's way by names from [`unique`]; those that stop nodes have a cluster of their own.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    // Nobody stops it, so its controller need not notice soon: on a machine that stalls for seconds it would
    // take the leaders away from the one broker there is.
    let patient = "broker.session.timeout.ms=60000";
    SHARED.get_or_init(|| Cluster::start(&["--quick", "--set", patient]))
}

/// A name for a topic or a group that nobody else has.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let random = RandomState::new().hash_one(number) >> 32;
    format!("{name}-{}-{number}-{random:x}", std::process::id())
}

impl Cluster {
    /// Starts a cluster with these options of `tests/kafka-cluster run`, and waits until it works. Tests
    /// want `--quick`, measurements do not.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(options: &[&str]) -> Self {
        let stderr = tempfile::tempfile().unwrap();
        let mut command = Command::new(script());
        command.arg("run").args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(stderr.try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut script = Script { child, answers, stderr };
        let line = script.answer();
        let described = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("kafka-cluster printed no JSON: {error}: {line}"));
        Self { described, script: Mutex::new(script) }
    }

    /// Where clients connect, secured as asked for.
    pub fn bootstrap(&self) -> &str {
        &self.described.bootstrap
    }

    /// Where anybody may do anything, without TLS, SASL and ACLs.
    pub fn admin_bootstrap(&self) -> &str {
        &self.described.admin_bootstrap
    }

    /// A PEM file: `ca`, `client_cert` or `client_key`.
    ///
    /// # Panics
    /// When there is none of this name, as without `--tls`.
    pub fn tls_file(&self, name: &str) -> &Path {
        let file = self.described.tls.as_ref().and_then(|files| files.get(name));
        file.unwrap_or_else(|| panic!("no file `{name}` for TLS"))
    }

    /// SIGKILL to a node. Nodes count from 1.
    pub fn kill(&self, node: u32) {
        self.obey("kill", &node.to_string(), "killed");
    }

    /// SIGTERM to a node, and waits for its end.
    pub fn stop(&self, node: u32) {
        self.obey("stop", &node.to_string(), "stopped");
    }

    /// Starts a node again, on its ports and data, and waits until all that run know it again. Needs a
    /// majority of the nodes to work: one of three cannot start alone.
    pub fn start_node(&self, node: u32) {
        self.obey("start", &node.to_string(), "started");
    }

    /// SIGKILL to all nodes.
    pub fn kill_all(&self) {
        self.obey("kill", "all", "killed");
    }

    /// Starts all nodes that do not run, and waits until they work.
    pub fn start_all(&self) {
        self.obey("start", "all", "started");
    }

    /// SIGSTOP to a node: its connections stand, but nobody answers.
    pub fn pause(&self, node: u32) {
        self.obey("pause", &node.to_string(), "paused");
    }

    /// SIGCONT to a paused node.
    pub fn resume(&self, node: u32) {
        self.obey("resume", &node.to_string(), "resumed");
    }

    /// Runs one of Kafka's tools, as `["topics", "--list"]`, and gives what it printed. It connects to
    /// [`Self::admin_bootstrap`] unless the arguments say where.
    ///
    /// # Panics
    /// When it fails.
    pub fn tool(&self, args: &[&str]) -> String {
        let mut command = Command::new(script());
        command.arg("tool").args(args).stdin(Stdio::null());
        if !args.contains(&"--bootstrap-server") {
            command.args(["--bootstrap-server", self.admin_bootstrap()]);
        }
        let output = command.output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let args = args.join(" ");
        assert!(output.status.success(), "Kafka's tool `{args}` failed:\n{stdout}{stderr}");
        stdout
    }

    fn obey(&self, command: &str, node: &str, done: &str) {
        let mut script = self.script.lock().unwrap();
        script.send(&format!("{command} {node}"));
        assert_eq!(script.answer(), format!("{done} {node}"));
    }
}

impl Script {
    fn send(&mut self, line: &str) {
        // If it has ended, there is no answer either, and that says why.
        let _ = writeln!(self.child.stdin.as_mut().unwrap(), "{line}");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut said = String::new();
            self.stderr.rewind().unwrap();
            self.stderr.read_to_string(&mut said).unwrap();
            panic!("kafka-cluster has ended by itself:\n{said}");
        }
        line.trim_end().to_owned()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // Closes its stdin first, upon which it kills the nodes and ends.
        let _ = self.child.wait();
    }
}

fn script() -> PathBuf {
    tree().join("tests/kafka-cluster")
}
