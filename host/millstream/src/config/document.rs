//! The configuration file as text: parsed, with `${…}` replaced, and every key's place remembered.
//!
//! First step of `config`: text here, then `raw` (types), then `checked` (bounds and rules).
//! Invariant: what replaced a `${…}` never stands in a finding; findings show the file's own text.
//! Limits: a file named by `${file:…}` holds at most 64 KiB, the configuration at most 1 MiB.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use toml::de::{DeTable, DeValue};

use crate::config::raw::RawConfig;
use crate::config::{traces, unknown_key};
use crate::finding::{Code, Finding, SourceSpan};
use crate::kafka;

/// Largest configuration file: a larger one is some other file given by mistake.
pub(crate) const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Largest file that `${file:…}` takes in: it is meant for a secret.
pub(crate) const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;

/// Words in a line that does not parse, behind which a secret may stand.
const SECRET_WORDS: [&str; 5] = ["token", "authorization", "passphrase", "password", "secret"];
/// Keys whose values are secrets.
const SECRET_KEYS: [&str; 3] = ["host.admin_token", "host.admin_read_token", "host.metrics_token"];
/// Where properties of a client stand, whose values may be secrets.
const CLIENT: &str = "log.client.";

/// Whether the value of this key is a secret by itself, even when it is written into the file.
fn holds_secret(path: &str) -> bool {
    let property = path.strip_prefix(CLIENT).map(|name| name.trim_matches('"'));
    SECRET_KEYS.contains(&path)
        || path.starts_with(traces::HEADERS)
        || property.is_some_and(kafka::is_secret)
}

/// Where variables come from: the process's environment, or a test's.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

#[derive(Clone, Debug)]
struct Spans {
    key: Range<usize>,
    value: Range<usize>,
}

/// The file, and where its keys are.
#[derive(Debug)]
pub(crate) struct Document {
    file: PathBuf,
    text: String,
    /// By key path: `pipelines.orders.retry.delays[1]`.
    spans: BTreeMap<String, Spans>,
    /// Key paths whose value came from a variable or a file: never shown.
    substituted: BTreeSet<String>,
    /// Lines, from 1, with a secret that is written into the file: never shown.
    secret_lines: BTreeSet<usize>,
}

impl Document {
    /// Parses `text`, replaces `${…}` and reads it into the raw form.
    ///
    /// # Errors
    /// Findings for text that is not TOML, `${…}` that cannot be replaced, unknown keys, and values
    /// of the wrong type.
    pub(crate) fn read(
        file: &Path,
        text: String,
        environment: Environment<'_>,
    ) -> Result<(Self, RawConfig), Vec<Finding>> {
        let mut root = match DeTable::parse(&text) {
            Ok(root) => root,
            Err(error) => return Err(vec![syntax_finding(file, &text, &error)]),
        };
        root.get_mut().make_owned();
        let mut document = Self {
            file: file.to_owned(),
            text: text.clone(),
            spans: BTreeMap::new(),
            substituted: BTreeSet::new(),
            secret_lines: BTreeSet::new(),
        };
        let mut findings = Vec::new();
        document.walk_table("", root.get_mut(), environment, &mut findings);
        if !findings.is_empty() {
            return Err(findings);
        }
        match RawConfig::deserialize(root.into_deserializer()) {
            Ok(raw) => Ok((document, raw)),
            Err(error) => Err(vec![document.shape_finding(&error)]),
        }
    }

    /// The folder that relative paths in the file start from.
    pub(crate) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// The file's name as it was given.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the value at `path` came from a variable or a file.
    pub(crate) fn is_substituted(&self, path: &str) -> bool {
        self.substituted.contains(path)
    }

    /// `value` as it may be shown: in quotes, or masked if it came from a variable or a file.
    pub(crate) fn shown(&self, path: &str, value: &str) -> String {
        if self.is_substituted(path) {
            "what `${…}` stands for".to_owned()
        } else {
            format!("{value:?}")
        }
    }

    /// The value at `path` as it is typed, quotes and all; `value` is what it came to.
    pub(crate) fn typed(&self, path: &str, value: &str) -> String {
        let spans = self.spans.get(path).filter(|_| !self.is_substituted(path));
        match spans.and_then(|spans| self.text.get(spans.value.clone())) {
            Some(typed) if !typed.contains('\n') => typed.to_owned(),
            _ => self.shown(path, value),
        }
    }

