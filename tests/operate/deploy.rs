//! Versions of a plugin: deployed under load, refused, rolled back, damaged, and interrupted by kills.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::Duration;

use millstream_guest_builder::guest;
use millstream_tests::folder::Folder;
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::versions::{made_once, put_version};
use millstream_tests::waiting;
use tokio::time::Instant;

const WITHIN: Duration = Duration::from_secs(60);
/// Messages a second while something is deployed, in steps.
const RATE: usize = 5_000;
const STEP: Duration = Duration::from_millis(50);

const CONFIG: &str = r#"
[host]
admin = "127.0.0.1:0"

[log]
durability = "100ms"

[pipelines.work]
source = { topics = ["work"] }
plugin = "one.wasm"
outputs = { default = "done" }
instances = 2
limits = { time = "20s" }
retry = { delays = [] }
"#;

fn folder() -> Folder {
    let folder = Folder::new(CONFIG);
    for version in ["one", "two", "half"] {
        put_version(&folder, version);
    }
    folder.ok(&["topics", "create", "--pipelines"], "");
    folder
}

/// Sends numbers, [`RATE`] a second, until it is told to stop; says how many it has sent.
struct Feed {
    stop: std::sync::mpsc::SyncSender<()>,
    sent: std::thread::JoinHandle<usize>,
}

impl Feed {
    fn start(folder: &Folder, from: usize) -> Self {
        let (stop, stopped) = std::sync::mpsc::sync_channel(1);
        let mut command = folder.command(&["produce", "work"]);
        let mut produce = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let sent = std::thread::spawn(move || {
            let mut input = produce.stdin.take().unwrap();
            let (begin, mut sent) = (Instant::now(), 0);
            while stopped.try_recv().is_err() {
                let due = (begin.elapsed().as_secs_f64() * RATE as f64) as usize;
                let mut lines = String::new();
                for number in from + sent..from + due {
                    let key = number % 500;
                    lines += &format!("{{\"key\":\"k{key}\",\"value\":\"{number}\"}}\n");
                }
                input.write_all(lines.as_bytes()).unwrap();
                sent = due;
                std::thread::sleep(STEP);
            }
            drop(input);
            assert!(produce.wait().unwrap().success(), "intake went on");
            sent
        });
        Self { stop, sent }
    }

    fn end(self) -> usize {
        self.stop.send(()).unwrap();
        self.sent.join().unwrap()
    }
}

/// Waits until the metrics show this version, and no other.
fn until_shown(host: &mut Host, version: &str) {
    let label = format!("version=\"{version}\"");
    waiting::until("the metrics show the version", WITHIN, || {
        let (_, page) = host.get("/metrics")?;
        let shown = |line: &&str| line.starts_with("millstream_plugin_info{");
        let series: Vec<&str> = page.lines().filter(shown).collect();
        (series.len() == 1 && series[0].contains(&label)).then_some(())
    });
}

fn swaps(host: &mut Host) -> Option<f64> {
    host.metric("millstream_plugin_swaps_total", &[])
}

fn outputs(host: &mut Host) -> Option<f64> {
    host.metric("millstream_outputs_total", &[])
}

/// Waits until so many more outputs are there.
fn until_more(host: &mut Host, more: f64) {
    let before = outputs(host).unwrap_or(0.0);
    waiting::until("work goes on", WITHIN, || (outputs(host)? >= before + more).then_some(()));
}

/// How long messages are sent between two steps.
fn lasts() -> f64 {
    if std::env::var_os("MILLSTREAM_SOAK").is_some() { 150_000.0 } else { 5_000.0 }
}

#[test]
#[expect(clippy::print_stdout, reason = "figures for who asks, with --nocapture")]
fn a_deploy_under_load_loses_nothing_and_no_message_is_handled_by_two_versions() {
    let folder = folder();
    let mut host = Host::start(&folder);
    host.until_ready();
    let feed = Feed::start(&folder, 0);
    until_more(&mut host, lasts());
    assert_eq!(swaps(&mut host), Some(0.0));
    let begin = Instant::now();
    folder.ok(&["deploy", "work", "two.wasm", "--version", "2"], "");
    let took = begin.elapsed();
    until_shown(&mut host, "2");
    assert_eq!(swaps(&mut host), Some(1.0));
    until_more(&mut host, lasts());
    let sent = feed.end();
    folder.until_settled(WITHIN);
    host.stop(END_WITHIN);
    let done = folder.consume("done");
    let made = made_once(done.iter().map(|line| line.text()), sent);
    println!("{sent} messages, deployed in {took:?}, made by {made:?}");
    assert!(made["one"] > 1_000 && made["two"] > 1_000 && made.len() == 2, "{made:?}");
}

