//! Commit metadata: what is settled above a committed offset, as text beside it.
//!
//! Written with each commit, read by the partition's next owner. Foreign text is the rule, not the
//! exception: other tools commit here, and mirroring tools copy metadata beside translated offsets. So
//! it counts only if the checksum holds over version, cluster id, partition and the offset it stands
//! beside; anything else is ignored, which repeats messages and loses none.
//!
//! ```text
//! "ms1:" base64( crc32 | next - 0 | ranges: count (gap length)* | attempts: count (distance made)*
//!                | owners | suspects: count (distance hosts)* )
//! ```
//!
//! Limit: brokers keep 4,096 characters (`offset.metadata.max.bytes`); ranges that do not fit are left
//! out from the highest on.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use millstream_core::leb128::{put, take};
use millstream_core::log::Commit;
use millstream_core::message::{Offset, Partition};

/// What a broker keeps of metadata beside an offset, by default.
pub(crate) const METADATA_BYTES_MAX: usize = 4096;

/// Bytes before base64, prefix and checksum not counted: what the core may count on.
pub(crate) const NET_BYTES_MAX: usize = (METADATA_BYTES_MAX - PREFIX.len()) / 4 * 3 - 4 - 32;

const PREFIX: &str = "ms1:";

/// The text beside a commit; empty if the offset says it all.
pub(crate) fn encode(cluster_id: &str, partition: &Partition, commit: &Commit) -> String {
    if *commit == (Commit { next: commit.next, ..Commit::default() }) {
        return String::new();
    }
    let mut counts = Vec::new();
    put_counts(&mut counts, commit.next, &commit.attempts);
    put(&mut counts, u64::from(commit.owners));
    put_counts(&mut counts, commit.next, &commit.suspects);
    let mut ranges = Vec::new();
    let (mut count, mut at) = (0u64, commit.next);
    for range in &commit.settled_above {
        let before = ranges.len();
        put(&mut ranges, range.start.saturating_sub(at));
        put(&mut ranges, range.end.saturating_sub(range.start));
        if ranges.len() + counts.len() > NET_BYTES_MAX {
            ranges.truncate(before);
            break;
        }
        at = range.end;
        count += 1;
    }
    let mut body = Vec::with_capacity(ranges.len() + counts.len() + 16);
    put(&mut body, commit.next);
    put(&mut body, count);
    body.extend(ranges);
    body.extend(counts);
    let mut bytes = checksum(cluster_id, partition, &body).to_be_bytes().to_vec();
    bytes.extend(body);
    format!("{PREFIX}{}", STANDARD_NO_PAD.encode(bytes))
}

/// The commit that stands at `next` with this text beside it.
pub(crate) fn decode(cluster_id: &str, partition: &Partition, next: Offset, text: &str) -> Commit {
    decode_own(cluster_id, partition, next, text)
        .unwrap_or_else(|| Commit { next, ..Commit::default() })
}

fn decode_own(cluster_id: &str, partition: &Partition, next: Offset, text: &str) -> Option<Commit> {
    if text.len() > METADATA_BYTES_MAX {
        return None;
    }
    let bytes = STANDARD_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
    let (sum, body) = bytes.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*sum) != checksum(cluster_id, partition, body) {
        return None;
    }
    let mut left = body;
    if take(&mut left)? != next {
        return None;
    }
    let mut settled_above: Vec<Range<Offset>> = Vec::new();
    let mut at = next;
    for _ in 0..take(&mut left)? {
        let start = at.checked_add(take(&mut left)?)?;
        at = start.checked_add(take(&mut left)?)?;
        settled_above.push(start..at);
    }
    let attempts = take_counts(&mut left, next)?;
    if left.is_empty() {
        // Written before owners were counted.
        return Some(Commit { next, settled_above, attempts, ..Commit::default() });
    }
    let owners = u32::try_from(take(&mut left)?).ok()?;
    let suspects = take_counts(&mut left, next)?;
    left.is_empty().then_some(Commit { next, settled_above, attempts, owners, suspects })
}

fn put_counts(bytes: &mut Vec<u8>, next: Offset, counts: &[(Offset, u32)]) {
    put(bytes, counts.len() as u64);
    for (offset, count) in counts {
        put(bytes, offset.saturating_sub(next));
        put(bytes, u64::from(*count));
    }
}

fn take_counts(bytes: &mut &[u8], next: Offset) -> Option<Vec<(Offset, u32)>> {
    let mut counts = Vec::new();
    for _ in 0..take(bytes)? {
        let offset = next.checked_add(take(bytes)?)?;
        counts.push((offset, u32::try_from(take(bytes)?).ok()?));
    }
    Some(counts)
}

