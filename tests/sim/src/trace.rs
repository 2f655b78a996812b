//! Trace: what happened, line by line; its end for a person, its hash to tell histories apart.

use std::collections::VecDeque;
use std::time::Duration;

/// How many lines are kept for a person.
const KEPT: usize = 400;

/// See the module.
#[derive(Debug)]
pub struct Trace {
    lines: VecDeque<String>,
    hash: u64,
    frozen: bool,
    keep_all: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self { lines: VecDeque::new(), hash: 0xcbf2_9ce4_8422_2325, frozen: false, keep_all: false }
    }
}

impl Trace {
    /// Adds a line, unless the trace is frozen.
    pub fn line(&mut self, at: Duration, text: &str) {
        if self.frozen {
            return;
        }
        let line = format!("{:>9.3} {text}", at.as_secs_f64());
        for byte in line.as_bytes() {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.lines.len() == KEPT && !self.keep_all {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Keeps every line from now on, not the last ones only.
    pub fn keep_all(&mut self) {
        self.keep_all = true;
    }

    /// What follows is not of interest.
    pub fn freeze(&mut self) {
        self.frozen = true;
    }

    /// The same for the same history.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
