//! The guest: builds the plugin of `bench/guest` and loads it into a sandbox.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use millstream_sandbox::{LoadedPlugin, PluginOptions, Sandbox, SandboxOptions};

const TARGET: &str = "wasm32-wasip2";

/// The plugin, with room for `instances`.
///
/// # Errors
/// When it cannot be built or is refused.
pub(crate) fn load(instances: usize) -> anyhow::Result<Arc<LoadedPlugin>> {
    let path = build()?;
    let sandbox = Sandbox::new(SandboxOptions::default())?;
    let instances = u32::try_from(instances).unwrap_or(u32::MAX);
    let options = PluginOptions { instances, ..PluginOptions::new("bench") };
    Ok(sandbox.load(path, options)?)
}

/// Builds the plugin, into a target folder of its own, and says where it is.
fn build() -> anyhow::Result<PathBuf> {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| bench.join("../target"), PathBuf::from)
        .join("bench-guest");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(bench.join("guest"));
    cargo.args(["build", "--quiet", "--release", "--locked", "--target", TARGET, "--target-dir"]);
    cargo.arg(&target);
    // What the host's build has in its environment for itself.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC", "CARGO"]
    {
        cargo.env_remove(variable);
    }
    let status = cargo.status().context("cargo cannot be run to build bench/guest")?;
    if !status.success() {
        bail!(
            "the plugin in bench/guest was not built ({status}): run `make prepare`, which adds the \
             target {TARGET}, then try again"
        );
    }
    Ok(target.join(TARGET).join("release").join("millstream_bench_guest.wasm"))
}
