//! The command line as a user has it: the real binary in a fresh folder. Output in
//! `tests/golden/<name>.txt`; `BLESS=1 cargo test -p millstream --test cli` writes what comes, to be
//! read before it is kept.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_millstream");

/// A fresh folder to run commands in.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).current_dir(self.path());
        command.env_remove("MILLSTREAM_LOG").env_remove("RUST_LOG").env("COLUMNS", "100");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().expect("started"))
    }

    fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let mut stdin = child.stdin.take().expect("piped");
        // A command that refuses early closes its end.
        drop(stdin.write_all(input.as_bytes()));
        drop(stdin);
        Ran::of(child.wait_with_output().expect("ended"))
    }
}

#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by itself"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    fn done(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    fn fails(self, code: i32, with: &str) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.stderr.contains(with), "no {with:?} in {self:#?}");
        self
    }

    /// Compares everything with `tests/golden/<name>.txt`.
    fn golden(&self, name: &str) {
        let came = format!(
            "exit {}\n--- stdout\n{}--- stderr\n{}",
            self.code, self.stdout, self.stderr
        );
        let path = PathBuf::from("tests/golden").join(format!("{name}.txt"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, came).expect("written");
            return;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(came, expected, "{} differs", path.display());
    }
}

const ORDERS: &str = r#"
[log]
new_topics = { partitions = 2 }

[pipelines.orders]
source = { topics = ["orders"] }
plugin = "orders.wasm"
outputs = { default = "priced" }
instances = 1
retry = { delays = ["5s", "1m"] }
"#;

#[test]
fn help_is_as_it_was() {
    let folder = Folder::new();
    folder.run(&["--help"]).done().golden("help");
    folder.run(&["topics", "create", "--help"]).done().golden("help-topics-create");
    folder.run(&["consume", "--help"]).done().golden("help-consume");
    folder.run(&["plugin", "test", "--help"]).done().golden("help-plugin-test");
}

#[test]
fn no_command_and_wrong_arguments_are_wrong_usage() {
    let folder = Folder::new();
    assert_eq!(folder.run(&[]).code, 2);
    folder.run(&["prodduce"]).fails(2, "produce");
    folder.run(&["consume", "orders", "--max", "many"]).fails(2, "--max");
    folder.run(&["topics", "create"]).fails(2, "required");
    folder.run(&["topics", "create", "a", "--pipelines"]).fails(2, "cannot be used with");
    folder.run(&["topics", "create", "a", "--partitions", "0"]).fails(2, "--partitions");
    folder.run(&["--log", "no=such=level", "completions", "bash"]).fails(2, "MS2005");
}

#[test]
fn a_missing_configuration_says_which_file_and_what_to_do() {
    let folder = Folder::new();
    folder.run(&["check"]).golden("no-config");
    folder.run(&["--config", "other.toml", "lag"]).golden("no-other-config");
    folder.run(&["topics", "list"]).golden("no-config-nor-folder");
}

#[test]
fn an_unknown_key_is_shown_with_its_line() {
    let folder = Folder::new();
    folder.write("millstream.toml", &ORDERS.replace("delays", "delay"));
    folder.run(&["check"]).golden("unknown-key");
}

#[test]
fn errors_are_not_coloured_when_they_go_into_a_file() {
    let folder = Folder::new();
    let ran = folder.run(&["check"]).fails(2, "error[MS1001]");
    assert!(!ran.stderr.contains('\x1b'), "{ran:?}");
}

#[test]
fn check_names_a_missing_plugin_and_exits_2() {
    let folder = Folder::new();
    folder.write("millstream.toml", ORDERS);
    folder.run(&["check"]).golden("missing-plugin");
}

#[test]
fn check_finds_everything_at_once() {
    let folder = Folder::new();
    let second = ORDERS.replace("orders", "payments");
    let second = second.split_once("[pipelines").expect("a pipeline").1;
    folder.write("millstream.toml", &format!("{ORDERS}\n[pipelines{second}"));
    folder.write("payments.wasm", "no Wasm at all");
    let ran = folder.run(&["check"]).fails(2, "2 errors");
    assert!(ran.stderr.contains("orders.wasm") && ran.stderr.contains("payments.wasm"), "{ran:?}");
}

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
    let one = folder.run(&["--data-dir", "d", "consume", "t", "--from-beginning", "--partition", "1"]);
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
fn topics_are_created_listed_described_and_grown() {
    let folder = Folder::new();
    let topics = |args: &[&str]| {
        folder.run(&[&["--data-dir", "d", "topics"], args].concat())
    };
    topics(&["list"]).done().golden("topics-none");
    topics(&["create", "t", "--partitions", "2", "--retention", "7d", "--dry-run"]).done();
    assert_eq!(topics(&["list", "--json"]).done().stdout, "[]\n", "a dry run makes nothing");
    topics(&["create", "t", "--partitions", "2", "--retention", "7d"]).done();
    topics(&["create", "t", "--partitions", "2"]).done().golden("topic-is-there");
    topics(&["create", "t", "--partitions", "3"]).done().golden("topic-grown");
    topics(&["create", "t", "--partitions", "1"]).golden("topic-too-large");
    topics(&["create", "a b"]).fails(2, "MS1007");
    topics(&["list"]).done().golden("topics-list");
    topics(&["list", "--json"]).done().golden("topics-list-json");
    topics(&["describe", "t"]).done().golden("topics-describe");
    topics(&["describe", "t", "--json"]).done().golden("topics-describe-json");
}

