//! Plugin log: the lines a plugin writes, each with its pipeline and position.
//!
//! Lines come by `wasi:logging` and by standard output and error. Per call their number and length
//! are bounded, and what was cut or dropped is said. The last words of a guest (a panic's message)
//! are kept for the reason of the fault that follows.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_core::message::{Message, Offset, Topic};
use millstream_core::trace::TraceId;

use crate::bounded_text::{self, REASON_BYTES_MAX};
use crate::limits::Limits;

/// The longest context of a line, in bytes; what is longer is cut.
const CONTEXT_BYTES_MAX: usize = 64;

/// How grave a plugin says its line is. Standard output counts as `Info`, standard error as `Warn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Finer than debugging.
    Trace,
    /// For debugging.
    Debug,
    /// Worth knowing.
    Info,
    /// May need attention.
    Warn,
    /// Something failed.
    Error,
    /// The plugin cannot go on.
    Critical,
}

/// The position of the message being handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position<'a> {
    /// The source topic.
    pub topic: &'a str,
    /// The partition's number.
    pub partition: u32,
    /// The offset there.
    pub offset: Offset,
}

impl fmt::Display for Position<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]@{}", self.topic, self.partition, self.offset)
    }
}

/// One line of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// How grave.
    pub level: LogLevel,
    /// The pipeline.
    pub pipeline: &'a str,
    /// The plugin's name.
    pub plugin: &'a str,
    /// The message being handled; `None` while the instance starts.
    pub position: Option<Position<'a>>,
    /// The trace that the attempt is recorded in.
    pub trace: Option<TraceId>,
    /// What the plugin named as context; `stdout` and `stderr` for those.
    pub context: &'a str,
    /// The text: one line, without control characters, within the limit.
    pub text: &'a str,
}

/// Where plugin log lines go. Called on the worker that runs the guest: it must not block.
pub trait PluginLog: Send + Sync + 'static {
    /// Takes one line.
    fn line(&self, line: &LogLine<'_>);
}

/// Plugin log lines as `tracing` events of the target `plugin`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingLog;

impl PluginLog for TracingLog {
    fn line(&self, line: &LogLine<'_>) {
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(
                    target: "plugin",
                    tracing::Level::$level,
                    pipeline = line.pipeline,
                    plugin = line.plugin,
                    position = line.position.map(tracing::field::display),
                    trace_id = line.trace.map(tracing::field::display),
                    context = line.context,
                    "{}",
                    line.text
                )
            };
        }
        match line.level {
            LogLevel::Trace => event!(TRACE),
            LogLevel::Debug => event!(DEBUG),
            LogLevel::Info => event!(INFO),
            LogLevel::Warn => event!(WARN),
            LogLevel::Error | LogLevel::Critical => event!(ERROR),
        }
    }
}

/// Which of the guest's standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The log of one instance, shared with the streams that its guest holds.
#[derive(Clone)]
pub(crate) struct InstanceLog(Arc<Mutex<CallLog>>);

impl InstanceLog {
    pub(crate) fn new(
        sink: Arc<dyn PluginLog>,
        pipeline: Arc<str>,
        plugin: Arc<str>,
        limits: &Limits,
    ) -> Self {
        Self(Arc::new(Mutex::new(CallLog {
            sink,
            pipeline,
            plugin,
            lines_max: limits.log_lines,
            line_bytes_max: limits.log_line_bytes,
            position: None,
            trace: None,
            lines: 0,
            dropped: 0,
            out: Partial::default(),
            err: Partial::default(),
            last_words: LastWords::default(),
        })))
    }

    /// Locks the log; only the one guest uses it, so nobody waits.
    pub(crate) fn lock(&self) -> MutexGuard<'_, CallLog> {
        // A sink that panicked has poisoned the lock; counters and buffers are valid all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line that has not ended yet.
#[derive(Default)]
struct Partial {
    /// At most `line_bytes_max` of it.
    bytes: Vec<u8>,
    /// How many bytes did not fit.
    over: usize,
}

/// The log of the call that is going on.
pub(crate) struct CallLog {
    sink: Arc<dyn PluginLog>,
    pipeline: Arc<str>,
    plugin: Arc<str>,
    lines_max: usize,
    line_bytes_max: usize,
    /// Written by `begin`; `None` until the instance's first call.
    position: Option<(Topic, u32, Offset)>,
    /// Likewise.
    trace: Option<TraceId>,
    /// Lines handed on in this call, cleared by `begin`.
    lines: usize,
    /// Lines beyond the limit, cleared by `finish`.
    dropped: u64,
    out: Partial,
    err: Partial,
    last_words: LastWords,
}

impl CallLog {
    /// A call begins.
    pub(crate) fn begin(&mut self, message: &Message, trace: Option<TraceId>) {
        self.trace = trace;
        self.position = Some((message.topic.clone(), message.partition, message.offset));
        self.lines = 0;
        self.last_words.clear();
    }

