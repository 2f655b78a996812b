//! A pipeline's plugin: from the configuration to the sandbox's options, and from the sandbox's
//! errors to findings.
//!
//! Shared by `run`, `check` and the `plugin` commands.

use millstream_sandbox::{Grants, LoadError, PluginOptions, SandboxError, SandboxOptions};

use crate::config::{Config, PipelineConfig};
use crate::finding::{Code, Finding};

/// Versions of a plugin that a pipeline holds at a time: a deploy has two for a while.
const VERSIONS: u32 = 2;
/// Instances that a sandbox has room for at least.
const INSTANCES_MIN: u32 = 16;

/// The sandbox that holds all plugins of a configuration.
pub fn sandbox_options(config: &Config) -> SandboxOptions {
    let default = SandboxOptions::default();
    let limits = config.pipelines.iter().map(|pipeline| &pipeline.limits);
    let memory = limits.clone().map(|limits| limits.memory_bytes).max().unwrap_or(0);
    let table = limits.map(|limits| limits.table_elements).max().unwrap_or(0);
    let instances = config.pipelines.iter().map(|pipeline| pipeline.spec.instances).sum::<usize>();
    let instances = u32::try_from(instances).unwrap_or(u32::MAX).saturating_mul(VERSIONS);
    SandboxOptions {
        cache_dir: Some(config.host.compiled_dir()),
        instances_max: instances.max(INSTANCES_MIN),
        memory_bytes_max: memory.max(default.memory_bytes_max),
        table_elements_max: table.max(default.table_elements_max),
        stack_bytes: default.stack_bytes,
    }
}

/// How a pipeline uses its plugin.
pub fn plugin_options(pipeline: &PipelineConfig) -> PluginOptions {
    let settings = pipeline.settings.as_ref().map(|settings| {
        let value = |(name, setting): (&String, &crate::config::Setting)| {
            (name.clone(), setting.value.clone())
        };
        settings.iter().map(value).collect()
    });
    PluginOptions {
        limits: pipeline.limits.clone(),
        grants: Grants { config: settings },
        instances: u32::try_from(pipeline.spec.instances).unwrap_or(u32::MAX),
        ..PluginOptions::new(pipeline.spec.name.clone())
    }
}

/// There is no sandbox.
pub fn sandbox_finding(error: &SandboxError) -> Finding {
    let fix = match error {
        SandboxError::Engine(_) => "give the process what it lacks, or lower `instances`",
        SandboxError::Cache(_) => "make the folder this user's own (mode 0700), or remove it",
    };
    Finding::new(Code::PluginUnusable, "the sandbox cannot start", fix).because(error)
}

/// A plugin cannot be loaded: one finding for each difference.
pub fn load_findings(error: &LoadError) -> Vec<Finding> {
    match error {
        LoadError::Unreadable { plugin, error, .. } => {
            let fix = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "correct the path, or build it with `millstream plugin build`"
                }
                _ => "give this user access to the file",
            };
            let finding = Finding::new(Code::PluginUnusable, "the plugin cannot be read", fix);
            vec![finding.because(error).at(plugin)]
        }
        LoadError::Unfit { plugin, differences, .. } => unfit(plugin, differences),
        LoadError::Cache(error) => {
            let fix = "make the folder this user's own (mode 0700), or remove it";
            let what = "compiled plugins cannot be kept";
            vec![Finding::new(Code::PluginUnusable, what, fix).because(error)]
        }
    }
}

/// Each difference between a plugin and what it may be; a difference ends with what to do.
pub fn unfit(plugin: &str, differences: &[String]) -> Vec<Finding> {
    let finding = |difference: &String| {
        let (why, fix) = difference.rsplit_once(": ").unwrap_or((difference, "build it again"));
        let what = "the plugin cannot be used";
        Finding::new(Code::PluginUnusable, what, fix).because(why).at(plugin)
    };
    differences.iter().map(finding).collect()
}
