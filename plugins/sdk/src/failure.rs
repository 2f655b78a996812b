//! The failure: why a message was not handled, and how other errors become one.
//!
//! The host acts on the kind (retry, reject, pause) and keeps the reason, which ends in the dead
//! letter: write it for the person who reads it there. It is cut at 1 KiB.

use std::fmt;
use std::time::Duration;

/// Try again later: something passing is wrong with this message or what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Ends in the dead letter if no attempt succeeds.
    pub reason: String,
    /// At least so many milliseconds later; absent, the next delay of the pipeline.
    pub after: Option<u64>,
}

/// Never try again: the message itself is wrong. It becomes a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Stands in the dead letter.
    pub reason: String,
}

/// A dependency is down: messages behind this one would fail as well. The lane stops, no attempt is
/// counted, and the same message comes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Stands in the log and the metrics.
    pub reason: String,
    /// How many milliseconds to wait; the host clamps it and lets it grow when it repeats.
    pub duration: u64,
}

/// Why a message was not handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Try again later.
    Retry(Retry),
    /// Never try again.
    Reject(Reject),
    /// Stop this lane for a while.
    Pause(Pause),
}

impl Failure {
    /// Something passing is wrong: this message comes again after the pipeline's next delay, and is
    /// a dead letter once its attempts are used up.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry(Retry { reason: reason.to_string(), after: None })
    }

    /// The same, but not before `after` has passed: the pipeline's delay that is not shorter is
    /// taken.
    pub fn retry_after(reason: impl fmt::Display, after: Duration) -> Self {
        Self::Retry(Retry { reason: reason.to_string(), after: Some(millis(after)) })
    }

    /// The message itself is wrong: it becomes a dead letter at once.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Self::Reject(Reject { reason: reason.to_string() })
    }

    /// Something that every message needs is down: the lane stops for about `duration` and no
    /// attempt is counted.
    pub fn pause(reason: impl fmt::Display, duration: Duration) -> Self {
        Self::Pause(Pause { reason: reason.to_string(), duration: millis(duration) })
    }

    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry(Retry { reason, .. })
            | Self::Reject(Reject { reason })
            | Self::Pause(Pause { reason, .. }) => reason,
        }
    }

    /// Whether the message will be tried again later.
    pub fn is_retry(&self) -> bool {
        matches!(self, Self::Retry(_))
    }

    /// Whether the message becomes a dead letter at once.
    pub fn is_reject(&self) -> bool {
        matches!(self, Self::Reject(_))
    }

    /// Whether the lane stops.
    pub fn is_pause(&self) -> bool {
        matches!(self, Self::Pause(_))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Retry(_) => "retry",
            Self::Reject(_) => "reject",
            Self::Pause(_) => "pause",
        };
        write!(f, "{kind}: {}", self.reason())
    }
}

impl std::error::Error for Failure {}

/// An error that knows what it means for the message. With it, `?` works in a handler, and a handler
/// may return it.
///
/// ```
/// use std::time::Duration;
/// use millstream_plugin::prelude::*;
///
/// enum PricingError {
///     UnknownItem(String),
///     RatesAreDown,
/// }
///
/// impl IntoFailure for PricingError {
///     fn into_failure(self) -> Failure {
///         match self {
///             Self::UnknownItem(item) => Failure::reject(format!("no price for `{item}`")),
///             Self::RatesAreDown => Failure::pause("no exchange rates", Duration::from_secs(5)),
///         }
///     }
/// }
///
/// handler!(handle);
///
/// fn handle(message: Message) -> Result<Output, PricingError> {
///     Err(PricingError::UnknownItem("bolt".to_owned()))
/// }
/// # fn main() {}
/// ```
pub trait IntoFailure {
    /// What this error means for the message.
    fn into_failure(self) -> Failure;
}

impl<E: IntoFailure> From<E> for Failure {
    fn from(error: E) -> Self {
        error.into_failure()
    }
}

/// What cannot be parsed today cannot be parsed tomorrow.
macro_rules! means_reject {
    ($($error:ty),* $(,)?) => {
        $(impl IntoFailure for $error {
            fn into_failure(self) -> Failure {
                Failure::reject(self)
            }
        })*
    };
}

means_reject!(
    std::str::Utf8Error,
    std::string::FromUtf8Error,
    std::str::ParseBoolError,
    std::num::ParseIntError,
    std::num::ParseFloatError,
    std::num::TryFromIntError,
);

#[cfg(feature = "json")]
means_reject!(serde_json::Error);

/// Says at the call what an error, or a missing value, means for the message.
///
/// ```
/// use millstream_plugin::prelude::*;
///
/// fn amount(text: &str) -> Result<u32, Failure> {
///     text.parse().or_reject("the amount is no number")
/// }
/// assert_eq!(
///     amount("ten").unwrap_err().reason(),
///     "the amount is no number: invalid digit found in string"
/// );
/// ```
pub trait OrFailure<T>: Sized {
    /// Try this message again later.
    ///
    /// # Errors
    /// A retry with `what`, and the error behind a colon.
    fn or_retry(self, what: impl fmt::Display) -> Result<T, Failure>;

    /// This message is wrong.
    ///
    /// # Errors
    /// A reject with `what`, and the error behind a colon.
    fn or_reject(self, what: impl fmt::Display) -> Result<T, Failure>;

    /// Something that every message needs is down.
    ///
    /// # Errors
    /// A pause with `what`, and the error behind a colon.
    fn or_pause(self, what: impl fmt::Display, duration: Duration) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> OrFailure<T> for Result<T, E> {
    fn or_retry(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::retry(format_args!("{what}: {error}")))
    }

    fn or_reject(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::reject(format_args!("{what}: {error}")))
    }

    fn or_pause(self, what: impl fmt::Display, duration: Duration) -> Result<T, Failure> {
        self.map_err(|error| Failure::pause(format_args!("{what}: {error}"), duration))
    }
}

impl<T> OrFailure<T> for Option<T> {
    fn or_retry(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::retry(what))
    }

    fn or_reject(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::reject(what))
    }

    fn or_pause(self, what: impl fmt::Display, duration: Duration) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::pause(what, duration))
    }
}
