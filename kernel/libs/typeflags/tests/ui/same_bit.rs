// SPDX-License-Identifier: MPL-2.0

//! No two flags share a bit.

typeflags::typeflags! {
    trait Access: u8 {
        struct Read = 1;
        struct Write = 2;
        struct Exec = 1;
    }
}

fn main() {}
