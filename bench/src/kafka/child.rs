//! Child: a contender's process, watched through `/proc` and ended with the benchmark.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use millstream_bench::{cpu_time, memory};
use tokio::time::Instant;

/// How long it may take to end after SIGTERM.
const END_WITHIN: Duration = Duration::from_secs(30);

/// How often its end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Lines of its output that an error repeats.
const LINES_SAID: usize = 20;

/// A running contender.
pub(crate) struct Contestant {
    child: Child,
    said: File,
}

impl Contestant {
    /// Starts it. Should this process be killed, the kernel kills it too.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(command: &Command) -> anyhow::Result<Self> {
        let said = tempfile::tempfile()?;
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "KILL", "--"]);
        guarded.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(name, value),
                None => guarded.env_remove(name),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            guarded.current_dir(dir);
        }
        guarded.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
        let child = guarded.spawn().context("setpriv, of util-linux, cannot be run")?;
        Ok(Self { child, said })
    }

    /// The process: `setpriv` becomes what it starts.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        cpu_time::used_by(self.pid())
    }

    /// The most memory it has had resident.
    pub(crate) fn memory_peak_mib(&self) -> Option<f64> {
        memory::of_status(&std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?)
    }

    /// It still runs.
    ///
    /// # Errors
    /// When it does not, with what it said last.
    pub(crate) fn still_runs(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended by itself with {status}:\n{}", self.last_said()),
        }
    }

    /// What it said last.
    pub(crate) fn last_said(&mut self) -> String {
        let mut text = Vec::new();
        // An error is being told already.
        let _ = self.said.rewind().and_then(|()| self.said.read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let skipped = lines.len().saturating_sub(LINES_SAID);
        lines.get(skipped..).unwrap_or_default().join("\n")
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.pid().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().context("kill cannot be run")?;
        let deadline = Instant::now() + END_WITHIN;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("it does not end {END_WITHIN:?} after SIGTERM:\n{}", self.last_said());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // Fails if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
