//! `wasi:random`, derived: a replay of the same attempt draws the same numbers.
//!
//! The numbers are SHA-256 in counter mode over pipeline, topic, partition, turn and attempt: no two
//! attempts share them, so identifiers made of them are unique. They are not secret: who knows the
//! message's position can compute them.

use std::sync::Arc;

use millstream_core::message::Topic;
use millstream_core::outcome::FaultKind;
use sha2::{Digest as _, Sha256};
use wasmtime::component::{HasData, Linker};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use crate::capabilities::Refused;
use crate::instance::State;

/// How many bytes one call may draw at once; the host holds them while it copies them.
const DRAW_BYTES_MAX: u64 = 64 << 10;

/// Random numbers of one instance.
pub(crate) struct GuestRandom {
    pipeline: Arc<str>,
    /// Topic, partition, turn and attempt; `None` while the instance starts.
    attempt: Option<(Topic, u32, u64, u32)>,
    /// Made at the first draw of a call, cleared when the next begins.
    stream: Option<RandomStream>,
}

struct RandomStream {
    seed: Sha256,
    block: u64,
    /// Bytes of the current block that were not drawn yet.
    left: std::array::IntoIter<u8, 32>,
}

impl GuestRandom {
    pub(crate) fn new(pipeline: Arc<str>) -> Self {
        Self { pipeline, attempt: None, stream: None }
    }

    /// A call begins. Costs next to nothing until the guest draws.
    pub(crate) fn begin(&mut self, topic: &Topic, partition: u32, turn: u64, attempt: u32) {
        self.attempt = Some((topic.clone(), partition, turn, attempt));
        self.stream = None;
    }

    fn seed(&self) -> Sha256 {
        let mut seed = Sha256::new();
        let mut text = |text: &str| {
            // With their lengths: "ab" + "c" and "a" + "bc" are different seeds.
            seed.update((text.len() as u64).to_le_bytes());
            seed.update(text);
        };
        text("millstream random 1");
        text(&self.pipeline);
        if let Some((topic, partition, turn, attempt)) = &self.attempt {
            text(topic);
            seed.update(partition.to_le_bytes());
            seed.update(turn.to_le_bytes());
            seed.update(attempt.to_le_bytes());
        }
        seed
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        if self.stream.is_none() {
            self.stream = Some(RandomStream::new(self.seed()));
        }
        if let Some(stream) = &mut self.stream {
            bytes.fill_with(|| stream.next());
        }
    }

    fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        let wanted = usize::try_from(count).ok().filter(|_| count <= DRAW_BYTES_MAX);
        let Some(wanted) = wanted else {
            let reason = format!(
                "the plugin asked for {count} random bytes at once, the host gives at most \
                 {DRAW_BYTES_MAX}"
            );
            return Err(wasmtime::Error::new(Refused { kind: FaultKind::Denied, reason }));
        };
        let mut bytes = vec![0; wanted];
        self.fill(&mut bytes);
        Ok(bytes)
    }
}

impl RandomStream {
    fn new(seed: Sha256) -> Self {
        let mut drained = [0; 32].into_iter();
        drained.by_ref().for_each(drop);
        Self { seed, block: 0, left: drained }
    }

    fn next(&mut self) -> u8 {
        if let Some(byte) = self.left.next() {
            return byte;
        }
        let block: [u8; 32] =
            self.seed.clone().chain_update(self.block.to_le_bytes()).finalize().into();
        self.block += 1;
        self.left = block.into_iter();
        // A new block has 32 bytes.
        self.left.next().unwrap_or(0)
    }
}

struct HasRandom;

impl HasData for HasRandom {
    type Data<'a> = &'a mut GuestRandom;
}

/// Adds all three interfaces.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    fn view(state: &mut State) -> &mut GuestRandom {
        &mut state.random
    }
    random::add_to_linker::<State, HasRandom>(linker, view)?;
    insecure::add_to_linker::<State, HasRandom>(linker, view)?;
    insecure_seed::add_to_linker::<State, HasRandom>(linker, view)
}

impl random::Host for GuestRandom {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.number())
    }
}

impl insecure::Host for GuestRandom {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.number())
    }
}

impl insecure_seed::Host for GuestRandom {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.number(), self.number()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(pipeline: &str, topic: &str, turn: u64, attempt: u32) -> Vec<u8> {
        let mut random = GuestRandom::new(pipeline.into());
        random.begin(&topic.into(), 0, turn, attempt);
        random.bytes(100).unwrap()
    }

    #[test]
    fn an_attempt_draws_the_same_numbers_again_and_no_other_attempt_does() {
        let first = draw("orders", "t", 7, 1);
        assert_eq!(first, draw("orders", "t", 7, 1));
        for other in [draw("orders", "t", 8, 1), draw("orders", "t", 7, 2), draw("x", "t", 7, 1)] {
            assert_ne!(first, other);
        }
        assert_ne!(draw("ab", "c", 7, 1), draw("a", "bc", 7, 1));
    }

    #[test]
    fn a_guest_cannot_make_the_host_hold_any_number_of_bytes() {
        let mut random = GuestRandom::new("orders".into());
        assert!(random.bytes(DRAW_BYTES_MAX).is_ok());
        let refused = random.bytes(u64::MAX).unwrap_err();
        assert!(refused.to_string().contains("at most 65536"), "{refused}");
    }
}
