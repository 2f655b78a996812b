//! A sync that fails: the host ends and says why, nothing is acknowledged from then on, and what was acknowledged
//! is there: after a power cut, and after a start and a power cut behind it.
//!
//! Syncing again proves nothing: Linux takes what it could not write for written, keeps it readable, and
//! reports success the next time. So does the disk these tests put under the host (`tests/preload`).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use millstream_tests::failing_disk::FailingDisk;
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::reader::Lines;
use millstream_tests::waiting;

use crate::stream::{FIRST_AFTER, Stream, message};
use crate::{config, with_topics};

/// So many are handled before the disk fails.
const HANDLED_BEFORE: f64 = 200.0;
/// Sent after it works again.
const AFTER: usize = 300;
const WITHIN: Duration = Duration::from_secs(60);

/// When the power is cut, too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PowerCut {
    AtOnce,
    /// Behind a start and more messages.
    Later,
}

#[test]
fn nothing_is_acknowledged_that_a_failed_sync_did_not_bring_to_the_disk() {
    a_sync_fails("always", PowerCut::AtOnce);
}

#[test]
fn what_a_failed_sync_left_in_memory_only_is_brought_to_the_disk_at_the_next_start() {
    a_sync_fails("always", PowerCut::Later);
}

#[test]
fn what_a_failed_sync_by_the_clock_left_in_memory_only_is_brought_to_the_disk_at_the_next_start() {
    a_sync_fails("100ms", PowerCut::Later);
}

fn a_sync_fails(durability: &str, cut: PowerCut) {
    let config = config("", "delivery = \"exactly_once\"\nordering = \"none\"");
    let config = config.replace("\"100ms\"", &format!("{durability:?}"));
    let folder = Arc::new(with_topics(&config));
    let disk = FailingDisk::new();
    let mut host = Host::start_on(&folder, &disk);
    host.until_ready();
    let stream = Stream::begin(&folder);
    waiting::until("messages are handled", WITHIN, || {
        host.metric("millstream_outputs_total", &[]).filter(|outputs| *outputs >= HANDLED_BEFORE)
    });
    disk.fail();
    ends_with_the_error(host);
    let mut sent = stream.end();

    disk.work_again();
    if cut == PowerCut::AtOnce {
        assert!(disk.cut_power(&folder.log_dir()) > 0, "no sync failed that had something to do");
    }
    let mut host = Host::start_on(&folder, &disk);
    host.until_ready();
    let after: String = (FIRST_AFTER..FIRST_AFTER + AFTER).map(message).collect();
    folder.ok(&["produce", "work"], &after);
    for number in FIRST_AFTER..FIRST_AFTER + AFTER {
        writeln!(sent, "n{number}").unwrap();
    }
    folder.until_settled(WITHIN);
    host.kill();
    disk.cut_power(&folder.log_dir());

    let mut host = Host::start(&folder);
    host.until_ready();
    folder.until_settled(WITHIN);
    host.stop(END_WITHIN);
    let consumed = |topic: &str| folder.ok(&["consume", topic, "--from-beginning"], "");
    let (source, out) = (Some(consumed("work")), consumed("done"));
    let lines = Lines { id: "KEY", sent, source, out, dead: String::new(), exactly_once: true };
    lines.sums(&format!("a failed sync, durability {durability}")).unwrap();
}

/// Where it had nothing to do, its pipeline asks the log for nothing but messages.
#[test]
fn a_host_that_waits_for_messages_ends_when_a_sync_fails() {
    let folder = with_topics(&config("", "").replace("\"100ms\"", "\"always\""));
    folder.ok(&["topics", "create", "beside"], "");
    let disk = FailingDisk::new();
    let mut host = Host::start_on(&folder, &disk);
    host.until_ready();
    disk.fail();
    let refused = folder.run(&["produce", "beside", "--values"], "x\n");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    ends_with_the_error(host);
}

fn ends_with_the_error(host: Host) {
    let said = host.log();
    assert_eq!(host.ended(WITHIN).code(), Some(1), "a host whose log is broken ends with an error");
    let said = std::fs::read_to_string(said).unwrap();
    for part in
        ["error[MS3001]", "data/log", "os error 5", "nothing more is written", "start again"]
    {
        assert!(said.contains(part), "no `{part}`: {said}");
    }
}
