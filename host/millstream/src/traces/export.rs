//! Exporter: the queue of spans, and the thread that empties it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Queue, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use millstream_core::metrics::Metrics;
use millstream_core::trace::{Span, SpanSink};
use prometheus::IntCounter;
use prost::Message as _;
use tokio::time::Instant;

use super::otlp::{Request, Resource};
use super::receiver::{Receiver, Sent};
use super::{BATCH_SPANS, BATCH_WAIT, CLOSE_WITHIN, QUEUE_SPANS, TRIES_MAX};

/// The wait before a batch is sent again; it doubles each time.
const RETRY_WAIT: Duration = Duration::from_millis(500);

enum Queued {
    Span(Span),
    /// Nothing comes after this that must be waited for.
    End,
}

/// What is counted.
#[derive(Clone)]
struct Counts {
    exported: IntCounter,
    queue_full: IntCounter,
    refused: IntCounter,
    unreachable: IntCounter,
}

/// When the host ends, and with it the patience for the receiver.
#[derive(Default)]
struct Ending {
    asked: AtomicBool,
    /// Set before `asked`.
    deadline: Mutex<Option<Instant>>,
}

impl Ending {
    fn ask(&self, within: Duration) {
        let mut deadline = self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        *deadline = Some(Instant::now() + within);
        self.asked.store(true, Ordering::Release);
    }

    /// How much time is left; `None` while nobody asked.
    fn left(&self) -> Option<Duration> {
        if !self.asked.load(Ordering::Acquire) {
            return None;
        }
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        Some(deadline?.saturating_duration_since(Instant::now()))
    }
}

/// See the module.
pub(super) struct Exporter {
    sink: Arc<Sink>,
    ending: Arc<Ending>,
    thread: JoinHandle<()>,
}

struct Sink {
    queue: SyncSender<Queued>,
    counts: Counts,
}

impl SpanSink for Sink {
    fn ended(&self, span: Span) {
        if self.queue.try_send(Queued::Span(span)).is_err() {
            self.counts.queue_full.inc();
        }
    }
}

impl Exporter {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has none left.
    pub(super) fn start(
        receiver: Receiver,
        resource: Resource,
        metrics: &Metrics,
    ) -> std::io::Result<Self> {
        let dropped = |why: &str| metrics.spans_dropped.with_label_values(&[why]);
        let counts = Counts {
            exported: metrics.spans_exported.with_label_values::<&str>(&[]),
            queue_full: dropped("queue_full"),
            refused: dropped("refused"),
            unreachable: dropped("unreachable"),
        };
        let (sender, queue) = sync_channel(QUEUE_SPANS);
        let ending = Arc::new(Ending::default());
        let worker = Worker {
            queue,
            receiver,
            resource,
            counts: counts.clone(),
            ending: Arc::clone(&ending),
            fails: false,
        };
        let thread =
            std::thread::Builder::new().name("spans".to_owned()).spawn(move || worker.work())?;
        Ok(Self { sink: Arc::new(Sink { queue: sender, counts }), ending, thread })
    }

    /// Where spans go.
    pub(super) fn sink(&self) -> Arc<dyn SpanSink> {
        Arc::clone(&self.sink) as _
    }

    /// Sends what waits within bounds, and ends.
    pub(super) fn close(self) {
        self.ending.ask(CLOSE_WITHIN);
        // If there is no room the thread is at work, and sees what was asked.
        let _ = self.sink.queue.try_send(Queued::End);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the thread that exports spans ended by a panic");
        }
    }
}

struct Worker {
    queue: Queue<Queued>,
    receiver: Receiver,
    resource: Resource,
    counts: Counts,
    ending: Arc<Ending>,
    /// Whether the last batch was lost: told once, not for each.
    fails: bool,
}

impl Worker {
    fn work(mut self) {
        loop {
            let (batch, ends) = self.batch();
            if !batch.is_empty() {
                self.export(&batch);
            }
            if ends {
                return;
            }
        }
    }

    /// The next spans, and whether they are the last.
    fn batch(&self) -> (Vec<Span>, bool) {
        let mut batch = Vec::new();
        let mut until: Option<Instant> = None;
        while batch.len() < BATCH_SPANS {
            let wait = match (until, self.ending.left()) {
                (_, Some(_)) => Duration::ZERO,
                (Some(until), None) => until.saturating_duration_since(Instant::now()),
                (None, None) => BATCH_WAIT,
            };
            match self.queue.recv_timeout(wait) {
                Ok(Queued::Span(span)) => {
                    batch.push(span);
                    until.get_or_insert_with(|| Instant::now() + BATCH_WAIT);
                }
                // What was recorded until the end stands before it, unless there was no room for it.
                Ok(Queued::End) => {}
                Err(RecvTimeoutError::Timeout) if self.ending.left().is_some() => {
                    return (batch, true);
                }
                Err(RecvTimeoutError::Timeout) if batch.is_empty() => {}
                Err(RecvTimeoutError::Timeout) => return (batch, false),
                Err(RecvTimeoutError::Disconnected) => return (batch, true),
            }
        }
        (batch, false)
    }

    fn export(&mut self, batch: &[Span]) {
        let request = Request::new(&self.resource, batch).encode_to_vec();
        let mut tries = 0;
        let why = loop {
            if self.ending.left().is_some_and(|left| left.is_zero()) {
                break "the host ends".to_owned();
            }
            tries += 1;
            match self.receiver.send(&request) {
                Sent::Taken { rejected, why } => return self.taken(batch.len(), rejected, &why),
                Sent::Refused { why } => {
                    self.counts.refused.inc_by(batch.len() as u64);
                    return self.lost(batch.len(), &why);
                }
                // Whoever ends does not wait for a receiver that is away.
                Sent::Later { why, .. } if tries >= TRIES_MAX || self.ending.left().is_some() => {
                    break why;
                }
                Sent::Later { wait, .. } => {
                    let grown = RETRY_WAIT.saturating_mul(1 << tries.min(8));
                    std::thread::park_timeout(wait.unwrap_or(grown));
                }
            }
        };
        self.counts.unreachable.inc_by(batch.len() as u64);
        self.lost(batch.len(), &why);
    }

    fn taken(&mut self, spans: usize, rejected: usize, why: &str) {
        let rejected = rejected.min(spans);
        self.counts.exported.inc_by((spans - rejected) as u64);
        if rejected > 0 {
            self.counts.refused.inc_by(rejected as u64);
            return self.lost(rejected, why);
        }
        if std::mem::take(&mut self.fails) {
            tracing::info!(receiver = self.receiver.url(), "spans are exported again");
        }
    }

    fn lost(&mut self, spans: usize, why: &str) {
        if !std::mem::replace(&mut self.fails, true) {
            tracing::warn!(
                receiver = self.receiver.url(),
                spans,
                why,
                "spans are lost: the receiver does not take them; messages are handled all the same, and `millstream_spans_dropped_total` counts on"
            );
        }
    }
}
