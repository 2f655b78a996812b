//! Idempotency marks: in the log with what they mark, in the index beside it, through kills and power cuts.

use std::path::PathBuf;

use millstream_core::idempotency::{IdempotencyStore as _, Mark, Scope};
use millstream_core::log::{LogError, Transaction};

use super::*;

fn scope(group: &'static str) -> Scope {
    Scope { group: group.into(), partition: Partition::new("t", 0) }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key {number:05}"))
}

fn mark(number: u64, expires: EpochMs) -> Mark {
    Mark { scope: scope("g").into(), key: key(number), turn: number, expires }
}

async fn turns(log: &EmbeddedLog, numbers: std::ops::Range<u64>, now: EpochMs) -> Vec<Option<u64>> {
    let keys: Vec<_> = numbers.map(key).collect();
    log.lookup(&scope("g"), &keys, now).await.unwrap()
}

/// How many writes have marks in the log.
fn marked_writes(log: &EmbeddedLog) -> usize {
    log.shared_for_tests().store().unwrap().marks.iter().count()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target): (PathBuf, _) = match entry {
            Ok(entry) => (entry.path(), to.join(entry.file_name())),
            Err(_) => continue,
        };
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(path, target).ok();
        }
    }
}

#[tokio::test]
async fn marks_expire_by_time_and_their_writes_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::at(0);
    let options = EmbeddedOptions { clock: clock.clone(), ..options() };
    let log = EmbeddedLog::open(dir.path(), options.clone()).unwrap();
    log.mark(vec![mark(1, 100)]).await.unwrap();
    log.mark(vec![mark(2, 1000), mark(3, 100)]).await.unwrap();
    log.mark(vec![mark(4, 100)]).await.unwrap();
    assert_eq!(turns(&log, 1..5, 99).await, [Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(turns(&log, 1..5, 100).await, [None, Some(2), None, None], "absent");
    let other = log.lookup(&scope("h"), &[key(1)], 0).await.unwrap();
    assert_eq!(other, [None], "another group's keys are its own");
    clock.set(100);
    log.sweep().await.unwrap();
    assert_eq!(marked_writes(&log), 1, "one has a mark that counts");
    log.mark(vec![mark(1, 500)]).await.unwrap();
    log.sweep().await.unwrap();
    assert_eq!(turns(&log, 1..5, 100).await, [Some(1), Some(2), None, None]);
    log.close().await;
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    assert_eq!(turns(&log, 1..5, 100).await, [Some(1), Some(2), None, None]);
    clock.set(2000);
    log.sweep().await.unwrap();
    assert_eq!(marked_writes(&log), 0);
}

#[tokio::test]
async fn thousands_of_writes_with_marks_are_swept_in_steps() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::at(0);
    let options = EmbeddedOptions { clock: clock.clone(), ..options() };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    let expires = |number: u64| if number.is_multiple_of(5) { 1000 } else { 10 };
    for number in 0..2_500 {
        log.mark(vec![mark(number, expires(number))]).await.unwrap();
    }
    clock.set(10);
    log.sweep().await.unwrap();
    assert_eq!(marked_writes(&log), 500);
    let found = turns(&log, 0..2_500, 10).await;
    for (number, turn) in (0_u64..).zip(found) {
        assert_eq!(turn, number.is_multiple_of(5).then_some(number), "key {number}");
    }
}

// What a kill takes of the index are the marks in memory: all of them are in the log.
#[tokio::test]
async fn after_a_kill_every_acknowledged_mark_is_there_with_and_without_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for begin in (0..20_000).step_by(100) {
        log.mark((begin..begin + 100).map(|number| mark(number, i64::MAX)).collect())
            .await
            .unwrap();
        if begin == 10_000 {
            log.shared_for_tests().store().unwrap().index.flush().unwrap();
        }
    }
    let killed = tempfile::tempdir().unwrap();
    copy(dir.path(), killed.path());
    log.close().await;
    let expected: Vec<_> = (0..20_000).map(Some).chain([None]).collect();
    for index in ["as it was", "lost", "nonsense"] {
        let folder = killed.path().join("marks");
        match index {
            "lost" => std::fs::remove_dir_all(&folder).unwrap(),
            "nonsense" => std::fs::write(folder.join("manifest"), "{}").unwrap(),
            _ => {}
        }
        let log = open(killed.path());
        assert!(turns(&log, 0..20_001, 0).await == expected, "{index}");
        log.close().await;
    }
}

