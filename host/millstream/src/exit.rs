//! Exit codes, in one place: 0 done, 1 failed, 2 wrong usage or configuration.
//!
//! Every command answers `Result<Exit, Failure>`; `cli` prints the failure's findings and exits.

use std::process::ExitCode;

use millstream_core::log::LogError;

use crate::finding::{Code, Finding};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Everything that was asked for happened.
    Done,
    /// It was tried and did not work.
    Failed,
    /// It was not tried: the command line or the configuration is wrong.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
        })
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// For the person to read.
    Findings(Vec<Finding>),
    /// Who read our output has gone (`consume … | head`): nothing to say.
    OutputClosed,
}

impl Failure {
    /// What the process exits with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Findings(findings) => {
                findings.iter().map(|f| f.code.exit()).max().unwrap_or(Exit::Failed)
            }
            Self::OutputClosed => Exit::Done,
        }
    }

    /// The log did not do `what`.
    pub fn log(what: impl Into<String>, error: &LogError) -> Self {
        let fix = match error {
            LogError::Unavailable(_) => "try again; if it stays, look at the log's own messages",
            LogError::Fenced(_) => "another member took over: start again",
            LogError::Fatal(_) => "remove the reason; repeating the command alone will not help",
        };
        Finding::new(Code::LogUnavailable, what, fix).because(error).into()
    }

    /// A file or stream cannot be read or written.
    pub fn io(what: impl Into<String>, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        let fix = match error.kind() {
            std::io::ErrorKind::StorageFull => "make room on the disk, then repeat the command",
            std::io::ErrorKind::PermissionDenied => "give this user access, or name another path",
            std::io::ErrorKind::NotFound => "check the path; create it if it should be there",
            _ => "remove the reason, then repeat the command",
        };
        Finding::new(Code::Io, what, fix).because(error).into()
    }
}

impl From<Finding> for Failure {
    fn from(finding: Finding) -> Self {
        Self::Findings(vec![finding])
    }
}

impl From<Vec<Finding>> for Failure {
    fn from(findings: Vec<Finding>) -> Self {
        Self::Findings(findings)
    }
}
