// SPDX-License-Identifier: MPL-2.0

//! What can stand in a slot is decided in a place that nobody else can name.

mod universe {
    typeflags::typeflags! {
        pub trait Access: u8 {
            pub struct Fetch = 1;
        }
    }
}

struct Mine;

impl universe::__access_slots::Slot<universe::Fetch> for Mine {}

fn main() {}
