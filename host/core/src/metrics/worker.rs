//! What a worker counts.

use std::time::Duration;

use prometheus::local::LocalHistogram;
use prometheus::{Counter, HistogramVec, IntCounter, IntGauge};

use crate::plugin::Usage;

use super::Metrics;

impl Metrics {
    /// The handles of one worker.
    pub fn worker(&self, pipeline: &str) -> WorkerMetrics {
        WorkerMetrics {
            pipeline: pipeline.to_owned(),
            handling: self.handling.clone(),
            done: self.handling.with_label_values(&[pipeline, "done"]).local(),
            rested: self.rested.with_label_values(&[pipeline]),
            restarts: self.restarts.with_label_values(&[pipeline]),
            guest_memory: self.guest_memory.with_label_values(&[pipeline]),
            memory_bytes: 0,
        }
    }
}

/// What a worker counts; written to the shared histogram once a batch.
#[derive(Debug)]
pub struct WorkerMetrics {
    pipeline: String,
    handling: HistogramVec,
    done: LocalHistogram,
    rested: Counter,
    restarts: IntCounter,
    guest_memory: IntGauge,
    /// This worker's part of it.
    memory_bytes: i64,
}

impl Drop for WorkerMetrics {
    fn drop(&mut self) {
        self.guest_memory.sub(self.memory_bytes);
    }
}

impl WorkerMetrics {
    /// The worker's instance uses this.
    pub fn used(&mut self, usage: Usage) {
        let Usage { rested, restarts, memory_bytes } = usage;
        if !rested.is_zero() {
            self.rested.inc_by(rested.as_secs_f64());
        }
        if restarts > 0 {
            self.restarts.inc_by(restarts);
        }
        let memory_bytes = i64::try_from(memory_bytes).unwrap_or(i64::MAX);
        if memory_bytes != self.memory_bytes {
            self.guest_memory.add(memory_bytes - self.memory_bytes);
            self.memory_bytes = memory_bytes;
        }
    }

    /// One attempt took so long and came to this.
    pub fn observe(&mut self, outcome: &str, time: Duration) {
        if outcome == "done" {
            self.done.observe(time.as_secs_f64());
        } else {
            let labels = [self.pipeline.as_str(), outcome];
            self.handling.with_label_values(&labels).observe(time.as_secs_f64());
        }
    }

    /// Makes what was observed visible.
    pub fn flush(&mut self) {
        self.done.flush();
    }
}
