//! Dead letters over HTTP: listed, shown, replayed, put back, given up. The logic is `millstream_core::dead_letter`, which
//! writes the audit trail itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use millstream_core::dead_letter::{
    DeadLetterError, DeadLetters, Filter, Listing, Owner, PurgeRequest, RedriveRequest, Shown,
    State as LetterState, StatesFilter, Summary,
};
use millstream_core::jsonl::Payload;
use millstream_core::message::{Offset, Partition};
use millstream_core::outcome::Outcome;
use millstream_core::plugin_slot::Held;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::access::Access;
use crate::asked::{Parameters, Segments};
use crate::failure::Failure;
use crate::jobs::{self, Asked, Ended, Running};
use crate::limits::{LETTERS_MAX, LETTERS_SHOWN, REPLAY_TIME_MAX};
use crate::log_api::{Answer, Body, Shared};
use crate::server::Served;
use crate::trail::{Caller, Change, Trail};

/// Which letters; what is left out chooses nothing out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chosen {
    source: Option<String>,
    partition: Option<u32>,
    offset: Option<Offset>,
    kind: Option<String>,
    reason: Option<String>,
    plugin_version: Option<String>,
    #[serde(default)]
    state: Wanted,
    limit: Option<u64>,
}

/// Letters of which state.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Wanted {
    #[default]
    Open,
    Redriven,
    Purged,
    Parked,
    All,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeBody {
    #[serde(default)]
    letters: Chosen,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

impl Chosen {
    fn filter(&self) -> Filter {
        Filter {
            source: self.source.clone(),
            partition: self.partition,
            offset: self.offset,
            kind: self.kind.clone(),
            reason: self.reason.clone(),
            plugin_version: self.plugin_version.clone(),
            state: match self.state {
                Wanted::Open => StatesFilter::Open,
                Wanted::Redriven => StatesFilter::Only(LetterState::Redriven),
                Wanted::Purged => StatesFilter::Only(LetterState::Purged),
                Wanted::Parked => StatesFilter::Only(LetterState::Parked),
                Wanted::All => StatesFilter::All,
            },
            ..Filter::default()
        }
    }
}

/// A letter in full. Who may only read gets how large each part is.
#[derive(Debug, Serialize)]
pub(crate) struct LetterAnswer {
    letter: Summary,
    backtrace: Option<String>,
    masked: bool,
    key: Option<Part>,
    value: Option<Part>,
    headers: Vec<(String, Part)>,
}

/// A part of a message, or what is told of it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Part {
    Content { bytes: usize, content: Payload },
    Masked { bytes: usize },
}

impl Part {
    fn of(bytes: &Bytes, masked: bool) -> Self {
        match masked {
            true => Self::Masked { bytes: bytes.len() },
            false => Self::Content { bytes: bytes.len(), content: Payload(bytes.clone()) },
        }
    }
}

