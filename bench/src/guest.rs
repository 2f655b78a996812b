//! The guest: the plugin of `bench/guest`, loaded into a sandbox.

use std::sync::Arc;

use millstream_bench::guest_file;
use millstream_sandbox::{LoadedPlugin, PluginOptions, Sandbox, SandboxOptions};

/// The plugin, with room for `instances`.
///
/// # Errors
/// When it cannot be built or is refused.
pub(crate) fn load(instances: usize) -> anyhow::Result<Arc<LoadedPlugin>> {
    let path = guest_file::build("millstream-bench-guest")?;
    let sandbox = Sandbox::new(SandboxOptions::default())?;
    let instances = u32::try_from(instances).unwrap_or(u32::MAX);
    let options = PluginOptions { instances, ..PluginOptions::new("bench") };
    Ok(sandbox.load(path, options)?)
}
