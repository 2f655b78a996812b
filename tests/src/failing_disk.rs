//! A disk whose syncs fail at a test's word, and whose power can be cut then: `tests/preload`, which is
//! preloaded into a host, and built for it like the guests are.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::program::tree;

/// The disk of a folder's host.
pub struct FailingDisk {
    dir: tempfile::TempDir,
}

impl FailingDisk {
    /// A disk that is well.
    ///
    /// # Panics
    /// When the system gives it no folder.
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Puts it under a host that is about to be started.
    pub fn under(&self, host: &mut Command) {
        host.env("LD_PRELOAD", library()).env("FAILING_DISK", self.dir.path());
    }

    /// From now on every sync fails.
    ///
    /// # Panics
    /// When that cannot be written down.
    pub fn fail(&self) {
        std::fs::write(self.dir.path().join("fails"), "").unwrap();
    }

    /// Syncs succeed again. What was lost stays so.
    ///
    /// # Panics
    /// When it does not fail.
    pub fn work_again(&self) {
        std::fs::remove_file(self.dir.path().join("fails")).unwrap();
    }

    /// Cuts the power: what is not on the disk is no more, in all files below `folder`. Answers how many bytes
    /// that were. Nobody may have the files open.
    ///
    /// # Panics
    /// When the files cannot be changed.
    pub fn cut_power(&self, folder: &Path) -> u64 {
        let lost = std::fs::read_to_string(self.dir.path().join("lost")).unwrap_or_default();
        let files = files(folder);
        let mut gone = 0;
        for line in lost.lines() {
            let mut numbers = line.split(' ').map(|number| number.parse::<u64>().unwrap());
            let mut number = || numbers.next().unwrap();
            let (inode, from, to) = (number(), number(), number());
            let found = files.iter().find(|path| path.metadata().unwrap().ino() == inode);
            // One that was removed meanwhile.
            let Some(path) = found else { continue };
            let file = OpenOptions::new().write(true).open(path).unwrap();
            let to = to.min(file.metadata().unwrap().len());
            let zeros = vec![0; usize::try_from(to.saturating_sub(from)).unwrap()];
            file.write_all_at(&zeros, from).unwrap();
            gone += zeros.len() as u64;
        }
        gone
    }
}

impl Default for FailingDisk {
    fn default() -> Self {
        Self::new()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// The library, built once for each test binary.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let package = tree().join("tests/preload");
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| tree().join("target"), PathBuf::from);
        let target = target.join("preload");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(&package)
            .args(["build", "--release", "--locked", "--target-dir"])
            .arg(&target);
        let output = cargo.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tests/preload does not build:\n{errors}");
        target.join("release/libfailing_disk.so")
    })
}
