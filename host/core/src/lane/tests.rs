use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn key(n: u8) -> Bytes {
    Bytes::copy_from_slice(&[n])
}

#[test]
fn keys_do_not_wait_for_one_another() {
    let mut lanes = Lanes::new(Ordering::Key, None);
    lanes.push(Some(&key(1)), "a1");
    lanes.push(Some(&key(2)), "b1");
    let first = lanes.next_ready().expect("two lanes are ready");
    let second = lanes.next_ready().expect("the other lane is ready too");
    assert_eq!((lanes.pop(first), lanes.pop(second)), (Some("a1"), Some("b1")));
}

#[test]
fn a_busy_lane_gives_nothing_to_a_second_worker() {
    let mut lanes = Lanes::new(Ordering::Partition, None);
    lanes.push(None, 1);
    let lane = lanes.next_ready().expect("ready");
    assert_eq!(lanes.pop(lane), Some(1));
    lanes.push(None, 2);
    assert_eq!(lanes.next_ready(), None, "2 would overtake 1");
    lanes.hand_back(lane, vec![1]);
    let lane = lanes.next_ready().expect("ready again");
    assert_eq!((lanes.pop(lane), lanes.pop(lane)), (Some(1), Some(2)));
}

#[test]
fn without_order_or_key_no_message_waits_for_another() {
    for (ordering, message_key) in [(Ordering::None, Some(key(1))), (Ordering::Key, None)] {
        let mut lanes = Lanes::new(ordering, None);
        lanes.push(message_key.as_ref(), 1);
        lanes.push(message_key.as_ref(), 2);
        assert!(lanes.next_ready().is_some() && lanes.next_ready().is_some(), "{ordering:?}");
    }
}

#[test]
fn a_lane_that_waits_for_its_time_is_not_woken_by_a_claim() {
    let mut lanes = Lanes::new(Ordering::Partition, None);
    lanes.push(None, 1);
    let lane = lanes.next_ready().expect("ready");
    let message = lanes.pop(lane).expect("there is one");
    lanes.wait(lane, vec![message], WaitsFor::Time);
    lanes.wake(lane, WaitsFor::Claim);
    assert_eq!(lanes.next_ready(), None, "its retry would come before its delay");
    lanes.wake(lane, WaitsFor::Time);
    assert_eq!(lanes.next_ready(), Some(lane));
}

#[test]
fn lanes_end_with_their_last_message() {
    let mut lanes = Lanes::new(Ordering::Key, None);
    for n in 0..100 {
        lanes.push(Some(&key(n)), n);
    }
    while let Some(lane) = lanes.next_ready() {
        lanes.pop(lane);
        lanes.hand_back(lane, vec![]);
    }
    assert!(lanes.lanes.is_empty() && lanes.by_key.is_empty());
}

/// What happens to a batch that was taken.
#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    /// Take up to n messages of the next ready lane.
    Take(usize),
    /// End the k-th batch in work; the messages from the m-th on come back unattempted.
    End {
        pick: usize,
        handled: usize,
        wait: bool,
    },
    /// Wake the k-th waiting lane.
    Wake(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8).prop_map(Step::Push),
        (1..5usize).prop_map(Step::Take),
        (any::<usize>(), 0..5usize, any::<bool>()).prop_map(|(pick, handled, wait)| Step::End {
            pick,
            handled,
            wait
        }),
        any::<usize>().prop_map(Step::Wake),
    ]
}

