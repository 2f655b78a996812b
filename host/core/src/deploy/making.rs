//! Making: one change, from its begin in the audit trail to what came of it.
//!
//! The steps of [`deploy`](super::deploy) and [`roll_back`](super::roll_back): bytes into the log, hosts asked, the change
//! appended, hosts waited for, what is old removed. Dropped or killed at any step it has changed nothing but, behind
//! its last append, everything.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::audit::{self, Entry};
use crate::deploy::change::{Changed, HostState, Kind, Progress, Tell, Who};
use crate::deploy::control::Control;
use crate::deploy::rows::{
    self, Change, HOST, PROPOSAL, Proposal, VERDICT, VERSION, Verdict, Version,
};
use crate::deploy::{CHANGES_KEPT, CONFIRM_WITHIN, DeployError, ROLL_CALL, VERSIONS_KEPT, blob};
use crate::log::Log;

/// How often it is looked for hosts' answers.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A change in the making.
pub(super) struct Making<'a> {
    log: &'a dyn Log,
    pub(super) control: Control,
    pipeline: &'a str,
    who: &'a Who,
    has_hosts: bool,
    tell: Tell<'a>,
    /// The last change when this began.
    pub(super) before: Option<Change>,
    hosts: BTreeMap<String, HostState>,
}

impl<'a> Making<'a> {
    pub(super) fn new(
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

    pub(super) fn already(&self, kind: Kind) -> Changed {
        let before = self.before.as_ref();
        let digest = before.and_then(|change| change.digest.clone());
        let now = self.control.name_of(digest.as_deref());
        let number = before.map_or(0, |change| change.number);
        let (was, hosts) = (now.clone(), BTreeMap::new());
        Changed { kind, number, digest, now, was, already: true, hosts }
    }

    pub(super) async fn begin(
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
    pub(super) async fn end(
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

    pub(super) async fn deploy(
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

    pub(super) async fn roll_back(
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
    pub(super) async fn mend(
        &mut self,
        mut version: Version,
        bytes: &Bytes,
    ) -> Result<Changed, DeployError> {
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
