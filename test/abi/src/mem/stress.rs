// SPDX-License-Identifier: MPL-2.0

//! Random sequences of memory calls against a model of each page, checked access by access.
//!
//! The model is a row of pages, each unmapped or with rights and a value. After every call some pages are accessed, and
//! what comes back, a value or a fault with its code, must be what the model says; now and then all of them are, and
//! `/proc/self/maps` as well.

use libc::{
    MADV_DONTNEED, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_PRIVATE, MAP_SHARED, MREMAP_DONTUNMAP, MREMAP_FIXED,
    MREMAP_MAYMOVE, PROT_NONE, PROT_READ, PROT_WRITE, SIGSEGV,
};

use super::{ANON, PAGE, RW};
use crate::{
    child::in_child,
    fault::{Fault, SEGV_ACCERR, SEGV_MAPERR, try_read, try_write},
    harness::Case,
    procfs, sys,
    sys::Errno,
    tmp,
};

pub const CASES: &[Case] = cases!["mem/stress", slow:
    anonymous_seed_1,
    anonymous_seed_2,
    anonymous_seed_3,
    with_files_seed_1,
    with_files_seed_2,
    with_fork_seed_1,
    with_fork_seed_2,
    generations,
];

/// Pages in the model's range.
const PAGES: usize = 48;

/// A small generator (xorshift64*): the same sequence for the same seed everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// A range of pages, seldom a long one.
    fn range(&mut self) -> std::ops::Range<usize> {
        let longest = if self.below(8) == 0 { PAGES } else { 8 };
        let start = self.below(PAGES);
        start..(start + 1 + self.below(longest)).min(PAGES)
    }
}

/// Where a page's value lives.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Value {
    /// In this process alone.
    Own(u8),
    /// In that page of the file, as all that show it see it.
    File(usize),
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Page {
    prot: i32,
    value: Value,
    /// What it shows once its own value is dropped: a page of the file, or zero.
    below: Option<usize>,
    shared: bool,
}

struct Model {
    at: usize,
    pages: [Option<Page>; PAGES],
    file: [u8; PAGES],
    fd: i32,
    random: Random,
}

impl Model {
    fn new(seed: u64) -> Self {
        let file: [u8; PAGES] = std::array::from_fn(|page| page as u8 + 100);
        let content: Vec<u8> = file.iter().flat_map(|&number| [number; PAGE]).collect();
        let at = super::free_range(PAGES);
        Self { at, pages: [None; PAGES], file, fd: tmp::file(&content), random: Random(seed) }
    }

    /// The model of a child that goes on from here.
    fn twin(&self) -> Self {
        Self { random: Random(self.random.0), ..*self }
    }

    fn addr(&self, page: usize) -> usize {
        self.at + page * PAGE
    }

    fn value(&self, page: &Page) -> u8 {
        match page.value {
            Value::Own(value) => value,
            Value::File(page) => self.file[page],
        }
    }

    /// What an access that needs `right` is answered with, if it is refused.
    fn refusal(&self, page: usize, right: i32) -> Option<Fault> {
        let code = match self.pages[page] {
            None => SEGV_MAPERR,
            Some(Page { prot, .. }) if prot & right == 0 => SEGV_ACCERR,
            Some(_) => return None,
        };
        Some(Fault { signal: SIGSEGV, code, addr: self.addr(page) + 9 })
    }

    fn check_page(&self, page: usize, step: usize) {
        let expected = match self.refusal(page, PROT_READ | PROT_WRITE) {
            Some(fault) => Err(fault),
            None => Ok(self.pages[page].map_or(0, |page| self.value(&page))),
        };
        check_eq!(try_read(self.addr(page) + 9), expected, "page {page} after step {step}");
    }

