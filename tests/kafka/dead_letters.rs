//! Dead letters on real brokers: a redrive that gets SIGKILL again and again, and letters that Kafka Streams and Kafka
//! Connect write themselves.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use millstream_tests::dead_letters::{each_once, redrive_and_kill, write};
use millstream_tests::draw::Draw;
use millstream_tests::folder::Folder;
use millstream_tests::kafka::{shared, unique};
use millstream_tests::kafka_topic::{Writer, read};
use millstream_tests::program::tree;
use millstream_tests::waiting;

const LETTERS: usize = 4_000;
const LETTERS_SOAK: usize = 100_000;
const KILLS: usize = 4;
const KILLS_SOAK: usize = 20;
const PARTITIONS: usize = 2;
/// A Java program starts in seconds, on a busy machine in many.
const WITHIN: Duration = Duration::from_secs(120);

fn folder(source: &str) -> Folder {
    Folder::new(&format!(
        r#"
[host]
admin = "127.0.0.1:0"

[log]
kind = "kafka"
bootstrap_servers = "{}"
new_topics = {{ partitions = {PARTITIONS} }}

[pipelines.{source}]
source = {{ topics = ["{source}"], group = "g-{source}" }}
plugin = "plugin.wasm"
"#,
        shared().bootstrap()
    ))
}

#[test]
#[expect(clippy::print_stdout, reason = "cargo shows it when the test fails, and soaks always")]
fn a_redrive_on_kafka_that_is_killed_sends_each_letter_once() {
    let soak = std::env::var_os("MILLSTREAM_SOAK").is_some();
    let (letters, kills) = if soak { (LETTERS_SOAK, KILLS_SOAK) } else { (LETTERS, KILLS) };
    let mut draw = Draw::seeded("redrive on kafka");
    let source = unique("orders");
    let folder = folder(&source);
    folder.ok(&["topics", "create", "--pipelines"], "");
    write(&folder, &source, &format!("g-{source}"), PARTITIONS, letters);
    let found =
        redrive_and_kill(&folder, &["dlq", "redrive", &source, "--yes"], letters, kills, &mut draw);
    println!("{letters} letters, {found:?}");
    assert!(found.in_the_middle > 0, "no kill fell into a redrive: {found:?}");
    // Read by a client of its own, committed messages only.
    let copies = read(shared().bootstrap(), &format!("{source}.retry.0s"));
    each_once(copies.into_iter().map(|copy| copy.value), letters);
    let listed = folder.json(&["dlq", "list", &source, "--json"]);
    assert_eq!(listed[0]["states"]["open"], 0, "{listed}");
}

/// A program of another framework, ended when this is dropped.
struct Other(Child);

