// SPDX-License-Identifier: MPL-2.0

use alloc::{vec, vec::Vec};

use super::*;
use crate::{
    machine::CachePolicy,
    object::{Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim, SimIoMem},
    vmar::{ForkPolicy, fault::FaultError},
};

const BASE: usize = 0x100_0000;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

/// Both ways to fork: what a program can tell is the same.
const POLICIES: [ForkPolicy; 2] = [ForkPolicy::Copy, ForkPolicy::Backup];

fn process(policy: ForkPolicy) -> (Sim, Process) {
    let sim = Sim::new(3);
    let process = Process::new(&sim, 0).unwrap();
    process.vmar.set_fork_policy(policy);
    (sim, process)
}

fn map_anonymous(process: &Process, pages: usize, flags: MappingFlags) {
    let map = process.vmar.new_map(pages * PAGE_SIZE).perms(RW).flags(flags);
    map.placement(Placement::Exactly(BASE)).build().unwrap();
}

#[test]
fn v16_private_pages_are_shared_until_written() {
    for policy in POLICIES {
        let (sim, parent) = process(policy);
        map_anonymous(&parent, 4, MappingFlags::empty());
        for page in 0..3 {
            parent.write(BASE + page * PAGE_SIZE, &[page as u8 + 1]).unwrap();
        }
        let child = parent.fork_on(1).unwrap();
        parent.audit();
        child.audit();
        assert_eq!(sim.live_frames(), 3);
        assert_eq!(child.vmar.rss().pages(RssKind::Anonymous), 3);
        assert_eq!(child.read_byte(BASE + PAGE_SIZE), Ok(2));

        parent.write(BASE, &[10]).unwrap();
        child.write(BASE + PAGE_SIZE, &[20]).unwrap();
        assert_eq!((parent.read_byte(BASE), child.read_byte(BASE)), (Ok(10), Ok(1)));
        assert_eq!((parent.read_byte(BASE + PAGE_SIZE), child.read_byte(BASE + PAGE_SIZE)), (Ok(2), Ok(20)));
        assert_eq!(sim.live_frames(), 5);
        // What was not there is not shared either.
        parent.write(BASE + 3 * PAGE_SIZE, &[4]).unwrap();
        assert_eq!(child.read_byte(BASE + 3 * PAGE_SIZE), Ok(0));
        parent.audit();
        child.audit();
        drop((parent, child));
        sim.assert_no_leaks();
    }
}

#[test]
fn v16_the_parent_can_write_no_shared_page_through_any_tlb() {
    for policy in POLICIES {
        let (_sim, parent) = process(policy);
        map_anonymous(&parent, 1, MappingFlags::empty());
        let thread = parent.thread_on(2);
        parent.write(BASE, &[1]).unwrap();
        thread.write(BASE, &[2]).unwrap();
        let child = parent.fork_on(1).unwrap();
        assert!(thread.cpu().tlb_pages(parent.vmar.space()).is_empty());
        thread.write(BASE, &[3]).unwrap();
        assert_eq!((child.read_byte(BASE), parent.read_byte(BASE)), (Ok(2), Ok(3)));
    }
}

#[test]
fn v16_the_last_holder_writes_without_a_copy() {
    let (sim, parent) = process(ForkPolicy::Copy);
    map_anonymous(&parent, 1, MappingFlags::empty());
    parent.write(BASE, &[1]).unwrap();
    let frame = parent.vmar.space().walk()[0].frame;
    drop(parent.fork_on(1).unwrap());
    let before = sim.flushes();
    parent.write(BASE, &[2]).unwrap();
    assert_eq!(parent.vmar.space().walk()[0].frame, frame);
    assert_eq!((sim.live_frames(), sim.flushes()), (1, before));

    // A machine that frees late may copy once more than it must, no worse.
    sim.set_late_frees(true);
    let child = parent.fork_on(1).unwrap();
    child.vmar.clear();
    parent.write(BASE, &[3]).unwrap();
    assert_ne!(parent.vmar.space().walk()[0].frame, frame);
    assert_eq!(parent.read_byte(BASE), Ok(3));
    drop((parent, child));
    sim.assert_no_leaks();
}