#[test]
fn all_topics_of_the_pipelines_are_made_once() {
    let folder = Folder::new();
    folder.write("millstream.toml", ORDERS);
    folder.run(&["topics", "create", "--pipelines", "--dry-run"]).done().golden("pipelines-dry-run");
    folder.run(&["topics", "create", "--pipelines"]).done().golden("pipelines-create");
    folder.run(&["topics", "create", "--pipelines"]).done().golden("pipelines-again");
}

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
    folder.run(&["dlq", "show", "orders/0/0"]).fails(2, "holds no dead letters");
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
    assert!(ran.stdout.contains("not written by a Millstream host"), "{ran:?}");
    let ran = folder.run(&["dlq", "redrive"]).done();
    assert!(ran.stdout.contains("not this pipeline's"), "{ran:?}");
    let ran = folder.run(&["dlq", "list", "--json"]).done();
    let listings: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(listings[0]["total"], 1, "{listings}");
}

#[test]
fn a_log_in_use_by_nobody_who_answers_is_waited_for_and_then_named() {
    let folder = Folder::new();
    folder.run(&["--data-dir", "d", "topics", "create", "t"]).done();
    let lock = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(folder.path().join("d/log/host.lock"))
        .expect("the lock file");
    lock.try_lock().expect("free");
    folder.run(&["--data-dir", "d", "topics", "list"]).fails(1, "in use by");
    drop(lock);
    folder.run(&["--data-dir", "d", "topics", "list"]).done();
}

#[test]
fn a_folder_that_is_no_log_is_refused() {
    let folder = Folder::new();
    folder.write("d/log/precious.txt", "mine");
    folder.run(&["--data-dir", "d", "topics", "list"]).fails(1, "is not an embedded log");
}

#[test]
fn a_new_plugin_is_a_folder_of_its_own() {
    let folder = Folder::new();
    folder.run(&["plugin", "new", "hello-world"]).done().golden("plugin-new");
    let file = |path: &str| {
        std::fs::read_to_string(folder.path().join("hello-world").join(path)).expect(path)
    };
    assert!(file("Cargo.toml").contains("name = \"hello-world\""));
    assert!(file("vendor/millstream-plugin/Cargo.toml").contains("name = \"millstream-plugin\""));
    assert!(file("vendor/millstream-plugin/src/lib.rs").len() > 100);
    for path in ["Cargo.toml", "README.md", "pipeline.toml"] {
        assert!(!file(path).contains("{{"), "{path} has a placeholder left");
    }
    let config = folder.path().join("hello-world/pipeline.toml");
    let config = millstream::config::load(&config).expect("its pipeline is well-formed");
    assert!(config.pipelines[0].plugin.ends_with("hello-world.wasm"));
    folder.run(&["plugin", "new", "hello-world"]).fails(2, "is there already");
    folder.run(&["plugin", "new", "Hello"]).fails(2, "MS1007");
}

#[test]
fn what_is_no_plugin_is_refused_by_every_plugin_command() {
    let folder = Folder::new();
    folder.write("text.wasm", "no Wasm at all");
    folder.run(&["plugin", "check", "text.wasm"]).fails(2, "MS2001");
    folder.run(&["plugin", "check", "none.wasm"]).fails(2, "cannot be read");
    folder.run(&["plugin", "build"]).fails(2, "no Cargo.toml");
    folder.run(&["plugin", "test"]).fails(1, "MS2008");
    folder.write("cases/readme.txt", "");
    folder.run(&["plugin", "test"]).fails(1, "there are no cases");
    folder.write("cases/one/in.jsonl", "{\"value\":\"1\"}\n");
    folder.write("cases/one/expect.jsonl", "{\"don\":[]}\n");
    folder.run(&["plugin", "test", "--wasm", "text.wasm"]).fails(1, "expect.jsonl:1");
    folder.write("cases/one/expect.jsonl", "");
    folder.run(&["plugin", "test", "--wasm", "text.wasm"]).fails(1, "has 1 messages");
    folder.write("cases/one/expect.jsonl", "{\"done\":[]}\n");
    folder.run(&["plugin", "test", "--wasm", "text.wasm"]).fails(2, "MS2001");
}

#[test]
fn completions_know_the_commands() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = folder.run(&["completions", shell]).done();
        assert!(ran.stdout.contains("redrive"), "{shell}");
    }
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
