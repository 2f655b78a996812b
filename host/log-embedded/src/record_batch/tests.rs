use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let header = ("[a-zß]{0,6}", bytes()).prop_map(|(name, value)| Header::new(name, value));
    let record = (option::of(bytes()), option::of(bytes()), vec(header, 0..4), any::<i64>());
    let record = record.prop_map(|(key, value, headers, timestamp)| Record {
        topic: "t".into(),
        partition: Some(0),
        timestamp: Some(timestamp),
        key,
        value,
        headers,
    });
    vec(record, 1..12)
}

fn stored(records: &[Record], base: Offset) -> ([u8; KEY_BYTES], StoredBatch) {
    let mut builder = BatchBuilder::new(0);
    for record in records {
        builder.push(record, encoded_bytes(record), record.timestamp.unwrap());
    }
    builder.finish(3, 7, base + records.len() as u64 - 1, 1000)
}

fn source() -> Partition {
    Partition::new("t", 7)
}

fn read_all(batch: &StoredBatch, from: Offset) -> Result<Vec<Message>, Damage> {
    let mut room = Room { messages: usize::MAX, bytes: usize::MAX };
    let mut messages = Vec::new();
    batch.read(&source(), from, &mut room, &mut messages)?;
    Ok(messages)
}

proptest! {
    #[test]
    fn what_is_read_is_what_was_appended(records in records(), base in 0..POSITION_MAX - 12, skip in 0..12_u64) {
        let (key, batch) = stored(&records, base);
        let batch = StoredBatch::verified(&key, batch.value).unwrap();
        prop_assert_eq!(batch.base, base);
        let messages = read_all(&batch, base + skip).unwrap();
        let expected = records.iter().enumerate().skip(skip as usize);
        prop_assert_eq!(messages.len(), expected.len());
        for (message, (index, record)) in messages.iter().zip(expected) {
            prop_assert_eq!(message.offset, base + index as u64);
            prop_assert_eq!(Some(message.timestamp), record.timestamp);
            prop_assert_eq!(&message.key, &record.key);
            prop_assert_eq!(&message.value, &record.value);
            prop_assert_eq!(&message.headers, &record.headers);
            prop_assert_eq!(message.source(), source());
        }
        let key = BatchKey::decode(&key).unwrap();
        prop_assert_eq!(Some(key.timestamp_max), records.iter().filter_map(|r| r.timestamp).max());
        prop_assert_eq!(key.bytes_to, 1000 + batch.value.len() as u64);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_refused(records in records(), change in 1..=255_u8) {
        let (key, batch) = stored(&records, 5);
        let value = batch.value;
        for end in 0..value.len() {
            prop_assert!(StoredBatch::verified(&key, value.slice(..end)).is_err(), "cut at {}", end);
        }
        for at in 0..value.len() {
            let mut changed = value.to_vec();
            changed[at] ^= change;
            prop_assert!(StoredBatch::verified(&key, changed.into()).is_err(), "value byte {}", at);
        }
        for at in 0..key.len() {
            let mut changed = key;
            changed[at] ^= change;
            prop_assert!(StoredBatch::verified(&changed, value.clone()).is_err(), "key byte {}", at);
        }
        for end in 0..key.len() {
            prop_assert!(StoredBatch::verified(&key[..end], value.clone()).is_err());
        }
    }

    // Behind the checksum: a batch that was written wrong must not panic either.
    #[test]
    fn reading_nonsense_never_panics(records in records(), at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let (_, mut batch) = stored(&records, 5);
        let mut changed = batch.value.to_vec();
        let at = at.index(changed.len());
        changed[at] = to;
        changed.truncate(cut.index(changed.len() + 1));
        batch.value = changed.into();
        let _ = read_all(&batch, 0);
    }
}

fn sized(value_bytes: usize) -> Record {
    Record {
        topic: "t".into(),
        partition: None,
        timestamp: Some(0),
        key: None,
        value: Some(vec![7; value_bytes].into()),
        headers: vec![],
    }
}

#[test]
fn a_batch_is_closed_before_its_bound_and_one_large_record_is_alone() {
    let mut builder = BatchBuilder::new(0);
    let large = sized(2 * BATCH_BYTES_MAX);
    assert!(builder.takes(encoded_bytes(&large)), "alone it goes");
    builder.push(&sized(10), encoded_bytes(&sized(10)), 0);
    assert!(!builder.takes(encoded_bytes(&large)), "not beside another");
    let mut builder = BatchBuilder::new(0);
    let small = sized(0);
    for _ in 0..BATCH_RECORDS_MAX {
        assert!(builder.takes(encoded_bytes(&small)));
        builder.push(&small, encoded_bytes(&small), 0);
    }
    assert!(!builder.takes(encoded_bytes(&small)), "it has {BATCH_RECORDS_MAX} records");
}

#[test]
fn room_bounds_what_is_read_and_a_larger_message_goes_alone() {
    let (_, batch) = stored(&[sized(100), sized(100), sized(5000), sized(100)], 0);
    let read = |from, messages, bytes| {
        let mut room = Room { messages, bytes };
        let mut out = Vec::new();
        let whole = batch.read(&source(), from, &mut room, &mut out).unwrap();
        (out.iter().map(|m| m.offset).collect::<Vec<_>>(), whole)
    };
    assert_eq!(read(0, 1, 10_000), (vec![0], false));
    assert_eq!(read(0, 10, 500), (vec![0, 1], false), "the third does not fit");
    assert_eq!(read(2, 10, 500), (vec![2], false), "it is larger than the room and goes alone");
    assert_eq!(read(3, 10, 0), (vec![3], true));
    assert_eq!(read(0, 10, 100_000), (vec![0, 1, 2, 3], true));
}

#[test]
fn messages_are_slices_of_the_stored_batch() {
    let (_, batch) = stored(&[sized(100)], 0);
    let messages = read_all(&batch, 0).unwrap();
    let value = messages[0].value.clone().unwrap();
    let inside = batch.value.as_ptr_range().contains(&value.as_ptr());
    assert!(inside, "the value was copied");
}

// Found by fuzzing: sums of such numbers overflow.
#[test]
fn offsets_and_bytes_beyond_every_log_are_damage() {
    let (_, batch) = stored(&[sized(1)], 5);
    let opens = |last, bytes_to| {
        let key = BatchKey { topic: 3, partition: 7, last, timestamp_max: 0, bytes_to }.encode();
        StoredBatch::verified(&key, sealed(&key, &batch.value[5..]).into())
    };
    assert!(opens(POSITION_MAX, POSITION_MAX).is_ok());
    for (last, bytes_to) in [(u64::MAX, 1000), (POSITION_MAX + 1, 1000), (5, u64::MAX)] {
        assert!(opens(last, bytes_to).is_err(), "offset {last}, {bytes_to} bytes");
    }
}