pub(crate) async fn list(
    State(served): Shared,
    caller: Caller,
    Segments(pipeline): Segments<String>,
    Parameters(chosen): Parameters<Chosen>,
) -> Answer<Listing> {
    let spec = served.spec(&pipeline)?;
    // Each reads all letters there are.
    let _permit =
        served.scans.acquire().await.map_err(|_| Failure::unavailable("the host ends"))?;
    let limit = chosen.limit.unwrap_or(LETTERS_SHOWN).min(LETTERS_MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let letters = DeadLetters::new(&*served.log, spec);
    let mut listing = letters.list(&chosen.filter(), limit).await.map_err(failure)?;
    if caller.access < Access::Write {
        listing.letters.iter_mut().for_each(|letter| letter.key = None);
    }
    Ok(Json(listing))
}

type OneLetter = Segments<(String, String, u32, Offset)>;

pub(crate) async fn show(
    State(served): Shared,
    caller: Caller,
    Segments((pipeline, topic, partition, offset)): OneLetter,
) -> Answer<LetterAnswer> {
    let spec = served.spec(&pipeline)?;
    let letters = DeadLetters::new(&*served.log, spec);
    let place = Partition::new(topic, partition);
    let Shown { mut summary, backtrace, message, .. } =
        letters.show(&place, offset).await.map_err(failure)?;
    let masked = caller.access < Access::Write;
    if masked {
        summary.key = None;
    }
    let part = |bytes: &Bytes| Part::of(bytes, masked);
    Ok(Json(LetterAnswer {
        letter: summary,
        backtrace,
        masked,
        key: message.key.as_ref().map(part),
        value: message.value.as_ref().map(part),
        headers: message.headers.iter().map(|h| (h.name.to_string(), part(&h.value))).collect(),
    }))
}

/// What an attempt comes to now.
#[derive(Debug, Serialize)]
pub(crate) struct Replayed {
    plugin: String,
    plugin_version: String,
    /// Whether it is the plugin the letter failed in.
    same_plugin: bool,
    attempt: u32,
    kind: &'static str,
    reason: String,
    backtrace: Option<String>,
    outputs: Vec<OutputShown>,
    milliseconds: u64,
    /// How it failed then.
    then_kind: String,
    then_reason: String,
}

#[derive(Debug, Serialize)]
struct OutputShown {
    to: String,
    key: Option<Payload>,
    value: Option<Payload>,
}

/// Makes a letter's last attempt again, in the plugin in use, in an instance of its own. What comes of it is told and goes
/// nowhere.
pub(crate) async fn replay(
    State(served): Shared,
    caller: Caller,
    Segments((pipeline, topic, partition, offset)): OneLetter,
) -> Answer<Replayed> {
    let pipeline = served.pipeline(&pipeline)?;
    let letters = DeadLetters::new(&*served.log, &pipeline.spec);
    let place = Partition::new(topic, partition);
    let shown = letters.show(&place, offset).await.map_err(failure)?;
    let unavailable =
        |why: String| Failure::unavailable(format!("the letter is not replayed: {why}"));
    let Held::Version(version) = pipeline.slot.follow().borrow().clone() else {
        return Err(unavailable("no plugin is in use now".to_owned()));
    };
    let _permit =
        served.replays.acquire().await.map_err(|_| Failure::unavailable("the host ends"))?;
    let change = Change {
        action: "replay",
        pipeline: Some(&pipeline.spec.name),
        text: format!("dead letter {place}@{offset}, its last attempt again; nothing is written"),
        detail: Value::Null,
    };
    Trail::begin(&*served.log, &caller, change).await?;
    let was = shown.as_it_was;
    let mut instance =
        version.plugin.instance().await.map_err(|error| unavailable(error.to_string()))?;
    let begun = Instant::now();
    let outcome = tokio::time::timeout(REPLAY_TIME_MAX, instance.handle(&was.message, was.context));
    let outcome = outcome.await.map_err(|_| {
        unavailable(format!("it takes longer than {} s", REPLAY_TIME_MAX.as_secs()))
    })?;
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (kind, reason) = (outcome.kind(), outcome.reason().to_owned());
    let (outputs, backtrace) = match outcome {
        Outcome::Done(outputs) => (outputs, None),
        Outcome::Fault(fault) => (Vec::new(), fault.backtrace),
        Outcome::Retry { .. } | Outcome::Reject { .. } | Outcome::Pause { .. } => {
            (Vec::new(), None)
        }
    };
    let outputs = outputs.into_iter().map(|output| OutputShown {
        to: output.to.name().to_owned(),
        key: output.key.map(Payload),
        value: output.value.map(Payload),
    });
    Ok(Json(Replayed {
        plugin: version.identity.name.clone(),
        plugin_version: version.identity.version.clone(),
        same_plugin: was.plugin.is_some_and(|plugin| plugin.digest == version.identity.digest),
        attempt: was.context.attempt,
        kind,
        reason,
        backtrace,
        outputs: outputs.collect(),
        milliseconds,
        then_kind: shown.summary.kind,
        then_reason: shown.summary.reason,
    }))
}

pub(crate) async fn redrive(
    State(served): Shared,
    caller: Caller,
    Segments(pipeline): Segments<String>,
    Body(body): Body<ChangeBody>,
) -> Result<Response, Failure> {
    let spec = served.spec(&pipeline)?.clone();
    let chosen = body.letters;
    let request = |id: String, owner: Owner, dry_run: bool, at| RedriveRequest {
        filter: chosen.filter(),
        to: None,
        limit: chosen.limit,
        per_second: None,
        id,
        at,
        owner,
        dry_run,
    };
    let at = served.clock.now();
    if body.dry_run {
        let request = request("dry-run".to_owned(), served.owner(&caller), true, at);
        let letters = DeadLetters::new(&*served.log, &spec);
        let report = letters.redrive(&request, &mut |_| {}).await.map_err(failure)?;
        return Ok(Json(report).into_response());
    }
    let id = jobs::new_id()?;
    let request = request(id.clone(), served.owner(&caller), false, at);
    let text = format!("put dead letters back: {}", described(&request.filter, chosen.limit));
    let asked = Asked { id, pipeline, action: "redrive", text, by: caller.by, at };
    let work = async move |served: Arc<Served>, running: Running| {
        let letters = DeadLetters::new(&*served.log, &spec);
        let result = letters
            .redrive(&request, &mut |progress| {
                running.tell(|job| {
                    (job.read, job.total) = (progress.read, progress.total);
                    job.done = progress.redriven;
                });
            })
            .await;
        result.map(|report| ended(report.redriven, &report)).map_err(|error| error.to_string())
    };
    jobs::start(&served, asked, work).map(IntoResponse::into_response)
}

pub(crate) async fn purge(
    State(served): Shared,
    caller: Caller,
    Segments(pipeline): Segments<String>,
    Body(body): Body<ChangeBody>,
) -> Result<Response, Failure> {
    let spec = served.spec(&pipeline)?.clone();
    let chosen = body.letters;
    let request = |id: String, owner: Owner, dry_run: bool, at| PurgeRequest {
        filter: chosen.filter(),
        limit: chosen.limit,
        id,
        at,
        owner,
        dry_run,
    };
    let at = served.clock.now();
    if body.dry_run {
        let request = request("dry-run".to_owned(), served.owner(&caller), true, at);
        let letters = DeadLetters::new(&*served.log, &spec);
        let report = letters.purge(&request, &mut |_| {}).await.map_err(failure)?;
        return Ok(Json(report).into_response());
    }
    let id = jobs::new_id()?;
    let request = request(id.clone(), served.owner(&caller), false, at);
    let text = format!("give dead letters up: {}", described(&request.filter, chosen.limit));
    let asked = Asked { id, pipeline, action: "purge", text, by: caller.by, at };
    let work = async move |served: Arc<Served>, running: Running| {
        let letters = DeadLetters::new(&*served.log, &spec);
        let result = letters
            .purge(&request, &mut |progress| {
                running.tell(|job| {
                    (job.read, job.total) = (progress.read, progress.total);
                    job.done = progress.redriven;
                });
            })
            .await;
        result.map(|report| ended(report.purged, &report)).map_err(|error| error.to_string())
    };
    jobs::start(&served, asked, work).map(IntoResponse::into_response)
}

pub(crate) async fn jobs(State(served): Shared) -> Json<Value> {
    Json(json!({ "jobs": served.jobs.all() }))
}

fn ended<T: Serialize>(done: u64, report: &T) -> Ended {
    Ended { done, report: serde_json::to_value(report).unwrap_or_default() }
}

fn described(filter: &Filter, limit: Option<u64>) -> String {
    let chosen = filter.describe();
    let fields = chosen.as_object().into_iter().flatten();
    let mut words: Vec<String> = fields
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name} {text}"),
            None => format!("{name} {value}"),
        })
        .collect();
    words.extend(limit.map(|limit| format!("at most {limit}")));
    words.join(", ")
}

fn failure(error: DeadLetterError) -> Failure {
    match error {
        DeadLetterError::Log { doing, error } => Failure::from(error).while_doing(&doing),
        DeadLetterError::NotFound(text) => Failure::request(StatusCode::NOT_FOUND, text),
        DeadLetterError::Refused(text) => Failure::request(StatusCode::CONFLICT, text),
    }
}
