// SPDX-License-Identifier: MPL-2.0

use super::{super::testing::*, *};
use crate::{
    machine::CachePolicy,
    object::VmoKind,
    perms::VmPerms,
    sim::{PAGE_SIZE, Process, SimIoMem},
};

fn remap(process: &Process, old: Range<usize>, count: usize, target: RemapTarget) -> Result<usize, Error> {
    let result = process.vmar.remap(pages(old), count * PAGE_SIZE, target);
    process.audit();
    result
}

/// Maps and touches anonymous memory.
fn touched(range: Range<usize>) -> Process {
    let process = process();
    map(&process, range.clone(), RW);
    touch(&process, range);
    process
}

/// Returns the first byte of each page, `None` where none can be read.
fn content(process: &Process, range: Range<usize>) -> alloc::vec::Vec<Option<u8>> {
    range.map(|page| process.read_byte(at(page)).ok()).collect()
}

#[test]
fn v14_shrinking_unmaps_the_end_over_mappings_and_holes() {
    let process = touched(0..4);
    assert_eq!(remap(&process, 0..4, 2, RemapTarget::InPlace), Ok(at(0)));
    assert_eq!(pages_and_perms(&process), [(0..2, RW)]);
    map(&process, 3..6, R);
    assert_eq!(remap(&process, 0..5, 1, RemapTarget::MayMove), Ok(at(0)));
    assert_eq!(pages_and_perms(&process), [(0..1, RW), (5..6, R)]);
    assert_eq!(content(&process, 0..2), [Some(1), None]);
}

#[test]
fn v14_the_same_size_changes_nothing() {
    let process = touched(0..4);
    map(&process, 4..6, R);
    let before = snapshot(&process);
    assert_eq!(remap(&process, 0..6, 6, RemapTarget::InPlace), Ok(at(0)));
    assert_eq!(snapshot(&process), before);
}

#[test]
fn v14_growing_in_place_where_there_is_room() {
    let process = touched(0..2);
    assert_eq!(remap(&process, 0..2, 4, RemapTarget::InPlace), Ok(at(0)));
    assert_eq!(content(&process, 0..5), [Some(1), Some(2), Some(0), Some(0), None]);
    map(&process, 6..7, RW);
    assert_eq!(remap(&process, 2..4, 5, RemapTarget::InPlace), Err(Error::NoRoom));
    // Growing up to a neighbour that continues it merges the two.
    assert_eq!(remap(&process, 2..4, 4, RemapTarget::InPlace), Ok(at(2)));
    assert_eq!(pages_and_perms(&process), [(0..7, RW)]);
    // From the middle of a mapping there is no room, whatever follows.
    assert_eq!(remap(&process, 0..2, 3, RemapTarget::InPlace), Err(Error::NoRoom));
}

#[test]
fn v14_moving_takes_the_pages_along() {
    let process = touched(0..4);
    map(&process, 4..5, R);
    let frames = |start: usize| {
        let walk = process.vmar.space().walk();
        let inside = walk.iter().filter(|entry| (start..start + 4 * PAGE_SIZE).contains(&entry.addr));
        inside.map(|entry| entry.frame).collect::<alloc::vec::Vec<_>>()
    };
    let before = frames(at(0));
    let to = remap(&process, 0..4, 6, RemapTarget::MayMove).unwrap();
    assert_ne!(to, at(0));
    assert_eq!(frames(to), before);
    for page in 0..4 {
        assert_eq!(process.read_byte(to + page * PAGE_SIZE), Ok(page as u8 + 1));
        process.write(to + page * PAGE_SIZE, &[9]).unwrap();
    }
    assert_eq!(process.read_byte(to + 5 * PAGE_SIZE), Ok(0));
    assert_eq!(content(&process, 0..4), [None; 4]);
    assert_eq!(process.vmar.machine().live_frames(), 4);
}

#[test]
fn v14_moving_untouched_memory_leaves_the_page_table_alone() {
    let process = process();
    map(&process, 0..100, RW);
    let before = process.vmar.machine().transactions();
    remap(&process, 0..100, 100, RemapTarget::Fixed(at(200))).unwrap();
    assert_eq!(process.vmar.machine().transactions(), before);
    assert_eq!(pages_and_perms(&process), [(200..300, RW)]);
}

#[test]
fn v14_a_part_moves_out_of_its_mapping() {
    let process = touched(0..6);
    assert_eq!(remap(&process, 2..4, 2, RemapTarget::Fixed(at(10))), Ok(at(10)));
    assert_eq!(pages_and_perms(&process), [(0..2, RW), (4..6, RW), (10..12, RW)]);
    assert_eq!(content(&process, 10..12), [Some(3), Some(4)]);
    // And back.
    assert_eq!(remap(&process, 10..12, 2, RemapTarget::Fixed(at(2))), Ok(at(2)));
    assert_eq!(pages_and_perms(&process), [(0..6, RW)]);
    assert_eq!(content(&process, 0..6), [1, 2, 3, 4, 5, 6].map(Some));
}

