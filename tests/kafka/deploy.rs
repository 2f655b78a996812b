//! Versions of a plugin on several hosts: under load, refused by one of them, and taken by who comes later.

use std::time::Duration;

use millstream_guest_builder::guest;
use millstream_tests::folder::Folder;
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::kafka::shared;
use millstream_tests::kafka_topic::{Writer, read};
use millstream_tests::versions::{made_once, put_version};
use millstream_tests::waiting;
use tokio::time::Instant;

use crate::hosts::{Pipeline, is_soak};

const WITHIN: Duration = Duration::from_secs(120);
/// Messages a second while something is deployed.
const RATE: usize = 5_000;
const STEP: Duration = Duration::from_millis(20);

/// A pipeline whose file is version `one`, with its topics; all folders have all versions.
fn pipeline(more: &str) -> Pipeline {
    let more = format!("retry = {{ delays = [] }}\ncommit = {{ interval = \"100ms\" }}\n{more}");
    let pipeline = Pipeline::new(shared(), "versioned", "", &more);
    for folder in &pipeline.folders {
        for version in ["one", "two", "half"] {
            put_version(folder, version);
        }
        std::fs::copy(folder.path().join("one.wasm"), folder.path().join("plugin.wasm")).unwrap();
    }
    pipeline.folders[0].ok(&["topics", "create", "--pipelines"], "");
    pipeline
}

fn start(pipeline: &Pipeline, count: usize) -> Vec<Host> {
    let mut hosts: Vec<Host> = pipeline.folders.iter().take(count).map(Host::start).collect();
    hosts.iter_mut().for_each(Host::until_ready);
    // Both follow, and a deploy knows of both.
    waiting::until("all hosts follow", WITHIN, || (known(pipeline).len() == count).then_some(()));
    hosts
}

/// The hosts that the control topic knows, each with the version it runs.
fn known(pipeline: &Pipeline) -> Vec<Option<String>> {
    let versions = pipeline.folders[0].json(&["versions", &pipeline.source, "--json"]);
    let hosts = versions["hosts"].as_object().unwrap().values();
    hosts.map(|host| host["version"].as_str().map(ToOwned::to_owned)).collect()
}

/// Sends numbers, [`RATE`] a second, until it is told to stop; says how many it has sent.
struct Feed {
    stop: std::sync::mpsc::SyncSender<()>,
    sent: std::thread::JoinHandle<usize>,
}

impl Feed {
    fn start(pipeline: &Pipeline) -> Self {
        let (stop, stopped) = std::sync::mpsc::sync_channel(1);
        let (writer, source) = (Writer::new(pipeline.cluster.bootstrap()), pipeline.source.clone());
        let sent = std::thread::spawn(move || {
            let (begin, mut sent) = (Instant::now(), 0);
            while stopped.try_recv().is_err() {
                let due = (begin.elapsed().as_secs_f64() * RATE as f64) as usize;
                for number in sent..due {
                    writer.write(&source, &format!("k{}", number % 500), &number.to_string());
                }
                sent = due;
                std::thread::sleep(STEP);
            }
            writer.flush();
            sent
        });
        Self { stop, sent }
    }

    fn end(self) -> usize {
        self.stop.send(()).unwrap();
        self.sent.join().unwrap()
    }
}

fn total(hosts: &mut [Host], name: &str) -> Option<f64> {
    hosts.iter_mut().map(|host| host.metric(name, &[])).sum()
}

fn until_more(hosts: &mut [Host], more: f64) {
    let name = "millstream_outputs_total";
    let before = total(hosts, name).unwrap_or(0.0);
    waiting::until("work goes on", WITHIN, || (total(hosts, name)? >= before + more).then_some(()));
}

/// Waits until a host's metrics show this version, and no other.
fn until_shown(host: &mut Host, version: &str) {
    let label = format!("version=\"{version}\"");
    let name = "millstream_plugin_info";
    waiting::until("the metrics show the version", WITHIN, || {
        (host.metric(name, &[&label])? == 1.0 && host.metric(name, &[])? == 1.0).then_some(())
    });
}