    /// Puts a finding at the value of `path`, or of the nearest table around it that is there.
    pub(crate) fn at_value(&self, finding: Finding, path: &str) -> Finding {
        self.place(finding, path, |spans| spans.value.clone())
    }

    /// Puts a finding at the key of `path`.
    pub(crate) fn at_key(&self, finding: Finding, path: &str) -> Finding {
        self.place(finding, path, |spans| spans.key.clone())
    }

    fn place(&self, finding: Finding, path: &str, part: fn(&Spans) -> Range<usize>) -> Finding {
        let mut at = path;
        loop {
            if let Some(spans) = self.spans.get(at) {
                // A value that is not there is best shown at the key of the table it belongs to.
                let range = if at == path { part(spans) } else { spans.key.clone() };
                return finding.at_source(self.source_span(range));
            }
            match at.rfind(['.', '[']) {
                Some(end) => at = at.get(..end).unwrap_or_default(),
                None => return finding.at(self.file.display()),
            }
        }
    }

    fn walk_table(
        &mut self,
        prefix: &str,
        table: &mut DeTable<'_>,
        environment: Environment<'_>,
        findings: &mut Vec<Finding>,
    ) {
        for (key, value) in table.iter_mut() {
            let path = join(prefix, key.get_ref());
            self.walk_value(&path, key.span(), value, environment, findings);
            if holds_secret(&path) && !self.is_substituted(&path) {
                self.hide(value.span());
            }
        }
    }

    /// Remembers the lines of a secret that is written out; a reference to one may be shown.
    fn hide(&mut self, secret: Range<usize>) {
        let line = |at: usize| {
            self.text.get(..at).unwrap_or_default().bytes().filter(|b| *b == b'\n').count() + 1
        };
        self.secret_lines.extend(line(secret.start)..=line(secret.end));
    }

    fn walk_value(
        &mut self,
        path: &str,
        key: Range<usize>,
        value: &mut toml::Spanned<DeValue<'_>>,
        environment: Environment<'_>,
        findings: &mut Vec<Finding>,
    ) {
        self.spans.insert(path.to_owned(), Spans { key, value: value.span() });
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) => match replace_all(text, self.folder(), environment) {
                Ok(Filled { text: filled, from_outside }) => {
                    if from_outside {
                        self.substituted.insert(path.to_owned());
                    }
                    *text = Cow::Owned(filled);
                }
                Err(problem) => {
                    let what = format!("`{path}` cannot be filled in");
                    let finding = Finding::new(Code::Substitution, what, problem.fix);
                    findings.push(self.at_value(finding.because(problem.why), path));
                }
            },
            DeValue::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.walk_value(&path, span.clone(), item, environment, findings);
                }
            }
            DeValue::Table(table) => self.walk_table(path, table, environment, findings),
            _ => {}
        }
    }

    /// What serde did not like: an unknown key, a missing one, or a value of the wrong type.
    fn shape_finding(&self, error: &toml::de::Error) -> Finding {
        let span = error.span().unwrap_or_default();
        let by_key = |(_, spans): &(&String, &Spans)| spans.key == span;
        let by_value = |(_, spans): &(&String, &Spans)| spans.value == span;
        let unknown = unknown_key::parse(error.message());
        // An unknown key is marked itself; of anything else the value is.
        let found = match unknown {
            Some(_) => self.spans.iter().find(by_key),
            None => self.spans.iter().find(by_value).or_else(|| self.spans.iter().find(by_key)),
        };
        let path = found.map(|(path, _)| path.as_str()).unwrap_or_default();
        let finding = if let Some(unknown) = unknown {
            unknown.finding(path)
        } else if let Some(field) = missing_field(error.message()) {
            let at = if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") };
            let what = format!("{at} has no `{field}`");
            Finding::new(Code::WrongShape, what, format!("add it: {}", example(field)))
        } else {
            let why = if self.is_substituted(path) {
                "a variable or file stands for a text; another type is due here"
            } else {
                error.message()
            };
            let what = format!("`{path}` has the wrong type");
            let fix = if path.starts_with(CLIENT) {
                "write the property's whole name in quotes: `\"security.protocol\" = \"SASL_SSL\"`"
            } else {
                "write it as shown in docs/errors/MS1004.md"
            };
            Finding::new(Code::WrongShape, what, fix).because(why)
        };
        finding.at_source(self.source_span(span))
    }

    /// A place in the file; a line that holds a secret in plain text is not shown.
    fn source_span(&self, range: Range<usize>) -> SourceSpan {
        let place = SourceSpan::new(&self.file, &self.text, range);
        if self.secret_lines.contains(&place.line) { place.hidden() } else { place }
    }
}

