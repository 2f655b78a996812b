//! The accounts themselves: each promise, once broken, is found.

use millstream_core::log::Commit;

use super::*;

const fn at(offset: u64) -> At {
    At { partition: 0, offset }
}

fn name(topic: &str) -> (String, u32) {
    (topic.to_owned(), 0)
}

fn commit(next: u64, above: std::ops::Range<u64>) -> Commit {
    let settled_above = if above.is_empty() { vec![] } else { vec![above] };
    Commit { next, settled_above, ..Commit::default() }
}

/// Order 0 is poison, 1 is priced at once and sent twice, 11 is flaky (one, then priced by attempt 3).
fn history() -> History {
    let copy = |offset, turn, attempt| Copy {
        at: at(offset),
        turn: at(turn),
        attempt,
        kind: "trap".into(),
    };
    let first = vec![copy(0, 0, 1), copy(1, 3, 1)];
    let second = vec![copy(0, 0, 2), copy(1, 3, 2)];
    let (short, long) = (tier(DELAYS[0]), tier(DELAYS[1]));
    let ends = |output, second, dead| {
        let ends = [(SOURCE, 4), (OUTPUT, output), (&short, 2), (&long, second), (DEAD, dead)];
        ends.map(|(topic, end)| (name(topic), end)).into_iter().collect()
    };
    // At the kill order 1 was priced and committed, 0 and 11 were on their way.
    let killed = Look {
        commits: [(name(SOURCE), commit(2, 3..4)), (name(&short), commit(1, 0..0))].into(),
        ends: ends(1, 1, 0),
        starts: [(name(&short), 1)].into(),
    };
    let end = Look {
        commits: [(SOURCE, 4), (&short, 2), (&long, 2)]
            .map(|(topic, next)| (name(topic), commit(next, 0..0)))
            .into(),
        ends: ends(2, 2, 1),
        starts: [(name(&short), 2)].into(),
    };
    History {
        source: [(at(0), 0), (at(1), 1), (at(2), 1), (at(3), 11)].into(),
        outputs: [(at(0), (1, 1)), (at(1), (11, 3))].into(),
        tiers: [(short, first), (long, second)].into(),
        dead: vec![copy(0, 0, 3)],
        looks: vec![killed, end],
        acknowledged: [0, 1, 11].into(),
    }
}

fn violations(promise: Promise, change: impl Fn(&mut History)) -> String {
    let mut history = history();
    change(&mut history);
    history.violations(promise).join("\n")
}

fn found(change: impl Fn(&mut History), expected: &str) {
    for promise in [Promise::ExactlyOnce, Promise::AtLeastOnce] {
        let found = violations(promise, &change);
        assert!(found.contains(expected), "{promise:?}: {expected:?} is not among: {found}");
    }
}

#[test]
fn a_good_history_has_no_violations() {
    assert_eq!(orders::fate(0), Fate::Dead);
    assert_eq!(
        (orders::fate(1), orders::fate(11)),
        (Fate::Priced { after: 0 }, Fate::Priced { after: 2 })
    );
    assert_eq!(violations(Promise::ExactlyOnce, |_| {}), "");
    assert_eq!(violations(Promise::AtLeastOnce, |_| {}), "");
}

#[test]
fn what_is_lost_is_found() {
    found(
        |h| {
            h.outputs.remove(&at(1));
        },
        "order 11 at At { partition: 0, offset: 3 } is lost",
    );
    found(|h| h.dead.clear(), "order 0 at At { partition: 0, offset: 0 } is lost");
    found(
        |h| {
            h.acknowledged.insert(12);
        },
        "order 12 was acknowledged and is not in the source",
    );
}

#[test]
fn an_output_repeated_after_its_commit_is_found() {
    found(
        |h| {
            h.outputs.insert(at(2), (1, 1));
        },
        "order 1 was handled again",
    );
}

#[test]
fn an_output_repeated_before_its_commit_breaks_exactly_once_only() {
    let again = |h: &mut History| {
        h.looks[0].commits.clear();
        h.looks[0].starts.clear();
        h.outputs.insert(at(2), (1, 1));
        h.looks[1].ends.insert(name(OUTPUT), 3);
    };
    assert_eq!(violations(Promise::AtLeastOnce, again), "");
    assert!(violations(Promise::ExactlyOnce, again).contains("order 1 was priced 2 times"));
}

#[test]
fn a_settled_message_that_is_attempted_again_is_found() {
    let again = |h: &mut History| {
        let copy = Copy { at: at(2), turn: at(1), attempt: 1, kind: "retry".into() };
        h.tiers.get_mut(&tier(DELAYS[0])).unwrap().push(copy);
        h.looks[1].commits.insert(name(&tier(DELAYS[0])), commit(3, 0..0));
    };
    found(again, "and it was attempted again");
}

#[test]
fn attempts_that_are_forgotten_or_counted_twice_are_found() {
    found(
        |h| {
            h.outputs.insert(at(1), (11, 2));
        },
        "order 11 was priced by attempt 2",
    );
    found(|h| h.dead[0].attempt = 4, "a dead letter that should not be so");
    found(|h| h.tiers.get_mut(&tier(DELAYS[1])).unwrap()[0].attempt = 1, "is for attempt 2");
}

#[test]
fn a_dead_letter_of_a_good_order_is_found() {
    found(|h| h.dead[0].turn = at(3), "a dead letter that should not be so");
}

#[test]
fn commits_that_go_back_beyond_the_end_or_not_far_enough_are_found() {
    found(
        |h| {
            h.looks[1].commits.insert(name(SOURCE), commit(1, 0..0));
        },
        "went back",
    );
    found(
        |h| {
            h.looks[0].commits.insert(name(SOURCE), commit(2, 3..5));
        },
        "is beyond",
    );
    found(
        |h| {
            h.looks[1].commits.insert(name(SOURCE), commit(3, 0..0));
        },
        "is not committed at the end",
    );
}

#[test]
fn a_message_that_is_removed_before_it_is_settled_is_found() {
    let change = |h: &mut History| {
        h.looks[0].starts.insert(name(&tier(DELAYS[0])), 2);
    };
    found(change, "begins at 2, and the commit is 1");
}
