//! What `plugin new` writes, built as it stands outside of this tree: its own test passes, and the
//! plugin imports nothing that would have to be granted and weighs what the SDK promises.
//!
//! Needs both Wasm targets: `rustup target add wasm32-wasip2 wasm32-unknown-unknown`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wit_component::{ComponentEncoder, DecodedWasm};

/// What the smallest plugin may weigh, with its function names.
const COMPONENT_BYTES_MAX: u64 = 60_000;
const MODULE_BYTES_MAX: u64 = 35_000;

fn root() -> PathBuf {
    // Where it runs, not where it was built: checkouts share their target folder.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../..")
}

/// Copies a folder as `plugin new` does, with the names in place.
fn write_out(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            write_out(&from, &to);
        } else {
            let text = fs::read_to_string(&from).unwrap();
            let text = text.replace("{{name}}", "try-me");
            assert!(!text.contains("{{"), "a name was left in {}", from.display());
            fs::write(to, text).unwrap();
        }
    }
}

fn new_plugin() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("try-me");
    // The targets stay, so that a second run has little to build.
    for part in ["src", "cases", "vendor"] {
        drop(fs::remove_dir_all(folder.join(part)));
    }
    write_out(&root().join("host/millstream/templates/plugin"), &folder);
    let (sdk, vendored) = (root().join("plugins/sdk"), folder.join("vendor/millstream-plugin"));
    for part in ["src", "wit"] {
        write_out(&sdk.join(part), &vendored.join(part));
    }
    fs::copy(sdk.join("Cargo.toml"), vendored.join("Cargo.toml")).unwrap();
    folder
}

fn cargo(folder: &Path, args: &[&str]) {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .output()
        .unwrap();
    let (said, printed) =
        (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "cargo {args:?} failed:\n{said}\n{printed}");
    assert!(!said.contains("warning"), "cargo {args:?} warns:\n{said}");
}

/// The interfaces a component imports and exports.
fn interfaces(component: &[u8]) -> (Vec<String>, Vec<String>) {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component).unwrap() else {
        panic!("not a component");
    };
    let world = &resolve.worlds[world];
    let names = |keys: Vec<_>| keys.iter().map(|key| resolve.name_world_key(key)).collect();
    (names(world.imports.keys().cloned().collect()), names(world.exports.keys().cloned().collect()))
}

#[test]
fn a_new_plugin_builds_as_it_stands_small_and_with_nothing_to_grant() {
    let folder = new_plugin();
    cargo(&folder, &["test"]);
    cargo(&folder, &["build", "--release", "--target", "wasm32-wasip2"]);
    cargo(&folder, &["build", "--release", "--target", "wasm32-unknown-unknown"]);

    let artifact = |target: &str| folder.join(format!("target/{target}/release/try_me.wasm"));
    let component = fs::read(artifact("wasm32-wasip2")).unwrap();
    let module = fs::read(artifact("wasm32-unknown-unknown")).unwrap();
    println!("component {} bytes, core module {} bytes", component.len(), module.len());
    assert!(component.len() as u64 <= COMPONENT_BYTES_MAX, "{} bytes", component.len());
    assert!(module.len() as u64 <= MODULE_BYTES_MAX, "{} bytes", module.len());

    // What std imports by itself; the host satisfies it closed.
    let (imports, exports) = interfaces(&component);
    let of_std = |name: &String| {
        name.starts_with("wasi:cli/") || name.starts_with("wasi:io/") || is_types(name)
    };
    assert!(imports.iter().all(of_std), "{imports:#?}");
    assert_eq!(exports, ["millstream:plugin/handle@0.1.0"]);

    // Without WASI there is only the log, where a panic's message goes; it is always granted.
    let mut encoder = ComponentEncoder::default();
    let component = encoder.validate(true).module(&module).unwrap().encode().unwrap();
    let (mut imports, exports) = interfaces(&component);
    imports.retain(|name| !is_types(name));
    assert_eq!(imports, ["wasi:logging/logging@0.1.0-draft"]);
    assert_eq!(exports, ["millstream:plugin/handle@0.1.0"]);
}

/// Types only: there is nothing to call.
fn is_types(name: &str) -> bool {
    name.starts_with("millstream:plugin/types@")
}
