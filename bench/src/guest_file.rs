//! The plugins of the benchmarks: builds the crates of `bench/guest`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

const TARGET: &str = "wasm32-wasip2";

/// Builds the plugin of this crate, into a target folder of its own, and says where it is.
///
/// # Errors
/// When it cannot be built.
pub fn build(package: &str) -> anyhow::Result<PathBuf> {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| bench.join("../target"), PathBuf::from)
        .join("bench-guest");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(bench.join("guest"));
    cargo.args(["build", "--quiet", "--release", "--locked", "--target", TARGET, "--target-dir"]);
    cargo.arg(&target).args(["--package", package]);
    // What the host's build has in its environment for itself.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC", "CARGO"]
    {
        cargo.env_remove(variable);
    }
    let status = cargo.status().context("cargo cannot be run to build bench/guest")?;
    if !status.success() {
        bail!(
            "the plugin {package} in bench/guest was not built ({status}): run `make prepare`, which \
             adds the target {TARGET}, then try again"
        );
    }
    Ok(target.join(TARGET).join("release").join(format!("{}.wasm", package.replace('-', "_"))))
}
