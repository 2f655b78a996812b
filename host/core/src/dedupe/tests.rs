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

fn key() -> Bytes {
    Bytes::from_static(b"order-1")
}

#[test]
fn nothing_is_attempted_before_the_store_answered() {
    let mut claims = Claims::default();
    let lane = lanes(1)[0];
    assert!(claims.enter(&key()), "the store must be asked");
    assert_eq!(claims.decide(&key(), source(7), lane), Decision::Wait);
    assert_eq!(claims.answered(&key(), None), vec![lane]);
    assert_eq!(claims.decide(&key(), source(7), lane), Decision::Attempt);
}

#[test]
fn a_duplicate_waits_for_the_claim_and_is_settled_after_the_mark() {
    let mut claims = Claims::default();
    let both = lanes(2);
    assert!(claims.enter(&key()));
    assert!(!claims.enter(&key()), "asked once");
    claims.answered(&key(), None);
    assert_eq!(claims.decide(&key(), source(1), both[0]), Decision::Attempt);
    assert_eq!(claims.decide(&key(), source(2), both[1]), Decision::Wait);
    assert_eq!(claims.marked(&key(), source(1)), vec![both[1]]);
    assert_eq!(claims.decide(&key(), source(2), both[1]), Decision::Duplicate(1));
}

#[test]
fn a_failed_holder_lets_the_next_one_try() {
    let mut claims = Claims::default();
    let both = lanes(2);
    claims.enter(&key());
    claims.enter(&key());
    claims.answered(&key(), None);
    assert_eq!(claims.decide(&key(), source(1), both[0]), Decision::Attempt);
    assert_eq!(claims.decide(&key(), source(2), both[1]), Decision::Wait);
    assert_eq!(claims.released(&key(), source(1)), vec![both[1]]);
    assert_eq!(claims.decide(&key(), source(2), both[1]), Decision::Attempt);
}

#[test]
fn the_same_turn_again_was_handled_already_and_is_no_duplicate() {
    let mut claims = Claims::default();
    let lane = lanes(1)[0];
    claims.enter(&key());
    claims.answered(&key(), Some(1));
    assert_eq!(claims.decide(&key(), source(1), lane), Decision::AlreadyHandled);
    assert_eq!(claims.decide(&key(), source(9), lane), Decision::Duplicate(1));
}

#[test]
fn a_late_answer_does_not_undo_a_mark() {
    let mut claims = Claims::default();
    let lane = lanes(1)[0];
    claims.enter(&key());
    claims.answered(&key(), None);
    claims.decide(&key(), source(1), lane);
    claims.marked(&key(), source(1));
    assert!(claims.answered(&key(), None).is_empty());
    assert_eq!(claims.decide(&key(), source(2), lane), Decision::Duplicate(1));
}

#[test]
fn entries_end_with_the_last_message_of_their_key() {
    let mut claims = Claims::default();
    claims.enter(&key());
    claims.enter(&key());
    claims.leave(&key());
    assert!(!claims.enter(&key()), "one message is still in hand");
    claims.leave(&key());
    claims.leave(&key());
    assert!(claims.enter(&key()), "none is in hand: the store must be asked again");
}

#[test]
fn a_retry_that_is_back_before_the_answer_does_not_take_over_the_claim() {
    let mut claims = Claims::default();
    let three = lanes(3);
    let copy = Holder { turn: 1, read_from: ReadFrom::Tier { tier: 0, offset: 0 } };
    for _ in 0..3 {
        claims.enter(&key());
    }
    claims.answered(&key(), None);
    assert_eq!(claims.decide(&key(), source(1), three[0]), Decision::Attempt);
    assert_eq!(claims.decide(&key(), copy, three[1]), Decision::Wait, "its own copy too");
    assert_eq!(claims.released(&key(), source(1)), vec![three[1]]);
    assert_eq!(claims.decide(&key(), copy, three[1]), Decision::Attempt);
    assert_eq!(claims.decide(&key(), source(2), three[2]), Decision::Wait);
    assert!(claims.released(&key(), source(1)).is_empty(), "it is not the holder any more");
    assert_eq!(claims.decide(&key(), source(2), three[2]), Decision::Wait);
}
