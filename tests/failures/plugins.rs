//! Plugins that misbehave: their messages end in the dead letters with what was wrong, and the host
//! goes on.

use std::time::Duration;

use millstream_tests::folder::Folder;
use millstream_tests::host::{END_WITHIN, Host};

use crate::{config, with_topics};

const WITHIN: Duration = Duration::from_secs(60);

/// Handles one message of each of these ways to misbehave and one good one behind them. Gives kind and
/// reason of the dead letters.
fn handled(folder: &Folder, ways: &[&str]) -> Vec<(String, String)> {
    let mut host = Host::start(folder);
    host.until_ready();
    folder.produce_values("work", ways.iter().copied().chain(["echo"]));
    folder.until_settled(WITHIN);
    let (live, _) = host.get("/health/live").unwrap();
    let (ready, why) = host.get("/health/ready").unwrap();
    assert_eq!((live, ready), (200, 200), "the host goes on: {why}");
    let attempted = host.metric("millstream_attempts_total", &[]).unwrap();
    assert!(attempted >= (ways.len() + 1) as f64, "{attempted} attempts");
    host.stop(END_WITHIN);

    let done: Vec<_> = folder.consume("done").iter().map(|l| l.text().to_owned()).collect();
    assert_eq!(done, ["echo"], "the good message is handled, and only that");
    let listed = folder.json(&["dlq", "list", "--json"]);
    let letters = listed[0]["letters"].as_array().unwrap();
    assert_eq!(letters.len(), ways.len(), "{letters:#?}");
    let text = |letter: &serde_json::Value, field: &str| letter[field].as_str().unwrap().to_owned();
    letters.iter().map(|letter| (text(letter, "kind"), text(letter, "reason"))).collect()
}

fn one(pipeline: &str, way: &str) -> (String, String) {
    let folder = with_topics(&config("", pipeline));
    let mut letters = handled(&folder, &[way]);
    let letter = folder.consume("work.dlq").remove(0);
    assert_eq!(letter.text(), way, "the dead letter is the message");
    letters.remove(0)
}

const AT_ONCE: &str = "retry = { delays = [] }\nlimits = { time = \"200ms\" }";

#[test]
fn a_plugin_that_never_returns_fails_its_own_message() {
    for way in ["loop", "wait"] {
        let (kind, reason) = one(AT_ONCE, way);
        assert_eq!(kind, "timeout");
        assert_eq!(reason, "handling took longer than limits.time = 200ms");
    }
}

#[test]
fn a_plugin_that_never_returns_is_tried_as_often_as_the_configuration_says() {
    let retrying = "retry = { delays = [\"100ms\", \"100ms\"] }\nlimits = { time = \"100ms\" }";
    let folder = with_topics(&config("", retrying));
    handled(&folder, &["loop"]);
    let letter = folder.consume("work.dlq").remove(0);
    assert_eq!(letter.number("millstream-attempt"), 3);
    assert_eq!(letter.header("__dlq.errors.delivery.count"), "3");
}

#[test]
fn an_output_the_pipeline_does_not_name_is_denied() {
    let (kind, reason) = one(AT_ONCE, "named elsewhere");
    assert_eq!(kind, "denied");
    let expected = "the plugin sent to output `elsewhere`, which the pipeline does not name (it names: default)";
    assert_eq!(reason, expected);
}

#[test]
fn an_output_larger_than_its_topic_takes_is_oversize() {
    // The plugin may, the topic may not.
    let (kind, reason) = one("retry = { delays = [] }\nlimits = { output = \"4MiB\" }", "huge");
    assert_eq!(kind, "oversize");
    let expected = "an output of 2097152 bytes is larger than the 1048576 bytes topic done takes";
    assert_eq!(reason, expected);
}

#[test]
fn every_way_to_misbehave_has_its_kind() {
    let ways = [
        ("loop", "timeout"),
        ("allocate", "memory"),
        ("recurse", "memory"),
        ("huge", "oversize"),
        ("trap", "trap"),
        ("panic x", "trap"),
        ("invalid-text", "decode"),
        ("reject no", "reject"),
        ("retry later", "retry"),
    ];
    let folder = with_topics(&config("", AT_ONCE));
    let names: Vec<&str> = ways.iter().map(|(way, _)| *way).collect();
    let mut found: Vec<String> = handled(&folder, &names).into_iter().map(|(k, _)| k).collect();
    let mut expected: Vec<&str> = ways.iter().map(|(_, kind)| *kind).collect();
    found.sort();
    expected.sort_unstable();
    assert_eq!(found, expected);
}
