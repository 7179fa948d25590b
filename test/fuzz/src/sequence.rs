// SPDX-License-Identifier: MPL-2.0

//! A sequence, played: two processes take turns at its steps, and a supervisor sees them end.
//!
//! ```text
//! supervisor ── process 0 ──┬──────────────┬────────────►   step 0, 1,      4, 5 (the child's end), 6 ...
//!   fills what is not       └─ process 1 ──┘                       2, 3,      (a fork gives another)
//!   a window, once
//! ```
//!
//! All that is not a window is filled with mappings that nothing merges with (of a file, without access), so that whatever the
//! kernel places for itself goes into a window, at an address that can be told.

use std::{
    ops::Range,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
};

use crate::{
    access, add, maker,
    shared::{Level, Shared},
    step::Step,
    symbols::{ARENA, ARENA_END, HEAP_PAGES, PAGE},
    verb::Role,
    view,
    world::World,
};

/// A sequence takes at most so many seconds.
const LIMIT: u64 = 20;
/// The end of what programs can use.
const TASK_END: u64 = (1 << 47) - PAGE;
/// Nothing can be mapped below. Of what follows the superuser may use all, and on Linux gets it when nothing else is left.
const TASK_START: u64 = PAGE;

/// Where the steps come from.
pub enum Source {
    /// A seed, and how many there are to be.
    Seed(u64, usize),
    Steps(Vec<Step>),
}

/// What all sequences have in common.
pub struct Stage {
    shared: &'static Shared,
    folder: String,
    heap: u64,
}

impl Stage {
    /// Fills the address space.
    pub fn new(folder: &str) -> Result<Self, String> {
        let shared = Shared::map().ok_or("nothing can be mapped")?;
        grow_stack();
        let end = syscall!(SYS_brk, 0) as u64;
        let heap = end.next_multiple_of(PAGE);
        syscall!(SYS_brk, heap);
        fill(&format!("{folder}/filler"), heap)?;
        access::install();
        Ok(Self { shared, folder: folder.to_owned(), heap })
    }

    /// Plays a sequence in new processes; what is to be printed of it.
    pub fn play(&mut self, name: &str, source: &Source, level: Level) -> String {
        self.shared.reset();
        let pid = syscall!(SYS_fork);
        if pid == 0 {
            syscall!(SYS_setpgid, 0, 0);
            syscall!(SYS_alarm, LIMIT);
            let world = World::new(self.shared, &self.folder, self.heap);
            let made;
            let steps = match source {
                Source::Seed(seed, length) => {
                    made = maker::sequence(*seed, *length);
                    &made
                }
                Source::Steps(steps) => steps,
            };
            Player { world, steps, level, is_two: false }.play();
            exit();
        }
        let mut status = 0i32;
        syscall!(SYS_wait4, pid, &raw mut status, 0, 0);
        syscall!(SYS_kill, -pid, libc::SIGKILL);
        while syscall!(SYS_wait4, -pid, 0, 0, 0) > 0 {}
        for segment in &self.shared.segments {
            let segment = segment.load(Relaxed);
            if segment != 0 {
                syscall!(SYS_shmctl, segment - 1, libc::IPC_RMID, 0);
            }
        }

        let told = self.shared.told.load(Relaxed);
        let mut text = String::new();
        match level {
            Level::Sequence => {
                let digest = self.shared.digest.load(Relaxed);
                add(&mut text, format_args!("s {name} {told} {digest:016x} {status}\n"));
            }
            Level::Step => {
                add(&mut text, format_args!("t {name} {status}"));
                self.shared.digests().for_each(|digest| add(&mut text, format_args!(" {digest:016x}")));
                text.push('\n');
            }
            Level::Text | Level::Last => {
                add(&mut text, format_args!("case {name}\n"));
                text.push_str(&self.shared.text());
                add(&mut text, format_args!("ended {status}\n"));
            }
        }
        text
    }
}

/// One of the two processes, at its steps.
struct Player<'a> {
    world: World,
    steps: &'a [Step],
    level: Level,
    /// Whether there is a process 1.
    is_two: bool,
}

