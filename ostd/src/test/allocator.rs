// SPDX-License-Identifier: MPL-2.0

//! Every free frame can be had, by whoever may have it, on whichever CPU it is.

use alloc::vec::Vec;
use core::{alloc::Layout, sync::atomic::AtomicBool};

use ostd::mm::{Frame, HasPaddr, Paddr, frame::GlobalFrameAllocator};

use super::*;
use crate::allocator::{
    TesseraAllocator, ZONE_FRAMES, alloc_for_program,
    buddies::Buddies,
    cache::{BATCH, Cache},
    free_frames,
};

type Frames = Vec<Frame<()>>;

/// A list that has room for all frames without asking for memory later.
fn list() -> Frames {
    let mut list = Vec::new();
    list.try_reserve_exact(free_frames()).unwrap();
    list
}

/// Takes what a program can get, uncleared.
fn take_all(mut list: Frames) -> Frames {
    let mut options = FrameAllocOptions::new();
    options.zeroed(false);
    while let Ok(frame) = alloc_for_program(&options) {
        list.push(frame);
    }
    list
}

/// Keeps every other frame and gives back the rest; returns how many that are.
fn give_back_every_other(frames: &mut Frames) -> usize {
    frames.sort_unstable_by_key(HasPaddr::paddr);
    let before = frames.len();
    let mut is_kept = false;
    frames.retain(|_| {
        is_kept = !is_kept;
        is_kept
    });
    before - frames.len()
}

#[ktest]
fn programs_get_all_but_the_zone() {
    let taken = take_all(list());
    let left = free_frames();
    drop(taken);
    assert_eq!(left, ZONE_FRAMES);
}

#[ktest]
fn frames_between_frames_in_use_are_found() {
    let (first, second) = (list(), list());
    let mut taken = take_all(first);
    let given_back = give_back_every_other(&mut taken);
    let again = take_all(second);
    let (count, left) = (again.len(), free_frames());
    drop((taken, again));
    assert_eq!((count, left), (given_back, ZONE_FRAMES));
}

static IN_TRANSIT: SpinLock<Frames> = SpinLock::new(Vec::new());

#[ktest]
fn frames_that_other_cpus_keep_are_found() {
    const COUNT: usize = 40;
    let (first, second) = (list(), list());
    IN_TRANSIT.disable_irq().lock().reserve(COUNT);
    let mut taken = take_all(first);
    for cpu in other_cpus().iter() {
        let kept = taken.len() - COUNT;
        IN_TRANSIT.disable_irq().lock().extend(taken.drain(kept..));
        let mut one = CpuSet::new_empty();
        one.add(cpu);
        inter_processor_call(&one, || IN_TRANSIT.disable_irq().lock().clear()).wait();
    }
    let again = take_all(second);
    let (count, left) = (again.len(), free_frames());
    drop((taken, again));
    assert_eq!((count, left), (COUNT * other_cpus().count(), ZONE_FRAMES));
}

#[ktest]
fn every_cpu_gets_the_last_frame() {
    static IS_GOT: AtomicBool = AtomicBool::new(false);
    let mut taken = take_all(list());
    let mut refused = 0;
    for cpu in other_cpus().iter() {
        // One frame goes to this CPU's cache, and the other CPU wants it.
        drop(taken.pop());
        IS_GOT.store(false, SeqCst);
        let mut one = CpuSet::new_empty();
        one.add(cpu);
        inter_processor_call(&one, || {
            IS_GOT.store(alloc_for_program(&FrameAllocOptions::new()).is_ok(), SeqCst);
        })
        .wait();
        refused += usize::from(!IS_GOT.load(SeqCst));
    }
    drop(taken);
    assert_eq!(refused, 0, "CPUs that were refused the last frame");
}

#[ktest]
fn the_kernel_has_runs_however_fragmented_memory_is() {
    const RUN: usize = 16;
    let mut taken = take_all(list());
    give_back_every_other(&mut taken);
    let mut options = FrameAllocOptions::new();
    options.zeroed(false);
    // What comes back can be had again, as runs.
    let counts: [usize; 3] = core::array::from_fn(|_| {
        let runs: [_; ZONE_FRAMES / RUN / 2] = core::array::from_fn(|_| options.alloc_segment(RUN));
        runs.iter().filter(|run| run.is_ok()).count()
    });
    drop(taken);
    assert_eq!(counts, [ZONE_FRAMES / RUN / 2; 3]);
}

