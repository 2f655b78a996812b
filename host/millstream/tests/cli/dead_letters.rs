//! `dlq` beyond an empty log: groups, filters, purge, masks, replay and export.

use millstream_guest_builder::guest;

use crate::ORDERS;
use crate::folder::Folder;

/// A dead letter as a host writes it.
fn letter(offset: usize, kind: &str, reason: &str) -> String {
    let headers = [
        ("authorization", "Bearer secret"),
        ("millstream-origin-topic", "orders"),
        ("millstream-origin-partition", "0"),
        ("millstream-origin-offset", &offset.to_string()),
        ("millstream-origin-timestamp", "1700000000000"),
        ("millstream-origin-group", "orders"),
        ("millstream-turn", &offset.to_string()),
        ("millstream-attempt", "3"),
        ("millstream-error-kind", kind),
        ("millstream-error-reason", reason),
        ("millstream-plugin-name", "p"),
        ("millstream-plugin-version", "1.0.0"),
        ("millstream-plugin-digest", "sha256:00"),
    ]
    .map(|(name, value)| [name.to_owned(), value.to_owned()]);
    let line = serde_json::json!({
        "partition": 0, "key": format!("k{offset}"), "value": format!("v{offset}"), "headers": headers,
    });
    format!("{line}\n")
}

fn folder(more: &str) -> Folder {
    let folder = Folder::new();
    folder.write("millstream.toml", &format!("{ORDERS}{more}"));
    folder.run(&["topics", "create", "--pipelines"]).done();
    let mut lines = String::new();
    for offset in 0..5 {
        lines += &letter(offset, "reject", &format!("order {offset}: schema mismatch at `total`"));
    }
    lines += &letter(5, "trap", "\u{1b}[31mdivide by zero");
    folder.run_with(&["produce", "orders.dlq", "--keep-partitions"], &lines).done();
    folder
}

#[test]
fn equal_failures_are_counted_together_and_filters_choose() {
    let folder = folder("");
    let ran = folder.run(&["dlq", "list"]).done();
    assert!(ran.stdout.contains("orders: 6 dead letters"), "{ran:?}");
    let group = "5 × reject: order #: schema mismatch at `total`, plugin 1.0.0; first 20";
    assert!(ran.stdout.contains(group), "{ran:?}");
    assert!(
        !ran.stdout.contains('\u{1b}'),
        "a stranger's text does not reach the terminal: {ran:?}"
    );
    let total = |more: &[&str]| {
        let args = [&["dlq", "list", "--json", "--limit", "0"], more].concat();
        let ran = folder.run(&args).done();
        let listed: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        listed[0]["total"].as_u64().expect("a number")
    };
    assert_eq!(total(&["--kind", "trap"]), 1);
    assert_eq!(total(&["--reason", "schema mismatch"]), 5);
    assert_eq!(total(&["--key", "k3"]), 1);
    assert_eq!(total(&["--plugin-version", "2.0.0"]), 0);
    assert_eq!(total(&["--since", "1h"]), 6);
    assert_eq!(total(&["--until", "1h"]), 0);
    assert_eq!(total(&["orders.dlq/0/2"]), 1);
    assert_eq!(total(&["--topic", "orders.dlq", "--kind", "reject"]), 5);
    folder.run(&["dlq", "list", "--since", "yesterday"]).fails(2, "neither a duration");
    folder.run(&["dlq", "list", "--topic", "nosuch"]).fails(2, "there is no topic nosuch");
}

#[test]
fn what_was_done_about_letters_is_shown_and_in_the_audit_trail() {
    let folder = folder("");
    folder.run(&["dlq", "redrive", "--kind", "trap"]).fails(2, "say `--yes`");
    let ran = folder.run(&["dlq", "redrive", "--kind", "trap", "--dry-run"]).done();
    assert!(ran.stdout.contains("1 dead letter would be put back"), "{ran:?}");
    let by = ["--yes", "--by", "ada"];
    folder.run(&[&["dlq", "redrive", "--kind", "trap"], &by[..]].concat()).done();
    folder.run(&[&["dlq", "purge", "orders.dlq/0/0"], &by[..]].concat()).done();
    folder
        .run(&[&["dlq", "redrive", "--to", "topic:orders.dlq"], &by[..]].concat())
        .fails(2, "come round for ever");
    folder
        .run(&["dlq", "redrive", "--to", "somewhere"])
        .fails(2, "`source`, `tier:DELAY` or `topic:NAME`");
    let ran = folder.run(&["dlq", "list"]).done();
    assert!(ran.stdout.contains("orders: 4 dead letters (1 redriven)"), "{ran:?}");
    let ran = folder.run(&["dlq", "list", "--state", "redriven"]).done();
    assert!(ran.stdout.contains("orders.dlq/0/5  trap, redriven"), "{ran:?}");
    let ran = folder.run(&["dlq", "show", "orders.dlq/0/5"]).done();
    assert!(ran.stdout.contains("state     redriven to tier:0s at 20"), "{ran:?}");
    assert!(ran.stdout.contains(" by ada: "), "{ran:?}");
    folder.run(&["dlq", "show", "orders.dlq/0/0"]).fails(2, "removed by a purge");
    let ran = folder.run(&["audit"]).done();
    for text in [
        "redrive of dead letters of orders.dlq to tier:0s: 1",
        "purge of dead letters of orders.dlq: 1",
    ] {
        assert!(ran.stdout.contains(text), "{text}: {ran:?}");
    }
    let ran = folder.run(&["dlq", "redrive", "--to", "source", "--limit", "1", "--yes"]).done();
    assert!(ran.stdout.contains("1  to orders\n"), "{ran:?}");
    let ran = folder.run(&["consume", "orders", "--from-beginning"]).done();
    assert!(
        ran.stdout.contains("\"value\":\"v1\"") && ran.stdout.contains("millstream-redrive-count"),
        "{ran:?}"
    );
}

