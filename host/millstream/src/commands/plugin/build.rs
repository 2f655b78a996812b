//! `plugin build`: a Rust plugin to a `.wasm`, with whatever this machine has for it.
//!
//! In this order: the target `wasm32-wasip2`; the same after `rustup target add`; the target
//! `wasm32-unknown-unknown`, whose modules the host turns into components; and, where rustup cannot
//! download, a standard library built from the sources of the system's own compiler.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::terminal::Terminal;

/// Makes components.
const COMPONENT_TARGET: &str = "wasm32-wasip2";
/// Makes core modules, which the host turns into components.
const MODULE_TARGET: &str = "wasm32-unknown-unknown";
/// The compiler of the system's packages.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// Arguments of `plugin build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The plugin's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Copy the .wasm here as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Cargo features of the plugin, separated by commas
    #[arg(long, value_name = "NAMES")]
    features: Option<String>,
}

/// Builds, and prints where the `.wasm` is.
///
/// # Errors
/// When there is no way to build for Wasm on this machine, or the build fails.
pub(crate) fn run(context: &Context, args: &BuildArgs) -> Result<Exit, Failure> {
    let built = build(&context.terminal, &args.folder, args.features.as_deref())?;
    let path = match &args.out {
        None => built,
        Some(out) => {
            std::fs::copy(&built, out).map_err(|error| {
                Failure::io(format!("{} cannot be written", out.display()), &error)
            })?;
            out.clone()
        }
    };
    context.terminal.print(&path.display().to_string())?;
    Ok(Exit::Done)
}

/// A way to build for Wasm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Toolchain {
    /// The target is installed.
    Target(&'static str),
    /// The system's compiler with the sources of its standard library.
    SystemSources,
}

/// Builds the plugin in `folder` and tells where its `.wasm` is.
///
/// # Errors
/// As [`run`].
pub(crate) fn build(
    terminal: &Terminal,
    folder: &Path,
    features: Option<&str>,
) -> Result<PathBuf, Failure> {
    if !folder.join("Cargo.toml").is_file() {
        let fix = "name a plugin's folder, or make one with `millstream plugin new NAME`";
        let what = format!("{} has no Cargo.toml", folder.display());
        return Err(Finding::new(Code::Usage, what, fix).into());
    }
    let toolchain = toolchain(terminal, folder)?;
    terminal.say_verbose(&format!("building {} with {toolchain:?}", folder.display()));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder).args(["build", "--release", "--message-format"]);
    cargo.arg("json-render-diagnostics");
    cargo.args(features.iter().flat_map(|features| ["--features", features]));
    match toolchain {
        Toolchain::Target(target) => cargo.args(["--target", target]),
        Toolchain::SystemSources => cargo
            .args(["--target", MODULE_TARGET, "-Zbuild-std=std,panic_abort"])
            .env("RUSTC", SYSTEM_RUSTC)
            .env("RUSTC_BOOTSTRAP", "1"),
    };
    let output = cargo.stderr(Stdio::inherit()).output().map_err(|error| {
        let fix = "install Rust (https://rustup.rs)";
        let finding = Finding::new(Code::PluginBuild, "cargo cannot be started", fix);
        Failure::from(finding.because(error))
    })?;
    if !output.status.success() {
        let what = format!("the plugin in {} does not build", folder.display());
        let finding = Finding::new(Code::PluginBuild, what, "correct what cargo says above");
        return Err(finding.because(output.status).into());
    }
    artifact(&String::from_utf8_lossy(&output.stdout), folder)
}

/// The `.wasm` of the package in `folder` among the files that cargo says it made.
fn artifact(messages: &str, folder: &Path) -> Result<PathBuf, Failure> {
    let manifest = folder.join("Cargo.toml").canonicalize().unwrap_or_default();
    let own = |message: &serde_json::Value| {
        let path = message.get("manifest_path").and_then(|path| path.as_str());
        path.is_some_and(|path| Path::new(path).canonicalize().is_ok_and(|p| p == manifest))
    };
    let mut files = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(own)
        .filter_map(|message| message.get("filenames")?.as_array().cloned())
        .flatten()
        .filter_map(|name| name.as_str().map(PathBuf::from))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    files.next_back().ok_or_else(|| {
        let what = format!("the package in {} makes no .wasm", folder.display());
        let fix = "put `[lib] crate-type = [\"cdylib\"]` into its Cargo.toml";
        Finding::new(Code::PluginBuild, what, fix).into()
    })
}

fn toolchain(terminal: &Terminal, folder: &Path) -> Result<Toolchain, Failure> {
    if has_target(folder, COMPONENT_TARGET) {
        return Ok(Toolchain::Target(COMPONENT_TARGET));
    }
    terminal.say(&format!("the target {COMPONENT_TARGET} is missing: adding it with rustup"));
    let added = Command::new("rustup")
        .args(["target", "add", COMPONENT_TARGET])
        .current_dir(folder)
        .stdout(Stdio::null())
        .status();
    if added.is_ok_and(|status| status.success()) {
        return Ok(Toolchain::Target(COMPONENT_TARGET));
    }
    if has_target(folder, MODULE_TARGET) {
        terminal.say(&format!("that did not work: building for {MODULE_TARGET}, which does too"));
        return Ok(Toolchain::Target(MODULE_TARGET));
    }
    if system_sources() {
        terminal.say("that did not work: building the standard library from the system's sources");
        return Ok(Toolchain::SystemSources);
    }
    let fix = "run `rustup target add wasm32-wasip2` where there is a network; on Debian install \
               rustc-web, rust-web-src, rust-web-llvm and lld";
    let what = "this machine cannot build for WebAssembly";
    let why = format!(
        "neither {COMPONENT_TARGET} nor {MODULE_TARGET} is installed, nor the sources to build it"
    );
    Err(Finding::new(Code::PluginBuild, what, fix).because(why).into())
}

/// Whether the compiler that cargo uses in `folder` has the target's standard library.
fn has_target(folder: &Path, target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(folder)
        .stderr(Stdio::null())
        .output();
    let Ok(output) = asked else { return false };
    let libraries = std::fs::read_dir(String::from_utf8_lossy(&output.stdout).trim());
    libraries.is_ok_and(|mut files| {
        files.any(|file| file.is_ok_and(|f| f.file_name().to_string_lossy().starts_with("libstd-")))
    })
}

fn system_sources() -> bool {
    let Ok(output) = Command::new(SYSTEM_RUSTC).args(["--print", "sysroot"]).output() else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Path::new(&sysroot).join("lib/rustlib/src/rust/library/std").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wasm_of_the_package_itself_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("Cargo.toml"), "").expect("written");
        let own = folder.path().join("Cargo.toml");
        let messages = format!(
            "not JSON\n{}\n{}\n{}",
            serde_json::json!({ "manifest_path": own, "filenames": ["/t/own.d", "/t/own.wasm"] }),
            serde_json::json!({ "manifest_path": "/else/Cargo.toml", "filenames": ["/t/no.wasm"] }),
            serde_json::json!({ "reason": "build-finished" }),
        );
        let found = artifact(&messages, folder.path()).expect("found");
        assert_eq!(found, PathBuf::from("/t/own.wasm"));
        assert!(artifact("", folder.path()).is_err(), "nothing was made");
    }
}
