// SPDX-License-Identifier: MPL-2.0

//! Sequences of the framework's operations on several spaces, each made beside a naive page-by-page model.
//!
//! A *script* is bytes: one that says what kind of machine it is, then twelve for each step. Any bytes are a script. So the same
//! sequences can be made at random (`tests/model.rs`), by a fuzzer that looks for new paths through the framework (`fuzz/` at the
//! root), and from what it has kept (`tests/kept.rs`).
//!
//! ```text
//!   bytes ─► Step ─┬─► the framework, on the simulated machine ─┐
//!                  └─► the naive model ─────────────────────────┴─► answers, mappings, contents: are they the same?
//! ```
//!
//! Answers and mappings are compared with every step, contents from time to time. After each step the spaces are audited: counts of
//! resident pages against a walk of the page table, totals against the sums, each entry against its mapping. Frames in use
//! must be just those that some space or object holds.

#![forbid(unsafe_code)]

mod naive;
mod operation;
mod script;
mod world;

pub use self::{
    operation::Step,
    script::{Difference, STEP_SIZE, Script},
    world::World,
};
