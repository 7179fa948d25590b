// SPDX-License-Identifier: MPL-2.0

//! What a process of a sequence knows of itself: where its windows are, and what is in them by its own doing.

use std::{cell::UnsafeCell, ffi::CString, ops::Range, sync::atomic::Ordering::Relaxed};

use crate::{
    access::Fault,
    add,
    shared::Shared,
    symbols::{
        ARENA, ARENA_END, ARENA_PAGES, HEAP_MARK, HEAP_PAGES, Kind, PAGE, SCRATCH, SCRATCH_MARK, offset_from,
        print_offset,
    },
    sys,
    view::Figures,
};

/// Memory of the program itself that steps may use.
#[repr(align(4096))]
struct Scratch(UnsafeCell<[u8; SCRATCH as usize]>);

// SAFETY: only system calls and the accesses of steps touch it, by address.
unsafe impl Sync for Scratch {}

static SCRATCH_ROOM: Scratch = Scratch(UnsafeCell::new([0; SCRATCH as usize]));

/// The number of the first descriptor of a sequence.
const FIRST_FD: i32 = 64;

/// A process of a sequence.
pub struct World {
    /// What comes of the step that runs.
    pub out: String,
    /// Which of the two processes this is.
    pub me: usize,
    pub shared: &'static Shared,
    pub edges: Edges,
    /// Which of the two processes the userfaultfd is of.
    pub watched: usize,
    /// Room for what is read of `/proc`.
    pub buffer: String,
    /// The begin of the heap.
    heap: u64,
    /// What the kernel said of the process before it began.
    pub baseline: Figures,
    folder: String,
}

impl World {
    pub fn new(shared: &'static Shared, folder: &str, heap: u64) -> Self {
        let out = String::with_capacity(1 << 16);
        let edges = Edges([false; Edges::COUNT]);
        let (me, watched, baseline) = (0, 0, Figures::default());
        let buffer = String::with_capacity(1 << 16);
        Self { out, buffer, me, watched, shared, edges, heap, baseline, folder: folder.to_owned() }
    }

    /// The process that has the number `who`; one that there is not has a number that is none.
    pub fn pid(&self, who: usize) -> i32 {
        let pid = self.shared.pids.get(who).map_or(0, |pid| pid.load(Relaxed));
        if pid == 0 { i32::MAX } else { pid }
    }

    /// The ranges that steps work in: arena and heap.
    pub fn windows(&self) -> [Range<u64>; 2] {
        [ARENA..ARENA_END, self.heap..self.heap + HEAP_PAGES * PAGE]
    }

    /// The address that stands in a step.
    pub fn resolve(&self, addr: u64) -> u64 {
        let scratch = SCRATCH_ROOM.0.get() as u64;
        match (offset_from(HEAP_MARK, addr), offset_from(SCRATCH_MARK, addr)) {
            (Some(offset), _) => self.heap.wrapping_add_signed(offset),
            (_, Some(offset)) => scratch.wrapping_add_signed(offset),
            _ => addr,
        }
    }

    /// The arguments of a step, with addresses as they are.
    pub fn resolve_all(&self, kinds: &[Kind], args: &[u64; 6]) -> [u64; 6] {
        let mut resolved = *args;
        for (kind, arg) in kinds.iter().zip(&mut resolved) {
            if let Kind::Address = kind {
                *arg = self.resolve(*arg);
            }
        }
        resolved
    }

    /// Prints an address relative to what it lies in.
    pub fn print_addr(&mut self, addr: u64) {
        let [arena, heap] = self.windows();
        let scratch = SCRATCH_ROOM.0.get() as u64;
        let out = &mut self.out;
        if (arena.start..=arena.end).contains(&addr) {
            print_offset('A', (addr - arena.start) as i64, out);
        } else if (heap.start..=heap.end).contains(&addr) {
            print_offset('H', (addr - heap.start) as i64, out);
        } else if (scratch..scratch + SCRATCH).contains(&addr) {
            print_offset('S', (addr - scratch) as i64, out);
        } else if !(PAGE..1 << 47).contains(&addr) {
            add(out, format_args!("{addr:#x}"));
        } else {
            out.push_str("elsewhere");
        }
    }

    /// Tells a call's answer that is a number.
    pub fn tell(&mut self, answer: i64) {
        self.out.push_str("= ");
        match sys::errno(answer) {
            Some(errno) => self.out.push_str(&sys::errno_name(errno)),
            None => add(&mut self.out, format_args!("{answer:#x}")),
        }
    }

    /// Tells a call's answer that is an address.
    pub fn tell_addr(&mut self, answer: i64) {
        if sys::errno(answer).is_some() {
            return self.tell(answer);
        }
        self.out.push_str("= ");
        self.print_addr(answer as u64);
    }

    /// Tells what an access answered.
    pub fn tell_access(&mut self, answer: Result<u64, Fault>) {
        match answer {
            Ok(value) => add(&mut self.out, format_args!("= {value:#x}")),
            Err(fault) => {
                let signal = sys::signal_name(fault.signal);
                add(&mut self.out, format_args!("= {signal} {} ", fault.code));
                self.print_addr(fault.addr);
            }
        }
    }

