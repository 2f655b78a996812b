//! What a plugin gets: its message whole, its log, its settings, derived clocks and random.

use std::collections::BTreeMap;

use millstream_core::outcome::Destination;
use millstream_sandbox::{Clock, Grants};

use super::*;

#[tokio::test]
async fn a_message_passes_unchanged() {
    let sandbox = sandbox();
    for guest in ["echo", "core-echo"] {
        let plugin = load(&sandbox, guest, options());
        let mut instance = instance(&plugin).await;
        for value in ["", "some value"] {
            let message = message(value);
            let outputs = done(instance.handle(&message, attempt(1)).await);
            let [output] = &outputs[..] else { panic!("{outputs:?}") };
            assert_eq!(output.to, Destination::Default);
            assert_eq!((&output.key, &output.value), (&message.key, &message.value));
            assert_eq!(output.headers, message.headers);
        }
        let tombstone = Message { key: None, value: None, headers: vec![], ..message("") };
        let outputs = done(instance.handle(&tombstone, attempt(1)).await);
        assert_eq!((&outputs[0].key, &outputs[0].value), (&None, &None));
    }
}

#[tokio::test]
async fn the_guest_sees_position_first_time_and_attempt() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", options());
    let shown = text(instance(&plugin).await.handle(&message("show"), attempt(4)).await);
    for part in [
        "topic: \"orders.created\"",
        "partition: 3",
        "offset: 42",
        "timestamp: 1600000000123",
        "attempt: 4",
        "key: Some([107, 255])",
    ] {
        assert!(shown.contains(part), "expected {part} in {shown}");
    }
}

#[tokio::test]
async fn failures_and_destinations_are_handed_on_as_they_are() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", options());
    let mut instance = instance(&plugin).await;
    let ms = Duration::from_millis;
    let outcomes = [
        ("retry not yet", Outcome::Retry { reason: "not yet".into(), after: Some(ms(2_500)) }),
        ("reject no such order", Outcome::Reject { reason: "no such order".into() }),
        (
            "pause database down",
            Outcome::Pause { reason: "database down".into(), pause: ms(1_500) },
        ),
    ];
    for (way, expected) in outcomes {
        assert_eq!(handle(&mut instance, way).await, expected);
    }
    // Whether a destination exists is the pipeline's business, not the sandbox's.
    let outputs = done(handle(&mut instance, "named nowhere").await);
    assert_eq!(outputs[0].to, Destination::Named("nowhere".into()));
    let outputs = done(handle(&mut instance, "reply").await);
    assert_eq!(outputs[0].to, Destination::Reply);
}

#[tokio::test]
async fn log_lines_carry_pipeline_and_position_and_stay_one_line() {
    let sandbox = sandbox();
    let lines = Arc::new(Lines::default());
    let plugin = load(&sandbox, "hostile", PluginOptions { log: lines.clone(), ..options() });
    done(handle(&mut instance(&plugin).await, "lines 1").await);
    assert_eq!(
        *lines.0.lock().unwrap(),
        [
            "Info orders orders.created[3]@42 lines: line 0",
            "Error orders orders.created[3]@42 \\u{1b}[31mred: two\\nlines",
            "Info orders orders.created[3]@42 stdout: to stdout",
            "Warn orders orders.created[3]@42 stderr: to stderr",
        ]
    );
}

#[tokio::test]
async fn log_lines_are_bounded_in_number_and_length() {
    let sandbox = sandbox();
    let lines = Arc::new(Lines::default());
    let limits = Limits { log_lines: 2, log_line_bytes: 10, ..options().limits };
    let options = PluginOptions { log: lines.clone(), limits, ..options() };
    let plugin = load(&sandbox, "hostile", options);
    let mut instance = instance(&plugin).await;
    done(handle(&mut instance, "lines 10").await);
    done(handle(&mut instance, "long-line").await);
    let at = "orders orders.created[3]@42";
    assert_eq!(
        *lines.0.lock().unwrap(),
        [
            format!("Info {at} lines: line 0"),
            format!("Info {at} lines: line 1"),
            format!(
                "Warn {at} log limit: 11 more lines dropped: limits.log_lines allows 2 of one call"
            ),
            format!("Info {at} long: xxxxxxxxxx… [99990 bytes cut]"),
            format!("Info {at} stdout: yyyyyyyyyy… [4095990 bytes cut]"),
        ]
    );
}

#[tokio::test]
async fn settings_are_those_of_the_granted_table() {
    let sandbox = sandbox();
    let table = [("currency", "EUR"), ("rounding", "half-even")];
    let config = table.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let grants = Grants { config: Some(config) };
    let plugin = load(&sandbox, "settings", PluginOptions { grants, ..options() });
    let mut instance = instance(&plugin).await;
    assert_eq!(text(handle(&mut instance, "currency").await), "EUR");
    let outputs = done(handle(&mut instance, "colour").await);
    assert_eq!(outputs[0].value, None, "a setting that is not there");
    let all = Message { value: None, ..message("") };
    let shown = text(instance.handle(&all, attempt(1)).await);
    assert_eq!(shown, r#"[("currency", "EUR"), ("rounding", "half-even")]"#);
    let grants = Grants { config: Some(BTreeMap::new()) };
    load(&sandbox, "settings", PluginOptions { grants, ..options() });
}

#[tokio::test]
async fn clock_and_random_are_the_same_in_a_replay_and_differ_between_attempts() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", options());
    let mut shown = Vec::new();
    for number in [1, 1, 2] {
        // A fresh instance each: a guest may keep what it drew in its memory.
        let outcome = instance(&plugin).await.handle(&message("time"), attempt(number)).await;
        shown.push(text(outcome));
    }
    assert_eq!(shown[0], shown[1], "a replay");
    assert_ne!(shown[0], shown[2], "another attempt");
    assert!(shown[0].starts_with("1600000000123ms slept=true "), "{}", shown[0]);

    let options = PluginOptions { clock: Clock::Pinned(86_400_000), ..options() };
    let plugin = load(&sandbox, "hostile", options);
    let shown = text(handle(&mut instance(&plugin).await, "time").await);
    assert!(shown.starts_with("86400000ms "), "{shown}");
}

#[tokio::test]
async fn a_guest_may_sleep_within_its_time() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", options());
    let started = tokio::time::Instant::now();
    assert_eq!(text(handle(&mut instance(&plugin).await, "sleep 50").await), "awake");
    assert!(started.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn there_are_no_files_no_environment_and_no_input() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", options());
    let shown = text(handle(&mut instance(&plugin).await, "environment").await);
    assert_eq!(shown, "0 0 false false 0");
}
