// SPDX-License-Identifier: MPL-2.0

use alloc::{vec, vec::Vec};

use super::*;
use crate::{
    fallible::inject,
    machine::CachePolicy,
    object::{Anonymous, ElfImage, Reservation, Reserve, Segment, VmoKind, page_map::PageMap},
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim, SimIoMem},
    vmar::{fault::FaultError, populate::Populate},
};

const BASE: usize = 0x100_0000;
const R: VmPerms = VmPerms::READ;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

fn at(page: usize) -> usize {
    BASE + page * PAGE_SIZE
}

fn spaces() -> (Sim, [Process; 2]) {
    let sim = Sim::new(2);
    let processes = [0, 1].map(|cpu| Process::new(&sim, cpu).unwrap());
    (sim, processes)
}

fn map_anonymous(process: &Process, pages: usize, perms: VmPerms) {
    let at = Placement::Exactly(BASE);
    process.vmar.new_map(pages * PAGE_SIZE).perms(perms).placement(at).build().unwrap();
}

/// Maps an area that another space shares.
fn map_shared(process: &Process, area: SharedArea<Sim>, perms: VmPerms) -> Result<usize, Error> {
    let map = process.vmar.new_map(area.size).perms(perms).vmo(area.vmo).vmo_offset(area.offset);
    map.shared().placement(Placement::Exactly(BASE)).build()
}

/// The number of the frame that is mapped at a page, and how many hold it.
fn frame_at(process: &Process, page: usize) -> Option<(u64, usize)> {
    let entries = process.vmar.space().walk();
    entries.iter().find(|entry| entry.addr == at(page)).map(|entry| (entry.frame.unwrap(), entry.holders))
}

#[test]
fn h6_the_shared_map_of_pages_is_asked_first() {
    let (sim, [first, second]) = spaces();
    map_anonymous(&first, 3, RW);
    first.write(at(1), &[7]).unwrap();
    let (frame, _) = frame_at(&first, 1).unwrap();
    let area = first.vmar.share(at(0)..at(3), RW).unwrap();
    map_shared(&second, area, RW).unwrap();
    // A hit is one more holder of the very frame; what nobody has is found by whoever comes first.
    assert_eq!(first.read_byte(at(1)), Ok(7));
    let (found, holders) = frame_at(&first, 1).unwrap();
    assert_eq!(found, frame);
    assert_eq!(second.read_byte(at(1)), Ok(7));
    assert_eq!(frame_at(&second, 1), Some((frame, holders + 1)));
    second.write(at(2), &[8]).unwrap();
    assert_eq!((first.read_byte(at(2)), sim.live_frames()), (Ok(8), 2));
    first.audit();
    second.audit();
}

#[test]
fn h6_frame_number_zero_is_a_hit_like_any_other() {
    let mut map = PageMap::new();
    map.insert(5, 0_u64).unwrap();
    assert_eq!((map.get(5), map.get(4), map.next(0), map.len()), (Some(&0), None, Some((5, &0)), 1));
    assert_eq!(map.remove_range(5..6), 1);
    assert_eq!(map.get(5), None);
}

/// A segment of two pages of the file, one mixed, one of zeros.
fn segment(sim: &Sim, process: &Process, perms: VmPerms) -> Vec<u64> {
    let file = Vmo::new(sim, 4 * PAGE_SIZE, VmoKind::File).unwrap();
    file.write_bytes(0, &[9; 4 * PAGE_SIZE]).unwrap();
    let frames = (0..3).map(|page| file.commit(page).unwrap().id()).collect();
    let segment = Segment::new(0, 0, 2 * PAGE_SIZE + 1, 4 * PAGE_SIZE);
    let segment = ElfImage::new(file).unwrap().segment(&segment).unwrap();
    let map = process.vmar.new_map(segment.size).perms(perms).vmo(segment.vmo).vmo_offset(segment.offset);
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    frames
}

