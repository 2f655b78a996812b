//! Limits: what one plugin instance and one call of it may use.
//!
//! Written by the pipeline's `limits` table. Every limit holds for one instance or one call; what a
//! pipeline uses at most is that times its instances.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// What a plugin may use. Exceeding a limit is a fault of the message, never of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of an instance in bytes, all its memories together.
    pub memory_bytes: usize,
    /// Table elements of an instance, all its tables together. A table holds a guest's function
    /// pointers: a Rust plugin has hundreds, an interpreter tens of thousands.
    pub table_elements: usize,
    /// Wall time of one call, the instance's start included if it has to start. Checked where the
    /// guest yields, each 5 ms. While the plugin is held back for its faults ([`crate::Rests`]) its
    /// rests come on top: at most nine times as much again.
    pub time: Duration,
    /// Keys, values, header names and header values of all outputs of one call, in bytes.
    pub output_bytes: usize,
    /// Outputs of one call.
    pub output_count: usize,
    /// Header names and values of one output, in bytes.
    pub header_bytes: usize,
    /// Headers of one output.
    pub header_count: usize,
    /// Log lines of one call; further lines are counted and dropped with a note.
    pub log_lines: usize,
    /// The longest log line in bytes; a longer one is cut with a mark.
    pub log_line_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            table_elements: 50_000,
            time: Duration::from_secs(1),
            output_bytes: 1 << 20,
            output_count: 1_000,
            header_bytes: 64 << 10,
            header_count: 64,
            log_lines: 100,
            log_line_bytes: 4 << 10,
        }
    }
}

/// What the guest was refused in this call: a trap that follows is a fault of kind `memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Linear memory: so many bytes were wanted.
    Memory { wanted_bytes: usize },
    /// A table: so many elements were wanted.
    Table { wanted_elements: usize },
}

/// Counts what an instance has and refuses what would be more than its limits.
pub(crate) struct Limiter {
    memory_bytes_max: usize,
    table_elements_max: usize,
    memory_bytes: usize,
    table_elements: usize,
    /// Written when growth is refused, cleared when the next call begins.
    pub(crate) refused: Option<Refusal>,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes_max: limits.memory_bytes,
            table_elements_max: limits.table_elements,
            memory_bytes: 0,
            table_elements: 0,
            refused: None,
        }
    }

    /// Linear memory of the instance now, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted_bytes = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if wanted_bytes > self.memory_bytes_max {
            self.refused = Some(Refusal::Memory { wanted_bytes });
            return Ok(false);
        }
        // The module's own maximum: wasmtime refuses by itself what lies above, so don't count it.
        if maximum.is_none_or(|maximum| desired <= maximum) {
            self.memory_bytes = wanted_bytes;
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted_elements = self.table_elements.saturating_add(desired.saturating_sub(current));
        if wanted_elements > self.table_elements_max {
            self.refused = Some(Refusal::Table { wanted_elements });
            return Ok(false);
        }
        if maximum.is_none_or(|maximum| desired <= maximum) {
            self.table_elements = wanted_elements;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_memories_share_one_limit() {
        let limits = Limits { memory_bytes: 100, table_elements: 10, ..Limits::default() };
        let mut limiter = Limiter::new(&limits);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap(), "60 + 60 is more than 100");
        assert_eq!(limiter.refused, Some(Refusal::Memory { wanted_bytes: 120 }));
        assert!(limiter.memory_growing(0, 40, None).unwrap(), "a refusal costs nothing");
        assert!(!limiter.table_growing(0, 11, None).unwrap());
        assert_eq!(limiter.refused, Some(Refusal::Table { wanted_elements: 11 }));
    }
}
