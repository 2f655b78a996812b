use super::*;
use crate::headers::encode;
use crate::log::Commit;
use crate::message::Header;

const DELAY_MS: EpochMs = 5_000;

fn source() -> Partition {
    Partition::new("orders", 2)
}

fn tiers() -> Tiers {
    let tier = |name: &str, seconds| {
        Tier::new(
            Partition::new(name, 2),
            Duration::from_secs(seconds),
            Ledger::restore(&Commit::default()),
            HELD_MESSAGES_MAX,
        )
    };
    Tiers::new("g", source(), vec![tier("orders.retry.5s", 5), tier("orders.retry.30s", 30)], false)
}

fn copy(turn: Offset, attempt: u32, offset: Offset, group: &str) -> Message {
    let origin = Message {
        topic: "orders".into(),
        partition: 2,
        offset: turn,
        timestamp: 77,
        key: None,
        value: None,
        headers: vec![],
    };
    let found = CompanionHeaders { attempt, ..CompanionHeaders::of_source(&origin, group) };
    let headers = encode(&found, &[Header::new("traceparent", "00")]);
    Message { topic: "orders.retry.5s".into(), offset, timestamp: 1_000, headers, ..origin }
}

fn due_turns(tiers: &mut Tiers, now: EpochMs) -> Vec<(Offset, &'static str)> {
    std::iter::from_fn(|| tiers.take_due(now))
        .map(|due| match due {
            Due::Attempt(item) => (item.context.turn, "attempt"),
            Due::Behind(item, _) => (item.context.turn, "behind"),
            Due::Unreadable(item, _) => (item.message.offset, "unreadable"),
            Due::Settle(_, offset, reason) => (offset, reason),
        })
        .collect()
}

#[test]
fn a_retry_is_due_its_delay_after_it_was_appended_and_not_before() {
    let mut tiers = tiers();
    tiers.hold(0, copy(9, 1, 0, "g"), 1_000);
    assert_eq!(tiers.next_due(), Some(1_000 + DELAY_MS));
    assert!(due_turns(&mut tiers, 999 + DELAY_MS).is_empty());
    assert_eq!(due_turns(&mut tiers, 1_000 + DELAY_MS), [(9, "attempt")]);
}

#[test]
fn a_clock_that_jumped_back_makes_nobody_wait_longer_than_the_delay() {
    let mut tiers = tiers();
    tiers.hold(0, copy(9, 1, 0, "g"), 10);
    assert_eq!(tiers.next_due(), Some(10 + DELAY_MS), "appended in the future, read now");
}

#[test]
fn a_clock_that_jumps_back_while_a_retry_is_held_makes_nobody_wait_longer_than_the_delay() {
    let mut tiers = tiers();
    tiers.hold(0, copy(9, 1, 0, "g"), 1_000);
    tiers.hold(0, copy(10, 1, 1, "g"), 1_000);
    assert!(due_turns(&mut tiers, -3_600_000).is_empty(), "an hour back");
    assert_eq!(tiers.next_due(), Some(-3_600_000 + DELAY_MS));
    assert_eq!(due_turns(&mut tiers, -3_600_000 + DELAY_MS).len(), 2);
}

#[test]
fn the_plugin_sees_the_source_position_time_and_headers() {
    let mut tiers = tiers();
    tiers.hold(0, copy(9, 1, 0, "g"), 1_000);
    let Some(Due::Attempt(item)) = tiers.take_due(9_000) else { panic!("it is due") };
    assert_eq!(item.message.position(), "orders[2]@9");
    assert_eq!((item.message.timestamp, item.context.attempt), (77, 2));
    assert_eq!(item.message.headers, [Header::new("traceparent", "00")]);
    assert_eq!(item.read_from, ReadFrom::Tier { tier: 0, offset: 0 });
}

#[test]
fn of_two_copies_only_the_one_with_more_attempts_is_attempted() {
    let mut tiers = tiers();
    tiers.hold(0, copy(9, 1, 0, "g"), 1_000);
    tiers.hold(1, copy(9, 2, 0, "g"), 1_000);
    assert_eq!(due_turns(&mut tiers, 100_000), [(0, "superseded"), (9, "attempt")]);
}

#[test]
fn of_equal_copies_the_last_is_attempted_so_that_no_other_is_left_when_it_is() {
    let mut tiers = tiers();
    tiers.hold(0, copy(9, 1, 3, "g"), 1_000);
    tiers.hold(0, copy(9, 1, 4, "g"), 1_000);
    assert_eq!(due_turns(&mut tiers, 100_000), [(3, "superseded"), (9, "attempt")]);
}

