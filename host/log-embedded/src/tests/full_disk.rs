//! A full disk, a read-only one: on a small tmpfs. Mounting it takes root, or a user namespace
//! (`unshare -rm cargo test …`); without either these tests fail and say so.

use std::process::Command;
use std::sync::Arc;

use millstream_core::log::{LogError, TransactError, Transaction};

use super::*;
use crate::OpenError;

/// A file system of its own, unmounted at the end.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "millstream-test"]).arg(dir.path());
        let mounted = mount.status().is_ok_and(|status| status.success());
        assert!(mounted, "a tmpfs cannot be mounted: run as root, or in `unshare -rm`");
        Self(dir)
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
        match log.append(&megabyte().iter().collect::<Vec<_>>()).await {
            Ok(results) => appended += results.iter().filter(|r| r.is_ok()).count() as u64,
            Err(error) => return (appended, error),
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_noticed_before_it_is_full_and_writing_goes_on_when_there_is_space() {
    let disk = Mounted::new("size=160m");
    let options =
        EmbeddedOptions { reserve_bytes: 64 * MIB, write_buffer_bytes: 4 * MIB, ..options() };
    let log = EmbeddedLog::open(&disk.path(), options.clone()).unwrap();
    log.create_topic(spec("t", 1)).await.unwrap();
    let (consumer, _) = member(&log, "g", &["t"]).await;
    let transaction = Transaction {
        records: vec![record("t", 0, "x")],
        commits: vec![(Partition::new("t", 0), commit_at(1))],
        marks: vec![],
    };
    let mut appended = 0;
    let refused = loop {
        let (more, error) = fill(&log).await;
        appended += more;
        let LogError::Unavailable(text) = &error else { panic!("{error}") };
        assert!(text.contains("is full") && text.contains("free some space"), "{text}");
        match consumer.transact(Arc::new(transaction.clone())).await {
            // The store has freed some space of its own meanwhile.
            Ok(()) => appended += 1,
            Err(refused) => break refused,
        }
    };
    let unavailable = matches!(refused, TransactError::Log(LogError::Unavailable(_)));
    assert!(unavailable, "{refused:?}");
    let read = read_all(&log, "t", 0).await;
    assert_eq!(read.len() as u64, appended, "all that was answered for can be read");

    disk.remount("size=400m");
    consumer.transact(Arc::new(transaction)).await.unwrap();
    let read = read_all(&log, "t", 0).await;
    assert_eq!(read.len() as u64, appended + 1, "the repeated transaction happened once");
    log.close().await;
    let log = EmbeddedLog::open(&disk.path(), options).unwrap();
    assert_eq!(read_all(&log, "t", 0).await.len() as u64, appended + 1);
}

const FOLDER: &str = "MILLSTREAM_TEST_FOLDER";

/// The child, which may write no file beyond 65 MiB: its journal runs into that, with the disk
/// looking empty.
#[tokio::test]
#[ignore = "run by the test below, in a process of its own"]
async fn child_whose_write_fails() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let options = EmbeddedOptions { write_buffer_bytes: 64 * MIB, ..options() };
    let log = EmbeddedLog::open(Path::new(&folder), options).unwrap();
    log.create_topic(spec("t", 1)).await.unwrap();
    let (appended, error) = fill(&log).await;
    let LogError::Fatal(text) = &error else { panic!("{error}") };
    assert!(text.contains("nothing more is written"), "{text}");
    let again = log.append(&[&record("t", 0, "z")]).await.unwrap_err();
    assert_eq!(again, error, "it stays so");
    assert_eq!(read_all(&log, "t", 0).await.len() as u64, appended, "reading goes on");
    log.close().await;
    let mut out = std::io::stdout().lock();
    std::io::Write::write_all(&mut out, format!("\nacked {appended}\n").as_bytes()).unwrap();
}

#[tokio::test]
async fn a_write_that_fails_half_way_is_fatal_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("log");
    // The signal is ignored, so the write fails instead; 133120 blocks of 512 bytes are 65 MiB.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 133120; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--nocapture", "--exact"])
        .arg("tests::full_disk::child_whose_write_fails")
        .env(FOLDER, &folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let acked = text.lines().find_map(|line| line.strip_prefix("acked ")).unwrap();
    let acked: usize = acked.parse().unwrap();
    assert!(acked > 500, "{acked}");
    let log = open(&folder);
    let readable = read_all(&log, "t", 0).await.len();
    // The last write may be there as a whole, though it was not answered for.
    assert!(readable == acked || readable == acked + 16, "{readable} of {acked}");
    append(&log, vec![record("t", 0, "on it goes")]).await;
}

#[tokio::test]
async fn after_a_failed_sync_nothing_more_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let interval = Duration::from_millis(5);
    let durability = Durability::Interval(interval);
    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions { durability, ..options() }).unwrap();
    log.create_topic(spec("t", 1)).await.unwrap();
    append(&log, vec![record("t", 0, "a")]).await;
    // The open files can still be written; what is to be synced is not found.
    let (store, away) = (dir.path().join("store"), dir.path().join("away"));
    std::fs::rename(&store, &away).unwrap();
    let error = loop {
        match log.append(&[&record("t", 0, "b")]).await {
            Ok(_) => tokio::time::sleep(interval).await,
            Err(error) => break error,
        }
    };
    let LogError::Fatal(text) = &error else { panic!("{error}") };
    assert!(text.contains("syncing") && text.contains("power cut"), "{text}");
    std::fs::rename(&away, &store).unwrap();
    let again = log.append(&[&record("t", 0, "c")]).await.unwrap_err();
    assert_eq!(again, error, "a later sync that works proves nothing");
    log.close().await;
    let log = open(dir.path());
    assert!(!read_all(&log, "t", 0).await.is_empty());
}

#[tokio::test]
async fn a_read_only_folder_is_refused() {
    let disk = Mounted::new("size=100m");
    open_with(&disk.path(), &[("t", 1)]).await.close().await;
    disk.remount("ro");
    let Err(error) = EmbeddedLog::open(&disk.path(), options()) else { panic!("opened") };
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
    assert!(error.to_string().contains("read-only"), "{error}");
}

#[tokio::test]
async fn a_disk_without_room_to_begin_says_so() {
    let disk = Mounted::new("size=64k");
    let Err(error) = EmbeddedLog::open(&disk.path(), options()) else {
        panic!("it opened on 64 KiB")
    };
    assert!(matches!(error, OpenError::DiskFull { .. }), "{error}");
    disk.remount("size=100m");
    open_with(&disk.path(), &[("t", 1)]).await.close().await;
}
