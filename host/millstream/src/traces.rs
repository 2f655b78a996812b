//! Traces of a host: what its pipelines record goes to a receiver by OTLP over HTTP.
//!
//! ```text
//! workers, partitions ──▶ queue (bounded, never waited for) ──▶ one thread ──▶ batches ──▶ receiver
//! ```
//!
//! Invariants:
//! - a message never waits for a span: what the queue has no room for is dropped;
//! - every span is counted, as exported or as dropped and why.
//!
//! Limits: `QUEUE_SPANS` spans wait, `BATCH_SPANS` go in one request, for `BATCH_WAIT` at most; a
//! receiver that does not answer is tried `TRIES_MAX` times, and at the end of the host for `CLOSE_WITHIN`.

mod export;
mod otlp;
mod receiver;

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_core::metrics::Metrics;
use millstream_core::trace::{Ratio, Traces};

use crate::config::{Config, LogKind, PipelineConfig, TracesOptions};
use crate::exit::Failure;
use crate::finding::{Code, Finding};

use export::Exporter;
use otlp::Resource;
use receiver::Receiver;

/// Spans that wait for the thread: a second of a host that records four thousand of them.
const QUEUE_SPANS: usize = 4096;
/// Spans in one request.
const BATCH_SPANS: usize = 512;
/// A span waits so long for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// How often one batch is sent.
const TRIES_MAX: u32 = 5;
/// How long a host that ends waits for spans to be sent.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The traces of a host.
pub struct HostTraces {
    exporter: Exporter,
    random: Arc<dyn Fn() -> u64 + Send + Sync>,
    sample: f64,
    system: &'static str,
}

impl HostTraces {
    /// Begins to export, if the configuration has a receiver.
    ///
    /// # Errors
    /// When the exporter cannot be started.
    pub fn start(config: &Config, metrics: &Metrics) -> Result<Option<Self>, Failure> {
        let Some(options) = &config.traces else { return Ok(None) };
        let random = random();
        let resource = Resource::new(&options.service, instance_id(&*random));
        let receiver = Receiver::new(options);
        let exporter = Exporter::start(receiver, resource, metrics).map_err(|error| {
            let fix = "give the host the right to start threads";
            Finding::new(Code::Io, "spans cannot be exported", fix).because(error)
        })?;
        let TracesOptions { sample, .. } = options;
        let system = match config.log.kind {
            LogKind::Embedded { .. } => "millstream",
            LogKind::Kafka(_) => "kafka",
        };
        Ok(Some(Self { exporter, random, sample: *sample, system }))
    }

    /// What a pipeline needs of it.
    pub fn of(&self, pipeline: &PipelineConfig) -> Traces {
        Traces {
            sink: self.exporter.sink(),
            random: Arc::clone(&self.random),
            sample: Ratio::new(pipeline.trace_sample.unwrap_or(self.sample)),
            system: self.system,
        }
    }

    /// Sends what waits, as far as that goes quickly.
    pub async fn close(self) {
        // The thread ends by itself within bounds, so it is waited for where waiting hinders nobody.
        let closed = tokio::task::spawn_blocking(move || self.exporter.close());
        if closed.await.is_err() {
            tracing::error!("the exporter of spans ended by a panic");
        }
    }
}

/// Random numbers for ids: a keyed hash of a count, with a key from the system. Two hosts draw apart, and
/// nobody waits for a lock.
fn random() -> Arc<dyn Fn() -> u64 + Send + Sync> {
    let key = std::hash::RandomState::new();
    let count = AtomicU64::new(0);
    Arc::new(move || key.hash_one(count.fetch_add(1, Ordering::Relaxed)))
}

/// Names this process among those of its service, in the form of a random UUID.
fn instance_id(random: &dyn Fn() -> u64) -> String {
    let (high, low) = (random(), random());
    let (high, low) = (high & !0xf000 | 0x4000, low >> 2 | 1 << 63);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_the_form_of_a_random_uuid() {
        assert_eq!(instance_id(&|| 0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(instance_id(&|| u64::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn two_hosts_draw_different_numbers() {
        let (one, other) = (random(), random());
        let drawn: std::collections::BTreeSet<u64> =
            (0..1000).flat_map(|_| [one(), other()]).collect();
        assert_eq!(drawn.len(), 2000);
    }
}
