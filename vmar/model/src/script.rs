// SPDX-License-Identifier: MPL-2.0

//! Bytes as a sequence of steps: running it, telling it in words, and making it shorter.

use std::{
    fmt::{self, Write},
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Step, World};

/// How many bytes a step is made of. All are of one size, so that one can be left out without changing the others.
pub const STEP_SIZE: usize = 12;

/// A sequence of steps, as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a>(pub &'a [u8]);

impl Script<'_> {
    /// Returns whether frames are freed late.
    fn frees_late(&self) -> bool {
        self.0.first().is_some_and(|byte| byte & 1 == 1)
    }

    /// Returns the steps. Bytes that are left over at the end make none.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        self.0.get(1..).unwrap_or_default().as_chunks::<STEP_SIZE>().0.iter().map(Step::new)
    }

    /// Makes the steps, and returns how many they were.
    ///
    /// # Panics
    ///
    /// Panics if the framework and the model differ, or a rule of the simulated machine is broken.
    pub fn run(&self) -> usize {
        let mut done = 0;
        self.run_counting(&mut done);
        done
    }

    fn run_counting(&self, done: &mut usize) {
        let mut world = World::new(self.frees_late());
        for step in self.steps() {
            world.step(&step);
            *done += 1;
        }
        world.end();
    }

    /// Makes the steps. If they differ, panics with the fewest of them that still do, in words and in bytes.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn check(&self) {
        if let Some(difference) = self.difference() {
            panic!("{difference}");
        }
    }

    /// Returns the shortest script that still differs, and what happens in it; `None` if this one does not.
    pub fn difference(&self) -> Option<Difference> {
        quietly(|| {
            self.failure()?;
            let shrunk = self.shrunk();
            let (_, reason) = Script(&shrunk).failure()?;
            Some(Difference { script: shrunk, reason })
        })
    }

    /// Returns the number of the step that fails, and what it says.
    fn failure(&self) -> Option<(usize, String)> {
        let mut done = 0;
        let said = Arc::new(Mutex::new(String::new()));
        let hear = said.clone();
        panic::set_hook(Box::new(move |info| {
            let mut said = hear.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = writeln!(said, "{info}");
        }));
        let result = panic::catch_unwind(AssertUnwindSafe(|| self.run_counting(&mut done)));
        result.err().map(|_| (done, said.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }

    /// Leaves out of a script that differs all that it differs without.
    fn shrunk(&self) -> Vec<u8> {
        let mut kept = self.0.to_vec();
        if let Some((at, _)) = self.failure() {
            kept.truncate(1 + (at + 1) * STEP_SIZE);
        }
        let mut count = (kept.len() / STEP_SIZE).next_power_of_two();
        while count > 0 {
            let mut at = 1;
            while at < kept.len() {
                let mut shorter = kept.clone();
                shorter.drain(at..kept.len().min(at + count * STEP_SIZE));
                if Script(&shorter).failure().is_none() {
                    at += count * STEP_SIZE;
                } else {
                    kept = shorter;
                }
            }
            count /= 2;
        }
        kept
    }
}

/// Keeps panics from being reported while `body` runs.
fn quietly<T>(body: impl FnOnce() -> T) -> T {
    let usual = panic::take_hook();
    let result = body();
    panic::set_hook(usual);
    result
}

/// The fewest steps that differ.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Their bytes.
    pub script: Vec<u8>,
    /// What the last of them says.
    pub reason: String,
}

impl fmt::Display for Script<'_> {
    /// A line for each step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "frames are freed {}", if self.frees_late() { "late" } else { "at once" })?;
        self.steps().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Script(&self.script), self.reason)
    }
}
