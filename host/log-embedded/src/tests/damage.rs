//! A changed byte anywhere in the folder: the log refuses to open, or to read, or all is intact.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_core::idempotency::{IdempotencyStore as _, Mark, Scope};
use millstream_core::log::{LogError, Transaction};
use tokio::time::Instant;

use super::*;
use crate::OpenError;

const PARTITIONS: u32 = 2;
const WRITES: u32 = 40;

fn small() -> EmbeddedOptions {
    EmbeddedOptions { write_buffer_bytes: 1024 * 1024, tail_bytes: 0, ..options() }
}

fn value(number: u32) -> String {
    // Some large enough for blob files, some small enough for tables.
    let filling = if number.is_multiple_of(3) { 6000 } else { 50 };
    format!("{number}:{}", "x".repeat(filling))
}

fn scope() -> Scope {
    Scope { group: "g".into(), partition: Partition::new("t", 0) }
}

async fn write(consumer: &Arc<dyn Consumer>, number: u32) {
    let partition = number % PARTITIONS;
    let records = (0..20).map(|i| record("t", partition, value(number * 20 + i))).collect();
    let key = Bytes::from(format!("key {number}"));
    let marks =
        vec![Mark { scope: scope().into(), key, turn: u64::from(number), expires: i64::MAX }];
    let commits = vec![(Partition::new("t", 0), commit_at(u64::from(number)))];
    consumer.transact(Arc::new(Transaction { records, marks, commits })).await.unwrap();
}

/// A log with blob files, tables and a journal.
async fn make(dir: &Path) -> Arc<EmbeddedLog> {
    let log = EmbeddedLog::open(dir, small()).unwrap();
    log.create_topic(spec("t", PARTITIONS)).await.unwrap();
    let (consumer, _) = member(&log, "g", &["t"]).await;
    for number in 0..WRITES {
        write(&consumer, number).await;
        if number % 10 == 5 {
            let store = log.shared_for_tests().store().unwrap();
            for keyspace in [&store.messages, &store.state, &store.marks] {
                keyspace.rotate_memtable_and_wait().unwrap();
            }
        }
    }
    log
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Intact,
    RefusedToOpen,
    RefusedToRead,
    Wrong(String),
}

/// Opens a folder that was open a moment before. A program that another test starts at that moment has its lock too, until
/// it has become that program.
async fn open_again(dir: &Path) -> Result<Arc<EmbeddedLog>, OpenError> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match EmbeddedLog::open(dir, small()) {
            Err(OpenError::InUse { .. }) if Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opened => return opened,
        }
    }
}

async fn check(dir: &Path) -> Outcome {
    let log = match open_again(dir).await {
        Ok(log) => log,
        Err(
            OpenError::Damaged { .. }
            | OpenError::NewerFormat { .. }
            | OpenError::OlderFormat { .. },
        ) => {
            return Outcome::RefusedToOpen;
        }
        Err(error) => return Outcome::Wrong(format!("opening: {error}")),
    };
    let outcome = match check_content(&log).await {
        Ok(None) => Outcome::Intact,
        Ok(Some(difference)) => Outcome::Wrong(difference),
        Err(LogError::Fatal(text)) if text.contains("is damaged") => Outcome::RefusedToRead,
        Err(error) => Outcome::Wrong(format!("reading: {error}")),
    };
    log.close().await;
    outcome
}

