// SPDX-License-Identifier: MPL-2.0

//! Declarations that make no sense are refused where they stop to.

typeflags::typeflags! {
    trait Empty: u8 {}
}

typeflags::typeflags! {
    trait Signed: i32 {
        struct Read = 1;
    }
}

typeflags::typeflags! {
    trait Twice: u8 {
        struct Read = 1;
        struct Write = 2;
        struct Read = 4;
    }
}

typeflags::typeflags! {
    trait NoValue: u8 {
        struct Read;
    }
}

typeflags::typeflags! {
    trait NoBits {
        struct Read = 1;
    }
}

typeflags::typeflags! {
    enum NoTrait: u8 {
        Read = 1,
    }
}

fn main() {}