#[ktest]
fn threads_leave_most_of_the_zone_to_lists() {
    const RUN: usize = 8;
    type Runs = [Option<ostd::mm::Segment<()>>; ZONE_FRAMES / RUN];
    let mut taken = take_all(list());
    give_back_every_other(&mut taken);
    let mut options = FrameAllocOptions::new();
    options.zeroed(false);
    let take = |runs: &mut Runs, is_allowed: &dyn Fn() -> bool| {
        let free = runs.iter_mut().filter(|run| run.is_none());
        free.map_while(|run| {
            *run = is_allowed().then(|| options.alloc_segment(RUN).ok()).flatten();
            run.is_some().then_some(())
        })
        .count()
    };
    let mut runs: Runs = [const { None }; ZONE_FRAMES / RUN];
    let stacks = take(&mut runs, &|| reserve::ensure_stack().is_ok());
    let lists = take(&mut runs, &|| true);
    let refused = reserve::ensure_stack();
    drop((runs, taken));
    assert_eq!((stacks, stacks + lists), (ZONE_FRAMES / 4 / RUN + 1, ZONE_FRAMES / RUN));
    assert_eq!((refused, reserve::ensure_stack()), (Err(OutOfMemory), Ok(())));
}

#[ktest]
fn free_frames_are_counted_one_by_one() {
    let before = free_frames();
    let options = FrameAllocOptions::new();
    let singles: [_; 100] = core::array::from_fn(|_| options.alloc_frame().unwrap());
    let run = options.alloc_segment(5).unwrap();
    assert_eq!(free_frames(), before - 105);
    drop((singles, run));
    assert_eq!(free_frames(), before);
}

/// Memory that is nobody's while the test lasts.
fn with_memory(frames: usize, test: impl FnOnce(Paddr)) {
    let size = frames * PAGE_SIZE;
    let layout = Layout::from_size_align(size, size).unwrap();
    let addr = TesseraAllocator.alloc(layout).unwrap();
    assert!(addr.is_multiple_of(size), "a run is not aligned as asked");
    test(addr);
    TesseraAllocator.dealloc(addr, size);
}

#[ktest]
fn buddies_part_and_become_one_again() {
    with_memory(16, |start| {
        let at = |frame: usize| start + frame * PAGE_SIZE;
        let mut buddies = Buddies::new();
        assert_eq!(buddies.alloc(0), None);
        buddies.insert_range(start, 16);
        assert_eq!(buddies.alloc(5), None);
        let chunks = [1, 0, 2, 0, 3].map(|order| (buddies.alloc(order).unwrap(), 1 << order));
        assert_eq!(chunks.map(|(addr, _)| addr), [at(0), at(2), at(4), at(3), at(8)]);
        assert_eq!(buddies.alloc(0), None);
        for (addr, frames) in chunks {
            buddies.insert_range(addr, frames);
        }
        assert_eq!(buddies.alloc(4), Some(start));
        // Single frames come from small chunks first, and from a part of a large one otherwise.
        buddies.insert_range(start, 16);
        let singles = |buddies: &mut Buddies, count| {
            let mut frames = Vec::new();
            buddies.alloc_singles(count, &mut |addr| frames.push((addr - start) / PAGE_SIZE));
            frames
        };
        assert_eq!(singles(&mut buddies, 4), [0, 1, 2, 3]);
        buddies.insert_range(at(1), 1);
        assert_eq!(singles(&mut buddies, 4), [1]);
        assert_eq!(singles(&mut buddies, 4), [4, 5, 6, 7]);
        assert_eq!(singles(&mut buddies, 16), [8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(singles(&mut buddies, 1), []);
        // A range that is no chunk is cut into aligned ones.
        buddies.insert_range(at(3), 10);
        let expected = [None, Some(at(8)), Some(at(4)), None, Some(at(12)), Some(at(3)), None];
        assert_eq!([3, 2, 2, 1, 0, 0, 0].map(|order| buddies.alloc(order)), expected);
    });
}

#[ktest]
fn a_cache_keeps_what_came_last() {
    let mut cache = Cache::new();
    let mut drained = Vec::new();
    for frame in 1..=65 {
        cache.push(frame * PAGE_SIZE, |addr| drained.push(addr / PAGE_SIZE));
    }
    assert_eq!(drained, (1..=32).collect::<Vec<_>>());
    let mut popped = || cache.pop(|_| ()).map(|addr| addr / PAGE_SIZE);
    assert_eq!(core::iter::from_fn(&mut popped).collect::<Vec<_>>(), (33..=65).rev().collect::<Vec<_>>());
    let refill = |put: &mut dyn FnMut(Paddr)| (1..=BATCH).for_each(|frame| put(frame * PAGE_SIZE));
    assert_eq!(cache.pop(refill), Some(BATCH * PAGE_SIZE));
    assert_eq!(cache.take(), Some((BATCH - 1) * PAGE_SIZE));
}
