//! Small disks of its own for a test, where the system lets it mount one: a tmpfs, and an ext4 that can go
//! read-only under those who write to it.

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

/// An ext4 in a file, unmounted at the end.
///
/// `mount -o remount,ro` is refused while somebody has a file open to write it. What makes a disk read-only
/// under a program in earnest is an error: so it is here, by the kernel's own switch.
pub struct Ext4 {
    image: tempfile::NamedTempFile,
    dir: tempfile::TempDir,
}

impl Ext4 {
    /// A disk of so many MiB.
    ///
    /// # Errors
    /// What the system said, if it does not let this user mount one.
    pub fn new(mebibytes: u64) -> Result<Self, String> {
        let image = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        image.as_file().set_len(mebibytes << 20).map_err(|error| error.to_string())?;
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let disk = Self { image, dir };
        run(Command::new("mkfs.ext4").arg("-qF").arg(disk.image.path()))?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes it read-only, as an error that the kernel finds does.
    ///
    /// # Panics
    /// When the kernel has no such switch.
    pub fn go_read_only(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let path = self.path().to_str().unwrap();
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let of = mounts.find(|mount| mount[1] == path).unwrap();
        let device = of[0].rsplit('/').next().unwrap();
        std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").unwrap();
    }

    /// What an operator does then: unmounts, repairs and mounts it. Nobody may have a file open there.
    ///
    /// # Panics
    /// When that fails.
    pub fn repair(&self) {
        run(Command::new("umount").arg(self.path())).unwrap();
        // 1 says that something was repaired.
        let status =
            Command::new("e2fsck").arg("-fy").arg(self.image.path()).output().unwrap().status;
        assert!(matches!(status.code(), Some(0 | 1)), "e2fsck ended with {status}");
        self.mount().unwrap();
    }

    fn mount(&self) -> Result<(), String> {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop,errors=remount-ro"]).arg(self.image.path()).arg(self.path());
        run(&mut mount)
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
