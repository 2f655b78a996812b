//! Dead letters by the thousand, written as a host writes them, and redrives of them that are killed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::Instant;

use crate::draw::Draw;
use crate::folder::Folder;
use crate::waiting;

/// How long a redrive may take that is not killed.
const ENDS_WITHIN: Duration = Duration::from_secs(300);
/// When a redrive is killed, after it was started.
const KILLED_IN_MS: std::ops::Range<u64> = 60..900;
/// One that is killed goes so fast that all of them together would need this for each kill.
const FOR_EACH_KILL_MS: usize = 500;

/// What killed redrives came to.
#[derive(Debug, Default)]
pub struct Kills {
    /// How many were killed.
    pub killed: usize,
    /// How many of those had sent something.
    pub in_the_middle: usize,
    /// How long the last one took, which was not.
    pub took: Duration,
    /// How many letters the last one sent.
    pub last_sent: u64,
}

/// Writes so many dead letters of group `group` and source `topic`, over its partitions; the values are their numbers.
///
/// # Panics
/// When they are refused.
pub fn write(folder: &Folder, topic: &str, group: &str, partitions: usize, count: usize) {
    let mut lines = String::new();
    for number in 0..count {
        let (partition, offset) = (number % partitions, number / partitions);
        let kind = if number % 3 == 0 { "reject" } else { "trap" };
        writeln!(
            lines,
            r#"{{"partition":{partition},"key":"k{number}","value":"{number}","headers":[["mine","x"],["millstream-origin-topic","{topic}"],["millstream-origin-partition","{partition}"],["millstream-origin-offset","{offset}"],["millstream-origin-timestamp","1700000000000"],["millstream-origin-group","{group}"],["millstream-turn","{offset}"],["millstream-attempt","3"],["millstream-error-kind","{kind}"],["millstream-error-reason","schema mismatch at field `total` of order {number}"],["millstream-plugin-name","p"],["millstream-plugin-version","1.0.0"],["millstream-plugin-digest","sha256:00"]]}}"#
        )
        .unwrap();
    }
    folder.ok(&["produce", &format!("{topic}.dlq"), "--keep-partitions"], &lines);
}

/// Redrives, is killed at a random point so many times, and then not any more.
///
/// # Panics
/// When one that is not killed fails.
pub fn redrive_and_kill(
    folder: &Folder,
    args: &[&str],
    letters: usize,
    kills: usize,
    draw: &mut Draw,
) -> Kills {
    let mut found = Kills::default();
    let mut sent = 0;
    let rate = (letters * 1_000).div_ceil(kills * FOR_EACH_KILL_MS).to_string();
    for _ in 0..kills {
        let mut command = folder.command(args);
        command.args(["--rate", &rate]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Any time is good to be killed at.
        std::thread::sleep(Duration::from_millis(draw.within(KILLED_IN_MS)));
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let now = redriven(folder, args);
        found.killed += usize::from(ended.is_none());
        found.in_the_middle += usize::from(ended.is_none() && now > sent);
        sent = now;
    }
    let begin = Instant::now();
    let mut command = folder.command(args);
    let mut child =
        command.arg("--json").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let status = waiting::until_ended("the redrive", ENDS_WITHIN, &mut child);
    assert!(status.success(), "{status}");
    found.took = begin.elapsed();
    let report: serde_json::Value = serde_json::from_reader(child.stdout.take().unwrap()).unwrap();
    found.last_sent = report["redriven"].as_u64().unwrap();
    assert_eq!(redriven(folder, args), letters as u64, "{report}");
    found
}

/// How many letters are redriven, by the states.
fn redriven(folder: &Folder, args: &[&str]) -> u64 {
    let listed = folder.json(&["dlq", "list", args[2], "--json", "--limit", "0"]);
    listed[0]["states"]["redriven"].as_u64().unwrap()
}

/// That every one of `count` values is there once.
///
/// # Panics
/// When one is missing or there twice.
pub fn each_once(values: impl IntoIterator<Item = String>, count: usize) {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for value in values {
        *times.entry(value).or_default() += 1;
    }
    let missing = (0..count).filter(|number| !times.contains_key(&number.to_string())).count();
    let twice = times.values().filter(|times| **times > 1).count();
    assert_eq!((times.len(), missing, twice), (count, 0, 0), "there, missing, there twice");
}
