//! `dlq replay`: a dead letter's last attempt again, on this machine, in the exact plugin.
//!
//! The plugin is the one whose digest stands in the letter: a version that was deployed, the configured file, or a
//! named one; else the replay would be of something else, and is refused. Clock and
//! random are derived from what the letter tells (`as_it_was`), settings and limits are the pipeline's as configured now.
//! Nothing is written to the log.

use std::path::{Path, PathBuf};

use clap::Args;
use millstream_core::dead_letter::{AsItWas, Shown};
use millstream_core::deploy::{Control, DeployError};
use millstream_core::log::Log;
use millstream_core::outcome::Outcome;
use millstream_core::plugin::{Plugin as _, PluginIdentity};
use millstream_sandbox::{PluginOptions, PluginSource, Sandbox, SandboxOptions};
use serde::Serialize;

use super::args::{of_topic, position};
use super::{Whose, config_if_any, failure};
use crate::access;
use crate::cases;
use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::{deploying, plugin_file, table};

/// Arguments of `dlq replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Where it lies, as `dlq list` names it: TOPIC/PARTITION/OFFSET
    position: String,
    /// The plugin's .wasm [default: the deployed version or the pipeline's file, if it is the one]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Run it in another plugin than the one it failed in, to see whether that one does it
    #[arg(long)]
    any_plugin: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Replayed {
    letter: String,
    plugin: String,
    plugin_version: String,
    plugin_digest: String,
    /// Whether it is the plugin the letter failed in.
    same_plugin: bool,
    attempt: u32,
    outcome: serde_json::Value,
    backtrace: Option<String>,
    /// How it failed then.
    then: Then,
    /// Whether it failed in the same way: kind and reason.
    same_failure: bool,
}

#[derive(Serialize)]
struct Then {
    kind: String,
    reason: String,
}

pub(super) async fn run(context: &Context, args: &ReplayArgs) -> Result<Exit, Failure> {
    let (partition, offset) = position(&args.position)?;
    let config = config_if_any(context)?;
    let whose = of_topic(config.as_ref(), &partition.topic);
    let access = access::open(context, &context.place()?).await?;
    let shown = whose.letters(&*access.log).show(&partition, offset).await;
    let shown = shown.map_err(|error| failure(&error))?;
    let (source, name) = plugin(&*access.log, &whose, args, &shown.as_it_was).await?;
    access.close().await;
    let options = match (&whose, &config) {
        (Whose::Pipeline(pipeline), Some(config)) => {
            (plugin_file::sandbox_options(config), plugin_file::plugin_options(pipeline))
        }
        _ => (SandboxOptions::default(), PluginOptions::new("replay")),
    };
    let replayed = replay(args, (source, &name), options, &shown).await?;
    if args.json {
        table::print_json(&context.terminal, &replayed)?;
    } else {
        context.terminal.print(&text(&replayed))?;
    }
    Ok(Exit::Done)
}

/// The plugin, and what it is called: the named file, the version that was deployed, or the configured file.
async fn plugin(
    log: &dyn Log,
    whose: &Whose<'_>,
    args: &ReplayArgs,
    letter: &AsItWas,
) -> Result<(PluginSource, String), Failure> {
    let of_file = |file: &Path| (PluginSource::from(file), file.display().to_string());
    match (&args.plugin, whose) {
        (Some(file), _) => Ok(of_file(file)),
        (None, Whose::Pipeline(pipeline)) => {
            let deployed = match letter.plugin.as_ref().filter(|_| !args.any_plugin) {
                Some(wanted) => deployed(log, &pipeline.spec.group, &wanted.digest).await?,
                None => None,
            };
            Ok(deployed.unwrap_or_else(|| of_file(&pipeline.plugin)))
        }
        (None, Whose::Topic(topic)) => {
            let what = format!("{topic} is no pipeline's, so there is no plugin to run");
            Err(Finding::new(Code::Usage, what, "name one with `--plugin FILE`").into())
        }
    }
}

/// The version of this digest, if it was deployed.
async fn deployed(
    log: &dyn Log,
    group: &str,
    digest: &str,
) -> Result<Option<(PluginSource, String)>, Failure> {
    let unread = |error: DeployError| {
        Failure::from(deploying::finding("the deployed versions cannot be read", &error))
    };
    let control = match Control::open(log, group).await {
        Ok(control) => control,
        Err(DeployError::NoTopic { .. }) => return Ok(None),
        Err(error) => return Err(unread(error)),
    };
    let Some(version) = control.version(digest) else { return Ok(None) };
    let bytes = control.bytes(log, &version).await.map_err(unread)?;
    let name = format!("version {}", version.version);
    Ok(Some((PluginSource::Bytes { name: name.clone(), bytes: bytes.to_vec() }, name)))
}