#[test]
#[expect(clippy::print_stdout, reason = "figures for who asks, with --nocapture")]
fn a_version_that_fails_half_its_messages_is_rolled_back_and_its_failures_are_redriven() {
    let folder = folder();
    let mut host = Host::start(&folder);
    host.until_ready();
    let feed = Feed::start(&folder, 0);
    until_more(&mut host, lasts() / 5.0);
    folder.ok(&["deploy", "work", "half.wasm", "--version", "2-half"], "");
    waiting::until("messages fail", WITHIN, || {
        (host.metric("millstream_dead_letters_total", &[])? > 500.0).then_some(())
    });
    let begin = Instant::now();
    folder.ok(&["rollback", "work", "--by", "the operator"], "");
    let took = begin.elapsed();
    until_more(&mut host, lasts() / 5.0);
    let sent = feed.end();
    folder.until_settled(WITHIN);

    // The identity is that of the version that made the attempt, not of what is in use.
    let dead = folder.consume("work.dlq");
    let by = |letter: &millstream_tests::topic::Line| {
        (
            letter.header("millstream-plugin-version").to_owned(),
            letter.text().parse::<u64>().unwrap(),
        )
    };
    assert!(dead.iter().map(by).all(|(version, n)| version == "2-half" && n % 2 == 1));
    folder.ok(&["dlq", "redrive", "work", "--yes"], "");
    folder.until_settled(WITHIN);
    host.stop(END_WITHIN);
    let done = folder.consume("done");
    let made = made_once(done.iter().map(|line| line.text()), sent);
    println!("{sent} messages, {} failed, rolled back in {took:?}, made by {made:?}", dead.len());
    assert!(made["half"] >= dead.len() / 2 && made["one"] > dead.len(), "{made:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");

    let trail = folder.json(&["audit", "--json"]);
    let told: Vec<(&str, &str, &str)> = trail
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["pipeline"] == "work" && entry["action"] != "redrive")
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap();
            (text("action"), text("outcome"), text("by"))
        })
        .collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(told[3], ("rollback", "done", "the operator"));
    assert_eq!((told[0].0, told[0].1), ("deploy", "begun"));
}

#[test]
fn what_does_not_work_is_refused_and_nothing_changes() {
    let folder = folder();
    folder.plugin("settings.wasm", &guest("settings"));
    folder.write("smoke.jsonl", "{\"value\":\"2\"}\n{\"value\":\"3\"}\n");
    let mut host = Host::start(&folder);
    host.until_ready();
    let refused = |args: &[&str], why: &str| {
        let ended = folder.run(args, "");
        assert_ne!(ended.code, Some(0), "{args:?}");
        assert!(ended.stderr.contains(why), "{args:?}: {}", ended.stderr);
    };
    refused(&["deploy", "work", "settings.wasm"], "wasi:config");
    refused(&["deploy", "work", "half.wasm", "--smoke", "smoke.jsonl"], "half takes no 3");
    refused(
        &["deploy", "work", "two.wasm", "--version", "two words"],
        "a version cannot be called",
    );
    refused(&["deploy", "other", "two.wasm"], "there is no pipeline");
    refused(&["rollback", "work"], "nothing was deployed");
    until_shown(&mut host, "unknown");

    folder.ok(&["deploy", "work", "two.wasm", "--version", "2", "--smoke", "smoke.jsonl"], "");
    refused(&["deploy", "work", "half.wasm", "--version", "2"], "is another plugin already");
    refused(&["deploy", "work", "two.wasm", "--version", "3"], "known as version 2");
    refused(&["rollback", "work", "--to", "9"], "there is no version");
    // Deploying what is in use is no change.
    let again = folder.json(&["deploy", "work", "two.wasm", "--json"]);
    assert_eq!((&again["already"], &again["number"]), (&true.into(), &1.into()));
    let status = folder.ok(&["status"], "");
    assert!(status.contains("version 2 (sha256:"), "{status}");
    assert_eq!(swaps(&mut host), Some(1.0));
    host.stop(END_WITHIN);
}

#[test]
fn rollbacks_go_back_one_version_after_the_other_and_never_forward() {
    let folder = folder();
    put_version(&folder, "three");
    let mut host = Host::start(&folder);
    host.until_ready();
    for (file, version) in [("two.wasm", "2"), ("three.wasm", "3")] {
        folder.ok(&["deploy", "work", file, "--version", version], "");
    }
    let back = |to: &[&str]| {
        let changed = folder.json(&[&["rollback", "work", "--json"], to].concat());
        changed["now"].as_str().unwrap().to_owned()
    };
    assert_eq!(back(&[]), "version 2");
    assert_eq!(back(&[]), "the file of the configuration");
    let ended = folder.run(&["rollback", "work"], "");
    assert!(ended.stderr.contains("nothing was in use before"), "{}", ended.stderr);
    // A version that no host holds ready any more is checked like a new one.
    assert_eq!(back(&["--to", "3"]), "version 3");
    until_shown(&mut host, "3");
    assert_eq!(back(&["--to", "file"]), "the file of the configuration");
    let versions = folder.json(&["versions", "work", "--json"]);
    assert_eq!(versions["in_use"], serde_json::Value::Null);
    assert_eq!(versions["changes"].as_array().unwrap().len(), 6);
    folder.ok(&["produce", "work"], "{\"value\":\"0\"}\n");
    folder.until_settled(WITHIN);
    assert_eq!(folder.consume("done")[0].text(), "0 one");
    let text = folder.ok(&["versions", "work"], "");
    assert!(text.contains("in use is the file"), "{text}");
    host.stop(END_WITHIN);
}

