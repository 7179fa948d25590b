// SPDX-License-Identifier: MPL-2.0

use alloc::{sync::Arc, vec, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::Mutex;

use aster_rights::FullRights;

use super::*;
use crate::{
    machine::Frame,
    object::{Pager, VmoKind},
    perms::VmPerms,
    sim::{PAGE_SIZE, Process, Sim, SimFrame},
};

const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

type FullVmo = Vmo<Sim, TRightSet<FullRights>>;

fn plain(pages: usize) -> (Sim, FullVmo) {
    let sim = Sim::new(1);
    let vmo = Vmo::new(&sim, pages * PAGE_SIZE, VmoKind::SharedMemory).unwrap();
    (sim, vmo)
}

/// Fills pages with their index plus one, up to one that it cannot read.
#[derive(Debug)]
struct TestPager {
    read: Mutex<Vec<usize>>,
    writes: AtomicUsize,
    fails_at: usize,
}

impl Pager<Sim> for TestPager {
    fn read_page(&self, index: usize, frame: &SimFrame) -> Result<(), Error> {
        self.read.lock().unwrap().push(index);
        if index >= self.fails_at {
            return Err(Error::NotSupported);
        }
        frame.write(0, &[index as u8 + 1; PAGE_SIZE]);
        Ok(())
    }

    fn note_write(&self, _index: usize) {
        self.writes.fetch_add(1, SeqCst);
    }
}

fn paged(pages: usize, fails_at: usize) -> (Sim, FullVmo, Arc<TestPager>) {
    let sim = Sim::new(1);
    let pager = Arc::new(TestPager { read: Mutex::default(), writes: AtomicUsize::new(0), fails_at });
    let vmo = Vmo::with_pager(&sim, pages * PAGE_SIZE, VmoKind::File, pager.clone()).unwrap();
    (sim, vmo, pager)
}

fn bytes(vmo: &FullVmo, range: Range<usize>) -> Vec<u8> {
    let mut bytes = vec![0; range.len()];
    assert_eq!(vmo.read_bytes(range.start, &mut bytes), Ok(range.len()));
    bytes
}

#[test]
fn b3_commit_makes_the_pages_of_a_range_resident() {
    let (sim, vmo) = plain(8);
    vmo.commit_range(PAGE_SIZE + 1..3 * PAGE_SIZE + 1).unwrap();
    assert_eq!((vmo.resident_count(), sim.live_frames()), (3, 3));
    assert_eq!((vmo.next_resident(0), vmo.next_resident(4)), (Some(1), None));
    // Nothing is done twice, and a range of nothing is nothing.
    vmo.commit_range(0..4 * PAGE_SIZE).unwrap();
    vmo.commit_range(7 * PAGE_SIZE..7 * PAGE_SIZE).unwrap();
    assert_eq!(sim.live_frames(), 4);
    // An access needs no memory any more.
    sim.set_frame_limit(4);
    assert_eq!(vmo.write_bytes(3 * PAGE_SIZE, &[1]), Ok(1));
    assert_eq!(vmo.write_bytes(4 * PAGE_SIZE, &[1]), Err(Error::OutOfMemory));
}

#[test]
fn b3_commit_stops_at_the_page_that_fails() {
    let (sim, vmo) = plain(4);
    assert_eq!(vmo.commit_range(2 * PAGE_SIZE..6 * PAGE_SIZE), Err(Error::BusError));
    assert_eq!(vmo.resident_count(), 2);
    sim.set_frame_limit(3);
    assert_eq!(vmo.commit_range(0..4 * PAGE_SIZE), Err(Error::OutOfMemory));
    assert_eq!(vmo.resident_count(), 3);
    let (_sim, vmo, _) = paged(4, 2);
    assert_eq!(vmo.commit_range(0..4 * PAGE_SIZE), Err(Error::NotSupported));
    assert_eq!((vmo.resident_count(), bytes(&vmo, PAGE_SIZE..PAGE_SIZE + 2)), (2, vec![2, 2]));
}

#[test]
fn b3_decommit_gives_the_pages_of_a_range_back() {
    let (sim, vmo) = plain(8);
    let process = Process::new(&sim, 0).unwrap();
    let addr = process.vmar.new_map(8 * PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared().build().unwrap();
    process.write(addr, &[9; 8 * PAGE_SIZE]).unwrap();
    vmo.decommit(PAGE_SIZE - 2..4 * PAGE_SIZE + 2).unwrap();
    assert_eq!((vmo.resident_count(), sim.live_frames()), (5, 5));
    assert_eq!(process.vmar.rss().total_pages(), 5);
    assert_eq!(process.read(addr + PAGE_SIZE - 3, 4).unwrap(), [9, 0, 0, 0]);
    assert_eq!(process.read(addr + 4 * PAGE_SIZE, 3).unwrap(), [0, 0, 9]);
    process.audit();
    // What a source has is read again.
    let (_sim, vmo, pager) = paged(2, usize::MAX);
    vmo.write_bytes(0, &[9; 2 * PAGE_SIZE]).unwrap();
    vmo.decommit(0..PAGE_SIZE).unwrap();
    assert_eq!(bytes(&vmo, 0..1), [1]);
    assert_eq!(pager.read.lock().unwrap().last(), Some(&0));
}

#[test]
fn b3_zeros_of_a_plain_object_take_no_memory() {
    let (sim, vmo) = plain(8);
    vmo.write_bytes(0, &[9; 8 * PAGE_SIZE]).unwrap();
    vmo.zero(PAGE_SIZE - 2..4 * PAGE_SIZE + 2).unwrap();
    assert_eq!(sim.live_frames(), 5);
    assert_eq!(bytes(&vmo, PAGE_SIZE - 3..PAGE_SIZE + 1), [9, 0, 0, 0]);
    assert_eq!(bytes(&vmo, 4 * PAGE_SIZE..4 * PAGE_SIZE + 3), [0, 0, 9]);
    // Up to the end and beyond, which does not move.
    vmo.resize(7 * PAGE_SIZE + 10).unwrap();
    vmo.zero(6 * PAGE_SIZE..100 * PAGE_SIZE).unwrap();
    assert_eq!((vmo.size(), sim.live_frames()), (7 * PAGE_SIZE + 10, 3));
    vmo.zero(200 * PAGE_SIZE..300 * PAGE_SIZE).unwrap();
    vmo.zero(5..5).unwrap();
    assert_eq!(bytes(&vmo, 0..10), [9; 10]);
}

#[test]
fn b3_zeros_of_a_paged_object_are_not_read_again() {
    let (_sim, vmo, pager) = paged(4, usize::MAX);
    let private = vmo.snapshot(crate::object::SnapshotAccess::ReadOnly).unwrap();
    vmo.zero(PAGE_SIZE - 1..3 * PAGE_SIZE).unwrap();
    assert_eq!(bytes(&vmo, PAGE_SIZE - 2..PAGE_SIZE), [1, 0]);
    assert_eq!(bytes(&vmo, PAGE_SIZE..3 * PAGE_SIZE), vec![0; 2 * PAGE_SIZE]);
    assert_eq!(bytes(&vmo, 3 * PAGE_SIZE..3 * PAGE_SIZE + 1), [4]);
    assert!(pager.writes.load(SeqCst) >= 3, "the pager is not told");
    drop(private);
    // What fails leaves zeros before it.
    let (_sim, vmo, _) = paged(4, 2);
    assert_eq!(vmo.zero(0..4 * PAGE_SIZE), Err(Error::NotSupported));
    assert_eq!(bytes(&vmo, 0..2 * PAGE_SIZE), vec![0; 2 * PAGE_SIZE]);
}

#[test]
fn b3_private_copies_do_not_see_zeros() {
    let (sim, vmo) = plain(2);
    vmo.write_bytes(0, &[9; 2 * PAGE_SIZE]).unwrap();
    let process = Process::new(&sim, 0).unwrap();
    let addr = process.vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo.dup()).build().unwrap();
    process.write(addr, &[1]).unwrap();
    assert_eq!(process.read_byte(addr + PAGE_SIZE), Ok(9));
    vmo.zero(0..2 * PAGE_SIZE).unwrap();
    assert_eq!(process.read(addr, 2).unwrap(), [1, 9]);
    assert_eq!(process.read_byte(addr + PAGE_SIZE), Ok(0));
    process.audit();
}

#[test]
fn b3_prefetch_reads_what_a_source_has_and_nothing_else() {
    let (sim, vmo, pager) = paged(8, 6);
    vmo.prefetch(2 * PAGE_SIZE + 1..4 * PAGE_SIZE);
    assert_eq!(*pager.read.lock().unwrap(), [2, 3]);
    vmo.prefetch(0..4 * PAGE_SIZE);
    assert_eq!(*pager.read.lock().unwrap(), [2, 3, 0, 1]);
    // What cannot be read is no error, nor what lies behind the end.
    vmo.prefetch(4 * PAGE_SIZE..100 * PAGE_SIZE);
    assert_eq!(*pager.read.lock().unwrap(), [2, 3, 0, 1, 4, 5, 6]);
    assert_eq!((vmo.resident_count(), sim.live_frames()), (6, 6));
    let (sim, vmo) = plain(4);
    vmo.prefetch(0..4 * PAGE_SIZE);
    assert_eq!(sim.live_frames(), 0);
}
