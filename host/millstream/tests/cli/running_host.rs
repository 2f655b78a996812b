//! Commands beside a running host: they reach its log through its admin API by themselves.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use millstream_guest_builder::guest;
use tokio::time::Instant;

use crate::ORDERS;
use crate::folder::{Folder, Ran};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host in a folder, killed when the test is done with it.
struct Host(Child);

impl Host {
    /// Starts it and waits until its admin API answers.
    fn start(folder: &Folder) -> Self {
        let mut command = folder.command(&["run"]);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        while !said.contains("admin API and metrics at") {
            let read = stderr.read_line(&mut said).expect("readable");
            assert!(read > 0, "the host ended: {said}");
        }
        // Kept read, or the host would block on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Self(child)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn folder() -> Folder {
    let folder = Folder::new();
    std::fs::copy(guest("hostile"), folder.path().join("orders.wasm")).expect("copied");
    folder.write("millstream.toml", &format!("[host]\nadmin = \"127.0.0.1:0\"\n{ORDERS}"));
    folder
}

/// Runs a command until it says what it should.
fn until(folder: &Folder, args: &[&str], wanted: impl Fn(&Ran) -> bool) -> Ran {
    let started = Instant::now();
    loop {
        let ran = folder.run(args);
        if ran.code == 0 && wanted(&ran) {
            return ran;
        }
        assert!(started.elapsed() < PATIENCE, "{args:?} still says {ran:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn every_command_works_on_the_log_of_a_running_host() {
    let folder = folder();
    let _host = Host::start(&folder);
    let ran = folder.run(&["--verbose", "topics", "list"]).done();
    assert!(ran.stderr.contains("reaching its host at 127.0.0.1:"), "{ran:?}");
    let quiet = folder.run(&["topics", "list"]).done();
    assert_eq!(quiet.stderr, "", "only who asks for more is told");

    let input = "{\"key\":\"a\",\"value\":\"echo\"}\n{\"key\":\"b\",\"value\":\"reject never\"}\n";
    folder.run_with(&["produce", "orders"], input).done();
    let consume = ["consume", "priced", "--from-beginning"];
    let priced = until(&folder, &consume, |ran| !ran.stdout.is_empty());
    assert!(priced.stdout.contains(r#""value":"echo""#), "{priced:?}");
    let list = ["dlq", "list", "--json"];
    until(&folder, &list, |ran| ran.stdout.contains("\"total\": 1"));
    until(&folder, &["lag", "--json"], |ran| ran.stdout.contains("\"due_lag\": 0"));

    // A redriven letter is handled again, and rejected again.
    folder.run(&["dlq", "redrive"]).fails(2, "say `--yes`");
    let ran = folder.run(&["dlq", "redrive", "--yes"]).done();
    assert!(ran.stdout.contains("1 dead letter put back"), "{ran:?}");
    until(&folder, &list, |ran| ran.stdout.contains("\"redrives\": 1"));

    folder.run(&["topics", "create", "extra", "--partitions", "1"]).done();
    folder.run_with(&["produce", "extra"], "{\"valu\":1}\n").fails(1, "line 1");
}

#[test]
fn a_configured_token_opens_the_host_and_another_does_not() {
    let folder = folder();
    let config = |token: &str| {
        format!("[host]\nadmin = \"127.0.0.1:0\"\nadmin_token = \"{token}\"\n{ORDERS}")
    };
    folder.write("millstream.toml", &config("0123456789abcdef"));
    let _host = Host::start(&folder);
    folder.run(&["topics", "list"]).done();
    folder.write("millstream.toml", &config("fedcba9876543210"));
    let ran = folder.run(&["topics", "list"]).fails(1, "MS2002");
    assert!(!ran.stderr.contains("fedcba"), "{ran:?}");
}

#[test]
fn once_the_host_is_killed_commands_open_the_folder_again() {
    let folder = folder();
    let host = Host::start(&folder);
    folder.run_with(&["produce", "orders"], "{\"value\":\"echo\"}\n").done();
    drop(host);
    let ran = folder.run(&["--verbose", "consume", "orders", "--from-beginning"]).done();
    assert!(ran.stderr.contains("opened the log in"), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 1, "what was acknowledged is there: {ran:?}");
}

#[test]
fn a_second_host_on_the_same_folder_is_refused() {
    let folder = folder();
    let _host = Host::start(&folder);
    folder.run(&["run"]).fails(1, "in use by");
}

#[test]
fn retries_that_a_changed_template_would_leave_behind_are_found() {
    let folder = folder();
    let config = std::fs::read_to_string(folder.path().join("millstream.toml")).expect("there");
    let config = config.replace("\"5s\", \"1m\"", "\"1h\"");
    folder.write("millstream.toml", &config);
    let host = Host::start(&folder);
    folder.run_with(&["produce", "orders"], "{\"value\":\"retry later\"}\n").done();
    until(&folder, &["lag", "--json"], |ran| ran.stdout.contains("\"waiting\": 1"));
    drop(host);
    folder.run(&["check"]).done();
    let template = "retry = { topic = \"{topic}.{group}.retry.{delay}\", ";
    folder.write("millstream.toml", &config.replace("retry = { ", template));
    folder.run(&["check"]).fails(2, "1 retries in orders.retry.1h would never be read");
}
