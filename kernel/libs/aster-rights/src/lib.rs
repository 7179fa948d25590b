// SPDX-License-Identifier: MPL-2.0

//! The rights of a capability, as values and as types.
//!
//! A capability (a `Vmar`, a `Vmo`) says what its holder may do with what it names. It says so in one of two ways:
//!
//! ```text
//!     Cap<Rights>                            Cap<TRightSet<TRights![Read, Write]>>
//!     ───────────                            ─────────────────────────────────────
//!     known at run time                      known to the compiler
//!     stored, looked at by each check        zero-sized, checks are where clauses
//!     a lacking right is an error value      a lacking right does not compile
//!
//!          │      Rights::require / TryFrom: fails if a right is lacking    ▲
//!          └────────────────────────────────────────────────────────────────┘
//!          ▲                    From: cannot fail                           │
//!          └────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Operations are written once, for the typed form, and name the rights they need with [`macro@require`]. Whoever
//! holds a capability whose rights are values turns it into a typed one in one fallible step:
//!
//! ```
//! use aster_rights::{MissingRights, Rights, RightsOp, TRightSet, TRights, require};
//!
//! /// A capability to a number. `R` is `Rights` or a `TRightSet`.
//! struct Cell<R: RightsOp> {
//!     value: u32,
//!     rights: R,
//! }
//!
//! /// What every capability can do, however its rights are known.
//! impl<R: RightsOp> Cell<R> {
//!     fn rights(&self) -> Rights {
//!         self.rights.rights()
//!     }
//!
//!     /// The same capability with just the rights `S`, and these in its type.
//!     fn require<S: TRights>(self) -> Result<Cell<TRightSet<S>>, MissingRights> {
//!         Ok(Cell { rights: self.rights().require::<S>()?, value: self.value })
//!     }
//! }
//!
//! /// The operations.
//! impl<R: TRights> Cell<TRightSet<R>> {
//!     #[require(R > Read)]
//!     fn get(&self) -> u32 {
//!         self.value
//!     }
//!
//!     #[require(R > Write)]
//!     fn set(&mut self, value: u32) {
//!         self.value = value;
//!     }
//!
//!     /// Gives rights up.
//!     #[require(R >= S)]
//!     fn restrict<S: TRights>(self) -> Cell<TRightSet<S>> {
//!         Cell { value: self.value, rights: self.rights.restrict() }
//!     }
//! }
//!
//! # fn main() -> Result<(), MissingRights> {
//! let cell = Cell { value: 1, rights: Rights::READ | Rights::WRITE };
//! let mut cell = cell.require::<TRights![Read, Write]>()?;
//! cell.set(2);
//! let cell = cell.restrict::<TRights![Read]>();
//! assert_eq!(cell.get(), 2);
//! // From here on, `cell.set(3)` does not compile.
//!
//! assert_eq!(cell.require::<TRights![Exec]>().err(), Some(MissingRights::new(Rights::EXEC)));
//! # Ok(())
//! # }
//! ```
//!
//! Where-clauses written by hand look like those of [`Contains`] and [`Includes`].

#![no_std]
#![forbid(unsafe_code)]

mod rights;
mod set;

pub use aster_rights_proc::require;
// With all that the macro `TRights!` expects in the crate's root.
pub use rights::*;
pub use set::{Contains, FullRights, MissingRights, RightsOp, TRightSet};
pub use typeflags_util::{Absent, FlagSet, Includes};
