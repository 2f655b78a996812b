//! A small disk of its own for a test, where the system lets it mount one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tmpfs, unmounted at the end.
pub struct Mounted {
    dir: tempfile::TempDir,
}

impl Mounted {
    /// A disk of so many MiB.
    ///
    /// # Errors
    /// What the system said, if it does not let this user mount one.
    pub fn new(mebibytes: u32) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let size = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "millstream-test"]).arg(dir.path());
        let output = mount.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(Self { dir });
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes it read-only.
    ///
    /// # Panics
    /// When that fails.
    pub fn read_only(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,ro"]).arg(self.path());
        assert!(mount.status().unwrap().success());
    }

    /// Fills it with a file until this many MiB are left, and tells which file.
    ///
    /// # Panics
    /// When it has less to begin with.
    pub fn fill_up_to(&self, mebibytes_left: u64) -> PathBuf {
        let ballast = self.path().join("ballast");
        let free = || {
            let mut df = Command::new("df");
            let output = df.args(["--output=avail", "-m"]).arg(self.path()).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines().last().unwrap().trim().parse::<u64>().unwrap()
        };
        let bytes = free().checked_sub(mebibytes_left).unwrap();
        let mut file = std::fs::File::create(&ballast).unwrap();
        for _ in 0..bytes {
            std::io::Write::write_all(&mut file, &[1; 1 << 20]).unwrap();
        }
        ballast
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there does not keep it mounted.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
