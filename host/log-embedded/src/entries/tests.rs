use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::record_batch::POSITION_MAX;

fn commit() -> impl Strategy<Value = Commit> {
    let steps = vec((1..u64::MAX >> 4, 1..u64::MAX >> 4), 0..6);
    let counts = || vec((any::<u64>(), any::<u32>()), 0..6);
    let fields = (0..u64::MAX >> 4, steps, counts(), any::<u32>(), counts());
    fields.prop_map(|(next, steps, attempts, owners, suspects)| {
        let mut at = next;
        // Ascending, apart, and as high as offsets go.
        let range = |(gap, length)| {
            let start = at.checked_add(gap)?;
            at = start.checked_add(length)?;
            Some(start..at)
        };
        let settled_above = steps.into_iter().map_while(range).collect();
        Commit { next, settled_above, attempts, owners, suspects }
    })
}

fn topic() -> impl Strategy<Value = TopicEntry> {
    let age = prop::option::of((0..u64::MAX / 2).prop_map(Duration::from_millis));
    let bytes = prop::option::of(any::<u64>());
    (any::<u32>(), "[a-z.]{1,9}", any::<u32>(), age, bytes, 1..usize::MAX, any::<bool>()).prop_map(
        |(id, name, partitions, retention, retention_bytes, message_bytes_max, append_time)| {
            let name = name.as_str().into();
            TopicEntry {
                id,
                spec: TopicSpec {
                    name,
                    partitions,
                    retention,
                    retention_bytes,
                    message_bytes_max,
                    append_time,
                    compacted: false,
                    replication: None,
                },
            }
        },
    )
}

fn is_guarded(
    key: &[u8],
    value: &[u8],
    change: u8,
    opens: impl Fn(&[u8], &[u8]) -> bool,
) -> Result<(), TestCaseError> {
    prop_assert!(opens(key, value));
    for end in 0..value.len() {
        prop_assert!(!opens(key, &value[..end]), "cut at {end}");
    }
    for at in 0..value.len() {
        let mut changed = value.to_vec();
        changed[at] ^= change;
        prop_assert!(!opens(key, &changed), "byte {at}");
    }
    for at in 0..key.len() {
        let mut changed = key.to_vec();
        changed[at] ^= change;
        prop_assert!(!opens(&changed, value), "key byte {at}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_commit_comes_back_as_it_was_or_not_at_all(commit in commit(), change in 1..=255_u8) {
        let key = commit_key("group", 3, 4);
        let value = encode_commit(&key, &commit);
        prop_assert_eq!(decode_commit(&key, &value).unwrap(), commit);
        is_guarded(&key, &value, change, |key, value| decode_commit(key, value).is_ok())?;
    }

    #[test]
    fn a_topic_comes_back_as_it_was_or_not_at_all(topic in topic(), change in 1..=255_u8) {
        let key = topic_key(&topic.spec.name);
        let value = topic.encode(&key);
        prop_assert_eq!(TopicEntry::decode(&key, &value).unwrap(), topic);
        is_guarded(&key, &value, change, |key, value| TopicEntry::decode(key, value).is_ok())?;
    }

    #[test]
    fn starts_and_seals_come_back_as_they_were_or_not_at_all(a in 0..=POSITION_MAX, b in 0..=POSITION_MAX, c in 0..=POSITION_MAX, d in 0..=POSITION_MAX, change in 1..=255_u8) {
        let key = start_key(1, 2);
        let start = StartEntry { start: a, end: b, bytes_to: c, bytes_before: d };
        let value = start.encode(&key);
        prop_assert_eq!(StartEntry::decode(&key, &value).unwrap(), start);
        is_guarded(&key, &value, change, |key, value| StartEntry::decode(key, value).is_ok())?;
        let seal = Seal { number: a, sequence_floor: b };
        prop_assert_eq!(Seal::decode(&seal.encode()).unwrap(), seal);
        is_guarded(b"", &seal.encode(), change, |_, value| Seal::decode(value).is_ok())?;
    }

    #[test]
    fn nonsense_with_a_right_checksum_never_panics(body in vec(any::<u8>(), 0..40)) {
        let mut value = vec![VERSION];
        value.extend_from_slice(&body);
        let crc = crc(b"k", &value);
        value.extend_from_slice(&crc.to_le_bytes());
        let _ = decode_commit(b"k", &value);
        let _ = TopicEntry::decode(b"k", &value);
        let _ = StartEntry::decode(b"k", &value);
    }
}

#[test]
fn keys_of_different_commits_differ() {
    let keys = [commit_key("a", 1, 2), commit_key("a", 2, 1), commit_key("a\0", 1, 2)];
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
}

// The next message would get an offset that is there already: the writer counts on from the end.
#[test]
fn a_start_beyond_every_log_is_damage() {
    let key = start_key(1, 2);
    let opens = |start: StartEntry| StartEntry::decode(&key, &start.encode(&key)).is_ok();
    let beyond = POSITION_MAX + 1;
    assert!(opens(StartEntry { end: POSITION_MAX, ..StartEntry::default() }));
    assert!(!opens(StartEntry { start: beyond, ..StartEntry::default() }));
    assert!(!opens(StartEntry { end: beyond, ..StartEntry::default() }));
    assert!(!opens(StartEntry { bytes_to: beyond, ..StartEntry::default() }));
    assert!(!opens(StartEntry { bytes_before: beyond, ..StartEntry::default() }));
}
