// SPDX-License-Identifier: MPL-2.0

mod rounds;

use alloc::{vec, vec::Vec};

use super::*;
use crate::{
    error::Error,
    mapping::MappingFlags,
    object::{Vmo, VmoKind},
    rss::RssKind,
    sim::{PAGE_SIZE, Process, Sim},
    vmar::{
        ForkPolicy,
        discard::Discard,
        fault::FaultError,
        remap::RemapTarget,
        testing::{R, RW, at, map, over, pages, touch},
    },
};

const CPUS: usize = 3;

/// Starts a program that is forked through backups.
fn process() -> (Sim, Process) {
    let sim = Sim::new(CPUS);
    let process = Process::new(&sim, 0).unwrap();
    process.vmar.set_fork_policy(ForkPolicy::Backup);
    (sim, process)
}

/// Starts a program with `count` pages, each written with its number plus one.
fn process_with(count: usize) -> (Sim, Process) {
    let (sim, process) = process();
    map(&process, 0..count, RW);
    touch(&process, 0..count);
    (sim, process)
}

fn is_borrowing(process: &Process) -> bool {
    process.vmar.inner.mappings.read().borrow.is_some()
}

/// The frame that a process has for a page of the test's range, borrowed or not.
fn frame(process: &Process, page: usize) -> Option<u64> {
    process.resident().into_iter().find(|entry| entry.addr == at(page))?.frame
}

/// How many entries the page table has.
fn entries(process: &Process) -> usize {
    process.vmar.space().walk().len()
}

fn audit<'a>(processes: impl IntoIterator<Item = &'a Process>) {
    processes.into_iter().for_each(Process::audit);
}

#[test]
fn r1_a_backup_is_made_at_its_first_need_and_goes_with_its_last_borrower() {
    let (sim, parent) = process_with(3);
    assert_eq!(sim.live_spaces(), 1);
    let child = parent.fork_on(1).unwrap();
    // A page table for each, and the one that both borrow from.
    assert_eq!((sim.live_spaces(), sim.live_frames()), (3, 3));
    assert!(is_borrowing(&parent) && is_borrowing(&child));
    drop(child);
    assert_eq!((sim.live_spaces(), sim.live_frames()), (1, 3));
    let child = parent.fork_on(1).unwrap();
    drop(parent);
    assert_eq!((sim.live_spaces(), sim.live_frames()), (1, 3));
    assert_eq!(child.read_byte(at(2)), Ok(3));
    child.audit();
    drop(child);
    sim.assert_no_leaks();
}

#[test]
fn r2_what_is_read_is_the_backups_frame_and_what_it_never_had_is_made() {
    let (sim, parent) = process_with(8);
    map(&parent, 8..10, RW);
    let frames: Vec<_> = (0..8).map(|page| frame(&parent, page)).collect();
    let child = parent.fork_on(1).unwrap();
    for process in [&child, &parent] {
        for (page, of_backup) in frames.iter().enumerate() {
            assert_eq!(process.read_byte(at(page)), Ok(page as u8 + 1));
            assert_eq!(frame(process, page), *of_backup);
        }
        assert_eq!(process.read_byte(at(8)), Ok(0));
    }
    assert_eq!(sim.live_frames(), 8);
    child.write(at(9), &[9]).unwrap();
    assert_eq!((sim.live_frames(), parent.read_byte(at(9))), (9, Ok(0)));
    audit([&parent, &child]);
}

#[test]
fn r4_a_private_write_copies_one_page_and_leaves_its_source() {
    let (sim, process) = process();
    let vmo = Vmo::new(&sim, 4 * PAGE_SIZE, VmoKind::File).unwrap();
    vmo.write_bytes(0, &[7; 4 * PAGE_SIZE]).unwrap();
    over(&process, 0..4, RW).vmo(vmo.dup()).build().unwrap();
    process.write(at(1) + 5, &[9]).unwrap();
    assert_eq!(process.read(at(1) + 4, 3), Ok(vec![7, 9, 7]));
    let mut bytes = vec![0; 4 * PAGE_SIZE];
    vmo.read_bytes(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 7), "the object was written");
    assert_eq!((sim.live_frames(), process.vmar.rss().pages(RssKind::Anonymous)), (5, 1));
    process.audit();
}