#[test]
fn a_copy_that_comes_when_its_equal_was_taken_is_not_attempted() {
    let mut tiers = tiers();
    tiers.hold(0, copy(9, 1, 3, "g"), 1_000);
    assert_eq!(due_turns(&mut tiers, 100_000), [(9, "attempt")]);
    tiers.hold(0, copy(9, 1, 4, "g"), 1_000);
    tiers.outstanding.left(9, None, ReadFrom::Tier { tier: 0, offset: 3 });
    assert_eq!(due_turns(&mut tiers, 100_000), [(4, "superseded")]);
    assert_eq!(tiers.outstanding.len(), 0);
}

#[test]
fn a_settled_copy_beyond_what_is_held_supersedes_nothing() {
    let commit = Commit { settled_above: vec![700..701, 800..801], ..Commit::default() };
    let ledger = Ledger::restore(&commit);
    let tier = Tier::new(Partition::new("orders.retry.5s", 2), Duration::ZERO, ledger, 10);
    let mut tiers = Tiers::new("g", source(), vec![tier], false);
    tiers.hold(0, copy(9, 1, 10, "g"), 1_000);
    tiers.index(0, &copy(9, 1, 700, "g"));
    assert_eq!(due_turns(&mut tiers, 100_000), [(9, "attempt")]);
}

#[test]
fn a_copy_that_was_only_indexed_supersedes_one_in_hand() {
    let mut tiers = tiers();
    tiers.hold(0, copy(9, 1, 0, "g"), 1_000);
    tiers.index(1, &copy(9, 2, 700, "g"));
    assert_eq!(due_turns(&mut tiers, 100_000), [(0, "superseded")]);
    assert_eq!(
        tiers.outstanding.turns().collect::<Vec<_>>(),
        [9],
        "the other copy is still to come"
    );
}

#[test]
fn a_copy_is_superseded_also_after_the_current_one_has_ended() {
    let mut tiers = tiers();
    tiers.hold(1, copy(9, 1, 0, "g"), 1_000);
    tiers.hold(0, copy(9, 2, 0, "g"), 1_000);
    let Some(Due::Attempt(item)) = tiers.take_due(7_000) else { panic!("the 5 s tier is due") };
    assert_eq!(item.context.attempt, 3);
    tiers.outstanding.left(9, None, item.read_from);
    assert_eq!(due_turns(&mut tiers, 100_000), [(0, "superseded")], "attempt 2 after attempt 3");
    assert_eq!(tiers.outstanding.len(), 0);
}

#[test]
fn no_more_are_in_work_than_the_commit_can_tell_apart() {
    let tier = Tier::new(
        Partition::new("orders.retry.5s", 2),
        Duration::from_secs(5),
        Ledger::restore(&Commit::default()),
        2,
    );
    let mut tiers = Tiers::new("g", source(), vec![tier], false);
    for n in 0..4 {
        tiers.hold(0, copy(n, 1, n, "g"), 1_000);
    }
    assert_eq!(due_turns(&mut tiers, 100_000), [(0, "attempt"), (1, "attempt")]);
    assert_eq!(tiers.next_due(), None, "the others wait for these, not for a time");
    tiers.gave_back(ReadFrom::Tier { tier: 0, offset: 1 });
    assert_eq!(due_turns(&mut tiers, 100_000), [(2, "attempt")]);
}

#[test]
fn no_copy_is_taken_while_one_is_being_written() {
    let mut tiers = tiers();
    tiers.outstanding.writing(9, None, Progress { attempts: 1, ..Progress::default() }, 0);
    tiers.hold(0, copy(9, 1, 3, "g"), 1_000);
    assert!(due_turns(&mut tiers, 100_000).is_empty());
    assert_eq!(tiers.next_due(), None, "it waits for the answer, not for a time");
    // The answer: this copy was written by a third try. The first one is held already; of the second
    // nobody knows.
    let progress = Progress { attempts: 1, ..Progress::default() };
    tiers.outstanding.note(9, None, progress, (0, 5));
    tiers.outstanding.written(9, None, true);
    assert_eq!(due_turns(&mut tiers, 100_000), [(3, "superseded")]);
    tiers.hold(0, copy(9, 1, 4, "g"), 2_000);
    tiers.hold(0, copy(9, 1, 5, "g"), 2_000);
    assert_eq!(due_turns(&mut tiers, 100_000), [(4, "superseded"), (9, "attempt")]);
}

#[test]
fn a_message_of_another_group_is_not_handled() {
    let mut tiers = tiers();
    tiers.hold(0, copy(9, 1, 0, "other"), 1_000);
    assert_eq!(due_turns(&mut tiers, 100_000), [(0, "other_group")]);
    assert_eq!(tiers.outstanding.len(), 0);
}

