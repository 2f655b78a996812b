//! Builds the guest plugins of `tests/guests` for the tests of any crate: once per process, into a
//! target folder of their own, and again only what changed.
#![expect(clippy::panic, reason = "only tests use it, and a test without its guest has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A guest's crate and the target it is built for.
const GUESTS: [(&str, &str); 8] = [
    ("core-echo", UNKNOWN),
    ("echo", WASIP2),
    ("future-contract", WASIP2),
    ("hostile", WASIP2),
    ("settings", WASIP2),
    ("slow-start", WASIP2),
    ("versioned", WASIP2),
    ("wrong-shape", WASIP2),
];

const UNKNOWN: &str = "wasm32-unknown-unknown";
const WASIP2: &str = "wasm32-wasip2";

/// The `.wasm` file of the guest of this crate name.
///
/// # Panics
/// When there is no such guest or the build fails, with what cargo said.
pub fn guest(name: &str) -> PathBuf {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    let target = TARGET.get_or_init(build_all);
    let Some((_, triple)) = GUESTS.iter().find(|(guest, _)| *guest == name) else {
        panic!("there is no guest {name}: add its crate to tests/guests and to GUESTS");
    };
    target.join(triple).join("release").join(format!("{}.wasm", name.replace('-', "_")))
}

/// The root of the source tree.
///
/// # Panics
/// When it is not there.
pub fn tree() -> PathBuf {
    // What cargo runs is told where it belongs. What it was compiled with may be another clone, which
    // shared this build.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let mut folders = package.ancestors();
    let root = folders.find(|folder| folder.join("Cargo.lock").is_file());
    root.unwrap_or_else(|| panic!("{} is in no workspace", package.display())).to_path_buf()
}

fn build_all() -> PathBuf {
    let tree = tree();
    let guests = tree.join("tests/guests");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| tree.join("target"), PathBuf::from)
        .join("guests");
    for triple in [WASIP2, UNKNOWN] {
        install(triple, &guests);
        let mut cargo = command("cargo", &guests);
        cargo.args(["build", "--release", "--locked", "--target", triple, "--target-dir"]);
        cargo.arg(&target);
        for (guest, _) in GUESTS.iter().filter(|(_, of)| *of == triple) {
            cargo.args(["--package", guest]);
        }
        run(cargo);
    }
    target
}

/// Adds the target's standard library if it is not there.
fn install(triple: &str, guests: &Path) {
    let mut rustc = command("rustc", guests);
    rustc.args(["--print", "target-libdir", "--target", triple]);
    let libraries = run(rustc);
    if !Path::new(libraries.trim()).is_dir() {
        let mut rustup = command("rustup", guests);
        rustup.args(["target", "add", triple]);
        run(rustup);
    }
}

/// A tool run in the guests' folder, without what a host's build has in its environment for itself.
fn command(tool: &str, guests: &Path) -> Command {
    let mut command = Command::new(tool);
    command.current_dir(guests);
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC", "CARGO"]
    {
        command.env_remove(variable);
    }
    command
}

fn run(mut command: Command) -> String {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{command:?} cannot be run: {error}"),
    };
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        panic!("{command:?} failed:\n{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    stdout
}
