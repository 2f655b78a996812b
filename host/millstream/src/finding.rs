//! Findings: what is wrong, where, why, and what to do about it, with a stable code.
//!
//! Every error a person sees is one of these; `config` makes most of them, `check` prints them all.
//! Each code has a page in `docs/errors/`, which a test holds to. Values that came from `${…}` never
//! get into a finding.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::exit::Exit;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal => $exit:ident,)*) => {
        /// A stable code, with a page in `docs/errors/`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as it is printed: `MS1003`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What a command that ends with this finding exits with.
            pub fn exit(self) -> Exit {
                match self { $(Self::$name => Exit::$exit,)* }
            }
        }
    };
}

codes! {
    /// The configuration file cannot be read.
    ConfigUnreadable = "MS1001" => Usage,
    /// The configuration file is not TOML.
    ConfigSyntax = "MS1002" => Usage,
    /// A key that does not exist.
    UnknownKey = "MS1003" => Usage,
    /// A key is missing, or its value is of the wrong type.
    WrongShape = "MS1004" => Usage,
    /// `${…}` cannot be replaced.
    Substitution = "MS1005" => Usage,
    /// A value that cannot be understood, or is out of bounds.
    BadValue = "MS1006" => Usage,
    /// A name that is not allowed.
    BadName = "MS1007" => Usage,
    /// A template that does not name companion topics apart.
    Template = "MS1008" => Usage,
    /// Topics, groups or companions that run into one another.
    TopicClash = "MS1009" => Usage,
    /// Settings that do not go together, or not in this version.
    Unsupported = "MS1010" => Usage,
    /// A capability that does not exist.
    UnknownGrant = "MS1011" => Usage,
    /// The plugin cannot be used: not there, not WebAssembly, or it needs what is not granted.
    PluginUnusable = "MS2001" => Usage,
    /// The log cannot be opened or reached, or did not do what it was asked.
    LogUnavailable = "MS2002" => Failed,
    /// A topic or partition is missing, or is not as the pipelines need it.
    Topic = "MS2003" => Usage,
    /// A line of input is not a message.
    BadInput = "MS2004" => Failed,
    /// The arguments of a command don't fit together or don't fit what is there.
    Usage = "MS2005" => Usage,
    /// Building a plugin failed.
    PluginBuild = "MS2006" => Failed,
    /// A plugin's cases failed, or could not be run.
    PluginCases = "MS2007" => Failed,
    /// A file or stream cannot be read or written.
    Io = "MS2008" => Failed,
    /// A deploy or rollback was not made.
    NotDeployed = "MS2009" => Failed,
    /// A pipeline of a running host has stopped.
    PipelineStopped = "MS3001" => Failed,
    /// The admin address cannot be served.
    AdminUnusable = "MS3002" => Failed,
    /// Another host has the data folder, and with it this host's name.
    HostRuns = "MS3003" => Failed,
    /// The deployed version of a plugin cannot be loaded here.
    VersionNotLoaded = "MS3004" => Failed,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing starts with it.
    Error,
    /// It works, but likely not as meant.
    Warning,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file, a line of input, an address, a topic: in words.
    Named(String),
    /// A place in the configuration file, shown with a caret.
    Source(SourceSpan),
}

/// Part of one line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpan {
    /// The file as it was named.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// How many characters are meant, at least 1, on this line.
    pub width: usize,
    /// The line itself; of a long one the part around what is meant.
    pub text: String,
    /// How many characters of the line are not in `text` before it.
    pub skipped: usize,
}

/// Longest part of a source line that is shown.
const LINE_CHARS_MAX: usize = 120;
/// How much of a long line is shown before what is meant.
const LINE_CHARS_BEFORE: usize = 40;

impl SourceSpan {
    /// The place of the bytes `range` in `source`.
    pub fn new(file: &Path, source: &str, range: std::ops::Range<usize>) -> Self {
        // An empty last line has no text to show: an error at the end points behind the last one.
        let start = floor_char_boundary(source, range.start.min(source.trim_end().len()));
        let before = source.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = source.get(line_start..).unwrap_or_default();
        let text = rest.split('\n').next().unwrap_or_default().trim_end();
        let column = source.get(line_start..start).unwrap_or_default().chars().count() + 1;
        let end = floor_char_boundary(source, range.end.min(line_start + text.len()));
        let width = source.get(start..end).unwrap_or_default().chars().count().max(1);
        let skipped = if text.chars().count() <= LINE_CHARS_MAX {
            0
        } else {
            (column - 1).saturating_sub(LINE_CHARS_BEFORE)
        };
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column,
            width: width.min(LINE_CHARS_MAX - (column - 1 - skipped).min(LINE_CHARS_MAX - 1)),
            skipped,
            text: text.chars().skip(skipped).take(LINE_CHARS_MAX).collect(),
        }
    }
}

impl SourceSpan {
    /// The same place, without the line's text: it holds a secret.
    pub fn hidden(self) -> Self {
        let text = "(this line holds a secret)".to_owned();
        Self { text, column: 1, width: 1, skipped: 0, ..self }
    }
}

fn floor_char_boundary(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Its stable code.
    pub code: Code,
    /// What is wrong.
    pub what: String,
    /// Where.
    pub place: Option<Place>,
    /// Why that is wrong; empty where `what` says it.
    pub why: String,
    /// What to do about it.
    pub fix: String,
}

