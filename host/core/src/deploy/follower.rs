//! Follower: a host's part in deploying. Follows the control topics of the host's pipelines, checks what is proposed,
//! and puts the version in use into each pipeline's slot.
//!
//! One task for the host: [`follow`]. It asks for the ends of all control topics together, each `ends::LOOK_EVERY`, and reads
//! only what is new. Loading and checking go on beside that, so that a rollback does not wait for them.
//!
//! Invariants:
//! - the slot holds the version of the last change that was read, or the one before while that is being loaded, or none
//!   if it cannot be loaded: that is tried again each [`TRY_AGAIN`], and at once on the next change;
//! - besides what is in use, what a rollback goes to is kept loaded, so that a rollback loads nothing;
//! - proposals are answered that were made after this host began to follow; who came later takes what is in use.
//!
//! Limits: of each pipeline three versions are loaded at most: in use, before, proposed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::deploy::blob::{self, BlobError};
use crate::deploy::check::try_out;
use crate::deploy::control::Control;
use crate::deploy::ends;
use crate::deploy::rows::{self, HOST, HostRow, Proposal, VERDICT, Verdict, VerdictRow, Version};
use crate::log::{Ends, Log, LogError};
use crate::message::Topic;
use crate::perhaps;
use crate::plugin::Plugin;
use crate::plugin_slot::PluginSlot;
use crate::shutdown::Shutdown;
use crate::status::{PipelineStatus, Trouble};

/// How often a version that cannot be loaded is tried again.
pub const TRY_AGAIN: Duration = Duration::from_secs(5);
/// How long to wait after the log failed.
const LOG_AGAIN: Duration = Duration::from_secs(1);

/// Loads versions as the pipeline wants them: with its grants, limits and room. Boundary: the core knows no sandbox.
#[async_trait]
pub trait Loader: Send + Sync + 'static {
    /// Loads a version from its bytes.
    ///
    /// # Errors
    /// A sentence: why it cannot be used.
    async fn load(&self, version: &Version, bytes: Bytes) -> Result<Arc<dyn Plugin>, String>;

    /// Loads the file of the configuration.
    ///
    /// # Errors
    /// A sentence: why it cannot be used.
    async fn load_file(&self) -> Result<Arc<dyn Plugin>, String>;
}

/// A pipeline whose control topic is followed.
pub struct Followed {
    /// The pipeline.
    pub pipeline: String,
    /// Its group.
    pub group: String,
    /// Which host this is.
    pub host: String,
    /// Where versions go.
    pub slot: Arc<PluginSlot>,
    /// Where trouble is told.
    pub status: Arc<PipelineStatus>,
    /// Loads versions.
    pub loader: Arc<dyn Loader>,
    /// The outputs the pipeline names.
    pub outputs: BTreeMap<String, Topic>,
    /// The plugin of the configuration, if it is loaded: it is in the slot then.
    pub file: Option<Arc<dyn Plugin>>,
}

/// Follows the control topics of all pipelines of a host until shutdown.
pub async fn follow(log: Arc<dyn Log>, pipelines: Vec<Followed>, shutdown: Shutdown) {
    let mut watched = Vec::new();
    let followers = FuturesUnordered::new();
    for followed in pipelines {
        let (seen, ends) = watch::channel(None);
        let follower = Follower::new(Arc::clone(&log), followed);
        watched.push((follower.control.rows_partition(), seen));
        followers.push(follower.run(ends, shutdown.clone()));
    }
    let followers = followers.collect::<Vec<()>>();
    tokio::select! {
        biased;
        _ = followers => {}
        () = ends::watch(&*log, watched) => {}
    }
}

/// Why a version is not loaded.
enum NotLoaded {
    /// It may pass by itself.
    Log(LogError),
    /// It does not.
    Unusable(String),
}

type Target = Option<String>;
type Loading = BoxFuture<'static, Result<Arc<dyn Plugin>, NotLoaded>>;

/// A change whose version is not in the slot yet.
struct Applying {
    number: u64,
    target: Target,
    loading: Loading,
}

/// A proposal that is being checked.
struct Checking {
    id: String,
    target: Target,
    checked: BoxFuture<'static, Result<Arc<dyn Plugin>, String>>,
}

