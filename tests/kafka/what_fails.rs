//! The rows of the table "What fails" of `docs/kafka.md` that no other test of this folder shows: what is
//! done is one of wait, dead-letter that message, stop that pipeline.

use std::time::Duration;

use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::kafka::{Cluster, shared, unique};
use millstream_tests::kafka_topic::{Writer, counts, read};
use millstream_tests::waiting;

use crate::hosts::Pipeline;

const WITHIN: Duration = Duration::from_secs(120);

/// Says that something is gone soon: by default librdkafka takes half a minute for a broker's mistake.
const SOON: &str =
    "\"topic.metadata.propagation.max.ms\" = 1000, \"topic.metadata.refresh.interval.ms\" = 1000";

#[test]
fn a_source_topic_that_goes_away_stops_its_pipeline_and_no_other() {
    let other = unique("other");
    shared().tool(&["topics", "--create", "--topic", &other, "--partitions", "2"]);
    let more = format!(
        "[pipelines.{other}]\nsource = {{ topics = [\"{other}\"] }}\nplugin = \"plugin.wasm\"\noutputs = {{ }}"
    );
    let pipeline = Pipeline::new(shared(), "hostile", SOON, &more);
    let mut host = Host::start(&pipeline.folders[0]);
    host.until_ready();
    let source = pipeline.source.as_str();
    pipeline.cluster.tool(&["topics", "--delete", "--topic", source]);
    let up = |host: &mut Host, name: &str| {
        host.metric("millstream_pipeline_up", &[&format!("pipeline=\"{name}\"")])
    };
    waiting::until("the pipeline has stopped", WITHIN, || {
        up(&mut host, source).filter(|up| *up == 0.0)
    });
    let (status, text) = host.get("/health/ready").expect("it answers");
    assert!(status == 503 && text.contains(source), "{status}: {text}");
    let writer = Writer::new(pipeline.cluster.bootstrap());
    writer.write(&other, "k", "reject bad");
    writer.flush();
    waiting::until("the other pipeline goes on", WITHIN, || {
        let of_other = format!("pipeline=\"{other}\"");
        host.metric("millstream_dead_letters_total", &[&of_other]).filter(|n| *n == 1.0)
    });
    assert_eq!(up(&mut host, &other), Some(1.0));
    host.terminate();
    let said = host.said();
    let status = host.ended(END_WITHIN);
    assert_ne!(status.code(), Some(0), "a pipeline has failed:\n{said}");
    assert!(said.contains("pipeline stopped") && said.contains(source), "{said}");
}

#[test]
fn an_output_topic_that_goes_away_makes_dead_letters_of_what_goes_there() {
    let pipeline = Pipeline::new(shared(), "echo", SOON, "");
    let mut host = Host::start(&pipeline.folders[0]);
    host.until_ready();
    pipeline.write(0, 50);
    pipeline.until_settled();
    assert_eq!(read(pipeline.cluster.bootstrap(), &pipeline.output).len(), 50);
    pipeline.cluster.tool(&["topics", "--delete", "--topic", &pipeline.output]);
    pipeline.write(50, 60);
    pipeline.until_settled();
    host.stop(END_WITHIN);
    let letters = format!("{}.dlq", pipeline.source);
    let dead = pipeline.folders[0].consume(&letters);
    let mut values: Vec<u32> = dead.iter().map(|letter| letter.text().parse().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, (50..60).collect::<Vec<_>>());
    for letter in &dead {
        let reason = letter.header("millstream-error-reason");
        assert!(reason.contains(&pipeline.output), "{reason}");
    }
}

#[test]
fn an_output_larger_than_its_topic_takes_makes_a_dead_letter_and_nothing_else() {
    for delivery in ["at_least_once", "exactly_once"] {
        let more = format!("delivery = \"{delivery}\"\nretry = {{ delays = [] }}");
        let pipeline = Pipeline::new(shared(), "echo", "", &more);
        let of_output = ["--entity-type", "topics", "--entity-name", &pipeline.output];
        let smaller = ["configs", "--alter", "--add-config", "max.message.bytes=2000"];
        pipeline.cluster.tool(&[&smaller[..], &of_output[..]].concat());
        let writer = Writer::new(pipeline.cluster.bootstrap());
        for number in 0..100 {
            let padding = if number % 10 == 3 { 5_000 } else { 10 };
            let value = format!("{number} {}", "x".repeat(padding));
            writer.write(&pipeline.source, &format!("k{number}"), &value);
        }
        writer.flush();
        let folder = &pipeline.folders[0];
        folder.ok(&["run", "--until-caught-up"], "");
        let dead = folder.consume(&format!("{}.dlq", pipeline.source));
        assert_eq!(dead.len(), 10, "{delivery}");
        for letter in &dead {
            assert_eq!(letter.header("millstream-error-kind"), "oversize");
        }
        assert_eq!(read(pipeline.cluster.bootstrap(), &pipeline.output).len(), 90, "{delivery}");
    }
}

/// A quota makes the broker answer late, and tells librdkafka to wait.
#[test]
fn a_throttled_pipeline_loses_and_repeats_nothing() {
    let cluster = Box::leak(Box::new(Cluster::start(&["--quick"])));
    let pipeline = Pipeline::new(cluster, "echo", "", "delivery = \"exactly_once\"");
    let writer = Writer::new(cluster.bootstrap());
    let padding = "x".repeat(1_000);
    for number in 0..5_000 {
        writer.write(
            &pipeline.source,
            &format!("k{}", number % 100),
            &format!("{number} {padding}"),
        );
    }
    writer.flush();
    // Far below what five megabytes would take in ten seconds, over which a broker measures.
    let quota = "producer_byte_rate=100000,consumer_byte_rate=100000";
    let everyone = ["--entity-type", "clients", "--entity-default"];
    cluster.tool(&[&["configs", "--alter", "--add-config", quota][..], &everyone[..]].concat());
    let mut host = Host::start(&pipeline.folders[0]);
    waiting::until("it works", WITHIN, || {
        host.metric("millstream_attempts_total", &[]).filter(|attempts| *attempts > 500.0)
    });
    std::thread::sleep(Duration::from_secs(3));
    let attempts = host.metric("millstream_attempts_total", &[]).unwrap();
    assert!(attempts < 5_000.0, "it was not throttled: {attempts} attempts");
    // Otherwise the reading below would be throttled as well.
    cluster.tool(
        &[
            &["configs", "--alter", "--delete-config", "producer_byte_rate,consumer_byte_rate"][..],
            &everyone[..],
        ]
        .concat(),
    );
    pipeline.until_settled();
    host.stop(END_WITHIN);
    let outputs = read(cluster.bootstrap(), &pipeline.output);
    let once = counts(&outputs);
    assert_eq!((outputs.len(), once.len()), (5_000, 5_000), "each once");
}
