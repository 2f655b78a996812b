//! What there is to see from outside: metrics, health, status.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use millstream_core::audit;
use prometheus::{Encoder as _, TextEncoder};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::Access;
use crate::asked::Parameters;
use crate::failure::Failure;
use crate::limits::{AUDIT_ENTRIES, AUDIT_ENTRIES_MAX};
use crate::server::Served;
use crate::trail::Caller;

/// Whether a pipeline handles messages, or would if there were any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineReadiness {
    /// The pipeline's name.
    pub pipeline: String,
    /// Why it does not, for a person; empty if it does.
    pub not_ready: Vec<String>,
}

pub(crate) async fn metrics(State(served): State<Arc<Served>>) -> Result<Response, Failure> {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    encoder
        .encode(&served.registry.gather(), &mut text)
        .map_err(|error| Failure::fatal(format!("the metrics cannot be written: {error}")))?;
    Ok(([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response())
}

/// The process answers: restarting it would help nobody.
pub(crate) async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

pub(crate) async fn ready(State(served): State<Arc<Served>>) -> Response {
    let pipelines = (served.readiness)();
    let ready = pipelines.iter().all(|pipeline| pipeline.not_ready.is_empty());
    let reasons: BTreeMap<_, _> =
        pipelines.iter().map(|pipeline| (&pipeline.pipeline, &pipeline.not_ready)).collect();
    if ready {
        return Json(json!({ "ready": true, "pipelines": reasons })).into_response();
    }
    let waiting: Vec<_> = pipelines
        .iter()
        .filter(|pipeline| !pipeline.not_ready.is_empty())
        .map(|pipeline| format!("{} ({})", pipeline.pipeline, pipeline.not_ready.join("; ")))
        .collect();
    let error = format!("not ready: {}", waiting.join(", "));
    let body = json!({
        "ready": false, "error": error, "class": "unavailable", "pipelines": reasons
    });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

/// Keys are parts of messages: who may only read sees what stands for them.
pub(crate) async fn status(State(served): State<Arc<Served>>, caller: Caller) -> Json<Value> {
    let mut status = (served.status)();
    if caller.access < Access::Write {
        mask_keys(&served, &mut status);
    }
    Json(status)
}

fn mask_keys(served: &Served, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(key) if name == "key" => *key = served.sampler.mask(key),
                    field => mask_keys(served, field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask_keys(served, item)),
        _ => {}
    }
}

/// What the console shows, made once a second for all who ask.
pub(crate) async fn overview(State(served): State<Arc<Served>>, caller: Caller) -> Response {
    let shown = served.sampler.shown();
    let (access, overview) = match caller.access {
        Access::Write => ("write", shown.full),
        _ => ("read", shown.masked),
    };
    let mut body = Vec::with_capacity(overview.len() + 64);
    body.extend_from_slice(format!(r#"{{"access":"{access}","overview":"#).as_bytes());
    body.extend_from_slice(&overview);
    body.push(b'}');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    limit: Option<usize>,
}

/// The end of the audit trail, the newest first.
pub(crate) async fn audit(
    State(served): State<Arc<Served>>,
    Parameters(query): Parameters<AuditQuery>,
) -> Result<Json<Value>, Failure> {
    let limit = query.limit.unwrap_or(AUDIT_ENTRIES).min(AUDIT_ENTRIES_MAX);
    let entries = audit::last(&*served.log, limit).await;
    let entries = entries.map_err(|error| Failure::unavailable(error.to_string()))?;
    Ok(Json(json!({ "entries": entries })))
}
