// SPDX-License-Identifier: MPL-2.0

use alloc::{vec, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::{
    fallible::inject,
    machine::Frame,
    perms::VmPerms,
    sim::{PAGE_SIZE, Process, Sim, SimFrame},
};

const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

fn object(pages: usize) -> (Sim, Vmo<Sim, TRightSet<FullRights>>) {
    let sim = Sim::new(1);
    let vmo = Vmo::new(&sim, pages * PAGE_SIZE, VmoKind::SharedMemory).unwrap();
    (sim, vmo)
}

#[derive(Debug, Default)]
struct CountingPager {
    reads: AtomicUsize,
    writes: AtomicUsize,
}

impl Pager<Sim> for CountingPager {
    fn read_page(&self, index: usize, frame: &SimFrame) -> Result<(), Error> {
        self.reads.fetch_add(1, SeqCst);
        frame.write(0, &[index as u8 + 1; PAGE_SIZE]);
        Ok(())
    }

    fn note_write(&self, _index: usize) {
        self.writes.fetch_add(1, SeqCst);
    }
}

#[test]
fn bytes_go_both_ways_up_to_the_end() {
    let (sim, vmo) = object(2);
    let mut bytes = [1; 8];
    assert_eq!(vmo.read_bytes(PAGE_SIZE - 4, &mut bytes), Ok(8));
    assert_eq!((bytes, sim.live_frames()), ([0; 8], 0));
    assert_eq!(vmo.write_bytes(PAGE_SIZE - 2, &[1, 2, 3, 4]), Ok(4));
    assert_eq!(vmo.read_bytes(PAGE_SIZE - 4, &mut bytes), Ok(8));
    assert_eq!(bytes, [0, 0, 1, 2, 3, 4, 0, 0]);
    assert_eq!(vmo.write_bytes(2 * PAGE_SIZE - 1, &[7, 7]), Ok(1));
    assert_eq!(vmo.write_bytes(2 * PAGE_SIZE, &[7]), Ok(0));
    assert_eq!(vmo.read_bytes(2 * PAGE_SIZE - 1, &mut bytes), Ok(1));
    assert_eq!(vmo.read_bytes(usize::MAX, &mut bytes), Ok(0));
    assert_eq!((vmo.size(), vmo.resident_count()), (2 * PAGE_SIZE, 2));
}

#[test]
fn what_shrinking_cuts_off_never_comes_back() {
    let (sim, vmo) = object(3);
    vmo.write_bytes(0, &[9; 3 * PAGE_SIZE]).unwrap();
    vmo.resize(PAGE_SIZE + 10).unwrap();
    assert_eq!(sim.live_frames(), 2);
    vmo.resize(3 * PAGE_SIZE).unwrap();
    let mut bytes = vec![1; 3 * PAGE_SIZE];
    vmo.read_bytes(0, &mut bytes).unwrap();
    assert!(bytes[..PAGE_SIZE + 10].iter().all(|byte| *byte == 9));
    assert!(bytes[PAGE_SIZE + 10..].iter().all(|byte| *byte == 0));
}

#[test]
fn what_a_mapping_writes_past_the_end_stays_hidden() {
    let (sim, vmo) = object(1);
    vmo.resize(10).unwrap();
    let process = Process::new(&sim, 0).unwrap();
    let map = process.vmar.new_map(PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared();
    let addr = map.build().unwrap();
    process.write(addr + 100, &[1]).unwrap();
    assert_eq!(process.read_byte(addr + 100), Ok(1));
    vmo.resize(200).unwrap();
    assert_eq!(process.read_byte(addr + 100), Ok(0));
}

#[test]
fn holes_are_punched_to_the_byte() {
    let (sim, vmo) = object(4);
    vmo.write_bytes(0, &[9; 4 * PAGE_SIZE]).unwrap();
    let range = PAGE_SIZE - 5..3 * PAGE_SIZE + 5;
    vmo.decommit(range.clone()).unwrap();
    assert_eq!(sim.live_frames(), 2);
    vmo.decommit(10..20).unwrap();
    let mut bytes = vec![1; 4 * PAGE_SIZE];
    vmo.read_bytes(0, &mut bytes).unwrap();
    for (offset, byte) in bytes.iter().enumerate() {
        assert_eq!(*byte == 0, range.contains(&offset) || (10..20).contains(&offset), "{offset}");
    }
    assert_eq!((vmo.next_resident(0), vmo.next_resident(1), vmo.next_resident(4)), (Some(0), Some(3), None));
}

#[test]
fn committed_pages_are_the_same_for_all() {
    let (_sim, vmo) = object(2);
    assert!(vmo.page(1).is_none());
    let frame = vmo.commit(1).unwrap();
    assert_eq!(vmo.commit(1).unwrap().id(), frame.id());
    assert_eq!(vmo.page(1).map(|page| page.id()), Some(frame.id()));
    assert_eq!(vmo.commit(2).err(), Some(Error::BusError));
    let failing = inject::fail_from(0);
    assert_eq!(vmo.commit(0).err(), Some(Error::OutOfMemory));
    drop(failing);
    assert_eq!(vmo.resident_count(), 1);
}

#[test]
fn a_pager_reads_each_page_once_and_hears_of_writes() {
    let sim = Sim::new(1);
    let pager = Arc::new(CountingPager::default());
    let vmo = Vmo::with_pager(&sim, PAGE_SIZE + 3, VmoKind::File, pager.clone()).unwrap();
    let mut bytes = [0; 5];
    assert_eq!(vmo.read_bytes(PAGE_SIZE - 1, &mut bytes), Ok(4));
    assert_eq!(bytes, [1, 2, 2, 2, 0]);
    assert_eq!(vmo.write_bytes(0, &[9]), Ok(1));
    assert_eq!((pager.reads.load(SeqCst), pager.writes.load(SeqCst)), (2, 2));
    // What the pager read past the end is not part of the object.
    vmo.resize(2 * PAGE_SIZE).unwrap();
    assert_eq!(vmo.read_bytes(PAGE_SIZE + 2, &mut bytes), Ok(5));
    assert_eq!(bytes, [2, 0, 0, 0, 0]);
}

#[test]
fn writers_are_counted_and_can_be_denied() {
    let (sim, vmo) = object(1);
    let process = Process::new(&sim, 0).unwrap();
    let map = |shared: bool, vmo: Vmo<Sim>| {
        let map = process.vmar.new_map(PAGE_SIZE).read().vmo(vmo);
        if shared { map.shared() } else { map }.build()
    };
    map(false, vmo.dup().to_dynamic()).unwrap();
    map(true, vmo.dup().to_dynamic().limit(Rights::READ)).unwrap();
    assert_eq!(vmo.count_writers(), 0);
    let addr = map(true, vmo.dup().to_dynamic()).unwrap();
    assert_eq!(vmo.count_writers(), 1);
    let child = process.fork_on(0).unwrap();
    assert_eq!(vmo.count_writers(), 2);
    assert_eq!(vmo.deny_writers(), Err(Error::Occupied));
    process.vmar.unmap(addr..addr + PAGE_SIZE).unwrap();
    drop(child);
    assert_eq!(vmo.deny_writers(), Ok(()));
    assert_eq!(map(true, vmo.dup().to_dynamic()), Err(Error::AccessDenied));
    map(true, vmo.dup().to_dynamic().limit(Rights::READ)).unwrap();
    map(false, vmo.dup().to_dynamic()).unwrap();
}

#[test]
fn v4_capabilities_to_objects_only_lose_rights() {
    let (_sim, vmo) = object(1);
    assert_eq!(vmo.rights(), Rights::all());
    let read_only = vmo.dup().restrict::<TRights![Read, Dup]>();
    assert_eq!(read_only.rights(), Rights::READ | Rights::DUP);
    assert!(read_only.is_same_object(&vmo));
    let dynamic = read_only.dup().to_dynamic();
    assert_eq!(dynamic.rights(), Rights::READ | Rights::DUP);
    let limited = dynamic.limit(Rights::READ | Rights::WRITE);
    assert_eq!(limited.rights(), Rights::READ);
    let missing = limited.require::<TRights![Write]>().err();
    assert_eq!(missing, Some(MissingRights::new(Rights::WRITE)));
}

#[test]
fn pages_leave_every_space_that_maps_them() {
    let (sim, vmo) = object(2);
    vmo.write_bytes(0, &[1; 2 * PAGE_SIZE]).unwrap();
    let spaces: Vec<_> = (0..5).map(|_| Process::new(&sim, 0).unwrap()).collect();
    let map = |process: &Process| {
        let map = process.vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo.dup());
        map.build().unwrap()
    };
    let addrs: Vec<_> = spaces.iter().map(|space| [map(space), map(space)]).collect();
    for (space, addrs) in spaces.iter().zip(&addrs) {
        for addr in addrs {
            space.write(addr + PAGE_SIZE, &[2]).unwrap();
            assert_eq!(space.read_byte(*addr), Ok(1));
        }
    }
    assert_eq!(sim.live_frames(), 2 + 10);
    vmo.resize(PAGE_SIZE).unwrap();
    assert_eq!(sim.live_frames(), 1);
    for (space, addrs) in spaces.iter().zip(&addrs) {
        assert_eq!(space.vmar.space().walk().len(), 2);
        assert!(space.read_byte(addrs[0] + PAGE_SIZE).is_err());
        space.audit();
    }
}
