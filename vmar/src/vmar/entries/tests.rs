// SPDX-License-Identifier: MPL-2.0

//! What is executed is what was written.

use alloc::sync::Arc;

use super::super::testing::*;
use crate::{
    backing::{Backing, Capabilities},
    error::Error,
    machine::Frame,
    object::{Pager, Vmo, VmoKind},
    perms::VmPerms,
    sim::{PAGE_SIZE, Sim, SimFrame},
};

#[test]
fn n11_executable_copies_are_made_visible_to_instruction_fetch() {
    let process = process();
    let sim = process.vmar.machine().clone();
    let vmo = object(&process, 4, VmoKind::File);
    let synced = || sim.instruction_syncs();
    // Data are not.
    over(&process, 0..4, RW).vmo(vmo.dup()).build().unwrap();
    touch(&process, 0..4);
    assert_eq!(synced(), 0);
    // An object's page is when it is first shown, and a copy is again.
    let all = RW | VmPerms::EXEC;
    over(&process, 0..4, all).vmo(vmo.dup()).build().unwrap();
    assert_eq!((process.fetch_byte(at(0)), synced()), (Ok(1), 1));
    assert_eq!((process.fetch_byte(at(0)), synced()), (Ok(1), 1));
    process.write(at(0), &[7]).unwrap();
    assert_eq!((process.fetch_byte(at(0)), synced()), (Ok(7), 2));
    // So is a copy that was made while it was data, as soon as it is code.
    process.write(at(1), &[8]).unwrap();
    process.vmar.protect(pages(0..4), RW).unwrap();
    process.write(at(2), &[9]).unwrap();
    let before = synced();
    process.vmar.protect(pages(0..4), RX).unwrap();
    assert_eq!((process.fetch_byte(at(2)), synced()), (Ok(9), before + 1));
    // And copies that a fork leads to, and those of what cannot be executed in place, and what a debugger writes.
    let child = process.fork_on(1).unwrap();
    child.vmar.protect(pages(0..4), all).unwrap();
    let before = synced();
    child.write(at(2), &[10]).unwrap();
    assert_eq!((child.fetch_byte(at(2)), process.fetch_byte(at(2))), (Ok(10), Ok(9)));
    assert_eq!(synced(), before + 1);
    let capabilities = Capabilities::all() - Capabilities::EXEC_MAP;
    let backing = Backing { capabilities, ..Backing::MEMORY };
    over(&process, 0..4, RX).vmo(vmo).backing(backing).build().unwrap();
    let before = synced();
    assert_eq!((process.fetch_byte(at(3)), synced()), (Ok(4), before + 1));
    process.vmar.write_bytes_forced(at(3), &[0xcc]).unwrap();
    assert_eq!((process.fetch_byte(at(3)), synced()), (Ok(0xcc), before + 2));
    process.audit();
    child.audit();
}

/// A file whose file system fills whole pages, whatever the file's size.
#[derive(Debug)]
struct Sloppy;

impl Pager<Sim> for Sloppy {
    fn read_page(&self, _index: usize, frame: &SimFrame) -> Result<(), Error> {
        frame.write(0, &[0x55; PAGE_SIZE]);
        Ok(())
    }
}

#[test]
fn n11_behind_a_short_read_there_are_zeros() {
    let process = process();
    let backing = Backing { capabilities: Capabilities::all() - Capabilities::EXEC_MAP, ..Backing::MEMORY };
    for size in [1, 100, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1] {
        let pager = Arc::new(Sloppy);
        let vmo = Vmo::with_pager(process.vmar.machine(), size, VmoKind::File, pager).unwrap();
        let count = size.div_ceil(PAGE_SIZE);
        // In place, and copied in.
        over(&process, 0..count, R).vmo(vmo.dup()).build().unwrap();
        over(&process, 4..4 + count, RX).vmo(vmo).backing(backing).build().unwrap();
        for first in [0, 4] {
            let bytes = process.read(at(first), count * PAGE_SIZE).unwrap();
            assert!(bytes[..size].iter().all(|byte| *byte == 0x55));
            assert!(bytes[size..].iter().all(|byte| *byte == 0), "{size} bytes");
        }
    }
    process.audit();
}
