//! A full disk: who writes is told, the host says that it is not ready and why, nothing is lost, and all
//! goes on when there is space again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_tests::folder::Folder;
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::mounted::Mounted;
use millstream_tests::waiting;

use crate::{config, disk, fails, folder};

/// The disk; far more than the log's own reserve of 128 MiB.
const DISK_MIB: u32 = 600;
/// So much is left of it: less than the reserve.
const LEFT_MIB: u64 = 40;
const MESSAGES: usize = 400;
const SLOWLY: &str = "instances = 1\nordering = \"none\"\ndrain = \"2s\"";
const WITHIN: Duration = Duration::from_secs(60);

struct Small {
    disk: Mounted,
    folder: Folder,
}

impl Small {
    fn new(delivery: &str) -> Option<Self> {
        let disk = disk(DISK_MIB)?;
        let data = format!("data_dir = {:?}", disk.path());
        let pipeline = format!("delivery = {delivery:?}\n{SLOWLY}");
        let folder = folder(&config(&data, &pipeline));
        folder.ok(&["topics", "create", "--pipelines"], "");
        Some(Self { disk, folder })
    }

    fn log_dir(&self) -> PathBuf {
        self.disk.path().join("log")
    }

    /// A host that has handled some of its messages and goes on handling.
    fn working(&self) -> Host {
        let work = std::iter::repeat_n("sleep 20", MESSAGES);
        self.folder.produce_values("work", work);
        let mut host = Host::start_with(&self.folder, &[], self.log_dir());
        waiting::until("messages are handled", WITHIN, || {
            host.metric("millstream_outputs_total", &[]).filter(|outputs| *outputs >= 20.0)
        });
        host
    }

    fn folders(&self) -> [&Path; 2] {
        [self.folder.path(), self.disk.path()]
    }
}

fn not_ready(host: &mut Host) -> String {
    waiting::until("the host is not ready", WITHIN, || {
        host.get("/health/ready").filter(|(status, _)| *status == 503).map(|(_, why)| why)
    })
}

#[test]
fn a_host_whose_disk_is_full_says_so_and_goes_on_when_there_is_space_exactly_once() {
    fills_up_and_goes_on("exactly_once");
}

#[test]
fn a_host_whose_disk_is_full_says_so_and_goes_on_when_there_is_space_at_least_once() {
    fills_up_and_goes_on("at_least_once");
}

fn fills_up_and_goes_on(delivery: &str) {
    let Some(small) = Small::new(delivery) else { return };
    let mut host = small.working();
    let ballast = small.disk.fill_up_to(LEFT_MIB);

    let why = not_ready(&mut host);
    assert!(why.contains("is full") && why.contains("free some space"), "{why}");
    let (live, _) = host.get("/health/live").unwrap();
    assert_eq!(live, 200, "a restart would help nobody");
    let refused = small.folder.run(&["produce", "work", "--values"], "echo\n");
    fails(
        &refused,
        1,
        &small.folders(),
        r#"
error[MS2002]: lines 1 to 1 may or may not be appended
  why: nothing was changed, since the audit trail cannot be written: the disk of [DIR 1]/log is full: [N] bytes are free, and 134217728 are kept for the log's own work; free some space, or shorten the retention of topics; the write did not happen and may be repeated
  do: try again; if it stays, look at the log's own messages
"#,
    );
    let read = small.folder.consume("done").len();
    assert!((20..MESSAGES).contains(&read), "what was handled can be read: {read}");

    std::fs::remove_file(ballast).unwrap();
    host.until_ready();
    small.folder.produce_values("work", ["echo"]);
    small.folder.until_settled(WITHIN);
    host.stop(END_WITHIN);
    assert_eq!(small.folder.consume("done").len(), MESSAGES + 1, "nothing lost, nothing twice");
}

#[test]
fn a_host_whose_disk_is_full_can_be_stopped_and_loses_nothing() {
    let Some(small) = Small::new("exactly_once") else { return };
    let mut host = small.working();
    let ballast = small.disk.fill_up_to(LEFT_MIB);
    not_ready(&mut host);
    host.stop(END_WITHIN);

    std::fs::remove_file(ballast).unwrap();
    small.folder.ok(&["run", "--until-caught-up"], "");
    assert_eq!(small.folder.consume("done").len(), MESSAGES, "nothing lost, nothing twice");
}

#[test]
fn a_host_is_not_started_on_a_full_disk() {
    let Some(disk) = disk(DISK_MIB) else { return };
    let folder = folder(&config(&format!("data_dir = {:?}", disk.path()), ""));
    let ballast = disk.fill_up_to(LEFT_MIB);
    fails(
        &folder.run(&["run"], ""),
        1,
        &[folder.path(), disk.path()],
        r#"
error[MS2002]: topic work cannot be created
  why: the disk of [DIR 1]/log is full: [N] bytes are free, and 134217728 are kept for the log's own work; free some space, or shorten the retention of topics; the write did not happen and may be repeated
  do: try again; if it stays, look at the log's own messages
"#,
    );
    std::fs::remove_file(ballast).unwrap();
    folder.ok(&["run", "--until-caught-up"], "");
}

#[test]
fn topics_are_not_made_on_a_disk_without_any_room() {
    let Some(disk) = disk(1) else { return };
    let folder = folder(&config(&format!("data_dir = {:?}", disk.path()), ""));
    disk.fill_up_to(0);
    let ended = folder.run(&["topics", "create", "--pipelines"], "");
    fails(
        &ended,
        1,
        &[folder.path(), disk.path()],
        r#"
error[MS2002]: the log cannot be opened
  why: the disk of [DIR 1]/log/host.lock is full (No space left on device (os error 28))
  do: free some space, then start again
"#,
    );
}
