use super::*;

fn identity() -> Identity {
    let marks_secret = serde_json::from_value(vec![7; 16].into()).unwrap();
    Identity { cluster_id: "id".to_owned(), marks_secret }
}

fn made(path: &Path) {
    let folder = Folder::own(path).unwrap();
    folder.begin(&identity()).unwrap();
    std::fs::create_dir_all(folder.store().join("keyspaces/0")).unwrap();
    std::fs::write(folder.store().join("version"), STORE_VERSION).unwrap();
    let keyspace = folder.store().join("keyspaces/0");
    std::fs::write(keyspace.join("v7"), "tables").unwrap();
    let checksum = xxhash_rust::xxh3::xxh3_128(b"tables").to_le_bytes();
    let current = [7_u64.to_le_bytes().as_slice(), checksum.as_slice(), &[0]].concat();
    std::fs::write(keyspace.join("current"), current).unwrap();
    folder.ready(&identity(), vec!["0".to_owned()]).unwrap();
}

#[test]
fn a_second_owner_is_told_who_has_the_folder_and_where_to_reach_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Folder::own(dir.path()).unwrap();
    let error = Folder::own(dir.path()).unwrap_err();
    let pid = std::process::id();
    assert!(error.to_string().contains(&format!("in use by process {pid}: stop it")), "{error}");
    first.announce(Some("127.0.0.1:9464")).unwrap();
    let error = Folder::own(dir.path()).unwrap_err();
    assert!(error.to_string().contains("admin API at 127.0.0.1:9464"), "{error}");
    assert!(matches!(error, OpenError::InUse { pid: Some(p), .. } if p == pid));
    drop(first);
    Folder::own(dir.path()).unwrap();
}

#[test]
fn a_folder_that_is_not_ours_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
    let error = Folder::own(dir.path()).unwrap_err();
    assert!(matches!(&error, OpenError::NotOurs { found, .. } if found == "thesis.txt"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was added");
}

#[test]
fn a_file_in_place_of_the_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "").unwrap();
    assert!(matches!(Folder::own(&path), Err(OpenError::NotAFolder { .. })));
    assert!(matches!(Folder::own(&path.join("below")), Err(OpenError::NotAFolder { .. })));
}

#[test]
fn another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let path = dir.path().join("format");
    let folder = Folder::own(dir.path()).unwrap();
    let found = |version| {
        let text = format!(r#"{{"format":"{KIND}","version":{version},"what_we_do_not_know":1}}"#);
        std::fs::write(&path, text).unwrap();
        folder.format().unwrap_err()
    };
    let error = found(5);
    assert!(matches!(error, OpenError::NewerFormat { found: 5, known: 4, .. }), "{error}");
    let error = found(3);
    assert!(matches!(error, OpenError::OlderFormat { found: 3, known: 4, .. }), "{error}");
}

#[test]
fn every_changed_byte_of_the_format_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let path = dir.path().join("format");
    let whole = std::fs::read(&path).unwrap();
    let folder = Folder::own(dir.path()).unwrap();
    assert_eq!(folder.format().unwrap().unwrap().identity, identity());
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            std::fs::write(&path, &changed).unwrap();
            assert!(folder.format().is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn a_store_that_lacks_a_file_is_not_begun_anew() {
    for missing in ["version", "keyspaces/0/current", "keyspaces/0/v7"] {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path());
        std::fs::remove_file(dir.path().join("store").join(missing)).unwrap();
        let error = Folder::own(dir.path()).unwrap().format().unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{missing}: {error}");
    }
}

#[test]
fn an_interrupted_beginning_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::own(dir.path()).unwrap();
    folder.begin(&identity()).unwrap();
    std::fs::create_dir_all(folder.store().join("half")).unwrap();
    drop(folder);
    let folder = Folder::own(dir.path()).unwrap();
    assert_eq!(folder.format().unwrap(), None);
    assert!(!folder.store().exists(), "what was half made is gone");
}