#[test]
fn h7_a_writable_area_publishes_every_page_in_use() {
    let (sim, [first, second]) = spaces();
    let file_frames = segment(&sim, &first, RW);
    first.write(at(0), &[1]).unwrap();
    assert_eq!(first.read_byte(at(1)), Ok(9));
    first.write(at(3), &[3]).unwrap();
    let own = [0, 3].map(|page| frame_at(&first, page).unwrap().0);
    let area = first.vmar.share(at(0)..at(4), RW).unwrap();
    let published: Vec<_> = {
        let mut pages = Vec::new();
        let vmo: Vmo<Sim, TRightSet<aster_rights::FullRights>> =
            area.vmo.duplicate(Rights::all()).require().unwrap();
        (0..4).for_each(|page| pages.extend(vmo.page(page).map(|frame| (page, frame.id()))));
        pages
    };
    assert_eq!(published.iter().map(|(page, _)| *page).collect::<Vec<_>>(), [0, 1, 3]);
    assert_eq!((published[0].1, published[2].1), (own[0], own[1]), "its own pages are published as they are");
    assert_ne!(published[1].1, file_frames[1], "the image's are published as copies");
    map_shared(&second, area, RW).unwrap();
    for process in [&first, &second] {
        let bytes = [0, 1, 2, 3].map(|page| process.read(at(page), 2).unwrap());
        assert_eq!(bytes, [vec![1, 9], vec![9, 9], vec![9, 0], vec![3, 0]]);
    }
    second.write(at(1), &[5]).unwrap();
    second.write(at(2), &[6]).unwrap();
    assert_eq!((first.read_byte(at(1)), first.read_byte(at(2))), (Ok(5), Ok(6)));
    first.audit();
    second.audit();
    drop((first, second));
    sim.assert_no_leaks();
}

#[test]
fn h7_a_read_only_area_publishes_only_what_is_not_the_images() {
    let (sim, [first, second]) = spaces();
    let file_frames = segment(&sim, &first, R);
    for page in 0..4 {
        first.read_byte(at(page)).unwrap();
    }
    let frames = [0, 1, 2, 3].map(|page| frame_at(&first, page).unwrap().0);
    assert_eq!(frames[..2], file_frames[..2]);
    let before = sim.live_frames();
    let area = first.vmar.share(at(0)..at(4), R).unwrap();
    assert_eq!(area.vmo.resident_count(), 2, "the mixed page and that of zeros");
    map_shared(&second, area, R).unwrap();
    for (page, frame) in frames.into_iter().enumerate() {
        assert_eq!(second.read_byte(at(page)), first.read_byte(at(page)));
        assert_eq!(frame_at(&second, page).unwrap().0, frame);
    }
    assert_eq!(sim.live_frames(), before, "nothing is copied");
    assert_eq!(second.write(at(0), &[1]), Err(FaultError::NoPermission));
    let protect = |process: &Process| process.vmar.protect(at(0)..at(4), RW);
    assert_eq!((protect(&first), protect(&second)), (Err(Error::AccessDenied), Err(Error::AccessDenied)));
    first.audit();
    second.audit();
    // A page that a debugger has written is the area's own.
    let (sim, [first, second]) = spaces();
    segment(&sim, &first, R);
    first.read_byte(at(1)).unwrap();
    first.vmar.write_bytes_forced(at(0), &[4]).unwrap();
    let area = first.vmar.share(at(0)..at(4), R).unwrap();
    assert_eq!(area.vmo.resident_count(), 1);
    map_shared(&second, area, R).unwrap();
    let bytes = [0, 1, 2, 3].map(|page| second.read_byte(at(page)).unwrap());
    assert_eq!(bytes, [4, 9, 9, 0]);
    assert_eq!((first.read_byte(at(0)), first.read_byte(at(1))), (Ok(4), Ok(9)));
    first.audit();
    second.audit();
}

#[test]
fn h12_sharing_wants_the_size_and_gives_no_more_than_there_is() {
    let (sim, [first, second]) = spaces();
    map_anonymous(&first, 4, R);
    let share = |area: Range<usize>, perms| first.vmar.share(area, perms).map(drop);
    assert_eq!(share(at(0)..at(3), R), Err(Error::InvalidSize));
    assert_eq!(share(at(1)..at(4), R), Err(Error::InvalidSize));
    assert_eq!(share(at(0)..at(5), R), Err(Error::InvalidSize));
    assert_eq!(share(at(4)..at(5), R), Err(Error::NotMapped));
    assert_eq!(share(at(0)..at(4), RW), Err(Error::NotPermitted));
    assert_eq!(share(at(0)..at(4), R | VmPerms::EXEC), Err(Error::NotPermitted));
    assert!(first.vmar.query(at(0)..at(4)).iter().all(|info| !info.is_shared()), "nothing has changed");
    let area = first.vmar.share(at(0)..at(4), R).unwrap();
    assert_eq!(area.size, 4 * PAGE_SIZE);
    // What was not given cannot be taken later either.
    assert_eq!(
        map_shared(&second, SharedArea { vmo: area.vmo.duplicate(area.vmo.rights()), ..area }, RW),
        Err(Error::AccessDenied)
    );
    map_shared(&second, area, R).unwrap();
    assert_eq!(second.vmar.protect(at(0)..at(4), RW), Err(Error::AccessDenied));
    // A shared area is shared again, by another at another address.
    let again = second.vmar.share(at(0)..at(4), R).unwrap();
    let third = Process::new(&sim, 0).unwrap();
    let elsewhere = third.vmar.new_map(again.size).read().vmo(again.vmo).vmo_offset(again.offset).shared();
    let elsewhere = elsewhere.build().unwrap();
    first.vmar.protect(at(0)..at(4), RW).unwrap();
    first.write(at(2), &[6]).unwrap();
    assert_eq!((third.read_byte(elsewhere + 2 * PAGE_SIZE), second.read_byte(at(2))), (Ok(6), Ok(6)));
    [&first, &second, &third].into_iter().for_each(Process::audit);
}

