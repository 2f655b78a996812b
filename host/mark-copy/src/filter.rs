//! Filter: tells of most keys that are not in a run, or in a buffer, that they are not, from memory (a blocked Bloom filter).
//!
//! A key has a block of [`BLOCK_BITS`] by the first half of its digest, and [`BITS_SET`] bits in it by the second. So a
//! question touches one line of the processor's cache, and a run, which is written in the order of the digests, fills
//! its filter from front to back.

use crate::digest::Digest;

/// Bits for each key of a run where memory allows it: of some 10,000 keys that are not there one is read for. With half of them it was one of 1,000, so
/// that of the hundreds of keys that are asked for at once one nearly always had to wait for the disk.
pub(crate) const BITS_A_KEY: u64 = 32;
/// Bits of a block.
const BLOCK_BITS: u64 = 512;
/// Bits set for a key, each taken from nine bits of the digest.
const BITS_SET: u32 = 7;

/// A block on the disk.
pub(crate) const BLOCK_BYTES: usize = 64;

type Block = [u64; 8];

/// See the module. One without blocks lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter(Vec<Block>);

impl Filter {
    /// A filter for so many keys, with so many bits for each, that takes at most so many bytes.
    pub(crate) fn new(keys: u64, bits_a_key: u64, bytes_max: u64) -> Self {
        let wanted = keys.saturating_mul(bits_a_key).div_ceil(BLOCK_BITS);
        let blocks = wanted.min(bytes_max / BLOCK_BYTES as u64).min(u64::from(u32::MAX));
        Self(vec![Block::default(); usize::try_from(blocks).unwrap_or(0)])
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.0.len() * BLOCK_BYTES) as u64
    }

    pub(crate) fn insert(&mut self, digest: Digest) {
        let at = self.block_of(digest);
        let Some(block) = self.0.get_mut(at) else { return };
        for (word, bit) in bits(digest) {
            if let Some(word) = block.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// Whether the key may be there.
    pub(crate) fn passes(&self, digest: Digest) -> bool {
        let Some(block) = self.0.get(self.block_of(digest)) else { return true };
        bits(digest).all(|(word, bit)| block.get(word).is_some_and(|word| word & bit != 0))
    }

    /// Whether the first bit of the key is set, as is that of one in five keys that are not there. So little work that the
    /// processor has the blocks of many keys on their way from memory at once, and nothing is guessed before they come.
    pub(crate) fn begins_to_pass(&self, digest: Digest) -> bool {
        let Some(block) = self.0.get(self.block_of(digest)) else { return true };
        bits(digest).next().is_none_or(|(word, bit)| block.get(word).is_some_and(|w| w & bit != 0))
    }

    /// Forgets all keys.
    pub(crate) fn clear(&mut self) {
        self.0.fill(Block::default());
    }

    fn block_of(&self, digest: Digest) -> usize {
        // The first half as a fraction of the blocks.
        let fraction = u128::from(digest.high) * self.0.len() as u128;
        usize::try_from(fraction >> u64::BITS).unwrap_or(usize::MAX)
    }

    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        for block in &self.0 {
            out.extend(block.iter().flat_map(|word| word.to_le_bytes()));
        }
    }

    /// Of whole blocks.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let block = |bytes: &[u8]| {
            let mut block = Block::default();
            for (to, from) in block.iter_mut().zip(bytes.chunks_exact(8)) {
                *to = word(from);
            }
            block
        };
        Self(bytes.chunks_exact(BLOCK_BYTES).map(block).collect())
    }
}

/// Word and bit of each bit of a key.
fn bits(digest: Digest) -> impl Iterator<Item = (usize, u64)> {
    (0..BITS_SET).map(move |number| {
        let nine = digest.low >> (9 * number);
        ((nine >> 6 & 7) as usize, 1 << (nine & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u64) -> Digest {
        let hash = xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes());
        Digest { high: (hash >> 64) as u64, low: hash as u64 }
    }

    #[test]
    fn what_was_put_passes_and_of_the_rest_hardly_anything() {
        let mut filter = Filter::new(100_000, 16, u64::MAX);
        for number in 0..100_000 {
            filter.insert(digest(number));
        }
        assert!((0..100_000).all(|number| filter.passes(digest(number))));
        let strangers = (100_000..200_000).filter(|number| filter.passes(digest(*number))).count();
        assert!(strangers < 200, "{strangers} of 100,000 pass");
        assert_eq!(
            Filter::decode(&{
                let mut out = Vec::new();
                filter.encode_into(&mut out);
                out
            }),
            filter
        );
    }

    #[test]
    fn one_without_memory_lets_everything_pass() {
        let mut filter = Filter::new(1_000, 16, 63);
        filter.insert(digest(1));
        assert_eq!(filter.bytes(), 0);
        assert!(filter.passes(digest(2)));
    }
}
