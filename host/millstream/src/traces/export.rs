//! Exporter: the queue of spans, and the thread that empties it.
//!
//! The thread is woken when a batch is whole, not for each span: that would cost more than the span does.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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

/// What is counted.
#[derive(Clone)]
struct Counts {
    exported: IntCounter,
    queue_full: IntCounter,
    refused: IntCounter,
    unreachable: IntCounter,
}

/// What waits to be exported.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// A batch is whole, or the host ends.
    is_due: Condvar,
}

#[derive(Default)]
struct Waiting {
    spans: VecDeque<Span>,
    /// Until when the receiver may take spans of a host that ends.
    deadline: Option<Instant>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was room for it.
    fn push(&self, span: Span) -> bool {
        let mut waiting = self.lock();
        if waiting.spans.len() >= QUEUE_SPANS {
            return false;
        }
        waiting.spans.push_back(span);
        let is_whole = waiting.spans.len() == BATCH_SPANS;
        drop(waiting);
        if is_whole {
            self.is_due.notify_one();
        }
        true
    }

    /// The next spans, after [`BATCH_WAIT`] at most; `None` when the host ends and nothing is left.
    fn next(&self) -> Option<Vec<Span>> {
        loop {
            let is_early = |waiting: &mut Waiting| {
                waiting.spans.len() < BATCH_SPANS && waiting.deadline.is_none()
            };
            let waited = self.is_due.wait_timeout_while(self.lock(), BATCH_WAIT, is_early);
            let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let count = waiting.spans.len().min(BATCH_SPANS);
            if count > 0 {
                return Some(waiting.spans.drain(..count).collect());
            }
            if waiting.deadline.is_some() {
                return None;
            }
        }
    }

    fn end(&self, within: Duration) {
        self.lock().deadline = Some(Instant::now() + within);
        self.is_due.notify_one();
    }

    /// How much time is left to a host that ends; `None` for one that does not.
    fn left(&self) -> Option<Duration> {
        let deadline = self.lock().deadline;
        deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// See the module.
pub(super) struct Exporter {
    sink: Arc<Sink>,
    thread: JoinHandle<()>,
}

struct Sink {
    queue: Arc<Queue>,
    counts: Counts,
}

impl SpanSink for Sink {
    fn ended(&self, span: Span) {
        if !self.queue.push(span) {
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
        let queue = Arc::new(Queue::default());
        let worker = Worker {
            queue: Arc::clone(&queue),
            receiver,
            resource,
            counts: counts.clone(),
            fails: false,
        };
        let thread =
            std::thread::Builder::new().name("spans".to_owned()).spawn(move || worker.work())?;
        Ok(Self { sink: Arc::new(Sink { queue, counts }), thread })
    }

    /// Where spans go.
    pub(super) fn sink(&self) -> Arc<dyn SpanSink> {
        Arc::clone(&self.sink) as _
    }

    /// Sends what waits within bounds, and ends.
    pub(super) fn close(self) {
        self.sink.queue.end(CLOSE_WITHIN);
        // It may wait to send a batch again.
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the thread that exports spans ended by a panic");
        }
    }
}

struct Worker {
    queue: Arc<Queue>,
    receiver: Receiver,
    resource: Resource,
    counts: Counts,
    /// Whether the last batch was lost: told once, not for each.
    fails: bool,
}

impl Worker {
    fn work(mut self) {
        while let Some(batch) = self.queue.next() {
            self.export(&batch);
        }
    }

    fn export(&mut self, batch: &[Span]) {
        let request = Request::new(&self.resource, batch).encode_to_vec();
        let mut tries = 0;
        let why = loop {
            if self.queue.left().is_some_and(|left| left.is_zero()) {
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
                Sent::Later { why, .. } if tries >= TRIES_MAX || self.queue.left().is_some() => {
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

#[cfg(test)]
mod tests {
    use millstream_core::trace::{Operation, SpanContext, SpanId, TraceId};
    use std::num::{NonZeroU64, NonZeroU128};

    use super::*;

    fn span() -> Span {
        let (trace, span) = (TraceId(NonZeroU128::MIN), SpanId(NonZeroU64::MIN));
        Span {
            context: SpanContext { trace, span, sampled: true },
            state: None,
            parent: None,
            link: None,
            operation: Operation::Process,
            topic: "orders".into(),
            begin_nanos: 0,
            end_nanos: 0,
            attributes: Vec::new(),
            failure: None,
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_refused_and_what_waits_goes_in_batches_and_all_at_the_end() {
        let queue = Queue::default();
        assert!((0..QUEUE_SPANS).all(|_| queue.push(span())));
        assert!(!queue.push(span()), "it is full");
        assert_eq!(queue.left(), None);
        assert_eq!(queue.next().map(|batch| batch.len()), Some(BATCH_SPANS));
        assert!(queue.push(span()), "there is room again");
        queue.end(Duration::from_secs(60));
        assert!(queue.left().is_some_and(|left| !left.is_zero()));
        let rest: Vec<usize> =
            std::iter::from_fn(|| queue.next()).map(|batch| batch.len()).collect();
        assert_eq!(rest.iter().sum::<usize>(), QUEUE_SPANS - BATCH_SPANS + 1);
        assert_eq!(rest.last(), Some(&1), "nothing is waited for any more");
    }

    #[test]
    fn a_span_that_is_alone_waits_for_others_and_not_for_ever() {
        let queue = Queue::default();
        let begin = Instant::now();
        assert!(queue.push(span()));
        assert_eq!(queue.next().map(|batch| batch.len()), Some(1));
        assert!(begin.elapsed() >= BATCH_WAIT);
    }

    #[test]
    fn whoever_waits_is_told_of_a_whole_batch_and_of_the_end() {
        let queue = Arc::new(Queue::default());
        let batches = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || std::iter::from_fn(|| queue.next()).map(|batch| batch.len()).sum::<usize>()
        });
        (0..3 * BATCH_SPANS).for_each(|_| assert!(queue.push(span())));
        queue.end(Duration::from_secs(60));
        assert_eq!(batches.join().ok(), Some(3 * BATCH_SPANS));
    }
}
