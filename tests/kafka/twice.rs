//! Every message sent twice: the same idempotency key in different batches, half of them after a restart in
//! which one host has lost its copy of the marks. What a kill lets through is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::kafka::shared;
use millstream_tests::kafka_topic::{Writer, read};
use millstream_tests::waiting;

use crate::hosts::Pipeline;

const MESSAGES: usize = 1_200;
/// More failures than attempts.
const DIES_ONE_IN: usize = 97;
const FAILS_ONE_IN: usize = 7;
const IN_FLIGHT: usize = 100;
const UNATTEMPTED: &str = "millstream_settled_unattempted_total";
const STOP_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn every_message_sent_twice_has_its_outputs_once_at_least_once() {
    let sent_twice = SentTwice::new("at_least_once");
    sent_twice.both_times(Ending::Stopped);
    assert_eq!(sent_twice.outputs_again(), 0);
}

#[test]
fn every_message_sent_twice_has_its_outputs_once_exactly_once() {
    let sent_twice = SentTwice::new("exactly_once");
    sent_twice.both_times(Ending::Stopped);
    assert_eq!(sent_twice.outputs_again(), 0);
    // A dead letter that comes back is no duplicate of itself, nor of its twin: it is attempted, and dies again.
    let folder = &sent_twice.pipeline.folders[0];
    let mut host = Host::start(folder);
    let dead: usize = sent_twice.dead().values().sum();
    folder.ok(&["dlq", "redrive", &sent_twice.pipeline.source, "--yes"], "");
    sent_twice.pipeline.until_settled();
    assert_eq!(host.metric("millstream_dead_letters_total", &[]), Some(dead as f64));
    assert_eq!(host.metric(UNATTEMPTED, &["\"duplicate\""]), Some(0.0));
    host.stop(STOP_WITHIN + END_WITHIN);
}

#[test]
fn of_messages_sent_twice_a_kill_repeats_no_output_exactly_once() {
    let sent_twice = SentTwice::new("exactly_once");
    sent_twice.both_times(Ending::Killed);
    assert_eq!(sent_twice.outputs_again(), 0);
}

#[test]
fn of_messages_sent_twice_a_kill_repeats_only_what_was_not_committed_at_least_once() {
    let sent_twice = SentTwice::new("at_least_once");
    sent_twice.both_times(Ending::Killed);
    // What was handled and not yet marked: at most what two hosts have in flight.
    let again = sent_twice.outputs_again();
    assert!(again <= 2 * IN_FLIGHT, "{again} outputs are there again");
}

/// How the first hosts end.
#[derive(Clone, Copy)]
enum Ending {
    Stopped,
    Killed,
}

struct SentTwice {
    pipeline: Pipeline,
    writer: Writer,
}

impl SentTwice {
    fn new(delivery: &str) -> Self {
        let more = format!(
            r#"delivery = "{delivery}"
idempotency = {{ key = "key", ttl = "1h" }}
in_flight = {{ messages = {IN_FLIGHT} }}
retry = {{ delays = ["50ms", "100ms", "200ms"] }}"#
        );
        let client = "\"session.timeout.ms\" = 6000";
        let pipeline = Pipeline::new(shared(), "hostile", client, &more);
        let writer = Writer::new(pipeline.cluster.bootstrap());
        Self { pipeline, writer }
    }

    fn write(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let failures = match number {
                n if n % DIES_ONE_IN == 0 => 9,
                n if n % FAILS_ONE_IN == 0 => 1,
                _ => 0,
            };
            let (key, value) = (format!("n{number}"), format!("after {failures} {number}"));
            self.writer.write(&self.pipeline.source, &key, &value);
        }
        self.writer.flush();
    }

    /// Sends all and half of them again, lets the hosts end, and sends the others again.
    fn both_times(&self, ending: Ending) {
        let folders = &self.pipeline.folders[..2];
        let hosts: Vec<Host> = folders.iter().map(Host::start).collect();
        self.write(0..MESSAGES);
        self.write(0..MESSAGES / 2);
        // In the middle of it.
        waiting::until("half of them are handled", STOP_WITHIN, || {
            (self.outputs().len() > MESSAGES / 2).then_some(())
        });
        for host in hosts {
            match ending {
                Ending::Stopped => host.stop(STOP_WITHIN + END_WITHIN),
                Ending::Killed => host.kill(),
            }
        }
        // One host's disk is lost, the other knows how far it was.
        std::fs::remove_dir_all(folders[0].path().join("data/marks")).unwrap();
        let mut hosts: Vec<Host> = folders.iter().map(Host::start).collect();
        self.write(MESSAGES / 2..MESSAGES);
        self.pipeline.until_settled();
        let duplicates = |host: &mut Host| host.metric(UNATTEMPTED, &["\"duplicate\""]);
        let duplicates: f64 = hosts.iter_mut().filter_map(duplicates).sum();
        let alive = (MESSAGES / 2..MESSAGES).filter(|n| n % DIES_ONE_IN != 0).count();
        assert!(duplicates >= alive as f64, "{duplicates} duplicates counted of {alive}");
        for host in hosts {
            host.stop(STOP_WITHIN + END_WITHIN);
        }
    }

    fn outputs(&self) -> BTreeMap<String, usize> {
        count(self.pipeline.cluster.bootstrap(), &self.pipeline.output)
    }

    fn dead(&self) -> BTreeMap<String, usize> {
        let topic = format!("{}.dlq", self.pipeline.source);
        count(self.pipeline.cluster.bootstrap(), &topic)
    }

    /// How many outputs are there again; none may be missing.
    #[expect(clippy::print_stdout, reason = "cargo shows it when the test fails, and soaks always")]
    fn outputs_again(&self) -> usize {
        let (outputs, dead) = (self.outputs(), self.dead());
        for number in 0..MESSAGES {
            let key = format!("n{number}");
            let (is_output, is_dead) = (outputs.contains_key(&key), dead.contains_key(&key));
            let dies = number % DIES_ONE_IN == 0;
            assert_eq!((is_output, is_dead), (!dies, dies), "{key}: output, dead letter");
        }
        let again = outputs.values().map(|count| count - 1).sum();
        println!("{MESSAGES} messages sent twice: {again} outputs again");
        again
    }
}

/// How often each key is there.
fn count(bootstrap: &str, topic: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for message in read(bootstrap, topic) {
        *counts.entry(message.key).or_default() += 1;
    }
    counts
}
