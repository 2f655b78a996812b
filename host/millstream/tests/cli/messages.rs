//! `produce` and `consume`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::folder::{Folder, Ran};

#[test]
fn what_is_produced_is_consumed() {
    let folder = Folder::new();
    let input = "{\"key\":\"a\",\"value\":\"1\",\"timestamp\":5}\n\n\
                 {\"value\":{\"base64\":\"/w==\"},\"headers\":[[\"h\",\"x\"],[\"h\",\"\"]]}\n\
                 {\"key\":\"a\",\"value\":null,\"partition\":7,\"topic\":\"elsewhere\",\"offset\":9}\n";
    folder.run(&["--data-dir", "d", "topics", "create", "t", "--partitions", "1"]).done();
    let ran = folder.run_with(&["--data-dir", "d", "produce", "t"], input).done();
    assert!(ran.stderr.contains("3 messages appended to t"), "{ran:?}");
    let ran = folder.run(&["--data-dir", "d", "consume", "t", "--from-beginning"]).done();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{ran:?}");
    assert_eq!(
        lines[0],
        r#"{"topic":"t","partition":0,"offset":0,"timestamp":5,"key":"a","value":"1","headers":[]}"#
    );
    assert!(lines[1].contains(r#""value":{"base64":"/w=="},"headers":[["h","x"],["h",""]]"#));
    assert!(lines[2].contains(r#""offset":2"#) && lines[2].contains(r#""value":null"#));

    // What consume prints, produce takes.
    folder.run(&["--data-dir", "d", "topics", "create", "copy", "--partitions", "1"]).done();
    folder.run_with(&["--data-dir", "d", "produce", "copy"], &ran.stdout).done();
    let copy = folder.run(&["--data-dir", "d", "consume", "copy", "--from-beginning"]).done();
    assert_eq!(copy.stdout, ran.stdout.replace(r#""topic":"t""#, r#""topic":"copy""#));
}

#[test]
fn consume_ends_where_it_is_told() {
    let folder = Folder::new();
    folder.run(&["--data-dir", "d", "topics", "create", "t", "--partitions", "3"]).done();
    let input: String = (0..2500).map(|n| format!("line {n}\n")).collect();
    folder.run_with(&["--data-dir", "d", "produce", "t", "--values"], &input).done();
    let all = folder.run(&["--data-dir", "d", "consume", "t", "--from-beginning"]).done();
    assert_eq!(all.stdout.lines().count(), 2500);
    let some = folder.run(&["--data-dir", "d", "consume", "t", "--from-beginning", "--max", "7"]);
    assert_eq!(some.done().stdout.lines().count(), 7);
    let one =
        folder.run(&["--data-dir", "d", "consume", "t", "--from-beginning", "--partition", "1"]);
    let one = one.done();
    assert!(one.stdout.lines().all(|line| line.contains(r#""partition":1"#)), "{one:?}");
    folder
        .run(&["--data-dir", "d", "consume", "t", "--from-beginning", "--partition", "3"])
        .fails(2, "from 0 to 2");
}

#[test]
fn a_bad_line_is_named_and_what_stood_before_it_is_there() {
    let folder = Folder::new();
    folder.run(&["--data-dir", "d", "topics", "create", "t", "--partitions", "1"]).done();
    let input = "{\"value\":\"1\"}\n{\"value\":\"2\"}\n{\"vallue\":\"3\"}\n{\"value\":\"4\"}\n";
    folder.run_with(&["--data-dir", "d", "produce", "t"], input).golden("bad-line");
    let ran = folder.run(&["--data-dir", "d", "consume", "t", "--from-beginning"]).done();
    assert_eq!(ran.stdout.lines().count(), 2, "{ran:?}");
}

#[test]
fn a_topic_that_is_not_there_is_not_made_in_passing() {
    let folder = Folder::new();
    folder.run(&["--data-dir", "d", "topics", "create", "orders"]).done();
    folder
        .run_with(&["--data-dir", "d", "produce", "order"], "{\"value\":\"1\"}\n")
        .golden("missing-topic");
    folder.run(&["--data-dir", "d", "consume", "zzz", "--from-beginning"]).fails(2, "MS2003");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = Folder::new();
    folder.run(&["--data-dir", "d", "topics", "create", "t", "--partitions", "1"]).done();
    let input = format!("{}\n", "x".repeat(1000)).repeat(3000);
    folder.run_with(&["--data-dir", "d", "produce", "t", "--values"], &input).done();
    let mut command = folder.command(&["--data-dir", "d", "consume", "t", "--from-beginning"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    drop(child.stdout.take());
    let ran = Ran::of(child.wait_with_output().expect("ended")).done();
    assert_eq!(ran.stderr, "", "nobody is left to be told");
}

#[test]
fn who_follows_a_topic_leaves_the_log_to_others_in_between() {
    let folder = Folder::new();
    folder.run(&["--data-dir", "d", "topics", "create", "t", "--partitions", "1"]).done();
    let produce = |value: &str| {
        folder.run_with(&["--data-dir", "d", "produce", "t", "--values"], value).done();
    };
    produce("1");
    let args = ["--data-dir", "d", "consume", "t", "--from-beginning", "--follow", "--max", "3"];
    let mut child = folder.command(&args).stdout(Stdio::piped()).spawn().expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("readable");
    assert!(next().contains(r#""value":"1""#));
    // It has the log now, or had it.
    produce("2");
    assert!(next().contains(r#""value":"2""#));
    produce("3");
    assert!(next().contains(r#""value":"3""#));
    assert!(child.wait().expect("ended").success());
}
