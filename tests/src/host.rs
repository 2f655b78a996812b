//! The host as a child process.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::failing_disk::FailingDisk;
use crate::folder::Folder;
use crate::waiting;

/// How long a host may take to be ready, compiling its plugin for the first time included.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to end beyond its own drain deadline.
pub const END_WITHIN: Duration = Duration::from_secs(20);
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What it writes down, for tests that fail: more than it would by itself.
const LOGS: &str = "info,millstream_log_kafka=debug";
/// How much of it is shown then, in bytes: the last of it.
const SHOWN: usize = 20_000;

/// A running host. Killed when it is dropped; if that is because its test fails, cargo shows what it said.
pub struct Host {
    child: Child,
    log: PathBuf,
    lock: PathBuf,
    /// Where a host on Kafka says that it answers.
    announced: PathBuf,
    http: ureq::Agent,
}

/// What a second process reads in the folder's lock file.
#[derive(Deserialize)]
struct Owner {
    pid: Option<u32>,
    admin: Option<String>,
}

impl Host {
    /// Starts a host, whose data is in the folder's `data`.
    pub fn start(folder: &Folder) -> Self {
        Self::start_with(folder, &[], folder.log_dir())
    }

    /// Starts a host with more arguments, whose log is in `log_dir`.
    pub fn start_with(folder: &Folder, args: &[&str], log_dir: PathBuf) -> Self {
        let mut command = folder.command(&["run"]);
        command.args(args);
        Self::spawn(folder, command, log_dir)
    }

    /// Starts a host on a disk that may fail.
    pub fn start_on(folder: &Folder, disk: &FailingDisk) -> Self {
        let mut command = folder.command(&["run"]);
        disk.under(&mut command);
        Self::spawn(folder, command, folder.log_dir())
    }

    fn spawn(folder: &Folder, mut command: Command, log_dir: PathBuf) -> Self {
        let log = folder.path().join("host.log");
        let file = || -> File { OpenOptions::new().create(true).append(true).open(&log).unwrap() };
        command.stdin(Stdio::null()).stdout(file()).stderr(file());
        command.env("MILLSTREAM_LOG", LOGS);
        let child = command.spawn().unwrap();
        let http = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_WITHIN))
            .http_status_as_error(false)
            .build()
            .into();
        let announced = log_dir.with_file_name("admin.address");
        Self { child, log, lock: log_dir.join("host.lock"), announced, http }
    }

    /// Where it answers, if it does already.
    ///
    /// # Panics
    /// When it has ended.
    pub fn address(&mut self) -> Option<String> {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the host ended by itself with {status}:\n{}", self.said());
        }
        let Ok(text) = std::fs::read_to_string(&self.lock) else {
            let announced = std::fs::read_to_string(&self.announced).ok()?;
            return Some(announced.trim().to_owned()).filter(|address| !address.is_empty());
        };
        let owner: Owner = serde_json::from_str(text.trim()).ok()?;
        // An earlier host's lock file may still stand there.
        owner.admin.filter(|_| owner.pid == Some(self.child.id()))
    }

    /// Asks for a page; status and text. `None` while it does not answer.
    pub fn get(&mut self, path: &str) -> Option<(u16, String)> {
        let url = format!("http://{}{path}", self.address()?);
        let mut answer = self.http.get(&url).call().ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        Some((answer.status().as_u16(), text))
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// When it does not, with what it says instead.
    pub fn until_ready(&mut self) {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match self.get("/health/ready") {
                Some((200, _)) => return,
                answer if Instant::now() > deadline => {
                    panic!("the host is not ready after {READY_WITHIN:?}: {answer:?}");
                }
                _ => waiting::pause(),
            }
        }
    }

    /// The sum of all series of a metric that have all of these labels.
    ///
    /// # Panics
    /// When the metrics are not what Prometheus reads.
    pub fn metric(&mut self, name: &str, labels: &[&str]) -> Option<f64> {
        let (_, text) = self.get("/metrics")?;
        let series = text.lines().filter_map(|line| line.strip_prefix(name));
        let of = series.filter(|rest| rest.starts_with(['{', ' ']));
        let meant = of.filter(|rest| labels.iter().all(|label| rest.contains(label)));
        Some(meant.map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum())
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file with what it writes to stdout and stderr, for when it has ended.
    pub fn log(&self) -> PathBuf {
        self.log.clone()
    }

    /// What it has written to stdout and stderr, earlier hosts of the folder included.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL: no chance to tidy up.
    ///
    /// # Panics
    /// When it ended by itself before.
    pub fn kill(mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the host ended by itself with {status}:\n{}", self.said());
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, without waiting.
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Waits until it has ended.
    pub fn ended(mut self, within: Duration) -> ExitStatus {
        waiting::until_ended("the host", within, &mut self.child)
    }

    /// SIGTERM; it must end well.
    ///
    /// # Panics
    /// When it does not.
    pub fn stop(self, within: Duration) {
        self.terminate();
        let log = self.log.clone();
        let status = self.ended(within);
        let said = std::fs::read_to_string(log).unwrap_or_default();
        assert_eq!(status.code(), Some(0), "a host that was asked to end said:\n{said}");
    }
}

impl Drop for Host {
    #[expect(clippy::print_stdout, reason = "cargo shows it when the test fails")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let from = said.ceil_char_boundary(said.len().saturating_sub(SHOWN));
            println!("the host of process {} said:\n{}", self.child.id(), &said[from..]);
        }
        // Fails if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
