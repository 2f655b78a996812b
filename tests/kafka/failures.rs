//! What goes wrong around a pipeline on Kafka: brokers away, poison, handlers slower than the group waits.

use std::time::Duration;

use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::kafka::{Cluster, shared};
use millstream_tests::kafka_topic::Writer;
use millstream_tests::waiting;

use crate::hosts::Pipeline;

const WITHIN: Duration = Duration::from_secs(120);

#[test]
fn all_brokers_away_loses_nothing_and_readiness_tells_the_truth() {
    let cluster = Box::leak(Box::new(Cluster::start(&["--quick", "--nodes", "1"])));
    let pipeline = Pipeline::new(cluster, "echo", "", "delivery = \"exactly_once\"");
    let mut host = Host::start(&pipeline.folders[0]);
    host.until_ready();
    pipeline.write(0, 3_000);
    cluster.kill_all();
    waiting::until("the host says that it is not ready", WITHIN, || {
        host.get("/health/ready").filter(|(status, _)| *status == 503)
    });
    cluster.start_all();
    waiting::until("the host is ready again", WITHIN, || {
        host.get("/health/ready").filter(|(status, _)| *status == 200)
    });
    pipeline.write(3_000, 6_000);
    pipeline.until_settled();
    host.stop(END_WITHIN);
    assert_eq!(pipeline.sums(6_000), (0, 0));
}

/// A disk that stalls, a broker's pause, a leader's election: what was sent must not be sent anew, since
/// the broker may have taken it.
#[test]
fn a_broker_that_does_not_answer_for_a_while_repeats_nothing() {
    let cluster = Box::leak(Box::new(Cluster::start(&["--quick", "--nodes", "1"])));
    let pipeline = Pipeline::new(cluster, "echo", "", "delivery = \"at_least_once\"");
    let mut host = Host::start(&pipeline.folders[0]);
    host.until_ready();
    pipeline.write(0, 20_000);
    waiting::until("some are settled", WITHIN, || {
        host.metric("millstream_attempts_total", &[]).filter(|attempts| *attempts > 500.0)
    });
    cluster.pause(1);
    // Longer than a produced message used to be waited for.
    std::thread::sleep(Duration::from_secs(15));
    cluster.resume(1);
    waiting::until("the broker answers again", WITHIN, || {
        (pipeline.folders[0].run(&["lag"], "").code == Some(0)).then_some(())
    });
    pipeline.until_settled();
    host.stop(END_WITHIN);
    assert_eq!(pipeline.sums(20_000), (0, 0));
}

#[test]
fn a_poison_message_in_each_partition_holds_up_nobody_and_is_kept_whole() {
    let more = "retry = { delays = [] }\nordering = \"key\"";
    let pipeline = Pipeline::new(shared(), "hostile", "", more);
    let writer = Writer::new(pipeline.cluster.bootstrap());
    for number in 0..3_000 {
        writer.write(&pipeline.source, &format!("k{number}"), "echo");
        if number % 500 == 0 {
            // As many keys as it takes to meet every partition.
            for poison in 0..10 {
                let key = format!("poison-{number}-{poison}");
                writer.write(&pipeline.source, &key, "reject bad");
            }
        }
    }
    writer.flush();
    let folder = &pipeline.folders[0];
    folder.ok(&["run", "--until-caught-up"], "");
    assert_eq!(folder.consume(&pipeline.output).len(), 3_000);
    let source = folder.consume(&pipeline.source);
    let dead = folder.consume(&format!("{}.dlq", pipeline.source));
    assert_eq!(dead.len(), 60, "each poison message once");
    for letter in &dead {
        assert_eq!(letter.text(), "reject bad");
        let origin = letter.number("millstream-origin-offset");
        let original =
            source.iter().find(|m| m.partition == letter.partition && m.offset == origin);
        assert_eq!(original.expect("its original").key, letter.key, "{letter:?}");
        assert_eq!(letter.header("millstream-error-kind"), "reject");
    }
}

#[test]
fn a_handler_slower_than_the_poll_interval_stays_in_its_group_and_handles_once() {
    let client = "\"session.timeout.ms\" = 6000, \"max.poll.interval.ms\" = 6000";
    let more = "limits = { time = \"30s\" }";
    let pipeline = Pipeline::new(shared(), "hostile", client, more);
    let writer = Writer::new(pipeline.cluster.bootstrap());
    writer.write(&pipeline.source, "slow", "sleep 10000");
    writer.flush();
    let mut host = Host::start(&pipeline.folders[0]);
    host.until_ready();
    pipeline.until_settled();
    let attempts = host.metric("millstream_attempts_total", &[]);
    host.stop(END_WITHIN);
    assert_eq!(attempts, Some(1.0), "it was attempted once");
    assert_eq!(pipeline.folders[0].consume(&pipeline.output).len(), 1);
}
