// SPDX-License-Identifier: MPL-2.0

//! A page cache before a disk that is a list of pages.

use alloc::{boxed::Box, vec, vec::Vec};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::Mutex;

use super::*;
use crate::{
    backing::Backing,
    fallible::inject,
    machine::Frame,
    object::VmoKind,
    perms::VmPerms,
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim, SimFrame},
};

const PAGES: usize = 4;
const BASE: usize = 0x100_0000;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

#[derive(Debug)]
struct Disk {
    capabilities: Capabilities,
    pages: Mutex<Vec<Box<[u8]>>>,
    writes: Mutex<Vec<usize>>,
    is_broken: AtomicBool,
}

impl Disk {
    fn new(capabilities: Capabilities) -> Self {
        Self {
            capabilities,
            pages: Mutex::new((1..=PAGES).map(|page| vec![page as u8; PAGE_SIZE].into()).collect()),
            writes: Mutex::default(),
            is_broken: AtomicBool::new(false),
        }
    }

    /// Returns the first byte of each page.
    fn first_bytes(&self) -> Vec<u8> {
        self.pages.lock().unwrap().iter().map(|page| page[0]).collect()
    }

    /// Returns which pages have been written since this was last asked.
    fn take_writes(&self) -> Vec<usize> {
        core::mem::take(&mut *self.writes.lock().unwrap())
    }
}

impl Store<Sim> for Disk {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn read_page(&self, index: usize, frame: &SimFrame) -> Result<(), Error> {
        frame.write(0, &self.pages.lock().unwrap()[index]);
        Ok(())
    }

    fn write_page(&self, index: usize, frame: &SimFrame) -> Result<(), Error> {
        if self.is_broken.load(SeqCst) {
            return Err(Error::BusError);
        }
        self.writes.lock().unwrap().push(index);
        frame.read(0, &mut self.pages.lock().unwrap()[index]);
        Ok(())
    }
}

type File = Vmo<Sim, TRightSet<aster_rights::FullRights>>;

/// A process that has a file of a disk with these capabilities mapped shared at BASE, and private behind that.
fn mapped(capabilities: Capabilities) -> (Process, File, Arc<WriteBack<Sim, Disk>>) {
    let process = Process::new(&Sim::new(2), 0).unwrap();
    let cache = WriteBack::new(Disk::new(capabilities)).unwrap();
    let file =
        Vmo::with_pager(process.vmar.machine(), PAGES * PAGE_SIZE, VmoKind::File, cache.clone()).unwrap();
    let backing = Backing { capabilities, ..Backing::MEMORY };
    let map = |at: usize| {
        let map = process.vmar.new_map(PAGES * PAGE_SIZE).perms(RW).vmo(file.dup()).backing(backing);
        map.placement(Placement::Exactly(at)).fault_around()
    };
    map(BASE).shared().build().unwrap();
    map(at(PAGES)).build().unwrap();
    (process, file, cache)
}

fn at(page: usize) -> usize {
    BASE + page * PAGE_SIZE
}

#[test]
fn n12_without_writeback_no_dirty_page_is_ever_written_back() {
    for capabilities in [Capabilities::all(), Capabilities::all() - Capabilities::NO_WRITEBACK] {
        let (process, file, cache) = mapped(capabilities);
        let is_kept = !capabilities.contains(Capabilities::NO_WRITEBACK);
        // Through a mapping, through the object, by a child, from outside, and privately.
        process.write(at(0), &[10]).unwrap();
        file.write_bytes(PAGE_SIZE, &[20]).unwrap();
        let child = process.fork_on(1).unwrap();
        child.write(at(2), &[30]).unwrap();
        process.vmar.write_bytes(at(3), &[40]).unwrap();
        process.write(at(PAGES), &[99]).unwrap();
        assert_eq!(cache.next_dirty(0), is_kept.then_some(0));

        assert_eq!(file.write_back(&cache), Ok(if is_kept { PAGES } else { 0 }));
        let expected: &[u8] = if is_kept { &[10, 20, 30, 40] } else { &[1, 2, 3, 4] };
        assert_eq!(cache.store().first_bytes(), expected, "{capabilities:?}");
        assert_eq!(cache.store().take_writes().len(), if is_kept { PAGES } else { 0 });
        // All see what was written, whatever became of it on the disk.
        for process in [&process, &child] {
            let seen: Vec<_> = (0..PAGES).map(|page| process.read_byte(at(page)).unwrap()).collect();
            assert_eq!(seen, [10, 20, 30, 40]);
        }
        // Neither unmapping nor shrinking is a way around it.
        process.write(at(1), &[21]).unwrap();
        process.vmar.unmap(at(0)..at(2 * PAGES)).unwrap();
        file.resize(2 * PAGE_SIZE).unwrap();
        assert_eq!(file.write_back(&cache), Ok(usize::from(is_kept)));
        assert_eq!(cache.store().take_writes(), if is_kept { vec![1] } else { vec![] });
        process.audit();
        child.audit();
    }
}

#[test]
fn each_write_after_writing_back_is_noted_again() {
    let (process, file, cache) = mapped(Capabilities::all() - Capabilities::NO_WRITEBACK);
    process.read_byte(at(1)).unwrap();
    assert_eq!((file.write_back(&cache), cache.next_dirty(0)), (Ok(0), None));
    for value in 5..8 {
        process.write(at(1), &[value]).unwrap();
        process.write(at(1), &[value + 1]).unwrap();
        assert_eq!(cache.next_dirty(0), Some(1));
        assert_eq!(file.write_back(&cache), Ok(1));
        assert_eq!((cache.store().take_writes(), cache.store().first_bytes()[1]), (vec![1], value + 1));
        assert_eq!(process.read_byte(at(1)), Ok(value + 1));
    }
    process.audit();
}

#[test]
fn what_cannot_be_written_back_stays_dirty() {
    let (process, file, cache) = mapped(Capabilities::all() - Capabilities::NO_WRITEBACK);
    process.write(at(0), &[7]).unwrap();
    process.write(at(2), &[8]).unwrap();
    cache.store().is_broken.store(true, SeqCst);
    assert_eq!(file.write_back(&cache), Err(Error::BusError));
    cache.store().is_broken.store(false, SeqCst);
    assert_eq!(file.write_back(&cache), Ok(2));
    assert_eq!(cache.store().first_bytes(), [7, 2, 8, 4]);
    // What has left the file is nobody's to keep.
    process.write(at(3), &[9]).unwrap();
    file.resize(3 * PAGE_SIZE).unwrap();
    assert_eq!(file.write_back(&cache), Ok(0));
}

#[test]
fn a_page_that_could_not_be_noted_is_written_back_all_the_same() {
    let (process, file, cache) = mapped(Capabilities::all() - Capabilities::NO_WRITEBACK);
    file.commit(2).unwrap();
    let failing = inject::fail_nth(0);
    cache.note_write(2);
    assert!(failing.has_failed());
    drop(failing);
    file.page(2).unwrap().write(0, &[7]);
    assert_eq!(cache.next_dirty(0), None);
    assert_eq!(file.write_back(&cache), Ok(1));
    assert_eq!((cache.store().first_bytes()[2], file.write_back(&cache)), (7, Ok(0)));
    process.audit();
}
