//! A message that holds up its partition is named, with what it waits for: in the metrics and the status.

use std::time::Duration;

use millstream_tests::folder::Folder;
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::waiting;

use crate::{config, with_topics};

const WITHIN: Duration = Duration::from_secs(60);
const METRIC: &str = "millstream_held_up_seconds";

/// Lets a host handle these lines, and waits until it says that this holds it up; then until it does not.
fn held_up(pipeline: &str, lines: &[&str], reason: &str) {
    let folder = with_topics(&config("", &format!("held_up_after = \"1s\"\n{pipeline}")));
    let mut host = Host::start(&folder);
    host.until_ready();
    folder.ok(&["produce", "work"], &(lines.join("\n") + "\n"));
    let label = format!("reason=\"{reason}\"");
    let seconds = waiting::until("it is named", WITHIN, || {
        host.metric(METRIC, &[&label]).filter(|seconds| *seconds > 0.0)
    });
    assert!(seconds >= 1.0, "{seconds}");
    let status = in_status(&folder).unwrap();
    assert_eq!(status, (0, reason.to_owned()));
    let shown = folder.run(&["status"], "").stdout;
    assert!(shown.contains(&format!("at offset 0: {reason}")), "{shown}");
    waiting::until("it goes on", WITHIN, || {
        (host.metric(METRIC, &[])? == 0.0 && in_status(&folder).is_none()).then_some(())
    });
    folder.until_settled(WITHIN);
    host.stop(END_WITHIN);
}

/// Offset and reason of the one partition that is held up.
fn in_status(folder: &Folder) -> Option<(u64, String)> {
    let status = folder.json(&["status", "--json"]);
    let partitions = status["pipelines"][0]["partitions"].as_array().unwrap();
    let mut held_up = partitions.iter().map(|p| &p["held_up"]).filter(|held| !held.is_null());
    let held = held_up.next()?;
    Some((held["offset"].as_u64().unwrap(), held["by"].as_str().unwrap().to_owned()))
}

#[test]
fn a_message_that_the_plugin_handles_for_long_is_named() {
    let slow = r#"{"key":"a","value":"sleep 5000"}"#;
    held_up("instances = 2\nlimits = { time = \"1m\" }", &[slow], "plugin");
}

#[test]
fn a_message_that_waits_for_its_key_is_named() {
    let first = r#"{"key":"a","value":"after 1 x"}"#;
    let second = r#"{"key":"a","value":"after 0 y"}"#;
    // The first is settled in the source when it is put off, so it is the second that holds it up.
    let folder = with_topics(&config("", "held_up_after = \"1s\"\nretry = { delays = [\"4s\"] }"));
    let mut host = Host::start(&folder);
    host.until_ready();
    folder.ok(&["produce", "work"], &format!("{first}\n{second}\n"));
    waiting::until("it is named", WITHIN, || {
        host.metric(METRIC, &["reason=\"waiting_key\""]).filter(|seconds| *seconds > 0.0)
    });
    assert_eq!(in_status(&folder), Some((1, "waiting_key".to_owned())));
    assert_eq!(host.metric("millstream_waiting_messages", &[]), Some(1.0));
    folder.until_settled(WITHIN);
    let done = folder.consume("done");
    let done: Vec<&str> = done.iter().map(|line| line.text()).collect();
    assert_eq!(done, ["x", "y"]);
    host.stop(END_WITHIN);
}

#[test]
fn a_message_that_waits_for_a_retry_in_place_is_named() {
    let more = "ordering = \"partition\"\nretry = { delays = [\"5s\"] }";
    held_up(more, &[r#"{"key":"a","value":"after 1 x"}"#], "retry");
}
