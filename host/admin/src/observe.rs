//! What there is to see from outside: metrics, health, status.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use prometheus::{Encoder as _, TextEncoder};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::server::Served;

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

pub(crate) async fn status(State(served): State<Arc<Served>>) -> Json<Value> {
    Json((served.status)())
}
