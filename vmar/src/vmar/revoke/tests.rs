// SPDX-License-Identifier: MPL-2.0

use alloc::vec::Vec;

use aster_rights::Rights;

use super::super::{fault::FaultError, remap::RemapTarget, testing::*};
use crate::{
    error::Error,
    machine::PageFlags,
    mapping::Sharing,
    object::{Grant, VmoKind},
    perms::VmPerms,
    sim::{PAGE_SIZE, Process, Sim},
};

const ALL: VmPerms = RW.union(VmPerms::EXEC);

fn over_grant<'a>(
    process: &'a Process,
    range: core::ops::Range<usize>,
    perms: VmPerms,
    grant: &Grant<Sim>,
) -> Options<'a> {
    over(process, range, perms).grant(grant)
}

/// Returns the flags of all entries of the page table.
fn entries(process: &Process) -> Vec<PageFlags> {
    process.vmar.space().walk().iter().map(|entry| entry.props.flags).collect()
}

#[test]
fn b4_a_right_leaves_every_mapping_of_every_space_at_once() {
    let process = process();
    let vmo = object(&process, 4, VmoKind::SharedMemory);
    let (grant, revoker) = vmo.grant().unwrap();
    over_grant(&process, 0..2, RW, &grant).shared().build().unwrap();
    over_grant(&process, 4..6, R, &grant.clone()).vmo_offset(2 * PAGE_SIZE).shared().build().unwrap();
    // Neither of these is made with the grant.
    over(&process, 8..10, RW).vmo(vmo.dup()).shared().build().unwrap();
    map(&process, 12..14, RW);
    let child = process.fork_on(1).unwrap();
    let other = Process::new(&process.vmar.machine().clone(), 1).unwrap();
    over_grant(&other, 0..2, RW, &grant).shared().build().unwrap();
    for (value, process) in (1..).zip([&process, &child, &other]) {
        process.write(at(1), &[value]).unwrap();
        process.read_byte(at(4)).ok();
        process.write(at(8), &[value]).unwrap_or(());
    }
    assert_eq!(vmo.count_writers(), 7);

    revoker.revoke(Rights::WRITE);
    assert_eq!((revoker.revoked(), grant.rights()), (Rights::WRITE, Rights::all() - Rights::WRITE));
    // The object's own writers are left: one mapping and its fork.
    assert_eq!(vmo.count_writers(), 2);
    for process in [&process, &child, &other] {
        assert_eq!(process.read_byte(at(1)), Ok(3));
        assert_eq!(process.write(at(1), &[9]), Err(FaultError::NoPermission));
        assert_eq!(process.write(at(0), &[9]), Err(FaultError::NoPermission), "a page not yet touched");
        assert_eq!(process.vmar.protect(pages(0..2), RW), Err(Error::AccessDenied));
        assert_eq!(process.vmar.write_bytes(at(0), &[9]), Err(Error::AccessDenied));
        process.audit();
    }
    for process in [&process, &child] {
        assert_eq!(process.vmar.protect(pages(4..6), RW), Err(Error::AccessDenied));
        process.write(at(8), &[5]).unwrap();
        process.write(at(12), &[5]).unwrap();
        assert_eq!(pages_and_perms(process), [(0..2, R), (4..6, R), (8..10, RW), (12..14, RW)]);
    }
    // What is mapped, moved or forked from now on obeys as well.
    let refused = over_grant(&process, 16..18, RW, &grant).shared().build();
    assert_eq!(refused, Err(Error::AccessDenied));
    over_grant(&process, 16..18, R, &grant).shared().build().unwrap();
    assert_eq!(process.vmar.protect(pages(16..18), RW), Err(Error::AccessDenied));
    let moved = process.vmar.remap(pages(0..2), 2 * PAGE_SIZE, RemapTarget::Fixed(at(20))).unwrap();
    assert_eq!(process.write(moved, &[9]), Err(FaultError::NoPermission));
    let grandchild = child.fork_on(1).unwrap();
    assert_eq!(grandchild.write(at(0), &[9]), Err(FaultError::NoPermission));
    process.write(at(8), &[6]).unwrap();
    assert_eq!(process.read_byte(at(8)), Ok(6));
    [process, child, other, grandchild].iter().for_each(Process::audit);
    assert_eq!(vmo.count_writers(), 0);
}

