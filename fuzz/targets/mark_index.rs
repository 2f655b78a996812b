//! The files of the index of idempotency marks: whatever stands in them is refused or read, and what is read is the same
//! when it is written again. The first byte says what the rest is: a run as a whole, or what has a checksum of its own.
#![no_main]

use std::cell::LazyCell;

use libfuzzer_sys::fuzz_target;
use millstream_mark_copy::fuzzing;

thread_local! {
    static FOLDER: LazyCell<tempfile::TempDir> =
        LazyCell::new(|| tempfile::tempdir().expect("a folder is made"));
}

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((0, run)) => FOLDER.with(|folder| fuzzing::run(folder.path(), run)),
        Some((_, stored)) => fuzzing::stored(stored),
        None => {}
    }
});
