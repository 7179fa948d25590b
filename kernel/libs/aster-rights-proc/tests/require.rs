// SPDX-License-Identifier: MPL-2.0

//! The attribute on every kind of function, with every kind of requirement.

use aster_rights::{FullRights, Rights, RightsOp, TRightSet, TRights, require};

struct Cap<R>(R);

impl<R: TRights> Cap<TRightSet<R>> {
    /// Attributes, visibility, qualifiers and a where clause of its own stay as they are.
    #[must_use]
    #[require(R > Read)]
    pub(crate) const fn decorated<T>(self, value: T) -> T
    where
        T: Copy,
    {
        value
    }

    #[require(R >= S, Q >= TRights![Read, Exec], Q > Exec | Signal | Read,)]
    fn several<S: TRights, Q: TRights>(&self, _other: &Cap<TRightSet<Q>>) -> TRightSet<S> {
        self.0.restrict()
    }

    #[require(R > Dup)]
    #[require(R > Exec)]
    fn stacked(&self) -> Rights {
        self.0.rights()
    }
}

trait Fetch<R: TRights> {
    #[require(R > Read)]
    fn fetch(&self) -> u32;

    #[require(R > Read)]
    fn fetch_twice(&self) -> u32 {
        self.fetch() + self.fetch()
    }
}

impl<R: TRights> Fetch<R> for Cap<TRightSet<R>> {
    #[require(R > Read)]
    fn fetch(&self) -> u32 {
        21
    }
}

#[require(R > Write)]
fn free<R>(set: TRightSet<R>) -> Rights {
    set.rights()
}

/// A local type with the name of a right. The right is meant all the same.
struct Write;

/// Its parameters are both sets, and its methods can relate them.
struct Holder<R, S>(TRightSet<R>, TRightSet<S>);

impl<R: TRights, S: TRights> Holder<R, S> {
    #[require(R >= S, S > Write)]
    fn both(&self) -> (Rights, Rights) {
        (self.0.rights(), self.0.restrict::<S>().rights())
    }
}

fn cap() -> Cap<TRightSet<FullRights>> {
    Cap(TRightSet::new())
}

#[test]
fn methods_keep_what_they_were_declared_with() {
    const SET: Cap<TRightSet<TRights![Read]>> = Cap(TRightSet::new());
    const VALUE: u32 = SET.decorated(5);
    assert_eq!(VALUE, 5);
}

#[test]
fn several_requirements_hold_at_once() {
    let other = Cap(TRightSet::<TRights![Read, Exec, Signal]>::new());
    let set: TRightSet<TRights![Write]> = cap().several(&other);
    assert_eq!(set.rights(), Rights::WRITE);
    assert_eq!(cap().stacked(), Rights::all());
}

#[test]
fn functions_of_traits_and_free_ones_can_require() {
    assert_eq!(cap().fetch_twice(), 42);
    assert_eq!(free(TRightSet::<TRights![Write]>::new()), Rights::WRITE);
}

#[test]
fn a_set_parameter_of_the_impl_can_be_required() {
    let holder = Holder(TRightSet::<FullRights>::new(), TRightSet::<TRights![Write, Dup]>::new());
    assert_eq!(holder.both(), (Rights::all(), Rights::WRITE | Rights::DUP));
    assert_eq!(size_of_val(&Write), 0);
}
