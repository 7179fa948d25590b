// SPDX-License-Identifier: MPL-2.0

use alloc::vec::Vec;

use super::{super::testing::*, *};
use crate::{
    machine::CachePolicy,
    object::VmoKind,
    sim::{PAGE_SIZE, SimIoMem},
};

#[test]
fn v19_query_walks_the_mappings_of_a_range() {
    let process = process();
    map(&process, 0..2, RW);
    map(&process, 4..6, R);
    let vmo = object(&process, 4, VmoKind::File);
    over(&process, 6..8, RX).vmo(vmo).vmo_offset(PAGE_SIZE).shared().build().unwrap();
    let walk = |range| {
        let guard = process.vmar.query(pages(range));
        guard.iter().map(|info| (info.range().start - at(0)) / PAGE_SIZE).collect::<Vec<_>>()
    };
    assert_eq!(walk(0..8), [0, 4, 6]);
    assert_eq!(walk(1..5), [0, 4]);
    assert_eq!(walk(2..4), []);
    assert_eq!(walk(7..9), [6]);

    let guard = process.vmar.query(pages(6..7));
    let info = guard.first().unwrap();
    assert_eq!(info.range(), pages(6..8));
    assert_eq!(info.perms(), RX | VmPerms::MAY);
    assert!(info.is_shared());
    assert_eq!(info.offset(), PAGE_SIZE);
    assert!(matches!(info.memory(), MappedMemory::Vmo { .. }));
    assert!(info.mappable().is_none());
    assert_eq!(info.flags(), MappingFlags::empty());
    drop(guard);

    assert!(process.vmar.query(pages(4..8)).is_fully_mapped());
    assert!(!process.vmar.query(pages(0..8)).is_fully_mapped());
    assert!(!process.vmar.query(pages(7..9)).is_fully_mapped());
}

#[test]
fn v19_nothing_is_mapped_or_unmapped_under_the_guard_but_faults_go_on() {
    let process = process();
    map(&process, 0..4, RW);
    let guard = process.vmar.query(pages(0..4));
    std::thread::scope(|scope| {
        scope.spawn(|| process.write(at(1), &[1])).join().unwrap().unwrap();
        assert_eq!(guard.first().unwrap().count_pages().resident, 1);
        let unmapping = scope.spawn(|| process.vmar.unmap(pages(0..4)));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(guard.iter().count(), 1);
        drop(guard);
        unmapping.join().unwrap().unwrap();
    });
    assert_eq!(process.vmar.query(pages(0..4)).iter().count(), 0);
}

#[test]
fn v19_pages_are_counted_by_what_they_are() {
    let process = process();
    let vmo = object(&process, 8, VmoKind::File);
    let count = |page: usize| process.vmar.query(at(page)..at(page) + 1).first().unwrap().count_pages();
    map(&process, 0..4, RW);
    assert_eq!(count(0), PageCounts::default());
    touch(&process, 0..2);
    process.read_byte(at(3)).unwrap();
    let own = PageCounts {
        resident: 2,
        anonymous: 2,
        private_dirty: 2,
        referenced: 2,
        share: 2 * PAGE_SIZE,
        dirty_share: 2 * PAGE_SIZE,
        ..PageCounts::default()
    };
    // The frame of zeros counts for nothing.
    assert_eq!(count(0), own);
    let child = process.fork_on(1).unwrap();
    let shared =
        PageCounts { private_dirty: 0, shared_dirty: 2, share: PAGE_SIZE, dirty_share: PAGE_SIZE, ..own };
    assert_eq!(count(0), shared);
    drop(child);
    assert_eq!(count(0), own);

    over(&process, 10..14, RW).vmo(vmo.dup()).build().unwrap();
    process.read_byte(at(10)).unwrap();
    process.write(at(11), &[1]).unwrap();
    let counts = count(10);
    assert_eq!((counts.resident, counts.anonymous), (2, 1));
    assert_eq!((counts.private_clean, counts.private_dirty), (1, 1));
    // A second mapping of the page that the object has.
    over(&process, 20..21, R).vmo(vmo).build().unwrap();
    process.read_byte(at(20)).unwrap();
    assert_eq!((count(10).shared_clean, count(10).private_dirty), (1, 1));
    assert_eq!(count(20).shared_clean, 1);

    let io = SimIoMem::new(1);
    over(&process, 30..31, RW).device(io, 0, CachePolicy::WriteBack).shared().build().unwrap();
    assert_eq!(count(30), PageCounts::default());
}
