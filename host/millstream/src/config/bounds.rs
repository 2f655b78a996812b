//! Texts to values, within bounds that say why they are there.
//!
//! Used by `checked` only. Every problem becomes a finding and the default goes on in its place, so
//! that one look at the file finds everything that is wrong with it.

use std::time::Duration;

use crate::config::document::Document;
use crate::finding::{Code, Finding, Place};

/// The word for "no limit" where that is allowed.
pub(crate) const FOREVER: &str = "forever";

/// A range, and why it has these ends.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<T> {
    /// The smallest value, as it is written.
    pub min: (T, &'static str),
    /// The largest value, as it is written.
    pub max: (T, &'static str),
    /// Why less or more would not do.
    pub reason: &'static str,
}

/// Findings of one file as they come up.
#[derive(Debug)]
pub(crate) struct Checker<'a> {
    /// The file.
    pub document: &'a Document,
    findings: Vec<Finding>,
}

impl<'a> Checker<'a> {
    /// Nothing found yet.
    pub(crate) fn new(document: &'a Document) -> Self {
        Self { document, findings: Vec::new() }
    }

    /// Adds a finding about the value of `path`.
    pub(crate) fn value(&mut self, finding: Finding, path: &str) {
        self.findings.push(self.document.at_value(finding, path));
    }

    /// Adds a finding about the key `path`.
    pub(crate) fn key(&mut self, finding: Finding, path: &str) {
        self.findings.push(self.document.at_key(finding, path));
    }

    /// Everything that was found, in the order of the file.
    pub(crate) fn into_findings(mut self) -> Vec<Finding> {
        self.findings.sort_by_key(|finding| match &finding.place {
            Some(Place::Source(span)) => (span.line, span.column),
            Some(Place::Named(_)) | None => (0, 0),
        });
        self.findings
    }

    fn bad(&mut self, path: &str, text: &str, why: String, fix: String) {
        let shown = self.document.typed(path, text);
        let finding = Finding::new(Code::BadValue, format!("`{path}` cannot be {shown}"), fix);
        self.value(finding.because(why), path);
    }

    fn within<T: PartialOrd>(&mut self, path: &str, text: &str, value: T, bounds: Bounds<T>) -> T {
        let Bounds { min, max, reason } = bounds;
        if value < min.0 {
            let why = format!("it is less than {}: {reason}", min.1);
            self.bad(path, text, why, format!("set it between {} and {}", min.1, max.1));
            return min.0;
        }
        if value > max.0 {
            let why = format!("it is more than {}: {reason}", max.1);
            self.bad(path, text, why, format!("set it between {} and {}", min.1, max.1));
            return max.0;
        }
        value
    }

    /// A duration such as `5s`, `1m 30s`, `250ms`, `7d`.
    pub(crate) fn duration(
        &mut self,
        path: &str,
        text: Option<&str>,
        default: Duration,
        bounds: Bounds<Duration>,
    ) -> Duration {
        let Some(text) = text else { return default };
        match humantime::parse_duration(text) {
            Ok(value) if value.subsec_nanos() % 1_000_000 != 0 => {
                let fix = "write whole milliseconds, for example \"250ms\"".to_owned();
                self.bad(path, text, "it is finer than a millisecond".to_owned(), fix);
                default
            }
            Ok(value) => self.within(path, text, value, bounds),
            Err(_) => {
                let fix =
                    "write a number and a unit, for example \"250ms\", \"5s\", \"2h\", \"7d\"";
                self.bad(path, text, "it is not a duration".to_owned(), fix.to_owned());
                default
            }
        }
    }

    /// A duration, or `forever` as `None`.
    pub(crate) fn retention(
        &mut self,
        path: &str,
        text: Option<&str>,
        default: Option<Duration>,
        bounds: Bounds<Duration>,
    ) -> Option<Duration> {
        match text {
            None => default,
            Some(FOREVER) => None,
            Some(_) => Some(self.duration(path, text, bounds.min.0, bounds)),
        }
    }

    /// A size such as `64MiB`.
    pub(crate) fn size(
        &mut self,
        path: &str,
        text: Option<&str>,
        default: u64,
        bounds: Bounds<u64>,
    ) -> u64 {
        let Some(text) = text else { return default };
        match text.parse::<bytesize::ByteSize>() {
            Ok(value) => self.within(path, text, value.as_u64(), bounds),
            Err(_) => {
                let fix = "write a number and a unit, for example \"512KiB\", \"64MiB\", \"1GiB\"";
                self.bad(path, text, "it is not a size".to_owned(), fix.to_owned());
                default
            }
        }
    }

    /// A size that is held in memory.
    pub(crate) fn size_in_memory(
        &mut self,
        path: &str,
        text: Option<&str>,
        default: u64,
        bounds: Bounds<u64>,
    ) -> usize {
        let size = self.size(path, text, default, bounds);
        // Only a machine with 32-bit addresses could not count the largest of our bounds.
        usize::try_from(size).unwrap_or(usize::MAX)
    }

    /// A count.
    pub(crate) fn count(
        &mut self,
        path: &str,
        value: Option<u32>,
        default: u32,
        bounds: Bounds<u32>,
    ) -> u32 {
        let Some(value) = value else { return default };
        self.within(path, &value.to_string(), value, bounds)
    }

    /// A share, such as `0.01`.
    pub(crate) fn share(&mut self, path: &str, value: f64, bounds: Bounds<f64>) -> f64 {
        if value.is_nan() {
            let fix = format!("set it between {} and {}", bounds.min.1, bounds.max.1);
            self.bad(path, "nan", "it is no number".to_owned(), fix);
            return bounds.min.0;
        }
        self.within(path, &value.to_string(), value, bounds)
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        path: &str,
        text: Option<&str>,
        default: T,
        words: &[(&str, T)],
    ) -> T {
        let Some(text) = text else { return default };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let known: Vec<String> = words.iter().map(|(word, _)| (*word).to_owned()).collect();
        let list = known.iter().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(", ");
        let fix = match millstream_core::nearest::nearest(text, &known) {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => "write one of these".to_owned(),
        };
        self.bad(path, text, format!("it is one of {list}"), fix);
        default
    }
}