#[test]
#[expect(clippy::print_stdout, reason = "figures for who asks, with --nocapture")]
fn versions_come_and_go_under_load_on_two_hosts_and_the_sums_hold() {
    let pipeline = pipeline("");
    let (folder, name) = (&pipeline.folders[0], pipeline.source.as_str());
    let mut hosts = start(&pipeline, 2);
    let feed = Feed::start(&pipeline);
    let lasts = if is_soak() { 150_000.0 } else { 5_000.0 };
    until_more(&mut hosts, lasts);
    let begin = Instant::now();
    folder.ok(&["deploy", name, "two.wasm", "--version", "2"], "");
    let deployed = begin.elapsed();
    hosts.iter_mut().for_each(|host| until_shown(host, "2"));
    assert_eq!(total(&mut hosts, "millstream_plugin_swaps_total"), Some(2.0), "one on each host");
    until_more(&mut hosts, lasts);

    // A version that fails half of its messages: back with one command, its failures again with another.
    folder.ok(&["deploy", name, "half.wasm", "--version", "3"], "");
    waiting::until("messages fail", WITHIN, || {
        (total(&mut hosts, "millstream_dead_letters_total")? > 500.0).then_some(())
    });
    let begin = Instant::now();
    let said = folder.run(&["rollback", name], "");
    let rolled_back = begin.elapsed();
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.stderr.matches(": runs it").count(), 2, "{}", said.stderr);
    until_more(&mut hosts, lasts);
    let sent = feed.end();
    pipeline.until_settled();
    let dead = folder.consume(&format!("{name}.dlq"));
    assert!(dead.iter().all(|letter| letter.header("millstream-plugin-version") == "3"));
    folder.ok(&["dlq", "redrive", name, "--yes"], "");
    pipeline.until_settled();
    hosts.into_iter().for_each(|host| host.stop(END_WITHIN));

    let done = read(pipeline.cluster.bootstrap(), &pipeline.output);
    let made = made_once(done.iter().map(|message| &*message.value), sent);
    println!(
        "{sent} messages, deployed in {deployed:?}, {} failed, rolled back in {rolled_back:?}, made by {made:?}",
        dead.len()
    );
    assert_eq!(made.keys().collect::<Vec<_>>(), ["half", "one", "two"]);
    assert!(made.values().all(|made| *made > 200), "{made:?}");
    assert!(rolled_back < Duration::from_secs(10), "{rolled_back:?}");
}

