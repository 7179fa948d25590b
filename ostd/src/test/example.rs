// SPDX-License-Identifier: MPL-2.0

//! The example of `docs/src/ostd.md`, compiled and run.

// ANCHOR: example
use alloc::sync::Arc;

use ostd::{
    arch::cpu::context::{CpuException, PageFaultErrorCode},
    mm::{
        FallibleVmRead, FallibleVmWrite, PAGE_SIZE, VmReader, VmWriter, fault::inject_user_page_fault_handler,
    },
    prelude::*,
    sync::SpinLock,
};
use vmar::{
    limits::Limits,
    vmar::{FullVmar, fault::Access},
};
use vmar_ostd::Ostd;

/// The space of the program that runs; a kernel keeps it with its tasks.
static CURRENT: SpinLock<Option<Arc<FullVmar<Ostd>>>> = SpinLock::new(None);

/// Serves the faults that the kernel takes on the program's memory. Those of the program itself go the same way.
pub(super) fn serve_fault(exception: &CpuException) -> core::result::Result<(), ()> {
    let CpuException::PageFault(fault) = exception else { return Err(()) };
    let access = match fault.error_code.contains(PageFaultErrorCode::WRITE) {
        true => Access::Write,
        false => Access::Read,
    };
    let vmar = CURRENT.lock().clone().ok_or(())?;
    vmar.handle_page_fault(fault.addr, access).map_err(|_| ())
}

/// Has this CPU run on a space.
fn switch_to(vmar: &Arc<FullVmar<Ostd>>) {
    *CURRENT.lock() = Some(vmar.clone());
    vmar.space().activate();
}

fn write(vmar: &FullVmar<Ostd>, addr: usize, bytes: &[u8]) {
    let mut writer = vmar.space().writer(addr, bytes.len()).unwrap();
    assert_eq!(writer.write_fallible(&mut VmReader::from(bytes)).unwrap(), bytes.len());
}

fn read(vmar: &FullVmar<Ostd>, addr: usize) -> u8 {
    let mut byte = [0];
    let mut reader = vmar.space().reader(addr, 1).unwrap();
    reader.read_fallible(&mut VmWriter::from(&mut byte[..])).unwrap();
    byte[0]
}

#[ktest]
fn a_child_reads_what_its_parent_wrote() {
    inject_user_page_fault_handler(serve_fault);
    let parent = Arc::new(FullVmar::new(Ostd, Limits::new()).unwrap());
    let addr = parent.new_map(64 * PAGE_SIZE).read().write().build().unwrap();

    // Nothing is there yet: each page comes with its fault.
    switch_to(&parent);
    for page in 0..64 {
        write(&parent, addr + page * PAGE_SIZE, &[page as u8 + 1]);
    }

    // 64 pages are enough for a backup to be less work than copying.
    let child = Arc::new(parent.fork().unwrap());
    write(&parent, addr, &[100]);
    switch_to(&child);
    assert_eq!((read(&child, addr), read(&child, addr + 63 * PAGE_SIZE)), (1, 64));
    write(&child, addr + PAGE_SIZE, &[101]);

    switch_to(&parent);
    drop(child);
    assert_eq!((read(&parent, addr), read(&parent, addr + PAGE_SIZE)), (100, 2));
    parent.unmap(addr..addr + 64 * PAGE_SIZE).unwrap();
    assert!(parent.handle_page_fault(addr, Access::Read).is_err());
    *CURRENT.lock() = None;
}
// ANCHOR_END: example
