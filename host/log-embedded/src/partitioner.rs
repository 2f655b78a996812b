//! Partitioner: which partition a record without one goes to, as Kafka's clients choose.
//!
//! Same key, same partition, as long as the count stays: pipelines moved between this log and Kafka
//! keep their order per key.

/// The partition of `count` that `key` goes to: murmur2, as Kafka's default partitioner.
pub(crate) fn partition_of_key(key: &[u8], count: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % count.max(1)
}

/// Murmur2 with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Kafka hashes the length as a 32-bit int; a topic takes no record beyond 1 GiB.
    #[expect(clippy::cast_possible_truncation, reason = "as Kafka does")]
    let mut hash = SEED ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut word = [0; 4];
        word.copy_from_slice(chunk);
        let mut k = u32::from_le_bytes(word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut word = [0; 4];
        for (to, from) in word.iter_mut().zip(rest) {
            *to = *from;
        }
        hash ^= u32::from_le_bytes(word);
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_in_kafkas_own_test() {
        // org.apache.kafka.common.utils.UtilsTest.testMurmur2
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key), hash.cast_unsigned(), "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_key_goes_to_the_partition_kafka_chooses() {
        // toPositive(murmur2("foobar")) % 10, with the sign bit cleared rather than negated.
        assert_eq!(partition_of_key(b"foobar", 10), (-790_332_482_i32 & 0x7fff_ffff) as u32 % 10);
        assert_eq!(partition_of_key(b"foobar", 1), 0);
        assert_eq!(partition_of_key(b"", 0), 0, "no partitions is no reason to panic");
    }
}
