//! Manifest: whether the storage library's list of a keyspace's tables is the one it wrote.
//!
//! Before the library opens the store, beside `journal`. fjall stores a checksum of the list and does not look at it
//! (lsm-tree 3.1, `version::recovery`): a changed byte in it can hide entries of a table without a word, and hidden
//! are acknowledged messages.
//!
//! Boundary: knows how lsm-tree 3 writes it: `current` has the number of the list (u64), the XXH3 of its file (u128)
//! and the kind of checksum (u8, 0), little endian. The store's version marker is checked before.

use std::path::Path;

const KIND_XXH3: u8 = 0;

/// What is wrong with the list of the keyspace in this folder, if anything.
pub(crate) fn damage(keyspace: &Path) -> Option<String> {
    let current = keyspace.join("current");
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| format!("{} cannot be read ({error})", path.display()))
    };
    let whole = || {
        let bytes = read(&current)?;
        let makes_no_sense = || format!("{} makes no sense", current.display());
        let (number, rest) = bytes.split_first_chunk().ok_or_else(makes_no_sense)?;
        let (checksum, rest) = rest.split_first_chunk().ok_or_else(makes_no_sense)?;
        if rest != [KIND_XXH3] {
            return Err(makes_no_sense());
        }
        let list = keyspace.join(format!("v{}", u64::from_le_bytes(*number)));
        if xxhash_rust::xxh3::xxh3_128(&read(&list)?) != u128::from_le_bytes(*checksum) {
            return Err(format!("the checksum of {} does not match", list.display()));
        }
        Ok(())
    };
    whole().err()
}
