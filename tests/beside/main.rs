//! A healthy pipeline beside a hostile plugin in one host: it settles all its messages while the other
//! faults without end. How much of its throughput it keeps is measured by the program `beside`
//! (`cargo run --release -p millstream-tests --bin beside`), which tests on busy machines can't.

use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::neighbours::{FAULTS, Neighbours};
use millstream_tests::waiting;

use std::time::Duration;

const MESSAGES: usize = 5_000;
const WITHIN: Duration = Duration::from_secs(120);

#[test]
fn a_healthy_pipeline_settles_all_its_messages_beside_one_that_only_faults() {
    let neighbours = Neighbours::new();
    neighbours.feed_hostile();
    let mut host = Host::start(&neighbours.folder);
    waiting::until("the plugin faults", WITHIN, || {
        neighbours.faults(&mut host).filter(|n| *n > 0.0)
    });
    let before = neighbours.faults(&mut host).unwrap();
    neighbours.feed_healthy(MESSAGES);
    waiting::until("the healthy pipeline has settled everything", WITHIN, || {
        neighbours.healthy_done(&mut host).filter(|done| *done >= MESSAGES as f64)
    });
    let after = neighbours.faults(&mut host).unwrap();
    let (ready, why) = host.get("/health/ready").unwrap();
    assert_eq!(ready, 200, "{why}");
    waiting::until("the plugin faults on", WITHIN, || {
        neighbours.faults(&mut host).filter(|n| *n > after)
    });
    assert!(after > before, "the plugin did not fault meanwhile");
    assert!(after < FAULTS as f64, "the hostile messages were at an end before the healthy ones");
    host.stop(END_WITHIN);
    assert_eq!(neighbours.folder.consume("healthy.out").len(), MESSAGES);
}
