use super::*;
use crate::lane::Lanes;
use crate::pipeline_spec::Ordering;

fn lanes(count: u64) -> Vec<LaneId> {
    let mut lanes = Lanes::new(Ordering::None, None);
    for n in 0..count {
        lanes.push(None, n);
    }
    std::iter::from_fn(|| lanes.next_ready()).collect()
}

fn source(turn: Offset) -> Holder {
    Holder { turn, read_from: ReadFrom::Source }
}

fn enter(claims: &mut Claims) -> HeldKey {
    claims.enter(Bytes::from_static(b"order-1")).0
}

fn is_asked(claims: &mut Claims) -> bool {
    claims.enter(Bytes::from_static(b"order-1")).1
}

#[test]
fn nothing_is_attempted_before_the_store_answered() {
    let mut claims = Claims::default();
    let lane = lanes(1)[0];
    let (key, is_asked) = claims.enter(Bytes::from_static(b"order-1"));
    assert!(is_asked, "the store must be asked");
    assert_eq!(claims.decide(&key, source(7), lane), Decision::Wait);
    assert_eq!(claims.answered(key.entry, None), vec![lane]);
    assert_eq!(claims.decide(&key, source(7), lane), Decision::Attempt);
}

#[test]
fn a_duplicate_waits_for_the_claim_and_is_settled_after_the_mark() {
    let mut claims = Claims::default();
    let both = lanes(2);
    let key = enter(&mut claims);
    assert!(!is_asked(&mut claims), "asked once");
    claims.answered(key.entry, None);
    assert_eq!(claims.decide(&key, source(1), both[0]), Decision::Attempt);
    assert_eq!(claims.decide(&key, source(2), both[1]), Decision::Wait);
    assert_eq!(claims.marked(&key, source(1)), vec![both[1]]);
    assert_eq!(claims.decide(&key, source(2), both[1]), Decision::Duplicate(1));
}

#[test]
fn a_failed_holder_lets_the_next_one_try() {
    let mut claims = Claims::default();
    let both = lanes(2);
    let key = enter(&mut claims);
    enter(&mut claims);
    claims.answered(key.entry, None);
    assert_eq!(claims.decide(&key, source(1), both[0]), Decision::Attempt);
    assert_eq!(claims.decide(&key, source(2), both[1]), Decision::Wait);
    assert_eq!(claims.released(&key, source(1)), vec![both[1]]);
    assert_eq!(claims.decide(&key, source(2), both[1]), Decision::Attempt);
}

#[test]
fn the_same_turn_again_was_handled_already_and_is_no_duplicate() {
    let mut claims = Claims::default();
    let lane = lanes(1)[0];
    let key = enter(&mut claims);
    claims.answered(key.entry, Some(1));
    assert_eq!(claims.decide(&key, source(1), lane), Decision::AlreadyHandled);
    assert_eq!(claims.decide(&key, source(9), lane), Decision::Duplicate(1));
}

#[test]
fn a_late_answer_does_not_undo_a_mark() {
    let mut claims = Claims::default();
    let lane = lanes(1)[0];
    let key = enter(&mut claims);
    enter(&mut claims);
    claims.answered(key.entry, None);
    claims.decide(&key, source(1), lane);
    claims.marked(&key, source(1));
    assert!(claims.answered(key.entry, None).is_empty());
    assert_eq!(claims.decide(&key, source(2), lane), Decision::Duplicate(1));
}

#[test]
fn an_answer_that_is_late_says_nothing_of_what_has_its_place_now() {
    let mut claims = Claims::default();
    let lane = lanes(1)[0];
    let gone = enter(&mut claims);
    claims.released(&gone, source(1));
    let (other, is_asked) = claims.enter(Bytes::from_static(b"order-2"));
    assert!(is_asked);
    assert!(claims.answered(gone.entry, Some(5)).is_empty());
    assert_eq!(claims.decide(&other, source(2), lane), Decision::Wait, "nobody answered yet");
    assert!(claims.released(&gone, source(1)).is_empty(), "it left before");
    assert_eq!(claims.answered(other.entry, None), vec![lane]);
    assert_eq!(claims.decide(&other, source(2), lane), Decision::Attempt);
}

#[test]
fn entries_end_with_the_last_message_of_their_key() {
    let mut claims = Claims::default();
    let key = enter(&mut claims);
    enter(&mut claims);
    claims.released(&key, source(1));
    assert!(!is_asked(&mut claims), "one message is still in hand");
    claims.released(&key, source(2));
    claims.released(&key, source(3));
    assert!(claims.entries.is_empty() && claims.places.is_empty());
    assert!(is_asked(&mut claims), "none is in hand: the store must be asked again");
}

#[test]
fn a_retry_that_is_back_before_the_answer_does_not_take_over_the_claim() {
    let mut claims = Claims::default();
    let three = lanes(3);
    let copy = Holder { turn: 1, read_from: ReadFrom::Tier { tier: 0, offset: 0 } };
    let key = enter(&mut claims);
    enter(&mut claims);
    enter(&mut claims);
    claims.answered(key.entry, None);
    assert_eq!(claims.decide(&key, source(1), three[0]), Decision::Attempt);
    assert_eq!(claims.decide(&key, copy, three[1]), Decision::Wait, "its own copy too");
    assert_eq!(claims.released(&key, source(1)), vec![three[1]]);
    assert_eq!(claims.decide(&key, copy, three[1]), Decision::Attempt);
    assert_eq!(claims.decide(&key, source(2), three[2]), Decision::Wait);
}
