// SPDX-License-Identifier: MPL-2.0

//! A flag has a bit.

typeflags::typeflags! {
    trait Access: u8 {
        struct Read = 0;
    }
}

fn main() {}