impl Player<'_> {
    fn play(&mut self) {
        self.world.open_files();
        self.world.shared.pids[0].store(syscall!(SYS_getpid) as i32, Relaxed);
        self.world.baseline = view::figures();
        for (index, step) in self.steps.iter().enumerate() {
            let turn = index as u32;
            let is_mine = self.world.me == if self.is_two { step.who } else { 0 };
            match step.verb.role {
                Role::Fork if !self.is_two => self.fork(turn, step),
                Role::Exit if self.is_two => self.end_child(turn, step),
                _ if is_mine => {
                    self.wait_for(turn);
                    self.take(turn, step);
                    self.pass(turn + 1);
                }
                _ => {}
            }
        }
        self.wait_for(self.steps.len() as u32);
        if self.world.me == 1 {
            exit();
        }
    }

    /// Does one step and tells what came of it.
    fn take(&mut self, turn: u32, step: &Step) {
        self.begin(turn, step);
        let args = self.world.resolve_all(step.verb.kinds, &step.args);
        (step.verb.run)(&mut self.world, &args);
        self.finish();
    }

    fn begin(&mut self, turn: u32, step: &Step) {
        self.world.out.clear();
        if matches!(self.level, Level::Text | Level::Last) {
            add(&mut self.world.out, format_args!("step {turn} "));
            step.print(&mut self.world.out);
            self.world.out.push_str("\n    ");
        }
    }

    fn finish(&mut self) {
        view::tell_maps(&mut self.world);
        self.world.out.push('\n');
        self.world.shared.tell(self.level, &self.world.out);
    }

    /// Forks. Both sides tell what they have then.
    fn fork(&mut self, turn: u32, step: &Step) {
        self.begin(turn, step);
        let pid = syscall!(SYS_fork);
        if pid < 0 {
            self.world.tell(pid);
            self.finish();
            exit();
        }
        self.is_two = true;
        if pid == 0 {
            self.world.me = 1;
            self.world.shared.pids[1].store(syscall!(SYS_getpid) as i32, Relaxed);
            self.world.baseline = view::figures();
            self.finish();
            self.pass(turn + 1);
        } else {
            self.wait_for(turn + 1);
        }
    }

    /// Ends process 1, and waits for its end.
    fn end_child(&mut self, turn: u32, step: &Step) {
        if self.world.me == 1 {
            self.wait_for(turn);
            self.begin(turn, step);
            view::tell_all_pages(&mut self.world);
            self.finish();
            self.pass(turn + 1);
            exit();
        }
        self.wait_for(turn + 1);
        let mut status = 0i32;
        syscall!(SYS_wait4, -1i64, &raw mut status, 0, 0);
        self.world.shared.pids[1].store(0, Relaxed);
        self.is_two = false;
    }

    /// Waits until a step is next.
    fn wait_for(&self, turn: u32) {
        let word = &self.world.shared.turn;
        loop {
            let now = word.load(Acquire);
            if now >= turn {
                return;
            }
            syscall!(SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, now, 0);
        }
    }

    /// Makes a step the next.
    fn pass(&self, turn: u32) {
        let word = &self.world.shared.turn;
        word.store(turn, Release);
        if self.is_two {
            syscall!(SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1);
        }
    }
}

/// Ends the process at once.
fn exit() -> ! {
    loop {
        syscall!(SYS_exit_group, 0);
    }
}

/// Makes the stack as large as it will ever have to be: there will be no room for it to grow.
#[inline(never)]
fn grow_stack() {
    let mut room = [0u8; 512 << 10];
    std::hint::black_box(&mut room);
}

/// Fills every range that is neither mapped nor part of the arena, the heap's window included: a step opens it.
fn fill(path: &str, heap: u64) -> Result<(), String> {
    let file = std::fs::File::create_new(path).map_err(|error| format!("{path}: {error}"))?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(|error| format!("maps: {error}"))?;
    let mut taken: Vec<Range<u64>> = maps
        .lines()
        .filter_map(|line| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
        })
        .collect();
    taken.push(ARENA..ARENA_END);
    // The window of the heap gets a mapping of its own.
    taken.push(heap..heap);
    taken.push(heap + HEAP_PAGES * PAGE..heap + HEAP_PAGES * PAGE);
    taken.push(TASK_END..TASK_END);
    taken.sort_by_key(|range| (range.start, range.end));
    let mut at = TASK_START;
    for range in taken {
        if range.start > at && range.start <= TASK_END {
            let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
            let answer = syscall!(SYS_mmap, at, range.start - at, libc::PROT_NONE, flags, fd, 0);
            if answer < 0 {
                return Err(format!("{at:#x} to {:#x} cannot be filled: {answer}", range.start));
            }
        }
        at = at.max(range.end);
    }
    Ok(())
}

/// The verb that opens the heap's window has it from here.
pub fn open_heap(world: &World) -> i64 {
    let [_, heap] = world.windows();
    syscall!(SYS_munmap, heap.start, heap.end - heap.start)
}