#[test]
fn masked_values_are_shown_by_size_and_digest() {
    let folder = folder("dead_letter = { mask = true, mask_headers = [\"Authorization\"] }\n");
    let ran = folder.run(&["dlq", "show", "orders.dlq/0/1"]).done();
    assert!(ran.stdout.contains("masked: 2 bytes, sha256 "), "{ran:?}");
    assert!(!ran.stdout.contains("\"v1\"") && !ran.stdout.contains("secret"), "{ran:?}");
    let ran = folder.run(&["dlq", "show", "orders.dlq/0/1", "--unmasked"]).done();
    assert!(ran.stdout.contains("\"v1\"") && ran.stdout.contains("secret"), "{ran:?}");
}

#[test]
fn a_replay_fails_as_it_did_then_and_an_export_is_a_case() {
    let folder = Folder::new();
    std::fs::copy(guest("hostile"), folder.path().join("orders.wasm")).expect("copied");
    std::fs::copy(guest("echo"), folder.path().join("other.wasm")).expect("copied");
    let config = ORDERS.replace("[\"5s\", \"1m\"]", "[\"1ms\"]");
    folder.write("millstream.toml", &config);
    folder.run(&["topics", "create", "--pipelines"]).done();
    // Its reason has the time and a random number in it.
    let lines = "{\"key\":\"a\",\"value\":\"reject-time\",\"timestamp\":1700000000000}\n{\"key\":\"b\",\"value\":\"panic apples\"}\n";
    folder.run_with(&["produce", "orders"], lines).done();
    folder.run(&["run", "--until-caught-up"]).done();
    let ran = folder.run(&["dlq", "list", "--json"]).done();
    let listed: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let letters = listed[0]["letters"].as_array().expect("a list");
    assert_eq!(letters.len(), 2, "{ran:?}");
    let mut positions = Vec::new();
    for letter in letters {
        let position = format!("orders.dlq/{}/{}", letter["partition"], letter["offset"]);
        let ran = folder.run(&["dlq", "replay", &position, "--json"]).done();
        let replayed: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(replayed["same_plugin"], true, "{replayed}");
        assert_eq!(replayed["same_failure"], true, "{replayed}");
        assert_eq!(replayed["attempt"], letter["attempts"], "{replayed}");
        if letter["kind"] == "reject" {
            let reason = letter["reason"].as_str().expect("text");
            assert!(reason.starts_with("1700000000000ms"), "{reason}");
            assert_eq!(replayed["outcome"]["reject"]["reason"], reason);
        } else {
            assert_eq!(letter["attempts"], 2, "{letter}");
            assert!(replayed["backtrace"].is_string(), "{replayed}");
        }
        positions.push(position);
    }
    let ran = folder.run(&["dlq", "replay", &positions[0]]).done();
    assert!(ran.stdout.contains("it fails as it did then"), "{ran:?}");
    let other = ["dlq", "replay", &positions[0], "--plugin", "other.wasm"];
    folder.run(&other).fails(2, "this is not the plugin the letter failed in");
    let ran = folder.run(&[&other[..], &["--any-plugin"]].concat()).done();
    assert!(ran.stdout.contains("does not fail as it did then: this is another plugin"), "{ran:?}");

    folder.run(&["dlq", "export", "--out", "cases/dead"]).done();
    folder.run(&["dlq", "export", "--out", "cases/dead"]).fails(1, "cannot be written");
    let test = ["plugin", "test", "--cases", "cases", "--wasm"];
    let ran = folder.run(&[&test[..], &["orders.wasm"]].concat()).done();
    assert!(ran.stdout.contains("dead: 2 messages"), "{ran:?}");
    folder.run(&[&test[..], &["other.wasm"]].concat()).fails(1, "1 of 1 cases failed");
}
