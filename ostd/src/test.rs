// SPDX-License-Identifier: MPL-2.0

//! The backend on the real machine: each test runs in QEMU, with one CPU and with two.

mod allocator;
mod example;
mod exhausted;
mod page_table;
mod regions;
mod turns;

use core::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::SeqCst};

use ostd::{
    cpu::{CpuSet, PinCurrentCpu, all_cpus},
    mm::{
        FallibleVmRead, FrameAllocOptions, MAX_USERSPACE_VADDR, PAGE_SIZE, VmWriter,
        fault::inject_user_page_fault_handler,
    },
    prelude::*,
    smp::inter_processor_call,
    sync::SpinLock,
    task::disable_preempt,
};
use vmar::{
    error::OutOfMemory,
    machine::{AddressSpace, Blank, Counter, Cursor, Entry, Frame, Machine, PageFlags, PageProps, SleepLock},
};

use crate::{Ostd, OstdLock, OstdSpace, reclaim, reserve};

const ADDR: usize = 0x4000_0000;
const READ_WRITE: PageProps = PageProps::new(PageFlags::READ.union(PageFlags::WRITE));

fn one_page() -> core::ops::Range<usize> {
    ADDR..ADDR + PAGE_SIZE
}

/// Maps a frame that starts with `byte` at `ADDR`.
fn space_with_page(byte: u8) -> OstdSpace {
    let space = Ostd.new_space().unwrap();
    let frame = Ostd.alloc().unwrap().zeroed();
    frame.write(0, &[byte]);
    space.transact(one_page(), 1, |cursor| cursor.map(frame, READ_WRITE)).unwrap();
    space
}

/// Reads a byte as a program on this CPU would; a fault is not served.
fn read_as_program(space: &OstdSpace, addr: usize) -> Option<u8> {
    // OSTD takes one handler, once. Where no program runs it serves nothing.
    inject_user_page_fault_handler(example::serve_fault);
    let mut byte = [0];
    let mut reader = space.vm_space().reader(addr, 1).ok()?;
    reader.read_fallible(&mut VmWriter::from(&mut byte[..]).to_fallible()).ok()?;
    Some(byte[0])
}

#[ktest]
fn what_is_mapped_is_found() {
    let space = space_with_page(7);
    space
        .transact(ADDR - 16 * PAGE_SIZE..ADDR + 16 * PAGE_SIZE, 0, |cursor| {
            assert!(matches!(cursor.query(), Entry::Empty));
            assert_eq!(cursor.next_mapped(ADDR + PAGE_SIZE), Some(ADDR));
            let Entry::Page { frame, props } = cursor.query() else { panic!("the page is gone") };
            assert_eq!(frame.holders(), 1, "borrowing a frame counted as holding it");
            assert_eq!(props.flags & PageFlags::ACCESS, READ_WRITE.flags);
            let mut byte = [0];
            frame.read(0, &mut byte);
            assert_eq!(byte, [7]);
        })
        .unwrap();
}

#[ktest]
fn flags_survive_the_page_table() {
    let space = Ostd.new_space().unwrap();
    for bits in 0..64 {
        let flags = PageFlags::from_bits(bits).unwrap();
        // The CPU knows no page that can be written or executed but not read; the framework never asks for one.
        if flags.intersects(PageFlags::WRITE | PageFlags::EXEC) && !flags.contains(PageFlags::READ) {
            continue;
        }
        let frame = Ostd.alloc().unwrap().zeroed();
        let found = space
            .transact(one_page(), 1, |cursor| {
                cursor.map(frame, PageProps::new(flags));
                cursor.seek(ADDR);
                let Entry::Page { props, .. } = cursor.query() else { panic!("no page with {flags:?}") };
                cursor.unmap(ADDR + PAGE_SIZE);
                props.flags
            })
            .unwrap();
        assert_eq!(found, flags);
    }
}

#[ktest]
fn taking_a_page_does_not_move() {
    let space = space_with_page(9);
    let (frame, props) = space
        .transact(one_page(), 0, |cursor| {
            let taken = cursor.take().expect("nothing to take");
            assert_eq!(cursor.position(), ADDR);
            assert!(cursor.take().is_none());
            taken
        })
        .unwrap();
    let mut byte = [0];
    frame.read(0, &mut byte);
    assert_eq!((byte, props.flags & PageFlags::ACCESS), ([9], READ_WRITE.flags));
}

