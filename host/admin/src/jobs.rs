//! Jobs: work that takes longer than a request, as putting back a hundred thousand dead letters. It runs in the host,
//! so it goes on when the page that began it is closed, and any page shows how far it is.
//!
//! Invariant: a pipeline has one at a time; two that take the same letters would put some back twice.
//!
//! Limits: [`KEPT_MAX`] that have ended are remembered, the latest. A host that ends ends them; what they did
//! stands, and the same again goes on from there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use millstream_core::message::EpochMs;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::server::Served;

/// Jobs that have ended and are remembered.
const KEPT_MAX: usize = 32;

/// How a job is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct JobView {
    pub(crate) id: String,
    pub(crate) pipeline: String,
    /// What it does: `redrive`, `purge`, `rollback`.
    pub(crate) action: &'static str,
    /// The same for a person.
    pub(crate) text: String,
    pub(crate) by: String,
    pub(crate) state: JobState,
    pub(crate) begun: EpochMs,
    pub(crate) ended: Option<EpochMs>,
    /// Offsets looked at, and how many there are to look at as far as is known.
    pub(crate) read: u64,
    pub(crate) total: u64,
    /// What was done to how many letters.
    pub(crate) done: u64,
    /// What came of it.
    pub(crate) report: serde_json::Value,
    /// Why it failed.
    pub(crate) error: Option<String>,
}

/// Whether a job runs, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobState {
    Running,
    Done,
    Failed,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Jobs {
    jobs: Mutex<VecDeque<JobView>>,
    tasks: Mutex<JoinSet<()>>,
}

/// A job that runs, to tell how far it is.
#[derive(Clone)]
pub(crate) struct Running {
    jobs: Arc<Jobs>,
    id: String,
}

impl Jobs {
    /// All that are known, the latest first.
    pub(crate) fn all(&self) -> Vec<JobView> {
        self.lock().iter().cloned().collect()
    }

    /// Notes a job that begins now.
    ///
    /// # Errors
    /// The one that runs for this pipeline already.
    pub(crate) fn begin(self: &Arc<Self>, job: JobView) -> Result<Running, Box<JobView>> {
        let mut jobs = self.lock();
        let runs =
            |other: &&JobView| other.pipeline == job.pipeline && other.state == JobState::Running;
        if let Some(running) = jobs.iter().find(runs) {
            return Err(Box::new(running.clone()));
        }
        let id = job.id.clone();
        jobs.push_front(job);
        while jobs.len() > KEPT_MAX {
            let oldest = jobs.iter().rposition(|job| job.state != JobState::Running);
            let Some(oldest) = oldest else { break };
            jobs.remove(oldest);
        }
        drop(jobs);
        Ok(Running { jobs: Arc::clone(self), id })
    }

    /// Runs what a job does, as long as the server lives.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<JobView>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Running {
    /// Changes what is told of it.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut JobView)) {
        if let Some(job) = self.jobs.lock().iter_mut().find(|job| job.id == self.id) {
            change(job);
        }
    }
}

/// What is asked for.
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) pipeline: String,
    pub(crate) action: &'static str,
    pub(crate) text: String,
    pub(crate) by: String,
    pub(crate) at: EpochMs,
}

/// What came of it.
pub(crate) struct Ended {
    pub(crate) done: u64,
    pub(crate) report: serde_json::Value,
}

/// A name that nothing else has.
///
/// # Errors
/// When the system gives no random bytes.
pub(crate) fn new_id() -> Result<String, Failure> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::fatal(format!("the system gives no random bytes: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Begins a job, and answers with it.
///
/// # Errors
/// When one is under way for the pipeline.
pub(crate) fn start<W, F>(
    served: &Arc<Served>,
    asked: Asked,
    work: W,
) -> Result<impl IntoResponse + use<W, F>, Failure>
where
    W: FnOnce(Arc<Served>, Running) -> F,
    F: Future<Output = Result<Ended, String>> + Send + 'static,
{
    let job = JobView {
        id: asked.id,
        pipeline: asked.pipeline,
        action: asked.action,
        text: asked.text,
        by: asked.by,
        state: JobState::Running,
        begun: asked.at,
        ended: None,
        read: 0,
        total: 0,
        done: 0,
        report: serde_json::Value::Null,
        error: None,
    };
    let running = served.jobs.begin(job.clone()).map_err(|other| {
        let text = format!(
            "job {} of pipeline {} is under way ({}): wait until it has ended",
            other.id, other.pipeline, other.text
        );
        Failure::request(StatusCode::CONFLICT, text)
    })?;
    let working = work(Arc::clone(served), running.clone());
    let clock = Arc::clone(&served.clock);
    served.jobs.spawn(async move {
        let result = working.await;
        let now = clock.now();
        running.tell(|job| {
            job.ended = Some(now);
            match result {
                Ok(Ended { done, report }) => {
                    (job.state, job.done, job.report) = (JobState::Done, done, report);
                }
                Err(error) => (job.state, job.error) = (JobState::Failed, Some(error)),
            }
        });
    });
    Ok((StatusCode::ACCEPTED, Json(job)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, pipeline: &str) -> JobView {
        JobView {
            id: id.to_owned(),
            pipeline: pipeline.to_owned(),
            action: "redrive",
            text: String::new(),
            by: String::new(),
            state: JobState::Running,
            begun: 0,
            ended: None,
            read: 0,
            total: 0,
            done: 0,
            report: serde_json::Value::Null,
            error: None,
        }
    }

    #[test]
    fn a_pipeline_has_one_at_a_time_and_others_are_not_kept_from_theirs() {
        let jobs = Arc::new(Jobs::default());
        let first = jobs.begin(job("1", "orders")).expect("begun");
        let refused = jobs.begin(job("2", "orders")).expect_err("one runs");
        assert_eq!(refused.id, "1");
        assert!(jobs.begin(job("3", "refunds")).is_ok());
        first.tell(|job| job.state = JobState::Failed);
        assert!(jobs.begin(job("4", "orders")).is_ok());
    }

    #[test]
    fn endless_jobs_take_no_endless_room_and_one_that_runs_is_not_forgotten() {
        let jobs = Arc::new(Jobs::default());
        let _runs = jobs.begin(job("runs", "slow")).expect("begun");
        for n in 0..100 {
            let running = jobs.begin(job(&n.to_string(), "orders")).expect("begun");
            running.tell(|job| job.state = JobState::Done);
        }
        let all = jobs.all();
        assert_eq!((all.len(), all[0].id.as_str()), (KEPT_MAX, "99"));
        assert!(all.iter().any(|job| job.id == "runs"));
    }
}