#[test]
fn r6_only_who_owns_an_object_writes_through_it() {
    use aster_rights::Rights;

    let (sim, process) = process();
    let vmo = Vmo::new(&sim, PAGE_SIZE, VmoKind::SharedMemory).unwrap();
    let borrowed = vmo.dup().to_dynamic().limit(Rights::READ | Rights::DUP);
    assert!(borrowed.require::<aster_rights::TRights![Write]>().is_err());
    let read_only = || vmo.dup().to_dynamic().limit(Rights::READ);
    assert_eq!(over(&process, 0..1, RW).vmo(read_only()).shared().build(), Err(Error::AccessDenied));
    over(&process, 0..1, R).vmo(read_only()).shared().build().unwrap();
    assert_eq!(process.vmar.protect(pages(0..1), RW), Err(Error::AccessDenied));
    assert_eq!(process.write(at(0), &[1]), Err(FaultError::NoPermission));
    let mut byte = [9];
    vmo.read_bytes(0, &mut byte).unwrap();
    assert_eq!(byte, [0]);
}

#[test]
fn r7_parent_and_child_start_with_empty_page_tables() {
    const PAGES: usize = if cfg!(miri) { 5 } else { 100 };
    let (sim, parent) = process_with(PAGES);
    let before = sim.transactions();
    let child = parent.fork_on(1).unwrap();
    assert!(sim.transactions() - before <= 2, "{} transactions", sim.transactions() - before);
    assert_eq!((entries(&parent), entries(&child)), (0, 0));
    for process in [&parent, &child] {
        assert_eq!(process.vmar.rss().pages(RssKind::Anonymous), PAGES);
        process.audit();
    }
}

#[test]
fn r7_no_thread_writes_to_the_backup() {
    let (_sim, parent) = process_with(1);
    let thread = parent.thread_on(2);
    thread.write(at(0), &[2]).unwrap();
    let child = parent.fork_on(1).unwrap();
    assert!(thread.cpu().tlb_pages(parent.vmar.space()).is_empty());
    thread.write(at(0), &[3]).unwrap();
    assert_eq!((child.read_byte(at(0)), parent.read_byte(at(0))), (Ok(2), Ok(3)));
    audit([&parent, &child]);
}

#[test]
fn r7_the_parent_takes_its_space_back_whole() {
    const PAGES: usize = if cfg!(miri) { 5 } else { 50 };
    const ONE: usize = PAGES / 5;
    let (sim, parent) = process_with(PAGES);
    let frames: Vec<_> = (0..PAGES).map(|page| frame(&parent, page)).collect();
    let child = parent.fork_on(1).unwrap();
    child.read_byte(at(ONE)).unwrap();
    child.write(at(2 * ONE), &[99]).unwrap();
    parent.write(at(3 * ONE), &[77]).unwrap();
    parent.read_byte(at(4 * ONE)).unwrap();
    drop(child);
    assert!(!is_borrowing(&parent));
    assert_eq!((entries(&parent), sim.live_frames(), sim.live_spaces()), (PAGES, PAGES, 1));
    // No copy, and but for what the child has looked at no fault.
    let before = sim.transactions();
    for (page, former) in frames.iter().enumerate() {
        parent.write(at(page) + 1, &[1]).unwrap();
        assert!(page == 3 * ONE || frame(&parent, page) == *former);
    }
    assert!(sim.transactions() - before < 20, "{} transactions", sim.transactions() - before);
    assert_eq!(parent.read(at(3 * ONE), 2), Ok(vec![77, 1]));
    assert_eq!(parent.read(at(2 * ONE), 2), Ok(vec![2 * ONE as u8 + 1, 1]));
    parent.audit();
}

#[test]
fn r7_a_child_outlives_its_parent() {
    const PAGES: usize = if cfg!(miri) { 5 } else { 40 };
    for parent_writes in [0, 3, PAGES] {
        let (sim, parent) = process_with(PAGES);
        let vmo = Vmo::new(&sim, 2 * PAGE_SIZE, VmoKind::File).unwrap();
        over(&parent, 50..52, R).vmo(vmo).build().unwrap();
        parent.read_byte(at(50)).unwrap();
        let child = parent.fork_on(1).unwrap();
        child.write(at(1), &[50]).unwrap();
        touch(&parent, 0..parent_writes);
        drop(parent);
        assert!(!is_borrowing(&child));
        // The object has one page as well.
        assert_eq!((sim.live_frames(), sim.live_spaces()), (PAGES + 1, 1));
        for page in 0..PAGES {
            assert_eq!(child.read_byte(at(page)), Ok(if page == 1 { 50 } else { page as u8 + 1 }));
        }
        child.audit();
        // It can be forked in turn.
        let grandchild = child.fork_on(2).unwrap();
        assert!(is_borrowing(&grandchild));
        assert_eq!(grandchild.read_byte(at(1)), Ok(50));
        audit([&child, &grandchild]);
        drop((child, grandchild));
        sim.assert_no_leaks();
    }
}

