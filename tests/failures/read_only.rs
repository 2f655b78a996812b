//! A disk that goes read-only under load, as ext4 does when it finds an error: the host ends and says why, is
//! not started on it, and when the disk is repaired nothing is lost.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::mounted::Ext4;
use millstream_tests::reader::Lines;
use millstream_tests::waiting;

use crate::stream::{FIRST_AFTER, Stream, message};
use crate::{config, folder, mounted};

/// The disk; far more than the log's own reserve of 128 MiB.
const DISK_MIB: u64 = 600;
/// So many are handled before.
const HANDLED_BEFORE: f64 = 200.0;
/// Sent after it is repaired.
const AFTER: usize = 300;
const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_disk_that_goes_read_only_under_load_loses_nothing_exactly_once() {
    goes_read_only("exactly_once");
}

#[test]
fn a_disk_that_goes_read_only_under_load_loses_nothing_at_least_once() {
    goes_read_only("at_least_once");
}

fn goes_read_only(delivery: &str) {
    let Some(disk) = mounted(Ext4::new(DISK_MIB)) else { return };
    let data = format!("data_dir = {:?}", disk.path());
    let pipeline = format!("delivery = {delivery:?}\nordering = \"none\"");
    // What was not synced is gone with the memory of the disk that is unmounted.
    let config = config(&data, &pipeline).replace("\"100ms\"", "\"always\"");
    let folder = Arc::new(folder(&config));
    folder.ok(&["topics", "create", "--pipelines"], "");
    let start = || Host::start_with(&folder, &[], disk.path().join("log"));
    let mut host = start();
    host.until_ready();
    let stream = Stream::begin(&folder);
    waiting::until("messages are handled", WITHIN, || {
        host.metric("millstream_outputs_total", &[]).filter(|outputs| *outputs >= HANDLED_BEFORE)
    });

    disk.go_read_only();
    let said = host.log();
    assert_eq!(
        host.ended(WITHIN).code(),
        Some(1),
        "a host that can write nothing ends with an error"
    );
    let said = std::fs::read_to_string(said).unwrap();
    for part in ["error[MS3001]", "Read-only file system", "nothing more is written", "start again"]
    {
        assert!(said.contains(part), "no `{part}`: {said}");
    }
    let mut sent = stream.end();
    let refused = folder.run(&["run"], "");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("Read-only file system"), "{refused:?}");

    disk.repair();
    let mut host = start();
    host.until_ready();
    let after: String = (FIRST_AFTER..FIRST_AFTER + AFTER).map(message).collect();
    folder.ok(&["produce", "work"], &after);
    for number in FIRST_AFTER..FIRST_AFTER + AFTER {
        writeln!(sent, "n{number}").unwrap();
    }
    folder.until_settled(WITHIN);
    host.stop(END_WITHIN);
    let consumed = |topic: &str| folder.ok(&["consume", topic, "--from-beginning"], "");
    let (source, out, dead) = (Some(consumed("work")), consumed("done"), String::new());
    let lines =
        Lines { id: "KEY", sent, source, out, dead, exactly_once: delivery == "exactly_once" };
    lines.sums(&format!("a read-only disk, {delivery}")).unwrap();
}