#[test]
fn v16_shared_mappings_stay_shared() {
    for policy in POLICIES {
        let (sim, parent) = process(policy);
        let vmo = Vmo::new(&sim, 2 * PAGE_SIZE, VmoKind::SharedMemory).unwrap();
        let map = parent.vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo).shared();
        map.placement(Placement::Exactly(BASE)).build().unwrap();
        parent.write(BASE, &[1]).unwrap();
        let child = parent.fork_on(1).unwrap();
        assert!(child.vmar.space().walk().is_empty());
        child.write(BASE, &[2]).unwrap();
        parent.write(BASE + PAGE_SIZE, &[3]).unwrap();
        assert_eq!((parent.read_byte(BASE), child.read_byte(BASE + PAGE_SIZE)), (Ok(2), Ok(3)));
        parent.audit();
        child.audit();
    }
}

#[test]
fn v16_copies_of_object_pages_are_inherited_and_the_rest_is_not() {
    for policy in POLICIES {
        let (sim, parent) = process(policy);
        let vmo = Vmo::new(&sim, 2 * PAGE_SIZE, VmoKind::File).unwrap();
        vmo.write_bytes(0, &[1; 2 * PAGE_SIZE]).unwrap();
        let map = parent.vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo.dup());
        map.placement(Placement::Exactly(BASE)).build().unwrap();
        parent.write(BASE, &[9]).unwrap();
        parent.read_byte(BASE + PAGE_SIZE).unwrap();
        let child = parent.fork_on(1).unwrap();
        assert_eq!(child.resident().len(), 1);
        assert_eq!((child.read_byte(BASE), child.read_byte(BASE + PAGE_SIZE)), (Ok(9), Ok(1)));
        // Truncation reaches the child's page tables too.
        vmo.resize(0).unwrap();
        assert_eq!(child.read_byte(BASE), Err(FaultError::BusError));
        assert_eq!(parent.read_byte(BASE), Err(FaultError::BusError));
        parent.audit();
        child.audit();
    }
}

#[test]
fn v16_advice_about_forks_and_locks() {
    for policy in POLICIES {
        for (flag, read, size) in [
            (MappingFlags::DONT_FORK, Err(FaultError::NotMapped), 0),
            (MappingFlags::WIPE_ON_FORK, Ok(0), PAGE_SIZE),
            (MappingFlags::LOCKED, Ok(7), PAGE_SIZE),
        ] {
            let (_sim, parent) = process(policy);
            map_anonymous(&parent, 1, flag);
            parent.write(BASE, &[7]).unwrap();
            let child = parent.fork_on(1).unwrap();
            assert_eq!(child.read_byte(BASE), read, "{flag:?}");
            let usage = child.vmar.usage();
            assert_eq!((usage.address_space, usage.locked), (size, 0), "{flag:?}");
            assert_eq!(parent.read_byte(BASE), Ok(7));
            child.audit();
            parent.audit();
        }
    }
}

#[test]
fn v16_a_sparse_space_is_copied_in_chunks() {
    for policy in POLICIES {
        let (sim, parent) = process(policy);
        // A gibibyte, in which a few pages far apart and one full chunk are present.
        map_anonymous(&parent, 1 << 18, MappingFlags::empty());
        let dense = 1000..1000 + if cfg!(miri) { 2 } else { 1100 };
        let pages: Vec<_> = [0, 511, 512, 99_999].into_iter().chain(dense).chain([(1 << 18) - 1]).collect();
        for page in &pages {
            parent.write(BASE + page * PAGE_SIZE, &page.to_le_bytes()).unwrap();
        }
        let before = sim.transactions();
        let child = parent.fork_on(1).unwrap();
        assert!(sim.transactions() - before < 60, "{} transactions", sim.transactions() - before);
        for page in &pages {
            assert_eq!(child.read(BASE + page * PAGE_SIZE, 8), Ok(page.to_le_bytes().to_vec()));
        }
        assert_eq!(sim.live_frames(), pages.len());
        parent.audit();
        child.audit();
    }
}

