// SPDX-License-Identifier: MPL-2.0

use alloc::vec::Vec;

use super::{super::testing::*, *};
use crate::{
    mapping::MappingFlags,
    sim::{PAGE_SIZE, Process, Sim},
    vmar::{fault::FaultError, remap::RemapTarget},
};

const RWX: VmPerms = RW.union(VmPerms::EXEC);

fn with_policy(policy: Policy) -> Process {
    let process = process();
    process.vmar.set_policy(policy);
    process
}

fn guarded(guard_pages: usize) -> Process {
    with_policy(Policy { guard_pages, ..Policy::default() })
}

/// Maps at these pages exactly.
fn exactly(process: &Process, pages: Range<usize>) -> Result<usize, Error> {
    let map = process.vmar.new_map(pages.len() * PAGE_SIZE).perms(RW);
    map.placement(Placement::Exactly(at(pages.start))).build()
}

#[test]
fn h13_memory_is_not_written_and_executed_at_once() {
    let process = with_policy(Policy { write_exec: WriteExec::Refused, ..Policy::default() });
    assert_eq!(over(&process, 0..4, RWX).build(), Err(Error::AccessDenied));
    over(&process, 0..4, RW).build().unwrap();
    let protect = |range, perms| process.vmar.protect(pages(range), perms);
    assert_eq!(protect(0..4, RWX), Err(Error::AccessDenied));
    assert_eq!(protect(1..2, VmPerms::WRITE | VmPerms::EXEC), Err(Error::AccessDenied));
    process.write(at(0), &[1]).unwrap();
    // One after the other is what a just-in-time compiler does.
    protect(0..4, RX).unwrap();
    assert_eq!(
        (process.fetch_byte(at(0)), process.write(at(0), &[1])),
        (Ok(1), Err(FaultError::NoPermission))
    );
    // Of several mappings, what comes before the refusal is done.
    map(&process, 4..6, RW);
    assert_eq!(protect(3..6, RWX), Err(Error::AccessDenied));
    // A forked space refuses the same; so does a region that is made in it.
    let child = process.fork_on(1).unwrap();
    assert_eq!(child.vmar.protect(pages(4..5), RWX), Err(Error::AccessDenied));
    let region = child.vmar.new_region(PAGE_SIZE).build().unwrap();
    assert_eq!(region.new_map(PAGE_SIZE).perms(RWX).build(), Err(Error::AccessDenied));
    process.vmar.set_policy(Policy::default());
    protect(0..4, RWX).unwrap();
    process.audit();
    child.audit();
}

#[test]
fn h13_guard_pages_are_kept_free_on_each_side() {
    let process = guarded(2);
    exactly(&process, 10..12).unwrap();
    for refused in [8..10, 9..10, 12..13, 13..14, 7..9] {
        assert_eq!(exactly(&process, refused.clone()), Err(Error::Occupied), "{refused:?}");
    }
    exactly(&process, 6..8).unwrap();
    exactly(&process, 14..15).unwrap();
    // What goes anywhere keeps away from its neighbours, and they from it.
    let anywhere: Vec<_> = (0..5)
        .map(|_| {
            let start = process.vmar.new_map(3 * PAGE_SIZE).perms(RW).build().unwrap();
            start..start + 3 * PAGE_SIZE
        })
        .collect();
    for (nth, a) in anywhere.iter().enumerate() {
        for b in &anywhere[..nth] {
            assert!(a.end + 2 * PAGE_SIZE <= b.start || b.end + 2 * PAGE_SIZE <= a.start, "{a:#x?} {b:#x?}");
        }
    }
    let aligned = process.vmar.new_map(PAGE_SIZE).perms(RW).align(16 * PAGE_SIZE).build().unwrap();
    assert!(aligned.is_multiple_of(16 * PAGE_SIZE));
    let hint = |addr| process.vmar.new_map(PAGE_SIZE).perms(RW).placement(Placement::Hint(addr)).build();
    assert_ne!(hint(at(13)).unwrap(), at(13));
    assert_eq!(hint(at(17)), Ok(at(17)));
    let below = process.vmar.new_map(PAGE_SIZE).perms(RW).placement(Placement::Below(at(17)));
    assert_eq!(below.build(), Ok(at(2) + PAGE_SIZE), "the next below is at page 6");
    // Nor does anything grow up to a neighbour, or replace what is too near to one.
    let grow = |size: usize| process.vmar.remap(pages(10..12), size * PAGE_SIZE, RemapTarget::InPlace);
    assert!(grow(3).is_err());
    assert_eq!(over(&process, 9..11, RW).build(), Err(Error::Occupied));
    assert_eq!(over(&process, 10..11, RW).build(), Err(Error::Occupied), "the rest of it would be too near");
    over(&process, 10..12, R).build().unwrap();
    process.audit();
}

#[test]
fn h13_a_stack_grows_no_nearer_than_its_guard() {
    let process = guarded(300);
    let stack = process.vmar.new_map(PAGE_SIZE).perms(RW).flags(MappingFlags::GROWS_DOWN);
    stack.placement(Placement::Exactly(at(1000))).build().unwrap();
    over(&process, 0..1, NONE).build().unwrap();
    process.write(at(301), &[1]).unwrap();
    assert_eq!(process.write(at(300), &[1]), Err(FaultError::NotMapped));
    process.audit();
}

