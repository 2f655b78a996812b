//! `lag` and `dlq` on a log that no host runs on.

use crate::ORDERS;
use crate::folder::Folder;

#[test]
fn lag_counts_what_no_group_has_handled() {
    let folder = Folder::new();
    folder.write("millstream.toml", ORDERS);
    folder.run(&["lag"]).done().golden("lag-no-topics");
    folder.run(&["topics", "create", "--pipelines"]).done();
    folder.run(&["lag"]).done().golden("lag-empty");
    let input = "{\"value\":\"1\",\"timestamp\":0}\n{\"value\":\"2\",\"timestamp\":0}\n";
    folder.run_with(&["produce", "orders"], input).done();
    let ran = folder.run(&["lag", "--json"]).done();
    let lags: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(lags[0]["lag"], 2, "{lags}");
    assert_eq!(lags[0]["due_lag"], 2, "{lags}");
    assert!(lags[0]["time_lag_seconds"].as_f64().expect("a number") > 1e9, "{lags}");
    folder.run(&["lag", "nosuch"]).fails(2, "no pipeline");
}

#[test]
fn retries_that_are_not_due_are_waiting_and_those_that_are_count() {
    let folder = Folder::new();
    let delays = r#"delays = ["1ms", "1h"]"#;
    folder.write("millstream.toml", &ORDERS.replace(r#"delays = ["5s", "1m"]"#, delays));
    folder.run(&["topics", "create", "--pipelines"]).done();
    // Tiers have append time: what is written now is due in an hour, or in a millisecond.
    for (topic, count) in [("orders.retry.1h", 3), ("orders.retry.1ms", 2)] {
        let input = "{\"value\":\"x\"}\n".repeat(count);
        folder.run_with(&["produce", topic], &input).done();
    }
    let ran = folder.run(&["lag", "--json"]).done();
    let lags: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(lags[0]["lag"], 0, "{lags}");
    assert_eq!(lags[0]["due_lag"], 2, "{lags}");
    assert_eq!(lags[0]["waiting"], 3, "{lags}");
}

#[test]
fn dead_letter_commands_work_on_an_empty_log() {
    let folder = Folder::new();
    folder.write("millstream.toml", ORDERS);
    folder.run(&["dlq", "list"]).done().golden("dlq-none");
    folder.run(&["topics", "create", "--pipelines"]).done();
    folder.run(&["dlq", "list", "--json"]).done().golden("dlq-none-json");
    folder.run(&["dlq", "redrive"]).done().golden("dlq-redrive-none");
    folder.run(&["dlq", "show", "orders.dlq/0/0"]).fails(2, "no dead letter");
    folder.run(&["dlq", "show", "orders/0/0"]).fails(2, "no dead letter at orders[0]@0");
    folder.run(&["dlq", "show", "somewhere"]).fails(2, "TOPIC/PARTITION/OFFSET");
    folder.run(&["dlq", "list", "nosuch"]).fails(2, "no pipeline");
}

#[test]
fn a_foreign_dead_letter_is_listed_shown_and_left() {
    let folder = Folder::new();
    folder.write("millstream.toml", ORDERS);
    folder.run(&["topics", "create", "--pipelines"]).done();
    let line = "{\"key\":\"k\",\"value\":\"v\",\"partition\":0}\n";
    folder.run_with(&["produce", "orders.dlq", "--keep-partitions"], line).done();
    let ran = folder.run(&["dlq", "list"]).done();
    assert!(ran.stdout.contains("orders.dlq/0/0  foreign"), "{ran:?}");
    let ran = folder.run(&["dlq", "show", "orders.dlq/0/0"]).done();
    assert!(ran.stdout.contains("neither of a Millstream host"), "{ran:?}");
    let ran = folder.run(&["dlq", "redrive"]).done();
    assert!(ran.stdout.contains("1  cannot be put back there"), "{ran:?}");
    let ran = folder.run(&["dlq", "list", "--json"]).done();
    let listings: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(listings[0]["total"], 1, "{listings}");
}
