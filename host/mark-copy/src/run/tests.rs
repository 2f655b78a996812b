use std::sync::Arc;

use super::*;
use crate::folder::Folder;

fn entry(number: u64) -> Entry {
    let hash = xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes());
    // Every tenth begins as another does.
    let high = (hash >> 64) as u64 & if number.is_multiple_of(10) { 0 } else { u64::MAX };
    let digest = Digest { high, low: hash as u64 };
    Entry { digest, turn: number, expires: 100 + number as i64, scope: 1 }
}

fn sorted(count: u64) -> Vec<Entry> {
    let mut entries: Vec<_> = (0..count).map(entry).collect();
    entries.sort_by_key(|entry| entry.digest);
    entries
}

fn write(folder: &Folder, number: u64, entries: &[Entry]) -> Run {
    let mut writer = RunWriter::create(folder, number, entries.len() as u64, u64::MAX).unwrap();
    for entry in entries {
        writer.push(entry).unwrap();
    }
    writer.finish(folder).unwrap().unwrap()
}

fn all(run: Run) -> Vec<Entry> {
    let mut cursor = Cursor::new(Arc::new(run));
    let mut all = Vec::new();
    while cursor.head().unwrap().is_some() {
        all.extend(cursor.take());
    }
    all
}

#[test]
fn a_run_has_what_was_written_and_nothing_else_also_when_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::own(dir.path()).unwrap();
    for count in [1, 112, 113, 114, 20_000] {
        let entries = sorted(count);
        let made = write(&folder, count, &entries);
        let opened = Run::open(&folder.run(count), count).unwrap();
        assert_eq!(made.filter, opened.filter);
        assert_eq!(made.footer, opened.footer);
        assert_eq!(
            (opened.footer.expires_min, opened.footer.expires_max),
            (100, 99 + count as i64)
        );
        for entry in &entries {
            assert!(opened.may_have(entry.digest));
            assert_eq!(opened.get(entry.digest).unwrap(), Some(*entry));
        }
        for stranger in count..count + 2_000 {
            assert_eq!(opened.get(entry(stranger).digest).unwrap(), None);
        }
        assert_eq!(all(opened), entries);
    }
}

#[test]
fn a_run_without_entries_leaves_nothing_behind_nor_does_one_that_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::own(dir.path()).unwrap();
    let writer = RunWriter::create(&folder, 1, 0, 0).unwrap();
    assert!(writer.finish(&folder).unwrap().is_none());
    let mut writer = RunWriter::create(&folder, 2, 9, 9).unwrap();
    writer.push(&entry(1)).unwrap();
    drop(writer);
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["lock"]);
}

#[test]
fn a_changed_byte_anywhere_is_found_when_it_is_opened_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::own(dir.path()).unwrap();
    let entries = sorted(200);
    write(&folder, 7, &entries);
    let path = folder.run(7);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        std::fs::write(&path, &changed).unwrap();
        let Ok(run) = Run::open(&path, 7) else { continue };
        let found = entries.iter().any(|entry| run.get(entry.digest).is_err());
        assert!(found, "byte {at} of {}", whole.len());
    }
    for length in [0, 1, 63, 64, 4096, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(Run::open(&path, 7).is_err(), "cut to {length}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(Run::open(&path, 8).is_err(), "it is another run");
}
