// SPDX-License-Identifier: MPL-2.0

//! Pages that are written back while they are written to.

use std::sync::{Arc, Mutex};

use shuttle::thread;
use vmar::{
    backing::Capabilities,
    error::Error,
    object::{Store, Vmo, VmoKind, WriteBack},
    placement::Placement,
    sim::{PAGE_SIZE, Sim, SimFrame},
};

use super::{BASE, RW, check, end, process, spawn};

/// A disk of one page.
#[derive(Debug, Default)]
struct Disk(Mutex<Vec<u8>>);

impl Store<Sim> for Disk {
    fn capabilities(&self) -> Capabilities {
        Capabilities::all() - Capabilities::NO_WRITEBACK
    }

    fn read_page(&self, _index: usize, _frame: &SimFrame) -> Result<(), Error> {
        Ok(())
    }

    fn write_page(&self, _index: usize, frame: &SimFrame) -> Result<(), Error> {
        thread::yield_now();
        *self.0.lock().unwrap() = frame.bytes().to_vec();
        thread::yield_now();
        Ok(())
    }
}

#[test]
fn n12_writing_back_against_writes() {
    // Through a mapping, and through the object; one of them alone, so that neither hides what the other loses.
    for is_mapped in [true, false] {
        check(move || writing_back_against_writes(is_mapped));
    }
}

fn writing_back_against_writes(is_mapped: bool) {
    let (sim, process) = process();
    let cache = WriteBack::new(Disk::default()).unwrap();
    let vmo = Arc::new(Vmo::with_pager(&sim, PAGE_SIZE, VmoKind::File, cache.clone()).unwrap());
    let map = process.vmar.new_map(PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared();
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    process.write(BASE, &[1]).unwrap();
    let writer = match is_mapped {
        true => spawn(&process, 1, |process| process.write(BASE, &[3]).unwrap()),
        false => {
            let vmo = vmo.clone();
            thread::spawn(move || assert_eq!(vmo.write_bytes(0, &[3]), Ok(1)))
        }
    };
    vmo.write_back(&cache).unwrap();
    vmo.write_back(&cache).unwrap();
    writer.join().unwrap();
    // What came too late until now is still known to be dirty.
    vmo.write_back(&cache).unwrap();
    assert_eq!(cache.store().0.lock().unwrap()[0], 3);
    drop((vmo, cache));
    end(&sim, [process]);
}
