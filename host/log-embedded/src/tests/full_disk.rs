//! A full disk, a read-only one: on a small tmpfs, where the system lets a test mount one.

use std::process::Command;

use millstream_core::log::{LogError, TransactError, Transaction};

use super::*;
use crate::OpenError;

/// A file system of its own, unmounted at the end.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// `None` where mounting is not permitted: then there is nothing to test on.
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "millstream-test"]).arg(dir.path());
        let mounted = mount.status().is_ok_and(|status| status.success());
        mounted.then_some(Self(dir))
    }

    fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(self.0.path());
        assert!(mount.status().unwrap().success());
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("log")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

const MIB: u64 = 1024 * 1024;

fn megabyte() -> Vec<Record> {
    (0..16).map(|_| record("t", 0, vec![b'x'; 64 * 1024])).collect()
}

async fn fill(log: &EmbeddedLog) -> (u64, LogError) {
    let mut appended = 0;
    loop {
        match log.append(megabyte()).await {
            Ok(results) => appended += results.iter().filter(|r| r.is_ok()).count() as u64,
            Err(error) => return (appended, error),
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_noticed_before_it_is_full_and_writing_goes_on_when_there_is_space() {
    let Some(disk) = Mounted::new("size=160m") else { return };
    let options = EmbeddedOptions {
        reserve_bytes: 64 * MIB,
        write_buffer_bytes: 4 * MIB,
        ..options()
    };
    let log = EmbeddedLog::open(&disk.path(), options.clone()).unwrap();
    log.create_topic(spec("t", 1)).await.unwrap();
    let (consumer, _) = member(&log, "g", &["t"]).await;
    let (appended, error) = fill(&log).await;
    let LogError::Unavailable(text) = &error else { panic!("{error}") };
    assert!(text.contains("is full") && text.contains("free some space"), "{text}");
    let transaction = Transaction {
        records: vec![record("t", 0, "x")],
        commits: vec![(Partition::new("t", 0), commit_at(1))],
        marks: vec![],
    };
    let refused = consumer.transact(transaction.clone()).await;
    let unavailable = matches!(refused, Err(TransactError::Log(LogError::Unavailable(_))));
    assert!(unavailable, "{refused:?}");
    let read = read_all(&log, "t", 0).await;
    assert_eq!(read.len() as u64, appended, "all that was answered for can be read");

    disk.remount("size=400m");
    consumer.transact(transaction).await.unwrap();
    let read = read_all(&log, "t", 0).await;
    assert_eq!(read.len() as u64, appended + 1, "the repeated transaction happened once");
    log.close().await;
    let log = EmbeddedLog::open(&disk.path(), options).unwrap();
    assert_eq!(read_all(&log, "t", 0).await.len() as u64, appended + 1);
}

#[tokio::test]
async fn a_write_that_fails_on_the_disk_is_fatal_and_nothing_acknowledged_is_lost() {
    let Some(disk) = Mounted::new("size=100m") else { return };
    // No reserve: the disk is run into.
    let options =
        EmbeddedOptions { reserve_bytes: 0, write_buffer_bytes: 4 * MIB, ..options() };
    let log = EmbeddedLog::open(&disk.path(), options.clone()).unwrap();
    log.create_topic(spec("t", 1)).await.unwrap();
    // Somebody else takes what is left faster than anybody looks.
    let (appended, error) = loop {
        let (appended, error) = fill(&log).await;
        if matches!(error, LogError::Fatal(_)) {
            break (appended, error);
        }
        disk.remount("size=104m");
        let filler = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(disk.0.path().join("other"))
            .unwrap();
        let mut filler = filler;
        while std::io::Write::write(&mut filler, &[1; 4096]).is_ok_and(|n| n > 0) {}
        let before = read_all(&log, "t", 0).await.len() as u64;
        // The space guard still believes its last look for a moment; a small write gets through it
        // or not, and either way says which.
        match log.append(vec![record("t", 0, vec![b'y'; 64 * 1024])]).await {
            Err(error @ LogError::Fatal(_)) => break (before, error),
            Err(LogError::Unavailable(_)) => break (before, LogError::Fatal(String::new())),
            other => panic!("{other:?} with {appended} appended"),
        }
    };
    if let LogError::Fatal(text) = &error
        && !text.is_empty()
    {
        assert!(text.contains("nothing more is written"), "{text}");
        let again = log.append(vec![record("t", 0, "z")]).await.unwrap_err();
        assert_eq!(again, error, "it stays so");
    }
    let readable = read_all(&log, "t", 0).await.len() as u64;
    assert!(readable >= appended);
    log.close().await;
    disk.remount("size=400m");
    let log = EmbeddedLog::open(&disk.path(), options).unwrap();
    let after = read_all(&log, "t", 0).await.len() as u64;
    assert!(after >= readable, "{after} messages of {readable}");
    append(&log, vec![record("t", 0, "on it goes")]).await;
}

#[tokio::test]
async fn a_read_only_folder_is_refused() {
    let Some(disk) = Mounted::new("size=100m") else { return };
    open_with(&disk.path(), &[("t", 1)]).await.close().await;
    disk.remount("ro");
    let Err(error) = EmbeddedLog::open(&disk.path(), options()) else { panic!("opened") };
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
    assert!(error.to_string().contains("read-only"), "{error}");
}

#[tokio::test]
async fn a_disk_without_room_to_begin_says_so() {
    let Some(disk) = Mounted::new("size=64k") else { return };
    let Err(error) = EmbeddedLog::open(&disk.path(), options()) else { return };
    assert!(matches!(error, OpenError::DiskFull { .. }), "{error}");
    disk.remount("size=100m");
    open_with(&disk.path(), &[("t", 1)]).await.close().await;
}
