//! Random draws from one seed, which is printed, so that a run can be repeated as far as processes
//! allow: `MILLSTREAM_SEED=…`.

use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

/// A sequence of draws (splitmix64).
#[derive(Debug)]
pub struct Draw(u64);

impl Draw {
    /// From `MILLSTREAM_SEED`, else from the system; prints the seed.
    ///
    /// # Panics
    /// When the variable is no number.
    #[expect(clippy::print_stdout, reason = "cargo shows it when the test fails")]
    pub fn seeded(test: &str) -> Self {
        let seed = match std::env::var("MILLSTREAM_SEED") {
            Ok(text) => text.parse().expect("MILLSTREAM_SEED is a number"),
            Err(_) => RandomState::new().hash_one(0) >> 32,
        };
        println!("{test}: MILLSTREAM_SEED={seed}");
        Self(seed)
    }

    /// A number of this range.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start + (z ^ (z >> 31)) % (range.end - range.start)
    }
}
