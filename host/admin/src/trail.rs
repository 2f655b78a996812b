//! Trail: every write of the API in the audit trail, before it is made, and what came of it.
//!
//! Who made it: the kind of token that was shown, and the name its holder gave in the header `millstream-by`. The name is
//! as trustworthy as whoever has the token.
//!
//! Appends are told once for each topic and caller in [`APPENDS_TOLD_EVERY`], with how many records went since the last time:
//! `produce` sends thousands of requests, and an entry for each would cost as much as the append. Entries of the trail itself,
//! which commands append through the API, are not told again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use millstream_core::audit::{self, AuditError, Entry, Outcome};
use millstream_core::log::{Log, LogError};
use millstream_core::message::Record;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::access::Access;
use crate::failure::Failure;
use crate::jobs::new_id;

/// How often appends of one caller to one topic are told.
const APPENDS_TOLD_EVERY: Duration = Duration::from_secs(10);
/// Callers and topics that are remembered for it; more begin anew.
const APPENDS_KNOWN_MAX: usize = 1_000;
/// The longest name of a caller.
const NAME_CHARS_MAX: usize = 64;

/// Who asks, as an entry names it.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) access: Access,
    pub(crate) by: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // Put there by the guard; without it there is no access.
        let access = parts.extensions.get().copied().unwrap_or(Access::Nothing);
        let token = access.token_name();
        let name = parts.headers.get("millstream-by").and_then(|name| name.to_str().ok());
        let name: String = name.unwrap_or_default().trim().chars().take(NAME_CHARS_MAX).collect();
        let by = if name.is_empty() { token.to_owned() } else { format!("{name} ({token})") };
        Ok(Self { access, by })
    }
}

/// What is about to be changed.
pub(crate) struct Change<'a> {
    pub(crate) action: &'static str,
    pub(crate) pipeline: Option<&'a str>,
    pub(crate) text: String,
    pub(crate) detail: Value,
}

/// A change whose first entry is in the trail.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    id: String,
    by: String,
    action: &'static str,
    pipeline: Option<String>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Trail {
    appends: Mutex<BTreeMap<(String, String), (Instant, usize)>>,
}

impl Trail {
    /// Tells what is about to be changed; it must not be changed if this fails.
    ///
    /// # Errors
    /// When the trail cannot be written.
    pub(crate) async fn begin(
        log: &dyn Log,
        caller: &Caller,
        change: Change<'_>,
    ) -> Result<Begun, Failure> {
        let begun = Begun {
            id: new_id()?,
            by: caller.by.clone(),
            action: change.action,
            pipeline: change.pipeline.map(str::to_owned),
        };
        let entry = begun.entry(Outcome::Begun, &change.text).with(change.detail);
        audit::write(log, &entry).await.map_err(|error| {
            let failure = match error {
                AuditError::Log(error) => error.into(),
                refused @ AuditError::Refused(_) => Failure::fatal(refused.to_string()),
            };
            failure.while_doing("nothing was changed, since the audit trail cannot be written")
        })?;
        Ok(begun)
    }

    /// Makes a change of the log, and tells it before and after.
    ///
    /// # Errors
    /// When it cannot be told, or is not made.
    pub(crate) async fn told<T>(
        log: &dyn Log,
        caller: &Caller,
        change: Change<'_>,
        make: impl Future<Output = Result<T, LogError>>,
    ) -> Result<T, Failure> {
        let begun = Self::begin(log, caller, change).await?;
        match make.await {
            Ok(made) => {
                begun.ended(log, Outcome::Done, "done", Value::Null).await;
                Ok(made)
            }
            Err(error) => {
                let outcome = match error {
                    LogError::Fatal(_) => Outcome::Refused,
                    LogError::Unavailable(_) | LogError::Fenced(_) => Outcome::Failed,
                };
                begun.ended(log, outcome, &error.to_string(), Value::Null).await;
                Err(error.into())
            }
        }
    }

    /// Tells of records that are about to be appended, where that is due.
    ///
    /// # Errors
    /// When the trail cannot be written.
    pub(crate) async fn appends(
        &self,
        log: &dyn Log,
        caller: &Caller,
        records: &[Record],
    ) -> Result<(), Failure> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for record in records.iter().filter(|record| *record.topic != *audit::TOPIC) {
            *counts.entry(&record.topic).or_default() += 1;
        }
        for (topic, count) in counts {
            let Some(before) = self.is_due(topic, &caller.by, count) else { continue };
            let since =
                if before > 0 { format!("; {before} since the last entry") } else { String::new() };
            let change = Change {
                action: "append",
                pipeline: None,
                text: format!(
                    "{count} records to {topic}{since}; more within 10 s are not told one by one"
                ),
                detail: json!({ "topic": topic, "records": count, "since_last_entry": before }),
            };
            if let Err(failure) = Self::begin(log, caller, change).await {
                // The next one is told in its stead.
                let key = (caller.by.clone(), topic.to_owned());
                self.appends.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                return Err(failure);
            }
        }
        Ok(())
    }

    /// How many records went untold since the last time, if it is time to tell.
    fn is_due(&self, topic: &str, by: &str, count: usize) -> Option<usize> {
        let mut appends = self.appends.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let key = (by.to_owned(), topic.to_owned());
        if appends.len() >= APPENDS_KNOWN_MAX && !appends.contains_key(&key) {
            appends.clear();
        }
        match appends.get_mut(&key) {
            Some((told, untold)) if now.duration_since(*told) < APPENDS_TOLD_EVERY => {
                *untold += count;
                None
            }
            Some((told, untold)) => {
                *told = now;
                Some(std::mem::take(untold))
            }
            None => {
                appends.insert(key, (now, 0));
                Some(0)
            }
        }
    }
}

impl Begun {
    fn entry(&self, outcome: Outcome, text: &str) -> Entry {
        let entry = Entry::new(&self.id, &self.by, self.action, outcome, text);
        match &self.pipeline {
            Some(pipeline) => entry.of(pipeline),
            None => entry,
        }
    }

    /// Tells what came of it. That it cannot be told is no reason to say that it was not made.
    pub(crate) async fn ended(&self, log: &dyn Log, outcome: Outcome, text: &str, detail: Value) {
        if let Err(error) = audit::write(log, &self.entry(outcome, text).with(detail)).await {
            tracing::error!(id = self.id, action = self.action, %error, "what came of a change is missing in the audit trail");
        }
    }
}

/// What removes from the trail is refused, whoever asks.
///
/// # Errors
/// If `topic` is the trail.
pub(crate) fn keep_trail(topic: &str) -> Result<(), Failure> {
    if topic != audit::TOPIC {
        return Ok(());
    }
    let text = format!(
        "{topic} is the audit trail: nothing is removed from it over the API; give the topic a retention"
    );
    Err(Failure::request(StatusCode::FORBIDDEN, text))
}
