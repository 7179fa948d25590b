// SPDX-License-Identifier: MPL-2.0

//! `hostile SECONDS`: takes everything the kernel gives, in every way at once, and then gives it all back.
//!
//! ```text
//!   main ─┬─ leader ─┬─ memory ── memory ── ...     one chain of processes for each kind of thing: where a process
//!         │          ├─ pipes ─── pipes ─── ...     gets no more, its child goes on, until not even that is to be had
//!         │          └─ ...
//!         └─ after so many seconds: ends all of the leader's group, waits for them, removes the files
//! ```
//!
//! It succeeds if it could end them all; how many things of each kind were had is on standard output. Not to be run on a
//! machine that somebody needs. `hostile locked` and `hostile traced` do one thing only ([`locked`], [`traced`]), and `hostile random` anything at all
//! ([`random`]).

mod kinds;
mod locked;
mod random;
mod sys;
mod traced;

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread::sleep,
    time::{Duration, Instant},
};

use kinds::{KINDS, Take};

/// Where files are made.
const FOLDERS: [&str; 2] = ["/tmp/hostile", "/dev/shm/hostile"];

/// Refusals in a row after which a process gives up.
const REFUSALS: usize = 8;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let is_well = match *words {
        ["locked"] => Some(locked::run()),
        ["traced"] => Some(traced::run()),
        ["random", ref numbers @ ..] => random::run(numbers),
        [seconds] => seconds.parse().ok().map(everything),
        _ => None,
    };
    match is_well {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprintln!("usage: hostile SECONDS | locked | traced | random [SECONDS [SEED]]");
            ExitCode::from(2)
        }
    }
}

/// Takes everything for so many seconds; returns whether all who took have ended.
fn everything(seconds: u64) -> bool {
    let Some(counts) = sys::shared_counters(KINDS.len()) else {
        eprintln!("hostile: no memory to begin with");
        return false;
    };
    for folder in FOLDERS {
        let _ = std::fs::create_dir(folder);
    }
    sys::adopt_orphans();
    let Some(leader) = sys::fork(|| lead(counts)) else {
        eprintln!("hostile: no process to begin with");
        return false;
    };
    sleep(Duration::from_secs(seconds));
    let all_ended = end_group(leader);
    for folder in FOLDERS {
        let _ = std::fs::remove_dir_all(folder);
    }
    for ((name, _), count) in KINDS.iter().zip(counts) {
        println!("{name:<10} {:>8}", count.load(Relaxed));
    }
    all_ended
}

/// Starts a chain of each kind, and starts it again when all of it has ended: for lack of memory the kernel ends some.
fn lead(counts: &'static [AtomicU64]) {
    sys::lead_group();
    let mut chains = vec![None; KINDS.len()];
    loop {
        for (chain, ((_, take), count)) in chains.iter_mut().zip(KINDS.iter().zip(counts)) {
            if chain.is_none_or(sys::has_ended) {
                *chain = sys::fork(|| take_all(*take, count));
            }
        }
        sleep(Duration::from_millis(200));
    }
}

/// Takes things of a kind until there are no more; a child goes on where a process has reached its own limits.
fn take_all(take: Take, count: &AtomicU64) {
    sys::raise_file_limit();
    loop {
        let (mut tried, mut taken, mut refusals) = (0, 0, 0);
        while refusals < REFUSALS {
            tried += 1;
            if take(tried) {
                taken += 1;
                refusals = 0;
                count.fetch_add(1, Relaxed);
            } else {
                refusals += 1;
                sleep(Duration::from_millis(20));
            }
        }
        if taken == 0 {
            sys::pause();
        }
        match sys::fork_raw() {
            Some(0) => sys::close_all(),
            _ => sys::pause(),
        }
    }
}

/// Ends every process of a group and waits until none is left.
fn end_group(leader: i32) -> bool {
    let limit = Instant::now() + Duration::from_secs(30);
    while Instant::now() < limit {
        sys::kill_group(leader);
        if sys::reap_all() {
            return true;
        }
        sleep(Duration::from_millis(10));
    }
    false
}
