//! Configuration: one TOML file, refused before anything starts if anything is wrong with it.
//!
//! `document` (text, `${…}`, places) → `raw` (types) → `checked` (bounds, rules between fields and
//! between pipelines) → [`Config`], which every command works with.

mod admin;
mod bounds;
pub mod checked;
mod dead_letter;
mod document;
mod idempotency;
mod kafka;
mod limits;
mod log;
mod names;
mod pipeline;
mod raw;
pub mod summary;
mod template;
mod topics;
mod traces;
mod unknown_key;

use std::path::Path;

pub use checked::{Config, HostOptions, PipelineConfig, Secret, Setting, log_dir, token_file};
pub use document::Environment;
pub use kafka::{GroupProtocol, KafkaConfig};
pub use log::{Durability, LogKind, LogOptions, NewTopics};
pub use names::{host_problem, topic_problem};
pub use raw::Scalar;
pub use topics::{Companion, CompanionKind, companions};
pub use traces::TracesOptions;

use crate::finding::{Code, Finding};

/// Reads and checks the file.
///
/// # Errors
/// Everything that is wrong with it, warnings included if there is an error too.
pub fn load(file: &Path) -> Result<Config, Vec<Finding>> {
    load_with(file, &|name| std::env::var(name).ok())
}

/// The same with another environment, for tests.
///
/// # Errors
/// As [`load`].
pub fn load_with(file: &Path, environment: Environment<'_>) -> Result<Config, Vec<Finding>> {
    let text = read(file)?;
    let (document, raw) = document::Document::read(file, text, environment)?;
    checked::check(&document, raw)
}

fn read(file: &Path) -> Result<String, Vec<Finding>> {
    let unreadable = |why: String, fix: &str| {
        let what = "the configuration cannot be read";
        vec![Finding::new(Code::ConfigUnreadable, what, fix).because(why).at(file.display())]
    };
    let size = std::fs::metadata(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => unreadable(
            "there is no such file".to_owned(),
            "name it with `--config FILE`, or go to the folder that has it",
        ),
        _ => unreadable(error.to_string(), "give this user access to it"),
    })?;
    if size.is_dir() {
        let fix = "name the file inside it with `--config FILE`";
        return Err(unreadable("it is a folder".to_owned(), fix));
    }
    if size.len() > document::CONFIG_BYTES_MAX {
        let why = format!("it has {} bytes, at most {} go", size.len(), document::CONFIG_BYTES_MAX);
        return Err(unreadable(why, "name the right file with `--config FILE`"));
    }
    std::fs::read_to_string(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => {
            unreadable("it is not UTF-8 text".to_owned(), "save it as UTF-8")
        }
        _ => unreadable(error.to_string(), "give this user access to it"),
    })
}
