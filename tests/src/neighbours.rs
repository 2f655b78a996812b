//! Two pipelines in one host: a healthy one, and one whose plugin only faults.

use millstream_guest_builder::guest;

use crate::folder::Folder;
use crate::host::Host;

/// Hostile messages: enough for minutes.
pub const FAULTS: usize = 5_000;

/// Ways to misbehave, by turns: endless loops, allocations without end, traps.
const WAYS: [&str; 6] = ["loop", "trap", "allocate", "loop", "panic x", "recurse"];

/// A message of the healthy pipeline: 200 bytes.
const HEALTHY_BYTES: usize = 200;

const CONFIG: &str = r#"
[host]
admin = "127.0.0.1:0"

[log]
durability = "1s"

[pipelines.healthy]
source = { topics = ["healthy"] }
plugin = "echo.wasm"
outputs = { default = "healthy.out" }

[pipelines.hostile]
source = { topics = ["hostile"] }
plugin = "hostile.wasm"
outputs = { default = "hostile.out" }
instances = 1
retry = { delays = [] }
limits = { time = "100ms" }
"#;

/// A folder with both.
pub struct Neighbours {
    /// The folder.
    pub folder: Folder,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self::new()
    }
}

impl Neighbours {
    /// Both pipelines, without messages.
    pub fn new() -> Self {
        let folder = Folder::new(CONFIG);
        folder.plugin("echo.wasm", &guest("echo"));
        folder.plugin("hostile.wasm", &guest("hostile"));
        folder.ok(&["topics", "create", "--pipelines"], "");
        Self { folder }
    }

    /// Gives the hostile pipeline enough to fault on for minutes.
    pub fn feed_hostile(&self) {
        self.folder.produce_values("hostile", WAYS.iter().cycle().take(FAULTS).copied());
    }

    /// Gives the healthy pipeline messages, each with a key of its own.
    pub fn feed_healthy(&self, count: usize) {
        let value = "h".repeat(HEALTHY_BYTES);
        let mut lines = String::new();
        for number in 0..count {
            lines.push_str(&format!("{{\"key\":\"{number}\",\"value\":\"{value}\"}}\n"));
        }
        self.folder.ok(&["produce", "healthy"], &lines);
    }

    /// How many messages the healthy pipeline has handled, its outputs acknowledged.
    pub fn healthy_done(&self, host: &mut Host) -> Option<f64> {
        host.metric("millstream_outputs_total", &["pipeline=\"healthy\""])
    }

    /// How many attempts of the hostile pipeline have ended.
    pub fn faults(&self, host: &mut Host) -> Option<f64> {
        host.metric("millstream_attempts_total", &["pipeline=\"hostile\""])
    }
}
