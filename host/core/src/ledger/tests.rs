#![expect(clippy::single_range_in_vec_init, reason = "a list of ranges with one range")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const RANGES_MAX: usize = 1000;

fn fresh() -> Ledger {
    Ledger::restore(&Commit::default())
}

#[test]
fn the_commit_waits_for_the_first_unsettled_message() {
    let mut ledger = fresh();
    for offset in [0, 1, 2] {
        assert_eq!(ledger.deliver(offset, 0), Delivery::New);
    }
    ledger.settle(1);
    ledger.settle(2);
    assert_eq!(ledger.next(), 0, "offset 0 is not settled");
    assert_eq!(ledger.commit(RANGES_MAX).settled_above, vec![1..3]);
    ledger.settle(0);
    assert_eq!(ledger.next(), 3);
    assert!(ledger.commit(RANGES_MAX).settled_above.is_empty());
}

#[test]
fn gaps_and_markers_are_passed_once_all_delivered_is_settled() {
    let mut ledger = fresh();
    ledger.deliver(4, 0);
    ledger.read_to(9);
    assert_eq!(ledger.next(), 4);
    ledger.settle(4);
    assert_eq!(ledger.next(), 9, "the marker behind the last message counts no lag");
}

#[test]
fn a_repeated_delivery_is_known() {
    let mut ledger = fresh();
    ledger.deliver(0, 0);
    assert_eq!(ledger.deliver(0, 0), Delivery::Known);
    ledger.settle(0);
    assert_eq!(ledger.deliver(0, 0), Delivery::Known);
}

#[test]
fn what_an_earlier_owner_settled_is_not_handled_again() {
    let commit =
        Commit { next: 2, settled_above: vec![3..5], attempts: vec![(2, 3)], ..Commit::default() };
    let mut ledger = Ledger::restore(&commit);
    assert_eq!(ledger.attempts(2), 3);
    let news: Vec<_> = (2..7).filter(|o| ledger.deliver(*o, 0) == Delivery::New).collect();
    assert_eq!(news, vec![2, 5, 6]);
    assert_eq!(ledger.commit(RANGES_MAX), commit, "nothing has been settled since");
    ledger.settle(2);
    assert_eq!(ledger.next(), 5);
    assert!(ledger.commit(RANGES_MAX).attempts.is_empty(), "settled messages need no count");
}

#[test]
fn ranges_that_were_not_delivered_again_yet_stay_in_the_commit() {
    let commit = Commit { next: 2, settled_above: vec![3..5, 8..9], ..Commit::default() };
    let mut ledger = Ledger::restore(&commit);
    assert_eq!(ledger.commit(RANGES_MAX), commit);
    ledger.deliver(2, 0);
    ledger.deliver(3, 0);
    assert_eq!(ledger.commit(RANGES_MAX), commit);
}

#[test]
fn a_message_that_is_settled_ahead_is_not_handed_on() {
    let mut ledger = fresh();
    ledger.deliver(0, 0);
    assert!(!ledger.settle_ahead(0), "it was delivered: it is settled as it goes");
    assert!(ledger.settle_ahead(2) && ledger.settle_ahead(4) && !ledger.settle_ahead(2));
    assert_eq!(ledger.commit(RANGES_MAX).settled_above, vec![2..3, 4..5]);
    let news: Vec<_> = (1..6).filter(|o| ledger.deliver(*o, 0) == Delivery::New).collect();
    assert_eq!(news, vec![1, 3, 5]);
    for offset in [0, 1, 3] {
        ledger.settle(offset);
    }
    assert_eq!(ledger.next(), 5);
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    /// Deliver the next offset after a gap of so many.
    Deliver(u64),
    /// Settle one of the unsettled, chosen by this number.
    Settle(usize),
    /// Repeat a delivery.
    Repeat(u64),
    /// The owner dies; the next one reads the last commit and the log from there on.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u64).prop_map(Step::Deliver),
        4 => any::<usize>().prop_map(Step::Settle),
        1 => (0..50u64).prop_map(Step::Repeat),
        1 => Just(Step::Crash),
    ]
}