#[test]
fn a_version_that_one_host_refuses_is_deployed_nowhere() {
    let pipeline = pipeline("");
    let (granted, bare) = (&pipeline.folders[0], &pipeline.folders[1]);
    let config = std::fs::read_to_string(granted.path().join("millstream.toml")).unwrap();
    granted.write(
        "millstream.toml",
        &format!("{config}capabilities = {{ config = {{ a = \"b\" }} }}\n"),
    );
    granted.plugin("settings.wasm", &guest("settings"));
    let mut hosts = start(&pipeline, 2);
    let name = pipeline.source.as_str();
    let ended = granted.run(&["deploy", name, "settings.wasm", "--version", "s"], "");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let refused = ended.stderr.contains("refuses it") && ended.stderr.contains("wasi:config");
    assert!(refused, "{}", ended.stderr);
    assert_eq!(total(&mut hosts, "millstream_plugin_swaps_total"), Some(0.0));
    let versions = granted.json(&["versions", name, "--json"]);
    assert_eq!(
        (&versions["versions"], &versions["changes"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );

    // Alone, the host that can takes it; who can't and comes later is not ready, and disturbs nobody.
    hosts.pop().unwrap().stop(END_WITHIN);
    granted.ok(&["deploy", name, "settings.wasm", "--version", "s"], "");
    let mut late = Host::start(bare);
    waiting::until("it says that it cannot", WITHIN, || {
        let (status, page) = late.get("/health/ready")?;
        (status == 503 && page.contains("wasi:config")).then_some(())
    });
    pipeline.write(0, 100);
    pipeline.until_settled();
    assert_eq!(
        late.metric("millstream_attempts_total", &[]),
        Some(0.0),
        "nothing was handled there"
    );
    // What it can is in use again: it takes part.
    granted.ok(&["rollback", name], "");
    late.until_ready();
    late.stop(END_WITHIN);
    hosts.pop().unwrap().stop(END_WITHIN);
}

#[test]
fn hosts_that_start_later_take_what_is_in_use_and_one_that_was_killed_counts_as_gone() {
    let pipeline = pipeline("");
    let (folder, name) = (&pipeline.folders[0], pipeline.source.as_str());
    let mut hosts = start(&pipeline, 2);
    hosts.pop().unwrap().kill();
    let ended = folder.run(&["deploy", name, "two.wasm", "--version", "2"], "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("counts as gone"), "{}", ended.stderr);
    let mut late = Host::start(&pipeline.folders[2]);
    late.until_ready();
    until_shown(&mut late, "2");
    waiting::until("it is known", WITHIN, || {
        (known(&pipeline) == [Some("2".to_owned()), Some("2".to_owned())]).then_some(())
    });
    late.stop(END_WITHIN);
    assert_eq!(known(&pipeline).len(), 1, "who ends says so");
    hosts.pop().unwrap().stop(END_WITHIN);
}

/// Two commands at once: at least one is told, or they came one after the other; all hosts run what the log says.
#[test]
fn two_who_deploy_at_once_leave_all_hosts_with_one_version() {
    let pipeline = pipeline("");
    let mut hosts = start(&pipeline, 2);
    let deploy = |folder: &Folder, file: &str| {
        let name = pipeline.source.clone();
        let mut command =
            folder.command(&["deploy", &name, &format!("{file}.wasm"), "--version", file]);
        command.spawn().unwrap()
    };
    let both = [deploy(&pipeline.folders[0], "two"), deploy(&pipeline.folders[1], "half")];
    let done = both.map(|mut child| child.wait().unwrap().success());
    assert!(done.iter().any(|done| *done), "one of them came through");
    let versions = pipeline.folders[0].json(&["versions", &pipeline.source, "--json"]);
    let changes = versions["changes"].as_array().unwrap().len();
    assert_eq!(changes, done.iter().filter(|done| **done).count(), "{versions}");
    let of = |digest: &serde_json::Value| {
        let versions = versions["versions"].as_array().unwrap();
        let found = versions.iter().find(|version| version["digest"] == *digest).unwrap();
        found["version"].as_str().unwrap().to_owned()
    };
    let in_use = of(&versions["in_use"]);
    hosts.iter_mut().for_each(|host| until_shown(host, &in_use));
    hosts.into_iter().for_each(|host| host.stop(END_WITHIN));
}

#[test]
fn without_a_control_topic_a_host_runs_its_file_and_a_deploy_says_what_to_do() {
    let pipeline = Pipeline::new(shared(), "versioned", "", "");
    let (folder, name) = (&pipeline.folders[0], pipeline.source.as_str());
    put_version(folder, "two");
    let mut host = Host::start(folder);
    host.until_ready();
    let ended = folder.run(&["deploy", name, "two.wasm"], "");
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("millstream topics create --pipelines"), "{}", ended.stderr);
    let versions = folder.ok(&["versions", name], "");
    assert!(versions.contains("nothing was deployed"), "{versions}");
    // It notices when the topic is made, without a restart.
    folder.ok(&["topics", "create", "--pipelines"], "");
    waiting::until("it follows", WITHIN, || (known(&pipeline).len() == 1).then_some(()));
    folder.ok(&["deploy", name, "two.wasm", "--version", "2"], "");
    until_shown(&mut host, "2");
    host.stop(END_WITHIN);
}
