// SPDX-License-Identifier: MPL-2.0

//! A capability whose rights are values has no operations before it is turned into a typed one.

use vmar::{machine::Machine, vmar::Vmar};

fn operations<M: Machine>(vmar: &Vmar<M>) {
    let _ = vmar.unmap(0..4096);
}

fn main() {}
