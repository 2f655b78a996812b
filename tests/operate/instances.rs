//! What plugins' instances use and go through is in the metrics.

use std::time::Duration;

use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::waiting;

use crate::folder;

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn an_instance_that_faults_is_made_anew_and_memory_is_that_of_those_there_are() {
    let folder = folder("instances = 1\nretry = { delays = [] }\n");
    let mut host = Host::start(&folder);
    host.until_ready();
    assert!(host.metric("millstream_plugin_load_seconds", &[]).is_some_and(|took| took > 0.0));
    let rebalances = ["event=\"assigned\""];
    assert_eq!(host.metric("millstream_rebalances_total", &rebalances), Some(1.0));
    let of = |value: &str| format!("{{\"key\":\"a\",\"value\":\"{value}\"}}\n");

    folder.ok(&["produce", "work"], &of("after 0 x"));
    folder.until_settled(WITHIN);
    assert_eq!(host.metric("millstream_instance_restarts_total", &[]), Some(0.0));
    let memory = host.metric("millstream_guest_memory_bytes", &[]).unwrap();
    assert!((65_536.0..=64e6).contains(&memory), "{memory}");

    folder.ok(&["produce", "work"], &(of("trap") + &of("after 0 y")));
    folder.until_settled(WITHIN);
    waiting::until("it was made anew", WITHIN, || {
        (host.metric("millstream_instance_restarts_total", &[])? == 1.0).then_some(())
    });
    assert!(host.metric("millstream_guest_memory_bytes", &[]).unwrap() >= 65_536.0);
    host.stop(END_WITHIN);
}
