// SPDX-License-Identifier: MPL-2.0

use super::{
    super::{advise::Advice, discard::Discard, remap::RemapTarget, testing::*},
    *,
};
use crate::{object::VmoKind, placement::Placement};

/// Three pages, the middle one sealed.
fn prepare(process: &crate::sim::Process, perms: VmPerms) {
    map(process, 0..3, RW);
    touch(process, 0..3);
    process.vmar.protect(pages(0..3), perms).unwrap();
    process.vmar.seal(pages(1..2)).unwrap();
}

fn refuses(process: &crate::sim::Process, operate: impl FnOnce() -> Result<(), Error>) {
    let before = snapshot(process);
    assert_eq!(operate(), Err(Error::Sealed));
    assert_eq!(snapshot(process), before);
    process.audit();
}

#[test]
fn sealed_memory_stays_where_it_is() {
    let process = process();
    prepare(&process, RW);
    let vmar = &process.vmar;
    for range in [0..3, 1..2, 0..2, 1..3] {
        refuses(&process, || vmar.unmap(pages(range.clone())));
        refuses(&process, || vmar.protect(pages(range.clone()), R));
        refuses(&process, || over(&process, range.clone(), RW).build().map(drop));
    }
    let vmo = object(&process, 1, VmoKind::File);
    refuses(&process, || over(&process, 1..2, R).vmo(vmo).build().map(drop));
    for target in [RemapTarget::MayMove, RemapTarget::Fixed(at(20)), RemapTarget::InPlace] {
        refuses(&process, || vmar.remap(pages(1..2), 2 * crate::sim::PAGE_SIZE, target).map(drop));
    }
    refuses(&process, || vmar.remap(pages(0..2), crate::sim::PAGE_SIZE, RemapTarget::InPlace).map(drop));
    map(&process, 10..11, RW);
    refuses(&process, || {
        vmar.remap(pages(10..11), crate::sim::PAGE_SIZE, RemapTarget::Fixed(at(1))).map(drop)
    });
    // What lies beside it is as free as before.
    vmar.unmap(pages(0..1)).unwrap();
    vmar.protect(pages(2..3), R).unwrap();
    assert_eq!(over(&process, 1..2, RW).placement(Placement::Exactly(at(1))).build(), Err(Error::Occupied));
    assert_eq!(process.read_byte(at(1)), Ok(2));
    process.audit();
}

#[test]
fn sealed_memory_that_cannot_be_written_cannot_be_emptied() {
    let process = process();
    prepare(&process, R);
    for how in [Discard::Now, Discard::NowEvenLocked, Discard::AnyTime] {
        refuses(&process, || process.vmar.discard(pages(0..3), how));
    }
    for advice in [Advice::DontFork, Advice::WipeOnFork] {
        refuses(&process, || process.vmar.advise(pages(1..2), advice));
    }
    process.vmar.advise(pages(1..2), Advice::Random).unwrap();
    assert_eq!(process.read_byte(at(1)), Ok(2));
}

#[test]
fn sealed_memory_that_can_be_written_can_be_emptied() {
    let process = process();
    prepare(&process, RW);
    process.vmar.discard(pages(1..2), Discard::Now).unwrap();
    assert_eq!(process.read_byte(at(1)), Ok(0));
    process.audit();
}

#[test]
fn a_forked_space_is_sealed_too() {
    let process = process();
    prepare(&process, RW);
    let child = process.vmar.fork().unwrap();
    assert_eq!(child.unmap(pages(1..2)), Err(Error::Sealed));
    child.unmap(pages(2..3)).unwrap();
    child.clear();
    assert_eq!(child.usage().mappings, 0);
}

#[test]
fn a_hole_keeps_all_from_being_sealed() {
    let process = process();
    map(&process, 0..1, RW);
    map(&process, 2..3, RW);
    assert_eq!(process.vmar.seal(pages(0..3)), Err(Error::NotMapped));
    process.vmar.unmap(pages(0..3)).unwrap();
    assert_eq!(process.vmar.seal(at(0)..at(0)), Err(Error::InvalidSize));
    assert_eq!(process.vmar.seal(at(0) + 1..at(1)), Err(Error::InvalidAlignment));
}

#[test]
fn sealing_twice_is_sealing_once() {
    let process = process();
    map(&process, 0..4, RW);
    process.vmar.seal(pages(0..2)).unwrap();
    process.vmar.seal(pages(1..4)).unwrap();
    assert_eq!(layout(&process).len(), 1);
    assert_eq!(process.vmar.unmap(pages(3..4)), Err(Error::Sealed));
    process.audit();
}

#[test]
fn sealing_all_or_nothing() {
    fail_each_allocation(|process| map(process, 0..4, RW), |process| process.vmar.seal(pages(1..3)));
}
