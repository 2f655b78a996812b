//! Identity: which host this is to a Kafka cluster, and that no other runs as it.
//!
//! ```text
//! <data_dir>/host.lock        locked while a host runs on Kafka; says which process
//! <data_dir>/host.id          the host's id, unless `host.id` is configured; made once
//! <data_dir>/admin.address    where the running host answers, for `millstream status`
//! ```
//!
//! Transactional ids are made of the id: a host that comes back with it puts its own former life out
//! and goes on. Two hosts that have it at a time would put one another out, again and again; a folder
//! therefore has one host. The operating system frees the lock when the host dies, however it dies.
//! Two folders with one *configured* id are not noticed here.

use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::config::{HostOptions, host_problem};
use crate::exit::Failure;
use crate::finding::{Code, Finding};

const LOCK_FILE: &str = "host.lock";
const ADDRESS_FILE: &str = "admin.address";
/// Longest text that is read of one of these files: what is longer is not ours.
const TEXT_BYTES_MAX: u64 = 512;

/// The identity of this process, while it lasts.
#[derive(Debug)]
pub struct Identity {
    id: String,
    data_dir: PathBuf,
    /// What was announced, which is taken back at the end.
    announced: Option<String>,
    /// Held for as long as this lives.
    _lock: File,
}

/// Where the host that has (or had) `data_dir` answers its admin API. Says nothing about whether it
/// still runs, and takes no lock: a starting host is not disturbed.
pub fn announced(data_dir: &Path) -> Option<String> {
    let address = read_text(&data_dir.join(ADDRESS_FILE)).ok()?;
    (!address.is_empty()).then_some(address)
}

