//! `plugin new`: a folder with a Rust plugin, its cases and the SDK, all from within this binary.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// Where the SDK goes within the plugin's folder, as the template's Cargo.toml names it.
const SDK_FOLDER: &str = "vendor/millstream-plugin";
/// Longest name: it becomes a crate, a file and a pipeline.
const NAME_CHARS_MAX: usize = 64;

/// Arguments of `plugin new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The plugin's name, which is also its folder's
    name: String,
    /// Make the folder in here [default: this folder]
    #[arg(long = "in", value_name = "DIR")]
    parent: Option<PathBuf>,
}

/// Makes the folder.
///
/// # Errors
/// When the name is none for a crate, the folder is there already, or cannot be written.
pub(crate) fn run(context: &Context, args: &NewArgs) -> Result<Exit, Failure> {
    let name = &args.name;
    if let Some(why) = name_problem(name) {
        let what = format!("{name:?} is not a name for a plugin");
        let fix = "use lower-case letters, digits and `-`, for example `price-orders`";
        return Err(Finding::new(Code::BadName, what, fix).because(why).into());
    }
    let folder = args.parent.clone().unwrap_or_default().join(name);
    if folder.exists() {
        let what = format!("{} is there already", folder.display());
        let fix = "choose another name, or remove it";
        return Err(Finding::new(Code::Usage, what, fix).into());
    }
    for (path, bytes) in embedded::TEMPLATE {
        write(&folder, path, &filled(bytes, name))?;
    }
    for (path, bytes) in embedded::SDK {
        write(&folder.join(SDK_FOLDER), path, bytes)?;
    }
    context.terminal.say(&format!("made {}; go on with", folder.display()));
    context.terminal.print(&format!(
        "cd {}\nmillstream plugin test    # builds src/lib.rs and runs cases/ against it",
        folder.display()
    ))?;
    Ok(Exit::Done)
}

fn name_problem(name: &str) -> Option<String> {
    if name.is_empty() || name.len() > NAME_CHARS_MAX {
        return Some(format!("it has {} characters, 1 to {NAME_CHARS_MAX} go", name.len()));
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Some("it does not begin with a lower-case letter".to_owned());
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
        return Some(format!("it has {bad:?} in it"));
    }
    // Names that cargo refuses for a library, or that would hide what the plugin itself uses.
    let taken =
        ["test", "core", "std", "alloc", "proc-macro", "millstream-plugin", "self", "crate"];
    taken.contains(&name.replace('_', "-").as_str()).then(|| "the name is taken".to_owned())
}

/// The template's text with its placeholders filled in.
fn filled(bytes: &[u8], name: &str) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            text.replace("{{name}}", name).replace("{{lib}}", &name.replace('-', "_")).into_bytes()
        }
        Err(_) => bytes.to_vec(),
    }
}

fn write(folder: &Path, path: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = folder.join(path);
    let parent = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(&path, bytes))
        .map_err(|error| Failure::io(format!("{} cannot be written", path.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cargo_would_refuse_are_refused_first() {
        for name in ["", "1st", "Hello", "a b", "a/b", "..", "test", "core", "ä"] {
            assert!(name_problem(name).is_some(), "{name:?} was taken");
        }
        for name in ["hello", "price-orders", "a_1"] {
            assert_eq!(name_problem(name), None, "{name:?}");
        }
    }

    #[test]
    fn the_template_and_the_sdk_are_within_the_binary() {
        let has = |list: &[(&str, &[u8])], path: &str| list.iter().any(|(name, _)| *name == path);
        for path in ["Cargo.toml", "src/lib.rs", "cases/hello/in.jsonl"] {
            assert!(has(embedded::TEMPLATE, path), "{path}");
        }
        assert!(has(embedded::SDK, "Cargo.toml") && has(embedded::SDK, "src/lib.rs"));
        assert!(!has(embedded::SDK, "Cargo.lock"));
        let manifest = embedded::TEMPLATE.iter().find(|(path, _)| *path == "Cargo.toml");
        let manifest = String::from_utf8_lossy(manifest.expect("there").1);
        assert!(manifest.contains(SDK_FOLDER), "the template names the SDK where it is written");
    }
}
