// SPDX-License-Identifier: MPL-2.0

//! Nobody can make up a set, nor a slot for one.

use typeflags_util::{Absent, Contains, FlagSet};

// The module is what seals: code beside the declaration could reach into it.
mod universe {
    typeflags::typeflags! {
        pub trait Access: u8 {
            pub struct Fetch = 1;
            pub struct Store = 2;
        }
    }
}
use universe::{Access, AccessFlags, Fetch, Store};

struct Mine;

fn takes<A: Access>() {}

fn fetch<A: Contains<Fetch>>() {}

fn main() {
    // Flags in each other's slots.
    takes::<AccessFlags<Store, Fetch>>();
    fetch::<AccessFlags<Store, Absent>>();
    // A slot of one's own.
    takes::<AccessFlags<Fetch, Mine>>();
    fetch::<AccessFlags<Fetch, Mine>>();
    let _ = <AccessFlags<Mine, Absent> as FlagSet>::BITS;
    // A value.
    let _ = AccessFlags::<Fetch, Store>(core::marker::PhantomData);
}