#[test]
fn r7_what_both_have_copied_leaves_the_backup() {
    let (sim, parent) = process_with(4);
    let child = parent.fork_on(1).unwrap();
    parent.write(at(0), &[10]).unwrap();
    assert_eq!(sim.live_frames(), 5);
    // The child is the only one who still needs the old page, and writes it without a copy.
    let old = frame(&child, 0);
    child.write(at(0), &[20]).unwrap();
    assert_eq!((sim.live_frames(), frame(&child, 0)), (5, old));
    child.vmar.unmap(pages(1..2)).unwrap();
    assert_eq!(sim.live_frames(), 5);
    parent.vmar.discard(pages(1..2), Discard::Now).unwrap();
    assert_eq!((sim.live_frames(), parent.read_byte(at(1))), (4, Ok(0)));
    audit([&parent, &child]);
}

#[test]
fn r7_reads_share_and_writes_after_them_copy() {
    let (sim, parent) = process_with(4);
    let child = parent.fork_on(1).unwrap();
    for process in [&parent, &child] {
        assert_eq!(process.read_byte(at(2)), Ok(3));
    }
    // Both have looked at it: the backup has it no more.
    assert_eq!(sim.live_frames(), 4);
    child.write(at(2), &[30]).unwrap();
    assert_eq!((parent.read_byte(at(2)), sim.live_frames()), (Ok(3), 5));
    let own = frame(&parent, 2);
    parent.write(at(2), &[31]).unwrap();
    assert_eq!((frame(&parent, 2), sim.live_frames()), (own, 5));
    audit([&parent, &child]);
}

#[test]
fn r7_advice_about_forks() {
    for (flag, read, size) in [
        (MappingFlags::DONT_FORK, Err(FaultError::NotMapped), 0),
        (MappingFlags::WIPE_ON_FORK, Ok(0), PAGE_SIZE),
        (MappingFlags::LOCKED, Ok(7), PAGE_SIZE),
    ] {
        let (sim, parent) = process();
        over(&parent, 0..1, RW).flags(flag).build().unwrap();
        parent.write(at(0), &[7]).unwrap();
        let child = parent.fork_on(1).unwrap();
        let usage = child.vmar.usage();
        assert_eq!((usage.address_space, usage.locked), (size, 0), "{flag:?}");
        audit([&parent, &child]);
        assert_eq!(child.read_byte(at(0)), read, "{flag:?}");
        assert_eq!(parent.read_byte(at(0)), Ok(7));
        audit([&parent, &child]);
        drop((parent, child));
        sim.assert_no_leaks();
    }
}

#[test]
fn r7_protection_changed_in_between_holds_when_the_space_is_whole_again() {
    let (_sim, parent) = process_with(8);
    let child = parent.fork_on(1).unwrap();
    parent.vmar.protect(pages(0..4), R).unwrap();
    child.vmar.protect(pages(4..8), R).unwrap();
    drop(child);
    parent.audit();
    assert_eq!(parent.write(at(2), &[1]), Err(FaultError::NoPermission));
    parent.write(at(6), &[1]).unwrap();
    parent.vmar.protect(pages(0..4), RW).unwrap();
    parent.write(at(2), &[1]).unwrap();
    parent.audit();
}

#[test]
fn r7_moved_memory_takes_along_what_is_borrowed() {
    let (_sim, parent) = process_with(6);
    let child = parent.fork_on(1).unwrap();
    child.vmar.remap(pages(1..4), 3 * PAGE_SIZE, RemapTarget::Fixed(at(100))).unwrap();
    // What is mapped at the old place now has nothing of the backup's.
    map(&child, 1..4, RW);
    assert_eq!((child.read_byte(at(2)), child.read_byte(at(101))), (Ok(0), Ok(3)));
    assert_eq!(parent.read_byte(at(2)), Ok(3));
    audit([&parent, &child]);
    drop(child);
    assert_eq!(
        (0..6).map(|page| parent.read_byte(at(page)).unwrap()).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6]
    );
    parent.audit();
}

#[test]
fn r7_truncation_reaches_what_is_borrowed() {
    let (sim, parent) = process();
    let vmo = Vmo::new(&sim, 4 * PAGE_SIZE, VmoKind::File).unwrap();
    over(&parent, 0..4, RW).vmo(vmo.dup()).build().unwrap();
    touch(&parent, 0..2);
    parent.read_byte(at(3)).unwrap();
    let child = parent.fork_on(1).unwrap();
    vmo.decommit(0..4 * PAGE_SIZE).unwrap();
    assert_eq!((child.read_byte(at(1)), parent.read_byte(at(0))), (Ok(2), Ok(1)));
    vmo.resize(PAGE_SIZE).unwrap();
    for process in [&parent, &child] {
        assert_eq!(process.read_byte(at(1)), Err(FaultError::BusError));
        assert_eq!(process.read_byte(at(0)), Ok(1));
    }
    audit([&parent, &child]);
    drop((parent, child));
    drop(vmo);
    sim.assert_no_leaks();
}

