//! `plugin test`: a plugin's case folders against its real `.wasm` in the real sandbox.

use std::path::PathBuf;

use clap::Args;
use millstream_sandbox::{PluginSource, Sandbox, SandboxOptions};

use crate::cases::{self, CaseResult};
use crate::commands::Context;
use crate::commands::plugin::build;
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::{plugin_file, table};

/// Arguments of `plugin test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The plugin's folder, which is built first
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Test this .wasm instead of building one
    #[arg(long, value_name = "FILE")]
    wasm: Option<PathBuf>,
    /// The folder of cases [default: cases in the plugin's folder]
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs all cases and prints how each went.
///
/// # Errors
/// When the plugin does not build or load, a case cannot be read, or one fails.
pub(crate) async fn run(context: &Context, args: &TestArgs) -> Result<Exit, Failure> {
    let folder = args.cases.clone().unwrap_or_else(|| args.folder.join("cases"));
    let cases = cases::read_all(&folder)?;
    let wasm = match &args.wasm {
        Some(wasm) => wasm.clone(),
        None => build::build(&context.terminal, &args.folder, None)?,
    };
    let sandbox = Sandbox::new(SandboxOptions::default())
        .map_err(|error| Failure::from(plugin_file::sandbox_finding(&error)))?;
    let source = PluginSource::Path(wasm);
    let bar = context.terminal.progress("cases", Some(cases.len() as u64));
    let mut results = Vec::with_capacity(cases.len());
    for case in &cases {
        results.push(cases::run(&sandbox, &source, case).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if args.json {
        table::print_json(&context.terminal, &results)?;
    } else {
        for result in &results {
            context.terminal.print(&show(result, context.terminal.colour_on_stdout()))?;
        }
    }
    let failed = results.iter().filter(|result| !result.differences.is_empty()).count();
    if failed == 0 {
        return Ok(Exit::Done);
    }
    let place = folder.strip_prefix(".").unwrap_or(&folder);
    let what = format!("{failed} of {} cases failed", results.len());
    let fix = "correct the plugin, or the expectation if it is what has changed";
    Err(Finding::new(Code::PluginCases, what, fix).at(place.display()).into())
}

fn show(result: &CaseResult, colour: bool) -> String {
    let paint = |code: &str, text: &str| {
        if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let CaseResult { case, messages, differences } = result;
    if differences.is_empty() {
        return format!("{} {case}: {messages} messages", paint("32", "ok    "));
    }
    let wrong = differences.len();
    let mut lines =
        vec![format!("{} {case}: {wrong} of {messages} messages", paint("31", "FAILED"))];
    for difference in differences {
        lines.push(format!(
            "  in.jsonl line {}, expect.jsonl line {}",
            difference.in_line, difference.expect_line
        ));
        for part in &difference.parts {
            lines.push(format!("    {part}"));
        }
        lines.push(paint("31", &format!("    - {}", difference.expected)));
        lines.push(paint("32", &format!("    + {}", difference.actual)));
    }
    lines.join("\n")
}
