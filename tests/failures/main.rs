//! What goes wrong around a host gives its message (what, where, why, what to do) and its exit code:
//! 1 failed, 2 wrong usage or configuration.
//!
//! The texts are compared whole: whoever changes one reads it here as a user will.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "this is a test: what is not as expected ends it"
)]

mod damage;
mod failed_sync;
mod full_disk;
mod held_up;
mod plugins;
mod read_only;
mod refused;
mod stream;

use std::path::Path;

use millstream_guest_builder::guest;
use millstream_tests::folder::{Ended, Folder};
use millstream_tests::mounted::Mounted;

/// Set by who cannot let tests mount a disk and wants the others all the same.
const WITHOUT_MOUNT: &str = "MILLSTREAM_WITHOUT_MOUNT";

/// A configuration of one pipeline with the hostile plugin; `more` goes before and into its table.
fn config(host: &str, pipeline: &str) -> String {
    format!(
        r#"
[host]
admin = "127.0.0.1:0"
{host}

[log]
durability = "100ms"

[pipelines.work]
source = {{ topics = ["work"] }}
plugin = "hostile.wasm"
outputs = {{ default = "done" }}
{pipeline}
"#
    )
}

fn folder(config: &str) -> Folder {
    let folder = Folder::new(config);
    folder.plugin("hostile.wasm", &guest("hostile"));
    folder
}

/// A folder whose topics are there.
fn with_topics(config: &str) -> Folder {
    let folder = folder(config);
    folder.ok(&["topics", "create", "--pipelines"], "");
    folder
}

/// What a command said from its first error on, with what differs from run to run named: `[DIR]` for
/// each of these folders, `[PID]`, `[PORT]`, `[N]`.
fn errors(said: &str, folders: &[&Path]) -> String {
    let mut text = said.to_owned();
    for (number, folder) in folders.iter().enumerate() {
        let name = if number == 0 { "[DIR]".to_owned() } else { format!("[DIR {number}]") };
        text = text.replace(&*folder.to_string_lossy(), &name);
    }
    let text = digits_after(&text, "process ", "[PID]");
    let mut text = digits_after(&text, "127.0.0.1:", "[PORT]");
    for before in ["from byte ", "up to write ", "is full: "] {
        text = digits_after(&text, before, "[N]");
    }
    // Log lines are JSON; the summary of what is in use comes before the first error.
    let lines = text.lines().filter(|line| !line.starts_with('{'));
    let lines = lines.skip_while(|line| !line.starts_with("error["));
    lines.collect::<Vec<_>>().join("\n")
}

fn digits_after(text: &str, before: &str, name: &str) -> String {
    let mut parts = text.split(before);
    let mut changed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let found = if rest.len() < part.len() { name } else { "" };
        changed.extend([before, found, rest]);
    }
    changed
}

/// Compares a command's end with what it must be.
#[track_caller]
fn fails(ended: &Ended, code: i32, folders: &[&Path], expected: &str) {
    let said = errors(&ended.stderr, folders);
    assert_eq!(said, expected.trim_start_matches('\n').trim_end(), "all it said: {}", ended.stderr);
    assert_eq!(ended.code, Some(code), "the exit code");
}

/// A small disk; `None` only where it was said that there can be none.
fn disk(mebibytes: u32) -> Option<Mounted> {
    mounted(Mounted::new(mebibytes))
}

fn mounted<T>(disk: Result<T, String>) -> Option<T> {
    match disk {
        Ok(disk) => Some(disk),
        Err(_) if std::env::var_os(WITHOUT_MOUNT).is_some() => None,
        Err(error) => panic!(
            "a disk cannot be mounted ({error}): run the tests as root, or leave out those that need \
             one with {WITHOUT_MOUNT}=1"
        ),
    }
}

#[test]
fn what_differs_from_run_to_run_is_named() {
    let said = "{\"log\":1}\n  summary\nerror[X]: /tmp/a/b by process 12: 127.0.0.1:80.";
    let expected = "error[X]: [DIR]/b by process [PID]: 127.0.0.1:[PORT].";
    assert_eq!(errors(said, &[Path::new("/tmp/a")]), expected);
}
