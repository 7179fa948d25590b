// SPDX-License-Identifier: MPL-2.0

use alloc::vec::Vec;

use aster_rights::{FullRights, TRightSet};

use crate::{
    mapping::MappingFlags,
    object::{Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    rss::RssKind,
    sim::{PAGE_SIZE, Process, Sim},
    vmar::fault::FaultError,
};

const BASE: usize = 0x100_0000;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

/// A process with a private mapping of 20 pages that will be written, of an object that lacks its page 6.
fn process(perms: VmPerms) -> (Sim, Process, Vmo<Sim, TRightSet<FullRights>>) {
    let sim = Sim::new(1);
    let process = Process::new(&sim, 0).unwrap();
    let vmo = Vmo::new(&sim, 20 * PAGE_SIZE, VmoKind::File).unwrap();
    for page in (0..20).filter(|page| *page != 6) {
        vmo.write_bytes(page * PAGE_SIZE, &[page as u8 + 1]).unwrap();
    }
    let map = process.vmar.new_map(20 * PAGE_SIZE).perms(perms).vmo(vmo.dup());
    map.flags(MappingFlags::WRITE_AROUND).placement(Placement::Exactly(BASE)).build().unwrap();
    (sim, process, vmo)
}

fn at(page: usize) -> usize {
    BASE + page * PAGE_SIZE
}

fn resident(process: &Process) -> Vec<usize> {
    process.vmar.space().walk().iter().map(|entry| (entry.addr - BASE) / PAGE_SIZE).collect()
}

#[test]
fn v15_pages_that_will_be_written_are_copied_at_once() {
    let (sim, process, vmo) = process(RW);
    process.vmar.write_bytes(at(2), &[99]).unwrap();
    let before = sim.transactions();
    assert_eq!(process.read_byte(at(5)), Ok(6));
    assert_eq!(sim.transactions() - before, 1);
    // The block of 16, but for what is not in memory.
    let copied: Vec<_> = (0..16).filter(|page| *page != 6).collect();
    assert_eq!(resident(&process), copied);
    assert_eq!(
        (process.vmar.rss().pages(RssKind::Anonymous), process.vmar.rss().pages(RssKind::File)),
        (15, 0)
    );
    // They are copies: they are written without a fault, and do not show what becomes of the object.
    let before = sim.transactions();
    vmo.write_bytes(3 * PAGE_SIZE, &[77]).unwrap();
    for page in copied {
        assert_eq!(process.read_byte(at(page)), Ok(if page == 2 { 99 } else { page as u8 + 1 }));
        process.write(at(page), &[50]).unwrap();
    }
    assert_eq!(sim.transactions(), before);
    // What was not in memory is served by itself.
    process.write(at(6), &[60]).unwrap();
    assert_eq!((process.read_byte(at(6)), resident(&process).len()), (Ok(60), 16));
    process.audit();
    drop((process, vmo));
    sim.assert_no_leaks();
}

#[test]
fn v15_nothing_is_copied_that_may_not_be_written() {
    let (_sim, process, _vmo) = process(VmPerms::READ);
    assert_eq!(process.read_byte(at(5)), Ok(6));
    assert_eq!(resident(&process), [5]);
    assert_eq!(process.vmar.rss().pages(RssKind::File), 1);
    process.audit();
}

#[test]
fn v15_copies_that_memory_lacks_for_are_left_out() {
    let (sim, process, _vmo) = process(RW);
    let has_room_for = |frames: usize| sim.set_frame_limit(sim.live_frames() + frames);
    has_room_for(0);
    assert_eq!(process.write(at(5), &[9]), Err(FaultError::OutOfMemory));
    assert_eq!(resident(&process), []);
    process.audit();
    has_room_for(3);
    process.write(at(5), &[9]).unwrap();
    assert_eq!(resident(&process), [0, 1, 5]);
    process.audit();
}
