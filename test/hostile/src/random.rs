// SPDX-License-Identifier: MPL-2.0

//! `hostile random SECONDS [SEED]`: random system calls with random arguments, from several processes.
//!
//! ```text
//!   main ── worker, in turn another ──► calls of its seed: a number, six arguments of any kind ──► ended, or ends itself
//!     │ free memory before                                                                              │
//!     └──────────────────────────────── free memory after, when all are gone ◄─────────────────────────┘
//! ```
//!
//! All that a process does follows from its seed: the program's own, which is printed, and how many were started before. A process
//! makes [`CALLS`] calls at most and lives for [`LIFE`]; it has given up every privilege, so that the calls that would end the
//! machine are refused by the kernel. The kernel must neither panic nor hang, which whoever runs this sees, nor keep memory: what is
//! free at the end must be what was at the start but for [`SLACK`].

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::sys;

/// How many processes make calls at once.
const WORKERS: usize = 4;

/// How many calls a process makes at most.
const CALLS: usize = 4000;

/// How long a process lives at most.
const LIFE: Duration = Duration::from_millis(700);

/// How much less memory may be free at the end, in KiB: the kernel keeps empty page tables and the names it has looked up for the next
/// who needs them, and what processes wrote into files in memory is there until the files are removed, which this does not do.
const SLACK: u64 = 8 << 10;

/// The highest number of a system call, and some that are none.
const NUMBERS: u64 = 470;

/// A generator of numbers that look random (xorshift64*).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self((seed ^ 0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    fn pick(&mut self, choices: &[u64]) -> u64 {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Memory that calls are given addresses of, of several kinds.
struct Arena {
    places: [u64; 4],
}

impl Arena {
    const SIZE: usize = 1 << 16;

    fn new() -> Option<Self> {
        let read_write = libc::PROT_READ | libc::PROT_WRITE;
        let own = sys::map(Self::SIZE, read_write, libc::MAP_PRIVATE)?;
        let shared = sys::map(Self::SIZE, read_write, libc::MAP_SHARED)?;
        let read_only = sys::map(Self::SIZE, libc::PROT_READ, libc::MAP_PRIVATE)?;
        let closed = sys::map(Self::SIZE, libc::PROT_NONE, libc::MAP_PRIVATE)?;
        (own..own + Self::SIZE).step_by(512).for_each(sys::touch);
        Some(Self { places: [own, shared, read_only, closed].map(|place| place as u64) })
    }
}

/// Calls after which a process would make no more, or not in the time it has.
const SPARED: [libc::c_long; 9] = [
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_pause,
    libc::SYS_rt_sigsuspend,
    libc::SYS_vfork,
    libc::SYS_fork,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_rt_sigreturn,
];

/// Makes random calls as the command line says, `[SECONDS [SEED]]`; returns whether memory is as free as before, or nothing if these
/// are no numbers.
pub fn run(numbers: &[&str]) -> Option<bool> {
    let numbers = numbers.iter().map(|word| word.parse().ok()).collect::<Option<Vec<u64>>>()?;
    match *numbers {
        [] => Some(call(20, any_seed())),
        [seconds] => Some(call(seconds, any_seed())),
        [seconds, seed] => Some(call(seconds, seed)),
        _ => None,
    }
}

fn any_seed() -> u64 {
    u64::from(std::process::id()) << 20 ^ sys::nanoseconds()
}

fn call(seconds: u64, seed: u64) -> bool {
    println!("hostile: seed {seed}");
    // What the kernel sets up once is set up before memory is looked at.
    for round in 0..WORKERS {
        if let Some(pid) = sys::fork(|| work(u64::MAX - round as u64)) {
            end(pid);
        }
    }
    let before = free_kib();
    let limit = Instant::now() + Duration::from_secs(seconds);
    let mut workers: Vec<Option<(i32, Instant)>> = vec![None; WORKERS];
    let mut started = 0;
    while Instant::now() < limit {
        for worker in &mut workers {
            if let Some((pid, since)) = *worker {
                if since.elapsed() > LIFE {
                    end(pid);
                } else if !sys::has_ended(pid) {
                    continue;
                }
            }
            started += 1;
            let own = seed.wrapping_mul(1_000_003).wrapping_add(started);
            *worker = sys::fork(|| work(own)).map(|pid| (pid, Instant::now()));
        }
        sleep(Duration::from_millis(20));
    }
    workers.into_iter().flatten().for_each(|(pid, _)| end(pid));
    let limit = Instant::now() + Duration::from_secs(30);
    while !sys::reap_all() {
        if Instant::now() > limit {
            println!("hostile: a process does not end");
            return false;
        }
        sleep(Duration::from_millis(10));
    }
    let after = free_after(before);
    println!("hostile: {started} processes, {before} KiB free before, {after} KiB after");
    after + SLACK >= before
}

/// Ends a process, and all of its group.
fn end(pid: i32) {
    sys::kill_group(pid);
    sys::kill(pid);
    let limit = Instant::now() + Duration::from_secs(10);
    while !sys::has_ended(pid) && Instant::now() < limit {
        sleep(Duration::from_millis(2));
    }
}

fn work(seed: u64) {
    sys::lead_group();
    sys::limit_resources();
    sys::become_nobody();
    let Some(arena) = Arena::new() else { return };
    let mut random = Random::new(seed);
    for _ in 0..CALLS {
        let number = random.below(NUMBERS) as libc::c_long;
        let args = std::array::from_fn(|_| argument(&mut random, &arena));
        if !SPARED.contains(&number) {
            sys::call(number, args);
        }
    }
}

/// An argument of any kind.
fn argument(random: &mut Random, arena: &Arena) -> u64 {
    match random.below(10) {
        0 => 0,
        1 => random.below(8),
        // A descriptor, a small number, flags.
        2 => random.below(64),
        3 => 1 << random.below(64),
        4 => random.pick(&[4096, 8192, 1 << 16, 1 << 20, 4095, 1, u64::MAX, i32::MAX as u64, 1 << 31]),
        5..=7 => {
            let place = random.pick(&arena.places);
            place + random.pick(&[0, 8, 4096, 4090, 1 << 15, Arena::SIZE as u64 - 4]) + random.below(3)
        }
        8 => random.pick(&[1 << 47, 0x7fff_ffff_f000, 0xffff_8000_0000_0000, 0xffff_ffff_ffff_f000, 4096]),
        _ => random.next(),
    }
}

/// What is free when the kernel has had a little time to clear up: it frees late.
fn free_after(before: u64) -> u64 {
    let mut free = free_kib();
    for _ in 0..50 {
        if free + SLACK >= before {
            break;
        }
        sleep(Duration::from_millis(100));
        free = free_kib();
    }
    free
}

/// How much memory is free, in KiB.
fn free_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemFree:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