async fn check_content(log: &EmbeddedLog) -> Result<Option<String>, LogError> {
    if log.topics().await? != [spec("t", PARTITIONS)] {
        return Ok(Some("the topics differ".to_owned()));
    }
    for partition in 0..PARTITIONS {
        let of = Partition::new("t", partition);
        let mut expected = (0..WRITES * 20).filter(|n| n / 20 % PARTITIONS == partition);
        let mut from = 0;
        loop {
            let batch = log.fetch(&of, from, ROOM).await?;
            if batch.messages.is_empty() {
                break;
            }
            from = batch.next;
            for message in batch.messages {
                if message.value != expected.next().map(|n| value(n).into()) {
                    return Ok(Some(format!("{} differs", message.position())));
                }
            }
        }
        if let Some(number) = expected.next() {
            return Ok(Some(format!("{of} ends before message {number}")));
        }
    }
    let committed = log.committed("g", &[Partition::new("t", 0)]).await?;
    if committed != [Some(commit_at(u64::from(WRITES - 1)))] {
        return Ok(Some(format!("committed is {committed:?}")));
    }
    let keys: Vec<_> = (0..WRITES).map(|n| Bytes::from(format!("key {n}"))).collect();
    let marks = log.lookup(&scope(), &keys, 0).await?;
    if marks != (0..WRITES).map(|n| Some(u64::from(n))).collect::<Vec<_>>() {
        return Ok(Some(format!("marks are {marks:?}")));
    }
    Ok(None)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { all.push(path) }
        }
    }
    all.sort();
    all
}

// Without what was reserved at a journal's end, which would be most of it.
fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let used = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
        let kept = if path.extension().is_some_and(|e| e == "jnl") {
            bytes.len().min(used + 100)
        } else {
            bytes.len()
        };
        std::fs::write(target, &bytes[..kept]).unwrap();
    }
}

/// Positions to change: all of a small file, its ends and some in between of a large one.
fn positions(length: usize, count: usize) -> Vec<usize> {
    if length <= count {
        return (0..length).collect();
    }
    let ends = count / 4;
    let mut positions: Vec<_> = (0..ends).chain(length - ends..length).collect();
    let mut seed = length as u64;
    while positions.len() < count {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        positions.push((seed >> 33) as usize % length);
    }
    positions
}

async fn check_every_file(made: &Path, count: usize, name: impl Fn(&str) -> bool) {
    let mut outcomes = std::collections::BTreeMap::<String, [u32; 3]>::new();
    for path in files(made) {
        let relative = path.strip_prefix(made).unwrap().to_owned();
        let kind = relative.to_string_lossy().into_owned();
        let length = std::fs::metadata(&path).unwrap().len() as usize;
        if !name(&kind) {
            continue;
        }
        for at in positions(length, count) {
            let copied = tempfile::tempdir().unwrap();
            copy(made, copied.path());
            let target = copied.path().join(&relative);
            let mut bytes = std::fs::read(&target).unwrap();
            bytes[at] ^= if at % 2 == 0 { 0x01 } else { 0x80 };
            std::fs::write(&target, bytes).unwrap();
            let outcome = check(copied.path()).await;
            let counts = outcomes.entry(kind.clone()).or_default();
            match outcome {
                Outcome::Intact => counts[0] += 1,
                Outcome::RefusedToOpen => counts[1] += 1,
                Outcome::RefusedToRead => counts[2] += 1,
                Outcome::Wrong(how) => panic!("{kind}, byte {at} of {length}: {how}"),
            }
        }
    }
    for (kind, [intact, open, read]) in outcomes {
        use std::io::Write as _;
        writeln!(std::io::stderr(), "{kind}: {intact} intact, {open} at open, {read} at read")
            .unwrap();
    }
}

#[tokio::test]
async fn a_changed_byte_is_refused_or_harmless_after_a_clean_end() {
    let made = tempfile::tempdir().unwrap();
    make(made.path()).await.close().await;
    let copied = tempfile::tempdir().unwrap();
    copy(made.path(), copied.path());
    let whole = tempfile::tempdir().unwrap();
    copy(copied.path(), whole.path());
    assert_eq!(check(whole.path()).await, Outcome::Intact, "undamaged");
    check_every_file(copied.path(), 12, |_| true).await;
}