#[test]
fn r7_figures_are_those_of_a_copied_space() {
    use crate::vmar::query::PageCounts;

    let counts = |policy| {
        let (sim, parent) = process_with(6);
        let vmo = Vmo::new(&sim, 2 * PAGE_SIZE, VmoKind::File).unwrap();
        vmo.write_bytes(0, &[1; 2 * PAGE_SIZE]).unwrap();
        over(&parent, 10..12, RW).vmo(vmo).build().unwrap();
        parent.read_byte(at(10)).unwrap();
        parent.write(at(11), &[1]).unwrap();
        parent.vmar.set_fork_policy(policy);
        let child = parent.fork_on(1).unwrap();
        parent.write(at(0), &[1]).unwrap();
        child.write(at(1), &[1]).unwrap();
        child.read_byte(at(2)).unwrap();
        [&parent, &child].map(|process| {
            let guard = process.vmar.query(pages(0..12));
            let counts: Vec<PageCounts> = guard.iter().map(|info| info.count_pages()).collect();
            drop(guard);
            let mut resident = [false; 12];
            let _ = process.vmar.resident(pages(0..6), &mut resident[..6]);
            process.vmar.resident(pages(10..12), &mut resident[10..]).unwrap();
            let rss = RssKind::ALL.map(|kind| process.vmar.rss().pages(kind));
            (counts, resident, rss)
        })
    };
    assert_eq!(counts(ForkPolicy::Backup), counts(ForkPolicy::Copy));
}

#[test]
fn r8_each_step_of_a_mapping_frees_just_what_leaves_it() {
    for borrows in [false, true] {
        let (sim, process) = process_with(10);
        let child = borrows.then(|| process.fork_on(1).unwrap());
        // Should a child hold all pages as well, none is freed.
        let check = |frames: usize| {
            assert_eq!(sim.live_frames(), if borrows { 10 } else { frames });
            assert_eq!(process.vmar.rss().pages(RssKind::Anonymous), frames);
            process.audit();
        };
        check(10);
        // Shrink, grow, split in two, fill the gap so that the parts merge, close.
        process.vmar.remap(pages(0..10), 8 * PAGE_SIZE, RemapTarget::InPlace).unwrap();
        check(8);
        process.vmar.remap(pages(0..8), 12 * PAGE_SIZE, RemapTarget::InPlace).unwrap();
        check(8);
        process.vmar.unmap(pages(3..5)).unwrap();
        check(6);
        map(&process, 3..5, RW);
        check(6);
        assert_eq!(process.vmar.usage().mappings, 1);
        process.vmar.unmap(pages(0..12)).unwrap();
        check(0);
        drop((process, child));
        sim.assert_no_leaks();
    }
}

#[test]
fn r9_a_private_mapping_of_a_writable_object_lacks_write_until_the_copy() {
    let (sim, process) = process();
    let vmo = Vmo::new(&sim, 2 * PAGE_SIZE, VmoKind::File).unwrap();
    vmo.write_bytes(0, &[1; 2 * PAGE_SIZE]).unwrap();
    over(&process, 0..2, RW).vmo(vmo).fault_around().build().unwrap();
    process.read_byte(at(0)).unwrap();
    let flags = |page: usize| {
        let found = process.resident().into_iter().find(|entry| entry.addr == at(page));
        found.map(|entry| entry.props.flags & (PageFlags::WRITE | PageFlags::PRIVATE))
    };
    assert_eq!((flags(0), flags(1)), (Some(PageFlags::empty()), Some(PageFlags::empty())));
    process.write(at(0), &[2]).unwrap();
    assert_eq!((flags(0), flags(1)), (Some(PageFlags::WRITE | PageFlags::PRIVATE), Some(PageFlags::empty())));
}

#[test]
fn clear_gives_up_what_is_borrowed() {
    let (sim, parent) = process_with(10);
    let child = parent.fork_on(1).unwrap();
    child.vmar.clear();
    assert_eq!(child.vmar.rss().total_pages(), 0);
    assert!(!is_borrowing(&parent) && !is_borrowing(&child));
    audit([&parent, &child]);
    assert_eq!((entries(&parent), sim.live_frames()), (10, 10));
    assert_eq!(child.read_byte(at(0)), Err(FaultError::NotMapped));
}
