// SPDX-License-Identifier: MPL-2.0

use alloc::{sync::Arc, vec, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use aster_rights::TRights;

use super::{
    super::{FullVmar, advise::Advice},
    *,
};
use crate::{
    limits::Limits,
    machine::Frame,
    mapping::Sharing,
    object::{Pager, Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    rss::RssKind,
    sim::{PAGE_SIZE, Process, Sim, SimFrame},
};

const BASE: usize = 0x100_0000;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

fn process() -> (Sim, Process) {
    let sim = Sim::new(2);
    let process = Process::new(&sim, 0).unwrap();
    (sim, process)
}

fn map_anonymous(process: &Process, pages: usize, perms: VmPerms) {
    let at = Placement::Exactly(BASE);
    process.vmar.new_map(pages * PAGE_SIZE).perms(perms).placement(at).build().unwrap();
}

fn object(sim: &Sim, pages: usize, kind: VmoKind) -> Vmo<Sim, TRightSet<aster_rights::FullRights>> {
    let vmo = Vmo::new(sim, pages * PAGE_SIZE, kind).unwrap();
    for page in 0..pages {
        vmo.write_bytes(page * PAGE_SIZE, &[page as u8 + 1]).unwrap();
    }
    vmo
}

/// A pager that fills each page with its index, or fails from a page on.
#[derive(Debug, Default)]
struct TestPager {
    reads: AtomicUsize,
    writes: AtomicUsize,
    fails_from: usize,
}

impl Pager<Sim> for TestPager {
    fn read_page(&self, index: usize, frame: &SimFrame) -> Result<(), Error> {
        self.reads.fetch_add(1, SeqCst);
        if index >= self.fails_from {
            return Err(Error::NotSupported);
        }
        frame.write(0, &[index as u8; PAGE_SIZE]);
        Ok(())
    }

    fn note_write(&self, _index: usize) {
        self.writes.fetch_add(1, SeqCst);
    }
}

#[test]
fn v15_first_read_of_anonymous_memory_maps_the_frame_of_zeros() {
    let (sim, process) = process();
    map_anonymous(&process, 4, RW);
    assert_eq!(process.read(BASE + 5, 3), Ok(vec![0; 3]));
    assert_eq!(sim.live_frames(), 0);
    assert_eq!(process.vmar.rss().total_pages(), 0);
    process.write(BASE + 5, &[7]).unwrap();
    assert_eq!(process.read(BASE + 4, 3), Ok(vec![0, 7, 0]));
    assert_eq!(sim.live_frames(), 1);
    assert_eq!(process.vmar.rss().pages(RssKind::Anonymous), 1);
    process.audit();
}

#[test]
fn v15_first_write_of_anonymous_memory_is_one_frame_and_one_transaction() {
    let (sim, process) = process();
    map_anonymous(&process, 4, RW);
    let before = sim.transactions();
    process.write(BASE + PAGE_SIZE, &[1]).unwrap();
    assert_eq!(sim.transactions() - before, 1);
    assert_eq!(sim.live_frames(), 1);
    assert_eq!(process.read_byte(BASE + PAGE_SIZE), Ok(1));
    process.audit();
}

#[test]
fn v15_where_nothing_is_mapped_or_allowed_is_a_segmentation_fault() {
    let (_sim, process) = process();
    map_anonymous(&process, 1, VmPerms::READ);
    assert_eq!(process.read_byte(BASE - 1), Err(FaultError::NotMapped));
    assert_eq!(process.read_byte(BASE + PAGE_SIZE), Err(FaultError::NotMapped));
    assert_eq!(process.write(BASE, &[1]), Err(FaultError::NoPermission));
    assert_eq!(process.fetch_byte(BASE), Err(FaultError::NoPermission));
    assert_eq!(process.read_byte(BASE), Ok(0));
    process.vmar.protect(BASE..BASE + PAGE_SIZE, VmPerms::empty()).unwrap();
    assert_eq!(process.read_byte(BASE), Err(FaultError::NoPermission));
    process.audit();
}

#[test]
fn v15_a_spurious_fault_is_harmless() {
    let (sim, process) = process();
    map_anonymous(&process, 1, RW);
    process.write(BASE, &[1]).unwrap();
    let entries = process.vmar.space().walk();
    for access in [Access::Read, Access::Write] {
        process.vmar.handle_page_fault(BASE + 9, access).unwrap();
    }
    assert_eq!(process.vmar.space().walk(), entries);
    assert_eq!(sim.live_frames(), 1);
}

#[test]
fn v15_what_protect_grants_is_found_by_the_fault() {
    let (sim, process) = process();
    map_anonymous(&process, 2, RW);
    process.write(BASE, &[1]).unwrap();
    for perms in [VmPerms::empty(), VmPerms::READ, VmPerms::EXEC, RW, RW | VmPerms::EXEC] {
        process.vmar.protect(BASE..BASE + 2 * PAGE_SIZE, perms).unwrap();
        let allowed = perms.page_flags();
        assert_eq!(process.read_byte(BASE).is_ok(), allowed.contains(PageFlags::READ));
        assert_eq!(process.fetch_byte(BASE).is_ok(), allowed.contains(PageFlags::EXEC));
        assert_eq!(process.write(BASE, &[2]).is_ok(), allowed.contains(PageFlags::WRITE));
        process.audit();
    }
    assert_eq!(sim.live_frames(), 1);
}

#[test]
fn v15_a_private_mapping_copies_the_page_it_writes() {
    let (sim, process) = process();
    let vmo = object(&sim, 4, VmoKind::File);
    let map = process.vmar.new_map(4 * PAGE_SIZE).perms(RW).vmo(vmo.dup());
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    assert_eq!(process.read_byte(BASE), Ok(1));
    process.write(BASE, &[100]).unwrap();
    process.write(BASE + PAGE_SIZE + 1, &[101]).unwrap();
    assert_eq!(process.read(BASE, 2), Ok(vec![100, 0]));
    assert_eq!(process.read(BASE + PAGE_SIZE, 2), Ok(vec![2, 101]));
    let mut byte = [0; 2];
    vmo.read_bytes(0, &mut byte).unwrap();
    assert_eq!(byte, [1, 0]);
    // The object's page was mapped, then replaced.
    assert_eq!(process.vmar.rss().pages(RssKind::File), 0);
    assert_eq!(process.vmar.rss().pages(RssKind::Anonymous), 2);
    process.audit();
}

#[test]
fn v15_a_shared_mapping_writes_to_the_object() {
    let (sim, process) = process();
    let vmo = object(&sim, 2, VmoKind::SharedMemory);
    let map = process.vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared();
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    process.write(BASE + 1, &[50]).unwrap();
    let mut bytes = [0; 2];
    vmo.read_bytes(0, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 50]);
    vmo.write_bytes(PAGE_SIZE, &[60]).unwrap();
    assert_eq!(process.read_byte(BASE + PAGE_SIZE), Ok(60));
    assert_eq!(process.vmar.rss().pages(RssKind::SharedMemory), 2);
    process.audit();
}

#[test]
fn v15_neighbours_in_memory_are_mapped_in_the_same_transaction() {
    let (sim, process) = process();
    let vmo = object(&sim, 40, VmoKind::File);
    vmo.decommit(6 * PAGE_SIZE..7 * PAGE_SIZE).unwrap();
    let map = process.vmar.new_map(40 * PAGE_SIZE).read().vmo(vmo.dup()).fault_around();
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    let mapped = || -> Vec<_> {
        process.vmar.space().walk().iter().map(|entry| (entry.addr - BASE) / PAGE_SIZE).collect()
    };
    let before = sim.transactions();
    assert_eq!(process.read_byte(BASE + 5 * PAGE_SIZE), Ok(6));
    assert_eq!(sim.transactions() - before, 1);
    // The four pages that it is one of, but for the hole.
    assert_eq!(mapped(), [4, 5, 7]);
    assert_eq!(process.vmar.rss().pages(RssKind::File), 3);
    // Where some of the four are there already, no more than the page itself.
    vmo.write_bytes(6 * PAGE_SIZE, &[60]).unwrap();
    assert_eq!(process.read_byte(BASE + 6 * PAGE_SIZE), Ok(60));
    assert_eq!(mapped(), [4, 5, 6, 7]);
    // Somebody goes on where what was mapped ends: the rest of the block of 32.
    let before = sim.transactions();
    assert_eq!(process.read_byte(BASE + 8 * PAGE_SIZE), Ok(9));
    assert_eq!(sim.transactions() - before, 1);
    assert_eq!(mapped(), (4..32).collect::<Vec<_>>());
    assert_eq!(process.vmar.rss().pages(RssKind::File), 28);
    assert_eq!(process.read_byte(BASE + 39 * PAGE_SIZE), Ok(40));
    process.audit();
}

#[test]
fn v15_few_zeros_are_mapped_behind_the_page_where_pages_are() {
    let (_sim, process) = process();
    let mapped = || -> Vec<_> {
        process.vmar.space().walk().iter().map(|entry| (entry.addr - BASE) / PAGE_SIZE).collect()
    };
    map_anonymous(&process, 32, RW);
    process.write(BASE + 3 * PAGE_SIZE, &[1]).unwrap();
    assert_eq!(process.read_byte(BASE + 5 * PAGE_SIZE), Ok(0));
    assert_eq!(mapped(), [3, 5, 6, 7, 8]);
    assert_eq!(process.read_byte(BASE + PAGE_SIZE), Ok(0));
    assert_eq!(mapped(), [1, 2, 3, 5, 6, 7, 8]);
    assert_eq!(process.read_byte(BASE + 4 * PAGE_SIZE), Ok(0));
    assert_eq!(mapped(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(process.read_byte(BASE + 20 * PAGE_SIZE), Ok(0));
    assert_eq!(process.vmar.space().walk().len(), 8 + 16);
    process.audit();
}

#[test]
fn v15_zeros_are_mapped_across_small_mappings() {
    let (_sim, process) = process();
    let small = |pages: Range<usize>, perms| {
        let at = Placement::Exactly(BASE + pages.start * PAGE_SIZE);
        process.vmar.new_map(pages.len() * PAGE_SIZE).perms(perms).placement(at).build().unwrap();
    };
    small(0..2, RW);
    small(2..3, VmPerms::READ);
    small(4..6, VmPerms::empty());
    small(6..8, RW);
    small(14..18, VmPerms::READ);
    process.write(BASE + 6 * PAGE_SIZE, &[1]).unwrap();
    assert_eq!(process.read_byte(BASE + 2 * PAGE_SIZE), Ok(0));
    let entries = process.vmar.space().walk();
    let mapped: Vec<_> = entries.iter().map(|entry| (entry.addr - BASE) / PAGE_SIZE).collect();
    assert_eq!(mapped, [0, 1, 2, 6, 7, 14, 15]);
    let accessed: Vec<_> =
        entries.iter().filter(|entry| entry.props.flags.contains(PageFlags::ACCESSED)).collect();
    assert_eq!(accessed.len(), 2, "the page that was written, and the one that was read");
    assert_eq!(process.vmar.rss().total_pages(), 1);
    assert_eq!(process.read_byte(BASE + 5 * PAGE_SIZE), Err(FaultError::NoPermission));
    process.write(BASE + PAGE_SIZE, &[1]).unwrap();
    assert_eq!(process.write(BASE + 14 * PAGE_SIZE, &[1]), Err(FaultError::NoPermission));
    process.audit();
}

#[test]
fn v15_random_reads_map_nothing_ahead() {
    let (_sim, process) = process();
    map_anonymous(&process, 32, RW);
    let page = 8 * PAGE_SIZE;
    process.vmar.advise(BASE + page..BASE + 2 * page, Advice::Random).unwrap();
    assert_eq!(process.read_byte(BASE + page + PAGE_SIZE), Ok(0));
    assert_eq!(process.vmar.space().walk().len(), 1);
    process.audit();
}

#[test]
fn v15_past_the_end_of_the_object_is_a_bus_error() {
    let (sim, process) = process();
    let vmo = object(&sim, 2, VmoKind::File);
    vmo.resize(PAGE_SIZE + 1).unwrap();
    for sharing in [Sharing::Private, Sharing::Shared] {
        let map = process.vmar.new_map(4 * PAGE_SIZE).perms(RW).vmo(vmo.dup());
        let map = if sharing == Sharing::Shared { map.shared() } else { map };
        map.placement(Placement::Replacing(BASE)).build().unwrap();
        assert_eq!(process.read_byte(BASE + 2 * PAGE_SIZE - 1), Ok(0));
        assert_eq!(process.read_byte(BASE + 2 * PAGE_SIZE), Err(FaultError::BusError));
        assert_eq!(process.write(BASE + 3 * PAGE_SIZE, &[1]), Err(FaultError::BusError));
        process.audit();
    }
}

#[test]
fn v15_truncation_takes_pages_away_private_copies_too() {
    let (sim, process) = process();
    let vmo = object(&sim, 4, VmoKind::File);
    let map = process.vmar.new_map(4 * PAGE_SIZE).perms(RW).vmo(vmo.dup());
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    for page in 0..4 {
        process.write(BASE + page * PAGE_SIZE + 8, &[9]).unwrap();
    }
    vmo.resize(2 * PAGE_SIZE - 1).unwrap();
    process.audit();
    assert_eq!(process.read_byte(BASE + 2 * PAGE_SIZE), Err(FaultError::BusError));
    assert_eq!(process.read_byte(BASE + 8), Ok(9));
    vmo.resize(4 * PAGE_SIZE).unwrap();
    assert_eq!(process.read(BASE + 2 * PAGE_SIZE, 9), Ok(vec![0; 9]));
    process.audit();
    drop(vmo);
    drop(process);
    sim.assert_no_leaks();
}

#[test]
fn v15_a_hole_leaves_private_copies() {
    let (sim, process) = process();
    let vmo = object(&sim, 3, VmoKind::File);
    let map = process.vmar.new_map(3 * PAGE_SIZE).perms(RW).vmo(vmo.dup());
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    process.write(BASE + PAGE_SIZE, &[9]).unwrap();
    assert_eq!(process.read_byte(BASE), Ok(1));
    vmo.decommit(0..2 * PAGE_SIZE).unwrap();
    assert_eq!(process.read_byte(BASE), Ok(0));
    assert_eq!(process.read_byte(BASE + PAGE_SIZE), Ok(9));
    process.audit();
}

#[test]
fn v15_a_pager_is_asked_once_and_without_the_lock() {
    let (sim, process) = process();
    let pager = Arc::new(TestPager { fails_from: 3, ..TestPager::default() });
    let vmo = Vmo::with_pager(&sim, 4 * PAGE_SIZE, VmoKind::File, pager.clone()).unwrap();
    let map = process.vmar.new_map(4 * PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared().fault_around();
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    assert_eq!(process.read_byte(BASE + 2 * PAGE_SIZE), Ok(2));
    assert_eq!(process.read_byte(BASE + 2 * PAGE_SIZE), Ok(2));
    assert_eq!((pager.reads.load(SeqCst), pager.writes.load(SeqCst)), (1, 0));
    // The first write faults once more, so that the pager knows.
    process.write(BASE + 2 * PAGE_SIZE, &[9]).unwrap();
    assert_eq!((pager.reads.load(SeqCst), pager.writes.load(SeqCst)), (1, 1));
    assert_eq!(process.read_byte(BASE + 3 * PAGE_SIZE), Err(FaultError::BusError));
    process.audit();
}

#[test]
fn v15_a_stack_grows_down_to_the_fault() {
    let (_sim, process) = process();
    let stack = process.vmar.new_map(2 * PAGE_SIZE).perms(RW).flags(MappingFlags::GROWS_DOWN);
    let top = BASE + 1024 * PAGE_SIZE;
    stack.placement(Placement::Exactly(top - 2 * PAGE_SIZE)).build().unwrap();
    process.write(top - 10 * PAGE_SIZE, &[1]).unwrap();
    assert_eq!(process.vmar.usage().stack, 10 * PAGE_SIZE);
    process.vmar.limits().set(crate::error::Limit::Stack, 20 * PAGE_SIZE);
    assert_eq!(process.write(top - 21 * PAGE_SIZE, &[1]), Err(FaultError::NotMapped));
    process.write(top - 20 * PAGE_SIZE, &[1]).unwrap();
    process.vmar.limits().set(crate::error::Limit::Stack, usize::MAX);
    // A gap to what is mapped below stays.
    map_anonymous(&process, 1, RW);
    let lowest = BASE + PAGE_SIZE + 256 * PAGE_SIZE;
    assert_eq!(process.write(lowest - 1, &[1]), Err(FaultError::NotMapped));
    process.write(lowest, &[1]).unwrap();
    process.audit();
}

#[test]
fn v15_lack_of_memory_is_told_apart_and_changes_nothing() {
    let (sim, process) = process();
    map_anonymous(&process, 4, RW);
    process.write(BASE, &[1]).unwrap();
    sim.set_frame_limit(1);
    assert_eq!(process.write(BASE + PAGE_SIZE, &[1]), Err(FaultError::OutOfMemory));
    process.audit();
    sim.set_frame_limit(2);
    process.write(BASE + PAGE_SIZE, &[1]).unwrap();
    process.audit();
}

#[test]
fn v15_a_fault_needs_the_right_to_read() {
    let sim = Sim::new(1);
    let vmar = FullVmar::new(sim, Limits::new()).unwrap().to_dynamic().restrict(aster_rights::Rights::WRITE);
    assert_eq!(vmar.unwrap().require::<TRights![Read]>().err(), Some(Error::AccessDenied));
}

#[test]
fn r12_a_fault_is_told_apart_before_it_is_served() {
    let (sim, process) = process();
    map_anonymous(&process, 1, VmPerms::READ);
    process.read_byte(BASE).unwrap();
    let before = (sim.transactions(), sim.live_frames());
    // Nothing is mapped; there is a page, but no permission; there is neither.
    assert_eq!(process.vmar.handle_page_fault(BASE + PAGE_SIZE, Access::Read), Err(FaultError::NotMapped));
    assert_eq!(process.vmar.handle_page_fault(BASE, Access::Write), Err(FaultError::NoPermission));
    assert_eq!(process.vmar.handle_page_fault(BASE, Access::Exec), Err(FaultError::NoPermission));
    assert_eq!((sim.transactions(), sim.live_frames()), before, "the page table was asked");
    // There is permission, and no page.
    process.vmar.protect(BASE..BASE + PAGE_SIZE, RW).unwrap();
    assert_eq!(process.vmar.handle_page_fault(BASE, Access::Write), Ok(()));
    assert_eq!(sim.live_frames(), 1);
    process.audit();
}

#[test]
fn r12_prefetch_ends_at_the_first_page_that_is_there() {
    let (sim, process) = process();
    let vmo = object(&sim, 16, VmoKind::File);
    let map = process.vmar.new_map(16 * PAGE_SIZE).perms(RW).vmo(vmo).fault_around();
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    process.write(BASE + 2 * PAGE_SIZE, &[9]).unwrap();
    process.read_byte(BASE).unwrap();
    let found: Vec<_> =
        process.vmar.space().walk().iter().map(|entry| (entry.addr - BASE) / PAGE_SIZE).collect();
    assert_eq!(found, [0, 1, 2]);
    assert_eq!(process.read_byte(BASE + 2 * PAGE_SIZE), Ok(9));
    process.audit();
}