/// `prefix.key`, with keys that are not plain in quotes as TOML has them.
pub(crate) fn join(prefix: &str, key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let key = if !key.is_empty() && key.chars().all(plain) {
        Cow::Borrowed(key)
    } else {
        Cow::Owned(format!("{key:?}"))
    };
    if prefix.is_empty() { key.into_owned() } else { format!("{prefix}.{key}") }
}

fn syntax_finding(file: &Path, text: &str, error: &toml::de::Error) -> Finding {
    let fix = "correct the line; https://toml.io shows how TOML is written";
    let finding = Finding::new(Code::ConfigSyntax, "the file is not valid TOML", fix);
    let place = SourceSpan::new(file, text, error.span().unwrap_or_default());
    let line = text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
    let may_hold_secret = SECRET_WORDS.iter().any(|word| line.contains(word));
    let place = if may_hold_secret { place.hidden() } else { place };
    finding.because(error.message()).at_source(place)
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// How a key that has no default is written.
fn example(field: &str) -> &'static str {
    match field {
        "source" => "`source = { topics = [\"orders\"] }`",
        "topics" => "`topics = [\"orders\"]`, the topics the pipeline reads",
        "plugin" => "`plugin = \"plugins/orders.wasm\"`, relative to this file's folder",
        "key" => "`key = \"json:/order_id\"`, or \"header:NAME\", or \"key\"",
        _ => "the reference of the configuration shows how",
    }
}

struct Problem {
    why: String,
    fix: String,
}

/// A text with every `${…}` replaced.
struct Filled {
    text: String,
    /// Whether a part of it came from a variable or a file.
    from_outside: bool,
}

/// Replaces every `${…}`; `$${` stands for `${` itself.
fn replace_all(text: &str, folder: &Path, environment: Environment<'_>) -> Result<Filled, Problem> {
    let mut rest = text;
    let mut out = String::with_capacity(text.len());
    let mut from_outside = false;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let inside = from.strip_prefix("${").unwrap_or(from);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = inside;
            continue;
        }
        out.push_str(before);
        let Some((reference, after)) = inside.split_once('}') else {
            return Err(Problem {
                why: "a `${` in it is never closed".to_owned(),
                fix: "close it with `}`, or write `$${` for the two characters".to_owned(),
            });
        };
        out.push_str(&resolve(reference, folder, environment)?);
        from_outside = true;
        rest = after;
    }
    out.push_str(rest);
    Ok(Filled { text: out, from_outside })
}

fn resolve(
    reference: &str,
    folder: &Path,
    environment: Environment<'_>,
) -> Result<String, Problem> {
    if let Some(path) = reference.strip_prefix("file:") {
        return read_secret(&folder.join(path));
    }
    let name_like = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if reference.is_empty() || !reference.chars().all(name_like) {
        return Err(Problem {
            why: format!("`${{{reference}}}` is neither a variable's name nor `file:` and a path"),
            fix: "write `${NAME}` or `${file:path}`, or `$${` for the two characters".to_owned(),
        });
    }
    environment(reference).ok_or_else(|| Problem {
        why: format!("the environment has no variable {reference}"),
        fix: format!("set it (`export {reference}=…`), or write the value here"),
    })
}

fn read_secret(path: &Path) -> Result<String, Problem> {
    let shown = path.display();
    let problem = |why: String| Problem {
        why,
        fix: format!("put a text of at most {SECRET_FILE_BYTES_MAX} bytes into {shown}"),
    };
    let size = std::fs::metadata(path).map_err(|e| problem(format!("{shown}: {e}")))?.len();
    if size > SECRET_FILE_BYTES_MAX {
        return Err(problem(format!("{shown} has {size} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| problem(format!("{shown}: {e}")))?;
    // Editors end a file with a line break that belongs to no secret.
    Ok(text.strip_suffix('\n').map(|t| t.strip_suffix('\r').unwrap_or(t)).unwrap_or(&text).into())
}
