//! Versions of a plugin that tell, in each output, which of them made it.

use std::collections::BTreeMap;

use millstream_guest_builder::guest;

use crate::folder::Folder;

/// What stands in the guest before its version's name, and how much room that has.
const MARK: &[u8] = b"the name of this version stands here: ";
const NAME_BYTES: usize = 26;

/// Puts the version of this name into a folder, as `NAME.wasm`.
///
/// # Panics
/// When the guest has no place for a name.
pub fn put_version(folder: &Folder, name: &str) {
    let mut bytes = std::fs::read(guest("versioned")).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - MARK.len()).filter(|at| bytes[*at..].starts_with(MARK)).collect();
    assert!(!places.is_empty() && name.len() <= NAME_BYTES, "no place for the name");
    for at in places {
        let name = format!("{name:<NAME_BYTES$}");
        bytes[at + MARK.len()..][..NAME_BYTES].copy_from_slice(name.as_bytes());
    }
    std::fs::write(folder.path().join(format!("{name}.wasm")), bytes).unwrap();
}

/// How many outputs each version made. Each of the numbers `0..sent` must have been handled once, by one version.
///
/// # Panics
/// When one is missing, or there twice.
pub fn made_once<'a>(
    outputs: impl IntoIterator<Item = &'a str>,
    sent: usize,
) -> BTreeMap<String, usize> {
    let mut by: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    let mut made = BTreeMap::new();
    for output in outputs {
        let (number, version) = output.split_once(' ').unwrap();
        by.entry(number.parse().unwrap()).or_default().push(version);
        *made.entry(version.to_owned()).or_insert(0) += 1;
    }
    let missing: Vec<usize> = (0..sent).filter(|number| !by.contains_key(number)).collect();
    assert!(missing.is_empty(), "{} are lost, the first {:?}", missing.len(), missing.first());
    let twice: Vec<_> = by.iter().filter(|(_, versions)| versions.len() > 1).take(10).collect();
    assert!(twice.is_empty(), "handled more than once: {twice:?}");
    assert_eq!(by.len(), sent, "more than was sent");
    made
}
