//! The console's page and its parts, built into the program: no asset from elsewhere, no step of building it.
//!
//! The page holds nothing by itself: what it shows it asks the API for, with the token its user gave it. Its policy
//! lets it run its own files only, so that nothing a message brings along is ever run.

use axum::http::{HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};

use crate::failure::Failure;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! part {
    ($name:literal, $kind:expr) => {
        (concat!("/console/", $name), $kind, include_str!(concat!("../page/", $name)))
    };
}

/// Path, type, content.
const PARTS: &[(&str, &str, &str)] = &[
    ("/console/", HTML, include_str!("../page/index.html")),
    part!("look.css", CSS),
    part!("parts.css", CSS),
    part!("mark.svg", SVG),
    part!("main.js", SCRIPT),
    part!("state.js", SCRIPT),
    part!("api.js", SCRIPT),
    part!("dom.js", SCRIPT),
    part!("words.js", SCRIPT),
    part!("lines.js", SCRIPT),
    part!("flow.js", SCRIPT),
    part!("keys.js", SCRIPT),
    part!("dialogs.js", SCRIPT),
    part!("overview.js", SCRIPT),
    part!("partitions.js", SCRIPT),
    part!("failures.js", SCRIPT),
    part!("letters.js", SCRIPT),
    part!("letter.js", SCRIPT),
    part!("deployments.js", SCRIPT),
    part!("audit.js", SCRIPT),
];

/// The address of the server is where the page is.
pub(crate) async fn home() -> Redirect {
    Redirect::temporary("/console/")
}

pub(crate) async fn part(uri: Uri) -> Response {
    let Some((_, kind, content)) = PARTS.iter().find(|(path, ..)| *path == uri.path()) else {
        let text = format!("the console has no {}: it is at /console/", uri.path());
        return Failure::request(StatusCode::NOT_FOUND, text).into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, *kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        // A host of another version has other parts.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, *content).into_response()
}
