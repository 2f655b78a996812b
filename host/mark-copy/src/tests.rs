use super::*;
use millstream_core::clock::SystemClock;
use millstream_core::message::Partition;

fn open_copy(folder: &Path) -> Result<DiskCopy, OpenError> {
    DiskCopy::open(folder, Arc::new(SystemClock))
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

#[tokio::test]
async fn what_was_put_is_there_after_opening_again_with_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let copy = open_copy(dir.path()).unwrap();
    assert_eq!(copy.checkpoint(&scope(0)).await.unwrap(), None);
    copy.put(&scope(0), vec![("a".into(), marked(7, 100))], Some(12)).await.unwrap();
    copy.put(&scope(0), vec![("b".into(), marked(9, 100))], None).await.unwrap();
    copy.put(&scope(1), vec![("a".into(), marked(1, 100))], None).await.unwrap();
    copy.close();
    drop(copy);
    let copy = open_copy(dir.path()).unwrap();
    assert_eq!(copy.checkpoint(&scope(0)).await.unwrap(), Some(12));
    let found = copy.get(&scope(0), &keys(&["b", "c", "a"])).await.unwrap();
    assert_eq!(found, [Some(marked(9, 100)), None, Some(marked(7, 100))]);
    let found = copy.get(&scope(1), &keys(&["a"])).await.unwrap();
    assert_eq!(found, [Some(marked(1, 100))], "a scope of its own");
    assert_eq!(copy.checkpoint(&scope(1)).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_discarded_is_gone_and_swept_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let copy = open_copy(dir.path()).unwrap();
    copy.put(&scope(0), vec![("a".into(), marked(1, 100))], Some(5)).await.unwrap();
    copy.put(&scope(1), vec![("a".into(), marked(2, 100))], Some(6)).await.unwrap();
    copy.discard(&scope(0)).await.unwrap();
    assert_eq!(copy.checkpoint(&scope(0)).await.unwrap(), None);
    assert_eq!(copy.get(&scope(0), &keys(&["a"])).await.unwrap(), [None]);
    copy.put(&scope(0), vec![("b".into(), marked(3, 100))], None).await.unwrap();
    copy.sweep(0).unwrap();
    assert_eq!(copy.store.marks.iter().count(), 2, "the discarded one is removed");
    assert_eq!(
        copy.get(&scope(0), &keys(&["a", "b"])).await.unwrap(),
        [None, Some(marked(3, 100))]
    );
    assert_eq!(copy.get(&scope(1), &keys(&["a"])).await.unwrap(), [Some(marked(2, 100))]);
    assert_eq!(copy.checkpoint(&scope(1)).await.unwrap(), Some(6));
}

#[tokio::test]
async fn a_sweep_removes_what_has_expired_across_its_steps() {
    let dir = tempfile::tempdir().unwrap();
    let copy = open_copy(dir.path()).unwrap();
    let all = (0..2 * SWEEP_STEP as u64 + 5).map(|turn| {
        let expires = if turn % 2 == 0 { 10 } else { 20 };
        (Bytes::from(format!("{turn:08}")), marked(turn, expires))
    });
    copy.put(&scope(0), all.collect(), None).await.unwrap();
    copy.sweep(10).unwrap();
    assert_eq!(copy.store.marks.iter().count(), SWEEP_STEP + 2);
    copy.sweep(20).unwrap();
    assert_eq!(copy.store.marks.iter().count(), 0);
}

#[tokio::test]
async fn a_damaged_copy_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("marks");
    let copy = open_copy(&folder).unwrap();
    copy.put(&scope(0), vec![("a".into(), marked(1, 100))], Some(5)).await.unwrap();
    copy.close();
    drop(copy);
    let mut damaged = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::write(&path, b"nothing of ours").unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    let copy = open_copy(&folder).unwrap();
    assert_eq!(copy.checkpoint(&scope(0)).await.unwrap(), None);
    assert_eq!(copy.get(&scope(0), &keys(&["a"])).await.unwrap(), [None]);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = open_copy(&file.join("marks")).err().unwrap().to_string();
    assert!(error.contains("file/marks"), "{error}");
}
