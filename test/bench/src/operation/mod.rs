// SPDX-License-Identifier: MPL-2.0

//! The operations, one family a file.

mod control;
mod exec;
mod fault;
mod file;
mod fork;
mod growth;
mod map;
mod other;
mod protect;
mod resize;
mod thread;

use std::{
    ffi::{CStr, c_char},
    ptr,
};

use crate::{clock::Samples, sys::Result};

/// Where this program is found to be executed again.
pub const SELF: &CStr = c"/proc/self/exe";

/// The words that make it end at once.
pub const SELF_TO_EXIT: [*const c_char; 3] = [c"bench".as_ptr(), c"--exit".as_ptr(), ptr::null()];

/// One line of the table.
pub struct Operation {
    /// The name, which never changes its meaning.
    pub name: &'static str,
    /// How many pages one unit of it clears or copies: what no kernel can save.
    pub pages: u32,
    /// How many units one sample holds; the figure is for one unit.
    pub units: u64,
    /// How many samples are taken.
    pub rounds: usize,
    /// Takes the samples.
    pub run: fn(&mut Samples) -> Result,
    /// What is measured, in one sentence.
    pub what: &'static str,
}

/// A line of a table: `name, pages cleared, units in a sample, samples, function, sentence`.
macro_rules! operations {
    ($($name:literal, $pages:literal, $units:literal, $rounds:literal, $run:expr, $what:literal;)*) => {
        &[$($crate::operation::Operation {
            name: $name, pages: $pages, units: $units, rounds: $rounds, run: $run, what: $what,
        }),*]
    };
}
use operations;

const FAMILIES: &[&[Operation]] = &[
    control::OPERATIONS,
    fault::OPERATIONS,
    file::OPERATIONS,
    map::OPERATIONS,
    protect::OPERATIONS,
    resize::OPERATIONS,
    fork::OPERATIONS,
    exec::OPERATIONS,
    thread::OPERATIONS,
    other::OPERATIONS,
    growth::OPERATIONS,
];

/// All operations, in the order they are measured.
pub fn all() -> impl Iterator<Item = &'static Operation> {
    FAMILIES.iter().flat_map(|family| family.iter())
}
