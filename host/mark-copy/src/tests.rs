use millstream_core::clock::SystemClock;
use millstream_core::message::Partition;

use super::*;

fn open_copy(folder: &Path) -> Result<DiskCopy, OpenError> {
    DiskCopy::open(folder, IndexOptions::new("cluster", Arc::new(SystemClock)))
}

fn scope(number: u32) -> Scope {
    Scope { group: "group".into(), partition: Partition::new("topic", number) }
}

fn marked(turn: u64, expires: i64) -> Marked {
    Marked { turn, expires }
}

fn keys(keys: &[&'static str]) -> Vec<Bytes> {
    keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect()
}

const NEVER: i64 = i64::MAX;

#[tokio::test]
async fn what_was_put_is_there_after_opening_again_with_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let copy = open_copy(dir.path()).unwrap();
    assert_eq!(copy.checkpoint(&scope(0)).await.unwrap(), None);
    copy.put(&scope(0), vec![("a".into(), marked(7, NEVER))], Some(12)).await.unwrap();
    copy.put(&scope(0), vec![("b".into(), marked(9, NEVER))], None).await.unwrap();
    copy.put(&scope(1), vec![("a".into(), marked(1, NEVER))], None).await.unwrap();
    copy.close();
    drop(copy);
    let copy = open_copy(dir.path()).unwrap();
    assert_eq!(copy.checkpoint(&scope(0)).await.unwrap(), Some(12));
    let found = copy.get(&scope(0), &keys(&["b", "c", "a"])).await.unwrap();
    assert_eq!(found, [Some(marked(9, NEVER)), None, Some(marked(7, NEVER))]);
    let found = copy.get(&scope(1), &keys(&["a"])).await.unwrap();
    assert_eq!(found, [Some(marked(1, NEVER))], "a scope of its own");
    assert_eq!(copy.checkpoint(&scope(1)).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_discarded_is_gone_and_nothing_else_is_also_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut copy = open_copy(dir.path()).unwrap();
    copy.put(&scope(0), vec![("a".into(), marked(1, NEVER))], Some(5)).await.unwrap();
    copy.put(&scope(1), vec![("a".into(), marked(2, NEVER))], Some(6)).await.unwrap();
    copy.index.flush().unwrap();
    copy.discard(&scope(0)).await.unwrap();
    for round in 0..3 {
        assert_eq!(copy.checkpoint(&scope(0)).await.unwrap(), None, "round {round}");
        let expected = if round == 0 { None } else { Some(marked(3, NEVER)) };
        let found = copy.get(&scope(0), &keys(&["a", "b"])).await.unwrap();
        assert_eq!(found, [None, expected], "round {round}");
        let found = copy.get(&scope(1), &keys(&["a"])).await.unwrap();
        assert_eq!(found, [Some(marked(2, NEVER))]);
        assert_eq!(copy.checkpoint(&scope(1)).await.unwrap(), Some(6));
        copy.put(&scope(0), vec![("b".into(), marked(3, NEVER))], None).await.unwrap();
        copy.close();
        drop(copy);
        copy = open_copy(dir.path()).unwrap();
    }
}

// A discarded scope whose old checkpoint came back would be believed to be complete.
#[tokio::test]
async fn a_discarded_scope_has_no_checkpoint_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let copy = open_copy(dir.path()).unwrap();
    copy.put(&scope(0), vec![("a".into(), marked(1, NEVER))], Some(5)).await.unwrap();
    copy.index.flush().unwrap();
    copy.discard(&scope(0)).await.unwrap();
    copy.put(&scope(0), vec![("b".into(), marked(1, NEVER))], Some(7)).await.unwrap();
    // As it is when the process dies here: what is in memory is lost.
    let killed = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), killed.path().join(entry.file_name())).unwrap();
    }
    let after = open_copy(killed.path()).unwrap();
    assert_eq!(after.checkpoint(&scope(0)).await.unwrap(), None);
    assert_eq!(after.get(&scope(0), &keys(&["a", "b"])).await.unwrap(), [None, None]);
}

#[tokio::test]
async fn what_lies_there_that_is_no_copy_of_this_cluster_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("marks");
    std::fs::create_dir_all(folder.join("keyspaces/0")).unwrap();
    std::fs::write(folder.join("keyspaces/0/current"), b"of an earlier version").unwrap();
    let copy = open_copy(&folder).unwrap();
    assert!(!folder.join("keyspaces").exists());
    copy.put(&scope(0), vec![("a".into(), marked(1, NEVER))], Some(5)).await.unwrap();
    copy.close();
    drop(copy);
    let other = IndexOptions::new("another cluster", Arc::new(SystemClock));
    let copy = DiskCopy::open(&folder, other).unwrap();
    assert_eq!(copy.checkpoint(&scope(0)).await.unwrap(), None);
    assert_eq!(copy.get(&scope(0), &keys(&["a"])).await.unwrap(), [None]);
    assert_eq!(copy.index.size_bytes(), 0);
}

#[test]
fn a_folder_that_cannot_be_made_is_named_and_one_that_is_taken_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = open_copy(&file.join("marks")).err().unwrap().to_string();
    assert!(error.contains("file/marks"), "{error}");
    let _first = open_copy(&dir.path().join("marks")).unwrap();
    let error = open_copy(&dir.path().join("marks")).err().unwrap().to_string();
    assert!(error.contains("another process has it"), "{error}");
}
