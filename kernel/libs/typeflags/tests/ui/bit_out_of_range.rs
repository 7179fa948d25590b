// SPDX-License-Identifier: MPL-2.0

//! The bit of a flag fits its integer.

typeflags::typeflags! {
    trait Access: u8 {
        struct Read = 256;
    }
}

fn main() {}