    /// The call ended, however: hands on lines without an end and says what was dropped.
    pub(crate) fn finish(&mut self) {
        for stream in [Stream::Out, Stream::Err] {
            let partial = self.partial(stream);
            if !partial.bytes.is_empty() || partial.over > 0 {
                self.end_of_line(stream);
            }
        }
        if self.dropped > 0 {
            let (dropped, max) = (self.dropped, self.lines_max);
            self.dropped = 0;
            let note =
                format!("{dropped} more lines dropped: limits.log_lines allows {max} of one call");
            self.hand_on(LogLevel::Warn, "log limit", &note);
        }
    }

    /// A line by `wasi:logging`.
    pub(crate) fn line(&mut self, level: LogLevel, context: &str, text: &str) {
        if level == LogLevel::Critical {
            self.last_words.critical(text);
        }
        self.bounded(level, context, text, 0);
    }

    /// Bytes of a standard stream.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let mut pieces = bytes.split(|b| *b == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let max = self.line_bytes_max;
            let partial = self.partial(stream);
            let room = max.saturating_sub(partial.bytes.len()).min(piece.len());
            let (kept, over) = piece.split_at_checked(room).unwrap_or((piece, &[]));
            partial.bytes.extend_from_slice(kept);
            partial.over += over.len();
            if pieces.peek().is_some() {
                self.end_of_line(stream);
            }
        }
    }

    /// What the guest said before it failed, if anything.
    pub(crate) fn last_words(&self) -> Option<&str> {
        self.last_words.get()
    }

    fn partial(&mut self, stream: Stream) -> &mut Partial {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        }
    }

    fn end_of_line(&mut self, stream: Stream) {
        let Partial { mut bytes, over } = std::mem::take(self.partial(stream));
        let text = String::from_utf8_lossy(&bytes);
        let (level, context) = match stream {
            Stream::Out => (LogLevel::Info, "stdout"),
            Stream::Err => (LogLevel::Warn, "stderr"),
        };
        if stream == Stream::Err {
            self.last_words.error_line(&text);
        }
        // Rust's panics begin with an empty line; an empty line says nothing.
        if !text.trim_ascii_end().is_empty() || over > 0 {
            self.bounded(level, context, text.trim_ascii_end(), over);
        }
        drop(text);
        bytes.clear();
        self.partial(stream).bytes = bytes;
    }

    fn bounded(&mut self, level: LogLevel, context: &str, text: &str, over: usize) {
        if self.lines >= self.lines_max {
            self.dropped += 1;
            return;
        }
        self.lines += 1;
        let max = self.line_bytes_max;
        let context = head(context, CONTEXT_BYTES_MAX).0;
        let (text, cut) = head(text, max);
        let (context, text) = (bounded_text::one_line(context), bounded_text::one_line(text));
        if cut + over > 0 {
            let marked = format!("{text}… [{} bytes cut]", cut + over);
            self.hand_on(level, &context, &marked);
        } else {
            self.hand_on(level, &context, &text);
        }
    }

    fn hand_on(&self, level: LogLevel, context: &str, text: &str) {
        let position = self.position.as_ref().map(|(topic, partition, offset)| Position {
            topic,
            partition: *partition,
            offset: *offset,
        });
        let (pipeline, plugin) = (&*self.pipeline, &*self.plugin);
        let trace = self.trace;
        self.sink.line(&LogLine { level, pipeline, plugin, position, trace, context, text });
    }
}

/// The first `max` bytes of `text`, and how many are beyond.
fn head(text: &str, max: usize) -> (&str, usize) {
    let head = text.get(..text.floor_char_boundary(max)).unwrap_or(text);
    (head, text.len() - head.len())
}

/// What a guest says before it fails: a Rust panic's message from standard error, else the last line
/// there; or its last critical line, by which a guest without WASI reports its panic.
#[derive(Default)]
struct LastWords {
    /// The panic's message, its lines joined.
    panic: String,
    /// Whether further lines belong to the panic's message.
    panic_open: bool,
    /// The last line of standard error that is not empty.
    last_line: String,
}

impl LastWords {
    fn clear(&mut self) {
        self.panic.clear();
        self.panic_open = false;
        self.last_line.clear();
    }

    fn critical(&mut self, text: &str) {
        self.panic.clear();
        self.panic.push_str(head(text, REASON_BYTES_MAX).0);
        self.panic_open = false;
    }

    fn error_line(&mut self, line: &str) {
        let line = line.trim_ascii();
        if let Some(start) = line.find("panicked at ") {
            self.panic.clear();
            self.panic.push_str(line.get(start..).unwrap_or(line));
            self.panic_open = true;
        } else if line.starts_with("note: run with `RUST_BACKTRACE") {
            self.panic_open = false;
            return;
        } else if self.panic_open && !line.is_empty() && self.panic.len() < REASON_BYTES_MAX {
            self.panic.push(' ');
            self.panic.push_str(line);
        }
        if !line.is_empty() {
            self.last_line.clear();
            self.last_line.push_str(line);
        }
    }

    fn get(&self) -> Option<&str> {
        let words = if self.panic.is_empty() { &self.last_line } else { &self.panic };
        (!words.is_empty()).then_some(words)
    }
}

#[cfg(test)]
mod tests;
