//! Change: what one asks for, and what comes of it: deploying a version, and rolling back.
//!
//! Called by the commands and the admin API. Here is decided what is meant and whether it can be; the steps are in
//! `making`, the hosts' part in [`follower`](super::follower).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::deploy::control::Control;
use crate::deploy::making::Making;
use crate::deploy::rows::{self, Version};
use crate::deploy::{DeployError, PLUGIN_BYTES_MAX, blob};
use crate::log::Log;
use crate::message::EpochMs;

/// Who asks for a change, and when.
#[derive(Clone, Debug)]
pub struct Who {
    /// A person's name, or what stands for it.
    pub by: String,
    /// Names this change; no other has it.
    pub id: String,
    /// When, by the caller's clock.
    pub at: EpochMs,
}

/// Asks for a version to be deployed.
#[derive(Clone, Debug)]
pub struct DeployRequest<'a> {
    /// The pipeline.
    pub pipeline: &'a str,
    /// Its group.
    pub group: &'a str,
    /// The plugin.
    pub bytes: Bytes,
    /// The plugin's name.
    pub name: &'a str,
    /// What the version is to be called, if somebody said so.
    pub version: Option<&'a str>,
    /// What it is called else.
    pub own_version: &'a str,
    /// Lines of messages that it must handle well on every host.
    pub smoke: Vec<String>,
    /// Who, and when.
    pub who: Who,
    /// How long hosts may check.
    pub timeout: Duration,
    /// Whether there may be hosts: an embedded log that this process has opened has none.
    pub hosts: bool,
}

/// Asks for a version that was in use.
#[derive(Clone, Debug)]
pub struct RollbackRequest<'a> {
    /// The pipeline.
    pub pipeline: &'a str,
    /// Its group.
    pub group: &'a str,
    /// The version's name, its digest or the begin of it, or `file`; `None` is what was in use before.
    pub to: Option<&'a str>,
    /// Who, and when.
    pub who: Who,
    /// How long hosts may check a version that they don't hold ready.
    pub timeout: Duration,
    /// See [`DeployRequest::hosts`].
    pub hosts: bool,
}

/// What a host has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum HostState {
    /// It checks.
    Checking,
    /// It would run the version.
    Ready,
    /// It runs it.
    Swapped,
    /// It cannot run it, and handles nothing.
    Trouble(String),
    /// It was called and said nothing: it counts as gone.
    Gone,
    /// It has not said yet that it runs it.
    Unconfirmed,
}

/// How far a change has come.
#[derive(Clone, Debug)]
pub enum Progress<'a> {
    /// So many bytes of the plugin are in the log.
    Uploaded(u64),
    /// A host's state is another.
    Host(&'a str, &'a HostState),
    /// The change is in the log: from here on it holds.
    InUse,
}

/// What kind of change it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A deploy.
    Deploy,
    /// A rollback.
    Rollback,
}

/// A change that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Changed {
    /// What kind.
    pub kind: Kind,
    /// Its number.
    pub number: u64,
    /// The version that is in use; `None` is the file.
    pub digest: Option<String>,
    /// In words: `version 2`.
    pub now: String,
    /// What was in use before, in words.
    pub was: String,
    /// It was in use already: nothing was changed.
    pub already: bool,
    /// What the hosts have come to.
    pub hosts: BTreeMap<String, HostState>,
}

/// Who is told how far it is. Also `Sync`, or the future of a change could not be sent to another thread.
pub(super) type Tell<'a> = &'a mut (dyn for<'p> FnMut(Progress<'p>) + Send + Sync);

/// Deploys a version: see [`crate::deploy`].
///
/// # Errors
/// See [`DeployError`].
pub async fn deploy(
    log: &dyn Log,
    request: &DeployRequest<'_>,
    tell: Tell<'_>,
) -> Result<Changed, DeployError> {
    let size_bytes = request.bytes.len() as u64;
    if size_bytes > PLUGIN_BYTES_MAX {
        let text = format!("the plugin has {size_bytes} bytes, and at most {PLUGIN_BYTES_MAX} go");
        return Err(DeployError::Request(text));
    }
    let control = Control::open(log, request.group).await?;
    let digest = blob::digest(&request.bytes);
    let label = label(&control, request, &digest)?;
    let who = &request.who;
    let known = control.version(&digest);
    let version = known
        .unwrap_or_else(|| Version::new(digest.clone(), request.name, &label, &who.by, who.at));
    let mut making = Making::new(log, control, request.pipeline, who, request.hosts, tell);
    if making.before.as_ref().and_then(|change| change.digest.as_ref()) == Some(&digest) {
        let blobs = making.control.blobs_partition();
        if blob::read(log, &blobs, &version).await.is_ok() {
            return Ok(making.already(Kind::Deploy));
        }
        let text = format!("writes the bytes of version {label} again, which are damaged");
        making.begin("deploy", &text, json!({ "version": label, "digest": digest })).await?;
        let mended = making.mend(version, &request.bytes).await;
        return making.end("deploy", mended).await;
    }
    let text = format!("deploys version {label}, {digest}, {size_bytes} bytes");
    let detail = json!({ "version": label, "digest": digest, "size_bytes": size_bytes });
    making.begin("deploy", &text, detail).await?;
    let made = making.deploy(version, &request.bytes, &request.smoke, request.timeout).await;
    making.end("deploy", made).await
}

