// SPDX-License-Identifier: MPL-2.0

use alloc::vec::Vec;

use super::{super::testing::*, *};
use crate::{
    object::VmoKind,
    placement::Placement,
    sim::{PAGE_SIZE, Process},
    vmar::ForkPolicy,
};

/// The pages of the test's range, up to `end`, that count as written.
fn written(process: &Process, end: usize) -> Vec<usize> {
    let range = pages(0..end);
    let guard = process.vmar.query(range.clone());
    let mut found = Vec::new();
    for info in guard.iter() {
        let number = |addr: usize| (addr - BASE) / PAGE_SIZE;
        if !info.flags().contains(MappingFlags::TRACKED) {
            found.extend(number(info.range().start)..number(info.range().end));
            continue;
        }
        info.for_each_page(&range, |addr, page| {
            if page.flags.contains(PageFlags::DIRTY) {
                found.push(number(addr));
            }
        });
    }
    found
}

fn referenced(process: &Process) -> usize {
    let guard = process.vmar.query(process.vmar.user_range());
    guard.iter().map(|info| info.count_pages().referenced).sum()
}

#[test]
fn what_is_written_afterwards_counts_as_written() {
    let process = process();
    map(&process, 0..6, RW);
    touch(&process, 0..4);
    assert_eq!(written(&process, 6), [0, 1, 2, 3, 4, 5]);
    process.vmar.track_writes().unwrap();
    assert_eq!(written(&process, 6), []);

    process.read_byte(at(0)).unwrap();
    assert_eq!(written(&process, 6), []);
    touch(&process, 1..3);
    touch(&process, 5..6);
    assert_eq!(written(&process, 6), [1, 2, 5]);
    process.audit();

    process.vmar.track_writes().unwrap();
    assert_eq!(written(&process, 6), []);
    assert_eq!(process.read_byte(at(5)).unwrap(), 6);
}

#[test]
fn writes_in_a_row_are_told_one_by_one() {
    let process = process();
    map(&process, 0..32, RW);
    touch(&process, 0..32);
    process.vmar.track_writes().unwrap();
    touch(&process, 0..5);
    assert_eq!(written(&process, 32), [0, 1, 2, 3, 4]);
}

#[test]
fn taking_write_away_and_giving_it_back_is_no_write() {
    let process = process();
    map(&process, 0..4, RW);
    touch(&process, 0..4);
    process.vmar.track_writes().unwrap();
    touch(&process, 1..2);
    for range in [0..4, 2..3] {
        process.vmar.protect(pages(range.clone()), R).unwrap();
        process.vmar.protect(pages(range), RW).unwrap();
    }
    assert_eq!(written(&process, 4), [1]);
    touch(&process, 2..3);
    assert_eq!(written(&process, 4), [1, 2]);
}

#[test]
fn writes_from_outside_count() {
    let process = process();
    map(&process, 0..4, RW);
    touch(&process, 0..2);
    process.vmar.track_writes().unwrap();
    process.vmar.write_bytes(at(1), &[9]).unwrap();
    process.vmar.write_bytes(at(3), &[9]).unwrap();
    assert_eq!(written(&process, 4), [1, 3]);
}

#[test]
fn objects_are_tracked_as_well() {
    let process = process();
    let vmo = object(&process, 4, VmoKind::SharedMemory);
    over(&process, 0..4, RW).vmo(vmo.dup()).shared().build().unwrap();
    over(&process, 4..8, RW).vmo(vmo).build().unwrap();
    touch(&process, 0..8);
    process.vmar.track_writes().unwrap();
    assert_eq!(written(&process, 8), []);
    process.read_byte(at(0)).unwrap();
    touch(&process, 1..2);
    touch(&process, 6..7);
    assert_eq!(written(&process, 8), [1, 6]);
    process.audit();
}

#[test]
fn what_is_mapped_later_counts_as_written() {
    let process = process();
    map(&process, 0..2, RW);
    map(&process, 6..8, RW);
    process.vmar.track_writes().unwrap();
    map(&process, 10..12, RW);
    assert_eq!(written(&process, 12), [10, 11]);
    // A neighbour that continues it becomes a part of it.
    map(&process, 2..3, RW);
    assert_eq!(written(&process, 12), [0, 1, 2, 10, 11]);
    map(&process, 5..6, RW);
    assert_eq!(pages_and_perms(&process), [(0..3, RW), (5..8, RW), (10..12, RW)]);
    assert_eq!(written(&process, 12), [0, 1, 2, 5, 6, 7, 10, 11]);
    process.audit();
}

