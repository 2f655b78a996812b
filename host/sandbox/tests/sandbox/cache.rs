//! Compiled code: reused when it is sound, rebuilt when it is not, never in a folder open to others.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use millstream_sandbox::SandboxError;
use tempfile::TempDir;

use super::*;

fn cached(folder: &Path) -> Sandbox {
    let cache_dir = Some(folder.to_owned());
    Sandbox::new(SandboxOptions { cache_dir, instances_max: 4, ..SandboxOptions::default() })
        .expect("a sandbox")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn from_cache(folder: &Path) -> (bool, Option<String>) {
    let compiled = load(&cached(folder), "echo", options()).report().compiled.clone();
    (compiled.from_cache, compiled.cache_note)
}

#[tokio::test]
async fn a_second_load_takes_the_code_from_the_cache() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("compiled");
    assert_eq!(from_cache(&folder), (false, None));
    let mode = fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "its owner's alone");
    let entries = entries(&folder);
    assert_eq!(entries.len(), 1, "nothing but the entry: {entries:?}");
    assert_eq!(from_cache(&folder), (true, None));
    let sandbox = cached(&folder);
    let plugin = load(&sandbox, "echo", options());
    assert_eq!(text(handle(&mut instance(&plugin).await, "on").await), "on");
}

#[test]
fn another_plugin_and_other_settings_have_entries_of_their_own() {
    let folder = TempDir::new().unwrap();
    load(&cached(folder.path()), "echo", options());
    load(&cached(folder.path()), "core-echo", options());
    assert_eq!(entries(folder.path()).len(), 2);
}

#[test]
fn a_damaged_entry_is_rebuilt() {
    let folder = TempDir::new().unwrap();
    from_cache(folder.path());
    let entry = entries(folder.path()).remove(0);
    let sound = fs::read(&entry).unwrap();
    let mut flipped = sound.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for (damaged, why) in [
        (flipped, "its checksum does not hold"),
        (sound[..sound.len() - 1].to_vec(), "its checksum does not hold"),
        (sound[..20].to_vec(), "it is cut short"),
        (vec![], "it is no entry of this version"),
    ] {
        fs::write(&entry, damaged).unwrap();
        let note = Some(format!("the cached entry was not used: {why}"));
        assert_eq!(from_cache(folder.path()), (false, note));
        assert_eq!(fs::read(&entry).unwrap().len(), sound.len(), "rebuilt");
        assert_eq!(from_cache(folder.path()), (true, None));
    }
}

#[test]
fn an_entry_that_others_could_have_written_is_rebuilt() {
    let folder = TempDir::new().unwrap();
    from_cache(folder.path());
    let entry = entries(folder.path()).remove(0);
    fs::set_permissions(&entry, Permissions::from_mode(0o666)).unwrap();
    let (reused, note) = from_cache(folder.path());
    assert!(!reused && note.unwrap().ends_with("others could have written it"));
    let elsewhere = TempDir::new().unwrap();
    let target = elsewhere.path().join("code");
    fs::rename(&entry, &target).unwrap();
    std::os::unix::fs::symlink(&target, &entry).unwrap();
    let (reused, note) = from_cache(folder.path());
    assert!(!reused && note.unwrap().contains("it is a link"));
    assert_eq!(from_cache(folder.path()), (true, None), "the link was replaced by an entry");
}

#[test]
fn a_folder_that_others_can_write_is_refused() {
    let folder = TempDir::new().unwrap();
    let sandbox = cached(folder.path());
    fs::set_permissions(folder.path(), Permissions::from_mode(0o770)).unwrap();
    let options_here =
        SandboxOptions { cache_dir: Some(folder.path().to_owned()), ..SandboxOptions::default() };
    let error = Sandbox::new(options_here).err().expect("refused");
    assert!(matches!(error, SandboxError::Cache(_)), "{error}");
    let expected = format!(
        "the folder of compiled plugins {} has mode 770, so others could plant code in it: run \
         `chmod 700` on it after emptying it",
        folder.path().display()
    );
    assert_eq!(error.to_string(), expected);
    let error = sandbox.load(guest("echo"), options()).err().expect("refused at each load");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_folder_of_another_user_is_refused() {
    let folder = TempDir::new().unwrap();
    // Only root can give a folder away; anyone else cannot have one to test with.
    if std::os::unix::fs::chown(folder.path(), Some(12_345), None).is_err() {
        return;
    }
    let cache_dir = Some(folder.path().to_owned());
    let error = Sandbox::new(SandboxOptions { cache_dir, ..SandboxOptions::default() });
    let error = error.err().expect("refused").to_string();
    assert!(error.contains("belongs to user 12345, this process runs as user 0"), "{error}");
}

#[test]
fn a_link_or_a_file_in_the_folders_place_is_refused() {
    let parent = TempDir::new().unwrap();
    let (real, link) = (parent.path().join("real"), parent.path().join("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let options = |cache_dir| SandboxOptions { cache_dir, ..SandboxOptions::default() };
    let error = Sandbox::new(options(Some(link))).err().expect("refused").to_string();
    assert!(error.contains("is not a folder"), "{error}");
}