#[test]
fn h13_page_zero_is_never_handed_out() {
    let process = Process::new(&Sim::with_page_zero(1), 0).unwrap();
    let map_at = |placement| process.vmar.new_map(PAGE_SIZE).perms(RW).placement(placement).build();
    assert_eq!(map_at(Placement::Exactly(0)), Ok(0));
    process.write(8, &[1]).unwrap();
    process.vmar.unmap(0..PAGE_SIZE).unwrap();
    process.vmar.set_policy(Policy { page_zero: PageZero::Never, ..Policy::default() });
    assert_eq!(map_at(Placement::Exactly(0)), Err(Error::OutOfRange));
    assert_eq!(map_at(Placement::Replacing(0)), Err(Error::OutOfRange));
    assert_ne!(map_at(Placement::Hint(0)).unwrap(), 0);
    assert_eq!(map_at(Placement::Below(PAGE_SIZE)), Err(Error::NoRoom));
    assert_eq!(map_at(Placement::Exactly(PAGE_SIZE)), Ok(PAGE_SIZE));
    // Not even when there is nothing else.
    let user = process.vmar.user_range();
    let rest = process.vmar.new_map(user.end - 2 * PAGE_SIZE).placement(Placement::Replacing(2 * PAGE_SIZE));
    rest.build().unwrap();
    assert_eq!(map_at(Placement::Anywhere), Err(Error::NoRoom));
    assert_eq!(process.read_byte(8), Err(FaultError::NotMapped));
    process.audit();
}

#[test]
fn h14_old_and_new_rights_are_never_in_force_at_once() {
    let all = [NONE, R, RW, RX, RWX];
    let all = if cfg!(miri) { &all[2..4] } else { &all[..] };
    for old in all.iter().copied() {
        for new in all.iter().copied() {
            let sim = Sim::new(2);
            let first = Process::new(&sim, 0).unwrap();
            let second = first.thread_on(1);
            map(&first, 0..3, RW);
            touch(&first, 0..2);
            first.vmar.protect(pages(0..3), old).unwrap();
            // Whatever is allowed is used, on both processors: page tables and TLBs know it.
            let use_all = || {
                for process in [&first, &second] {
                    for page in 0..3 {
                        let _ = process.write(at(page), &[7]);
                        let _ = process.read_byte(at(page));
                        let _ = process.fetch_byte(at(page));
                    }
                }
            };
            use_all();
            let ((), trace) = sim.trace(|| {
                first.vmar.protect(pages(0..1), new).unwrap();
                use_all();
                first.vmar.protect(pages(0..3), new).unwrap();
                use_all();
            });
            let (had, has) = (old.page_flags(), new.page_flags());
            let (lost, gained) = (had - has, has - had);
            for seen in &trace {
                assert!(
                    !(seen.access.intersects(lost) && seen.access.intersects(gained)),
                    "from {old:?} to {new:?}: {seen:x?} is in force"
                );
            }
            // What is gone is gone, and what is granted has been used.
            for page in 0..3 {
                let last = trace.iter().rfind(|seen| seen.page == at(page));
                assert!(last.is_none_or(|seen| !seen.access.intersects(lost)));
            }
            assert!(gained.is_empty() || trace.iter().any(|seen| seen.access.intersects(gained)));
            first.audit();
        }
    }
}

#[test]
fn what_was_promised_once_is_promised_until_it_goes() {
    let process = process();
    process.vmar.set_policy(Policy { promises: Promises::Kept, ..Policy::default() });
    let promised = |pages: usize| {
        process.audit();
        assert_eq!(process.vmar.promised(), pages * PAGE_SIZE);
    };
    map(&process, 0..4, R);
    promised(0);
    process.vmar.protect(pages(1..3), RW).unwrap();
    promised(2);
    process.vmar.protect(pages(0..4), R).unwrap();
    promised(2);
    assert_eq!(layout(&process).len(), 3);
    map(&process, 4..8, RW);
    promised(6);
    assert_eq!(process.vmar.fork().unwrap().promised(), 6 * PAGE_SIZE);
    process.vmar.unmap(pages(2..5)).unwrap();
    promised(4);
    over(&process, 0..2, RW).flags(MappingFlags::NO_RESERVE).build().unwrap();
    promised(3);
    let vmo = object(&process, 2, crate::object::VmoKind::File);
    over(&process, 10..12, RW).vmo(vmo.dup()).shared().build().unwrap();
    promised(3);
    over(&process, 10..12, RW).vmo(vmo).build().unwrap();
    promised(5);
    process.vmar.remap(pages(10..12), 6 * PAGE_SIZE, crate::vmar::remap::RemapTarget::MayMove).unwrap();
    promised(9);
}

#[test]
fn promises_are_forgotten_by_default() {
    let process = process();
    map(&process, 0..4, RW);
    process.vmar.protect(pages(0..2), R).unwrap();
    map(&process, 0..2, RW);
    assert_eq!((layout(&process).len(), process.vmar.promised()), (1, 0));
}
