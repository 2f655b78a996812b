//! Dead letters over HTTP: listed, shown, put back. The logic is `millstream_core::dead_letter`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use millstream_core::audit::Outcome;
use millstream_core::dead_letter::{
    DeadLetterError, DeadLetters, Filter, Listing, RedriveReport, RedriveRequest, Shown,
};
use millstream_core::jsonl::Payload;
use millstream_core::message::{Offset, Partition};
use millstream_core::pipeline_spec::PipelineSpec;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::access::Access;
use crate::asked::{Parameters, Segments};
use crate::failure::Failure;
use crate::jobs::{JobState, JobView, Running};
use crate::limits::{LETTERS_MAX, LETTERS_SHOWN};
use crate::log_api::{Answer, Body, Shared};
use crate::server::Served;
use crate::trail::{Begun, Caller, Change, Trail};

/// Which letters; what is left out chooses nothing out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chosen {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<Offset>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedriveBody {
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
        }
    }

    fn text(&self) -> String {
        let mut words = Vec::new();
        words.extend(self.kind.as_ref().map(|kind| format!("that failed as {kind}")));
        words.extend(self.source.as_ref().map(|source| format!("of {source}")));
        words.extend(self.partition.map(|partition| format!("of partition {partition}")));
        words.extend(self.offset.map(|offset| format!("at offset {offset}")));
        words.extend(self.limit.map(|limit| format!("at most {limit}")));
        if words.is_empty() { "all".to_owned() } else { words.join(", ") }
    }
}

/// A letter in full. Who may only read gets how large each part is.
#[derive(Debug, Serialize)]
pub(crate) struct LetterAnswer {
    letter: millstream_core::dead_letter::Summary,
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
    letters.list(&chosen.filter(), limit).await.map(Json).map_err(failure)
}

pub(crate) async fn show(
    State(served): Shared,
    caller: Caller,
    Segments((pipeline, topic, partition, offset)): Segments<(String, String, u32, Offset)>,
) -> Answer<LetterAnswer> {
    let spec = served.spec(&pipeline)?;
    let letters = DeadLetters::new(&*served.log, spec);
    let place = Partition::new(topic, partition);
    let Shown { summary, backtrace, message } =
        letters.show(&place, offset).await.map_err(failure)?;
    let masked = caller.access < Access::Write;
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

pub(crate) async fn redrive(
    State(served): Shared,
    caller: Caller,
    Segments(pipeline): Segments<String>,
    Body(body): Body<RedriveBody>,
) -> Result<Response, Failure> {
    let spec = served.spec(&pipeline)?.clone();
    let chosen = body.letters;
    if body.dry_run {
        let request = request(&served, &chosen, "dry-run".to_owned(), true);
        let letters = DeadLetters::new(&*served.log, &spec);
        let report = letters.redrive(&request, &mut |_| {}).await.map_err(failure)?;
        return Ok(Json(report).into_response());
    }
    let text = format!("put dead letters back: {}", chosen.text());
    let change = Change {
        action: "redrive",
        pipeline: Some(&pipeline),
        text: text.clone(),
        detail: json!({ "letters": chosen }),
    };
    if let Some(running) = served
        .jobs
        .all()
        .iter()
        .find(|job| job.pipeline == pipeline && job.state == JobState::Running)
    {
        return Err(busy(running));
    }
    let begun = Trail::begin(&*served.log, &caller, change).await?;
    let job = JobView {
        id: begun.id.clone(),
        pipeline: pipeline.clone(),
        action: "redrive",
        text,
        by: caller.by,
        state: JobState::Running,
        begun: served.clock.now(),
        ended: None,
        read: 0,
        total: 0,
        done: 0,
        report: Value::Null,
        error: None,
    };
    match served.jobs.begin(job.clone()) {
        Ok(running) => {
            let request = request(&served, &chosen, begun.id.clone(), false);
            let work = run(Arc::clone(&served), spec, request, running, begun);
            served.jobs.spawn(work);
            Ok((StatusCode::ACCEPTED, Json(job)).into_response())
        }
        Err(running) => {
            begun.ended(&*served.log, Outcome::Refused, "another runs", Value::Null).await;
            Err(busy(&running))
        }
    }
}

pub(crate) async fn jobs(State(served): Shared) -> Json<Value> {
    Json(json!({ "jobs": served.jobs.all() }))
}

fn busy(running: &JobView) -> Failure {
    let text = format!(
        "job {} of pipeline {} is under way ({}): wait until it has ended",
        running.id, running.pipeline, running.text
    );
    Failure::request(StatusCode::CONFLICT, text)
}

fn request(served: &Served, chosen: &Chosen, id: String, dry_run: bool) -> RedriveRequest {
    let (filter, limit) = (chosen.filter(), chosen.limit);
    RedriveRequest { filter, limit, id, at: served.clock.now(), dry_run }
}

async fn run(
    served: Arc<Served>,
    spec: PipelineSpec,
    request: RedriveRequest,
    running: Running,
    begun: Begun,
) {
    let letters = DeadLetters::new(&*served.log, &spec);
    let told = running.clone();
    let result = letters
        .redrive(&request, &mut |progress| {
            told.tell(|job| {
                (job.read, job.total, job.done) =
                    (progress.read, progress.total, progress.redriven);
            });
        })
        .await;
    let ended = served.clock.now();
    match result {
        Ok(report) => {
            let text = report_text(&report);
            let detail = serde_json::to_value(&report).unwrap_or_default();
            begun.ended(&*served.log, Outcome::Done, &text, detail.clone()).await;
            running.tell(|job| {
                job.done = report.redriven;
                (job.state, job.ended, job.report) = (JobState::Done, Some(ended), detail);
            });
        }
        Err(error) => {
            let outcome = match error {
                DeadLetterError::Log { .. } => Outcome::Failed,
                DeadLetterError::NotFound(_) | DeadLetterError::Refused(_) => Outcome::Refused,
            };
            begun.ended(&*served.log, outcome, &error.to_string(), Value::Null).await;
            running.tell(|job| {
                job.error = Some(error.to_string());
                (job.state, job.ended) = (JobState::Failed, Some(ended));
            });
        }
    }
}

fn report_text(report: &RedriveReport) -> String {
    let mut text = format!("{} put back", report.redriven);
    for (count, what) in
        [(report.left, "left"), (report.foreign, "foreign"), (report.refused, "refused")]
    {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

fn failure(error: DeadLetterError) -> Failure {
    match error {
        DeadLetterError::Log { doing, error } => {
            let failure = Failure::from(error);
            failure.while_doing(&doing)
        }
        DeadLetterError::NotFound(text) => Failure::request(StatusCode::NOT_FOUND, text),
        DeadLetterError::Refused(text) => Failure::request(StatusCode::CONFLICT, text),
    }
}
