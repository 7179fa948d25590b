// SPDX-License-Identifier: MPL-2.0

use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::{
    fallible::inject,
    object::{SnapshotAccess, Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim},
    vmar::{fault::FaultError, populate::Populate},
};

/// Room for so many pages.
#[derive(Debug)]
struct Room {
    limit: usize,
    used: AtomicUsize,
}

impl Account for Room {
    fn charge(&self) -> Result<(), Error> {
        let fits = |used: usize| (used < self.limit).then_some(used + 1);
        self.used.try_update(SeqCst, SeqCst, fits).map(drop).map_err(|_| Error::NoSpace)
    }

    fn discharge(&self, pages: usize) {
        assert!(self.used.fetch_sub(pages, SeqCst) >= pages);
    }
}

type Object = Vmo<Sim, aster_rights::TRightSet<aster_rights::FullRights>>;

fn object(sim: &Sim, pages: usize, room: &Arc<Room>) -> Object {
    let vmo = Vmo::new(sim, pages * PAGE_SIZE, VmoKind::SharedMemory).unwrap();
    vmo.counted_by(room.clone()).unwrap()
}

fn room(limit: usize) -> Arc<Room> {
    Arc::new(Room { limit, used: AtomicUsize::new(0) })
}

#[test]
fn pages_are_counted_as_they_come_and_go() {
    let (sim, room) = (Sim::new(1), room(4));
    let vmo = object(&sim, 10, &room);
    assert_eq!(vmo.write_bytes(0, &[1; 3 * PAGE_SIZE]), Ok(3 * PAGE_SIZE));
    vmo.commit(2).unwrap();
    assert_eq!(room.used.load(SeqCst), 3);
    let other = object(&sim, 1, &room);
    other.commit(0).unwrap();
    assert_eq!(vmo.commit(3).err(), Some(Error::NoSpace));
    assert_eq!(vmo.write_bytes(2 * PAGE_SIZE, &[2; 2 * PAGE_SIZE]), Ok(PAGE_SIZE));
    drop(other);
    vmo.commit(9).unwrap();
    vmo.decommit(0..PAGE_SIZE).unwrap();
    assert_eq!(room.used.load(SeqCst), 3);
    vmo.resize(2 * PAGE_SIZE).unwrap();
    assert_eq!((room.used.load(SeqCst), vmo.resident_count()), (1, 1));
    drop(vmo);
    assert_eq!(room.used.load(SeqCst), 0);
}

#[test]
fn fault_without_room_is_a_bus_error() {
    const BASE: usize = 0x10_0000;
    let (sim, room) = (Sim::new(1), room(2));
    let vmo = object(&sim, 8, &room);
    let process = Process::new(&sim, 0).unwrap();
    let map = |shared: bool, at: usize| {
        let map = process.vmar.new_map(8 * PAGE_SIZE).perms(VmPerms::READ | VmPerms::WRITE);
        let map = map.placement(Placement::Exactly(at)).vmo(vmo.dup().to_dynamic());
        if shared { map.shared().build() } else { map.build() }.unwrap()
    };
    map(true, BASE);
    map(false, BASE + 8 * PAGE_SIZE);
    process.write(BASE, &[1]).unwrap();
    assert_eq!(process.read_byte(BASE + 9 * PAGE_SIZE), Ok(0));
    for at in [BASE + 2 * PAGE_SIZE, BASE + 10 * PAGE_SIZE] {
        assert_eq!(process.read_byte(at), Err(FaultError::BusError));
    }
    assert_eq!(process.write(BASE + 2 * PAGE_SIZE, &[1]), Err(FaultError::BusError));
    assert_eq!(process.vmar.populate(BASE..BASE + 4 * PAGE_SIZE, Populate::Write), Err(Error::BusError));
    // What is there is used as ever, also for a private copy.
    process.write(BASE + PAGE_SIZE, &[2]).unwrap();
    assert_eq!(process.write(BASE + 10 * PAGE_SIZE, &[3]), Err(FaultError::BusError));
    process.write(BASE + 8 * PAGE_SIZE, &[3]).unwrap();
    assert_eq!((room.used.load(SeqCst), vmo.resident_count()), (2, 2));
}

#[test]
fn only_what_nobody_knows_can_be_counted_and_then_not_be_snapshotted() {
    let (sim, room) = (Sim::new(1), room(1));
    let vmo = Vmo::new(&sim, PAGE_SIZE, VmoKind::File).unwrap();
    let other = vmo.dup();
    assert_eq!(vmo.counted_by(room.clone()).err(), Some(Error::Occupied));
    other.commit(0).unwrap();
    assert_eq!(other.counted_by(room.clone()).err(), Some(Error::Occupied));
    let vmo = object(&sim, 1, &room);
    assert_eq!(vmo.snapshot(SnapshotAccess::ReadOnly).err(), Some(Error::NotSupported));
}

#[test]
fn page_that_cannot_be_kept_is_not_counted() {
    let (sim, room) = (Sim::new(1), room(8));
    let vmo = object(&sim, 8, &room);
    for nth in 0.. {
        let failing = inject::fail_nth(nth);
        let result = vmo.commit(5).map(drop);
        drop(failing);
        assert_eq!(room.used.load(SeqCst), vmo.resident_count());
        if result.is_ok() {
            break;
        }
    }
    assert_eq!(room.used.load(SeqCst), 1);
}
