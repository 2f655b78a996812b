//! Bytes of the log's folder that are not what was written.

use std::path::{Path, PathBuf};

use millstream_tests::folder::Folder;

use crate::{config, fails, with_topics};

const MESSAGES: usize = 500;
/// A message that is found among the others.
const MARKED: &str = "echo 4f9c2ab7 on this one falls the damage";

/// A log with messages that were handled.
fn used() -> Folder {
    let folder = with_topics(&config("", ""));
    let echo = std::iter::repeat_n("echo", MESSAGES - 1);
    folder.produce_values("work", echo.chain([MARKED]));
    folder.ok(&["run", "--until-caught-up"], "");
    folder
}

fn journal(log: &Path) -> PathBuf {
    let mut folders = vec![log.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jnl") {
                return path;
            }
        }
    }
    panic!("{} has no journal", log.display());
}

/// Changes a byte of the message that has this text in it.
fn flip(file: &Path, text: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let found = bytes.windows(text.len()).position(|window| window == text.as_bytes());
    let at = found.unwrap_or_else(|| panic!("{text} is not in {}", file.display()));
    // `echo` becomes `ebho`, and `ebho` `echo`.
    bytes[at + 1] ^= 0x01;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_changed_byte_among_the_messages_is_found_and_nothing_is_touched() {
    let folder = used();
    let journal = journal(&folder.log_dir());
    flip(&journal, MARKED);
    let damaged = std::fs::read(&journal).unwrap();
    for command in [&["run"][..], &["consume", "work", "--from-beginning"], &["lag"]] {
        fails(
            &folder.run(command, ""),
            1,
            &[folder.path()],
            r#"
error[MS2002]: the log cannot be opened
  why: the log in data/log is damaged
  do: data/log/store/0.jnl makes no sense from byte [N] on (the checksum of a write does not match), though what stood there was acknowledged (up to write [N]). Nothing was changed. Check the disk; restore the folder from a copy, or move it away to begin with an empty log
"#,
        );
    }
    assert!(std::fs::read(&journal).unwrap() == damaged, "the journal was changed");
    // With the byte as it was all is there.
    flip(&journal, &MARKED.replacen("ec", "eb", 1));
    assert_eq!(folder.consume("work").len(), MESSAGES);
    assert_eq!(folder.consume("done").len(), MESSAGES);
}

#[test]
fn a_changed_byte_in_the_format_file_is_found() {
    let folder = used();
    let format = folder.log_dir().join("format");
    let text = std::fs::read_to_string(&format).unwrap();
    std::fs::write(&format, text.replace("ready", "reedy")).unwrap();
    fails(
        &folder.run(&["run"], ""),
        1,
        &[folder.path()],
        r#"
error[MS2002]: the log cannot be opened
  why: the log in data/log is damaged
  do: the file `format` cannot be read (unknown variant `reedy`, expected `creating` or `ready` at line 1 column 63). Nothing was changed. Check the disk; restore the folder from a copy, or move it away to begin with an empty log
"#,
    );
}

#[test]
fn a_data_file_that_is_missing_is_named() {
    let folder = used();
    std::fs::remove_file(folder.log_dir().join("acknowledged")).unwrap();
    fails(
        &folder.run(&["run"], ""),
        1,
        &[folder.path()],
        r#"
error[MS2002]: the log cannot be opened
  why: the log in data/log is damaged
  do: the file `acknowledged` is missing. Nothing was changed. Check the disk; restore the folder from a copy, or move it away to begin with an empty log
"#,
    );
}
