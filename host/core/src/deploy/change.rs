//! Change: deploying a version and rolling back, step by step.
//!
//! Called by the commands and the admin API; the hosts' part is in [`follower`](super::follower). Each entry point writes
//! the audit trail: that it begins, and what came of it.
//!
//! Killed at any step it has changed nothing but, in the last, everything: a change is one record.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::audit::{self, Entry};
use crate::deploy::control::Control;
use crate::deploy::rows::{
    self, Change, HOST, PROPOSAL, Proposal, VERDICT, VERSION, Verdict, Version,
};
use crate::deploy::{
    CHANGES_KEPT, CONFIRM_WITHIN, DeployError, PLUGIN_BYTES_MAX, ROLL_CALL, VERSIONS_KEPT, blob,
};
use crate::log::Log;
use crate::message::EpochMs;

/// How often it is looked for hosts' answers.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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

/// Also `Sync`, or the future of a change could not be sent to another thread.
type Tell<'a> = &'a mut (dyn for<'p> FnMut(Progress<'p>) + Send + Sync);

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

/// A change in the making.
struct Making<'a> {
    log: &'a dyn Log,
    control: Control,
    pipeline: &'a str,
    who: &'a Who,
    has_hosts: bool,
    tell: Tell<'a>,
    /// The last change when this began.
    before: Option<Change>,
    hosts: BTreeMap<String, HostState>,
}

impl<'a> Making<'a> {
    fn new(
        log: &'a dyn Log,
        control: Control,
        pipeline: &'a str,
        who: &'a Who,
        has_hosts: bool,
        tell: Tell<'a>,
    ) -> Self {
        let before = control.current();
        Self { log, control, pipeline, who, has_hosts, tell, before, hosts: BTreeMap::new() }
    }

    fn already(&self, kind: Kind) -> Changed {
        let before = self.before.as_ref();
        let digest = before.and_then(|change| change.digest.clone());
        let now = self.control.name_of(digest.as_deref());
        let number = before.map_or(0, |change| change.number);
        let (was, hosts) = (now.clone(), BTreeMap::new());
        Changed { kind, number, digest, now, was, already: true, hosts }
    }

    async fn begin(
        &self,
        action: &str,
        text: &str,
        detail: serde_json::Value,
    ) -> Result<(), DeployError> {
        let entry = self.entry(action, audit::Outcome::Begun, text).with(detail);
        Ok(audit::write(self.log, &entry).await?)
    }

    fn entry(&self, action: &str, outcome: audit::Outcome, text: &str) -> Entry {
        Entry::new(&self.who.id, &self.who.by, action, outcome, text).of(self.pipeline)
    }

    /// Writes down what came of it.
    async fn end(
        &self,
        action: &str,
        made: Result<Changed, DeployError>,
    ) -> Result<Changed, DeployError> {
        let (outcome, text) = match &made {
            Ok(changed) => (
                audit::Outcome::Done,
                format!("{} is in use, before it was {}", changed.now, changed.was),
            ),
            Err(error @ (DeployError::Log(_) | DeployError::Record(_))) => {
                (audit::Outcome::Failed, error.to_string())
            }
            Err(error) => (audit::Outcome::Refused, error.to_string()),
        };
        let entry = self.entry(action, outcome, &text);
        if let Err(error) = audit::write(self.log, &entry).await {
            // What was done is done; that it began is in the trail.
            tracing::warn!(pipeline = self.pipeline, %error, "what came of a change is not in the audit trail");
        }
        made
    }

    async fn deploy(
        &mut self,
        mut version: Version,
        bytes: &Bytes,
        smoke: &[String],
        timeout: Duration,
    ) -> Result<Changed, DeployError> {
        self.remove_refused(&version.digest).await?;
        let blobs = self.control.blobs_partition();
        let size_bytes = bytes.len() as u64;
        // One that was deployed before has its bytes there, unless somebody has damaged them.
        let is_there = version.size_bytes == size_bytes
            && blob::read(self.log, &blobs, &version).await.is_ok();
        if !is_there {
            self.upload(&mut version, bytes).await?;
        }
        self.ask(Some(&version), smoke, timeout).await?;
        let digest = version.digest.clone();
        let row = (format!("{VERSION}{digest}"), Some(rows::encode(&version)));
        let changed = self.change(Kind::Deploy, Some(digest), vec![row]).await?;
        if let Err(error) = self.prune().await {
            // The next deploy does it.
            tracing::warn!(pipeline = self.pipeline, %error, "old versions were not removed");
        }
        Ok(changed)
    }