proptest! {
    #[test]
    fn messages_of_a_key_are_handled_in_order_whatever_the_outcomes(
        steps in proptest::collection::vec(step(), 1..200),
        by_partition in any::<bool>(),
    ) {
        let ordering = if by_partition { Ordering::Partition } else { Ordering::Key };
        let mut lanes = Lanes::new(ordering, None);
        let mut next = 0u64;
        let mut working: Vec<(LaneId, Vec<(u8, u64)>)> = Vec::new();
        let mut waiting: Vec<LaneId> = Vec::new();
        let mut handled: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        let mut pushed = 0usize;
        let mut end = |lanes: &mut Lanes<(u8, u64)>, waiting: &mut Vec<LaneId>, lane, mut batch: Vec<(u8, u64)>, count: usize, wait: bool| {
            let returned = batch.split_off(count.min(batch.len()));
            for (k, n) in batch {
                handled.entry(if by_partition { 0 } else { k }).or_default().push(n);
            }
            if wait {
                lanes.wait(lane, returned, WaitsFor::Time);
                waiting.push(lane);
            } else {
                lanes.hand_back(lane, returned);
            }
        };
        for step in steps {
            match step {
                Step::Push(k) => {
                    lanes.push(Some(&key(k)), (k, next));
                    next += 1;
                    pushed += 1;
                }
                Step::Take(most) => if let Some(lane) = lanes.next_ready() {
                    let batch: Vec<_> = std::iter::from_fn(|| lanes.pop(lane)).take(most).collect();
                    prop_assert!(!working.iter().any(|(other, _)| *other == lane), "taken twice");
                    working.push((lane, batch));
                },
                Step::End { pick, handled: count, wait } if !working.is_empty() => {
                    let (lane, batch) = working.remove(pick % working.len());
                    end(&mut lanes, &mut waiting, lane, batch, count, wait);
                }
                Step::Wake(pick) if !waiting.is_empty() => {
                    let lane = waiting.remove(pick % waiting.len());
                    lanes.wake(lane, WaitsFor::Time);
                }
                Step::End { .. } | Step::Wake(_) => {}
            }
        }
        for (lane, batch) in working {
            end(&mut lanes, &mut waiting, lane, batch, usize::MAX, false);
        }
        for lane in waiting.drain(..) {
            lanes.wake(lane, WaitsFor::Time);
        }
        let mut none_wait = Vec::new();
        while let Some(lane) = lanes.next_ready() {
            let batch: Vec<_> = std::iter::from_fn(|| lanes.pop(lane)).collect();
            end(&mut lanes, &mut none_wait, lane, batch, usize::MAX, false);
        }
        prop_assert_eq!(handled.values().map(Vec::len).sum::<usize>(), pushed, "a message is lost");
        for (k, numbers) in handled {
            prop_assert!(numbers.is_sorted(), "key {}: {:?}", k, numbers);
        }
    }
}

fn by_turn() -> Lanes<u64> {
    Lanes::new(Ordering::Key, Some(|turn: &u64| *turn))
}

fn popped(lanes: &mut Lanes<u64>, lane: LaneId) -> Vec<u64> {
    std::iter::from_fn(|| lanes.pop(lane)).collect()
}

#[test]
fn where_order_is_kept_a_lane_goes_by_turns_whenever_they_come() {
    let mut lanes = by_turn();
    for turn in [12, 10, 13] {
        lanes.push(Some(&key(1)), turn);
    }
    let lane = lanes.next_ready().expect("ready");
    assert_eq!(popped(&mut lanes, lane), [10, 12, 13]);
    lanes.push(Some(&key(1)), 11);
    lanes.hand_back(lane, vec![12, 13]);
    let lane = lanes.next_ready().expect("ready");
    assert_eq!(popped(&mut lanes, lane), [11, 12, 13]);
}

#[test]
fn a_lane_that_waits_for_a_turn_goes_on_when_an_earlier_one_comes() {
    let mut lanes = by_turn();
    lanes.push(Some(&key(1)), 12);
    let lane = lanes.next_ready().expect("ready");
    lanes.wait(lane, vec![], WaitsFor::Turn);
    assert_eq!(lanes.push(Some(&key(1)), 13), Some(lane), "it joins those that wait");
    assert_eq!(lanes.next_ready(), None);
    assert_eq!(lanes.push(Some(&key(1)), 11), None, "it may be the one that is waited for");
    assert_eq!(lanes.next_ready(), Some(lane));
    lanes.wait(lane, vec![], WaitsFor::Turn);
    lanes.wake_key(&key(2));
    assert_eq!(lanes.next_ready(), None);
    lanes.wake_key(&key(1));
    assert_eq!(lanes.next_ready(), Some(lane));
}

#[test]
fn what_is_taken_back_leaves_the_others_in_order() {
    let mut lanes = by_turn();
    for turn in 1..=6 {
        lanes.push(Some(&key(1)), turn);
    }
    let lane = lanes.next_ready().expect("ready");
    assert_eq!(lanes.take_back(lane, |turn| Some(turn % 2 == 0)), [2, 4, 6]);
    assert_eq!(lanes.take_back(lane, |turn| (*turn > 3).then_some(true)), [5]);
    assert_eq!(lanes.queued(), 2);
    assert_eq!(popped(&mut lanes, lane), [1, 3]);
}
