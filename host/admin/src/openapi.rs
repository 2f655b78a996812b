//! The document of the API: one file, read by people and programs, held to the router by a test.

use axum::http::header;
use axum::response::IntoResponse;

/// `docs/openapi.json`.
const DOCUMENT: &str = include_str!("../../../docs/openapi.json");

pub(crate) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}
