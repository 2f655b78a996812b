//! Failures as the API tells them: a status, a sentence, and a class by what the caller does next.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use millstream_core::log::LogError;
use serde::{Deserialize, Serialize};

/// The body of every answer that is not a success.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FailureBody {
    pub(crate) error: String,
    pub(crate) class: Class,
}

/// As [`LogError`] has them, and `request` for what the caller did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Class {
    Unavailable,
    Fenced,
    Fatal,
    Request,
}

#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    body: FailureBody,
}

impl Failure {
    pub(crate) fn request(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, body: FailureBody { error: error.into(), class: Class::Request } }
    }

    pub(crate) fn unavailable(error: impl Into<String>) -> Self {
        let body = FailureBody { error: error.into(), class: Class::Unavailable };
        Self { status: StatusCode::SERVICE_UNAVAILABLE, body }
    }

    /// The same, with what was being done.
    pub(crate) fn while_doing(mut self, doing: &str) -> Self {
        self.body.error = format!("{doing}: {}", self.body.error);
        self
    }

    pub(crate) fn fatal(error: impl Into<String>) -> Self {
        let body = FailureBody { error: error.into(), class: Class::Fatal };
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, body }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unavailable(error) => Self::unavailable(error),
            LogError::Fenced(error) => Self {
                status: StatusCode::CONFLICT,
                body: FailureBody { error, class: Class::Fenced },
            },
            LogError::Fatal(error) => Self::fatal(error),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}
