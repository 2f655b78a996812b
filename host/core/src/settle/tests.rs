use super::*;
use crate::names::Template;

fn spec(delays: &[u64], keep_order: KeepOrder) -> RetrySpec {
    RetrySpec {
        delays: delays.iter().map(|s| Duration::from_secs(*s)).collect(),
        keep_order,
        topic: Template::new("{topic}.retry.{delay}", true).expect("good"),
        pause_min: Duration::from_millis(100),
        pause_max: Duration::from_secs(30),
    }
}

fn retry(after: Option<u64>) -> Outcome {
    Outcome::Retry { reason: "later".into(), after: after.map(Duration::from_secs) }
}

fn tier(seconds: u64) -> Ruling {
    Ruling::Tier(Duration::from_secs(seconds))
}

#[test]
fn each_attempt_has_its_own_delay_and_the_last_one_is_dead() {
    let retry_spec = spec(&[5, 30, 300], KeepOrder::OfKey);
    let rulings: Vec<_> = (1..=5).map(|n| rule(&retry_spec, n, &retry(None))).collect();
    let dead = Ruling::DeadLetter;
    assert_eq!(rulings, [tier(5), tier(30), tier(300), dead, dead]);
}

#[test]
fn a_wish_for_more_time_takes_the_smallest_tier_that_is_not_shorter() {
    let retry_spec = spec(&[5, 30, 300], KeepOrder::OfKey);
    for (after, expected) in [(1, 5), (5, 5), (6, 30), (31, 300), (9_999, 300)] {
        assert_eq!(rule(&retry_spec, 1, &retry(Some(after))), tier(expected), "after {after} s");
    }
}

#[test]
fn a_wish_for_time_gives_no_further_attempts() {
    assert_eq!(rule(&spec(&[5], KeepOrder::OfKey), 2, &retry(Some(1))), Ruling::DeadLetter);
}

#[test]
fn a_rejected_message_is_dead_at_once_and_a_fault_is_retried() {
    let reject = Outcome::Reject { reason: "no".into() };
    assert_eq!(rule(&spec(&[5], KeepOrder::OfKey), 1, &reject), Ruling::DeadLetter);
    let trap = Fault { kind: FaultKind::Trap, reason: "unreachable".into(), backtrace: None };
    assert_eq!(rule(&spec(&[5], KeepOrder::OfKey), 1, &Outcome::Fault(trap)), tier(5));
}

#[test]
fn order_by_partition_waits_in_place() {
    let ruling = rule(&spec(&[5], KeepOrder::OfPartition), 1, &retry(None));
    assert_eq!(ruling, Ruling::InPlace(Duration::from_secs(5)));
}

#[test]
fn without_delays_the_first_failure_is_dead() {
    assert_eq!(rule(&spec(&[], KeepOrder::OfKey), 1, &retry(None)), Ruling::DeadLetter);
}
