// SPDX-License-Identifier: MPL-2.0

//! Sets of rights, and the ways from those that are types to those that are values and back.

use core::{
    error::Error,
    fmt::{self, Debug, Display, Formatter},
    marker::PhantomData,
};

use typeflags_util::{Flag, FlagSet, Includes};

use crate::rights::{Dup, Exec, Read, Rights, Signal, TRights, TRightsFlags, Write};

/// All rights there are.
pub type FullRights = TRightsFlags<Dup, Read, Write, Exec, Signal>;

/// What a capability holds to know its rights: [`Rights`] or a [`TRightSet`].
///
/// Sealed: nothing else says what a capability may do.
pub trait RightsOp: Copy + Debug + Send + Sync + 'static + sealed::Sealed {
    /// The rights, as a value.
    fn rights(&self) -> Rights;
}

/// Rights that are known from the type alone: those of the set `T`, which `TRights!` names.
///
/// Takes up no memory.
pub struct TRightSet<T>(PhantomData<fn() -> T>);

/// A set of rights that has the right `F`.
///
/// In a where clause, `R: Contains<Read> + Contains<Write>` demands that `R` has these two rights; that `R` is
/// [`TRights`] follows from it. On methods, [`require`](crate::require) writes such clauses.
///
/// ```
/// use aster_rights::{Contains, Read, TRightSet, TRights, Write};
///
/// fn overwrite<R: Contains<Read> + Contains<Write>>(_rights: TRightSet<R>) {}
///
/// overwrite(TRightSet::<TRights![Write, Read, Dup]>::new());
/// ```
#[diagnostic::on_unimplemented(
    message = "the capability lacks the right `{F}`",
    label = "this needs the right `{F}`",
    note = "its rights are `{Self}`"
)]
pub trait Contains<F: Flag>: TRights + typeflags_util::Contains<F> {}

#[diagnostic::do_not_recommend]
impl<R: TRights + typeflags_util::Contains<F>, F: Flag> Contains<F> for R {}

/// Rights that were required and are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingRights {
    missing: Rights,
}

impl Rights {
    /// Checks that all rights of the set `T` are among these, and answers with a proof of it. Rights beyond
    /// those of `T` are left behind.
    ///
    /// # Errors
    ///
    /// The rights of `T` that are lacking.
    pub const fn require<T: TRights>(self) -> Result<TRightSet<T>, MissingRights> {
        let missing = TRightSet::<T>::RIGHTS.difference(self);
        if missing.is_empty() { Ok(TRightSet::new()) } else { Err(MissingRights::new(missing)) }
    }
}

impl RightsOp for Rights {
    fn rights(&self) -> Rights {
        *self
    }
}

impl<T> TRightSet<T> {
    /// The rights of the set `T`.
    ///
    /// Whoever makes a capability decides what it may do: a set of rights gives no power over anything before a
    /// capability is made with it.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: TRights> TRightSet<T> {
    /// The rights, as a value.
    pub const RIGHTS: Rights = Rights::from_bits_retain(<T as FlagSet>::BITS);

    /// Gives up all rights but those of the set `S`.
    pub const fn restrict<S: TRights>(self) -> TRightSet<S>
    where
        T: Includes<S>,
    {
        TRightSet::new()
    }
}

impl<T: TRights> RightsOp for TRightSet<T> {
    fn rights(&self) -> Rights {
        Self::RIGHTS
    }
}

impl<T: TRights> From<TRightSet<T>> for Rights {
    fn from(_set: TRightSet<T>) -> Self {
        TRightSet::<T>::RIGHTS
    }
}

impl<T: TRights> TryFrom<Rights> for TRightSet<T> {
    type Error = MissingRights;

    /// As [`Rights::require`].
    fn try_from(rights: Rights) -> Result<Self, MissingRights> {
        rights.require()
    }
}

impl<T> Clone for TRightSet<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for TRightSet<T> {}

impl<T> Default for TRightSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> PartialEq for TRightSet<T> {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl<T> Eq for TRightSet<T> {}

impl<T: TRights> Debug for TRightSet<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TRightSet").field(&Self::RIGHTS).finish()
    }
}

impl MissingRights {
    /// The error of lacking the rights `missing`.
    pub const fn new(missing: Rights) -> Self {
        Self { missing }
    }

    /// The rights that were required and are not there.
    pub const fn missing(&self) -> Rights {
        self.missing
    }
}

impl Display for MissingRights {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("the capability lacks the rights ")?;
        bitflags::parser::to_writer(&self.missing, f)
    }
}

impl Error for MissingRights {}

mod sealed {
    use super::{Rights, TRightSet};

    pub trait Sealed {}

    impl Sealed for Rights {}

    impl<T> Sealed for TRightSet<T> {}
}
