// SPDX-License-Identifier: MPL-2.0

use super::*;
use crate::{
    object::{Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim},
    vmar::lock::LockMode,
};

const BASE: usize = 0x100_0000;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

fn process() -> (Sim, Process) {
    let sim = Sim::new(1);
    let process = Process::new(&sim, 0).unwrap();
    (sim, process)
}

fn map(process: &Process, page: usize, pages: usize) {
    let at = Placement::Exactly(BASE + page * PAGE_SIZE);
    process.vmar.new_map(pages * PAGE_SIZE).perms(RW).placement(at).build().unwrap();
}

fn pages(range: Range<usize>) -> Range<usize> {
    BASE + range.start * PAGE_SIZE..BASE + range.end * PAGE_SIZE
}

#[test]
fn private_memory_is_as_new_after_one_transaction() {
    let (sim, process) = process();
    map(&process, 0, 8);
    for page in 0..8 {
        process.write(BASE + page * PAGE_SIZE, &[1]).unwrap();
    }
    let before = sim.transactions();
    process.vmar.discard(pages(1..7), Discard::Now).unwrap();
    assert_eq!((sim.transactions() - before, sim.live_frames()), (1, 2));
    assert_eq!(process.read_byte(BASE + PAGE_SIZE), Ok(0));
    assert_eq!(process.read_byte(BASE), Ok(1));
    process.audit();
    // Memory that is empty as a whole is first written as cheaply as when it was new.
    process.vmar.discard(pages(0..8), Discard::AnyTime).unwrap();
    let before = sim.transactions();
    process.write(BASE, &[1]).unwrap();
    assert_eq!(sim.transactions() - before, 1);
    process.audit();
}

#[test]
fn shared_memory_keeps_its_content() {
    let (sim, process) = process();
    let vmo = Vmo::new(&sim, PAGE_SIZE, VmoKind::SharedMemory).unwrap();
    let map = process.vmar.new_map(PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared();
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    process.write(BASE, &[1]).unwrap();
    process.vmar.discard(pages(0..1), Discard::Now).unwrap();
    assert!(process.vmar.space().walk().is_empty());
    assert_eq!(process.read_byte(BASE), Ok(1));
    assert_eq!(process.vmar.discard(pages(0..1), Discard::AnyTime), Err(Error::NotSupported));
}

#[test]
fn holes_are_passed_over_and_told_of() {
    let (sim, process) = process();
    map(&process, 0, 1);
    map(&process, 2, 1);
    process.write(BASE, &[1]).unwrap();
    process.write(BASE + 2 * PAGE_SIZE, &[1]).unwrap();
    assert_eq!(process.vmar.discard(pages(0..4), Discard::Now), Err(Error::NotMapped));
    assert_eq!(sim.live_frames(), 0);
    assert_eq!(process.vmar.discard(pages(5..6), Discard::Now), Err(Error::NotMapped));
    assert_eq!(process.vmar.discard(BASE + 1..BASE + PAGE_SIZE, Discard::Now), Err(Error::InvalidAlignment));
}

#[test]
fn locked_memory_stops_it_unless_told_otherwise() {
    let (sim, process) = process();
    map(&process, 0, 3);
    process.vmar.lock(pages(1..2), LockMode::Now).unwrap();
    process.write(BASE, &[1]).unwrap();
    process.write(BASE + 2 * PAGE_SIZE, &[1]).unwrap();
    assert_eq!(sim.live_frames(), 3);
    assert_eq!(process.vmar.discard(pages(0..3), Discard::Now), Err(Error::NotSupported));
    assert_eq!(sim.live_frames(), 2);
    process.vmar.discard(pages(0..3), Discard::NowEvenLocked).unwrap();
    assert_eq!(sim.live_frames(), 0);
    process.audit();
}
