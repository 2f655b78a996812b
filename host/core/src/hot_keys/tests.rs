use super::*;

const QUICK: Duration = Duration::from_micros(10);

fn noted(keys: impl Iterator<Item = String>) -> HotKeys {
    let mut hot = HotKeys::new(Instant::now());
    for key in keys {
        hot.note(Some(&Bytes::from(key)), QUICK);
    }
    hot
}

fn named<'a>(top: &'a [HotKey], key: &str) -> &'a HotKey {
    top.iter().find(|hot| hot.key == key).unwrap_or_else(|| panic!("{key} is not in {top:?}"))
}

#[test]
fn a_hot_key_is_found_among_a_million_others_and_its_share_is_never_overstated() {
    let keys = (0..1_000_000_u64).map(|n| match n % 10 {
        0..3 => "hot".to_owned(),
        _ => format!("k{n}"),
    });
    let top = noted(keys).top();
    let share = named(&top, "hot").of_attempts;
    assert!(share > 0.27 && share < 0.31, "{share}");
    assert_eq!(top.len(), 1, "{top:?}");
}

#[test]
fn where_keys_are_equal_none_is_hot() {
    assert_eq!(noted((0..500_000).map(|n| format!("k{}", n % 10_000))).top(), []);
}

// Every eighth attempt would be one and the same key.
#[test]
fn keys_that_take_turns_have_equal_shares() {
    let top = noted((0..400_000).map(|n| format!("k{}", n % 8))).top();
    assert_eq!(top.len(), SHOWN_MAX);
    assert!(top.iter().all(|hot| (hot.of_attempts - 0.125).abs() < 0.02), "{top:?}");
}

#[test]
fn a_key_that_is_rare_and_slow_is_hot_by_its_time() {
    let mut hot = HotKeys::new(Instant::now());
    for n in 0..1_000 {
        let slow = n % 50 == 0;
        let key = Bytes::from(if slow { "slow".to_owned() } else { format!("k{}", n % 20) });
        hot.note(Some(&key), Duration::from_micros(if slow { 100_000 } else { 10 }));
    }
    let top = hot.top();
    assert_eq!(top.first().map(|hot| hot.key.as_str()), Some("slow"));
    let slow = named(&top, "slow");
    assert!((slow.of_attempts - 0.02).abs() < 0.001 && slow.of_time > 0.9, "{slow:?}");
}

// The first call of an instance takes a hundred times as long as the others.
#[test]
fn one_slow_call_among_quick_ones_makes_no_key_hot() {
    let mut hot = HotKeys::new(Instant::now());
    for n in 0..1_000 {
        let took = Duration::from_micros(if n == 0 { 5_000 } else { 10 });
        hot.note(Some(&Bytes::from(format!("k{}", n % 200))), took);
    }
    assert_eq!(hot.top(), []);
}

#[test]
fn messages_without_a_key_count_in_the_whole() {
    let mut hot = HotKeys::new(Instant::now());
    for n in 0..1_000 {
        let key = Bytes::from_static(b"a");
        hot.note((n % 4 == 0).then_some(&key), QUICK);
    }
    assert!((named(&hot.top(), "a").of_attempts - 0.25).abs() < 0.001);
}

#[test]
fn a_handful_of_messages_makes_no_key_hot() {
    assert_eq!(noted((0..99).map(|_| "only".to_owned())).top(), []);
    assert_eq!(noted((0..100).map(|_| "only".to_owned())).top().len(), 1);
}

#[test]
fn what_was_hot_is_forgotten_within_minutes() {
    let begin = Instant::now();
    let mut hot = HotKeys::new(begin);
    let key = Bytes::from_static(b"was hot");
    for _ in 0..1_000 {
        hot.note(Some(&key), QUICK);
    }
    hot.look_at_clock(begin + WINDOW - Duration::from_millis(1));
    assert_eq!(hot.attempts.total, 1_000);
    for minute in 1..=10 {
        hot.look_at_clock(begin + WINDOW * minute);
        for n in 0..1_000 {
            hot.note(Some(&Bytes::from(format!("k{n}"))), QUICK);
        }
    }
    assert_eq!(hot.top(), []);
}

#[test]
fn huge_and_binary_keys_are_bounded() {
    let mut hot = HotKeys::new(Instant::now());
    let huge = Bytes::from(vec![0xff; 1 << 20]);
    for _ in 0..200 {
        hot.note(Some(&huge), Duration::MAX);
    }
    let top = hot.top();
    assert_eq!(top[0].key, "\u{fffd}".repeat(KEY_BYTES_MAX));
    assert!(top[0].of_time <= 1.0);
}
