// SPDX-License-Identifier: MPL-2.0

//! Random sequences of operations on several spaces, against a naive page-by-page model.
//!
//! `VMAR_MODEL_STEPS` sets how many steps are made (100,000 unless it does), `VMAR_MODEL_SEED` the first seed; a failure
//! prints the seed of its sequence, which then comes first.

use vmar_model::{STEP_SIZE, Script};

/// Steps after which everything starts anew with the next seed.
const EPISODE: usize = 2000;

/// Makes numbers that look random: splitmix64.
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// Says how to see a failure again.
struct Reproduce(u64);

impl Drop for Reproduce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("VMAR_MODEL_SEED={} VMAR_MODEL_STEPS={EPISODE} shows it again", self.0);
        }
    }
}

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[test]
fn v18_random_operations_agree_with_a_naive_model() {
    let mut steps = number_from_env("VMAR_MODEL_STEPS").unwrap_or(100_000) as usize;
    let mut seed = number_from_env("VMAR_MODEL_SEED").unwrap_or(1);
    while steps > 0 {
        let reproduce = Reproduce(seed);
        let mut random = Random(seed);
        let count = steps.min(EPISODE);
        let bytes: Vec<u8> =
            std::iter::repeat_with(|| random.number() as u8).take(1 + count * STEP_SIZE).collect();
        Script(&bytes).check();
        drop(reproduce);
        steps -= count;
        seed += 1;
    }
}
