// SPDX-License-Identifier: MPL-2.0

use alloc::{sync::Arc, vec, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::{
    machine::CachePolicy,
    mapping::MappingFlags,
    object::{Pager, Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim, SimFrame, SimIoMem},
};

const BASE: usize = 0x100_0000;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

fn process(perms: VmPerms) -> (Sim, Process) {
    let sim = Sim::new(2);
    let process = Process::new(&sim, 0).unwrap();
    let map = process.vmar.new_map(2 * PAGE_SIZE).perms(perms);
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    (sim, process)
}

#[test]
fn v20_bytes_go_both_ways_across_pages() {
    let (_sim, process) = process(RW);
    let addr = BASE + PAGE_SIZE - 2;
    assert_eq!(process.vmar.write_bytes(addr, &[1, 2, 3, 4]), Ok(4));
    assert_eq!(process.read(addr, 4).unwrap(), [1, 2, 3, 4]);
    process.write(addr + 1, &[9, 8]).unwrap();
    let mut bytes = [0; 4];
    assert_eq!(process.vmar.read_bytes(addr, &mut bytes), Ok(4));
    assert_eq!(bytes, [1, 9, 8, 4]);
    process.audit();
}

#[test]
fn v20_reading_makes_nothing_resident() {
    let (sim, process) = process(RW);
    let mut bytes = [1; 16];
    assert_eq!(process.vmar.read_bytes(BASE, &mut bytes), Ok(16));
    assert_eq!((bytes, sim.live_frames()), ([0; 16], 0));
    assert!(process.vmar.space().walk().is_empty());
}

#[test]
fn v20_pages_are_handed_out_without_a_copy_and_stay_as_they_were_found() {
    let (_sim, process) = process(RW);
    process.write(BASE + PAGE_SIZE - 1, &[1, 2]).unwrap();
    let mut pieces = Vec::new();
    let mut frames = Vec::new();
    let read = process.vmar.read_with(BASE + PAGE_SIZE - 1, 9 * PAGE_SIZE, |frame, piece| {
        // No lock is held: the page may go meanwhile.
        process.vmar.unmap(BASE..BASE + 2 * PAGE_SIZE).unwrap();
        pieces.push(piece.clone());
        frames.push(frame.clone());
        piece.len()
    });
    assert_eq!(read, Ok(1 + PAGE_SIZE));
    assert_eq!(pieces, [PAGE_SIZE - 1..PAGE_SIZE, 0..PAGE_SIZE]);
    let mut byte = [0];
    frames[1].read(0, &mut byte);
    assert_eq!(byte, [2]);
    process.audit();
}

#[test]
fn v20_who_takes_less_than_a_piece_gets_no_more() {
    let (_sim, process) = process(RW);
    let mut visits = 0;
    let read = process.vmar.read_with(BASE, 2 * PAGE_SIZE, |_, _| {
        visits += 1;
        5
    });
    assert_eq!((read, visits), (Ok(5), 1));
    assert_eq!(process.vmar.read_with(BASE, PAGE_SIZE, |_, _| 0), Ok(0));
    assert_eq!(process.vmar.read_with(BASE - 1, 2, |_, _| 1), Err(Error::NotMapped));
}

#[test]
fn v20_objects_are_read_up_to_their_end() {
    let (sim, process) = process(RW);
    let vmo = Vmo::new(&sim, 20 * PAGE_SIZE, VmoKind::SharedMemory).unwrap();
    vmo.write_bytes(18 * PAGE_SIZE, &[3]).unwrap();
    let map = process.vmar.new_map(22 * PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared();
    let addr = map.build().unwrap();
    process.write(addr + 17 * PAGE_SIZE, &[4]).unwrap();
    let mut bytes = vec![1; 22 * PAGE_SIZE];
    assert_eq!(process.vmar.read_bytes(addr, &mut bytes), Ok(20 * PAGE_SIZE));
    assert_eq!((bytes[0], bytes[17 * PAGE_SIZE], bytes[18 * PAGE_SIZE]), (0, 4, 3));
    assert_eq!((bytes[20 * PAGE_SIZE - 1], bytes[20 * PAGE_SIZE]), (0, 1));
    process.audit();
}

#[test]
fn v20_what_stands_in_the_way_shortens_or_fails() {
    let (_sim, process) = process(RW);
    let end = BASE + 2 * PAGE_SIZE;
    let mut bytes = [0; 8];
    assert_eq!(process.vmar.read_bytes(end - 3, &mut bytes), Ok(3));
    assert_eq!(process.vmar.write_bytes(end - 3, &bytes), Ok(3));
    assert_eq!(process.vmar.read_bytes(end, &mut bytes), Err(Error::NotMapped));
    assert_eq!(process.vmar.read_bytes(usize::MAX - 3, &mut bytes), Err(Error::NotMapped));
    process.vmar.protect(BASE + PAGE_SIZE..end, VmPerms::READ).unwrap();
    assert_eq!(process.vmar.write_bytes(BASE + PAGE_SIZE - 1, &bytes), Ok(1));
    assert_eq!(process.vmar.write_bytes(BASE + PAGE_SIZE, &bytes), Err(Error::AccessDenied));
    process.vmar.protect(BASE..end, VmPerms::empty()).unwrap();
    assert_eq!(process.vmar.read_bytes(BASE, &mut bytes), Err(Error::AccessDenied));
}

#[test]
fn v20_writes_break_sharing_with_a_child_first() {
    let (_sim, parent) = process(RW);
    parent.write(BASE, &[1]).unwrap();
    let child = parent.fork_on(1).unwrap();
    assert_eq!(parent.vmar.write_bytes(BASE, &[2]), Ok(1));
    assert_eq!((parent.read_byte(BASE), child.read_byte(BASE)), (Ok(2), Ok(1)));
    parent.audit();
    child.audit();
}

#[test]
fn v20_a_debugger_reads_and_writes_what_the_program_may_not() {
    let (sim, process) = process(VmPerms::empty());
    let mut byte = [0];
    assert_eq!(process.vmar.write_bytes_forced(BASE, &[5]), Ok(1));
    assert_eq!(process.vmar.read_bytes_forced(BASE, &mut byte), Ok(1));
    assert_eq!(byte, [5]);
    assert!(process.read_byte(BASE).is_err());

    // A breakpoint in the text of a program goes to a copy; the file is as it was.
    let vmo = Vmo::new(&sim, PAGE_SIZE, VmoKind::File).unwrap();
    vmo.write_bytes(0, &[0x90]).unwrap();
    let text = process.vmar.new_map(PAGE_SIZE).perms(VmPerms::READ | VmPerms::EXEC).vmo(vmo.dup());
    let text = text.build().unwrap();
    assert_eq!(process.fetch_byte(text), Ok(0x90));
    assert_eq!(process.vmar.write_bytes(text, &[0xcc]), Err(Error::AccessDenied));
    assert_eq!(process.vmar.write_bytes_forced(text, &[0xcc]), Ok(1));
    assert_eq!(process.fetch_byte(text), Ok(0xcc));
    assert!(process.write(text, &[0]).is_err());
    assert_eq!(vmo.read_bytes(0, &mut byte), Ok(1));
    assert_eq!(byte, [0x90]);

    // A shared page that is not writable has no copy that could be written.
    let shared = process.vmar.new_map(PAGE_SIZE).read().vmo(vmo.dup()).shared().build().unwrap();
    assert_eq!(process.vmar.write_bytes_forced(shared, &[1]), Err(Error::AccessDenied));
    process.audit();
}

#[test]
fn v20_objects_are_read_and_written_where_they_are() {
    let (sim, process) = process(RW);
    let vmo = Vmo::new(&sim, PAGE_SIZE, VmoKind::SharedMemory).unwrap();
    let map = process.vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared();
    let addr = map.build().unwrap();
    let mut byte = [1];
    assert_eq!(process.vmar.read_bytes(addr, &mut byte), Ok(1));
    // As after a fault.
    assert_eq!((byte, vmo.resident_count()), ([0], 1));
    assert_eq!(process.vmar.write_bytes(addr, &[7]), Ok(1));
    assert_eq!(vmo.read_bytes(0, &mut byte), Ok(1));
    assert_eq!(byte, [7]);
    assert_eq!(process.vmar.read_bytes(addr + PAGE_SIZE, &mut byte), Err(Error::BusError));
    assert_eq!(process.vmar.write_bytes(addr + PAGE_SIZE, &[7]), Err(Error::BusError));
    process.audit();
}

#[test]
fn v20_device_memory_is_not_reached() {
    let (_sim, process) = process(RW);
    let map = process.vmar.new_map(PAGE_SIZE).perms(RW).shared();
    let addr = map.device(SimIoMem::new(1), 0, CachePolicy::Uncacheable).build().unwrap();
    assert_eq!(process.vmar.read_bytes(addr, &mut [0]), Err(Error::NotSupported));
    assert_eq!(process.vmar.write_bytes(addr, &[0]), Err(Error::NotSupported));
}

/// A pager that counts how often it is asked.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl Pager<Sim> for Counting {
    fn read_page(&self, _index: usize, frame: &SimFrame) -> Result<(), Error> {
        self.0.fetch_add(1, SeqCst);
        frame.write(0, &[5; PAGE_SIZE]);
        Ok(())
    }
}

#[test]
fn r5_a_page_that_is_overwritten_whole_is_not_read_first() {
    let sim = Sim::new(2);
    let process = Process::new(&sim, 0).unwrap();
    let pager = Arc::new(Counting::default());
    let vmo = Vmo::with_pager(&sim, 3 * PAGE_SIZE, VmoKind::File, pager.clone()).unwrap();
    let map = process.vmar.new_map(3 * PAGE_SIZE).perms(RW).vmo(vmo);
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    assert_eq!(process.vmar.write_bytes(BASE, &[7; 2 * PAGE_SIZE]), Ok(2 * PAGE_SIZE));
    assert_eq!(pager.0.load(SeqCst), 0);
    assert_eq!(process.read(BASE + PAGE_SIZE - 1, 2).unwrap(), [7, 7]);
    // Of a page that is written in part the rest is wanted.
    assert_eq!(process.vmar.write_bytes(BASE + 2 * PAGE_SIZE + 1, &[8]), Ok(1));
    assert_eq!(pager.0.load(SeqCst), 1);
    assert_eq!(process.read(BASE + 2 * PAGE_SIZE, 3).unwrap(), [5, 8, 5]);
    assert_eq!(process.vmar.write_bytes(BASE + 3 * PAGE_SIZE, &[7; PAGE_SIZE]), Err(Error::NotMapped));
    process.audit();
}

#[test]
fn debuggers_make_stacks_grow() {
    let (_sim, process) = process(RW);
    let stack = BASE + 600 * PAGE_SIZE;
    let map = process.vmar.new_map(PAGE_SIZE).perms(RW).flags(MappingFlags::GROWS_DOWN);
    map.placement(Placement::Exactly(stack)).build().unwrap();
    let mut byte = [1];
    assert_eq!(process.vmar.read_bytes(stack - PAGE_SIZE, &mut byte), Err(Error::NotMapped));
    assert_eq!(process.vmar.read_bytes_forced(stack - PAGE_SIZE, &mut byte), Ok(1));
    assert_eq!(byte, [0]);
    assert_eq!(process.vmar.write_bytes_forced(stack - 2 * PAGE_SIZE, &[7]), Ok(1));
    assert_eq!(process.vmar.read_bytes(stack - 2 * PAGE_SIZE, &mut byte), Ok(1));
    assert_eq!(byte, [7]);
    // Where nothing grows there is nothing.
    assert_eq!(process.vmar.read_bytes_forced(stack + PAGE_SIZE, &mut byte), Err(Error::NotMapped));
    process.audit();
}
