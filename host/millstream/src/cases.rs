//! Case folders: messages in, outcomes expected, run against the real `.wasm` in the real sandbox.
//!
//! The format is in `plugins/CASES.md`. `folder` reads a case, `expectation` compares what came with
//! what was expected, this module runs it: one instance a case, clock and random derived from the
//! message, so a case gives the same on every machine.

mod expectation;
mod folder;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use millstream_core::outcome::{Fault, FaultKind, Outcome};
use millstream_core::plugin::Plugin as _;
use millstream_sandbox::{Grants, LoadedPlugin, PluginOptions, PluginSource, Sandbox};

pub(crate) use expectation::shown;
pub use folder::{Case, find};

use crate::exit::Failure;
use crate::finding::{Code, Finding};
use crate::plugin_file;

/// What a case came to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CaseResult {
    /// The case's name: its folder.
    pub case: String,
    /// How many messages it has.
    pub messages: usize,
    /// What differs, in order; empty if it passed.
    pub differences: Vec<LineDifference>,
}

/// A message whose outcome is not the expected one.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LineDifference {
    /// The line in `in.jsonl`.
    pub in_line: usize,
    /// The line in `expect.jsonl`.
    pub expect_line: usize,
    /// The expectation as it is written.
    pub expected: serde_json::Value,
    /// What came, in the same form.
    pub actual: serde_json::Value,
    /// Each part that differs.
    pub parts: Vec<String>,
}

/// Runs a case.
///
/// # Errors
/// When the plugin cannot be loaded or started.
pub async fn run(
    sandbox: &Sandbox,
    plugin: &PluginSource,
    case: &Case,
) -> Result<CaseResult, Failure> {
    let loaded = load(sandbox, plugin, case)?;
    let mut instance = loaded.instance().await.map_err(|error| {
        let fix = "correct the plugin's start, or raise its limits";
        let what = format!("case {} cannot start the plugin", case.name);
        Failure::from(Finding::new(Code::PluginCases, what, fix).because(error))
    })?;
    let outputs = case.outputs();
    let mut differences = Vec::new();
    for line in &case.lines {
        let outcome = instance.handle(&line.message, line.context).await;
        let outcome = deny_unnamed(outcome, &outputs);
        let parts = expectation::differences(&line.expected, &outcome);
        if !parts.is_empty() {
            differences.push(LineDifference {
                in_line: line.in_line,
                expect_line: line.expect_line,
                expected: line.expected.clone(),
                actual: expectation::shown(&outcome),
                parts,
            });
        }
    }
    Ok(CaseResult { case: case.name.clone(), messages: case.lines.len(), differences })
}

fn load(
    sandbox: &Sandbox,
    plugin: &PluginSource,
    case: &Case,
) -> Result<Arc<LoadedPlugin>, Failure> {
    let options = PluginOptions {
        // A pipeline of the same name in every run: random numbers are derived from it.
        grants: Grants { config: Some(case.settings.clone()) },
        ..PluginOptions::new(case.pipeline.clone())
    };
    sandbox
        .load(plugin.clone(), options)
        .map_err(|error| Failure::from(plugin_file::load_findings(&error)))
}

/// What a pipeline does with an output it does not name.
fn deny_unnamed(outcome: Outcome, outputs: &BTreeSet<String>) -> Outcome {
    let Outcome::Done(sent) = &outcome else { return outcome };
    let Some(unnamed) = sent.iter().find(|output| !outputs.contains(output.to.name())) else {
        return outcome;
    };
    let named = outputs.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    Outcome::Fault(Fault {
        kind: FaultKind::Denied,
        reason: format!(
            "the plugin sent to output `{}`, which the case does not name (it names: {named})",
            unnamed.to.name()
        ),
        backtrace: None,
    })
}

/// Reads every case in `folder`.
///
/// # Errors
/// What is wrong with the first that cannot be read, or that there is none.
pub fn read_all(folder: &Path) -> Result<Vec<Case>, Failure> {
    let paths = find(folder)?;
    if paths.is_empty() {
        let fix = "make one: a folder with in.jsonl and expect.jsonl in it";
        let finding = Finding::new(Code::PluginCases, "there are no cases", fix);
        return Err(finding.at(folder.display()).into());
    }
    paths.iter().map(|path| Case::read(path)).collect()
}