    async fn roll_back(
        &mut self,
        target: Option<String>,
        ready: bool,
        timeout: Duration,
    ) -> Result<Changed, DeployError> {
        if !ready {
            let version = target.as_deref().and_then(|digest| self.control.version(digest));
            self.ask(version.as_ref(), &[], timeout).await?;
        }
        self.change(Kind::Rollback, target, Vec::new()).await
    }

    /// Writes the bytes of the version in use again.
    async fn mend(&mut self, mut version: Version, bytes: &Bytes) -> Result<Changed, DeployError> {
        self.upload(&mut version, bytes).await?;
        let row = (format!("{VERSION}{}", version.digest), Some(rows::encode(&version)));
        self.control.write(self.log, vec![row]).await?;
        Ok(self.already(Kind::Deploy))
    }

    async fn upload(&mut self, version: &mut Version, bytes: &Bytes) -> Result<(), DeployError> {
        let blobs = self.control.blobs_partition();
        let tell = &mut *self.tell;
        let mut wrote = |bytes| tell(Progress::Uploaded(bytes));
        version.size_bytes = bytes.len() as u64;
        version.blob_from =
            blob::write(self.log, &blobs, &version.digest, bytes, &mut wrote).await?;
        Ok(())
    }

    /// Removes the bytes of the last version that was proposed, if it was refused.
    async fn remove_refused(&self, wanted: &str) -> Result<(), DeployError> {
        let proposed = self.control.proposal().and_then(|(_, proposal)| proposal.version);
        let refused = proposed.filter(|version| {
            version.digest != wanted && self.control.version(&version.digest).is_none()
        });
        let Some(refused) = refused else { return Ok(()) };
        blob::remove(self.log, &self.control.blobs_partition(), &[refused]).await
    }

