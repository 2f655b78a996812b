//! What goes wrong around a pipeline on Kafka: brokers away, poison, handlers slower than the group waits.

use std::time::Duration;

use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::kafka::{Cluster, shared};
use millstream_tests::kafka_topic::{Writer, read};
use millstream_tests::waiting;

use crate::hosts::{Pipeline, is_soak};

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
    // Just when it is wanted.
    let status = pipeline.folders[0].run(&["status", "--json"], "");
    assert!(status.stdout.contains("\"ready\": false"), "{} {}", status.stdout, status.stderr);
    if is_soak() {
        std::thread::sleep(Duration::from_secs(60));
        let (status, text) = host.get("/health/ready").expect("it answers");
        assert_eq!(status, 503, "{text}");
    }
    cluster.start_all();
    waiting::until("the host is ready again", WITHIN, || {
        host.get("/health/ready").filter(|(status, _)| *status == 200)
    });
    pipeline.write(3_000, 6_000);
    pipeline.until_settled();
    host.stop(END_WITHIN);
    assert_eq!(pipeline.sums(6_000), (0, 0));
}

/// A host that dies in mid-transaction leaves it open; the next one fences it and begins at its commits.
#[test]
fn a_host_killed_in_mid_transaction_again_and_again_outputs_each_message_once() {
    let kills = if is_soak() { 20 } else { 3 };
    // The next host is let in when the dead one's session has timed out.
    let client = "\"session.timeout.ms\" = 6000";
    let pipeline = Pipeline::new(shared(), "echo", client, "delivery = \"exactly_once\"");
    let mut sent = 0;
    for kill in 0..kills {
        pipeline.write(sent, sent + 3_000);
        sent += 3_000;
        let mut host = Host::start(&pipeline.folders[0]);
        // Some are attempted, few committed: transactions follow one another without a pause.
        waiting::until("it works", WITHIN, || {
            host.metric("millstream_attempts_total", &[]).filter(|n| *n > f64::from(kill * 70))
        });
        host.kill();
    }
    let host = Host::start(&pipeline.folders[0]);
    pipeline.until_settled();
    host.stop(END_WITHIN);
    assert_eq!(pipeline.sums(sent), (0, 0));
}

/// Of three brokers the coordinator of the group dies while messages are produced: leaders move with it.
#[test]
fn a_broker_of_three_killed_under_load_loses_nothing_and_repeats_nothing() {
    let kills = if is_soak() { 5 } else { 1 };
    let cluster = Box::leak(Box::new(Cluster::start(&["--quick", "--nodes", "3"])));
    let pipeline = Pipeline::new(cluster, "echo", "", "delivery = \"exactly_once\"");
    let mut host = Host::start(&pipeline.folders[0]);
    host.until_ready();
    let mut sent = 0;
    for _ in 0..kills {
        // A coordinator that has just moved is not known at once.
        let node = waiting::until("the group has a coordinator", WITHIN, || {
            coordinator(cluster, &pipeline.source)
        });
        let before = host.metric("millstream_attempts_total", &[]).unwrap_or_default();
        pipeline.write(sent, sent + 5_000);
        sent += 5_000;
        waiting::until("some are attempted", WITHIN, || {
            host.metric("millstream_attempts_total", &[]).filter(|n| *n > before + 500.0)
        });
        cluster.kill(node);
        // Two of three take messages.
        pipeline.write(sent, sent + 5_000);
        sent += 5_000;
        cluster.start_node(node);
    }
    pipeline.until_settled();
    host.stop(END_WITHIN);
    assert_eq!(pipeline.sums(sent), (0, 0));
}

