// SPDX-License-Identifier: MPL-2.0

use super::*;
use crate::{
    object::{Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim},
};

const BASE: usize = 0x100_0000;

#[test]
fn pages_are_resident_if_mapped_or_held_by_their_object() {
    let sim = Sim::new(1);
    let process = Process::new(&sim, 0).unwrap();
    let map = process.vmar.new_map(3 * PAGE_SIZE).perms(VmPerms::READ | VmPerms::WRITE);
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    let vmo = Vmo::new(&sim, 4 * PAGE_SIZE, VmoKind::File).unwrap();
    let map = process.vmar.new_map(3 * PAGE_SIZE).read().vmo(vmo.dup()).vmo_offset(PAGE_SIZE);
    map.placement(Placement::Exactly(BASE + 3 * PAGE_SIZE)).build().unwrap();
    process.write(BASE + PAGE_SIZE, &[1]).unwrap();
    vmo.write_bytes(2 * PAGE_SIZE, &[1]).unwrap();

    let end = BASE + 6 * PAGE_SIZE;
    let mut resident = [true; 6];
    process.vmar.resident(BASE..end, &mut resident).unwrap();
    assert_eq!(resident, [false, true, false, false, true, false]);
    let mut resident = [false; 4];
    process.vmar.resident(BASE + PAGE_SIZE..end - PAGE_SIZE, &mut resident).unwrap();
    assert_eq!(resident, [true, false, false, true]);
    assert_eq!(process.vmar.resident(BASE..end + PAGE_SIZE, &mut [false; 7]), Err(Error::NotMapped));
}