#[test]
fn what_is_no_retry_becomes_a_dead_letter_and_is_not_lost() {
    let mut tiers = tiers();
    let stranger = Message { headers: vec![], ..copy(9, 1, 0, "g") };
    tiers.hold(0, stranger, 1_000);
    assert_eq!(due_turns(&mut tiers, 100_000), [(0, "unreadable")]);
}

#[test]
fn a_retry_that_points_elsewhere_is_not_believed() {
    let mut other_partition = copy(9, 1, 0, "g");
    other_partition.headers.push(Header::new("millstream-origin-partition", "99"));
    let mut beyond = copy(9, 1, 1, "g");
    beyond.headers.push(Header::new("millstream-turn", u64::MAX.to_string()));
    let mut tiers = tiers();
    for message in [other_partition, beyond] {
        tiers.index(0, &message);
        tiers.hold(0, message, 1_000);
    }
    assert_eq!(tiers.outstanding.len(), 0, "it would settle another message ahead");
    assert_eq!(due_turns(&mut tiers, 100_000), [(0, "unreadable"), (1, "unreadable")]);
}

#[test]
fn attempts_made_in_place_are_not_forgotten() {
    let commit = Commit { attempts: vec![(0, 4)], ..Commit::default() };
    let ledger = Ledger::restore(&commit);
    let tier = Tier::new(Partition::new("orders.retry.0s", 2), Duration::ZERO, ledger, 10);
    let mut tiers = Tiers::new("g", source(), vec![tier], false);
    tiers.hold(0, copy(9, 0, 0, "g"), 1_000);
    let Some(Due::Attempt(item)) = tiers.take_due(1_000) else { panic!("it is due") };
    assert_eq!(item.context.attempt, 5);
}

#[test]
fn a_tier_pauses_when_it_is_full_and_resumes_at_half() {
    let mut tiers = tiers();
    for n in 0..HELD_MESSAGES_MAX as u64 {
        assert!(!tiers.all()[0].is_full(), "full at {n}");
        tiers.hold(0, copy(n, 1, n, "g"), 1_000);
    }
    assert!(tiers.all()[0].is_full());
    tiers.all_mut()[0].paused = true;
    for n in 0..=HELD_MESSAGES_MAX as u64 / 2 {
        assert!(tiers.all()[0].is_full(), "resumed with {n} gone");
        assert!(tiers.take_due(100_000).is_some());
        assert!(tiers.all()[0].is_full(), "in work is not out of hand");
        tiers.gave_back(ReadFrom::Tier { tier: 0, offset: n });
    }
    assert!(!tiers.all()[0].is_full());
}

/// Tiers that keep order, and a copy of a message with a key.
fn kept() -> Tiers {
    let tier = |name: &str, seconds| {
        let ledger = Ledger::restore(&Commit::default());
        let partition = Partition::new(name, 2);
        Tier::new(partition, Duration::from_secs(seconds), ledger, HELD_MESSAGES_MAX)
    };
    let tiers = vec![tier("orders.retry.5s", 5), tier("orders.retry.30s", 30)];
    Tiers::new("g", source(), tiers, true)
}

fn keyed(turn: Offset, attempt: u32, offset: Offset) -> Message {
    Message { key: Some("k".into()), ..copy(turn, attempt, offset, "g") }
}

#[test]
fn where_order_is_kept_what_is_due_before_its_turn_is_put_behind() {
    let mut tiers = kept();
    tiers.hold(1, keyed(9, 2, 0), 1_000);
    tiers.hold(0, keyed(10, 1, 0), 1_000);
    let Some(Due::Behind(item, tier)) = tiers.take_due(7_000) else { panic!("10 is due") };
    assert_eq!((item.context.turn, tier), (10, 1), "into the tier of the first");
}

#[test]
fn where_order_is_kept_a_retry_waits_until_the_source_was_read_up_to_it() {
    let mut tiers = kept();
    tiers.restored(20);
    tiers.admitted(9);
    tiers.hold(0, keyed(9, 0, 0), 1_000);
    assert!(due_turns(&mut tiers, 100_000).is_empty(), "8 may come from the source yet");
    assert_eq!(tiers.next_due(), None, "and nothing is waited for but the source");
    tiers.admitted(10);
    assert_eq!(due_turns(&mut tiers, 100_000), [(9, "attempt")]);
    tiers.hold(0, keyed(30, 0, 1), 1_000);
    assert_eq!(
        due_turns(&mut tiers, 100_000),
        [(30, "attempt")],
        "a stranger's, beyond the source"
    );
}