#[test]
fn b4_each_right_can_be_taken_from_shared_and_private_mappings() {
    for sharing in [Sharing::Private, Sharing::Shared] {
        for bits in (0..8_u32).step_by(if cfg!(miri) { 3 } else { 1 }) {
            let lost = Rights::from_bits_truncate(bits << 1);
            let process = process();
            let vmo = object(&process, 2, VmoKind::File);
            let (grant, revoker) = vmo.grant().unwrap();
            let options = over_grant(&process, 0..2, ALL, &grant);
            let options = if sharing == Sharing::Shared { options.shared() } else { options };
            options.build().unwrap();
            process.read_byte(at(0)).unwrap();
            process.write(at(1), &[7]).unwrap();

            revoker.revoke(lost);
            let nothing = lost.contains(Rights::READ);
            let reads = !nothing;
            let writes = !nothing && (sharing == Sharing::Private || !lost.contains(Rights::WRITE));
            let executes = !nothing && !lost.contains(Rights::EXEC);
            let denied = FaultError::NoPermission;
            // No entry allows what is gone, before anything faults.
            for (right, is_left) in
                [(PageFlags::READ, reads), (PageFlags::WRITE, writes), (PageFlags::EXEC, executes)]
            {
                assert!(is_left || entries(&process).iter().all(|flags| !flags.contains(right)), "{lost:?}");
            }
            let expect = |is_left, value| if is_left { Ok(value) } else { Err(denied) };
            assert_eq!(process.read_byte(at(1)), expect(reads, 7), "{lost:?} {sharing:?}");
            assert_eq!(process.fetch_byte(at(1)), expect(executes, 7), "{lost:?} {sharing:?}");
            let written = process.write(at(0), &[8]);
            assert_eq!(written.is_ok(), writes, "{lost:?} {sharing:?}");
            for (access, is_left) in [(R, reads), (RW, writes), (RX, executes)] {
                let result = process.vmar.protect(pages(0..2), access);
                assert_eq!(result.is_ok(), is_left, "{access:?} without {lost:?} {sharing:?}");
            }
            process.audit();
        }
    }
}

#[test]
fn b4_pieces_of_a_mapping_obey_and_neighbours_of_another_grant_do_not_merge() {
    let process = process();
    let vmo = object(&process, 6, VmoKind::SharedMemory);
    let (one, revoker) = vmo.grant().unwrap();
    let (two, _keeper) = vmo.grant().unwrap();
    over_grant(&process, 0..4, RW, &one).shared().build().unwrap();
    let rest = || over_grant(&process, 4..6, RW, &two).vmo_offset(4 * PAGE_SIZE).shared();
    rest().build().unwrap();
    assert_eq!(pages_and_perms(&process), [(0..4, RW), (4..6, RW)]);
    touch(&process, 0..6);
    process.vmar.protect(pages(1..2), R).unwrap();
    process.vmar.unmap(pages(2..3)).unwrap();
    revoker.revoke(Rights::WRITE);
    assert_eq!(pages_and_perms(&process), [(0..2, R), (3..4, R), (4..6, RW)]);
    process.write(at(4), &[1]).unwrap();
    assert_eq!(vmo.count_writers(), 1);
    // Twice is once.
    revoker.revoke(Rights::WRITE | Rights::EXEC);
    assert_eq!(process.vmar.protect(pages(0..1), RX), Err(Error::AccessDenied));
    process.audit();
    drop(process);
    assert_eq!(vmo.count_writers(), 0);
}

#[test]
fn b4_a_grant_gives_no_more_than_the_capability_it_is_of() {
    let process = process();
    let vmo = object(&process, 1, VmoKind::File).to_dynamic().limit(Rights::READ | Rights::WRITE);
    let (grant, _revoker) = vmo.grant().unwrap();
    assert_eq!(grant.rights(), Rights::READ | Rights::WRITE);
    assert_eq!(over_grant(&process, 0..1, RX, &grant).build(), Err(Error::AccessDenied));
    let limited = grant.clone().limit(Rights::READ);
    assert_eq!(over_grant(&process, 0..1, RW, &limited).shared().build(), Err(Error::AccessDenied));
    over_grant(&process, 0..1, RW, &grant).shared().build().unwrap();
}