#[test]
fn v14_a_fixed_target_is_replaced() {
    let process = touched(0..10);
    assert_eq!(remap(&process, 0..2, 3, RemapTarget::Fixed(at(4))), Ok(at(4)));
    assert_eq!(content(&process, 2..8), [3, 4, 1, 2, 0, 8].map(Some));
    assert_eq!(content(&process, 0..2), [None; 2]);
    // Smaller than before: what lies beyond goes.
    assert_eq!(remap(&process, 7..10, 1, RemapTarget::Fixed(at(20))), Ok(at(20)));
    assert_eq!(content(&process, 7..10), [None; 3]);
    assert_eq!(content(&process, 20..22), [Some(8), None]);
    assert_eq!(process.vmar.usage().address_space, 6 * PAGE_SIZE);
}

#[test]
fn v14_moving_objects_keeps_offsets_and_private_copies() {
    let process = process();
    let vmo = object(&process, 8, VmoKind::File);
    over(&process, 0..8, RW).vmo(vmo.dup()).build().unwrap();
    process.read_byte(at(3)).unwrap();
    process.write(at(4), &[0x44]).unwrap();
    assert_eq!(remap(&process, 2..6, 5, RemapTarget::Fixed(at(20))), Ok(at(20)));
    assert_eq!(content(&process, 20..25), [3, 4, 0x44, 6, 7].map(Some));
    let offsets: alloc::vec::Vec<_> = layout(&process).into_iter().map(|seen| seen.offset).collect();
    assert_eq!(offsets, [0, 6 * PAGE_SIZE, 2 * PAGE_SIZE]);
    let mut byte = [0];
    vmo.read_bytes(4 * PAGE_SIZE, &mut byte).unwrap();
    assert_eq!(byte, [5]);
}

#[test]
fn v14_what_moves_or_grows_must_be_one_mapping() {
    let process = touched(0..2);
    map(&process, 2..4, R);
    for target in [RemapTarget::Fixed(at(20)), RemapTarget::DontUnmap(Placement::Anywhere)] {
        assert_eq!(remap(&process, 0..4, 4, target), Err(Error::NotMapped));
        assert_eq!(remap(&process, 0..6, 6, target), Err(Error::NotMapped));
    }
    // There is no room for so much either.
    let rest = at(0)..process.vmar.user_range().end;
    let kept = RemapTarget::DontUnmap(Placement::Anywhere);
    assert_eq!(process.vmar.remap(rest.clone(), rest.len(), kept), Err(Error::NotMapped));
    assert_eq!(remap(&process, 0..4, 5, RemapTarget::MayMove), Err(Error::NotMapped));
    assert_eq!(remap(&process, 8..9, 2, RemapTarget::MayMove), Err(Error::NotMapped));
    assert_eq!(remap(&process, 8..9, 1, RemapTarget::InPlace), Err(Error::NotMapped));
    assert_eq!(pages_and_perms(&process), [(0..2, RW), (2..4, R)]);
}

#[test]
fn v14_the_old_mapping_can_stay_without_its_pages() {
    let process = touched(0..4);
    process.vmar.lock(pages(0..4), super::super::lock::LockMode::Now).unwrap();
    let target = RemapTarget::DontUnmap(Placement::Hint(at(20)));
    assert_eq!(remap(&process, 0..4, 4, target), Ok(at(20)));
    assert_eq!(content(&process, 20..24), [1, 2, 3, 4].map(Some));
    assert_eq!(content(&process, 0..4), [Some(0); 4]);
    assert_eq!(process.vmar.usage().locked, 4 * PAGE_SIZE);
    assert_eq!(remap(&process, 0..4, 5, target), Err(Error::InvalidSize));
}

#[test]
fn v14_an_empty_old_range_maps_a_shared_object_again() {
    let process = process();
    let vmo = object(&process, 4, VmoKind::SharedMemory);
    over(&process, 0..4, RW).vmo(vmo).shared().build().unwrap();
    assert_eq!(remap(&process, 1..1, 2, RemapTarget::Fixed(at(10))), Ok(at(10)));
    process.write(at(10), &[0x77]).unwrap();
    assert_eq!(content(&process, 0..4), [1, 0x77, 3, 4].map(Some));
    assert_eq!(remap(&process, 0..0, 2, RemapTarget::InPlace), Err(Error::NoRoom));
    map(&process, 20..21, RW);
    assert_eq!(remap(&process, 20..20, 1, RemapTarget::MayMove), Err(Error::InvalidSize));
}

#[test]
fn v14_device_mappings_move_but_never_grow() {
    let process = process();
    let io = SimIoMem::new(8);
    io.write(PAGE_SIZE, &[0x11]);
    over(&process, 0..4, RW).device(io, 0, CachePolicy::Uncacheable).shared().build().unwrap();
    for target in [RemapTarget::InPlace, RemapTarget::MayMove, RemapTarget::Fixed(at(20))] {
        assert_eq!(remap(&process, 0..4, 5, target), Err(Error::NotSupported));
    }
    let kept = RemapTarget::DontUnmap(Placement::Anywhere);
    assert_eq!(remap(&process, 0..4, 4, kept), Err(Error::InvalidOptions));
    assert_eq!(remap(&process, 1..3, 2, RemapTarget::Fixed(at(20))), Ok(at(20)));
    assert_eq!(process.read_byte(at(20)), Ok(0x11));
    assert_eq!(process.vmar.space().walk().len(), 4);
}