    fn check_all(&self, step: usize) {
        (0..PAGES).for_each(|page| self.check_page(page, step));
        let mut seen = [const { None }; PAGES];
        for (start, end, perms) in procfs::layout(self.at..self.addr(PAGES)) {
            seen[start..end].fill(Some(perms));
        }
        for (page, seen) in seen.into_iter().enumerate() {
            let expected = self.pages[page].map(|page| {
                let letter = |right, letter| if page.prot & right == 0 { '-' } else { letter };
                let sharing = if page.shared { 's' } else { 'p' };
                format!("{}{}-{sharing}", letter(PROT_READ, 'r'), letter(PROT_WRITE, 'w'))
            });
            check_eq!(seen, expected, "page {page} in maps after step {step}");
        }
    }

    fn random_prot(&mut self) -> i32 {
        [PROT_NONE, PROT_READ, RW, RW, RW][self.random.below(5)]
    }

    fn write(&mut self, page: usize, value: u8, step: usize) {
        let refusal = self.refusal(page, PROT_WRITE);
        let expected = refusal.map_or(Ok(()), Err);
        check_eq!(try_write(self.addr(page) + 9, value), expected, "writing page {page} after step {step}");
        if let (None, Some(mapped)) = (refusal, &mut self.pages[page]) {
            match mapped.value {
                Value::File(page) if mapped.shared => self.file[page] = value,
                _ => mapped.value = Value::Own(value),
            }
        }
    }

    fn map_anonymous(&mut self) {
        let (range, prot) = (self.random.range(), self.random_prot());
        let (at, len) = (self.addr(range.start), range.len() * PAGE);
        let gentle = self.random.below(4) == 0;
        let flags = ANON | if gentle { MAP_FIXED_NOREPLACE } else { MAP_FIXED };
        let taken = self.pages[range.clone()].iter().any(Option::is_some);
        let expected = if gentle && taken { Err(Errno(libc::EEXIST)) } else { Ok(at) };
        check_eq!(sys::mmap(at, len, prot, flags, -1, 0), expected);
        if expected.is_ok() {
            self.pages[range].fill(Some(Page { prot, value: Value::Own(0), below: None, shared: false }));
        }
    }

    fn map_file(&mut self) {
        let (range, prot) = (self.random.range(), self.random_prot());
        let first = self.random.below(PAGES - range.len() + 1);
        let shared = self.random.below(2) == 0;
        let flags = MAP_FIXED | if shared { MAP_SHARED } else { MAP_PRIVATE };
        let (at, len) = (self.addr(range.start), range.len() * PAGE);
        check_eq!(sys::mmap(at, len, prot, flags, self.fd, (first * PAGE) as i64), Ok(at));
        for (index, page) in range.enumerate() {
            let below = Some(first + index);
            self.pages[page] = Some(Page { prot, value: Value::File(first + index), below, shared });
        }
    }

    fn write_file(&mut self) {
        let (page, value) = (self.random.below(PAGES), self.random.below(256) as u8);
        check_eq!(sys::pwrite(self.fd, &[value; PAGE], page * PAGE), Ok(PAGE));
        self.file[page] = value;
    }

    fn unmap(&mut self) {
        let range = self.random.range();
        check_eq!(sys::munmap(self.addr(range.start), range.len() * PAGE), Ok(0));
        self.pages[range].fill(None);
    }

    fn protect(&mut self) {
        let (range, prot) = (self.random.range(), self.random_prot());
        // Up to the first hole.
        let done = self.pages[range.clone()].iter().take_while(|page| page.is_some()).count();
        let expected = if done == range.len() { Ok(0) } else { Err(Errno(libc::ENOMEM)) };
        check_eq!(sys::mprotect(self.addr(range.start), range.len() * PAGE, prot), expected);
        self.pages[range.start..range.start + done].iter_mut().flatten().for_each(|page| page.prot = prot);
    }

    fn drop_values(&mut self) {
        let range = self.random.range();
        let whole = self.pages[range.clone()].iter().all(Option::is_some);
        let expected = if whole { Ok(0) } else { Err(Errno(libc::ENOMEM)) };
        check_eq!(sys::madvise(self.addr(range.start), range.len() * PAGE, MADV_DONTNEED), expected);
        for page in self.pages[range].iter_mut().flatten() {
            page.value = page.below.map_or(Value::Own(0), Value::File);
        }
    }

