//! What changes around a pipeline that runs well: partitions, hosts, clusters, the length of its backlog.

use std::time::Duration;

use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::kafka::{Cluster, shared};
use millstream_tests::kafka_topic::{Writer, commits, read, write_commits};
use millstream_tests::waiting;
use tokio::time::Instant;

use crate::hosts::{Pipeline, is_soak};

const WITHIN: Duration = Duration::from_secs(120);

/// `latest` is about the time before the pipeline: what comes to a new partition before anybody has noticed
/// that it is there is not skipped.
#[test]
fn partitions_that_are_added_are_read_from_their_beginning_and_companions_follow() {
    partitions_are_added("at_least_once");
}

#[test]
fn partitions_that_are_added_take_part_in_transactions() {
    partitions_are_added("exactly_once");
}

fn partitions_are_added(delivery: &str) {
    let client = "\"topic.metadata.refresh.interval.ms\" = 1000";
    let more = format!("delivery = \"{delivery}\"\nretry = {{ delays = [\"100ms\"] }}");
    let pipeline = Pipeline::new(shared(), "hostile", client, &more);
    pipeline.edit("source = { ", "source = { start = \"latest\", ");
    let (cluster, source) = (pipeline.cluster, pipeline.source.as_str());
    let mut host = Host::start(&pipeline.folders[0]);
    host.until_ready();
    waiting::until("its group has begun", WITHIN, || {
        (commits(cluster.bootstrap(), source, source).len() == 6).then_some(())
    });
    cluster.tool(&["topics", "--alter", "--topic", source, "--partitions", "9"]);
    let writer = Writer::new(cluster.bootstrap());
    for number in 0..300 {
        writer.write(source, &format!("k{number}"), "echo");
        writer.write(source, &format!("r{number}"), "retry later");
    }
    writer.flush();
    let added = read(cluster.bootstrap(), source).iter().filter(|m| m.partition >= 6).count();
    assert!(added > 100, "only {added} messages are in the new partitions");
    waiting::until("all are handled", WITHIN, || {
        let ended = host.metric("millstream_dead_letters_total", &[])?
            + host.metric("millstream_attempts_total", &["outcome=\"done\""])?;
        (ended >= 600.0).then_some(())
    });
    host.stop(END_WITHIN);
    let dead = pipeline.folders[0].consume(&format!("{source}.dlq"));
    assert_eq!(dead.len(), 300, "each failing message once");
    assert!(dead.iter().any(|letter| letter.partition >= 6), "each in its source's partition");
    assert_eq!(read(cluster.bootstrap(), &pipeline.output).len(), 300);
}

/// A mirroring tool copies commits to another cluster, where other messages have these offsets: what is said
/// of messages above the offset is not true there.
#[test]
fn a_second_cluster_with_copied_commits_skips_nothing() {
    let second = Box::leak(Box::new(Cluster::start(&["--quick"])));
    let more = "limits = { time = \"90s\" }\nordering = \"key\"\ncommit = { interval = \"50ms\" }";
    let first = Pipeline::new(shared(), "hostile", "", more);
    let source = first.source.as_str();
    let writer = Writer::new(first.cluster.bootstrap());
    writer.write(source, "slow", "sleep 60000");
    for number in 0..200 {
        writer.write(source, &format!("k{number}"), "echo");
    }
    writer.flush();
    let host = Host::start(&first.folders[0]);
    // All but the slow one; partitions behind which it stands keep their offset, and say more beside it.
    let copied = waiting::until("all but one are committed", WITHIN, || {
        let commits = commits(first.cluster.bootstrap(), source, source);
        let slow = commits.iter().find(|commit| !commit.metadata.is_empty())?;
        let settled: i64 = commits.iter().map(|commit| commit.offset).sum();
        let of_slow = read(first.cluster.bootstrap(), source);
        let of_slow = of_slow.iter().filter(|m| m.partition == slow.partition).count();
        (settled >= 201 - i64::try_from(of_slow).unwrap()).then_some(commits)
    });
    host.kill();

    let mirror = Pipeline::named(second, source, "hostile", "", more);
    let writer = Writer::new(second.bootstrap());
    for number in 0..400 {
        writer.write(source, &format!("k{number}"), "echo");
    }
    writer.flush();
    write_commits(second.bootstrap(), source, source, &copied);
    let from = |partition: i32| {
        copied.iter().find(|commit| commit.partition == partition).map_or(0, |commit| commit.offset)
    };
    let all = read(second.bootstrap(), source);
    let to_handle = all.iter().filter(|message| message.offset >= from(message.partition)).count();
    assert!((1..400).contains(&to_handle), "some commits count: {to_handle}");
    mirror.folders[0].ok(&["run", "--until-caught-up"], "");
    assert_eq!(read(second.bootstrap(), &mirror.output).len(), to_handle, "nothing is skipped");
}

