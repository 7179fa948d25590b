// SPDX-License-Identifier: MPL-2.0

use aster_rights::{FullRights, Includes};

use super::{
    super::{FullVmar, testing::process},
    *,
};
use crate::{
    limits::Limits,
    perms::VmPerms,
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim},
};

/// Returns every set of rights.
/// Under Miri every seventh.
fn all_sets() -> impl Iterator<Item = Rights> + Clone {
    let step = if cfg!(miri) { 7 } else { 1 };
    (0..=Rights::all().bits()).step_by(step).map(Rights::from_bits_truncate)
}

fn dynamic(rights: Rights) -> Vmar<Sim> {
    FullVmar::new(Sim::new(1), Limits::new()).unwrap().to_dynamic().restrict(rights).unwrap()
}

#[test]
fn v1_values_without_a_right_are_refused_for_each_right() {
    for rights in all_sets() {
        assert_eq!(dynamic(rights).rights(), rights);
        let duplicate = dynamic(rights).dup();
        match rights.contains(Rights::DUP) {
            true => assert_eq!(duplicate.unwrap().rights(), rights),
            false => assert_eq!(duplicate.unwrap_err(), Error::AccessDenied),
        }
        fn requires<S: TRights>(rights: Rights) {
            let result = dynamic(rights).require::<S>();
            if rights.contains(TRightSet::<S>::RIGHTS) {
                assert_eq!(result.unwrap().rights(), TRightSet::<S>::RIGHTS);
            } else {
                assert_eq!(result.unwrap_err(), Error::AccessDenied);
            }
        }
        requires::<TRights![]>(rights);
        requires::<TRights![Dup]>(rights);
        requires::<TRights![Read]>(rights);
        requires::<TRights![Write]>(rights);
        requires::<TRights![Exec]>(rights);
        requires::<TRights![Read, Write]>(rights);
        requires::<TRights![Read, Write, Exec]>(rights);
        requires::<FullRights>(rights);
    }
}

#[test]
fn v1_each_right_allows_its_mappings_and_accesses() {
    let Process { vmar, .. } = process();
    let readable = vmar.dup().restrict::<TRights![Read]>();
    let writable = vmar.dup().restrict::<TRights![Write]>();
    let executable = vmar.dup().restrict::<TRights![Exec]>();
    let place = |page: usize| Placement::Exactly(0x10_0000 + page * PAGE_SIZE);

    let read = readable.new_map(PAGE_SIZE).read().placement(place(0)).build().unwrap();
    let write = writable.new_map(PAGE_SIZE).write().placement(place(2)).build().unwrap();
    let exec = executable.new_map(PAGE_SIZE).exec().placement(place(4)).build().unwrap();
    assert_eq!(readable.query(read..read + 1).first().unwrap().perms(), VmPerms::READ | VmPerms::MAY_READ);
    assert_eq!(
        readable.query(write..write + 1).first().unwrap().perms(),
        VmPerms::WRITE | VmPerms::MAY_WRITE
    );
    assert_eq!(readable.query(exec..exec + 1).first().unwrap().perms(), VmPerms::EXEC | VmPerms::MAY_EXEC);

    writable.write_bytes(write, &[7]).unwrap();
    let mut byte = [1];
    readable.read_bytes(read, &mut byte).unwrap();
    assert_eq!(byte, [0]);
    // What a capability without WRITE has mapped never becomes writable.
    let range = read..read + PAGE_SIZE;
    assert_eq!(vmar.protect(range, VmPerms::READ | VmPerms::WRITE), Err(Error::AccessDenied));
}

#[test]
fn v2_derived_values_never_have_more_rights() {
    for rights in all_sets() {
        for wanted in all_sets() {
            let derived = dynamic(rights).restrict(wanted);
            match rights.contains(wanted) {
                true => assert_eq!(derived.unwrap().rights(), wanted),
                false => assert_eq!(derived.unwrap_err(), Error::AccessDenied),
            }
        }
        if let Ok(duplicate) = dynamic(rights).dup() {
            assert_eq!(duplicate.rights(), rights);
        }
    }
}

#[test]
fn v2_derived_types_never_have_more_rights() {
    /// Derives a capability with the rights `S` from one with the rights `R`, in every way there is.
    fn derive<R: TRights + Includes<S>, S: TRights>() {
        let make = || dynamic(Rights::all()).require::<R>().unwrap();
        assert_eq!(make().rights(), TRightSet::<R>::RIGHTS);
        let typed = make().restrict::<S>().rights();
        let required = make().require::<S>().unwrap().rights();
        let by_value = make().to_dynamic().restrict(TRightSet::<S>::RIGHTS).unwrap().rights();
        for derived in [typed, required, by_value] {
            assert_eq!(derived, TRightSet::<S>::RIGHTS);
            assert!(TRightSet::<R>::RIGHTS.contains(derived));
        }
        // The way back is closed.
        if TRightSet::<R>::RIGHTS != TRightSet::<S>::RIGHTS {
            assert_eq!(make().restrict::<S>().require::<R>().unwrap_err(), Error::AccessDenied);
        }
    }
    derive::<FullRights, FullRights>();
    derive::<FullRights, TRights![Dup, Read, Write, Exec]>();
    derive::<FullRights, TRights![Read]>();
    derive::<FullRights, TRights![]>();
    derive::<TRights![Dup, Read, Write], TRights![Dup, Read]>();
    derive::<TRights![Dup, Read, Write], TRights![Write]>();
    derive::<TRights![Read], TRights![Read]>();
    derive::<TRights![Read], TRights![]>();
    derive::<TRights![], TRights![]>();
}

#[test]
fn v2_a_forked_space_has_the_rights_of_its_parent() {
    let parent = dynamic(Rights::DUP | Rights::READ).require::<TRights![Dup, Read]>().unwrap();
    assert_eq!(parent.fork().unwrap().rights(), Rights::DUP | Rights::READ);
}
