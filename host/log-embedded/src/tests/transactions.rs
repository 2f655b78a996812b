use std::sync::Arc;

use millstream_core::idempotency::{IdempotencyStore as _, Mark, Scope};
use millstream_core::log::{LogError, RecordError, TransactError, Transaction};

use super::*;

fn p(number: u32) -> Partition {
    Partition::new("t", number)
}

fn scope(group: &'static str) -> Scope {
    Scope { group: group.into(), partition: p(0) }
}

fn mark(key: &'static str, turn: u64, expires: EpochMs) -> Mark {
    Mark { scope: scope("g").into(), key: key.into(), turn, expires }
}

#[tokio::test]
async fn a_transaction_is_there_as_a_whole_also_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1), ("out", 2)]).await;
    let (consumer, _) = member(&log, "g", &["t"]).await;
    let commit = Commit {
        next: 3,
        settled_above: vec![5..7, 9..10],
        attempts: vec![(4, 2)],
        ..Commit::default()
    };
    consumer
        .transact(Arc::new(Transaction {
            records: vec![record("out", 0, "a"), record("out", 1, "b")],
            marks: vec![mark("k", 3, 100)],
            commits: vec![(p(0), commit.clone())],
        }))
        .await
        .unwrap();
    for round in 0..2 {
        let log = if round == 0 { log.clone() } else { open(dir.path()) };
        assert_eq!(values(&read_all(&log, "out", 0).await), ["a"]);
        assert_eq!(values(&read_all(&log, "out", 1).await), ["b"]);
        let found = log.lookup(&scope("g"), &["k".into(), "l".into()], 50).await.unwrap();
        assert_eq!(found, [Some(3), None]);
        let committed = log.committed("g", &[p(0), Partition::new("out", 0)]).await.unwrap();
        assert_eq!(committed, [Some(commit.clone()), None]);
        assert_eq!(log.committed("other", &[p(0)]).await.unwrap(), [None]);
        log.close().await;
    }
}

#[tokio::test]
async fn an_offender_aborts_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1), ("out", 1)]).await;
    let (consumer, _) = member(&log, "g", &["t"]).await;
    let transaction = Transaction {
        records: vec![record("out", 0, "a"), record("missing", 0, "b")],
        marks: vec![mark("k", 3, 100)],
        commits: vec![(p(0), commit_at(1))],
    };
    let error = consumer.transact(Arc::new(transaction.clone())).await.unwrap_err();
    let TransactError::Offender { index: 1, error: RecordError::UnknownTopic { .. } } = error
    else {
        panic!("{error:?}")
    };
    assert!(read_all(&log, "out", 0).await.is_empty());
    assert_eq!(log.lookup(&scope("g"), &["k".into()], 0).await.unwrap(), [None]);
    assert_eq!(log.committed("g", &[p(0)]).await.unwrap(), [None]);
    let records = transaction.records[..1].to_vec();
    consumer.transact(Arc::new(Transaction { records, ..transaction })).await.unwrap();
    let messages = read_all(&log, "out", 0).await;
    assert_eq!((messages.len(), messages[0].offset), (1, 0), "no offset was used up");
}

#[tokio::test]
async fn who_does_not_own_a_partition_is_fenced() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1), ("t.dlq", 1), ("out", 1)]).await;
    let (consumer, _) = member(&log, "g", &["t"]).await;
    let companion = (Partition::new("t.dlq", 0), commit_at(0));
    consumer.commit(vec![(p(0), commit_at(0)), companion.clone()]).await.unwrap();
    consumer.release(&[p(0)]).await;
    consumer.close().await;
    let fenced = |error: &TransactError| matches!(error, TransactError::Log(LogError::Fenced(_)));
    let with =
        |commits, marks| Transaction { records: vec![record("out", 0, "zombie")], marks, commits };
    let commit = consumer.transact(Arc::new(with(vec![(p(0), commit_at(9))], vec![]))).await;
    assert!(fenced(&commit.unwrap_err()));
    assert!(fenced(&consumer.transact(Arc::new(with(vec![companion], vec![]))).await.unwrap_err()));
    let marked = consumer.transact(Arc::new(with(vec![], vec![mark("k", 1, 1)]))).await;
    assert!(fenced(&marked.unwrap_err()));
    assert!(read_all(&log, "out", 0).await.is_empty(), "nothing of it is visible");
    assert_eq!(log.committed("g", &[p(0)]).await.unwrap(), [Some(commit_at(0))]);
}

#[tokio::test]
async fn bad_names_and_commits_for_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), &[("t", 1)]).await;
    let (consumer, _) = member(&log, "g", &["t"]).await;
    // The number is owned, the topic does not exist.
    let commit = vec![(Partition::new("t.retry.5s", 0), commit_at(0))];
    assert!(matches!(consumer.commit(commit).await, Err(LogError::Fatal(_))));
    let attempts = vec![(0, 1); 200_000];
    let huge = Commit { attempts, ..Commit::default() };
    assert!(matches!(consumer.commit(vec![(p(0), huge)]).await, Err(LogError::Fatal(_))));
    assert!(log.committed("", &[p(0)]).await.is_err());
    assert!(log.committed(&"g".repeat(256), &[p(0)]).await.is_err());
    let long = Scope { group: "g".repeat(256).into(), partition: p(0) };
    let long = Mark { scope: long.into(), ..mark("k", 1, 1) };
    let refused = log.mark(vec![mark("k", 1, 1), long]).await;
    assert!(matches!(refused, Err(LogError::Fatal(_))));
}
