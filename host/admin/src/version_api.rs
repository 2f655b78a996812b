//! Versions of a pipeline's plugin over HTTP: what was deployed, and the way back. The logic is
//! `millstream_core::deploy`, which writes the audit trail itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use millstream_core::deploy::{
    Change, Control, DeployError, HostRow, Progress, RollbackRequest, Version, Who, roll_back,
};
use serde::{Deserialize, Serialize};

use crate::asked::Segments;
use crate::failure::Failure;
use crate::jobs::{self, Asked, Ended, Running};
use crate::limits::{CHANGES_SHOWN, ROLLBACK_TIME_MAX};
use crate::log_api::{Answer, Body, Shared};
use crate::server::Served;
use crate::trail::Caller;

#[derive(Debug, Default, Serialize)]
pub(crate) struct VersionsAnswer {
    /// The digest of what is in use by the last change; `null` is the file of the configuration.
    in_use: Option<String>,
    /// Whether a rollback without a name would go anywhere, and where: a digest, or `null` for the file.
    can_roll_back: bool,
    before: Option<String>,
    versions: Vec<Version>,
    /// The newest first.
    changes: Vec<Change>,
    hosts: BTreeMap<String, HostRow>,
}

pub(crate) async fn list(
    State(served): Shared,
    Segments(pipeline): Segments<String>,
) -> Answer<VersionsAnswer> {
    let spec = served.spec(&pipeline)?;
    let control = match Control::open(&*served.log, &spec.group).await {
        Ok(control) => control,
        // Nothing can have been deployed where there is no topic for it.
        Err(DeployError::NoTopic { .. }) => return Ok(Json(VersionsAnswer::default())),
        Err(error) => return Err(failure(error)),
    };
    let past = control.past();
    let before = past.before();
    let mut changes = control.changes();
    changes.reverse();
    changes.truncate(CHANGES_SHOWN);
    Ok(Json(VersionsAnswer {
        in_use: control.current().and_then(|change| change.digest),
        can_roll_back: before.is_some(),
        before: before.cloned().flatten(),
        versions: control.versions(),
        changes,
        hosts: control.hosts(),
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackBody {
    /// A version, digits of a digest, or `file`; what was in use before if nothing is said.
    #[serde(default)]
    to: Option<String>,
}

/// Begins it: hosts that do not hold the version ready have to load it first.
pub(crate) async fn rollback(
    State(served): Shared,
    caller: Caller,
    Segments(pipeline): Segments<String>,
    Body(body): Body<RollbackBody>,
) -> Result<Response, Failure> {
    let spec = served.spec(&pipeline)?.clone();
    let (id, at) = (jobs::new_id()?, served.clock.now());
    let to = body.to.as_deref().unwrap_or("what was in use before");
    let text = format!("roll back to {to}");
    let who = Who { by: caller.by.clone(), id: id.clone(), at };
    let asked = Asked { id, pipeline, action: "rollback", text, by: caller.by, at };
    let work = async move |served: Arc<Served>, running: Running| {
        let request = RollbackRequest {
            pipeline: &spec.name,
            group: &spec.group,
            to: body.to.as_deref(),
            who,
            timeout: ROLLBACK_TIME_MAX,
            hosts: true,
        };
        let mut tell = |progress: Progress<'_>| {
            if let Progress::Host(..) = progress {
                running.tell(|job| job.read = job.read.saturating_add(1));
            }
        };
        let changed = roll_back(&*served.log, &request, &mut tell).await;
        let changed = changed.map_err(|error| error.to_string())?;
        Ok(Ended { done: 1, report: serde_json::to_value(&changed).unwrap_or_default() })
    };
    jobs::start(&served, asked, work).map(IntoResponse::into_response)
}

fn failure(error: DeployError) -> Failure {
    match error {
        DeployError::Log(error) => error.into(),
        other => Failure::request(StatusCode::CONFLICT, other.to_string()),
    }
}