/// One pipeline's follower.
struct Follower {
    log: Arc<dyn Log>,
    of: Followed,
    control: Control,
    /// What is loaded; the file is `None`.
    loaded: BTreeMap<Target, Arc<dyn Plugin>>,
    /// The change that the slot is at, and its version.
    at: Option<(u64, Target)>,
    applying: Option<Applying>,
    /// When a version that could not be loaded is tried again.
    again: Option<Instant>,
    trouble: Option<Trouble>,
    /// What a rollback goes to, being loaded.
    keeping: Option<(Target, Loading)>,
    /// What could not be kept ready: it is not tried again until something else changes.
    not_kept: Option<Target>,
    checking: Option<Checking>,
    /// The proposal that was answered last, and its version.
    answered: Option<(String, Target)>,
    /// What this host says of itself; set once the topic was read.
    row: Option<HostRow>,
    /// Rows on their way.
    to_write: Vec<(String, Option<Vec<u8>>)>,
    /// How many records that are no rows were warned of.
    strange: u64,
}

impl Follower {
    fn new(log: Arc<dyn Log>, of: Followed) -> Self {
        let control = Control::unread(&of.group);
        let loaded: BTreeMap<Target, Arc<dyn Plugin>> =
            of.file.clone().map(|file| (None, file)).into_iter().collect();
        let at = of.file.as_ref().map(|_| (0, None));
        Self {
            log,
            of,
            control,
            loaded,
            at,
            applying: None,
            again: None,
            trouble: None,
            keeping: None,
            not_kept: None,
            checking: None,
            answered: None,
            row: None,
            to_write: Vec::new(),
            strange: 0,
        }
    }

    async fn run(mut self, mut ends: watch::Receiver<Option<Ends>>, mut shutdown: Shutdown) {
        loop {
            let seen = *ends.borrow_and_update();
            let failed = match seen {
                None => false,
                Some(seen) => match self.look(seen).await {
                    Ok(()) => false,
                    Err(error) => {
                        tracing::warn!(pipeline = %self.of.pipeline, %error, "the control topic cannot be followed; trying again");
                        true
                    }
                },
            };
            let again =
                failed.then(|| Instant::now() + LOG_AGAIN).into_iter().chain(self.again).min();
            let applied =
                perhaps::ended(self.applying.as_mut().map(|applying| &mut applying.loading));
            let kept = perhaps::ended(self.keeping.as_mut().map(|(_, loading)| loading));
            let checked =
                perhaps::ended(self.checking.as_mut().map(|checking| &mut checking.checked));
            tokio::select! {
                biased;
                () = shutdown.requested() => return self.leave().await,
                plugin = applied => self.on_loaded(plugin),
                plugin = checked => self.on_checked(plugin),
                plugin = kept => self.on_kept(plugin),
                // The watch ends with this task.
                _ = ends.changed() => {}
                () = perhaps::reached(again) => {}
            }
        }
    }

    /// Reads what is new, and does what follows from it.
    async fn look(&mut self, ends: Ends) -> Result<(), LogError> {
        let log = Arc::clone(&self.log);
        self.control.read_to(&*log, ends).await?;
        let strange = self.control.strange();
        if strange > self.strange {
            self.strange = strange;
            let topic = self.control.rows_partition().topic;
            tracing::warn!(pipeline = %self.of.pipeline, %topic, strange, "records that are no rows of a control topic; who writes there?");
        }
        self.apply();
        self.keep_before();
        self.check_proposed();
        self.tell_of_itself();
        if !self.to_write.is_empty() {
            self.control.write(&*log, self.to_write.clone()).await.map_err(
                |error| match error {
                    crate::deploy::DeployError::Log(error) => error,
                    error => LogError::Unavailable(error.to_string()),
                },
            )?;
            self.to_write.clear();
        }
        Ok(())
    }

    /// Sees that the version of the last change is in the slot, or on its way there.
    fn apply(&mut self) {
        let current = self.control.current();
        let (number, target) = current.map_or((0, None), |change| (change.number, change.digest));
        if self.at.as_ref().is_some_and(|(at, _)| *at == number) {
            self.applying = None;
            return;
        }
        let waits = self.again.is_some_and(|again| Instant::now() < again);
        match &self.applying {
            Some(applying) if applying.number == number => return,
            None if waits && self.row.as_ref().is_some_and(|row| row.number == number) => return,
            Some(_) | None => {}
        }
        self.again = None;
        self.applying = None;
        self.not_kept = None;
        if let Some(plugin) = self.loaded.get(&target).cloned() {
            return self.swap(number, target, plugin);
        }
        tracing::info!(pipeline = %self.of.pipeline, version = %self.name_of(&target), "loading the version in use");
        let loading = self.loading(target.clone());
        self.applying = Some(Applying { number, target, loading });
    }

