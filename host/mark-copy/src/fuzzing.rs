//! For `fuzz/` only: what an index has on the disk, with any bytes in it, their checksums right. No part of the
//! crate's promises.

use std::sync::Arc;

use crate::digest::{Digest, Secret};
use crate::entry::Entry;
use crate::manifest::{Manifest, RunEntry};
use crate::run::Footer;

/// Reads an entry, a footer and a manifest.
///
/// # Panics
/// If it is another one after it was written again.
pub fn stored(bytes: &[u8]) {
    if let Some(entry) = Entry::decode(bytes) {
        let mut again = Vec::new();
        entry.encode_into(&mut again);
        assert_eq!(again, bytes);
    }
    let footer = [b"MSMARKS1", bytes].concat();
    let footer = [footer.as_slice(), &xxhash_rust::xxh3::xxh3_64(&footer).to_le_bytes()].concat();
    if let Some(decoded) = Footer::decode(&footer) {
        assert_eq!(decoded.encode(), footer);
    }
    let checksum = format!("{:016x}\n", xxhash_rust::xxh3::xxh3_64(bytes));
    if let Ok(manifest) = Manifest::decode(&[checksum.as_bytes(), bytes].concat()) {
        let again = manifest.encode().ok().and_then(|again| Manifest::decode(&again).ok());
        assert_eq!(again, Some(manifest));
    }
}

/// Opens these bytes as run 1, their checksums made right, and asks it for everything in it.
///
/// # Panics
/// If it is not refused, and an entry that is read is not found.
pub fn run(folder: &std::path::Path, bytes: &[u8]) {
    let path = folder.join("1.run");
    if std::fs::write(&path, crate::run::sealed(1, bytes)).is_err() {
        return;
    }
    let Ok(run) = crate::run::Run::open(&path, 1) else { return };
    let run = Arc::new(run);
    let mut cursor = crate::run::Cursor::new(Arc::clone(&run));
    while let Ok(Some(_)) = cursor.head() {
        if let Some(entry) = cursor.take() {
            run.get(entry.digest).ok();
        }
    }
}

/// Inputs to begin with: a run that was written, a manifest, a footer and an entry.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let entry = Entry { digest: Digest { high: 1, low: 2 }, turn: 3, expires: 4, scope: 5 };
    let mut manifest = Manifest::new("cluster", Secret([7; 16]));
    manifest.runs.push(RunEntry { number: 1, level: 0 });
    manifest.next_run = 2;
    let manifest = manifest.encode().unwrap_or_default().split_off(17);
    let (entries, filter_blocks) = (1, 1);
    let footer =
        Footer { run: 1, entries, filter_blocks, expires_min: 4, expires_max: 4, checksum: 0 };
    let mut entry_bytes = Vec::new();
    entry.encode_into(&mut entry_bytes);
    let footer = footer.encode();
    let body = footer.get(8..footer.len() - 8).unwrap_or_default();
    let run = [vec![0], entry_bytes.clone(), vec![0; 4096 - 36 + 8 + 64], footer.clone()];
    vec![
        ("run", run.concat()),
        ("manifest", [b"1", manifest.as_slice()].concat()),
        ("footer", [b"1", body].concat()),
        ("entry", [b"1", entry_bytes.as_slice()].concat()),
    ]
}