    /// Moves one page, the unit that never spans two mappings.
    fn move_page(&mut self) {
        let (from, to) = (self.random.below(PAGES), self.random.below(PAGES));
        let stay = self.random.below(4) == 0 && self.pages[from].is_some_and(|page| page.below.is_none());
        let flags = MREMAP_MAYMOVE | MREMAP_FIXED | if stay { MREMAP_DONTUNMAP } else { 0 };
        let expected = match self.pages[from] {
            // Which of two mistakes is seen first differs between versions: this is made with mapped pages only.
            None if from == to => return,
            _ if from == to => Err(Errno(libc::EINVAL)),
            None => Err(Errno(libc::EFAULT)),
            Some(_) => Ok(self.addr(to)),
        };
        let moved = sys::mremap(self.addr(from), PAGE, PAGE, flags, self.addr(to));
        check_eq!(moved, expected, "from page {from} to {to}");
        if expected.is_ok() {
            self.pages[to] = self.pages[from];
            match &mut self.pages[from] {
                Some(page) if stay => page.value = Value::Own(0),
                page => *page = None,
            }
        } else if self.pages[from].is_none() && from != to && !self.target_survives(to) {
            self.pages[to] = None;
        }
    }

    /// Linux before 6.17 unmaps the target before it looks at the source; which it is here, an access tells.
    fn target_survives(&self, to: usize) -> bool {
        let mapped = ok_or_enomem(sys::msync(self.addr(to), PAGE, libc::MS_ASYNC));
        mapped || self.pages[to].is_none()
    }

    fn step(&mut self, step: usize, files: bool) {
        match self.random.below(if files { 15 } else { 12 }) {
            0..2 => self.map_anonymous(),
            2 => self.unmap(),
            3..5 => self.protect(),
            5 => self.drop_values(),
            6..8 => self.move_page(),
            8..12 => {
                let (page, value) = (self.random.below(PAGES), self.random.below(256) as u8);
                self.write(page, value, step);
            }
            12..14 => self.map_file(),
            _ => self.write_file(),
        }
        for _ in 0..3 {
            let page = self.random.below(PAGES);
            self.check_page(page, step);
        }
    }

    fn run(&mut self, steps: usize, files: bool) {
        for step in 0..steps {
            self.step(step, files);
            if step % 100 == 99 {
                self.check_all(step);
            }
        }
    }
}

fn ok_or_enomem(result: sys::Result) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            check_eq!(error, Errno(libc::ENOMEM));
            false
        }
    }
}

fn anonymous_seed_1() {
    Model::new(1).run(4000, false);
}

fn anonymous_seed_2() {
    Model::new(2).run(4000, false);
}

fn anonymous_seed_3() {
    Model::new(3).run(4000, false);
}

fn with_files_seed_1() {
    Model::new(11).run(4000, true);
}

fn with_files_seed_2() {
    Model::new(12).run(4000, true);
}

/// Children go on with a copy of model and memory; what they do must not show here. Without files, which they share.
fn with_fork(seed: u64) {
    let mut model = Model::new(seed);
    for round in 0..40 {
        model.run(60, false);
        let mut twin = Model { random: Random(seed * 1000 + round + 1), ..model.twin() };
        in_child(|| {
            twin.check_all(0);
            twin.run(60, false);
            twin.check_all(60);
        });
        model.check_all(round as usize);
    }
}

fn with_fork_seed_1() {
    with_fork(21);
}

fn with_fork_seed_2() {
    with_fork(22);
}

/// Each generation changes memory, forks the next, and finds its own memory as it left it.
fn generations() {
    fn generation(model: &mut Model, left: u64) {
        model.random = Random(left + 77);
        model.run(40, false);
        if left > 0 {
            in_child(|| generation(&mut model.twin(), left - 1));
        }
        model.check_all(left as usize);
    }
    generation(&mut Model::new(31), 12);
}
