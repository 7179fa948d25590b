// SPDX-License-Identifier: MPL-2.0

//! The vocabulary of type-level flag sets.
//!
//! A *flag* is a zero-sized marker type, a *set* a zero-sized type that has one slot for each flag of its
//! universe. A slot holds the flag itself or [`Absent`]:
//!
//! ```text
//!     universe        Dup     Read    Write
//!                      │       │       │
//!     {Read, Write}  Absent   Read    Write
//!     {}             Absent  Absent  Absent
//! ```
//!
//! One set is thus one type, in whatever order its flags were listed, and a compiler message that shows the
//! type shows what is in the set.
//!
//! This crate holds only what is the same for all universes. The macro `typeflags!` of the crate `typeflags`
//! makes a universe: the markers, the trait its sets implement (with their union, intersection and
//! difference as associated types) and the macro that names a set.
//!
//! What is said of any set, of any universe, is said with the traits of this crate:
//!
//! ```
//! use typeflags::typeflags;
//! use typeflags_util::{Contains, FlagSet};
//!
//! typeflags! {
//!     /// What may be done with a door.
//!     pub trait Door: u8 {
//!         /// It can be opened.
//!         pub struct Open = 1 << 0;
//!         /// It can be locked.
//!         pub struct Lock = 1 << 1;
//!     }
//! }
//!
//! /// The bits of a set that has the flag `Open`, whatever else it has.
//! fn bits_of_openable<S: FlagSet + Contains<Open>>() -> S::Bits {
//!     S::BITS
//! }
//!
//! fn main() {
//!     assert_eq!(bits_of_openable::<Door![Lock, Open]>(), 0b11);
//! }
//! ```

#![no_std]
#![forbid(unsafe_code)]

/// A flag: a marker type that stands for one bit of its universe.
pub trait Flag: Copy + 'static {
    /// The unsigned integer that holds the bits of the universe.
    type Bits;

    /// The flag as a value: exactly one bit, which no other flag of the universe has.
    const BIT: Self::Bits;
}

/// A set of flags, all of one universe.
///
/// The types that implement this trait exist only as types. They take up no memory, and nobody makes a value
/// of them.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a set of flags")]
pub trait FlagSet: 'static {
    /// The unsigned integer that holds the bits of the universe.
    type Bits;

    /// The set as a value: the bits of its flags, and no others.
    const BITS: Self::Bits;
}

/// A set that has the flag `F`.
#[diagnostic::on_unimplemented(
    message = "the set lacks the flag `{F}`",
    label = "this needs a set that has `{F}`",
    note = "the set is `{Self}`"
)]
pub trait Contains<F: Flag>: FlagSet {}

/// A set that has every flag of the set `S`: a superset of it, or `S` itself.
///
/// The compiler does not conclude from `R: Includes<S>` that `R` has the flags of `S` one by one. Code that
/// goes on to use them singly asks for each with [`Contains`].
#[diagnostic::on_unimplemented(
    message = "the set does not have every flag of `{S}`",
    label = "this needs a set that includes `{S}`",
    note = "the set is `{Self}`"
)]
pub trait Includes<S: FlagSet>: FlagSet {}

/// What stands in a set's slot when the slot's flag is not in the set.
#[derive(Clone, Copy, Debug)]
pub struct Absent;
