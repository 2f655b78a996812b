use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::entries::crc;

fn scope(group: &str, topic: &str, number: u32) -> Arc<Scope> {
    Arc::new(Scope { group: group.into(), partition: Partition::new(topic, number) })
}

type OneMark = (Arc<Scope>, Digest, Marked);

fn packed(marks: &[OneMark], number: u64) -> (Vec<u8>, Vec<u8>) {
    let mut packed = PackedMarks::default();
    for (scope, digest, marked) in marks {
        assert!(PackedMarks::takes(scope));
        packed.push(scope, *digest, *marked);
    }
    packed.finish(number)
}

fn unpacked(key: &[u8], value: &[u8]) -> Result<Vec<OneMark>, Damage> {
    let mut all = Vec::new();
    decode(key, value, |scope, marks| {
        let scope = Arc::new(scope.clone());
        all.extend(marks.map(|(digest, marked)| (Arc::clone(&scope), digest, marked)));
    })?;
    Ok(all)
}

fn mark() -> impl Strategy<Value = OneMark> {
    // Few of each, so that scopes come in runs and come back.
    let scope = ("[ab]{0,2}", "[xy]{1,2}", 0..2_u32).prop_map(|(g, t, n)| scope(&g, &t, n));
    // Near one another, as they are, and at the ends of what numbers can be.
    let turn = prop_oneof![100..400_u64, any::<u64>(), Just(u64::MAX)];
    let expires = prop_oneof![-9..9_i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
    (scope, any::<[u8; DIGEST_BYTES]>(), turn, expires).prop_map(
        |(scope, digest, turn, expires)| {
            (scope, Digest::from_bytes(digest), Marked { turn, expires })
        },
    )
}

proptest! {
    #[test]
    fn the_marks_of_a_write_come_back_as_they_were_or_not_at_all(marks in vec(mark(), 1..20), number in any::<u64>(), change in 1..=255_u8) {
        let (key, value) = packed(&marks, number);
        prop_assert_eq!(unpacked(&key, &value).unwrap(), marks.clone());
        let expires = marks.iter().map(|(_, _, marked)| marked.expires).max().unwrap();
        prop_assert_eq!(MarksKey::decode(&key), Ok(MarksKey { write: number, expires }));
        for at in 0..value.len() {
            let mut changed = value.clone();
            changed[at] ^= change;
            prop_assert!(unpacked(&key, &changed).is_err(), "byte {at}");
            prop_assert!(unpacked(&key, &value[..at]).is_err(), "cut to {at}");
        }
        for at in 0..key.len() {
            let mut changed = key.clone();
            changed[at] ^= change;
            prop_assert!(unpacked(&changed, &value).is_err(), "key byte {at}");
        }
    }

    #[test]
    fn nonsense_with_a_right_checksum_never_panics(body in vec(any::<u8>(), 0..60)) {
        let mut value = vec![crate::entries::VERSION];
        value.extend_from_slice(&body);
        let crc = crc(b"k", &value);
        value.extend_from_slice(&crc.to_le_bytes());
        let _ = unpacked(b"k", &value);
        let _ = MarksKey::decode(&body);
    }
}

#[test]
fn writes_are_in_the_order_of_their_numbers() {
    let key = |write, expires| MarksKey { write, expires }.encode();
    assert!(key(1, i64::MAX) < key(2, i64::MIN));
    assert!(key(255, -1) < key(256, 0));
    assert!(MarksKey::lower(7).as_slice() < key(7, i64::MIN).as_slice());
    assert!(MarksKey::lower(8).as_slice() > key(7, -1).as_slice());
}