#[test]
fn v16_a_fork_that_fails_leaves_everything_as_it_was() {
    let (sim, parent) = process(ForkPolicy::Copy);
    map_anonymous(&parent, 2000, MappingFlags::empty());
    let vmo = Vmo::new(&sim, PAGE_SIZE, VmoKind::File).unwrap();
    parent.vmar.new_map(PAGE_SIZE).read().vmo(vmo).build().unwrap();
    for page in (0..2000).step_by(300) {
        parent.write(BASE + page * PAGE_SIZE, &[page as u8]).unwrap();
    }
    let frames = sim.live_frames();
    let mut failures = 0;
    for nth in crate::fallible::inject::in_turn() {
        let failing = crate::fallible::inject::fail_nth(nth);
        let result = parent.vmar.fork();
        if !failing.has_failed() {
            assert!(result.is_ok());
            break;
        }
        drop(failing);
        assert_eq!(result.err(), Some(Error::OutOfMemory));
        failures += 1;
        assert_eq!((sim.live_frames(), sim.live_spaces()), (frames, 1));
        parent.audit();
        for page in (0..2000).step_by(300) {
            assert_eq!(parent.read_byte(BASE + page * PAGE_SIZE), Ok(page as u8));
            parent.write(BASE + page * PAGE_SIZE, &[page as u8]).unwrap();
        }
        assert_eq!(sim.live_frames(), frames);
    }
    assert!(failures > if cfg!(miri) { 1 } else { 10 }, "{failures} allocations");
}

#[test]
fn v16_forks_of_forks() {
    for policy in POLICIES {
        let (sim, first) = process(policy);
        map_anonymous(&first, 2, MappingFlags::empty());
        first.write(BASE, &[0]).unwrap();
        let mut family = vec![first];
        for generation in 1..6_u8 {
            let child = family[family.len() / 2].fork_on(usize::from(generation) % 3).unwrap();
            family.push(child);
            for (number, member) in family.iter().enumerate() {
                member.write(BASE + 1 + usize::from(generation), &[number as u8]).unwrap();
            }
            family.iter().for_each(Process::audit);
        }
        for (number, member) in family.iter().enumerate() {
            assert_eq!(member.read_byte(BASE + 6), Ok(number as u8));
        }
        family.remove(2);
        family.iter().for_each(Process::audit);
        drop(family);
        sim.assert_no_leaks();
    }
}

#[test]
fn v21_device_memory_is_mapped_eagerly_and_never_copied() {
    for policy in POLICIES {
        let (sim, parent) = process(policy);
        let io = SimIoMem::new(4);
        io.write(PAGE_SIZE, &[5]);
        let map = parent.vmar.new_map(3 * PAGE_SIZE).perms(RW).shared();
        let map = map.device(io.clone(), PAGE_SIZE, CachePolicy::Uncacheable);
        map.placement(Placement::Exactly(BASE)).build().unwrap();
        assert_eq!(parent.vmar.space().walk().len(), 3);
        assert_eq!(parent.read_byte(BASE), Ok(5));
        let child = parent.fork_on(1).unwrap();
        assert_eq!(child.vmar.space().walk(), parent.vmar.space().walk());
        assert!(child.vmar.space().walk().iter().all(|entry| entry.props.cache == CachePolicy::Uncacheable));
        child.write(BASE + 1, &[6]).unwrap();
        assert_eq!(parent.read(BASE, 2), Ok(vec![5, 6]));
        assert_eq!((sim.live_frames(), child.vmar.rss().total_pages()), (0, 0));
        // Permissions come and go like everywhere.
        child.vmar.protect(BASE..BASE + PAGE_SIZE, VmPerms::READ).unwrap();
        assert_eq!(child.write(BASE, &[1]), Err(FaultError::NoPermission));
        child.vmar.protect(BASE..BASE + PAGE_SIZE, RW).unwrap();
        child.write(BASE, &[1]).unwrap();
        assert_eq!(child.vmar.space().walk()[0].props.cache, CachePolicy::Uncacheable);
        parent.audit();
        child.audit();
    }
}
