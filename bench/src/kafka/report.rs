//! Report: what was measured, as Markdown that `bench/README.md` can take as it is.

use std::fmt::Write as _;

use anyhow::Context as _;
use millstream_bench::figures::Rounds;
use millstream_bench::messages::KEYS;
use millstream_bench::table::layout;

use crate::about;
use crate::broker::PARTITIONS;
use crate::effort::Effort;
use crate::latency::{self, Latency};
use crate::retries::{self, Retries};
use crate::throughput::{Row, Throughput};

/// Everything that was measured.
pub(crate) struct Report {
    quick: bool,
    effort: Effort,
    cores: usize,
    /// Of 1, 5 and 15 minutes, before anything was started.
    load: String,
    /// Empty if it was not measured.
    pub(crate) throughput: Vec<Throughput>,
    /// Empty if it was not measured.
    pub(crate) latency: Vec<Latency>,
    /// Empty if it was not measured.
    pub(crate) retries: Vec<Retries>,
}

impl Report {
    /// A report without figures, on this machine as it is now.
    ///
    /// # Errors
    /// When the system does not tell its load.
    pub(crate) fn new(quick: bool, effort: Effort) -> anyhow::Result<Self> {
        let load = std::fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
        let load = load.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ");
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let (throughput, latency, retries) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { quick, effort, cores, load, throughput, latency, retries })
    }

    /// The report as Markdown.
    ///
    /// # Errors
    /// Never: what is written to is a text.
    pub(crate) fn text(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        writeln!(
            text,
            "{}\n{} cores, shared with the broker; load average before: {}; librdkafka {librdkafka}. \
             {} rounds: medians, and from the smallest to the largest.",
            about::TEXT,
            self.cores,
            self.load,
            self.effort.rounds,
        )?;
        if self.quick {
            writeln!(text, "A quick run: the figures are noise.")?;
        }
        if cfg!(debug_assertions) {
            writeln!(text, "A debug build: the figures mean nothing.")?;
        }
        for throughput in &self.throughput {
            write_throughput(&mut text, throughput)?;
        }
        if !self.latency.is_empty() {
            let seconds = self.effort.steady.as_secs();
            writeln!(
                text,
                "\n**End to end, {} messages of 200 bytes a second for {seconds} s**, milliseconds from \
                 just before produce to a read-committed consumer:\n\n{}",
                latency::PER_SECOND,
                latency_table(&self.latency),
            )?;
        }
        if !self.retries.is_empty() {
            let seconds = self.effort.steady.as_secs();
            writeln!(
                text,
                "\n**Retries, {} failures a second for {seconds} s, delay {}**, milliseconds that second \
                 attempts are late:\n\n{}",
                retries::PER_SECOND,
                retries::DELAY,
                retries_table(&self.retries),
            )?;
        }
        Ok(text.trim_end().to_owned())
    }
}

fn write_throughput(text: &mut String, throughput: &Throughput) -> std::fmt::Result {
    let workload = throughput.workload;
    writeln!(
        text,
        "\n**Throughput, values of {} bytes**, {} messages, {KEYS} keys, one header, {PARTITIONS} partitions \
         to {PARTITIONS}:\n\n{}",
        workload.value_bytes,
        workload.messages,
        throughput_table(&throughput.rows),
    )?;
    for row in throughput.rows.iter().filter(|row| row.doubled > 0) {
        let (name, doubled) = (row.contender.name(), row.doubled);
        writeln!(text, "\n{name}: {doubled} outputs more than once in all rounds.")?;
    }
    Ok(())
}

fn throughput_table(rows: &[Row]) -> String {
    let row = |row: &Row| {
        let of_loop = row.of_loop.as_ref();
        vec![
            row.contender.name().to_owned(),
            of_loop.map_or_else(String::new, |share| format!("{:.2}", share.median)),
            of_loop.map_or_else(String::new, |share| range(share, 2)),
            format!("{:.0}", row.per_second.median),
            range(&row.per_second, 0),
            median(row.cpu_us.as_ref(), 2, " µs"),
            median(row.memory_mib.as_ref(), 0, " MiB"),
        ]
    };
    let heads = [
        "contender",
        "of the loop",
        "all rounds",
        "a second",
        "all rounds",
        "CPU a message",
        "memory at most",
    ];
    layout(&heads, rows.iter().map(row))
}

fn latency_table(rows: &[Latency]) -> String {
    let row = |row: &Latency| {
        vec![
            row.contender.name().to_owned(),
            format!("{:.1}", row.p50.median),
            range(&row.p50, 1),
            format!("{:.1}", row.p99.median),
            range(&row.p99, 1),
            format!("{:.1}", row.p999.median),
            range(&row.p999, 1),
            format!("{:.1}", row.max.median),
        ]
    };
    let heads =
        ["contender", "p50", "all rounds", "p99", "all rounds", "p99.9", "all rounds", "longest"];
    layout(&heads, rows.iter().map(row))
}

fn retries_table(rows: &[Retries]) -> String {
    let row = |row: &Retries| {
        vec![
            row.contender.name().to_owned(),
            format!("{:.0}", row.p50.median),
            range(&row.p50, 0),
            format!("{:.0}", row.p99.median),
            range(&row.p99, 0),
            format!("{:.0}", row.max.median),
            format!("{} of {}", row.early, row.attempts),
        ]
    };
    let heads =
        ["pipeline", "p50", "all rounds", "p99", "all rounds", "latest", "before their time"];
    layout(&heads, rows.iter().map(row))
}

fn median(rounds: Option<&Rounds>, digits: usize, unit: &str) -> String {
    rounds.map_or_else(String::new, |rounds| format!("{:.digits$}{unit}", rounds.median))
}

fn range(rounds: &Rounds, digits: usize) -> String {
    format!("{:.digits$} to {:.digits$}", rounds.min, rounds.max)
}
