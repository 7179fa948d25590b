// SPDX-License-Identifier: MPL-2.0

//! Two CPUs in sibling regions of one space.
//!
//! The second CPU works in an interrupt, where it must not sleep: had it to wait for a sleeping lock, it would panic. Nor can it wait
//! for another CPU to flush its TLB; so nobody runs on the space.

use core::hint::black_box;

use aster_rights::Rights;
use ostd::{arch::read_tsc, early_println};
use vmar::{
    limits::Limits,
    perms::VmPerms,
    vmar::{FullVmar, discard::Discard, fault::Access},
};

use super::*;
use crate::{lock::FOUND_TAKEN, spare};

const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

/// Where the other CPUs work.
static THEIRS: SpinLock<Option<FullVmar<Ostd>>> = SpinLock::new(None);

/// How many CPUs have done their work.
static DONE: AtomicUsize = AtomicUsize::new(0);

/// Two sibling regions of a new space, with page-table locks of their own or not.
fn siblings(own_tables: bool) -> (FullVmar<Ostd>, [FullVmar<Ostd>; 2]) {
    // A page table that was used before may still be some CPU's.
    spare::drop_all();
    let root = FullVmar::new(Ostd, Limits::new()).unwrap();
    let regions = [0, 1].map(|_| {
        let region = root.new_region(128 * PAGE_SIZE);
        if own_tables { region.own_tables() } else { region }.build().unwrap()
    });
    (root, regions)
}

/// Does what programs do with memory, and leaves none.
fn work_in(region: &FullVmar<Ostd>) {
    const PAGES: usize = 64;
    for _ in 0..8 {
        let start = region.new_map(PAGES * PAGE_SIZE).perms(RW).build().unwrap();
        let page = |number| start + number * PAGE_SIZE;
        for number in 0..PAGES {
            region.handle_page_fault(page(number), Access::Write).unwrap();
        }
        for number in 0..PAGES / 2 {
            region.protect(page(number)..page(number + 1), VmPerms::READ).unwrap();
        }
        assert_eq!(region.write_bytes(page(PAGES - 1), &[7]), Ok(1));
        region.discard(page(3)..page(5), Discard::Now).unwrap();
        let mut byte = [0];
        assert_eq!(region.read_bytes(page(PAGES - 1), &mut byte), Ok(1));
        assert_eq!(black_box(byte), [7]);
        region.unmap(start..page(PAGES)).unwrap();
    }
}

fn work_in_theirs() {
    let theirs = THEIRS.disable_irq().lock().as_ref().map(FullVmar::dup);
    if let Some(theirs) = theirs {
        work_in(&theirs);
        DONE.fetch_add(1, SeqCst);
    }
}

/// The second CPU.
fn second_cpu() -> CpuSet {
    let mut second = CpuSet::new_empty();
    let here = disable_preempt().current_cpu();
    all_cpus().find(|cpu| *cpu != here).into_iter().for_each(|cpu| second.add(cpu));
    second
}

#[ktest]
fn b1_a_region_goes_on_while_its_sibling_is_locked() {
    let (root, [ours, theirs]) = siblings(true);
    work_in(&ours);
    *THEIRS.disable_irq().lock() = Some(theirs);
    DONE.store(0, SeqCst);
    // The parent's mappings and the sibling's are locked, and all of the sibling's page table.
    let range = ours.user_range();
    let locked = (root.query(root.user_range()), ours.query(range.clone()));
    root.space()
        .transact(range, 0, |_| {
            inter_processor_call(&second_cpu(), work_in_theirs).wait();
        })
        .unwrap();
    drop(locked);
    assert_eq!(DONE.load(SeqCst), second_cpu().count());
    *THEIRS.disable_irq().lock() = None;
}

/// Returns how long this CPU takes in a region, in 1/100 of what it takes alone, while the second one works in its sibling.
fn hundredths(own_tables: bool) -> u64 {
    let (_root, [ours, theirs]) = siblings(own_tables);
    let time = |with_second: bool| {
        let start = read_tsc();
        if with_second {
            let theirs = inter_processor_call(&second_cpu(), work_in_theirs);
            work_in(&ours);
            theirs.wait();
        } else {
            work_in(&ours);
        }
        read_tsc() - start
    };
    time(false);
    *THEIRS.disable_irq().lock() = Some(theirs);
    // Other programs of the host get in between: the best of a few tries tells.
    let best = |with_second| (0..16).map(|_| time(with_second)).min().unwrap_or(1);
    let (alone, together) = (best(false), best(true));
    *THEIRS.disable_irq().lock() = None;
    100 * together / alone.max(1)
}

#[ktest]
fn b1_two_cpus_in_sibling_regions_wait_for_no_lock() {
    if second_cpu().count() == 0 {
        return;
    }
    let before = FOUND_TAKEN.load(SeqCst);
    let [own, shared] = [true, false].map(hundredths);
    assert_eq!(FOUND_TAKEN.load(SeqCst), before, "a lock of a region was found taken");
    for (name, time) in [("with page tables of their own", own), ("with a page table in common", shared)] {
        early_println!(
            "two CPUs in sibling regions {}: {}.{:02} times as long as one alone",
            name,
            time / 100,
            time % 100
        );
    }
}

#[ktest]
fn b1_a_region_bounds_what_programs_may_do() {
    let root = FullVmar::new(Ostd, Limits::new()).unwrap();
    let region = root.new_region(PAGE_SIZE).ceiling(Rights::READ).own_tables().build().unwrap();
    assert!(region.new_map(PAGE_SIZE).perms(RW).build().is_err());
    let addr = region.new_map(PAGE_SIZE).perms(VmPerms::READ).build().unwrap();
    root.handle_page_fault(addr, Access::Read).unwrap();
    root.space().activate();
    assert_eq!(read_as_program(root.space(), addr), Some(0));
    region.destroy().unwrap();
    assert_eq!(read_as_program(root.space(), addr), None);
    assert!(region.is_destroyed());
}
