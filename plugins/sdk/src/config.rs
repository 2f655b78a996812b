//! Settings: the pipeline's `capabilities.config` table, which also grants reading it.
//!
//! ```toml
//! capabilities = { config = { currency = "EUR" } }
//! ```
//!
//! On other targets than Wasm the settings are those that a test gave by [`set`], in its thread.

use std::fmt;
use std::time::Duration;

use crate::failure::{Failure, IntoFailure};

/// The settings could not be read. By `?` it is a pause: what is down for one message is down for
/// all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the settings can't be read: {}", self.0)
    }
}

impl std::error::Error for Error {}

impl IntoFailure for Error {
    fn into_failure(self) -> Failure {
        Failure::pause(self, Duration::from_secs(5))
    }
}

/// The setting of this name, if there is one. Settings do not change while a plugin runs: parse what
/// is costly once and keep it in a `thread_local!`.
///
/// ```
/// # use millstream_plugin::prelude::*;
/// # fn price() -> Result<String, Failure> {
/// let currency = config::get("currency")?.unwrap_or_else(|| "EUR".to_owned());
/// # Ok(currency) }
/// # assert_eq!(price().unwrap(), "EUR");
/// ```
///
/// # Errors
/// When the host's source of settings fails.
pub fn get(key: &str) -> Result<Option<String>, Error> {
    source::get(key)
}

/// All settings.
///
/// # Errors
/// When the host's source of settings fails.
pub fn all() -> Result<Vec<(String, String)>, Error> {
    source::all()
}

#[cfg(not(target_arch = "wasm32"))]
pub use source::set;

#[cfg(target_arch = "wasm32")]
mod source {
    use super::Error;
    use crate::bindings::wasi::config::store;

    impl From<store::Error> for Error {
        fn from(error: store::Error) -> Self {
            let (store::Error::Upstream(reason) | store::Error::Io(reason)) = error;
            Self(reason)
        }
    }

    pub(super) fn get(key: &str) -> Result<Option<String>, Error> {
        Ok(store::get(key)?)
    }

    pub(super) fn all() -> Result<Vec<(String, String)>, Error> {
        Ok(store::get_all()?)
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod source {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::Error;

    thread_local! {
        // A test runs in a thread of its own, so tests do not see each other's settings.
        static SETTINGS: RefCell<BTreeMap<String, String>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// For tests: what [`get`](super::get) answers from now on in this thread.
    pub fn set(key: impl Into<String>, value: impl Into<String>) {
        SETTINGS.with_borrow_mut(|settings| settings.insert(key.into(), value.into()));
    }

    #[expect(clippy::unnecessary_wraps, reason = "reading can fail in the sandbox")]
    pub(super) fn get(key: &str) -> Result<Option<String>, Error> {
        Ok(SETTINGS.with_borrow(|settings| settings.get(key).cloned()))
    }

    #[expect(clippy::unnecessary_wraps, reason = "reading can fail in the sandbox")]
    pub(super) fn all() -> Result<Vec<(String, String)>, Error> {
        let copy = |(key, value): (&String, &String)| (key.clone(), value.clone());
        Ok(SETTINGS.with_borrow(|settings| settings.iter().map(copy).collect()))
    }
}
