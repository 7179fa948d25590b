// SPDX-License-Identifier: MPL-2.0

//! Throughput with one thread and with two, in wall time, for a machine with two processors.
//!
//! Both threads are of one process and work in disjoint ranges of its one address space. Each does the same number of
//! operations; what is told is operations per second, of both together.

use std::{
    ffi::c_int,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    arena::{Area, map, unmap, write},
    is_wanted,
    sys::{Result, Stack, check, exit, exit_thread, fork, nanoseconds, wait, wrong},
};

/// What is done so many times by each thread.
struct Load {
    name: &'static str,
    times: usize,
    once: fn(usize) -> bool,
    what: &'static str,
}

const LOADS: &[Load] = &[
    Load {
        name: "faults",
        times: FAULTS,
        once: fault,
        what: "the first write to an anonymous page, in an area for each thread",
    },
    Load {
        name: "map_touch_unmap",
        times: 4000,
        once: map_touch_unmap,
        what: "`mmap` of a page, a write to it, `munmap`",
    },
    Load {
        name: "fork_exit_wait",
        times: 300,
        once: fork_exit_wait,
        what: "`fork`, the child's `_exit`, `wait4`",
    },
];

const FAULTS: usize = 16_384;
/// Each load is measured so many times.
const ROUNDS: usize = 5;

/// Where the thread of that number finds untouched pages, how many threads are ready, and how many have failed.
static PAGES: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static READY: AtomicUsize = AtomicUsize::new(0);
static FAILED: AtomicUsize = AtomicUsize::new(0);

fn fault(thread: usize) -> bool {
    write(PAGES[thread].fetch_add(crate::arena::PAGE, Ordering::Relaxed));
    true
}

fn map_touch_unmap(_: usize) -> bool {
    let base = map(1);
    if base < 0 {
        return false;
    }
    write(base as usize);
    unmap(base as usize, 1) == 0
}

fn fork_exit_wait(_: usize) -> bool {
    let pid = fork();
    if pid == 0 {
        exit(0);
    }
    pid > 0 && wait(pid).is_ok()
}

/// One thread's part: the argument is the number of the load, and of the thread, and how many threads there are.
extern "C" fn work(argument: usize) -> ! {
    let (load, thread, threads) = (&LOADS[argument >> 8], argument >> 4 & 1, argument & 0xf);
    READY.fetch_add(1, Ordering::SeqCst);
    while READY.load(Ordering::SeqCst) < threads {
        std::hint::spin_loop();
    }
    for _ in 0..load.times {
        if !(load.once)(thread) {
            FAILED.fetch_add(1, Ordering::SeqCst);
            break;
        }
    }
    exit_thread()
}

/// Operations per second of all threads together.
fn rate(number: usize, threads: usize, stacks: &mut [Stack]) -> Result<u64> {
    let areas = [Area::new(FAULTS)?, Area::new(FAULTS)?];
    (0..2).for_each(|thread| PAGES[thread].store(areas[thread].base, Ordering::SeqCst));
    READY.store(0, Ordering::SeqCst);
    FAILED.store(0, Ordering::SeqCst);
    let start = nanoseconds();
    for (thread, stack) in stacks.iter_mut().enumerate().take(threads) {
        check("clone", stack.thread(work, number << 8 | thread << 4 | threads))?;
    }
    stacks.iter().take(threads).for_each(Stack::join);
    let time = nanoseconds() - start;
    if FAILED.load(Ordering::SeqCst) > 0 {
        return wrong("a thread could not do what it had to");
    }
    let operations = (LOADS[number].times * threads) as u64;
    Ok(operations * 1_000_000_000 / time.max(1))
}

/// Prints what the loads are.
pub fn list() -> c_int {
    LOADS.iter().for_each(|load| println!("{}\t0\t{}\t1", load.name, load.what));
    0
}

/// Measures the loads, one thread and two in turn; what is told are medians.
pub fn run(names: &[String], from: Option<&str>) -> c_int {
    let mut stacks = [Stack::new(), Stack::new()];
    let all = LOADS.iter().enumerate();
    let rest = all.skip_while(|(_, load)| from.is_some_and(|from| load.name != from));
    for (number, load) in rest.filter(|(_, load)| is_wanted(load.name, names)) {
        println!("run {}", load.name);
        let measure = |stacks: &mut [Stack]| -> Result<(u64, u64)> {
            let (mut one, mut both) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                one.push(rate(number, 1, stacks)?);
                both.push(rate(number, 2, stacks)?);
            }
            one.sort_unstable();
            both.sort_unstable();
            Ok((one[ROUNDS / 2], both[ROUNDS / 2]))
        };
        match measure(&mut stacks) {
            Ok((one, both)) => println!("two {} {one} {both}", load.name),
            Err(failure) => println!("fail {} {}: error {}", load.name, failure.call, failure.errno),
        }
    }
    println!("end");
    0
}