impl Other {
    fn start(folder: &Path, args: &[&str]) -> Self {
        let log = std::fs::File::create(folder.join("other.log")).unwrap();
        let mut command = Command::new(tree().join("tests/kafka-cluster"));
        command.arg("other").args(args).current_dir(folder).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // The script has become the program.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn topic(name: &str) {
    shared().tool(&["topics", "--create", "--if-not-exists", "--topic", name, "--partitions", "2"]);
}

/// Waits for so many open letters in a topic, and gives the listing.
fn listed(folder: &Folder, topic: &str, count: u64) -> serde_json::Value {
    waiting::until("the letters are there", WITHIN, || {
        let listed = folder.json(&["dlq", "list", "--topic", topic, "--json"]);
        (listed[0]["total"] == count).then_some(listed)
    })
}

#[test]
fn dead_letters_of_kafka_streams_are_listed_with_their_reasons_and_redriven_to_their_source() {
    // The names are the example's own.
    let (source, letters) = ("streams-plaintext-input", unique("streams.dlq"));
    for name in [source, "streams-wordcount-output", &letters] {
        topic(name);
    }
    let folder = folder(&unique("unused"));
    let properties = format!(
        r"bootstrap.servers={}
application.id={}
default.value.serde=org.apache.kafka.common.serialization.Serdes$LongSerde
deserialization.exception.handler=org.apache.kafka.streams.errors.LogAndContinueExceptionHandler
errors.dead.letter.queue.topic.name={letters}
state.dir={}
commit.interval.ms=100
",
        shared().bootstrap(),
        unique("totals"),
        folder.path().join("state").display()
    );
    folder.write("streams.properties", &properties);
    let writer = Writer::new(shared().bootstrap());
    // Neither has eight bytes, as a number has.
    for value in ["no number", "nor is this"] {
        writer.write(source, value, value);
    }
    writer.flush();
    let streams = Other::start(
        folder.path(),
        &["org.apache.kafka.streams.examples.wordcount.WordCountDemo", "streams.properties"],
    );
    let found = listed(&folder, &letters, 2);
    drop(streams);
    for letter in found[0]["letters"].as_array().unwrap() {
        assert_eq!(letter["written_by"], "kafka-streams");
        assert_eq!(letter["kind"], "SerializationException");
        assert_eq!(letter["reason"], "Size of data received by LongDeserializer is not 8");
        assert_eq!(letter["origin"]["topic"], source);
    }
    assert_eq!(found[0]["groups"][0]["count"], 2);
    let shown = folder
        .ok(&["dlq", "show", &format!("{letters}/{}/0", found[0]["letters"][0]["partition"])], "");
    assert!(shown.contains("LongDeserializer.deserialize(LongDeserializer.java"), "{shown}");

    folder.ok(&["dlq", "redrive", "--topic", &letters, "--yes"], "");
    let values: Vec<String> =
        read(shared().bootstrap(), source).into_iter().map(|read| read.value).collect();
    for value in ["no number", "nor is this"] {
        assert_eq!(values.iter().filter(|found| *found == value).count(), 2, "{values:?}");
    }
    assert_eq!(listed(&folder, &letters, 0)[0]["states"]["redriven"], 2);
}

#[test]
fn dead_letters_of_kafka_connect_are_listed_with_their_reasons_and_redriven_once_mended() {
    let (source, letters, group) = (unique("paid"), unique("paid.dlq"), unique("sink"));
    for name in [&source, &letters] {
        topic(name);
    }
    let folder = folder(&unique("unused"));
    let bootstrap = shared().bootstrap();
    folder.write(
        "worker.properties",
        &format!(
            "bootstrap.servers={bootstrap}\nkey.converter=org.apache.kafka.connect.storage.StringConverter\nvalue.converter=org.apache.kafka.connect.json.JsonConverter\nvalue.converter.schemas.enable=false\noffset.storage.file.filename=offsets\noffset.flush.interval.ms=200\nlisteners=http://127.0.0.1:0\nplugin.discovery=only_scan\n"
        ),
    );
    let sink = |converter: &str| {
        format!(
            "name={group}\nconnector.class=org.apache.kafka.connect.file.FileStreamSinkConnector\ntasks.max=1\ntopics={source}\nfile=sunk\nvalue.converter={converter}\nvalue.converter.schemas.enable=false\nerrors.tolerance=all\nerrors.deadletterqueue.topic.name={letters}\nerrors.deadletterqueue.topic.replication.factor=1\nerrors.deadletterqueue.context.headers.enable=true\n"
        )
    };
    let run = || {
        let class = "org.apache.kafka.connect.cli.ConnectStandalone";
        Other::start(folder.path(), &[class, "worker.properties", "sink.properties"])
    };
    folder.write("sink.properties", &sink("org.apache.kafka.connect.json.JsonConverter"));
    let writer = Writer::new(bootstrap);
    for value in ["{\"paid\":1}", "no json", "nor this"] {
        writer.write(&source, "k", value);
    }
    writer.flush();
    let connect = run();
    let found = listed(&folder, &letters, 2);
    drop(connect);
    for letter in found[0]["letters"].as_array().unwrap() {
        assert_eq!(letter["written_by"], "kafka-connect");
        assert_eq!(letter["kind"], "DataException");
        let reason = letter["reason"].as_str().unwrap();
        assert!(reason.starts_with("value converter: Converting byte[]"), "{reason}");
        assert!(reason.contains("Unrecognized token"), "{reason}");
        assert_eq!(letter["origin"]["topic"], source);
        assert_eq!(letter["origin"]["group"], format!("{group} task 0"));
    }

    // Somebody mends the converter; the letters go to their source, and through the sink.
    folder.write("sink.properties", &sink("org.apache.kafka.connect.storage.StringConverter"));
    folder.ok(&["dlq", "redrive", "--topic", &letters, "--yes"], "");
    assert_eq!(read(bootstrap, &source).len(), 5);
    let connect = run();
    let sunk = waiting::until("the mended sink has them", WITHIN, || {
        let sunk = std::fs::read_to_string(folder.path().join("sunk")).ok()?;
        ["no json", "nor this"].iter().all(|value| sunk.contains(value)).then_some(sunk)
    });
    drop(connect);
    assert!(sunk.contains("paid"), "{sunk}");
    assert_eq!(listed(&folder, &letters, 0)[0]["states"]["redriven"], 2);
}
