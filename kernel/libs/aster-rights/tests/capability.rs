// SPDX-License-Identifier: MPL-2.0

//! A small capability made with this crate: its rights bound what it can do and what can be derived from it.

use std::error::Error;

use aster_rights::{
    Contains, FullRights, Includes, MissingRights, Read, Rights, RightsOp, TRightSet, TRights, require,
};

/// A capability to a number.
#[derive(Debug)]
struct Cap<R: RightsOp> {
    value: u32,
    rights: R,
}

impl<R: RightsOp> Cap<R> {
    fn require<S: TRights>(self) -> Result<Cap<TRightSet<S>>, MissingRights> {
        Ok(Cap { rights: self.rights.rights().require()?, value: self.value })
    }

    fn to_dynamic(&self) -> Cap<Rights> {
        Cap { value: self.value, rights: self.rights.rights() }
    }
}

impl<R: TRights> Cap<TRightSet<R>> {
    #[require(R > Read)]
    fn get(&self) -> u32 {
        self.value
    }

    #[require(R > Read | Write)]
    fn increment(&mut self) {
        self.value += 1;
    }

    #[require(R > Dup, R >= S)]
    fn dup<S: TRights>(&self) -> Cap<TRightSet<S>> {
        Cap { value: self.value, rights: self.rights.restrict() }
    }

    fn without_dup(self) -> Cap<TRightSet<R::Difference<TRights![Dup]>>> {
        Cap { value: self.value, rights: TRightSet::new() }
    }
}

/// Bounds on a function, with a bound that follows from another left out.
fn read_twice<R: Contains<Read>>(cap: &Cap<TRightSet<R>>) -> u32 {
    cap.get() + cap.get()
}

fn narrow<R: TRights + Includes<TRights![Read, Write]>>(
    set: TRightSet<R>,
) -> TRightSet<TRights![Write, Read]> {
    set.restrict()
}

#[test]
fn a_dynamic_capability_becomes_a_typed_one() {
    let cap = Cap { value: 1, rights: Rights::READ | Rights::WRITE | Rights::SIGNAL };
    let mut cap = cap.require::<TRights![Write, Read]>().unwrap();
    cap.increment();
    assert_eq!(read_twice(&cap), 4);
    assert_eq!(cap.to_dynamic().rights, Rights::READ | Rights::WRITE);
}

#[test]
fn what_is_lacking_is_named() {
    let cap = Cap { value: 1, rights: Rights::READ };
    let error = cap.require::<TRights![Read, Write, Exec]>().unwrap_err();
    assert_eq!(error.missing(), Rights::WRITE | Rights::EXEC);
    let error: Box<dyn Error> = error.into();
    assert_eq!(error.to_string(), "the capability lacks the rights WRITE | EXEC");
}

#[test]
fn derived_capabilities_only_lose_rights() {
    let full = Cap { value: 7, rights: TRightSet::<FullRights>::new() };
    let less = full.dup::<TRights![Read, Dup]>();
    assert_eq!(less.rights.rights(), Rights::READ | Rights::DUP);
    assert_eq!(less.dup::<TRights![Read]>().get(), 7);
    assert_eq!(less.without_dup().rights.rights(), Rights::READ);
    assert!(full.dup::<TRights![Write, Dup]>().require::<TRights![Read]>().is_err());
    assert_eq!(narrow(full.rights).rights(), Rights::READ | Rights::WRITE);
}

#[test]
fn sets_show_their_rights() {
    assert_eq!(
        format!("{:?}", TRightSet::<TRights![Exec, Read]>::default()),
        "TRightSet(Rights(READ | EXEC))"
    );
}

#[test]
fn sets_cross_threads_whatever_they_are() {
    fn crosses<T: Send + Sync + Copy + 'static>(_: T) {}
    crosses(TRightSet::<FullRights>::new());
    crosses(Rights::all());
}
