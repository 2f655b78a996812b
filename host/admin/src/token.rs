//! The token that a caller of the API must show.
//!
//! Configured, or made anew at every start and left in a file that only the host's user can read:
//! who may read the host's files may call its API. The file goes when the host ends; one that a
//! killed host left behind opens nothing.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Fewer characters can be guessed.
const CHARS_MIN: usize = 16;
/// More fit in no sensible header.
const CHARS_MAX: usize = 512;

/// A secret of 16 to 512 visible ASCII characters. Shown by nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Where a host's token comes from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// It is configured.
    Given(Token),
    /// It is made at start and kept in this file while the host runs.
    MadeAtStart {
        /// The file, by convention `<data_dir>/admin.token`. Its folder must exist.
        file: PathBuf,
    },
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It is too short, too long, or not printable.
    #[error(
        "an admin token has {CHARS_MIN} to {CHARS_MAX} characters, all visible ASCII: make one with `openssl rand -hex 32`"
    )]
    Unusable,
    /// Its file can't be read or written.
    #[error("the admin token's file {}: {error}: the user that runs the host must own its folder, and only that user can read it", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The system gives no random bytes.
    #[error("no admin token can be made: the system gives no random bytes ({0}): configure one")]
    NoRandomness(String),
}

impl Token {
    /// A configured token.
    ///
    /// # Errors
    /// `Unusable`.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let fits = (CHARS_MIN..=CHARS_MAX).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TokenError::Unusable)
        }
    }

    /// The token that a running host left in `file`.
    ///
    /// # Errors
    /// `File` if there is none or it is another user's, `Unusable` if it is damaged.
    pub fn read(file: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| TokenError::File { file: file.to_owned(), error })?;
        Self::new(text.trim_ascii())
    }

    /// Whether `shown` is this token, in a time that tells nothing of where they differ.
    pub(crate) fn is(&self, shown: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differing = own.iter().zip(shown).fold(0, |differing, (a, b)| differing | (a ^ b));
        std::hint::black_box(differing) == 0 && own.len() == shown.len()
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    fn random() -> Result<Self, TokenError> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|e| TokenError::NoRandomness(e.to_string()))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// A token in use by a server; its file, if it has one, is removed with it.
#[derive(Debug)]
pub(crate) struct TokenInUse {
    pub(crate) token: Token,
    file: Option<PathBuf>,
}

impl TokenInUse {
    pub(crate) fn of(source: TokenSource) -> Result<Self, TokenError> {
        match source {
            TokenSource::Given(token) => Ok(Self { token, file: None }),
            TokenSource::MadeAtStart { file } => {
                let token = Token::random()?;
                write(&token, &file)
                    .map_err(|error| TokenError::File { file: file.clone(), error })?;
                Ok(Self { token, file: Some(file) })
            }
        }
    }
}

impl Drop for TokenInUse {
    fn drop(&mut self) {
        let Some(file) = &self.file else { return };
        // A host that started since then has put its own token there.
        if Token::read(file).is_ok_and(|found| found == self.token)
            && let Err(error) = std::fs::remove_file(file)
        {
            tracing::warn!(file = %file.display(), %error, "the admin token's file stays behind; it opens nothing any more");
        }
    }
}

/// Made beside and moved into place: nobody sees half a token, nor one with another file's mode.
fn write(token: &Token, file: &Path) -> std::io::Result<()> {
    let beside = file.with_extension("token.new");
    if let Err(error) = std::fs::remove_file(&beside)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    writeln!(options.open(&beside)?, "{}", token.0)?;
    std::fs::rename(&beside, file)
}