#[test]
fn v14_bad_arguments_are_refused() {
    let process = touched(0..4);
    let end = process.vmar.user_range().end;
    let remap = |old, size, target| process.vmar.remap(old, size, target);
    let fixed = RemapTarget::Fixed;
    assert_eq!(remap(at(0) + 1..at(1), PAGE_SIZE, fixed(at(9))), Err(Error::InvalidAlignment));
    assert_eq!(remap(pages(0..1), PAGE_SIZE, fixed(at(9) + 1)), Err(Error::InvalidAlignment));
    assert_eq!(remap(pages(0..1), 0, RemapTarget::InPlace), Err(Error::InvalidSize));
    assert_eq!(remap(pages(0..1), 1, RemapTarget::InPlace), Err(Error::InvalidSize));
    assert_eq!(remap(pages(0..2), 2 * PAGE_SIZE, fixed(at(1))), Err(Error::InvalidOptions));
    assert_eq!(remap(pages(1..3), 2 * PAGE_SIZE, fixed(at(0))), Err(Error::InvalidOptions));
    assert_eq!(remap(pages(0..2), 2 * PAGE_SIZE, fixed(end - PAGE_SIZE)), Err(Error::OutOfRange));
    assert_eq!(remap(pages(0..2), 1 << 48, RemapTarget::MayMove), Err(Error::NoRoom));
    assert_eq!(content(&process, 0..4), [1, 2, 3, 4].map(Some));
}

#[test]
fn v11_growth_by_remap_keeps_the_limits() {
    let process = touched(0..4);
    let limits = process.vmar.limits();
    for limit in [Limit::AddressSpace, Limit::Data] {
        limits.set(limit, 5 * PAGE_SIZE);
        let exceeded = Err(Error::LimitExceeded(limit));
        assert_eq!(remap(&process, 0..4, 6, RemapTarget::InPlace), exceeded);
        assert_eq!(remap(&process, 0..4, 6, RemapTarget::Fixed(at(20))), exceeded);
        assert_eq!(remap(&process, 0..4, 4, RemapTarget::DontUnmap(Placement::Anywhere)), exceeded);
        assert_eq!(remap(&process, 0..4, 4, RemapTarget::Fixed(at(20))), Ok(at(20)));
        assert_eq!(remap(&process, 20..24, 4, RemapTarget::Fixed(at(0))), Ok(at(0)));
        limits.set(limit, usize::MAX);
    }
    // What is locked moves with its pages.
    over(&process, 40..44, RW).flags(MappingFlags::LOCKED).build().unwrap();
    limits.set(Limit::Locked, 4 * PAGE_SIZE);
    assert_eq!(remap(&process, 40..44, 4, RemapTarget::DontUnmap(Placement::Hint(at(50)))), Ok(at(50)));
    assert_eq!(process.vmar.usage().locked, 4 * PAGE_SIZE);
    process.vmar.unmap(pages(40..54)).unwrap();
    // What is replaced makes room.
    map(&process, 20..26, RW);
    limits.set(Limit::AddressSpace, 10 * PAGE_SIZE);
    assert_eq!(remap(&process, 0..4, 6, RemapTarget::Fixed(at(20))), Ok(at(20)));
    assert_eq!(remap(&process, 20..26, 4, RemapTarget::Fixed(at(0))), Ok(at(0)));
    process.vmar.lock(pages(0..4), super::super::lock::LockMode::Now).unwrap();
    limits.set(Limit::Locked, 5 * PAGE_SIZE);
    let exceeded = Err(Error::LimitExceeded(Limit::Locked));
    assert_eq!(remap(&process, 0..4, 6, RemapTarget::MayMove), exceeded);
    assert_eq!(remap(&process, 0..4, 5, RemapTarget::MayMove), Ok(at(0)));
    assert_eq!(process.vmar.rss().total_pages(), 5);
}

#[test]
fn v14_moves_fail_whole_or_not_at_all() {
    fn prepare(process: &Process) {
        map(process, 0..6, RW);
        touch(process, 0..6);
        over(process, 10..16, RW).vmo(object(process, 6, VmoKind::File)).build().unwrap();
        touch(process, 10..13);
        process.read_byte(at(14)).unwrap();
        map(process, 20..30, VmPerms::READ);
    }
    let move_to = |old: Range<usize>, count: usize, target| {
        fail_each_allocation(prepare, |process| {
            process.vmar.remap(pages(old.clone()), count * PAGE_SIZE, target).map(|_| ())
        })
    };
    assert!(move_to(1..4, 3, RemapTarget::Fixed(at(22))) > 1);
    assert!(move_to(11..15, 4, RemapTarget::Fixed(at(2))) > 1);
    assert!(move_to(1..4, 6, RemapTarget::MayMove) > 1);
    assert!(move_to(11..15, 4, RemapTarget::DontUnmap(Placement::Anywhere)) > 1);
    move_to(0..6, 8, RemapTarget::InPlace);
}