#[ktest]
fn unmapping_stops_where_it_was_told() {
    const PAGES: usize = 1024;
    let space = Ostd.new_space().unwrap();
    let range = ADDR..ADDR + PAGES * PAGE_SIZE;
    let frames: alloc::vec::Vec<_> = (0..PAGES).map(|_| Ostd.alloc().unwrap().zeroed()).collect();
    space
        .transact(range.clone(), PAGES, |cursor| {
            for frame in frames {
                cursor.map(frame, READ_WRITE);
            }
        })
        .unwrap();
    // A part of a node, a whole node, and what is left.
    for (from, to, expected) in [(10, 20, 10), (512, 1024, 512), (0, 512, 502), (0, 1024, 0)] {
        let part = ADDR + from * PAGE_SIZE..ADDR + to * PAGE_SIZE;
        let count = space.transact(part.clone(), 0, |cursor| cursor.unmap(part.end)).unwrap();
        assert_eq!(count, expected, "pages {from} to {to}");
    }
}

#[ktest]
fn the_end_of_user_space_can_be_mapped() {
    let space = Ostd.new_space().unwrap();
    let frame = Ostd.alloc().unwrap().zeroed();
    let range = MAX_USERSPACE_VADDR - PAGE_SIZE..MAX_USERSPACE_VADDR;
    space.transact(range.clone(), 1, |cursor| cursor.map(frame, READ_WRITE)).unwrap();
    assert_eq!(space.transact(range.clone(), 0, |cursor| cursor.unmap(range.end)).unwrap(), 1);
}

#[ktest]
fn a_narrowed_page_is_flushed() {
    let space = space_with_page(5);
    space.activate();
    assert_eq!(read_as_program(&space, ADDR), Some(5));
    space.transact(one_page(), 0, |cursor| cursor.narrow(ADDR + PAGE_SIZE, PageFlags::ACCESS)).unwrap();
    assert_eq!(read_as_program(&space, ADDR), None);
    // The frame is still there: what comes back is what was written.
    space.transact(one_page(), 0, |cursor| cursor.widen(ADDR + PAGE_SIZE, PageFlags::READ)).unwrap();
    assert_eq!(read_as_program(&space, ADDR), Some(5));
    space.transact(one_page(), 0, |cursor| cursor.unmap(ADDR + PAGE_SIZE)).unwrap();
    assert_eq!(read_as_program(&space, ADDR), None);
}

static REMOTE_SPACE: SpinLock<Option<alloc::sync::Arc<OstdSpace>>> = SpinLock::new(None);
static REMOTE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The CPUs other than this one.
fn other_cpus() -> CpuSet {
    let mut others = CpuSet::new_empty();
    let here = disable_preempt().current_cpu();
    all_cpus().filter(|cpu| *cpu != here).for_each(|cpu| others.add(cpu));
    others
}

/// Counts the CPUs among the others that can read the page at `ADDR`.
fn remote_readers() -> usize {
    REMOTE_BYTES.store(0, SeqCst);
    inter_processor_call(&other_cpus(), || {
        let space = REMOTE_SPACE.disable_irq().lock().clone();
        if let Some(space) = space {
            space.activate();
            if read_as_program(&space, ADDR).is_some() {
                REMOTE_BYTES.fetch_add(1, SeqCst);
            }
        }
    })
    .wait();
    REMOTE_BYTES.load(SeqCst)
}

#[ktest]
fn every_cpu_is_flushed() {
    let space = alloc::sync::Arc::new(space_with_page(5));
    *REMOTE_SPACE.disable_irq().lock() = Some(space.clone());
    let others = other_cpus().count();
    assert_eq!(remote_readers(), others);
    space.transact(one_page(), 0, |cursor| cursor.narrow(ADDR + PAGE_SIZE, PageFlags::ACCESS)).unwrap();
    assert_eq!(remote_readers(), 0);
    space.transact(one_page(), 0, |cursor| cursor.widen(ADDR + PAGE_SIZE, PageFlags::READ)).unwrap();
    assert_eq!(remote_readers(), others);
    space.transact(one_page(), 0, |cursor| cursor.unmap(ADDR + PAGE_SIZE)).unwrap();
    assert_eq!(remote_readers(), 0);
    *REMOTE_SPACE.disable_irq().lock() = None;
}

#[ktest]
fn copies_and_zeros_are_what_they_say() {
    let source = Ostd.alloc().unwrap().zeroed();
    source.write(100, b"tessera");
    let copy = Ostd.alloc().unwrap().copy_of(&source);
    assert_ne!(copy.id(), source.id());
    let mut bytes = [1; 9];
    copy.read(99, &mut bytes);
    assert_eq!(&bytes, b"\0tessera\0");
    copy.zero(100..104);
    copy.read(99, &mut bytes);
    assert_eq!(&bytes, b"\0\0\0\0\0era\0");
    source.read(99, &mut bytes);
    assert_eq!(&bytes, b"\0tessera\0");
    assert_eq!(Ostd.zero_frame().id(), Ostd.zero_frame().id());
    assert!(Ostd.zero_frame().holders() > 1, "the frame of zeros could be taken for a program's own");
}

