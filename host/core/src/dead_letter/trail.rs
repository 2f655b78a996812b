//! Trail: what redrives and purges leave in the audit trail: an entry before anything is changed, one with what came of it.

use serde::Serialize;

use super::{DeadLetterError, DeadLetters, Owner, Place, topics_of};
use crate::audit::{self, Entry, Outcome};

/// A change that is written down.
pub(super) struct Trail<'a> {
    letters: &'a DeadLetters<'a>,
    id: String,
    action: &'static str,
    owner: &'a Owner,
    /// What is done to which topics, in words.
    what: String,
}

impl<'a> Trail<'a> {
    /// Writes that it begins.
    ///
    /// # Errors
    /// When that cannot be written: then it must not begin.
    pub(super) async fn begin(
        letters: &'a DeadLetters<'a>,
        (id, action, to): (&str, &'static str, Option<&str>),
        owner: &'a Owner,
        places: &[Place],
        asked: &str,
    ) -> Result<Self, DeadLetterError> {
        let topics: Vec<String> = topics_of(places).iter().map(ToString::to_string).collect();
        let to = to.map(|to| format!(" to {to}")).unwrap_or_default();
        let what = format!("{action} of dead letters of {}{to}", topics.join(", "));
        let trail = Self { letters, id: id.to_owned(), action, owner, what };
        let asked: serde_json::Value = serde_json::from_str(asked).unwrap_or_default();
        trail.write(Outcome::Begun, trail.what.clone(), asked).await?;
        Ok(trail)
    }

    /// Writes how it ended, and hands the answer on.
    pub(super) async fn end<T: Serialize>(
        &self,
        count: u64,
        report: &T,
        result: Result<(), DeadLetterError>,
    ) -> Result<(), DeadLetterError> {
        let report = serde_json::to_value(report).unwrap_or_default();
        match result {
            Ok(()) => self.write(Outcome::Done, format!("{}: {count}", self.what), report).await,
            Err(error) => {
                let text = format!("{}: {count}, then: {error}", self.what);
                // The error itself says more than that it could not be written down.
                drop(self.write(Outcome::Failed, text, report).await);
                Err(error)
            }
        }
    }

    async fn write(
        &self,
        outcome: Outcome,
        text: String,
        detail: serde_json::Value,
    ) -> Result<(), DeadLetterError> {
        let mut entry =
            Entry::new(&self.id, &self.owner.name, self.action, outcome, &text).with(detail);
        if let Some(spec) = self.letters.spec() {
            entry = entry.of(&spec.name);
        }
        let written = audit::write(self.letters.log, &entry).await;
        written.map_err(|error| DeadLetterError::Refused(error.to_string()))
    }
}
