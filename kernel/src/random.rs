// SPDX-License-Identifier: MPL-2.0

//! Random numbers: a ChaCha generator seeded from the CPU.
//!
//! The generator is the `rand_chacha` crate's. Its seed comes from RDRAND where the CPU has it; without it from the time-
//! stamp counter, which is no secret, and the log says so.

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::prelude::*;

static GENERATOR: SpinLock<Option<ChaCha20Rng>, LocalIrqDisabled> = SpinLock::new(None);

/// Fills `bytes` with random bytes. Any context.
pub fn fill(bytes: &mut [u8]) {
    GENERATOR.lock().get_or_insert_with(|| ChaCha20Rng::from_seed(seed())).fill_bytes(bytes);
}

/// A random number.
pub fn next_u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    for part in seed.as_chunks_mut::<8>().0 {
        let word = ostd::arch::read_random().unwrap_or_else(|| {
            warn!("the CPU has no random number generator; random numbers can be guessed");
            ostd::arch::read_tsc().wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        *part = word.to_le_bytes();
    }
    seed
}
