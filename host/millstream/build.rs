//! Embeds what `plugin new` writes: the template and the SDK, as they are in this tree.
//!
//! Makes `$OUT_DIR/embedded.rs` with two lists of (path, bytes), so that the binary alone makes a
//! plugin that builds offline but for crates.io.

use std::fmt::Write as _;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};

/// Folders of the SDK that a plugin does not need.
const SKIPPED: [&str; 3] = ["target", "tests", "examples"];

fn main() -> Result<()> {
    let variable = |name: &str| std::env::var(name).map(PathBuf::from).map_err(Error::other);
    let package = variable("CARGO_MANIFEST_DIR")?;
    let mut code = String::new();
    embed("TEMPLATE", &package.join("templates/plugin"), &mut code)?;
    embed("SDK", &package.join("../../plugins/sdk"), &mut code)?;
    std::fs::write(variable("OUT_DIR")?.join("embedded.rs"), code)
}

fn embed(name: &str, root: &Path, code: &mut String) -> Result<()> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    if files.is_empty() {
        return Err(Error::other(format!("{} has no files", root.display())));
    }
    let text = |e: std::fmt::Error| Error::other(e);
    writeln!(code, "pub(super) const {name}: &[(&str, &[u8])] = &[").map_err(text)?;
    for file in files {
        let inside = file.strip_prefix(root).map_err(Error::other)?;
        // Paths within the list are written with `/` on every system.
        let inside: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        let (inside, file) = (inside.join("/"), file.canonicalize()?);
        writeln!(code, "    ({inside:?}, include_bytes!({file:?})),").map_err(text)?;
    }
    writeln!(code, "];").map_err(text)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                collect(&path, files)?;
            }
        } else if name != "Cargo.lock" {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    Ok(())
}
