//! The order of a key across retries, while hosts come, leave and are killed: fifty keys, every fifth message
//! fails at first, three tiers, three hosts.

use std::time::Duration;

use millstream_tests::draw::Draw;
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::kafka::shared;
use millstream_tests::kafka_topic::{Writer, read};
use millstream_tests::key_order::{self, DELAYS};

use crate::hosts::{Pipeline, is_soak};

/// Messages of a round; after each a host comes, leaves or is killed.
const STEP: usize = 600;
const ROUNDS: usize = 6;
const ROUNDS_SOAK: usize = 60;
const CHANGE_MS: std::ops::Range<u64> = 300..2_000;

#[test]
fn a_key_keeps_its_order_across_retries_and_rebalances_exactly_once() {
    keeps_order("exactly_once", "messages = 100000");
}

#[test]
fn a_key_keeps_its_order_across_retries_and_rebalances_at_least_once() {
    keeps_order("at_least_once", "messages = 20");
}

#[expect(clippy::print_stdout, reason = "cargo shows it when the test fails, and soaks always")]
fn keeps_order(delivery: &str, waiting: &str) {
    let mut draw = Draw::seeded(delivery);
    let rounds = if is_soak() { ROUNDS_SOAK } else { ROUNDS };
    // Partitions of whoever is killed move on when the session has timed out.
    let client = "\"session.timeout.ms\" = 6000";
    let more = format!(
        "delivery = \"{delivery}\"\nwaiting = {{ {waiting} }}\nretry = {{ delays = {DELAYS} }}"
    );
    let pipeline = Pipeline::new(shared(), "hostile", client, &more);
    let writer = Writer::new(pipeline.cluster.bootstrap());
    let mut hosts: Vec<Option<Host>> = pipeline.folders.iter().map(|_| None).collect();
    hosts[0] = Some(Host::start(&pipeline.folders[0]));
    for round in 0..rounds {
        for number in round * STEP..(round + 1) * STEP {
            let (key, value) = key_order::message(number);
            writer.write(&pipeline.source, &key, &value);
        }
        writer.flush();
        let index = usize::try_from(draw.within(0..hosts.len() as u64)).unwrap();
        match hosts[index].take() {
            None => hosts[index] = Some(Host::start(&pipeline.folders[index])),
            Some(host) if draw.within(0..2) == 0 => host.kill(),
            Some(host) => host.stop(Duration::from_secs(60) + END_WITHIN),
        }
        // Any moment is a good one for the next change.
        std::thread::sleep(Duration::from_millis(draw.within(CHANGE_MS)));
    }
    for (host, folder) in hosts.iter_mut().zip(&pipeline.folders) {
        host.get_or_insert_with(|| Host::start(folder));
    }
    pipeline.until_settled();
    for host in hosts.into_iter().flatten() {
        host.stop(Duration::from_secs(60) + END_WITHIN);
    }
    let bootstrap = pipeline.cluster.bootstrap();
    let outputs: Vec<(String, String)> =
        read(bootstrap, &pipeline.output).into_iter().map(|m| (m.key, m.value)).collect();
    let dead = read(bootstrap, &format!("{}.dlq", pipeline.source));
    let dead: Vec<usize> = dead.iter().map(|letter| key_order::number(&letter.value)).collect();
    let exactly_once = delivery == "exactly_once";
    let violations = key_order::violations(rounds * STEP, &outputs, &dead, exactly_once);
    println!("{delivery}: {} sent, {} outputs, {} dead", rounds * STEP, outputs.len(), dead.len());
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}