fn checksum(cluster_id: &str, partition: &Partition, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [cluster_id.as_bytes(), &[0], partition.topic.as_bytes(), &[0]] {
        hasher.update(part);
    }
    hasher.update(&partition.number.to_be_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// The text whose body is `body`, with what stands around it.
#[cfg(feature = "fuzzing")]
pub(crate) fn sealed(cluster_id: &str, partition: &Partition, body: &[u8]) -> String {
    let sum = checksum(cluster_id, partition, body).to_be_bytes();
    format!("{PREFIX}{}", STANDARD_NO_PAD.encode([sum.as_slice(), body].concat()))
}

/// The other way.
#[cfg(feature = "fuzzing")]
pub(crate) fn body(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
    Some(bytes.split_first_chunk::<4>()?.1.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn partition() -> Partition {
        Partition::new("orders", 3)
    }

    fn commit() -> impl Strategy<Value = Commit> {
        let ranges = prop::collection::vec((1u64..1 << 40, 1u64..1 << 20), 0..50);
        let counts = || prop::collection::vec((0u64..1 << 20, any::<u32>()), 0..4);
        let fields = (0u64..1 << 50, ranges, counts(), any::<u32>(), counts());
        fields.prop_map(|(next, ranges, attempts, owners, suspects)| {
            let mut at = next;
            let settled_above = ranges.into_iter().map(|(gap, length)| {
                let start = at + gap;
                at = start + length;
                start..at
            });
            let settled_above = settled_above.collect();
            let at =
                |counts: Vec<(u64, u32)>| counts.into_iter().map(|(o, n)| (next + o, n)).collect();
            Commit { next, settled_above, attempts: at(attempts), owners, suspects: at(suspects) }
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(commit in commit()) {
            let text = encode("c", &partition(), &commit);
            prop_assert!(text.len() <= METADATA_BYTES_MAX);
            prop_assert_eq!(decode("c", &partition(), commit.next, &text), commit);
        }

        #[test]
        fn foreign_text_is_ignored(text in ".*", next in any::<u64>()) {
            let plain = Commit { next, ..Commit::default() };
            prop_assert_eq!(decode("c", &partition(), next, &text), plain.clone());
            prop_assert_eq!(decode("c", &partition(), next, &format!("ms1:{text}")), plain);
        }

        #[test]
        fn damaged_text_is_ignored(commit in commit(), at in any::<prop::sample::Index>()) {
            let mut text = encode("c", &partition(), &commit).into_bytes();
            prop_assume!(!text.is_empty());
            let at = at.index(text.len());
            text[at] = if text[at] == b'A' { b'B' } else { b'A' };
            let text = String::from_utf8(text).unwrap();
            let plain = Commit { next: commit.next, ..Commit::default() };
            prop_assert_eq!(decode("c", &partition(), commit.next, &text), plain);
        }
    }

    #[test]
    fn metadata_that_was_copied_elsewhere_is_not_believed() {
        let commit = Commit { next: 10, settled_above: vec![12..14, 20..21], ..Commit::default() };
        let text = encode("c", &partition(), &commit);
        let read = |cluster: &str, partition: &Partition, next| {
            decode(cluster, partition, next, &text).settled_above.len()
        };
        assert_eq!(read("c", &partition(), 10), 2);
        assert_eq!(read("other", &partition(), 10), 0, "of another cluster");
        assert_eq!(read("c", &Partition::new("orders", 4), 10), 0, "of another partition");
        assert_eq!(read("c", &partition(), 11), 0, "beside a translated offset");
    }

    #[test]
    fn what_does_not_fit_is_left_out_from_the_highest_on() {
        let settled_above = (0..5_000).map(|n| 2 * n + 1..2 * n + 2).collect();
        let commit = Commit {
            next: 0,
            settled_above,
            attempts: vec![(0, 7)],
            owners: 2,
            suspects: vec![(3, 1)],
        };
        let text = encode("c", &partition(), &commit);
        assert!(text.len() <= METADATA_BYTES_MAX);
        let read = decode("c", &partition(), 0, &text);
        assert!(read.settled_above.len() > 1_000, "{}", read.settled_above.len());
        assert_eq!(read.settled_above[..], commit.settled_above[..read.settled_above.len()]);
        assert_eq!(read.attempts, commit.attempts);
        assert_eq!((read.owners, read.suspects), (commit.owners, commit.suspects));
    }
}
