// SPDX-License-Identifier: MPL-2.0

//! The space behind a capability, with its page table, is out of reach as well.

use vmar::{
    machine::Machine,
    vmar::{FullVmar, Vmar_},
};

fn unwraps<M: Machine>(vmar: &FullVmar<M>) -> &Vmar_<M> {
    &vmar.inner
}

fn looks_inside<M: Machine>(space: &Vmar_<M>) -> &M::Space {
    &space.space
}

fn main() {}