/// With static membership a host that is back in time takes up its partitions; nobody else notices.
#[test]
fn a_static_member_that_comes_back_moves_no_partition() {
    let log = "static_membership = true\nclient = { \"session.timeout.ms\" = 45000 }";
    let pipeline = Pipeline::with(shared(), "echo", log, "");
    let start = |index: usize| {
        let folder = &pipeline.folders[index];
        Host::start_with(folder, &["--log", "info"], folder.log_dir())
    };
    let mut back = start(0);
    back.until_ready();
    let mut stays = start(1);
    stays.until_ready();
    let begun = |host: &Host| host.said().matches("partition started").count();
    let moves = |host: &Host| host.said().matches("revoked: draining").count();
    waiting::until("both have their part", WITHIN, || (begun(&stays) == 3).then_some(()));
    pipeline.write(0, 300);
    pipeline.until_settled();
    let (before, moved) = (begun(&back), moves(&back));
    back.kill();
    let mut back = start(0);
    back.until_ready();
    waiting::until("it has its part again", WITHIN, || (begun(&back) == before + 3).then_some(()));
    pipeline.write(300, 600);
    pipeline.until_settled();
    assert_eq!((begun(&stays), moves(&stays)), (3, 0), "{}", stays.said());
    assert_eq!(moves(&back), moved, "{}", back.said());
    back.stop(END_WITHIN);
    stays.stop(END_WITHIN);
    assert_eq!(pipeline.sums(600), (0, 0));
}

/// Memory follows what is in flight, never what waits in the log.
#[test]
#[expect(clippy::print_stdout, reason = "cargo shows it when the test fails, and soaks always")]
fn a_long_backlog_before_a_slow_handler_takes_no_memory() {
    // Both are 400 MB of values.
    let (messages, padding, lasts) = match is_soak() {
        true => (2_000_000, 190, Duration::from_secs(60)),
        false => (100_000, 4_000, Duration::from_secs(10)),
    };
    let pipeline = Pipeline::new(shared(), "hostile", "", "");
    let writer = Writer::new(pipeline.cluster.bootstrap());
    let value = format!("sleep 5 {}", "x".repeat(padding));
    for number in 0..messages {
        writer.write(&pipeline.source, &format!("k{number}"), &value);
    }
    writer.flush();
    let mut host = Host::start(&pipeline.folders[0]);
    waiting::until("it works", WITHIN, || {
        host.metric("millstream_attempts_total", &[]).filter(|attempts| *attempts > 100.0)
    });
    let until = Instant::now() + lasts;
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(resident_mb(host.pid()));
        waiting::pause();
    }
    let handled = host.metric("millstream_attempts_total", &[]).unwrap();
    host.stop(END_WITHIN);
    println!("{handled} of {messages} handled, at most {most} MB resident");
    assert!(handled < messages as f64 / 2.0, "there was no backlog: {handled} handled");
    assert!(most < 300, "{most} MB resident");
}

fn resident_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