// The library does not look at the checksum of this list: a changed byte hid the marks of a whole table.
#[tokio::test]
async fn a_changed_byte_in_the_list_of_tables_is_refused() {
    let made = tempfile::tempdir().unwrap();
    make(made.path()).await.close().await;
    let keyspaces = std::fs::read_dir(made.path().join("store/keyspaces")).unwrap();
    let mut bytes_checked = 0;
    for keyspace in keyspaces.map(|entry| entry.unwrap().path()) {
        assert_eq!(crate::manifest::damage(&keyspace), None, "undamaged");
        let current = std::fs::read(keyspace.join("current")).unwrap();
        let number = u64::from_le_bytes(current[..8].try_into().unwrap());
        for file in [keyspace.join("current"), keyspace.join(format!("v{number}"))] {
            let whole = std::fs::read(&file).unwrap();
            for at in 0..whole.len() {
                let mut changed = whole.clone();
                changed[at] ^= 1;
                std::fs::write(&file, changed).unwrap();
                assert!(crate::manifest::damage(&keyspace).is_some(), "{}, {at}", file.display());
                bytes_checked += 1;
            }
            std::fs::write(&file, whole).unwrap();
        }
    }
    assert!(bytes_checked > 300, "{bytes_checked}");
}

#[tokio::test]
async fn a_changed_byte_of_a_journal_is_refused_or_harmless_after_a_crash() {
    let made = tempfile::tempdir().unwrap();
    let log = make(made.path()).await;
    let crashed = tempfile::tempdir().unwrap();
    copy(made.path(), crashed.path());
    log.close().await;
    check_every_file(crashed.path(), 150, |name| name.ends_with(".jnl")).await;
}

#[tokio::test]
async fn a_journal_that_was_cut_is_refused_unless_nothing_acknowledged_is_missing() {
    let made = tempfile::tempdir().unwrap();
    let log = make(made.path()).await;
    let crashed = tempfile::tempdir().unwrap();
    copy(made.path(), crashed.path());
    log.close().await;
    let journal = files(crashed.path())
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "jnl"))
        .unwrap();
    let bytes = std::fs::read(&journal).unwrap();
    let used = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    let cut = async |length: usize| {
        let copied = tempfile::tempdir().unwrap();
        copy(crashed.path(), copied.path());
        let target = copied.path().join(journal.strip_prefix(crashed.path()).unwrap());
        std::fs::write(target, &bytes[..length]).unwrap();
        check(copied.path()).await
    };
    assert_eq!(cut(used).await, Outcome::Intact);
    for length in [0, 1, 100, used / 2, used - 100, used - 1] {
        assert_eq!(cut(length).await, Outcome::RefusedToOpen, "cut at {length} of {used}");
    }
}

#[tokio::test]
async fn a_file_that_is_missing_is_refused() {
    let made = tempfile::tempdir().unwrap();
    make(made.path()).await.close().await;
    for path in files(made.path()) {
        let relative = path.strip_prefix(made.path()).unwrap();
        let copied = tempfile::tempdir().unwrap();
        copy(made.path(), copied.path());
        std::fs::remove_file(copied.path().join(relative)).unwrap();
        let outcome = match open_again(copied.path()).await {
            // Without `format` the folder is not known to be ours, which is as good.
            Err(OpenError::NotOurs { .. }) => Outcome::RefusedToOpen,
            opened => {
                if let Ok(log) = opened {
                    // Dropped, it would let go of the folder in its own time.
                    log.close().await;
                }
                check(copied.path()).await
            }
        };
        let name = relative.to_string_lossy();
        assert!(!matches!(outcome, Outcome::Wrong(_)), "{name}: {outcome:?}");
        // Lock files hold nothing, versions of tables that were replaced are not asked for, and the index is made anew.
        let index = name.starts_with("marks/");
        assert!(!index || outcome == Outcome::Intact, "{name}: {outcome:?}");
        let harmless = index || name.ends_with("lock") || name.contains("/v");
        assert!(harmless || outcome != Outcome::Intact, "{name} is not missed");
    }
}