    fn on_loaded(&mut self, plugin: Result<Arc<dyn Plugin>, NotLoaded>) {
        let Some(Applying { number, target, .. }) = self.applying.take() else { return };
        let (reason, wait) = match plugin {
            Ok(plugin) => return self.swap(number, target, plugin),
            Err(NotLoaded::Log(error)) => (error.to_string(), LOG_AGAIN),
            Err(NotLoaded::Unusable(reason)) => (reason, TRY_AGAIN),
        };
        let name = self.name_of(&target);
        let text = format!("{name} is in use, and this host cannot load it: {reason}");
        tracing::error!(pipeline = %self.of.pipeline, code = "MS3004", reason = %text, "nothing is handled here");
        self.of.slot.clear(&text);
        self.trouble = Some(self.of.status.trouble(text.clone()));
        self.at = None;
        self.again = Some(Instant::now() + wait);
        self.says(number, None, Some(text));
    }

    fn swap(&mut self, number: u64, target: Target, plugin: Arc<dyn Plugin>) {
        let unchanged = self.at.as_ref().is_some_and(|(_, at)| *at == target);
        if !unchanged {
            self.of.slot.put(Arc::clone(&plugin));
        }
        let version = plugin.identity().version.clone();
        self.loaded.insert(target.clone(), plugin);
        self.at = Some((number, target.clone()));
        self.again = None;
        self.trouble = None;
        self.says(number, Some((target, version)), None);
        self.forget_others();
    }

    /// Keeps what a rollback goes to loaded.
    fn keep_before(&mut self) {
        let before = self.control.past().before().cloned();
        let Some(before) = before.filter(|_| self.at.is_some()) else {
            self.keeping = None;
            return;
        };
        let is_on_its_way = self.keeping.as_ref().is_some_and(|(target, _)| *target == before);
        let has_failed = self.not_kept.as_ref() == Some(&before);
        if !self.loaded.contains_key(&before) && !is_on_its_way && !has_failed {
            self.keeping = Some((before.clone(), self.loading(before)));
        }
        self.forget_others();
    }

    fn on_kept(&mut self, plugin: Result<Arc<dyn Plugin>, NotLoaded>) {
        let Some((target, _)) = self.keeping.take() else { return };
        match plugin {
            Ok(plugin) => drop(self.loaded.insert(target, plugin)),
            Err(NotLoaded::Log(error)) => {
                tracing::debug!(pipeline = %self.of.pipeline, %error, "what a rollback goes to is not loaded yet");
            }
            Err(NotLoaded::Unusable(reason)) => {
                let version = self.name_of(&target);
                tracing::warn!(pipeline = %self.of.pipeline, %version, %reason, "a rollback would go to a version that cannot be loaded here");
                self.not_kept = Some(target);
            }
        }
    }

    /// Begins to check what is proposed, if that was not answered yet.
    fn check_proposed(&mut self) {
        let Some((offset, proposal)) = self.control.proposal() else { return };
        let Proposal { id, version, smoke, .. } = proposal;
        let seen = self.checking.as_ref().is_some_and(|checking| checking.id == id)
            || self.answered.as_ref().is_some_and(|(answered, _)| *answered == id);
        let follows_from =
            self.row.as_ref().map_or_else(|| self.control.next(), |row| row.follows_from);
        if seen || offset < follows_from {
            return;
        }
        let target: Target = version.as_ref().map(|version| version.digest.clone());
        let loading = match self.loaded.get(&target).cloned() {
            Some(plugin) => futures::future::ready(Ok(plugin)).boxed(),
            None => self.loading_of(version),
        };
        let outputs = self.of.outputs.clone();
        let checked = async move {
            let plugin = loading.await.map_err(|not_loaded| match not_loaded {
                NotLoaded::Log(error) => error.to_string(),
                NotLoaded::Unusable(reason) => reason,
            })?;
            try_out(&*plugin, &smoke, &outputs).await?;
            Ok(plugin)
        };
        self.answers(&id, Verdict::Checking);
        self.answered = None;
        self.checking = Some(Checking { id, target, checked: checked.boxed() });
    }

