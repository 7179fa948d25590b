// SPDX-License-Identifier: MPL-2.0

//! A flag is one bit.

typeflags::typeflags! {
    trait Access: u8 {
        struct Read = 1;
        struct Write = 6;
    }
}

fn main() {}
