// SPDX-License-Identifier: MPL-2.0

//! The simulated machine catches what it is there to catch.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    string::String,
};

use super::*;
use crate::machine::{AddressSpace, Blank, Cursor, Frame, PageFlags, PageProps, SleepLock};

const PAGE: Range<usize> = 0x10_0000..0x10_1000;
const WRITABLE: PageProps = PageProps::new(PageFlags::READ.union(PageFlags::WRITE));

/// Runs `body` with a space that has a writable page at [`PAGE`], and returns what it panicked with.
fn broken(body: impl FnOnce(&Sim, &SimSpace)) -> String {
    let sim = Sim::new(2);
    let space = sim.new_space().unwrap();
    let frame = sim.alloc().unwrap().zeroed();
    space.transact(PAGE, 1, |cursor| cursor.map(frame, WRITABLE)).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| body(&sim, &space))).expect_err("the rule was not enforced");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast::<&str>().expect("a panic with a message")).into(),
    }
}

#[test]
fn v22_a_frame_freed_inside_its_transaction_is_caught() {
    let message = broken(|_, space| {
        let _ = space.transact(PAGE, 0, |cursor| drop(cursor.take()));
    });
    assert!(message.contains("freed inside the transaction"), "{message}");
}

#[test]
fn v22_a_frame_that_a_tlb_reaches_is_not_freed() {
    let message = broken(|sim, space| {
        sim.cpu(1).store(space, PAGE.start, &[1]).unwrap();
        let _ = space.transact(PAGE, 0, |cursor| drop(cursor.take()));
    });
    assert!(message.contains("a TLB can still reach it"), "{message}");
}

#[test]
fn v22_a_transaction_flushes_what_it_removes_and_narrows() {
    let sim = Sim::new(2);
    let space = sim.new_space().unwrap();
    let frame = sim.alloc().unwrap().zeroed();
    space.transact(PAGE, 1, |cursor| cursor.map(frame, WRITABLE)).unwrap();
    for cpu in [0, 1] {
        sim.cpu(cpu).store(&space, PAGE.start, &[1]).unwrap();
    }
    let before = sim.flushes();
    space.transact(PAGE, 0, |cursor| cursor.narrow(PAGE.end, PageFlags::WRITE)).unwrap();
    assert_eq!(sim.flushes(), before + 1);
    for cpu in [0, 1] {
        assert!(sim.cpu(cpu).store(&space, PAGE.start, &[2]).is_err());
        sim.cpu(cpu).load(&space, PAGE.start, &mut [0]).unwrap();
    }
    // Widening needs no flush: a TLB that refuses asks the page table again.
    space.transact(PAGE, 0, |cursor| cursor.widen(PAGE.end, PageFlags::WRITE)).unwrap();
    assert_eq!(sim.flushes(), before + 1);
    sim.cpu(0).store(&space, PAGE.start, &[2]).unwrap();
    let taken = space.transact(PAGE, 0, |cursor| cursor.take()).unwrap();
    assert!(sim.cpu(1).tlb_pages(&space).is_empty());
    drop((taken, space));
    sim.assert_no_leaks();
}

#[test]
fn v22_late_frees_keep_frames_for_a_while() {
    let sim = Sim::new(1);
    sim.set_late_frees(true);
    let space = sim.new_space().unwrap();
    let frame = sim.alloc().unwrap().zeroed();
    space.transact(PAGE, 1, |cursor| cursor.map(frame.clone(), WRITABLE)).unwrap();
    space.transact(PAGE, 0, |cursor| cursor.unmap(PAGE.end)).unwrap();
    assert_eq!(frame.holders(), 2);
    sim.quiesce();
    assert_eq!(frame.holders(), 1);
}

#[test]
fn v23_a_lock_taken_under_a_cursor_is_caught() {
    let lock = SimLock::new(());
    let message = broken(|_, space| {
        let _ = space.transact(PAGE, 0, |_| drop(lock.read()));
    });
    assert!(message.contains("a sleeping lock is taken while a cursor is open"), "{message}");
}

#[test]
fn v23_an_allocation_under_a_cursor_is_caught() {
    let message = broken(|sim, space| {
        let _ = space.transact(PAGE, 0, |_| sim.alloc());
    });
    assert!(message.contains("a frame is allocated while a cursor is open"), "{message}");
    let message = broken(|_, space| {
        let _ = space.transact(PAGE, 0, |_| fallible::try_box(1));
    });
    assert!(message.contains("memory is allocated while a cursor is open"), "{message}");
}

#[test]
fn v23_a_cursor_that_leaves_its_promise_is_caught() {
    let message = broken(|sim, space| {
        let frame = sim.alloc().unwrap().zeroed();
        let next = PAGE.end..PAGE.end + PAGE_SIZE;
        let _ = space.transact(next, 0, |cursor| cursor.map(frame, WRITABLE));
    });
    assert!(message.contains("maps more pages than it promised"), "{message}");
    let message = broken(|_, space| {
        let _ = space.transact(PAGE, 0, |cursor| cursor.seek(PAGE.end));
    });
    assert!(message.contains("moves to"), "{message}");
    let message = broken(|sim, space| {
        let _ = space.transact(PAGE, 1, |cursor| cursor.map(sim.zero_frame(), WRITABLE));
    });
    assert!(message.contains("zeros is mapped writable"), "{message}");
}

#[test]
fn v23_a_lock_taken_twice_by_one_thread_is_caught() {
    let lock = SimLock::new(());
    let message = broken(|_, _| {
        let _first = lock.read();
        drop(lock.write());
    });
    assert!(message.contains("takes a lock that it holds"), "{message}");
}
