//! What both benchmarks have in common: messages, figures, processor time, tables, plugins.
//!
//! `src/main.rs` measures the sandbox and the embedded log, `src/kafka/main.rs` Kafka.

pub mod cpu_time;
pub mod figures;
pub mod guest_file;
pub mod memory;
pub mod messages;
pub mod table;
