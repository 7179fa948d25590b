// SPDX-License-Identifier: MPL-2.0

//! Spaces that go over from one page table to another, with CPUs running on them.

use alloc::sync::Arc;

use super::*;
use crate::spare;

/// Counts the CPUs among the others that run on the space in `REMOTE_SPACE`, and can read the page at `ADDR`.
fn readers_as_they_are() -> usize {
    REMOTE_BYTES.store(0, SeqCst);
    inter_processor_call(&other_cpus(), || {
        let space = REMOTE_SPACE.disable_irq().lock().clone();
        if space.is_some_and(|space| read_as_program(&space, ADDR).is_some()) {
            REMOTE_BYTES.fetch_add(1, SeqCst);
        }
    })
    .wait();
    REMOTE_BYTES.load(SeqCst)
}

fn is_mapped(space: &OstdSpace) -> bool {
    space.transact(one_page(), 0, |cursor| matches!(cursor.query(), Entry::Page { .. })).unwrap()
}

#[ktest]
fn a_detached_page_table_is_empty_and_comes_back_whole() {
    let space = space_with_page(5);
    space.activate();
    assert_eq!(read_as_program(&space, ADDR), Some(5));
    let first = space.vm_space().clone();
    for _ in 0..3 {
        let detached = space.detach().unwrap();
        // The CPU has gone over.
        assert!(!Arc::ptr_eq(space.vm_space(), &first) && Arc::ptr_eq(detached.vm_space(), &first));
        assert_eq!((read_as_program(&space, ADDR), space.peek(&one_page())), (None, None));
        assert!(space.reader(ADDR, 1).is_ok() && detached.reader(ADDR, 1).is_err());
        assert!(is_mapped(&detached) && !is_mapped(&space));
        // It cannot be lent twice.
        assert!(space.detach().is_err());
        space.attach(detached);
        assert!(Arc::ptr_eq(space.vm_space(), &first));
        assert_eq!(read_as_program(&space, ADDR), Some(5));
    }
    Ostd.new_space().unwrap().activate();
}

#[ktest]
fn another_space_can_take_over_a_detached_page_table() {
    let parent = space_with_page(6);
    let table = parent.detach().unwrap();
    let child = Ostd.new_space().unwrap();
    drop(parent);
    child.activate();
    child.attach(table);
    assert_eq!(read_as_program(&child, ADDR), Some(6));
    // And lend it in turn.
    let table = child.detach().unwrap();
    assert_eq!(read_as_program(&child, ADDR), None);
    child.attach(table);
    assert_eq!(read_as_program(&child, ADDR), Some(6));
    Ostd.new_space().unwrap().activate();
}

#[ktest]
fn a_lent_page_table_is_no_spare() {
    spare::drop_all();
    let mut parent = space_with_page(7);
    let table = parent.detach().unwrap();
    parent.retire(1);
    drop(parent);
    assert!(is_mapped(&table));
    let page_table = table.vm_space().clone();
    assert!(!Arc::ptr_eq(Ostd.new_space().unwrap().vm_space(), &page_table));
    spare::drop_all();
}

#[ktest]
fn every_cpu_goes_over() {
    let space = Arc::new(space_with_page(5));
    space.activate();
    *REMOTE_SPACE.disable_irq().lock() = Some(space.clone());
    let others = other_cpus().count();
    assert_eq!(remote_readers(), others);
    let detached = space.detach().unwrap();
    assert_eq!(readers_as_they_are(), 0);
    // They run on the new page table already: what it gets they see.
    let frame = Ostd.alloc().unwrap().zeroed();
    space.transact(one_page(), 1, |cursor| cursor.map(frame, READ_WRITE)).unwrap();
    assert_eq!(readers_as_they_are(), others);
    space.transact(one_page(), 0, |cursor| cursor.unmap(ADDR + PAGE_SIZE)).unwrap();
    assert_eq!(readers_as_they_are(), 0);
    space.attach(detached);
    assert_eq!((readers_as_they_are(), read_as_program(&space, ADDR)), (others, Some(5)));
    *REMOTE_SPACE.disable_irq().lock() = None;
    let nobodys = Arc::new(Ostd.new_space().unwrap());
    nobodys.activate();
    *REMOTE_SPACE.disable_irq().lock() = Some(nobodys);
    remote_readers();
    *REMOTE_SPACE.disable_irq().lock() = None;
}

#[ktest]
fn a_transaction_within_another_never_waits() {
    // More than may wait for a grace period, each let go in a transaction of its own.
    const PAGES: usize = 600;
    let (outer, inner) = (space_with_page(1), Ostd.new_space().unwrap());
    let page = |index: usize| ADDR + index * PAGE_SIZE..ADDR + (index + 1) * PAGE_SIZE;
    for index in 0..PAGES {
        let frame = Ostd.alloc().unwrap().zeroed();
        inner.transact(page(index), 1, |cursor| cursor.map(frame, PageProps::new(PageFlags::READ))).unwrap();
    }
    outer
        .transact(one_page(), 0, |_| {
            for index in 0..PAGES {
                inner.transact(page(index), 0, |cursor| cursor.unmap(page(index).end)).unwrap();
            }
        })
        .unwrap();
    assert!(reclaim::is_batch_due());
    // Whoever comes next sees to them, and may have to wait.
    outer.transact(one_page(), 0, |cursor| cursor.unmap(one_page().end)).unwrap();
    assert!(!reclaim::is_batch_due() && reclaim::pending_frames() >= PAGES);
}
