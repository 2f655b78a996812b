//! Contenders: what copies the source into the output, each as a process of its own.

use std::process::Command;

use anyhow::Context as _;
use millstream_guest_builder::guest;
use millstream_tests::folder::Folder;
use millstream_tests::program::millstream;
use tempfile::TempDir;

use crate::child::Contestant;
use crate::host::{self, HostSetup};
use crate::peers::Peers;

/// Who copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// `bare_loop`: what all others are compared with.
    Loop,
    /// The host with the plugin `echo`.
    Millstream(Delivery),
    /// `StreamsCopy` of `bench/peers`.
    Streams(Delivery),
    /// `SpringCopy` of `bench/peers`, at least once.
    Spring,
}

/// What is promised of each output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It is there.
    AtLeastOnce,
    /// It is there once.
    ExactlyOnce,
}

/// What is copied where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task<'a> {
    pub(crate) bootstrap: &'a str,
    pub(crate) group: &'a str,
    pub(crate) source: &'a str,
    pub(crate) output: &'a str,
    /// How often Millstream commits a transaction; `None` leaves the default.
    pub(crate) transaction_every: Option<&'a str>,
}

/// What has to be built before anything can run.
pub(crate) struct Tools {
    peers: Option<Peers>,
}

/// A contender that runs, and the files it runs on.
pub(crate) struct Running {
    pub(crate) process: Contestant,
    // Removed when the process has ended.
    _folder: Option<Folder>,
    _state: Option<TempDir>,
}

impl Tools {
    /// Builds what these contenders are made of.
    ///
    /// # Errors
    /// When Maven cannot build those in Java. A host that does not build ends the process.
    pub(crate) fn make(contenders: &[Contender]) -> anyhow::Result<Self> {
        if contenders.iter().any(|contender| matches!(contender, Contender::Millstream(_))) {
            millstream();
            guest("echo");
        }
        let java = contenders.iter().any(Contender::is_java);
        Ok(Self { peers: if java { Some(Peers::build()?) } else { None } })
    }
}

impl Running {
    /// Ends it, then removes its files.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.process.stop()
    }
}

impl Contender {
    /// Everybody, in the order of the report.
    pub(crate) const ALL: [Self; 6] = [
        Self::Loop,
        Self::Millstream(Delivery::AtLeastOnce),
        Self::Millstream(Delivery::ExactlyOnce),
        Self::Streams(Delivery::AtLeastOnce),
        Self::Streams(Delivery::ExactlyOnce),
        Self::Spring,
    ];

    /// In words.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Millstream(Delivery::AtLeastOnce) => "Millstream, at least once",
            Self::Millstream(Delivery::ExactlyOnce) => "Millstream, exactly once",
            Self::Streams(Delivery::AtLeastOnce) => "Kafka Streams, at least once",
            Self::Streams(Delivery::ExactlyOnce) => "Kafka Streams, exactly once",
            Self::Spring => "Spring Kafka, at least once",
        }
    }

    /// Whether it is one of `bench/peers`.
    fn is_java(&self) -> bool {
        matches!(self, Self::Streams(_) | Self::Spring)
    }

    /// Whether an output that is there twice breaks its promise.
    pub(crate) fn promises_once(&self) -> bool {
        matches!(
            self,
            Self::Millstream(Delivery::ExactlyOnce) | Self::Streams(Delivery::ExactlyOnce)
        )
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(&self, tools: &Tools, task: &Task<'_>) -> anyhow::Result<Running> {
        let peers = || tools.peers.as_ref().context("the Java contenders were not built");
        let copy = [task.bootstrap, task.group, task.source, task.output];
        match self {
            Self::Loop => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("loop").args(copy);
                running(&command, None, None)
            }
            Self::Millstream(delivery) => {
                let setup = HostSetup {
                    delivery: *delivery,
                    plugin: guest("echo"),
                    retry_delays: "[]",
                    transaction_every: task.transaction_every,
                };
                start_host(&setup, task)
            }
            Self::Streams(delivery) => {
                let (guarantee, commit_ms) = match delivery {
                    // As often as the loop.
                    Delivery::AtLeastOnce => ("at_least_once", "1000"),
                    // Its default.
                    Delivery::ExactlyOnce => ("exactly_once_v2", "100"),
                };
                let state = tempfile::tempdir()?;
                let mut command = peers()?.command("StreamsCopy");
                command.args(copy).args([guarantee, commit_ms]).arg(state.path());
                running(&command, None, Some(state))
            }
            Self::Spring => {
                let mut command = peers()?.command("SpringCopy");
                command.args(copy);
                running(&command, None, None)
            }
        }
    }
}

/// Starts a host that is set up otherwise.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn start_host(setup: &HostSetup<'_>, task: &Task<'_>) -> anyhow::Result<Running> {
    let folder = host::folder(setup, task);
    running(&folder.command(&["run"]), Some(folder), None)
}

fn running(
    command: &Command,
    folder: Option<Folder>,
    state: Option<TempDir>,
) -> anyhow::Result<Running> {
    Ok(Running { process: Contestant::start(command)?, _folder: folder, _state: state })
}
