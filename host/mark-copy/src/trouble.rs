//! Trouble: what can be wrong with an index, by what is to be done about it.

use std::io;
use std::path::{Path, PathBuf};

use millstream_core::log::LogError;

/// Why an index cannot be opened. One that is damaged is made anew instead.
#[derive(Debug, thiserror::Error)]
#[error("the index of idempotency marks in {folder} cannot be opened: {error}; check the disk and the folder's rights, or remove the folder: it is restored from the log", folder = folder.display())]
pub struct OpenError {
    /// The folder.
    pub folder: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

/// What happened to a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The disk or the system refused: what lies there may be fine.
    #[error("{path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
    /// What lies there is not what was written.
    #[error("{path}: {what}", path = path.display())]
    Damage { path: PathBuf, what: String },
}

impl Trouble {
    /// What the system said of a file of an index.
    pub(crate) fn of(path: &Path, error: io::Error) -> Self {
        use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
        let path = path.to_owned();
        match error.kind() {
            // It ends early or is gone: it will not get better.
            InvalidData | NotFound | UnexpectedEof => {
                Self::Damage { path, what: error.to_string() }
            }
            _ => Self::Io { path, error },
        }
    }

    pub(crate) fn damage(path: &Path, what: impl Into<String>) -> Self {
        Self::Damage { path: path.to_owned(), what: what.into() }
    }
}

/// Why an index does not answer or does not take anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It may be asked again.
    #[error("{0}")]
    Unavailable(String),
    /// It is restored when it is opened again.
    #[error("{0}")]
    Damaged(String),
}

impl From<IndexError> for LogError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Unavailable(text) => Self::Unavailable(text),
            IndexError::Damaged(text) => Self::Fatal(text),
        }
    }
}