    /// A path in the folder of the sequence.
    fn path(&self, name: &str) -> CString {
        CString::new(format!("{}/{name}", self.folder)).unwrap_or_default()
    }

    /// Makes the files, each with its descriptor: those of `symbols::FILES`, in the same order.
    pub fn open_files(&self) {
        const ALLOW_SEALING: u32 = 2;
        let (rw, ro, wo) = (libc::O_RDWR, libc::O_RDONLY, libc::O_WRONLY);
        let at = libc::AT_FDCWD;
        let open = |name: &str, flags: i32| syscall!(SYS_openat, at, self.path(name).as_ptr(), flags, 0o666);
        for name in ["a", "b"] {
            syscall!(SYS_unlinkat, at, self.path(name).as_ptr(), 0);
        }
        syscall!(SYS_umask, 0);
        let place = |slot: i32, fd: i64| {
            syscall!(SYS_dup2, fd, FIRST_FD + slot);
            syscall!(SYS_close, fd);
        };
        let memfd = |name: &std::ffi::CStr, flags: u32| syscall!(SYS_memfd_create, name.as_ptr(), flags);
        place(0, open("a", rw | libc::O_CREAT));
        place(1, open("b", rw | libc::O_CREAT));
        place(2, open("a", ro));
        place(3, open("a", wo));
        place(4, open("b", rw | libc::O_APPEND));
        place(5, memfd(c"m", ALLOW_SEALING));
        place(6, memfd(c"s", 0));
        let again = c"/proc/self/fd/69";
        place(7, syscall!(SYS_openat, at, again.as_ptr(), ro, 0));
        place(8, syscall!(SYS_openat, at, c"/dev/zero".as_ptr(), rw, 0));
        let mut ends = [0i32; 2];
        syscall!(SYS_pipe2, ends.as_mut_ptr(), 0);
        place(9, i64::from(ends[0]));
        syscall!(SYS_close, ends[1]);

        let mut bytes = [0u8; PAGE as usize];
        for (slot, size) in [(0, 6 * PAGE + 0x123), (1, 3 * PAGE), (5, 4 * PAGE), (6, 2 * PAGE + 1)] {
            for start in (0..size).step_by(PAGE as usize) {
                for (index, word) in (0u64..).zip(bytes.chunks_exact_mut(8)) {
                    word.copy_from_slice(
                        &((slot as u64) << 56 | (start / PAGE + 1) << 32 | index).to_le_bytes(),
                    );
                }
                let count = PAGE.min(size - start);
                syscall!(SYS_pwrite64, FIRST_FD + slot, bytes.as_ptr(), count, start);
            }
        }
    }
}

/// Where mappings may or may not end.
///
/// Whether Linux makes one mapping of two neighbours that are alike depends on where their pages were first touched, which
/// programs cannot know. `mremap` refuses a range of two mappings; so it is not asked about a range with such an edge inside.
pub struct Edges([bool; Edges::COUNT]);

impl Edges {
    /// One for each page of the windows, and for their ends.
    const COUNT: usize = (ARENA_PAGES + HEAP_PAGES + 2) as usize;

    /// The index of an address.
    fn index(world: &[Range<u64>; 2], addr: u64) -> Option<usize> {
        let [arena, heap] = world;
        let inside = |window: &Range<u64>| (window.start..=window.end).contains(&addr);
        if inside(arena) {
            Some(((addr - arena.start) / PAGE) as usize)
        } else if inside(heap) {
            Some(((addr - heap.start) / PAGE + ARENA_PAGES + 1) as usize)
        } else {
            None
        }
    }

    /// The indices of a range, its end included; none if it is not within a window.
    fn span(windows: &[Range<u64>; 2], range: &Range<u64>) -> Option<Range<usize>> {
        let end = range.end.checked_next_multiple_of(PAGE)?;
        let (first, last) = (Self::index(windows, range.start)?, Self::index(windows, end)?);
        (first <= last).then_some(first..last)
    }

    /// Notes that a call had this range.
    pub fn note(&mut self, windows: &[Range<u64>; 2], range: Range<u64>) {
        if let Some(span) = Self::span(windows, &range) {
            self.0[span.start] = true;
            self.0[span.end] = true;
        }
    }

    /// Notes that this range is one mapping.
    pub fn begin(&mut self, windows: &[Range<u64>; 2], range: Range<u64>) {
        if let Some(span) = Self::span(windows, &range) {
            self.0[span.clone()].fill(false);
            self.0[span.start] = true;
            self.0[span.end] = true;
        }
    }

    /// Whether there is an edge inside of a range.
    pub fn has_inside(&self, windows: &[Range<u64>; 2], range: Range<u64>) -> bool {
        Self::span(windows, &range).is_some_and(|span| {
            self.0.get(span.start + 1..span.end).is_some_and(|edges| edges.contains(&true))
        })
    }
}