#[ktest]
fn programs_stop_at_the_reserve() {
    let default = reserve::reserve();
    // Everything that is free now becomes the reserve.
    reserve::set_reserve(reserve::free_frames() + 1);
    assert!(matches!(Ostd.alloc(), Err(OutOfMemory)));
    // The kernel still gets what it asks for, down to half of the reserve.
    drop(reserve::promise_kernel_frames(16).unwrap());
    assert!(reserve::promise_kernel_frames(reserve::free_frames()).is_err());
    reserve::set_reserve(default);
    assert!(Ostd.alloc().is_ok());
}

#[ktest]
fn the_kernel_has_frames_when_programs_have_taken_all() {
    const WANTED: usize = 64;
    let default = reserve::reserve();
    reserve::set_reserve(0);
    let mut taken = alloc::vec::Vec::new();
    taken.try_reserve_exact(reserve::free_frames() + 1).unwrap();
    while let Ok(frame) = Ostd.alloc() {
        taken.push(frame);
    }
    let options = FrameAllocOptions::new();
    let kernels: [_; WANTED] = core::array::from_fn(|_| options.alloc_frame());
    let count = kernels.iter().filter(|frame| frame.is_ok()).count();
    let is_refused = Ostd.alloc().is_err();
    drop((kernels, taken));
    reserve::set_reserve(default);
    assert_eq!(count, WANTED, "frames for the kernel");
    assert!(is_refused, "a program got a frame of the kernel's");
    assert!(Ostd.alloc().is_ok(), "what was given back is not there");
}

#[ktest]
fn a_transaction_without_its_promise_does_not_run() {
    let default = reserve::reserve();
    let space = Ostd.new_space().unwrap();
    reserve::set_reserve(2 * reserve::free_frames());
    assert_eq!(space.transact(one_page(), 1, |_| ()), Err(OutOfMemory));
    // One that maps nothing needs no promise.
    assert_eq!(space.transact(one_page(), 0, |_| 3), Ok(3));
    reserve::set_reserve(default);
    assert_eq!(space.transact(one_page(), 1, |_| 4), Ok(4));
}

#[ktest]
fn late_frees_are_counted() {
    let before = reclaim::pending_frames();
    let space = space_with_page(1);
    space.transact(one_page(), 0, |cursor| cursor.unmap(ADDR + PAGE_SIZE)).unwrap();
    assert_eq!(reclaim::pending_frames(), before + 1);
}

#[ktest]
fn counters_sum_over_cpus() {
    static SUM: AtomicIsize = AtomicIsize::new(0);
    static COUNTER: SpinLock<Option<alloc::sync::Arc<crate::OstdCounter>>> = SpinLock::new(None);
    let counter = alloc::sync::Arc::new(Ostd.new_counter().unwrap());
    *COUNTER.disable_irq().lock() = Some(counter.clone());
    counter.add(5);
    inter_processor_call(&other_cpus(), || {
        if let Some(counter) = COUNTER.disable_irq().lock().as_ref() {
            counter.add(-2);
            SUM.fetch_add(-2, SeqCst);
        }
    })
    .wait();
    assert_eq!(counter.sum(), 5 + SUM.load(SeqCst));
    assert_eq!(SUM.load(SeqCst), -2 * other_cpus().count() as isize);
    *COUNTER.disable_irq().lock() = None;
}

#[ktest]
fn the_lock_shares_readers_and_excludes_writers() {
    let lock = OstdLock::new(1);
    {
        let first = lock.read();
        let second = lock.read();
        assert_eq!(*first + *second, 2);
    }
    *lock.write() += 1;
    assert_eq!(*lock.read(), 2);
}

#[ktest]
fn handles_to_one_frame_see_the_same_bytes() {
    let frame = Ostd.alloc().unwrap().zeroed();
    let other = frame.clone();
    assert_eq!((frame.holders(), frame.id()), (2, other.id()));
    frame.write(PAGE_SIZE - 4, &[1, 2, 3, 4]);
    let mut bytes = [0; 4];
    other.read(PAGE_SIZE - 4, &mut bytes);
    assert_eq!(bytes, [1, 2, 3, 4]);
}
