//! A healthy pipeline beside a hostile plugin in one host: it settles all its messages while the other
//! faults without end. How much of its throughput it keeps is measured by the program `beside`
//! (`cargo run --release -p millstream-tests --bin beside`), which tests on busy machines can't.

use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::neighbours::{FAULTS, Neighbours};
use millstream_tests::waiting;

use std::time::Duration;

/// Messages of one portion.
const PORTION: usize = 1_000;
/// So often the plugin faults before no more portions come.
const FAULTS_MEANWHILE: f64 = 6.0;
const WITHIN: Duration = Duration::from_secs(120);

#[test]
fn a_healthy_pipeline_settles_all_its_messages_beside_one_that_only_faults() {
    let neighbours = Neighbours::new();
    neighbours.feed_hostile();
    let mut host = Host::start(&neighbours.folder);
    let first = waiting::until("the plugin faults", WITHIN, || {
        neighbours.faults(&mut host).filter(|faults| *faults > 0.0)
    });
    let (mut sent, mut faults) = (0, first);
    while faults < first + FAULTS_MEANWHILE {
        neighbours.feed_healthy(PORTION);
        sent += PORTION;
        waiting::until("the healthy pipeline has settled everything", WITHIN, || {
            neighbours.healthy_done(&mut host).filter(|done| *done >= sent as f64)
        });
        faults = waiting::until("the host tells", WITHIN, || neighbours.faults(&mut host));
    }
    assert!(faults < FAULTS as f64, "the hostile messages were at an end before the healthy ones");
    let rested = host.metric("millstream_plugin_rest_seconds_total", &["hostile"]);
    assert!(rested.is_some_and(|seconds| seconds > 0.0), "it was not held back: {rested:?}");
    let (ready, why) = waiting::until("the host tells", WITHIN, || host.get("/health/ready"));
    assert_eq!(ready, 200, "{why}");
    host.stop(END_WITHIN);
    assert_eq!(neighbours.folder.consume("healthy.out").len(), sent);
    let dead = neighbours.folder.consume("hostile.dlq").len();
    assert!(dead as f64 >= faults, "{faults} faults, and {dead} dead letters");
}
