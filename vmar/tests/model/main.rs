// SPDX-License-Identifier: MPL-2.0

//! Random sequences of operations on several spaces, against a naive page-by-page model.
//!
//! Each step is done by the framework and by the model; their answers must agree, and so must contents, permissions and
//! traits of every page from time to time. After each step the spaces are audited: counts of resident pages against a
//! walk of the page table, totals against the sums, each entry against its mapping. Frames in use must be just those
//! that some space or object holds.
//!
//! `VMAR_MODEL_STEPS` sets how many steps are made (100,000 unless it does), `VMAR_MODEL_SEED` the first seed; a failure
//! prints the seed of its episode, which then comes first.

mod naive;
mod world;

use world::World;

/// Steps after which everything starts anew with the next seed.
const EPISODE: usize = 2000;

/// A source of numbers that look random: splitmix64.
pub struct Random(u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// Says how to see a failure again.
struct Reproduce {
    seed: u64,
    step: usize,
}

impl Drop for Reproduce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, step } = self;
            eprintln!(
                "failed at step {step}; VMAR_MODEL_SEED={seed} VMAR_MODEL_STEPS={} shows it again",
                *step + 1
            );
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
        let mut reproduce = Reproduce { seed, step: 0 };
        let mut random = Random(seed);
        let mut world = World::new(random.one_in(2));
        for step in 0..steps.min(EPISODE) {
            reproduce.step = step;
            world.step(&mut random);
        }
        world.end();
        steps -= steps.min(EPISODE);
        seed += 1;
    }
}
