//! A key that takes up its partition is found: as a metric without the key, and by name in `lag --hot-keys`.

use std::fmt::Write as _;
use std::time::Duration;

use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::waiting;

use crate::folder;

const WITHIN: Duration = Duration::from_secs(60);
const METRIC: &str = "millstream_hot_key_share_ratio";

#[test]
fn a_key_that_takes_up_its_partition_is_found_and_named() {
    let folder = folder("");
    let mut host = Host::start(&folder);
    host.until_ready();
    let none = folder.ok(&["lag", "--hot-keys"], "");
    assert!(none.starts_with("no key has 1 %"), "{none}");

    // Three of four messages have one key, and the rest are slow: hot in two different ways.
    let mut lines = String::new();
    for number in 0..400 {
        let (key, value) = match number % 40 {
            39 => ("slow\\n".to_owned(), "sleep 20"),
            n if n % 4 == 0 => (format!("k{number}"), "after 0 x"),
            _ => ("customer-17".to_owned(), "after 0 x"),
        };
        writeln!(lines, r#"{{"key":"{key}","value":"{value}"}}"#).unwrap();
    }
    folder.ok(&["produce", "work"], &lines);
    folder.until_settled(WITHIN);
    let hot = waiting::until("the hot key is found", WITHIN, || {
        let hot = folder.json(&["lag", "--hot-keys", "--json"]);
        let hot = hot.as_array().unwrap().clone();
        hot.iter().any(|hot| hot["key"] == "customer-17").then_some(hot)
    });
    let named = |key: &str| hot.iter().find(|hot| hot["key"] == key).unwrap();
    // By partition, so at least what it has of all.
    assert!(named("customer-17")["of_attempts"].as_f64().unwrap() > 0.7, "{hot:?}");
    let partition = named("customer-17")["partition"].to_string();
    let labels = [&*format!("partition=\"{partition}\""), "of=\"attempts\""];
    let share = host.metric(METRIC, &labels).unwrap();
    assert!(share > 0.7 && share <= 1.0, "{share}");
    let (_, page) = host.get("/metrics").unwrap();
    assert!(!page.contains("customer-17"), "no key is a label");

    let shown = folder.ok(&["lag", "work", "--hot-keys"], "");
    let advice = format!("work: work[{partition}]: key customer-17 has");
    assert!(shown.contains(&advice) && shown.contains("split the key"), "{shown}");
    host.stop(END_WITHIN);
}

#[test]
fn without_a_host_it_is_said_who_knows() {
    let folder = folder("");
    let ended = folder.run(&["lag", "--hot-keys"], "");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("no host"), "{}", ended.stderr);
}
