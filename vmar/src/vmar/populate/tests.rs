// SPDX-License-Identifier: MPL-2.0

use super::*;
use crate::{
    machine::Frame,
    mapping::MappingFlags,
    object::{Pager, Vmo, VmoKind},
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim, SimFrame},
};

const BASE: usize = 0x100_0000;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

fn process() -> (Sim, Process) {
    let sim = Sim::new(1);
    let process = Process::new(&sim, 0).unwrap();
    (sim, process)
}

fn map(process: &Process, page: usize, pages: usize, perms: VmPerms) {
    let at = Placement::Exactly(BASE + page * PAGE_SIZE);
    process.vmar.new_map(pages * PAGE_SIZE).perms(perms).placement(at).build().unwrap();
}

fn pages(range: Range<usize>) -> Range<usize> {
    BASE + range.start * PAGE_SIZE..BASE + range.end * PAGE_SIZE
}

#[test]
fn pages_are_there_before_they_are_touched() {
    let (sim, process) = process();
    map(&process, 0, 4, RW);
    map(&process, 4, 4, VmPerms::READ);
    process.vmar.populate(pages(0..8), Populate::AsNeeded).unwrap();
    assert_eq!((process.vmar.space().walk().len(), sim.live_frames()), (8, 4));
    let before = sim.transactions();
    process.write(BASE, &[1]).unwrap();
    process.read_byte(BASE + 7 * PAGE_SIZE).unwrap();
    assert_eq!(sim.transactions(), before);
    process.audit();
}

#[test]
fn reading_and_writing_are_what_they_say() {
    let (sim, process) = process();
    map(&process, 0, 2, RW);
    process.vmar.populate(pages(0..2), Populate::Read).unwrap();
    assert_eq!(sim.live_frames(), 0);
    process.vmar.populate(pages(0..2), Populate::Write).unwrap();
    assert_eq!(sim.live_frames(), 2);
    process.vmar.protect(pages(1..2), VmPerms::READ).unwrap();
    assert_eq!(process.vmar.populate(pages(0..2), Populate::Write), Err(Error::AccessDenied));
}

#[test]
fn what_cannot_be_read_is_not_populated_for_reading() {
    let (_sim, process) = process();
    map(&process, 0, 1, VmPerms::WRITE);
    map(&process, 1, 1, VmPerms::EXEC);
    for page in 0..2 {
        assert_eq!(process.vmar.populate(pages(page..page + 1), Populate::Read), Err(Error::AccessDenied));
        process.vmar.populate(pages(page..page + 1), Populate::AsNeeded).unwrap();
        let mut byte = [0];
        assert_eq!(process.vmar.read_bytes(pages(page..page + 1).start, &mut byte), Err(Error::AccessDenied));
    }
    process.vmar.write_bytes(pages(0..1).start, &[1]).unwrap();
}

#[test]
fn what_comes_before_a_failure_is_resident() {
    let (sim, process) = process();
    map(&process, 0, 2, RW);
    assert_eq!(process.vmar.populate(pages(0..3), Populate::Write), Err(Error::NotMapped));
    assert_eq!(sim.live_frames(), 2);
    sim.set_frame_limit(3);
    map(&process, 2, 4, RW);
    assert_eq!(process.vmar.populate(pages(0..6), Populate::Write), Err(Error::OutOfMemory));
    assert_eq!(sim.live_frames(), 3);
    process.audit();
}

#[test]
fn no_stack_grows() {
    let (_sim, process) = process();
    let map = process.vmar.new_map(PAGE_SIZE).perms(RW).flags(MappingFlags::GROWS_DOWN);
    map.placement(Placement::Exactly(BASE + PAGE_SIZE)).build().unwrap();
    assert_eq!(process.vmar.populate(pages(0..2), Populate::Write), Err(Error::NotMapped));
    assert_eq!(process.vmar.usage().stack, PAGE_SIZE);
}

/// A pager that has three pages.
#[derive(Debug)]
struct ShortPager;

impl Pager<Sim> for ShortPager {
    fn read_page(&self, index: usize, frame: &SimFrame) -> Result<(), Error> {
        if index >= 3 {
            return Err(Error::BusError);
        }
        frame.write(0, &[1]);
        Ok(())
    }
}

#[test]
fn prefetching_fills_objects_and_maps_nothing() {
    let (sim, process) = process();
    let vmo = Vmo::with_pager(&sim, 8 * PAGE_SIZE, VmoKind::File, Arc::new(ShortPager)).unwrap();
    let map_file = process.vmar.new_map(8 * PAGE_SIZE).read().vmo(vmo.dup()).vmo_offset(PAGE_SIZE);
    map_file.placement(Placement::Exactly(BASE)).build().unwrap();
    process.vmar.populate(pages(0..8), Populate::Prefetch).unwrap();
    assert_eq!(vmo.resident_count(), 2);
    assert!(process.vmar.space().walk().is_empty());
    assert_eq!(process.vmar.populate(pages(0..9), Populate::Prefetch), Err(Error::NotMapped));
}
