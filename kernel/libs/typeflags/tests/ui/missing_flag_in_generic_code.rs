// SPDX-License-Identifier: MPL-2.0

//! Generic code has the flags that its where clauses name, and no others.

use typeflags_util::Contains;

typeflags::typeflags! {
    trait Access: u8 {
        struct Fetch = 1;
        struct Store = 2;
    }
}

fn store<A: Contains<Store>>() {}

fn forgets_to_ask<A: Access + Contains<Fetch>>() {
    store::<A>();
}

fn main() {
    forgets_to_ask::<Access![Fetch, Store]>();
}