#[test]
fn without_a_host_it_is_tried_here_and_hosts_take_it_when_they_start() {
    let folder = folder();
    let ended = folder.run(&["deploy", "work", "two.wasm"], "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("no host runs"), "{}", ended.stderr);
    folder.ok(&["produce", "work"], "{\"value\":\"0\"}\n");
    // What stands in the file does not count any more, whatever it is.
    folder.write("one.wasm", "no Wasm at all");
    let ended = folder.run(&["run", "--until-caught-up"], "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("is deployed, by "), "{}", ended.stderr);
    assert_eq!(folder.consume("done")[0].text(), "0 two");
}

#[test]
fn bytes_that_are_not_those_of_the_version_are_not_run_until_they_are_deployed_again() {
    let folder = folder();
    let deployed = folder.json(&["deploy", "work", "two.wasm", "--version", "2", "--json"]);
    let digest = deployed["digest"].as_str().unwrap();
    let control = "millstream.control.work";
    let wrong = format!("{{\"partition\":1,\"key\":\"{digest}/00000\",\"value\":\"not it\"}}\n");
    folder.ok(&["produce", control, "--keep-partitions"], &wrong);
    let strange = "{\"partition\":0,\"key\":\"version/x\",\"value\":\"{}\"}\n{\"partition\":0,\"value\":\"x\"}\n";
    folder.ok(&["produce", control, "--keep-partitions"], strange);
    folder.ok(&["produce", "work"], "{\"value\":\"0\"}\n");
    let mut host = Host::start(&folder);
    waiting::until("it says that it cannot", WITHIN, || {
        let (status, page) = host.get("/health/ready")?;
        (status == 503 && page.contains("have the digest")).then_some(())
    });
    assert!(folder.consume("done").is_empty(), "nothing is handled by another version");
    assert!(host.said().contains("MS3004"), "{}", host.said());
    // A run that is to end by itself does not wait for ever, but fails: as soon as this host is gone.
    host.stop(END_WITHIN);
    let ended = folder.run(&["run", "--until-caught-up"], "");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let mut host = Host::start(&folder);
    waiting::until("it answers", WITHIN, || host.get("/health/live"));
    folder.ok(&["deploy", "work", "two.wasm"], "");
    host.until_ready();
    folder.until_settled(WITHIN);
    assert_eq!(folder.consume("done")[0].text(), "0 two");
    host.stop(END_WITHIN);
}

/// Begins to deploy a version whose check takes seconds, and waits until the host checks it.
fn begin_deploy(folder: &Folder) -> std::process::Child {
    folder.write("slow.jsonl", "{\"value\":\"sleep 2000\"}\n");
    let args = ["deploy", "work", "two.wasm", "--version", "2", "--smoke", "slow.jsonl"];
    let mut command = folder.command(&args);
    let mut deploy = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(deploy.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("checks it")), "it never got so far");
    deploy
}

#[test]
fn a_deploy_that_is_killed_in_the_middle_has_changed_nothing_and_the_next_one_works() {
    let folder = folder();
    let mut host = Host::start(&folder);
    host.until_ready();
    let mut deploy = begin_deploy(&folder);
    deploy.kill().unwrap();
    deploy.wait().unwrap();
    assert_eq!(folder.json(&["versions", "work", "--json"])["changes"], serde_json::json!([]));
    folder.ok(&["deploy", "work", "half.wasm", "--version", "h"], "");
    until_shown(&mut host, "h");
    host.kill();
    // Killed without a word, and started again: it takes what is deployed.
    let mut host = Host::start(&folder);
    host.until_ready();
    until_shown(&mut host, "h");
    // A proposal that nobody ended is not checked by who starts later.
    let mut deploy = begin_deploy(&folder);
    host.kill();
    assert!(!deploy.wait().unwrap().success(), "its host was killed");
    let mut host = Host::start(&folder);
    host.until_ready();
    until_shown(&mut host, "h");
    folder.ok(&["deploy", "work", "two.wasm", "--version", "2"], "");
    until_shown(&mut host, "2");
    host.stop(END_WITHIN);
}

/// Of two who deploy at once the later proposal stands: the other is told, and has changed nothing.
#[test]
fn of_two_deploys_at_once_one_is_told_that_the_other_was_faster() {
    let folder = folder();
    let mut host = Host::start(&folder);
    host.until_ready();
    let first = begin_deploy(&folder);
    folder.ok(&["deploy", "work", "half.wasm", "--version", "h", "--by", "another"], "");
    assert!(!first.wait_with_output().unwrap().status.success(), "it was overtaken");
    let versions = folder.json(&["versions", "work", "--json"]);
    assert_eq!(versions["versions"].as_array().unwrap().len(), 1, "{versions}");
    until_shown(&mut host, "h");
    let trail = folder.ok(&["audit"], "");
    assert!(trail.contains("another was faster"), "{trail}");
    host.stop(END_WITHIN);
}