#[test]
fn permissions_that_become_alike_make_one_mapping() {
    let process = process();
    map(&process, 0..4, RW);
    touch(&process, 0..4);
    process.vmar.track_writes().unwrap();
    map(&process, 4..6, R);
    process.vmar.protect(pages(4..6), RW).unwrap();
    assert_eq!(pages_and_perms(&process), [(0..6, RW)]);
    assert_eq!(written(&process, 6), [0, 1, 2, 3, 4, 5]);
    process.audit();
}

#[test]
fn a_space_that_borrows_can_be_asked() {
    let process = process();
    process.vmar.set_fork_policy(ForkPolicy::Backup);
    map(&process, 0..8, RW);
    touch(&process, 0..8);
    let child = process.fork_on(1).unwrap();
    touch(&process, 0..1);
    process.vmar.track_writes().unwrap();
    assert_eq!(written(&process, 8), []);
    touch(&process, 2..3);
    assert_eq!(written(&process, 8), [2]);
    assert_eq!(child.read_byte(at(2)).unwrap(), 3);
    child.write(at(3), &[7]).unwrap();
    assert_eq!(process.read_byte(at(3)).unwrap(), 4);
    child.audit();
    process.audit();
    // The child, which borrowed from the same backup, can be forked and can end.
    let grandchild = child.fork_on(1).unwrap();
    drop(child);
    assert_eq!(grandchild.read_byte(at(3)).unwrap(), 7);
    drop(grandchild);
    assert_eq!(process.read_byte(at(7)).unwrap(), 8);
    process.audit();
}

#[test]
fn a_space_that_was_asked_can_be_forked() {
    let process = process();
    process.vmar.set_fork_policy(ForkPolicy::Backup);
    map(&process, 0..4, RW);
    touch(&process, 0..4);
    process.vmar.track_writes().unwrap();
    process.vmar.forget_accesses(Which::All).unwrap();
    // Whatever is wanted of it now.
    process.vmar.set_fork_policy(ForkPolicy::Backup);
    let child = process.fork_on(1).unwrap();
    assert_eq!(written(&child, 4), []);
    touch(&process, 0..1);
    assert_eq!(written(&process, 4), [0]);
    child.write(at(1), &[9]).unwrap();
    assert_eq!(written(&child, 4), [1]);
    let grandchild = child.fork_on(0).unwrap();
    assert_eq!(written(&grandchild, 4), [1]);
    drop(grandchild);
    assert_eq!((child.read_byte(at(0)).unwrap(), process.read_byte(at(1)).unwrap()), (1, 2));
    process.audit();
    child.audit();
}

#[test]
fn moved_pages_count_as_written() {
    let process = process();
    map(&process, 0..2, RW);
    touch(&process, 0..2);
    process.vmar.track_writes().unwrap();
    let target = crate::vmar::remap::RemapTarget::Fixed(at(4));
    process.vmar.remap(pages(0..2), pages(0..2).len(), target).unwrap();
    assert_eq!(written(&process, 8), [4, 5]);
    process.audit();
}

#[test]
fn what_is_tracked_and_what_is_newer_become_one_mapping_wherever_they_meet() {
    let process = process();
    map(&process, 0..2, RW);
    map(&process, 8..10, RW);
    process.vmar.track_writes().unwrap();
    // A region's mapping is newer, and comes to lie beside one that is tracked when the region goes.
    let region = process.vmar.new_region(2 * PAGE_SIZE).placement(Placement::Exactly(at(2))).build().unwrap();
    region.new_map(2 * PAGE_SIZE).perms(RW).placement(Placement::Exactly(at(2))).build().unwrap();
    region.dissolve().unwrap();
    assert_eq!(pages_and_perms(&process), [(0..4, RW), (8..10, RW)]);
    let target = crate::vmar::remap::RemapTarget::Fixed(at(4));
    process.vmar.remap(pages(8..10), 2 * PAGE_SIZE, target).unwrap();
    assert_eq!(pages_and_perms(&process), [(0..6, RW)]);
    process.audit();
}

#[test]
fn accesses_are_forgotten_by_kind() {
    let process = process();
    let vmo = object(&process, 4, VmoKind::File);
    map(&process, 0..2, RW);
    over(&process, 4..6, R).vmo(vmo).build().unwrap();
    let access = || {
        touch(&process, 0..2);
        process.read_byte(at(4)).unwrap();
        process.read_byte(at(5)).unwrap();
    };
    for (which, left) in [(Which::All, 0), (Which::Anonymous, 2), (Which::Objects, 2)] {
        access();
        assert_eq!(referenced(&process), 4);
        process.vmar.forget_accesses(which).unwrap();
        assert_eq!(referenced(&process), left, "{which:?}");
    }
    process.read_byte(at(0)).unwrap();
    process.vmar.forget_accesses(Which::All).unwrap();
    process.read_byte(at(1)).unwrap();
    assert_eq!(referenced(&process), 1);
    process.audit();
}