/// Goes back to a version that was in use.
///
/// # Errors
/// See [`DeployError`].
pub async fn roll_back(
    log: &dyn Log,
    request: &RollbackRequest<'_>,
    tell: Tell<'_>,
) -> Result<Changed, DeployError> {
    let control = Control::open(log, request.group).await?;
    let Some(current) = control.current() else {
        return Err(DeployError::NothingBefore(format!(
            "nothing was deployed to pipeline {} yet: its plugin is the file of the configuration",
            request.pipeline
        )));
    };
    let past = control.past();
    let target = match request.to {
        Some(to) => named(&control, to)?,
        None => past.before().cloned().ok_or_else(|| {
            let now = control.name_of(current.digest.as_deref());
            DeployError::NothingBefore(format!(
                "nothing was in use before {now}, but what was rolled back already: name what you want with `--to`, see `millstream versions`"
            ))
        })?,
    };
    let ready = past.before() == Some(&target);
    let mut making = Making::new(log, control, request.pipeline, &request.who, request.hosts, tell);
    if target == current.digest {
        return Ok(making.already(Kind::Rollback));
    }
    let name = making.control.name_of(target.as_deref());
    let text = format!("rolls back to {name}");
    making.begin("rollback", &text, json!({ "to": name, "digest": target })).await?;
    let made = making.roll_back(target, ready, request.timeout).await;
    making.end("rollback", made).await
}

/// What the version is called: as asked, as it is known, or by its own name.
fn label(
    control: &Control,
    request: &DeployRequest<'_>,
    digest: &str,
) -> Result<String, DeployError> {
    let known = control.version(digest).map(|version| version.version);
    let label = match (request.version, known) {
        (Some(asked), Some(known)) if asked != known => {
            return Err(DeployError::Request(format!(
                "these bytes are known as version {known}: leave `--version` out"
            )));
        }
        (_, Some(known)) => return Ok(known),
        (Some(asked), None) => asked,
        (None, None) => request.own_version,
    };
    if let Some(problem) = rows::label_problem(label) {
        let text = format!("a version cannot be called {label:?}: {problem}");
        return Err(DeployError::Request(text));
    }
    let taken = control.versions().into_iter().find(|version| version.version == label);
    match taken {
        Some(taken) => Err(DeployError::Request(format!(
            "version {label} is another plugin already, {}: name this one with `--version`",
            taken.digest
        ))),
        None => Ok(label.to_owned()),
    }
}

/// The target that a person names: a version, a digest or its begin, or `file`.
fn named(control: &Control, name: &str) -> Result<Option<String>, DeployError> {
    if name == "file" {
        return Ok(None);
    }
    let versions = control.versions();
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let by_digest = |version: &&Version| {
        digits.len() >= DIGITS_MIN
            && version.digest.strip_prefix("sha256:").is_some_and(|d| d.starts_with(digits))
    };
    let by_name = versions.iter().find(|version| version.version == name);
    let mut by_digest = versions.iter().filter(by_digest);
    match (by_name, by_digest.next(), by_digest.next()) {
        (Some(version), ..) | (None, Some(version), None) => Ok(Some(version.digest.clone())),
        (None, Some(_), Some(_)) => Err(DeployError::Request(format!(
            "more than one digest begins with {name}: write more"
        ))),
        (None, None, _) => {
            let known: Vec<_> = versions.iter().map(|version| &*version.version).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(DeployError::Request(format!("there is no version {name:?}; kept are {known}")))
        }
    }
}

/// How much of a digest names a version.
const DIGITS_MIN: usize = 8;
