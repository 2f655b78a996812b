//! The log over HTTP: each route is one call of the log's port.

use std::sync::Arc;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use millstream_core::log::{Batch, Room};
use millstream_core::message::{Partition, Record};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::asked::Segments;
use crate::failure::Failure;
use crate::limits::{BODY_BYTES_MAX, FETCH_ANSWER_BYTES_MAX, FETCH_BYTES_MAX, FETCH_MESSAGES_MAX};
use crate::server::Served;
use crate::trail::{Caller, Change, Trail, keep_trail};
use crate::wire::*;

/// A JSON body within its bound.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = content_type.split(';').next().unwrap_or_default().trim_ascii();
        // What a page may send without asking first is never of this type.
        if !kind.eq_ignore_ascii_case("application/json") {
            let text = "the body is not JSON: send `Content-Type: application/json`";
            return Err(Failure::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
        }
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > BODY_BYTES_MAX) {
            return Err(too_large());
        }
        let body = to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|_| too_large())?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            let text = format!("the body is not what this route takes: {error}: correct it");
            Failure::request(StatusCode::BAD_REQUEST, text)
        })
    }
}

fn too_large() -> Failure {
    Failure::request(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body did not arrive within {BODY_BYTES_MAX} bytes: send less at once"),
    )
}

pub(crate) type Shared = State<Arc<Served>>;
pub(crate) type Answer<T> = Result<Json<T>, Failure>;

pub(crate) async fn topics(State(served): Shared) -> Answer<TopicsAnswer> {
    let topics = served.log.topics().await?;
    let named =
        topics.iter().map(|spec| NamedTopicJson { name: spec.name.to_string(), spec: spec.into() });
    Ok(Json(TopicsAnswer {
        cluster_id: served.log.cluster_id().to_owned(),
        commit_metadata_bytes_max: served.log.commit_metadata_bytes_max(),
        topics: named.collect(),
    }))
}

pub(crate) async fn create_topic(
    State(served): Shared,
    caller: Caller,
    Segments(name): Segments<String>,
    Body(spec): Body<TopicJson>,
) -> Answer<Done> {
    let change = Change {
        action: "topic-create",
        pipeline: None,
        text: format!("topic {name}"),
        detail: serde_json::to_value(&spec).unwrap_or_default(),
    };
    let spec = spec.named(&name);
    Trail::told(&*served.log, &caller, change, served.log.create_topic(spec)).await?;
    Ok(Json(Done {}))
}

pub(crate) async fn append(
    State(served): Shared,
    caller: Caller,
    Body(request): Body<AppendRequest>,
) -> Answer<AppendAnswer> {
    let records: Vec<Record> = request.records.into_iter().map(Record::from).collect();
    served.trail.appends(&*served.log, &caller, &records).await?;
    let results = served.log.append(&records.iter().collect::<Vec<_>>()).await?;
    Ok(Json(AppendAnswer { results: results.into_iter().map(AppendResult::from).collect() }))
}

pub(crate) async fn fetch(
    State(served): Shared,
    Body(request): Body<FetchRequest>,
) -> Result<Response, Failure> {
    let partition = Partition::new(request.topic, request.partition);
    let room = Room {
        messages: request.messages.min(FETCH_MESSAGES_MAX),
        bytes: request.bytes.min(FETCH_BYTES_MAX),
    };
    let batch = served.log.fetch(&partition, request.from, room).await?;
    let answer = fetch_answer(&batch, FETCH_ANSWER_BYTES_MAX)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

/// The batch as JSON of at most `bytes_max`: as many of its messages as fit, and where to go on.
/// JSON can be several times what it carries, so the bound of the fetch is not enough.
pub(crate) fn fetch_answer(batch: &Batch, bytes_max: usize) -> Result<String, Failure> {
    let mut messages = String::new();
    let mut next = batch.next;
    for message in &batch.messages {
        let json = text(&MessageJson::from(message))?;
        if messages.len() + json.len() > bytes_max {
            if messages.is_empty() {
                return Err(Failure::fatal(format!(
                    "message {} takes {} bytes as JSON, more than the {bytes_max} an answer holds: stop the host and read the log itself",
                    message.position(),
                    json.len(),
                )));
            }
            next = message.offset;
            break;
        }
        if !messages.is_empty() {
            messages.push(',');
        }
        messages.push_str(&json);
    }
    let topic = text(&*batch.partition.topic)?;
    Ok(format!(
        r#"{{"topic":{topic},"partition":{},"messages":[{messages}],"next":{next},"end":{}}}"#,
        batch.partition.number, batch.end,
    ))
}

fn text<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::fatal(format!("the answer cannot be written: {error}")))
}

pub(crate) async fn ends(
    State(served): Shared,
    Body(request): Body<EndsRequest>,
) -> Answer<EndsAnswer> {
    let partitions: Vec<_> = request.partitions.into_iter().map(Partition::from).collect();
    let ends = served.log.ends(&partitions).await?;
    Ok(Json(EndsAnswer { ends: ends.into_iter().map(EndsJson::from).collect() }))
}

pub(crate) async fn committed(
    State(served): Shared,
    Body(request): Body<CommittedRequest>,
) -> Answer<CommittedAnswer> {
    let partitions: Vec<_> = request.partitions.into_iter().map(Partition::from).collect();
    let commits = served.log.committed(&request.group, &partitions).await?;
    let commits = commits.into_iter().map(|commit| commit.map(CommitJson::from)).collect();
    Ok(Json(CommittedAnswer { commits }))
}

pub(crate) async fn delete_before(
    State(served): Shared,
    caller: Caller,
    Body(request): Body<DeleteBeforeRequest>,
) -> Answer<Done> {
    keep_trail(&request.topic)?;
    let partition = Partition::new(request.topic, request.partition);
    let before = request.before;
    let change = Change {
        action: "delete-before",
        pipeline: None,
        text: format!("what stands in {partition} below {before}"),
        detail: json!({ "topic": &*partition.topic, "partition": partition.number, "before": before }),
    };
    Trail::told(&*served.log, &caller, change, served.log.delete_before(&partition, before))
        .await?;
    Ok(Json(Done {}))
}
