// SPDX-License-Identifier: MPL-2.0

//! `hostile locked`: memory runs out while the kernel holds a lock that the process which is ended for it needs to end.
//!
//! ```text
//!   victim      has taken all memory; on its way out it must leave its futexes, and close its end of the pipe
//!   bystanders  have the kernel bring in one new page after the other, with futexes or the pipe locked if it knows no better
//! ```
//!
//! Bystanders are never ended. It succeeds if every victim is.

use std::{sync::atomic::AtomicU32, thread, time::Duration};

use crate::sys;

/// How a lock is held: how many victims it needs until it is noticed, what they need it for, and how bystanders get it.
type Way = (&'static str, usize, fn(sys::Pipe), fn(sys::Pipe));

const WAYS: [Way; 2] = [("futex", 8, wait_for_many, use_futexes), ("pipe", 2, keep_writer, read_pipe)];

/// Words that a thread can wait for at a time; about every third place of the kernel's table has one then.
const WORDS: usize = 128;

/// Bystanders at a time.
const BYSTANDERS: usize = 8;

/// New memory that one of them uses at a time.
const SIZE: usize = 4 << 20;

/// Runs all rounds; returns whether all victims have ended.
pub fn run() -> bool {
    sys::set_oom_score("-1000");
    WAYS.iter().all(|(name, rounds, prepare, lock)| {
        let ended = (0..*rounds).take_while(|_| run_round(*prepare, *lock)).count();
        println!("{name:<10} {ended:>8}");
        ended == *rounds
    })
}

fn run_round(prepare: fn(sys::Pipe), lock: fn(sys::Pipe)) -> bool {
    let Some(pipe) = sys::pipe() else { return false };
    let feeder = sys::fork(|| while sys::write_piece(pipe.writer) {});
    let bystanders: Vec<_> = (0..BYSTANDERS).map(|_| sys::fork(|| lock(pipe))).collect();
    let victim = sys::fork(|| {
        sys::set_oom_score("1000");
        prepare(pipe);
        loop {
            if let Some(addr) = sys::map(SIZE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE) {
                (addr..addr + SIZE).step_by(4096).for_each(sys::touch);
            }
        }
    });
    let has_ended = victim.is_some_and(|pid| sys::ends_within(pid, Duration::from_secs(60)));
    for pid in bystanders.into_iter().chain([victim, feeder]).flatten() {
        sys::kill(pid);
    }
    sys::close(pipe.reader);
    sys::close(pipe.writer);
    has_ended && (0..1000).any(|_| sys::reap_all() || sleep_a_moment())
}

fn sleep_a_moment() -> bool {
    thread::sleep(Duration::from_millis(10));
    false
}

/// Has a thread wait for many futexes. Only one: with each that gets away the kernel has a stack to give away.
fn wait_for_many(_: sys::Pipe) {
    static ALL: [AtomicU32; WORDS] = [const { AtomicU32::new(0) }; WORDS];
    thread::spawn(|| sys::wait_for_any(&ALL));
    thread::sleep(Duration::from_millis(100));
}

/// Uses the futexes in new memory, one in each page.
fn use_futexes(_: sys::Pipe) {
    with_new_memory(|addr| (addr..addr + SIZE).step_by(4096).for_each(sys::try_lock));
}

/// Opens the pipe anew, so that this process is what closes it.
fn keep_writer(pipe: sys::Pipe) {
    let _writer = sys::open_again(pipe.writer);
}

/// Reads the pipe into new memory.
fn read_pipe(pipe: sys::Pipe) {
    with_new_memory(|addr| {
        (addr..addr + SIZE).step_by(1 << 16).for_each(|piece| sys::read_into(pipe.reader, piece, 1 << 16));
    });
}

fn with_new_memory(fill: impl Fn(usize)) {
    loop {
        if let Some(addr) = sys::map(SIZE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE) {
            fill(addr);
            sys::unmap(addr, SIZE);
        }
    }
}
