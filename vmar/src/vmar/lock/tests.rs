// SPDX-License-Identifier: MPL-2.0

use super::{super::testing::*, *};
use crate::{
    machine::CachePolicy,
    perms::VmPerms,
    sim::{PAGE_SIZE, SimIoMem},
};

fn locked(process: &crate::sim::Process) -> alloc::vec::Vec<(Range<usize>, MappingFlags)> {
    layout(process).into_iter().map(|seen| (seen.pages, seen.flags)).collect()
}

#[test]
fn v11_locking_splits_counts_once_and_merges_again() {
    let process = process();
    map(&process, 0..6, RW);
    process.vmar.lock(pages(2..4), LockMode::Now).unwrap();
    assert_eq!(process.vmar.rss().total_pages(), 2);
    process.vmar.lock(pages(3..5), LockMode::OnFault).unwrap();
    assert_eq!(process.vmar.rss().total_pages(), 2);
    let none = MappingFlags::empty();
    let (now, on_fault) = (MappingFlags::LOCKED, MappingFlags::ANY_LOCK);
    assert_eq!(locked(&process), [(0..2, none), (2..3, now), (3..5, on_fault), (5..6, none)]);
    assert_eq!(process.vmar.usage().locked, 3 * PAGE_SIZE);
    process.vmar.unlock(pages(0..6)).unwrap();
    assert_eq!(locked(&process), [(0..6, none)]);
    assert_eq!(process.vmar.usage().locked, 0);
    process.audit();
}

#[test]
fn v11_only_what_is_newly_locked_counts() {
    let process = process();
    map(&process, 0..8, RW);
    process.vmar.limits().set(Limit::Locked, 4 * PAGE_SIZE);
    process.vmar.lock(pages(0..3), LockMode::Now).unwrap();
    let exceeded = Err(Error::LimitExceeded(Limit::Locked));
    assert_eq!(process.vmar.lock(pages(2..5), LockMode::Now), exceeded);
    assert_eq!(process.vmar.lock(pages(0..4), LockMode::OnFault), Ok(()));
    // Holes count, too.
    assert_eq!(process.vmar.lock(pages(7..12), LockMode::Now), exceeded);
    assert_eq!(process.vmar.usage().locked, 4 * PAGE_SIZE);
    assert_eq!(process.vmar.lock_all(LockMode::Now), exceeded);
    process.vmar.unlock(pages(0..2)).unwrap();
    assert_eq!(process.vmar.lock(pages(6..8), LockMode::OnFault), Ok(()));
    process.audit();
}

#[test]
fn v11_locking_stops_at_a_hole_with_the_rest_done() {
    let process = process();
    map(&process, 0..2, RW);
    map(&process, 3..4, RW);
    assert_eq!(process.vmar.lock(pages(1..4), LockMode::OnFault), Err(Error::NotMapped));
    assert_eq!(process.vmar.usage().locked, PAGE_SIZE);
    assert_eq!(process.vmar.unlock(pages(0..4)), Err(Error::NotMapped));
    assert_eq!(process.vmar.usage().locked, 0);
    map(&process, 8..9, VmPerms::empty());
    assert_eq!(process.vmar.lock(pages(8..9), LockMode::Now), Err(Error::AccessDenied));
}

#[test]
fn v11_all_can_be_locked_but_devices() {
    let process = process();
    map(&process, 0..2, RW);
    map(&process, 4..6, NONE);
    let io = SimIoMem::new(2);
    over(&process, 8..10, RW).device(io, 0, CachePolicy::WriteBack).shared().build().unwrap();
    process.vmar.lock_all(LockMode::Now).unwrap();
    assert_eq!(process.vmar.usage().locked, 4 * PAGE_SIZE);
    assert_eq!(process.vmar.rss().total_pages(), 2);
    process.vmar.set_default_flags(MappingFlags::ANY_LOCK);
    let io = SimIoMem::new(1);
    over(&process, 12..13, RW).device(io, 0, CachePolicy::WriteBack).shared().build().unwrap();
    assert_eq!(process.vmar.usage().locked, 4 * PAGE_SIZE);
    process.vmar.unlock_all();
    assert_eq!(process.vmar.usage().locked, 0);
    map(&process, 20..21, RW);
    assert_eq!(process.vmar.usage().locked, 0);
    process.audit();
}

#[test]
fn v11_locking_fails_whole_or_not_at_all() {
    fail_each_allocation(
        |process| map(process, 0..6, RW),
        |process| process.vmar.lock(pages(2..4), LockMode::OnFault),
    );
}
