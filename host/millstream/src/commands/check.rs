//! `check`: everything that can be known before a run. Configuration, plugins with their grants,
//! topics, retries that a changed template would leave behind.
//!
//! All findings are printed; any of them, warnings aside, ends with exit code 2.

use clap::Args;
use millstream_sandbox::Sandbox;

use crate::access;
use crate::commands::Context;
use crate::config::{Config, LogKind, summary};
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding, Severity};
use crate::orphans;
use crate::plugin_file;
use crate::topic_check;
use crate::topic_plan::{self, Action, Planned};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Do not look at the log: configuration and plugins only
    #[arg(long)]
    offline: bool,
}

/// Checks, and prints everything found.
///
/// # Errors
/// The findings, if there is an error among them.
pub async fn run(context: &Context, args: CheckArgs) -> Result<Exit, Failure> {
    let config = context.config()?;
    let mut findings = config.warnings.clone();
    if config.pipelines.is_empty() {
        let fix = "add a `[pipelines.NAME]` table";
        let finding = Finding::new(Code::WrongShape, "the configuration has no pipelines", fix);
        findings.push(finding.at(config.file.display()).warning());
    }
    plugins(&config, &mut findings);
    if !args.offline
        && let Err(Failure::Findings(found)) = log(context, &config, &mut findings).await
    {
        findings.extend(found);
    }
    let terminal = &context.terminal;
    terminal.print(summary::summary(&config).trim_end())?;
    for finding in &findings {
        terminal.show(finding);
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let warnings = findings.len() - errors;
    if errors == 0 {
        terminal.say(&format!("nothing stands against a run ({})", count(warnings, "warning")));
        Ok(Exit::Done)
    } else {
        terminal.say(&format!("{}, {}", count(errors, "error"), count(warnings, "warning")));
        Ok(Exit::Usage)
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn plugins(config: &Config, findings: &mut Vec<Finding>) {
    if config.pipelines.is_empty() {
        return;
    }
    // Compiled code goes nowhere: a check leaves nothing behind.
    let options = millstream_sandbox::SandboxOptions {
        cache_dir: None,
        ..plugin_file::sandbox_options(config)
    };
    let sandbox = match Sandbox::new(options) {
        Ok(sandbox) => sandbox,
        Err(error) => return findings.push(plugin_file::sandbox_finding(&error)),
    };
    for pipeline in &config.pipelines {
        match sandbox.check(pipeline.plugin.clone(), &plugin_file::plugin_options(pipeline)) {
            Ok(report) => {
                findings.extend(plugin_file::unfit(&report.source, &report.differences));
            }
            Err(error) => findings.extend(plugin_file::load_findings(&error)),
        }
    }
}

async fn log(
    context: &Context,
    config: &Config,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let place = context.place()?;
    if !access::exists(&place) {
        context.terminal.say("the log is not there yet: `run` makes it with all topics");
        return Ok(());
    }
    let access = access::open(context, &place).await?;
    let log = &*access.log;
    let plan = topic_plan::plan(log, &config.pipelines, &config.log.new_topics).await?;
    match &config.log.kind {
        LogKind::Embedded { .. } => would_be_made(context, &plan, findings),
        LogKind::Kafka(kafka) => findings.extend(topic_check::findings(&plan, kafka)),
    }
    for pipeline in &config.pipelines {
        let found = orphans::find(log, &pipeline.spec).await;
        findings.extend(
            found.map_err(|error| Failure::log("the log's retry tiers cannot be read", &error))?,
        );
    }
    Ok(())
}

/// What a run on the embedded log would make; it makes companions without a word.
fn would_be_made(context: &Context, plan: &[Planned], findings: &mut Vec<Finding>) {
    for planned in plan {
        let (name, pipeline) = (&planned.spec.name, &planned.pipeline);
        let partitions = planned.spec.partitions;
        match planned.action {
            Action::Create if !planned.role.is_companion() => {
                context.terminal.say(&format!(
                    "topic {name} of pipeline {pipeline} would be created with {partitions} \
                     partitions"
                ));
            }
            Action::Grow { from } => context.terminal.say(&format!(
                "companion topic {name} would grow from {from} to {partitions} partitions"
            )),
            Action::Keep | Action::Create | Action::Larger { .. } => {}
        }
        let place = format!("pipeline {pipeline}");
        findings.extend(topic_check::larger(planned).map(|finding| finding.at(place)));
    }
}