/// What the promise is checked against: sets of offsets, no cleverness.
#[derive(Default)]
struct Model {
    log: Vec<u64>,
    settled: BTreeSet<u64>,
}

proptest! {
    #[test]
    fn the_commit_never_passes_an_unsettled_message_nor_moves_back(
        steps in proptest::collection::vec(step(), 1..120),
        ranges_bytes_max in 0..8usize,
    ) {
        let mut model = Model::default();
        let mut ledger = fresh();
        let mut in_hand: Vec<u64> = Vec::new();
        let mut committed = Commit::default();
        for step in steps {
            match step {
                Step::Deliver(gap) => {
                    let offset = model.log.last().map_or(0, |last| last + 1) + gap;
                    model.log.push(offset);
                    prop_assert_eq!(ledger.deliver(offset, 0), Delivery::New);
                    in_hand.push(offset);
                }
                Step::Settle(pick) if !in_hand.is_empty() => {
                    let offset = in_hand.remove(pick % in_hand.len());
                    ledger.settle(offset);
                    model.settled.insert(offset);
                }
                Step::Settle(_) => {}
                Step::Repeat(offset) => {
                    if offset < ledger.position() {
                        prop_assert_eq!(ledger.deliver(offset, 0), Delivery::Known);
                    }
                }
                Step::Crash => {
                    let lost: BTreeSet<u64> = in_hand.drain(..).collect();
                    ledger = Ledger::restore(&committed);
                    for offset in model.log.iter().filter(|o| **o >= committed.next) {
                        let covered = committed.settled_above.iter().any(|r| r.contains(offset));
                        let delivery = ledger.deliver(*offset, 0);
                        prop_assert_eq!(delivery == Delivery::Known, covered, "offset {}", offset);
                        if delivery == Delivery::New {
                            in_hand.push(*offset);
                        }
                    }
                    for offset in lost {
                        prop_assert!(in_hand.contains(&offset), "offset {} is lost", offset);
                    }
                }
            }
            let now = ledger.commit(ranges_bytes_max);
            prop_assert!(now.next >= committed.next, "the commit moved back");
            prop_assert!(ranges_bytes(&now) <= ranges_bytes_max);
            for offset in &model.log {
                let claimed = *offset < now.next || now.settled_above.iter().any(|r| r.contains(offset));
                prop_assert!(!claimed || model.settled.contains(offset), "{} is not settled", offset);
            }
            prop_assert_eq!(ledger.unsettled(), in_hand.len());
            committed = now;
        }
        for offset in in_hand.drain(..) {
            ledger.settle(offset);
        }
        prop_assert_eq!(ledger.next(), ledger.position(), "all settled, all committed");
    }
}

#[test]
fn a_range_that_is_delivered_again_with_gaps_stays_one_range() {
    let commit = Commit { next: 0, settled_above: vec![2..39], ..Commit::default() };
    let mut ledger = Ledger::restore(&commit);
    ledger.deliver(0, 0);
    ledger.deliver(9, 0);
    // Offset 10 is a gap.
    ledger.read_to(11);
    assert_eq!(ledger.commit(2).settled_above, vec![9..39], "one range, so room for one is enough");
}

#[test]
fn as_many_ranges_are_kept_as_their_bytes_have_room() {
    let mut ledger = fresh();
    for offset in 0..=200 {
        ledger.deliver(offset, 0);
    }
    for offset in (1..=200).step_by(2) {
        ledger.settle(offset);
    }
    assert_eq!(ledger.commit(200).settled_above.len(), 100, "two bytes each");
    let room_for_one_less = ledger.commit(199);
    assert_eq!(
        room_for_one_less.settled_above.last(),
        Some(&(197..198)),
        "the highest is forgotten"
    );
    assert_eq!(ranges_bytes(&room_for_one_less), 198);
    let mut far = fresh();
    for offset in [0, 1_000_000, 1_000_001, 1_000_002] {
        far.deliver(offset, 0);
    }
    far.settle(1_000_000);
    far.settle(1_000_002);
    assert_eq!(far.commit(4).settled_above, vec![1_000_000..1_000_001], "a far one takes more");
    assert_eq!(far.commit(6).settled_above.len(), 2);
}