/// That it is the plugin the letter failed in.
fn must_be(
    wanted: Option<&PluginIdentity>,
    loaded: &PluginIdentity,
    place: &str,
) -> Result<(), Failure> {
    let Some(wanted) = wanted else {
        let what = "the letter does not say which plugin it failed in";
        let fix = "say `--any-plugin` to run it in this one all the same";
        return Err(Finding::new(Code::Usage, what, fix).at(place).into());
    };
    if loaded.digest == wanted.digest {
        return Ok(());
    }
    let (name, version) = (&wanted.name, &wanted.version);
    let what = format!("this is not the plugin the letter failed in, {name} {version}");
    let why = format!("that has the digest {}, this {}", wanted.digest, loaded.digest);
    let fix = "name its file with `--plugin FILE`, or say `--any-plugin` to see what this one does";
    let finding = Finding::new(Code::PluginUnusable, what, fix).because(why);
    Err(finding.at(place).into())
}

async fn replay(
    args: &ReplayArgs,
    (source, place): (PluginSource, &str),
    (sandbox, plugin): (SandboxOptions, PluginOptions),
    shown: &Shown,
) -> Result<Replayed, Failure> {
    let sandbox = Sandbox::new(sandbox)
        .map_err(|error| Failure::from(plugin_file::sandbox_finding(&error)))?;
    let loaded = sandbox
        .load(source, plugin)
        .map_err(|error| Failure::from(plugin_file::load_findings(&error)))?;
    let AsItWas { message, context, plugin } = &shown.as_it_was;
    if !args.any_plugin {
        must_be(plugin.as_ref(), loaded.identity(), place)?;
    }
    let mut instance = loaded.instance().await.map_err(|error| {
        let fix = "correct the plugin's start, or raise its limits";
        let finding = Finding::new(Code::PluginUnusable, "the plugin does not start", fix);
        Failure::from(finding.because(error).at(place))
    })?;
    let outcome = instance.handle(message, *context).await;
    let (reason, backtrace) = match &outcome {
        Outcome::Fault(fault) => (fault.reason.clone(), fault.backtrace.clone()),
        Outcome::Retry { reason, .. }
        | Outcome::Reject { reason }
        | Outcome::Pause { reason, .. } => (reason.clone(), None),
        Outcome::Done(_) => (String::new(), None),
    };
    let identity = loaded.identity();
    let then = Then { kind: shown.summary.kind.clone(), reason: shown.summary.reason.clone() };
    Ok(Replayed {
        letter: args.position.clone(),
        plugin: identity.name.clone(),
        plugin_version: identity.version.clone(),
        plugin_digest: identity.digest.clone(),
        same_plugin: plugin.as_ref().is_some_and(|plugin| plugin.digest == identity.digest),
        attempt: context.attempt,
        // A reason may have been cut when it was kept.
        same_failure: outcome.kind() == then.kind && reason.starts_with(uncut(&then.reason)),
        outcome: cases::shown(&outcome),
        backtrace,
        then,
    })
}

/// The reason up to where a header had no more room for it.
pub(super) fn uncut(reason: &str) -> &str {
    reason.strip_suffix(millstream_core::headers::CUT_MARK).unwrap_or(reason)
}

fn text(replayed: &Replayed) -> String {
    let Replayed { letter, plugin, plugin_version, plugin_digest, attempt, outcome, .. } = replayed;
    let mut lines = vec![
        format!("letter    {letter}, attempt {attempt}"),
        format!("plugin    {plugin} {plugin_version} {plugin_digest}"),
        format!("then      {}: {}", replayed.then.kind, super::printable(&replayed.then.reason)),
        format!("now       {outcome}"),
    ];
    if let Some(backtrace) = &replayed.backtrace {
        lines.push("stack".to_owned());
        lines.extend(backtrace.lines().map(|line| format!("  {}", super::printable(line))));
    }
    let verdict = match (replayed.same_plugin, replayed.same_failure) {
        (_, true) => "it fails as it did then",
        (true, false) => {
            "it does not fail as it did then, though it is the same plugin: its settings, its limits or the messages it had seen before were others"
        }
        (false, false) => "it does not fail as it did then: this is another plugin",
    };
    lines.push(verdict.to_owned());
    lines.join("\n")
}
