// SPDX-License-Identifier: MPL-2.0

//! The macro takes only the flags of its own universe.

typeflags::typeflags! {
    trait Access: u8 {
        struct Fetch = 1;
    }
}

typeflags::typeflags! {
    trait Colour: u8 {
        struct Red = 1;
    }
}

fn takes<A: Access>() {}

fn main() {
    takes::<Access![Red]>();
    takes::<Access![Unheard]>();
    takes::<Colour![Red]>();
}