/// The node that keeps the group's members and commits.
fn coordinator(cluster: &Cluster, group: &str) -> Option<u32> {
    let said = cluster.tool(&[
        "consumer-groups",
        "--describe",
        "--state",
        "--timeout",
        "20000",
        "--group",
        group,
    ]);
    let row = said.lines().find(|row| row.starts_with(group))?;
    let (_, id) = row.split_once('(')?;
    id.split_once(')')?.0.parse().ok()
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
    let messages = if is_soak() { 100_000 } else { 3_000 };
    for number in 0..messages {
        writer.write(&pipeline.source, &format!("k{number}"), "echo");
        if number % (messages / 6) == 0 && number < messages / 6 * 6 {
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
    assert_eq!(folder.consume(&pipeline.output).len(), messages);
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

/// Whoever has only Kafka's own tools at 3 AM can read what became of a message.
#[test]
fn kafkas_own_tools_read_our_headers_and_offsets() {
    let pipeline = Pipeline::new(shared(), "hostile", "", "retry = { delays = [] }");
    let writer = Writer::new(pipeline.cluster.bootstrap());
    writer.write(&pipeline.source, "k", "reject bad");
    writer.flush();
    pipeline.folders[0].ok(&["run", "--until-caught-up"], "");
    let letters = format!("{}.dlq", pipeline.source);
    let printed = pipeline.cluster.tool(&[
        "console-consumer",
        "--topic",
        &letters,
        "--from-beginning",
        "--max-messages",
        "1",
        "--formatter-property",
        "print.headers=true",
    ]);
    for header in ["millstream-error-kind:reject", "millstream-origin-offset:0"] {
        assert!(printed.contains(header), "{header}: {printed}");
    }
    assert!(printed.is_ascii(), "headers are text: {printed}");
    // What comes now stays: nobody runs.
    for number in 0..10 {
        writer.write(&pipeline.source, &format!("k{number}"), "echo");
    }
    writer.flush();
    let group = pipeline.source.as_str();
    let described = pipeline.cluster.tool(&["consumer-groups", "--describe", "--group", group]);
    let rows = described.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let of_source: Vec<Vec<&str>> = rows.filter(|row| row.get(1) == Some(&group)).collect();
    let sum = |column: usize| -> u64 {
        of_source.iter().filter_map(|row| row.get(column)?.parse::<u64>().ok()).sum()
    };
    assert_eq!(sum(3), 1, "the offset that is committed: {described}");
    assert_eq!(sum(5), 10, "the lag: {described}");
    assert_eq!(pipeline.folders[0].unsettled(), 10, "Millstream says the same");
}

/// Retention counts from a message's time. Companions have the broker's time of the append, so a message
/// that was old when it came is not gone before anybody has looked at it.
#[test]
fn a_message_three_weeks_old_outlives_retention_in_its_tier_and_its_dead_letters() {
    let retention = ["--set", "log.retention.check.interval.ms=500"];
    let delay = ["--set", "log.initial.task.delay.ms=500"];
    let options = [&["--quick"][..], &retention[..], &delay[..]].concat();
    let cluster = Box::leak(Box::new(Cluster::start(&options)));
    let pipeline = Pipeline::new(cluster, "hostile", "", "retry = { delays = [\"1h\"] }");
    let old = SystemClock.now() - 21 * 24 * 3_600_000;
    let control = "control";
    let days_14 = format!("retention.ms={}", 14 * 24 * 3_600_000_u64);
    cluster.tool(&["topics", "--create", "--topic", control, "--config", &days_14]);
    let forever = ["--alter", "--add-config", "retention.ms=-1"];
    let of_source = ["--entity-type", "topics", "--entity-name", &pipeline.source];
    cluster.tool(&[&["configs"][..], &forever[..], &of_source[..]].concat());
    let writer = Writer::new(cluster.bootstrap());
    writer.write_at(&pipeline.source, "k", "reject bad", old);
    writer.write_at(&pipeline.source, "k", "retry later", old);
    writer.write_at(control, "k", "x", old);
    writer.flush();
    let mut host = Host::start(&pipeline.folders[0]);
    waiting::until("both were attempted", WITHIN, || {
        host.metric("millstream_attempts_total", &[]).filter(|attempts| *attempts >= 2.0)
    });
    let (tier, letters) =
        (format!("{}.retry.1h", pipeline.source), format!("{}.dlq", pipeline.source));
    waiting::until("both are put away", WITHIN, || {
        let of = |topic: &str| pipeline.folders[0].consume(topic).len();
        (of(&tier) == 1 && of(&letters) == 1).then_some(())
    });
    waiting::until("the broker has removed what is too old", WITHIN, || {
        read(cluster.bootstrap(), control).is_empty().then_some(())
    });
    // The same run of it has looked at all topics; another one, to be sure.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(pipeline.folders[0].consume(&tier).len(), 1, "the retry is gone");
    let dead = pipeline.folders[0].consume(&letters);
    assert_eq!(dead.len(), 1, "the dead letter is gone");
    assert_eq!(dead[0].number("millstream-origin-timestamp"), u64::try_from(old).unwrap());
    host.stop(END_WITHIN);
}

/// A broker forgets what was committed of a topic that the group does not subscribe to, as tiers are.
#[test]
fn a_tier_that_rests_keeps_its_place() {
    // The long form lets the broker forget, and waits until it would have.
    let forgets = [
        "--set",
        "offsets.retention.minutes=1",
        "--set",
        "offsets.retention.check.interval.ms=2000",
    ];
    let cluster = match is_soak() {
        true => Box::leak(Box::new(Cluster::start(&[&["--quick"][..], &forgets[..]].concat()))),
        false => shared(),
    };
    let more = "retry = { delays = [\"100ms\"] }\ncommit = { refresh = \"5s\" }";
    let pipeline = Pipeline::new(cluster, "hostile", "", more);
    let writer = Writer::new(cluster.bootstrap());
    writer.write(&pipeline.source, "k", "retry x");
    writer.flush();
    let mut host = Host::start(&pipeline.folders[0]);
    let group = pipeline.source.clone();
    let tier = format!("{group}.retry.100ms");
    let place = || {
        let said = cluster.tool(&["consumer-groups", "--describe", "--group", &group]);
        let rows = said.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        let of_tier = rows.filter(|row| row.get(1) == Some(&tier.as_str()));
        of_tier.filter_map(|row| row.get(3)?.parse::<u64>().ok()).sum::<u64>()
    };
    waiting::until("the retry is settled and committed", WITHIN, || (place() == 1).then_some(()));
    let commits = host.metric("millstream_commits_total", &[]).unwrap();
    if is_soak() {
        std::thread::sleep(Duration::from_secs(100));
    }
    waiting::until("it is committed again, though nothing came", WITHIN, || {
        host.metric("millstream_commits_total", &[]).filter(|now| *now > commits)
    });
    assert_eq!(place(), 1, "the tier has lost its place");
    host.stop(END_WITHIN);
}

#[test]
fn a_handler_slower_than_the_poll_interval_stays_in_its_group_and_handles_once() {
    // The long form is a minute under ten seconds.
    let (poll_ms, sleep_ms) = if is_soak() { (10_000, 60_000) } else { (6_000, 10_000) };
    let client = format!("\"session.timeout.ms\" = 6000, \"max.poll.interval.ms\" = {poll_ms}");
    let more = "limits = { time = \"90s\" }";
    let pipeline = Pipeline::new(shared(), "hostile", &client, more);
    let writer = Writer::new(pipeline.cluster.bootstrap());
    writer.write(&pipeline.source, "slow", &format!("sleep {sleep_ms}"));
    writer.flush();
    let mut host = Host::start(&pipeline.folders[0]);
    host.until_ready();
    pipeline.until_settled();
    let attempts = host.metric("millstream_attempts_total", &[]);
    host.stop(END_WITHIN);
    assert_eq!(attempts, Some(1.0), "it was attempted once");
    assert_eq!(pipeline.folders[0].consume(&pipeline.output).len(), 1);
}
