use super::*;

const TIER: usize = 1;

fn key() -> Bytes {
    Bytes::from_static(b"k")
}

fn attempts(attempts: u32) -> Progress {
    Progress { attempts, ..Progress::default() }
}

fn tier(offset: Offset) -> ReadFrom {
    ReadFrom::Tier { tier: TIER, offset }
}

fn before(outstanding: &Outstanding, turn: Offset) -> Option<First> {
    outstanding.before(Some(&key()), turn)
}

#[test]
fn only_later_messages_of_the_key_wait_and_only_where_order_is_kept() {
    let mut kept = Outstanding::new(true);
    kept.writing(10, Some(&key()), attempts(1), TIER);
    assert_eq!(before(&kept, 11), Some(First::InTier(TIER)));
    assert_eq!(before(&kept, 10), None, "it does not wait for itself");
    assert_eq!(before(&kept, 9), None, "what comes before it does not wait for it");
    assert_eq!(kept.before(Some(&Bytes::from_static(b"other")), 11), None);
    assert_eq!(kept.before(None, 11), None, "what has no key has no order");

    let mut passed = Outstanding::new(false);
    passed.writing(10, Some(&key()), attempts(1), TIER);
    assert_eq!(before(&passed, 11), None);
}

#[test]
fn a_key_waits_from_the_failure_until_the_message_has_ended() {
    let mut kept = Outstanding::new(true);
    let k = key();
    kept.writing(10, Some(&k), attempts(1), TIER);
    kept.written(10, Some(&k), true);
    assert_eq!(before(&kept, 11), Some(First::InTier(TIER)), "its copy is not known yet");
    kept.note(10, Some(&k), attempts(1), (TIER, 0));
    assert_eq!(before(&kept, 11), Some(First::InTier(TIER)));
    kept.take(10);
    assert_eq!(before(&kept, 11), Some(First::InHand));
    kept.writing(10, Some(&k), attempts(2), TIER);
    kept.left(10, Some(&k), tier(0));
    kept.written(10, Some(&k), true);
    kept.note(10, Some(&k), attempts(2), (TIER, 1));
    assert_eq!(before(&kept, 11), Some(First::InTier(TIER)), "it has failed again");
    kept.take(10);
    kept.left(10, Some(&k), tier(1));
    assert_eq!(before(&kept, 11), None, "it has ended");
    assert!(kept.is_empty());
}

#[test]
fn a_copy_that_the_log_refused_frees_its_key() {
    let mut kept = Outstanding::new(true);
    kept.writing(10, Some(&key()), attempts(1), TIER);
    kept.written(10, Some(&key()), false);
    assert_eq!(before(&kept, 11), None);
}

#[test]
fn of_several_the_smallest_turn_is_first() {
    let mut kept = Outstanding::new(true);
    for (turn, offset) in [(12, 0), (10, 1), (11, 2)] {
        kept.note(turn, Some(&key()), attempts(1), (TIER, offset));
    }
    kept.take(10);
    assert_eq!(before(&kept, 11), Some(First::InHand));
    kept.left(10, Some(&key()), tier(1));
    assert_eq!(before(&kept, 12), Some(First::InTier(TIER)));
    assert_eq!(before(&kept, 11), None);
}

#[test]
fn a_copy_put_behind_counts_as_later_than_the_one_it_was_made_of() {
    let mut kept = Outstanding::new(true);
    kept.note(10, Some(&key()), attempts(1), (TIER, 0));
    kept.note(10, Some(&key()), Progress { waits: 1, ..attempts(1) }, (TIER, 3));
    assert!(kept.is_current(10, (TIER, 3)) && !kept.is_current(10, (TIER, 0)));
    kept.note(10, Some(&key()), attempts(2), (TIER, 4));
    assert!(kept.is_current(10, (TIER, 4)), "an attempt counts more than any waiting");
}
