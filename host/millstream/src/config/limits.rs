//! `limits`: what a handling attempt may use, as the sandbox keeps it.

use std::time::Duration;

use millstream_sandbox::Limits;

use crate::config::bounds::{Bounds, Checker};
use crate::config::document::join;
use crate::config::raw::RawLimits;

/// Checks the table at `path`; what it leaves out is the sandbox's default.
pub(super) fn check(checker: &mut Checker<'_>, path: &str, raw: &RawLimits) -> Limits {
    const TOGETHER: &str = "all outputs of a message are in memory at once";
    const COUNT: Bounds<u32> =
        Bounds { min: (1, "1"), max: (1_000_000, "1000000"), reason: TOGETHER };
    const OUTPUT: Bounds<u64> =
        Bounds { min: (1 << 10, "1KiB"), max: (1 << 30, "1GiB"), reason: TOGETHER };
    let default = Limits::default();
    let count = |checker: &mut Checker<'_>, key: &str, value: Option<u32>, default: usize| {
        value.map_or(default, |_| checker.count(&join(path, key), value, 1, COUNT) as usize)
    };
    let size = |checker: &mut Checker<'_>, key: &str, text: &Option<String>, default: usize| {
        checker.size_in_memory(&join(path, key), text.as_deref(), default as u64, OUTPUT)
    };
    Limits {
        memory_bytes: checker.size_in_memory(
            &join(path, "memory"),
            raw.memory.as_deref(),
            default.memory_bytes as u64,
            Bounds {
                min: (1 << 20, "1MiB"),
                max: (4 << 30, "4GiB"),
                reason: "a plugin needs a stack and a heap, and addresses at most 4 GiB",
            },
        ),
        table_elements: count(checker, "table", raw.table, default.table_elements),
        time: checker.duration(
            &join(path, "time"),
            raw.time.as_deref(),
            default.time,
            Bounds {
                min: (Duration::from_millis(5), "5ms"),
                max: (Duration::from_secs(3600), "1h"),
                reason: "time is watched in steps of 5 ms, and a handler that hangs must be seen \
                         to hang",
            },
        ),
        output_bytes: size(checker, "output", &raw.output, default.output_bytes),
        output_count: count(checker, "outputs", raw.outputs, default.output_count),
        header_bytes: size(checker, "header_bytes", &raw.header_bytes, default.header_bytes),
        header_count: count(checker, "headers", raw.headers, default.header_count),
        log_lines: count(checker, "log_lines", raw.log_lines, default.log_lines),
        log_line_bytes: default.log_line_bytes,
    }
}