impl Identity {
    /// Takes the folder, which is made if it is not there, and the id.
    ///
    /// # Errors
    /// When another host has it, or its files cannot be read or written.
    pub fn take(host: &HostOptions) -> Result<Self, Failure> {
        let data_dir = host.data_dir.clone();
        let unusable = |path: &Path, error: io::Error| {
            Failure::io(format!("{} cannot be used", path.display()), &error)
        };
        std::fs::create_dir_all(&data_dir).map_err(|error| unusable(&data_dir, error))?;
        let lock_path = data_dir.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(&lock_path).map_err(|error| unusable(&lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(&data_dir).into()),
            Err(TryLockError::Error(error)) => return Err(unusable(&lock_path, error)),
        }
        write_process(&mut lock).map_err(|error| unusable(&lock_path, error))?;
        let id = match &host.id {
            Some(id) => id.clone(),
            None => kept_id(&host.id_file())?,
        };
        Ok(Self { id, data_dir, announced: None, _lock: lock })
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Writes down where this host answers its admin API, until it ends.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn announce(&mut self, address: &str) -> Result<(), Failure> {
        let file = self.data_dir.join(ADDRESS_FILE);
        replace(&file, address).map_err(|error| {
            Failure::io(format!("{} cannot be written", file.display()), &error)
        })?;
        self.announced = Some(address.to_owned());
        Ok(())
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        if self.announced.is_some() && announced(&self.data_dir) == self.announced {
            // One that stays behind is found out by who asks there.
            let _ = std::fs::remove_file(self.data_dir.join(ADDRESS_FILE));
        }
    }
}

fn in_use(data_dir: &Path) -> Finding {
    let process = read_text(&data_dir.join(LOCK_FILE)).ok().filter(|text| !text.is_empty());
    let process =
        process.map_or("another host".to_owned(), |id| format!("the host in process {id}"));
    let what = format!("{} is in use by {process}", data_dir.display());
    let why = "both would be one host to Kafka, and put one another out of their transactions";
    let fix = "stop the other, or give this one a folder of its own: `host.data_dir`, or \
               `--data-dir DIR`";
    Finding::new(Code::HostRuns, what, fix).because(why)
}

/// The id in `file`, which is made if it is not there.
fn kept_id(file: &Path) -> Result<String, Failure> {
    let failure = |error: io::Error| {
        Failure::io(format!("the host's id {} cannot be used", file.display()), &error)
    };
    match read_text(file) {
        Ok(id) => match host_problem(&id) {
            None => Ok(id),
            Some(why) => {
                let what = format!("{} holds no host's id", file.display());
                let fix = "put back what was there, or remove the file: the host then has a new id, \
                           and what the old one left open ends with its transaction's timeout";
                Err(Finding::new(Code::Io, what, fix).because(why).into())
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Not a secret: it must differ from other hosts', not be hard to guess.
            let id = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
            replace(file, &id).map_err(failure)?;
            Ok(id)
        }
        Err(error) => Err(failure(error)),
    }
}

fn write_process(lock: &mut File) -> io::Result<()> {
    let mut text = std::process::id().to_string();
    // Always the same length, in one write: a reader sees the old text or the new one.
    while text.len() < 20 {
        text.push(' ');
    }
    lock.seek(SeekFrom::Start(0))?;
    lock.write_all(text.as_bytes())
}

fn read_text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(TEXT_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// Made beside and moved into place: a reader sees the old text or the new one, and a crash leaves
/// one of them.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let mut new = File::create(&beside)?;
    new.write_all(text.as_bytes())?;
    new.write_all(b"\n")?;
    new.sync_all()?;
    std::fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(data_dir: &Path) -> HostOptions {
        HostOptions {
            data_dir: data_dir.to_owned(),
            admin: ([127, 0, 0, 1], 0).into(),
            admin_token: None,
            admin_read_token: None,
            metrics_token: None,
            open_probes: false,
            allowed_hosts: Vec::new(),
            id: None,
        }
    }

    #[test]
    fn an_id_is_made_once_and_differs_from_folder_to_folder() {
        let (a, b) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("another"));
        let data_dir = a.path().join("made/on/the/way");
        let id = Identity::take(&host(&data_dir)).expect("taken").id().to_owned();
        assert_eq!(host_problem(&id), None, "{id:?}");
        assert_eq!(Identity::take(&host(&data_dir)).expect("taken again").id(), id);
        assert_ne!(Identity::take(&host(b.path())).expect("taken").id(), id);
    }

    #[test]
    fn a_configured_id_goes_before_the_kept_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = HostOptions { id: Some("rack-1".to_owned()), ..host(folder.path()) };
        assert_eq!(Identity::take(&host).expect("taken").id(), "rack-1");
        assert!(!host.id_file().exists(), "there is nothing to keep");
    }

    #[test]
    fn a_folder_has_one_host_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Identity::take(&host(folder.path())).expect("taken");
        let Err(Failure::Findings(findings)) = Identity::take(&host(folder.path())) else {
            panic!("two hosts have one folder");
        };
        let (said, process) = (findings[0].to_string(), std::process::id());
        assert!(said.starts_with("[MS3003]"), "{said}");
        assert!(said.contains(&format!("process {process}")), "it says which: {said}");
        drop(first);
        drop(Identity::take(&host(folder.path())).expect("free again"));
    }

    #[test]
    fn a_damaged_id_is_not_used_and_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = host(folder.path());
        for damaged in ["", "two words", &"x".repeat(600)] {
            std::fs::write(host.id_file(), damaged).expect("written");
            let Err(Failure::Findings(findings)) = Identity::take(&host) else {
                panic!("{damaged:?} was taken for an id");
            };
            assert!(findings[0].to_string().contains("host.id"), "{}", findings[0]);
            assert_eq!(std::fs::read_to_string(host.id_file()).expect("there"), damaged);
        }
    }

    #[test]
    fn the_address_is_announced_until_the_host_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut identity = Identity::take(&host(folder.path())).expect("taken");
        assert_eq!(announced(folder.path()), None);
        identity.announce("127.0.0.1:9464").expect("written");
        assert_eq!(announced(folder.path()).as_deref(), Some("127.0.0.1:9464"));
        drop(identity);
        assert_eq!(announced(folder.path()), None);
    }
}
