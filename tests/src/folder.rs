//! A user's folder: configuration, plugins, data; and commands run in it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::program::millstream;
use crate::topic::{self, Line};
use crate::waiting;

/// How long a command may take: far more than any does.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// A folder with a `millstream.toml`, removed at the end.
pub struct Folder {
    dir: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Ended {
    /// How many messages `produce` said were appended, before any error; nothing is said if the host was gone
    /// before the first.
    pub fn appended(&self) -> usize {
        let said = |line: &str| line.split_once(" messages appended to ")?.0.trim().parse().ok();
        self.stderr.lines().find_map(said).unwrap_or(0)
    }
}

impl Folder {
    /// A folder with this configuration.
    ///
    /// # Panics
    /// When the system does not give one.
    pub fn new(config: &str) -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap() };
        folder.write("millstream.toml", config);
        folder
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The embedded log's own folder, where the configuration has no other.
    pub fn log_dir(&self) -> PathBuf {
        self.path().join("data/log")
    }

    /// Writes a file into it.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    /// Copies a plugin into it.
    ///
    /// # Panics
    /// When that fails.
    pub fn plugin(&self, name: &str, file: &Path) {
        std::fs::copy(file, self.path().join(name)).unwrap();
    }

    /// A command in this folder, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(millstream());
        command.args(args).current_dir(self.path());
        // What the tests' own environment says about logs is not the program's business.
        command.env_remove("MILLSTREAM_LOG").env("NO_COLOR", "1");
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn run(&self, args: &[&str], stdin: &str) -> Ended {
        let stdin = stdin.to_owned();
        self.run_fed(args, move |input| {
            // A command that ended early says why itself.
            let _ = input.write_all(stdin.as_bytes());
        })
    }

    /// Runs a command to its end; `feed` writes its stdin meanwhile.
    ///
    /// # Panics
    /// When it does not end.
    pub fn run_fed(
        &self,
        args: &[&str],
        feed: impl FnOnce(&mut std::process::ChildStdin) + Send + 'static,
    ) -> Ended {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let feeding = std::thread::spawn(move || feed(&mut input));
        let ended = end(&args.join(" "), child);
        feeding.join().unwrap();
        ended
    }

    /// Runs a command that must succeed, and gives what it printed.
    ///
    /// # Panics
    /// When it does not succeed.
    pub fn ok(&self, args: &[&str], stdin: &str) -> String {
        let ended = self.run(args, stdin);
        let Ended { code, stderr, .. } = &ended;
        assert_eq!(*code, Some(0), "`millstream {}` said:\n{stderr}", args.join(" "));
        ended.stdout
    }

    /// What a command printed as JSON.
    ///
    /// # Panics
    /// When it fails, or prints none.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let text = self.ok(args, "");
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("`millstream {}`: {error}: {text}", args.join(" ")))
    }

    /// Appends values, one a line, without keys.
    pub fn produce_values<'a>(&self, topic: &str, values: impl IntoIterator<Item = &'a str>) {
        let mut lines = String::new();
        for value in values {
            writeln!(lines, "{value}").unwrap();
        }
        self.ok(&["produce", topic, "--values"], &lines);
    }

    /// A topic's messages.
    pub fn consume(&self, topic: &str) -> Vec<Line> {
        topic::parse(&self.ok(&["consume", topic, "--from-beginning"], ""))
    }

    /// How many messages of all pipelines are not settled, waiting retries included.
    ///
    /// # Panics
    /// When `lag` prints something else than it promises.
    pub fn unsettled(&self) -> u64 {
        let lags = self.json(&["lag", "--json"]);
        let number = |lag: &serde_json::Value, name: &str| lag[name].as_u64().unwrap();
        let lags = lags.as_array().unwrap().iter();
        lags.map(|lag| number(lag, "due_lag") + number(lag, "waiting")).sum()
    }

    /// Waits until everything is settled.
    pub fn until_settled(&self, within: Duration) {
        waiting::until("everything is settled", within, || (self.unsettled() == 0).then_some(()));
    }
}

fn end(name: &str, mut child: Child) -> Ended {
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    // Both are read while it runs: a full pipe would stop it.
    let stdout = std::thread::spawn(move || read(stdout));
    let stderr = std::thread::spawn(move || read(stderr));
    let what = format!("`millstream {name}`");
    let status = waiting::until_ended(&what, COMMAND_WITHIN, &mut child);
    Ended { code: status.code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn read(mut from: impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
