//! The terminal: whether there is one, whether it may be coloured, and writing to it.
//!
//! Data goes to stdout, everything said to a person to stderr. Colour only on a terminal, never with
//! `NO_COLOR` set or `TERM=dumb`.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::exit::Failure;
use crate::finding::Finding;

/// What is known of where our words go.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// Whether stdout is a terminal.
    pub stdout: bool,
    /// Whether stderr is a terminal.
    pub stderr: bool,
    colour_allowed: bool,
    verbose: bool,
}

impl Terminal {
    /// Looks at the standard streams and the environment.
    pub fn detect(verbose: bool) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            stdout: std::io::stdout().is_terminal(),
            stderr: std::io::stderr().is_terminal(),
            colour_allowed: !no_colour && !dumb,
            verbose,
        }
    }

    /// Whether stderr takes colour.
    pub fn colour(&self) -> bool {
        self.stderr && self.colour_allowed
    }

    /// Whether stdout takes colour.
    pub fn colour_on_stdout(&self) -> bool {
        self.stdout && self.colour_allowed
    }

    /// Writes a line to stdout.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn print(&self, line: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n"));
        written.and_then(|()| out.flush()).map_err(|e| Failure::io("cannot write to stdout", &e))
    }

    /// Tells a person something. A closed stderr has nobody to tell.
    pub fn say(&self, line: &str) {
        let mut err = std::io::stderr().lock();
        drop(err.write_all(line.as_bytes()).and_then(|()| err.write_all(b"\n")));
    }

    /// Tells a person who asked for more.
    pub fn say_verbose(&self, line: &str) {
        if self.verbose {
            self.say(line);
        }
    }

    /// Asks a person, who must type `y` to agree; `None` if there is none.
    ///
    /// # Errors
    /// When the answer cannot be read.
    pub fn ask(&self, question: &str) -> Result<Option<bool>, Failure> {
        if !self.stderr || !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        let mut err = std::io::stderr().lock();
        drop(write!(err, "{question} [y/N] ").and_then(|()| err.flush()));
        drop(err);
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        read.map_err(|error| Failure::io("the answer cannot be read", &error))?;
        Ok(Some(matches!(answer.trim(), "y" | "Y" | "yes")))
    }

    /// Shows a finding.
    pub fn show(&self, finding: &Finding) {
        self.say(&finding.render(self.colour()));
    }

    /// A progress bar, or a spinner without a total; hidden where stderr is no terminal.
    pub fn progress(&self, what: &'static str, total: Option<u64>) -> ProgressBar {
        if !self.stderr {
            return ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        }
        let template = match total {
            Some(_) => "{prefix} {wide_bar} {human_pos}/{human_len} ({per_sec}, {eta} left)",
            None => "{spinner} {prefix} {human_pos} ({per_sec})",
        };
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
        // A template that indicatif refuses leaves its default style: still a progress bar.
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        bar.with_style(style).with_prefix(what)
    }
}
