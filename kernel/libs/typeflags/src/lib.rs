// SPDX-License-Identifier: MPL-2.0

//! Flags and sets of flags as types.
//!
//! [`typeflags!`] declares a universe of flags. What a set may and may not do is then decided by the type
//! checker, and costs nothing at run time: the flags and the sets are zero-sized types of which nobody makes a
//! value.
//!
//! The crate that invokes the macro depends on `typeflags-util` as well, whose traits the generated types
//! implement. Crates that only use the sets need neither of the two.

#![forbid(unsafe_code)]

mod expand;
mod parse;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Declares flags as types, and the sets of them.
///
/// ```
/// use typeflags::typeflags;
/// use typeflags_util::{Contains, FlagSet, Includes};
///
/// typeflags! {
///     /// What may be done with a file.
///     pub trait Access: u8 {
///         /// Its bytes can be read.
///         pub struct Read = 1 << 0;
///         /// Its bytes can be changed.
///         pub struct Write = 1 << 1;
///         /// It can be run.
///         pub struct Exec = 1 << 2;
///     }
/// }
///
/// // One set is one type, in whatever order its flags are listed.
/// type ReadWrite = Access![Read, Write];
/// fn same(set: core::marker::PhantomData<Access![Write, Read]>) -> core::marker::PhantomData<ReadWrite> {
///     set
/// }
///
/// // Where clauses ask for a flag, for several, or for all of another set.
/// fn save<A: Access + Contains<Read> + Contains<Write>>() {}
/// fn restrict<A: Access + Includes<B>, B: Access>() {}
///
/// // Union, intersection and difference are associated types of each set.
/// type All = <ReadWrite as Access>::Union<Access![Exec]>;
/// fn without_exec<A: Access>() -> u8 {
///     <A::Difference<Access![Exec]> as FlagSet>::BITS
/// }
///
/// fn main() {
///     save::<All>();
///     restrict::<All, ReadWrite>();
///     assert_eq!(All::BITS, 0b111);
///     assert_eq!(without_exec::<All>(), 0b011);
///     assert_eq!(size_of::<All>(), 0);
/// }
/// ```
///
/// # What is generated
///
/// For a declaration `pub trait Access: u8 { pub struct Read = 1; ... }`:
///
/// | item | what it is |
/// | --- | --- |
/// | `struct Read` ... | one marker per flag; implements `typeflags_util::Flag` |
/// | `trait Access` | a set of these flags; extends `typeflags_util::FlagSet<Bits = u8>` and has the associated types `Union<S>`, `Intersection<S>` and `Difference<S>`, themselves sets. Nothing but the generated type can implement it |
/// | `struct AccessFlags<Read, Write, Exec>` | the sets: each argument is the flag in whose place it stands, or `typeflags_util::Absent`. Implements `typeflags_util::{Contains, Includes}` |
/// | `macro Access!` | names a set by its flags: `Access![]`, `Access![Read, Write]` |
///
/// Any constant expression of the integer's type can be a flag's value. It must be one bit, and no other flag's:
/// both are checked when the crate is compiled.
///
/// # Where it can stand
///
/// The macro `Access!` finds the flags in the root of the declaring crate, so that whoever uses it need not
/// import them. The declaration therefore stands in the crate's root, or in a module from which the root
/// re-exports everything. If the trait is `pub`, its macro is exported from the crate as `#[macro_export]` does
/// it, and `use the_crate::Access` imports trait and macro at once; inside the declaring crate, and for a trait
/// that is not `pub`, the macro is visible from the declaration downwards.
#[proc_macro]
pub fn typeflags(input: TokenStream) -> TokenStream {
    let universe = parse_macro_input!(input as parse::Universe);
    expand::expand(&universe).into()
}