impl Finding {
    /// An error.
    pub fn new(code: Code, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            what: what.into(),
            place: None,
            why: String::new(),
            fix: fix.into(),
        }
    }

    /// An error whose reason is `text`, which may end with `: ` and what to do; `otherwise` is what to
    /// do if it does not. What to do begins with a small letter; the words of a library do not.
    pub fn of_text(code: Code, what: impl Into<String>, text: &str, otherwise: &str) -> Self {
        let is_fix = |fix: &str| fix.starts_with(|c: char| c.is_lowercase() || c == '`');
        let (why, fix) = match text.rsplit_once(": ") {
            Some((why, fix)) if is_fix(fix) => (why, fix),
            _ => (text, otherwise),
        };
        Self::new(code, what, fix).because(why)
    }

    /// The same as a warning.
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// With a place named in words.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = Some(Place::Named(place.to_string()));
        self
    }

    /// With a place in the configuration file.
    pub fn at_source(mut self, span: SourceSpan) -> Self {
        self.place = Some(Place::Source(span));
        self
    }

    /// With a reason.
    pub fn because(mut self, why: impl fmt::Display) -> Self {
        self.why = why.to_string();
        self
    }

    /// Several lines for a terminal, with the line of the file and a caret, coloured if wanted.
    pub fn render(&self, colour: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let (word, word_colour) = match self.severity {
            Severity::Error => ("error", "1;31"),
            Severity::Warning => ("warning", "1;33"),
        };
        let head = paint(word_colour, &format!("{word}[{}]", self.code.as_str()));
        let mut lines = vec![format!("{head}: {}", self.what)];
        match &self.place {
            None => {}
            Some(Place::Named(name)) => lines.push(format!("  {} {name}", paint("34", "-->"))),
            Some(Place::Source(span)) => {
                let number = span.line.to_string();
                let gutter = " ".repeat(number.len());
                let bar = paint("34", "|");
                let SourceSpan { file, line, column, .. } = span;
                let arrow = paint("34", "-->");
                lines.push(format!("{gutter} {arrow} {}:{line}:{column}", file.display()));
                lines.push(format!("{gutter} {bar}"));
                lines.push(format!("{} {bar} {}", paint("34", &number), span.text));
                let indent: String =
                    span.text.chars().take(span.column - 1 - span.skipped).map(blank).collect();
                let carets = paint(word_colour, &"^".repeat(span.width));
                lines.push(format!("{gutter} {bar} {indent}{carets}"));
            }
        }
        if !self.why.is_empty() {
            lines.push(format!("  {} {}", paint("1", "why:"), self.why));
        }
        lines.push(format!("  {} {}", paint("1", "do:"), self.fix));
        lines.join("\n")
    }
}

/// A tab keeps its width in the line of carets.
fn blank(character: char) -> char {
    if character == '\t' { '\t' } else { ' ' }
}

/// One line: what, where, why, what to do.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.code.as_str(), self.what)?;
        match &self.place {
            None => {}
            Some(Place::Named(name)) => write!(f, " ({name})")?,
            Some(Place::Source(span)) => {
                write!(f, " ({}:{}:{})", span.file.display(), span.line, span.column)?;
            }
        }
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        write!(f, "; {}", self.fix)
    }
}

impl std::error::Error for Finding {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_what_is_meant() {
        let source = "[host]\ndata_dri = \"ä\"\n";
        let span = SourceSpan::new(Path::new("m.toml"), source, 7..15);
        assert_eq!((span.line, span.column, span.width), (2, 1, 8));
        let finding = Finding::new(Code::UnknownKey, "unknown key `data_dri`", "say `data_dir`")
            .at_source(span);
        let expected = "error[MS1003]: unknown key `data_dri`\n  --> m.toml:2:1\n  |\n\
                        2 | data_dri = \"ä\"\n  | ^^^^^^^^\n  do: say `data_dir`";
        assert_eq!(finding.render(false), expected);
    }

    #[test]
    fn a_span_outside_the_file_or_inside_a_character_is_shown_as_well_as_can_be() {
        let backwards = std::ops::Range { start: 5, end: 2 };
        for range in [0..0, 3..900, 900..901, 1..2, backwards] {
            let span = SourceSpan::new(Path::new("m.toml"), "äö\nx", range.clone());
            assert!(span.width >= 1 && span.column >= 1, "{range:?} gave {span:?}");
        }
    }

    #[test]
    fn of_a_long_line_the_part_around_what_is_meant_is_shown() {
        let source = format!("{}here{}", "x".repeat(500), "y".repeat(500));
        let span = SourceSpan::new(Path::new("m.toml"), &source, 500..504);
        assert_eq!((span.column, span.width, span.text.len()), (501, 4, LINE_CHARS_MAX));
        let whole = SourceSpan::new(Path::new("m.toml"), &source, 0..1004);
        assert_eq!(whole.width, LINE_CHARS_MAX, "carets end with the text");
        let rendered = Finding::new(Code::Io, "w", "f").at_source(span).render(false);
        let lines: Vec<&str> = rendered.lines().collect();
        assert_eq!(lines[3].find("here"), lines[4].find("^^^^"), "{rendered}");
    }

    #[test]
    fn an_error_on_one_line_says_what_where_why_and_what_to_do() {
        let finding = Finding::new(Code::Io, "cannot write", "make room").at("out").because("full");
        assert_eq!(finding.to_string(), "[MS2008] cannot write (out): full; make room");
    }

    #[test]
    fn a_text_that_ends_with_what_to_do_is_taken_apart_and_another_is_not() {
        let of = |text: &str| Finding::of_text(Code::LogUnavailable, "w", text, "try again");
        let finding = of("asking host:1: Broker: Not allowed: allow it");
        assert_eq!(
            (&*finding.why, &*finding.fix),
            ("asking host:1: Broker: Not allowed", "allow it")
        );
        let finding = of("asking: Local: Timed out");
        assert_eq!((&*finding.why, &*finding.fix), ("asking: Local: Timed out", "try again"));
    }
}
