//! A case's folder: `in.jsonl`, `expect.jsonl` and perhaps `case.toml`.
//!
//! Everything is read and checked before the first message is handled. Limit: a file of a case has
//! at most 64 MiB.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use millstream_core::jsonl;
use millstream_core::message::{Message, Offset};
use millstream_core::plugin::AttemptContext;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cases::expectation;
use crate::config::Scalar;
use crate::exit::Failure;
use crate::finding::{Code, Finding};

/// Largest file of a case.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// The pipeline's name where a case has none.
const PIPELINE: &str = "test";

/// A case, read and checked.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its folder's name.
    pub name: String,
    /// The pipeline in whose name it runs: random numbers are derived from it.
    pub pipeline: String,
    /// What the plugin reads as settings.
    pub settings: BTreeMap<String, String>,
    /// Its messages with what is expected.
    pub lines: Vec<CaseLine>,
}

/// One message, and what is expected of it.
#[derive(Clone, Debug)]
pub struct CaseLine {
    /// Its line in `in.jsonl`, from 1.
    pub in_line: usize,
    /// The expectation's line in `expect.jsonl`, from 1.
    pub expect_line: usize,
    /// The message.
    pub message: Message,
    /// What the plugin is told about the attempt.
    pub context: AttemptContext,
    /// The expectation.
    pub expected: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    #[serde(default)]
    pipeline: Option<String>,
    #[serde(default)]
    config: BTreeMap<String, Scalar>,
}

/// The folders within `folder` that are cases, by name.
///
/// # Errors
/// When the folder cannot be read.
pub fn find(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::io(format!("the cases in {} cannot be read", folder.display()), &error)
    };
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.join("in.jsonl").is_file() || path.join("expect.jsonl").is_file() {
            cases.push(path);
        }
    }
    cases.sort();
    Ok(cases)
}

impl Case {
    /// Reads the case in `folder`.
    ///
    /// # Errors
    /// What is wrong with it, by file and line.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (pipeline, settings) = settings(&folder.join("case.toml"))?;
        let (in_path, expect_path) = (folder.join("in.jsonl"), folder.join("expect.jsonl"));
        let (messages, expected) = (read(&in_path)?, read(&expect_path)?);
        let (messages, expected) = (lines(&messages), lines(&expected));
        if messages.len() != expected.len() {
            let what = format!(
                "{} has {} messages and {} {} outcomes",
                in_path.display(),
                messages.len(),
                expect_path.display(),
                expected.len()
            );
            let fix = "write one line for each message into expect.jsonl";
            return Err(Finding::new(Code::PluginCases, what, fix).into());
        }
        let mut case = Self { name, pipeline, settings, lines: Vec::with_capacity(messages.len()) };
        for ((in_line, text), (expect_line, expected)) in messages.into_iter().zip(expected) {
            let above = case.lines.len() as u64;
            let (message, context) =
                parse_message(text, above).map_err(|why| bad_line(&in_path, in_line, &why))?;
            let expected = serde_json::from_str(expected)
                .map_err(|error| error.to_string())
                .and_then(|value| expectation::check(&value).map(|()| value))
                .map_err(|why| bad_line(&expect_path, expect_line, &why))?;
            case.lines.push(CaseLine { in_line, expect_line, message, context, expected });
        }
        Ok(case)
    }

    /// The outputs the plugin may use: those that are expected, and `default`.
    pub fn outputs(&self) -> BTreeSet<String> {
        let mut outputs = BTreeSet::from(["default".to_owned()]);
        for line in &self.lines {
            let done = line.expected.get("done").and_then(Value::as_array);
            let names = done.into_iter().flatten().filter_map(|output| output.get("to")?.as_str());
            outputs.extend(names.map(str::to_owned));
        }
        outputs
    }
}

/// What a case's line may have that `produce` does not take or keep.
#[derive(Deserialize)]
struct CaseFields {
    #[serde(default)]
    offset: Option<Offset>,
    #[serde(default)]
    attempt: Option<NonZeroU32>,
}

/// A message with everything but its value defaulted; `above` messages stand before it.
fn parse_message(text: &str, above: u64) -> Result<(Message, AttemptContext), String> {
    let CaseFields { offset, attempt } =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut text = Cow::Borrowed(text);
    if attempt.is_some() {
        let mut fields: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| error.to_string())?;
        fields.remove("attempt");
        text = Cow::Owned(Value::Object(fields).to_string());
    }
    let record =
        jsonl::parse_line(text.as_bytes(), 0, Some("test")).map_err(|error| error.reason)?;
    let message = Message {
        topic: record.topic,
        partition: record.partition.unwrap_or(0),
        offset: offset.unwrap_or(above),
        timestamp: record.timestamp.unwrap_or(0),
        key: record.key,
        value: record.value,
        headers: record.headers,
    };
    let context = AttemptContext {
        attempt: attempt.map_or(1, NonZeroU32::get),
        turn: message.offset,
        timestamp: message.timestamp,
        trace: None,
    };
    Ok((message, context))
}

fn bad_line(path: &Path, line: usize, why: &str) -> Failure {
    let fix = "correct the line; plugins/CASES.md shows the format";
    let finding = Finding::new(Code::PluginCases, "a line of a case cannot be understood", fix);
    finding.because(why).at(format!("{}:{line}", path.display())).into()
}

/// The lines that are not empty, with their numbers.
fn lines(text: &str) -> Vec<(usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty()).collect()
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error: &std::io::Error| {
        Failure::io(format!("{} of a case cannot be read", path.display()), error)
    };
    let size = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
    if size > FILE_BYTES_MAX {
        let why = format!("it has {size} bytes, at most {FILE_BYTES_MAX} go");
        return Err(failed(&std::io::Error::other(why)));
    }
    std::fs::read_to_string(path).map_err(|error| failed(&error))
}

fn settings(path: &Path) -> Result<(String, BTreeMap<String, String>), Failure> {
    if !path.exists() {
        return Ok((PIPELINE.to_owned(), BTreeMap::new()));
    }
    let file: CaseFile = toml::from_str(&read(path)?).map_err(|error| {
        let fix =
            "a case.toml has two keys: `config = { name = \"value\" }` and `pipeline = \"name\"`";
        let what = "the settings of a case cannot be understood";
        let finding = Finding::new(Code::PluginCases, what, fix);
        Failure::from(finding.because(error.message()).at(path.display()))
    })?;
    let pipeline = file.pipeline.unwrap_or_else(|| PIPELINE.to_owned());
    Ok((pipeline, file.config.into_iter().map(|(name, value)| (name, value.0)).collect()))
}