// The index syncs what it writes, the log by interval: after a power cut the index may know of writes that the log has not.
#[tokio::test]
async fn an_index_that_is_ahead_of_the_log_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.mark(vec![mark(1, i64::MAX)]).await.unwrap();
    log.close().await;
    let cut = tempfile::tempdir().unwrap();
    copy(dir.path(), cut.path());
    let log = open(dir.path());
    log.mark(vec![mark(2, i64::MAX)]).await.unwrap();
    log.close().await;
    std::fs::remove_dir_all(cut.path().join("marks")).unwrap();
    copy(&dir.path().join("marks"), &cut.path().join("marks"));
    for round in 0..3 {
        let log = open(cut.path());
        assert_eq!(
            turns(&log, 1..3, 0).await,
            [Some(1), None],
            "round {round}: what the log has not was never handled"
        );
        if round > 0 {
            // Numbers of writes are given again.
            log.mark(vec![mark(1, i64::MAX)]).await.unwrap();
        }
        log.close().await;
    }
}

#[tokio::test]
async fn an_index_of_another_log_is_made_anew() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, number) in [(&one, 1), (&other, 2)] {
        let log = open(dir.path());
        log.mark(vec![mark(number, i64::MAX)]).await.unwrap();
        log.close().await;
    }
    std::fs::remove_dir_all(one.path().join("marks")).unwrap();
    copy(&other.path().join("marks"), &one.path().join("marks"));
    let log = open(one.path());
    assert_eq!(turns(&log, 1..3, 0).await, [Some(1), None]);
}

#[tokio::test]
async fn an_index_that_cannot_be_written_holds_up_marks_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1)]).await;
    // The index' files have nowhere to go; its buffers take what they hold.
    let (marks, away) = (dir.path().join("marks"), dir.path().join("away"));
    std::fs::rename(&marks, &away).unwrap();
    let mut marked = 0;
    let error = loop {
        let batch = (marked..marked + 40_000).map(|number| mark(number, i64::MAX));
        match log.mark(batch.collect()).await {
            Ok(()) => marked += 40_000,
            Err(error) => break error,
        }
    };
    let LogError::Unavailable(text) = &error else { panic!("{error}") };
    assert!(text.contains("cannot be written") && text.contains("tried again"), "{text}");
    assert!(marked >= 400_000, "{marked} fit into memory");
    append(&log, vec![record("t", 0, "a")]).await;
    let refused = Transaction { marks: vec![mark(marked, i64::MAX)], ..Transaction::default() };
    let records = [record("t", 0, "b")];
    let error = log.append(&records.iter().collect::<Vec<_>>()).await;
    assert!(error.is_ok());
    assert_eq!(values(&read_all(&log, "t", 0).await), ["a", "b"]);
    let sample = |log: Arc<EmbeddedLog>| async move {
        for begin in (0..marked).step_by(97_000) {
            assert_eq!(turns(&log, begin..begin + 1, 0).await, [Some(begin)]);
        }
        assert_eq!(turns(&log, marked..marked + 1, 0).await, [None], "it was refused");
    };
    sample(log.clone()).await;
    std::fs::rename(&away, &marks).unwrap();
    // It is tried once a second.
    while let Err(error) = log.mark(refused.marks.clone()).await {
        assert!(matches!(error, LogError::Unavailable(_)), "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    log.close().await;
    let log = open(dir.path());
    assert_eq!(turns(&log, marked..marked + 1, 0).await, [Some(marked)]);
    assert_eq!(turns(&log, 0..1, 0).await, [Some(0)]);
}

// The long form: what a host waits for at its start when its index is lost.
#[tokio::test]
async fn a_lost_index_of_a_million_marks_is_made_anew_within_ten_seconds() {
    if std::env::var_os("MILLSTREAM_SOAK").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for begin in (0..1_000_000).step_by(1_000) {
        let marks = (begin..begin + 1_000).map(|number| mark(number, i64::MAX));
        log.mark(marks.collect()).await.unwrap();
    }
    log.close().await;
    std::fs::remove_dir_all(dir.path().join("marks")).unwrap();
    let begin = tokio::time::Instant::now();
    let log = open(dir.path());
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    for begin in (0..1_000_000).step_by(99_000) {
        assert_eq!(turns(&log, begin..begin + 1, 0).await, [Some(begin)]);
    }
    use std::io::Write as _;
    writeln!(std::io::stderr(), "a million marks indexed anew in {took:?}").unwrap();
}