    fn on_checked(&mut self, plugin: Result<Arc<dyn Plugin>, String>) {
        let Some(Checking { id, target, .. }) = self.checking.take() else { return };
        let verdict = match plugin {
            Ok(plugin) => {
                // Kept until something else is proposed or in use.
                self.loaded.insert(target.clone(), plugin);
                Verdict::Yes
            }
            Err(reason) => Verdict::No(reason),
        };
        tracing::info!(pipeline = %self.of.pipeline, version = %self.name_of(&target), ?verdict, "a proposed version was checked");
        self.answers(&id, verdict);
        self.answered = Some((id, target));
        self.forget_others();
    }

    fn answers(&mut self, proposal: &str, verdict: Verdict) {
        let row = rows::encode(&VerdictRow::new(proposal, verdict));
        self.to_write.push((format!("{VERDICT}{}", self.of.host), Some(row)));
    }

    /// This host is at a change, with a version or in trouble.
    fn says(&mut self, number: u64, runs: Option<(Target, String)>, trouble: Option<String>) {
        let follows_from =
            self.row.as_ref().map_or_else(|| self.control.next(), |row| row.follows_from);
        let (digest, version) = runs.unzip();
        let digest = digest.flatten();
        let row = HostRow::new(follows_from, number, digest, version, trouble);
        self.to_write.push((format!("{HOST}{}", self.of.host), Some(rows::encode(&row))));
        self.row = Some(row);
    }

    /// Sees that its row stands there: whoever took this host for gone has removed it.
    fn tell_of_itself(&mut self) {
        let Some(row) = &self.row else {
            // It began with the file, which is in use.
            if let Some((number, target)) = self.at.clone()
                && let Some(plugin) = self.loaded.get(&target)
            {
                let version = plugin.identity().version.clone();
                self.says(number, Some((target, version)), None);
            }
            return;
        };
        if self.to_write.is_empty() && !self.control.hosts().contains_key(&self.of.host) {
            let row = rows::encode(row);
            self.to_write.push((format!("{HOST}{}", self.of.host), Some(row)));
        }
    }

    /// Lets go of what is neither in use, nor what a rollback goes to, nor proposed.
    fn forget_others(&mut self) {
        let before = self.control.past().before().cloned();
        let in_use = self.at.as_ref().map(|(_, target)| target.clone());
        let proposed = self.control.proposal().map(|(_, proposal)| proposal.id);
        let answered = self.answered.as_ref().filter(|(id, _)| Some(id) == proposed.as_ref());
        let answered = answered.map(|(_, target)| target.clone());
        let kept = [in_use, before, answered];
        self.loaded.retain(|target, _| kept.iter().flatten().any(|kept| kept == target));
    }

    fn loading(&self, target: Target) -> Loading {
        match target {
            None => self.loading_of(None),
            Some(digest) => match self.control.version(&digest) {
                Some(version) => self.loading_of(Some(version)),
                None => {
                    let text = format!(
                        "version {digest} is not in the control topic: deploy its file again"
                    );
                    futures::future::ready(Err(NotLoaded::Unusable(text))).boxed()
                }
            },
        }
    }

    fn loading_of(&self, version: Option<Version>) -> Loading {
        let (log, loader) = (Arc::clone(&self.log), Arc::clone(&self.of.loader));
        let blobs = self.control.blobs_partition();
        let loading = async move {
            let Some(version) = version else {
                return loader.load_file().await.map_err(NotLoaded::Unusable);
            };
            let bytes = blob::read(&*log, &blobs, &version).await.map_err(|error| match error {
                BlobError::Log(error @ LogError::Fatal(_)) => {
                    NotLoaded::Unusable(error.to_string())
                }
                BlobError::Log(error) => NotLoaded::Log(error),
                BlobError::Damaged(how) => NotLoaded::Unusable(how),
            })?;
            loader.load(&version, bytes).await.map_err(NotLoaded::Unusable)
        };
        loading.boxed()
    }

    fn name_of(&self, target: &Target) -> String {
        self.control.name_of(target.as_deref())
    }

    /// Takes the host's rows away: it ends.
    async fn leave(&mut self) {
        if self.row.is_none() {
            return;
        }
        let keys = [format!("{HOST}{}", self.of.host), format!("{VERDICT}{}", self.of.host)];
        let rows = keys.map(|key| (key, None)).to_vec();
        if let Err(error) = self.control.write(&*self.log, rows).await {
            // The next deploy finds out.
            tracing::debug!(pipeline = %self.of.pipeline, %error, "the host has not said that it ends");
        }
    }
}
