// SPDX-License-Identifier: MPL-2.0

//! Operations of the framework on several spaces, beside the naive model.
//!
//! What libFuzzer makes of bytes shifts those behind a change; here whole steps are left out, doubled and exchanged as well, so
//! that the others stay what they were.

#![no_main]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use vmar_model::{STEP_SIZE, Script};

/// How many steps have been made; said from time to time, since libFuzzer counts scripts.
static STEPS: AtomicUsize = AtomicUsize::new(0);

fuzz_target!(|bytes: &[u8]| {
    let count = Script(bytes).run();
    let before = STEPS.fetch_add(count, Relaxed);
    if before / SAY_EVERY != (before + count) / SAY_EVERY {
        eprintln!("steps: {}", before + count);
    }
});

const SAY_EVERY: usize = 10_000;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let steps = size.saturating_sub(1) / STEP_SIZE;
    let number = |salt: u32, below: usize| mix(seed, salt) as usize % below.max(1);
    let at = |step: usize| 1 + step * STEP_SIZE;
    if steps == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let (one, other) = (number(1, steps), number(2, steps));
    match number(0, 8) {
        // Some bytes of one step, which stays one.
        0..=2 => {
            fuzzer_mutate(&mut data[at(one)..at(one + 1)], STEP_SIZE, STEP_SIZE);
            size
        }
        // One step less.
        3 => {
            data.copy_within(at(one + 1)..size, at(one));
            size - STEP_SIZE
        }
        // A copy of a step at another place, or one that is new.
        4 | 5 if size + STEP_SIZE <= max_size => {
            let mut copy = [0; STEP_SIZE];
            copy.copy_from_slice(&data[at(one)..at(one + 1)]);
            if number(3, 2) == 0 {
                (0..STEP_SIZE).for_each(|byte| copy[byte] = mix(seed, 4 + byte as u32) as u8);
            }
            data.copy_within(at(other)..size, at(other + 1));
            data[at(other)..at(other + 1)].copy_from_slice(&copy);
            size + STEP_SIZE
        }
        // Two steps in each other's places.
        6 => {
            (0..STEP_SIZE).for_each(|byte| data.swap(at(one) + byte, at(other) + byte));
            size
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});

/// A number that follows from two others, and looks random.
fn mix(seed: u32, salt: u32) -> u32 {
    let mut mixed = (u64::from(seed) << 32 | u64::from(salt)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 29;
    (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as u32
}