    /// Has every live host check a version.
    async fn ask(
        &mut self,
        version: Option<&Version>,
        smoke: &[String],
        timeout: Duration,
    ) -> Result<(), DeployError> {
        if !self.has_hosts {
            // Who stands there died without a word.
            let hosts: Vec<_> = self.control.hosts().into_keys().collect();
            for host in hosts {
                self.forget(&host).await?;
            }
            return Ok(());
        }
        let id = &self.who.id;
        let proposal = Proposal::new(id, version.cloned(), smoke.to_vec(), &self.who.by);
        let row = (PROPOSAL.to_owned(), Some(rows::encode(&proposal)));
        self.control.write(self.log, vec![row]).await?;
        let begun = Instant::now();
        loop {
            self.control.catch_up(self.log).await?;
            let offset = self.still_ours()?;
            let mut checking = None;
            for (host, row) in self.control.hosts() {
                if row.follows_from > offset {
                    // It came later, and takes what is in use then.
                    continue;
                }
                match self.control.verdict(&host, id) {
                    Some(Verdict::Yes) => self.now(&host, HostState::Ready),
                    Some(Verdict::No(reason)) => return Err(DeployError::Refused { host, reason }),
                    Some(Verdict::Checking) => {
                        self.now(&host, HostState::Checking);
                        checking = Some(host);
                    }
                    None if begun.elapsed() >= ROLL_CALL => {
                        self.now(&host, HostState::Gone);
                        self.forget(&host).await?;
                    }
                    None => checking = Some(host),
                }
            }
            let Some(host) = checking else { return Ok(()) };
            if begun.elapsed() >= timeout {
                return Err(DeployError::NoAnswer { host, seconds: timeout.as_secs() });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The offset of our proposal, if nobody else has proposed or changed anything since.
    fn still_ours(&self) -> Result<u64, DeployError> {
        if let Some(change) = self.control.current()
            && Some(&change) != self.before.as_ref()
        {
            let what = self.control.name_of(change.digest.as_deref());
            return Err(DeployError::Overtaken { by: change.by, what });
        }
        match self.control.proposal() {
            Some((offset, proposal)) if proposal.id == self.who.id => Ok(offset),
            Some((_, proposal)) => {
                let version = proposal.version.map(|version| version.version);
                let what = format!("a proposal of {}", version.as_deref().unwrap_or("the file"));
                Err(DeployError::Overtaken { by: proposal.by, what })
            }
            None => {
                let (by, what) = ("somebody".to_owned(), "removing the proposal".to_owned());
                Err(DeployError::Overtaken { by, what })
            }
        }
    }

    /// Makes the change, unless somebody else has made one meanwhile, and waits for hosts to say that they follow.
    async fn change(
        &mut self,
        kind: Kind,
        digest: Option<String>,
        mut with: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<Changed, DeployError> {
        let Who { id, by, at } = self.who;
        let before = self.before.as_ref();
        let number = before.map_or(0, |change| change.number) + 1;
        let was = self.control.name_of(before.and_then(|change| change.digest.as_deref()));
        let change = Change::new(number, id, digest, kind == Kind::Rollback, by, *at);
        with.push((rows::change_key(&change), Some(rows::encode(&change))));
        self.control.write(self.log, with).await?;
        self.control.catch_up(self.log).await?;
        let changes = self.control.changes();
        let counts = changes.into_iter().find(|counts| counts.number == number);
        if let Some(counts) = counts.filter(|counts| counts.id != *id) {
            let what = self.control.name_of(counts.digest.as_deref());
            if counts.digest != change.digest {
                return Err(DeployError::Overtaken { by: counts.by, what });
            }
            // Two who roll back at once want the same.
        }
        (self.tell)(Progress::InUse);
        self.confirm(number).await?;
        let now = self.control.name_of(change.digest.as_deref());
        let hosts = std::mem::take(&mut self.hosts);
        Ok(Changed { kind, number, digest: change.digest, now, was, already: false, hosts })
    }

    /// Waits, not for ever, until each live host has read the change.
    async fn confirm(&mut self, number: u64) -> Result<(), DeployError> {
        let until = Instant::now() + CONFIRM_WITHIN;
        while self.has_hosts {
            let mut waiting = false;
            for (host, row) in self.control.hosts() {
                let state = match row.trouble {
                    _ if row.number < number => {
                        waiting = true;
                        HostState::Unconfirmed
                    }
                    Some(reason) => HostState::Trouble(reason),
                    None => HostState::Swapped,
                };
                if state != HostState::Unconfirmed || Instant::now() >= until {
                    self.now(&host, state);
                }
            }
            if !waiting || Instant::now() >= until {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            self.control.catch_up(self.log).await?;
        }
        Ok(())
    }

    fn now(&mut self, host: &str, state: HostState) {
        if self.hosts.get(host) != Some(&state) {
            (self.tell)(Progress::Host(host, &state));
            self.hosts.insert(host.to_owned(), state);
        }
    }

    async fn forget(&self, host: &str) -> Result<(), DeployError> {
        let keys = [format!("{HOST}{host}"), format!("{VERDICT}{host}")];
        self.control.write(self.log, keys.map(|key| (key, None)).to_vec()).await
    }

    /// Removes what is older than what is kept.
    async fn prune(&mut self) -> Result<(), DeployError> {
        self.control.catch_up(self.log).await?;
        let changes = self.control.changes();
        let in_use = changes.last().and_then(|change| change.digest.clone());
        let before = self.control.past().before().cloned().flatten();
        let mut rows = Vec::new();
        if let Some(at) = changes.len().checked_sub(CHANGES_KEPT)
            && let Some(first) = changes.get(at).filter(|_| at > 0)
        {
            let keys = self.control.change_keys_below(first.number);
            rows.extend(keys.into_iter().map(|key| (key, None)));
        }
        let versions = self.control.versions();
        let surplus = versions.len().saturating_sub(VERSIONS_KEPT);
        let goes =
            |version: &&Version| ![&in_use, &before].contains(&&Some(version.digest.clone()));
        let gone: Vec<Version> = versions.iter().filter(goes).take(surplus).cloned().collect();
        rows.extend(gone.iter().map(|version| (format!("{VERSION}{}", version.digest), None)));
        if !rows.is_empty() {
            self.control.write(self.log, rows).await?;
        }
        let blobs = self.control.blobs_partition();
        blob::remove(self.log, &blobs, &gone).await?;
        // A log that does not compact keeps all of it, but for what is below the first that is kept.
        let kept = versions.iter().filter(|version| !gone.contains(version));
        let topics = self.log.topics().await?;
        let compacts = topics.iter().any(|topic| topic.name == blobs.topic && topic.compacted);
        if let Some(first) = kept.map(|version| version.blob_from).min()
            && !compacts
        {
            self.log.delete_before(&blobs, first).await?;
        }
        Ok(())
    }
}