#[test]
fn h12_what_cannot_be_shared_is_refused() {
    let (sim, [process, _]) = spaces();
    let reserve = Arc::new(Reserve::new(1));
    let late = Anonymous::new(sim.clone(), reserve, Reservation::AtTouch);
    let late = Vmo::with_source(&sim, PAGE_SIZE, VmoKind::SharedMemory, late).unwrap();
    let map = || process.vmar.new_map(PAGE_SIZE).perms(RW);
    let refused = [
        map().vmo(late).build().unwrap(),
        map().device(SimIoMem::new(1), 0, CachePolicy::Uncacheable).shared().build().unwrap(),
        map().flags(MappingFlags::GROWS_DOWN).build().unwrap(),
    ];
    for start in refused {
        let result = process.vmar.share(start..start + PAGE_SIZE, R);
        assert_eq!(result.map(drop), Err(Error::NotSupported));
    }
    process.audit();
}

#[test]
fn h12_pages_that_others_hold_too_are_copied() {
    const PAGES: usize = if cfg!(miri) { 6 } else { 40 };
    let (sim, [first, second]) = spaces();
    map_anonymous(&first, PAGES, RW);
    first.vmar.populate(at(0)..at(PAGES), Populate::Write).unwrap();
    first.write(at(1), &[1]).unwrap();
    // Both ways to fork: what is shared copy-on-write, and what is borrowed.
    for policy in [crate::vmar::ForkPolicy::Copy, crate::vmar::ForkPolicy::Backup] {
        first.vmar.set_fork_policy(policy);
        let child = first.fork_on(1).unwrap();
        let area = child.vmar.share(at(0)..at(PAGES), RW).unwrap();
        map_shared(&second, area, RW).unwrap();
        second.write(at(1), &[2]).unwrap();
        assert_eq!((first.read_byte(at(1)), child.read_byte(at(1))), (Ok(1), Ok(2)));
        first.write(at(2), &[3]).unwrap();
        assert_eq!((second.read_byte(at(2)), child.read_byte(at(2))), (Ok(0), Ok(0)));
        [&first, &second, &child].into_iter().for_each(Process::audit);
        drop(child);
        second.vmar.unmap(at(0)..at(PAGES)).unwrap();
        sim.quiesce();
        assert_eq!(sim.live_frames(), PAGES);
        first.vmar.populate(at(0)..at(PAGES), Populate::Write).unwrap();
        first.write(at(2), &[0]).unwrap();
    }
}

#[test]
fn h12_every_allocation_of_sharing_fails_in_turn() {
    for nth in inject::in_turn() {
        let (sim, [first, second]) = spaces();
        segment(&sim, &first, RW);
        first.write(at(0), &[1]).unwrap();
        first.read_byte(at(1)).unwrap();
        let frames = sim.live_frames();
        let failing = inject::fail_nth(nth);
        let shared = first.vmar.share(at(0)..at(4), RW);
        let has_failed = failing.has_failed();
        drop(failing);
        first.audit();
        assert_eq!((first.read_byte(at(0)), first.read_byte(at(1))), (Ok(1), Ok(9)));
        match shared {
            Ok(area) => {
                assert!(!has_failed);
                assert!(nth > 6, "only {nth} allocations have failed");
                map_shared(&second, area, RW).unwrap();
                return;
            }
            Err(error) => assert_eq!(error, Error::OutOfMemory),
        }
        assert_eq!(sim.live_frames(), frames);
        assert!(first.vmar.query(at(0)..at(4)).iter().all(|info| !info.is_shared()));
    }
}
