//! Waiting for conditions, never for a time: every wait ends as soon as what it waits for is so, and
//! fails at a deadline far beyond what a busy machine needs.

use std::process::{Child, ExitStatus};
use std::time::Duration;

use tokio::time::Instant;

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits a moment before the next look at a condition.
pub fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

/// Waits until `look` has an answer.
///
/// # Panics
/// When it has none `within` this time.
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain for this: {what}");
        pause();
    }
}

/// Waits until a child has ended. One that has not by the deadline is killed first.
///
/// # Panics
/// When it does not end `within` this time.
pub fn until_ended(what: &str, within: Duration, child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{what} did not end within {within:?}");
        }
        pause();
    }
}
