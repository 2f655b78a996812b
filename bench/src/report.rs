//! Report: what was measured, as a table for a person or as JSON.

use std::fmt::Write as _;

use anyhow::Context as _;
use millstream_bench::table::layout;
use serde::Serialize;

use crate::effort::Effort;
use crate::messages::VALUE_BYTES;
use crate::sandbox_cost::{AIM_MICROSECONDS, SandboxCost};
use crate::throughput::{AIM_SHARE, Role, Throughput};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Cores of the machine that the process may use.
    cores: usize,
    /// Whether it was a short run, whose figures are noise.
    quick: bool,
    /// Whether the benchmark itself was built without optimisation: its figures mean nothing.
    debug_build: bool,
    effort: Effort,
    /// Empty if it was not measured.
    pub(crate) sandbox: Vec<SandboxCost>,
    /// Empty if it was not measured.
    pub(crate) throughput: Vec<Throughput>,
}

impl Report {
    /// A report without figures.
    pub(crate) fn new(cores: usize, quick: bool, effort: Effort) -> Self {
        let debug_build = cfg!(debug_assertions);
        Self { cores, quick, debug_build, effort, sandbox: Vec::new(), throughput: Vec::new() }
    }

    /// The report as JSON.
    ///
    /// # Errors
    /// When a figure is nothing that JSON can say.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        serde_json::to_string_pretty(self).context("the report cannot be written as JSON")
    }

    /// The report as tables.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{} cores", self.cores);
        if self.quick {
            text.push_str("; a quick run: the figures are noise");
        }
        if self.debug_build {
            text.push_str("; a debug build: the figures mean nothing");
        }
        text.push('\n');
        if !self.sandbox.is_empty() {
            let rounds = self.effort.sandbox_rounds;
            // A `String` takes everything.
            let _ = write!(
                text,
                "\nThe sandbox's cost a message, medians of {rounds} interleaved rounds on one \
                 thread\n(aim: at most {AIM_MICROSECONDS} µs added to {VALUE_BYTES} bytes)\n\n{}\n",
                self.sandbox_table()
            );
        }
        if !self.throughput.is_empty() {
            let Effort { throughput_rounds, messages, .. } = self.effort;
            let _ = write!(
                text,
                "\nMessages of {VALUE_BYTES} bytes a second, medians of {throughput_rounds} \
                 interleaved rounds with {messages} messages each\n(aim: a pipeline reaches at \
                 least {AIM_SHARE} of a bare loop)\n\n{}\n",
                self.throughput_table()
            );
        }
        text.trim_end().to_owned()
    }

    fn sandbox_table(&self) -> String {
        let row = |cost: &SandboxCost| {
            vec![
                cost.message.to_owned(),
                format!("{:.2} µs", cost.added_us),
                format!("{:.1}", cost.ratio),
                met(cost.added_us <= AIM_MICROSECONDS).to_owned(),
                format!("{:.0} ns", cost.native_ns.median),
                format!("{:.0} ns", cost.sandbox_ns.median),
                format!("{:.0} to {:.0}", cost.sandbox_ns.min, cost.sandbox_ns.max),
            ]
        };
        let heads =
            ["message", "added", "ratio", "aim", "native", "sandbox", "sandbox, all rounds"];
        layout(&heads, self.sandbox.iter().map(row))
    }

    fn throughput_table(&self) -> String {
        let row = |run: &Throughput| {
            let Throughput { of_store_loop, of_log_loop, per_second, cpu_us, memory_mib, .. } = run;
            let share = |share: &Option<f64>| match share {
                None => String::new(),
                Some(share) if run.role == Role::Pipeline => {
                    format!("{share:.2} {}", met(*share >= AIM_SHARE))
                }
                Some(share) => format!("{share:.2}"),
            };
            vec![
                run.run.clone(),
                share(of_store_loop),
                share(of_log_loop),
                cpu_us.map_or_else(String::new, |cpu| format!("{cpu:.1} µs")),
                memory_mib.map_or_else(String::new, |memory| format!("{memory:.0} MiB")),
                format!("{:.0}", per_second.median),
                format!("{:.0} to {:.0}", per_second.min, per_second.max),
            ]
        };
        let heads = [
            "run",
            "of the library's",
            "of the log's",
            "CPU a message",
            "memory at most",
            "a second",
            "all rounds",
        ];
        layout(&heads, self.throughput.iter().map(row))
    }
}

fn met(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}
