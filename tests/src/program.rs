//! The program and the plugins: built once for each test binary, by the commands a user would type.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub use millstream_guest_builder::tree;

/// The `millstream` program of the profile this was compiled with.
///
/// # Panics
/// When it does not build.
pub fn millstream() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(tree());
        cargo.args(["build", "--message-format", "json-render-diagnostics"]);
        // With the features that tests have its libraries are there already; what is measured has those of users.
        cargo.args(match cfg!(debug_assertions) {
            true => ["--workspace", "--bin", "millstream"],
            false => ["--release", "--package", "millstream"],
        });
        let output = cargo.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "millstream does not build:\n{errors}");
        let messages = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut executables = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from));
        executables.next_back().unwrap_or_else(|| panic!("cargo names no program:\n{messages}"))
    })
}

/// The plugin of `examples/orders`: prices orders, of which some are flaky and some poison.
///
/// # Panics
/// When it does not build.
pub fn orders_plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| {
        let mut build = Command::new(millstream());
        build.args(["plugin", "build"]).arg(tree().join("examples/orders"));
        let output = build.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "examples/orders does not build:\n{errors}");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}
