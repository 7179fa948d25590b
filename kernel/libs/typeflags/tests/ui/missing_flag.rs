// SPDX-License-Identifier: MPL-2.0

//! A set that lacks a flag does not do where the flag is asked for.

use typeflags_util::{Contains, Includes};

typeflags::typeflags! {
    trait Access: u8 {
        struct Fetch = 1;
        struct Store = 2;
        struct Jump = 4;
    }
}

fn store<A: Contains<Store>>() {}

fn restrict<A: Includes<B>, B: Access>() {}

fn main() {
    store::<Access![Store, Fetch]>();
    store::<Access![Fetch]>();
    restrict::<Access![Store, Fetch], Access![Fetch]>();
    restrict::<Access![Store, Fetch], Access![Fetch, Jump]>();
}
