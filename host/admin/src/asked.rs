//! What a request asks in its address, or a failure in JSON that says what is wrong with it.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// The parameters behind the question mark.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(found) = Query::from_request_parts(parts, state).await.map_err(|error| {
            let text = format!("{}: see /api/v1/openapi.json for what it takes", error.body_text());
            Failure::request(StatusCode::BAD_REQUEST, text)
        })?;
        Ok(Self(found))
    }
}

/// The parts of the path that are not fixed.
pub(crate) struct Segments<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(found) = Path::from_request_parts(parts, state).await.map_err(|error| {
            let text = format!("{}: see /api/v1/openapi.json for what it takes", error.body_text());
            Failure::request(StatusCode::BAD_REQUEST, text)
        })?;
        Ok(Self(found))
    }
}
