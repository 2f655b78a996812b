//! `plugin check`: what a `.wasm` is, imports, exports and needs, and whether it can be used.

use std::path::PathBuf;

use clap::Args;
use millstream_sandbox::{Access, Form, PluginOptions, PluginReport, Sandbox, SandboxOptions};

use crate::commands::Context;
use crate::config::summary;
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::{plugin_file, table};

/// Arguments of `plugin check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The .wasm: a component, or a core module with its component type
    file: PathBuf,
    /// Check against this pipeline's grants and limits
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Prints the report.
///
/// # Errors
/// When the file is no plugin, or not one for the pipeline.
pub(crate) fn run(context: &Context, args: &CheckArgs) -> Result<Exit, Failure> {
    let (sandbox, options) = match &args.pipeline {
        None => (SandboxOptions::default(), PluginOptions::new("check")),
        Some(name) => {
            let config = context.config()?;
            let found = config.pipelines.iter().find(|pipeline| pipeline.spec.name == *name);
            let Some(pipeline) = found else {
                let what = format!("there is no pipeline {name:?}");
                let finding = Finding::new(Code::Usage, what, "name one of the configuration");
                return Err(finding.at(config.file.display()).into());
            };
            let sandbox = plugin_file::sandbox_options(&config);
            (SandboxOptions { cache_dir: None, ..sandbox }, plugin_file::plugin_options(pipeline))
        }
    };
    let sandbox = Sandbox::new(sandbox)
        .map_err(|error| Failure::from(plugin_file::sandbox_finding(&error)))?;
    let report = sandbox
        .check(args.file.clone(), &options)
        .map_err(|error| Failure::from(plugin_file::load_findings(&error)))?;
    if args.json {
        table::print_json(&context.terminal, &report)?;
    } else {
        context.terminal.print(&show(&report))?;
    }
    if report.differences.is_empty() {
        Ok(Exit::Done)
    } else {
        Err(plugin_file::unfit(&report.source, &report.differences).into())
    }
}

fn show(report: &PluginReport) -> String {
    let form = match report.form {
        Form::Component => "component",
        Form::CoreModule => "core module, made a component",
    };
    let size = summary::size(usize::try_from(report.size_bytes).unwrap_or(usize::MAX));
    let memory = usize::try_from(report.needs.memory_bytes_initial).unwrap_or(usize::MAX);
    let mut lines = vec![
        format!("plugin   {} {}", report.name, report.version),
        format!("file     {}, {form}, {size}", report.source),
        format!("digest   {}", report.digest),
        format!("begins   with {} of memory", summary::size(memory)),
    ];
    for export in &report.exports {
        lines.push(format!("exports  {export}"));
    }
    for import in &report.imports {
        let access = match import.access {
            Access::Always => "always there",
            Access::Granted => "granted",
            Access::Closed => "closed: there and empty",
            Access::DeniedInUse => "denied when it is used",
            Access::Refused => "refused",
        };
        lines.push(format!("imports  {}  ({access})", import.name));
    }
    lines.join("\n")
}
