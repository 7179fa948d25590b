// SPDX-License-Identifier: MPL-2.0

//! The rights there are: as bits, and as types with the same bits.

use bitflags::bitflags;
use typeflags::typeflags;

bitflags! {
    /// Rights known at run time.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Rights: u32 {
        /// The capability can be duplicated.
        const DUP = 1 << 0;
        /// What it names can be read, and mapped readable.
        const READ = 1 << 1;
        /// What it names can be written, and mapped writable.
        const WRITE = 1 << 2;
        /// What it names can be executed, and mapped executable.
        const EXEC = 1 << 3;
        /// What it names can be sent signals.
        const SIGNAL = 1 << 4;
    }
}

typeflags! {
    /// A set of rights known to the compiler.
    ///
    /// The macro of the same name names one: `TRights![Read, Write]`.
    pub trait TRights: u32 {
        /// The right [`Rights::DUP`], as a type.
        pub struct Dup = Rights::DUP.bits();
        /// The right [`Rights::READ`], as a type.
        pub struct Read = Rights::READ.bits();
        /// The right [`Rights::WRITE`], as a type.
        pub struct Write = Rights::WRITE.bits();
        /// The right [`Rights::EXEC`], as a type.
        pub struct Exec = Rights::EXEC.bits();
        /// The right [`Rights::SIGNAL`], as a type.
        pub struct Signal = Rights::SIGNAL.bits();
    }
}
