// SPDX-License-Identifier: MPL-2.0

//! Sequences from seeds. What is mapped is not known here: ranges come from a few small zones, so that they meet.

use crate::{
    random::{Random, mix},
    step::{Args, Step},
    symbols::{ARENA, ARENA_PAGES, FILES, HEAP_MARK, PAGE, SCRATCH, SCRATCH_MARK},
    verb::{self, Role, VERBS, Verb},
};

/// First page and number of pages of each zone of the arena: at its begin; within the guard gap of what grows down from the next
/// ones; across a border of two page-table nodes; where the kernel places what may go anywhere.
const ZONES: [(u32, (u64, u64)); 4] =
    [(50, (0, 20)), (10, (290, 20)), (20, (502, 20)), (20, (ARENA_PAGES - 24, 24))];
/// Pages of the heap that steps name.
const HEAP_ZONE: u64 = 24;

/// Makes the arguments of steps.
pub struct Maker {
    pub random: Random,
    /// Whether the heap's window is open.
    pub has_heap: bool,
    /// Whether there is a process 1.
    is_two: bool,
    /// Where something was mapped last, at an address that was insisted on: address and length.
    pub last_map: Option<(u64, u64)>,
    /// What many steps are about: the last segment, or what a userfaultfd was told to watch.
    pub focus: Option<(u64, u64)>,
}

/// The steps that a seed makes.
pub fn sequence(seed: u64, length: usize) -> Vec<Step> {
    /// So many steps first map something.
    const FIRST: usize = 6;
    let mut maker =
        Maker { random: Random::new(mix(seed)), has_heap: false, is_two: false, last_map: None, focus: None };
    let mut steps = vec![maker.step(verb::find("setup").unwrap_or(VERBS[0]))];
    let (has_segments, has_uffd) = (maker.random.one_in(4), maker.random.one_in(4));
    let of = |verbs: &'static [&'static Verb], is_there| if is_there { verbs } else { &[] };
    let more = of(verb::sysv::VERBS, has_segments).iter().chain(of(verb::uffd::VERBS, has_uffd));
    let weights: Vec<_> = VERBS.iter().chain(more).map(|verb| (verb.weight, *verb)).collect();
    if has_uffd {
        steps.extend(verb::uffd::VERBS[..2].iter().map(|verb| maker.step(verb)));
    }
    while steps.len() < length {
        let verb = if steps.len() < FIRST { &verb::mmap::MMAP } else { maker.random.weighted(&weights) };
        match verb.role {
            Role::Fork if maker.is_two => continue,
            Role::Exit if !maker.is_two => continue,
            _ => steps.push(maker.step(verb)),
        }
        if verb.name == "uffd_close" {
            steps.extend(verb::uffd::VERBS[..2].iter().map(|verb| maker.step(verb)));
        }
    }
    for name in ["look_all", "exit", "files"] {
        if let Some(verb) = verb::find(name).filter(|verb| verb.role != Role::Exit || maker.is_two) {
            steps.push(Step { who: usize::from(verb.role == Role::Exit), verb, args: [0; 6] });
        }
    }
    steps
}

impl Maker {
    /// A step with this verb.
    fn step(&mut self, verb: &'static Verb) -> Step {
        let who = match verb.role {
            Role::Plain => usize::from(self.is_two && self.random.below(5) < 2),
            Role::Fork => 0,
            Role::Exit => 1,
        };
        match verb.role {
            Role::Fork => self.is_two = true,
            Role::Exit => self.is_two = false,
            Role::Plain => {}
        }
        Step { who, verb, args: (verb.make)(self) }
    }

    /// Whole pages of a zone, at most so many: address and length.
    pub fn pages(&mut self, most: u64) -> (u64, u64) {
        if let Some((start, len)) = self.focus
            && self.random.one_in(2)
        {
            let (page, count) = (self.random.below(len / PAGE), 1 + self.random.below(most.min(4)));
            return (start + page * PAGE, count.min(len / PAGE - page) * PAGE);
        }
        let (base, first, count) = if self.has_heap && self.random.one_in(6) {
            (HEAP_MARK, 0, HEAP_ZONE)
        } else {
            let (first, count) = self.random.weighted(&ZONES);
            (ARENA, first, count)
        };
        let page = self.random.below(count);
        let len = match self.random.below(8) {
            0 => 1 + self.random.below(most),
            1 | 2 => 1,
            _ => 1 + self.random.below(most.min(6)),
        };
        (base + (first + page) * PAGE, len.min(count - page) * PAGE)
    }

    /// A place for so many bytes, within a window.
    pub fn place(&mut self, len: u64) -> u64 {
        let (first, count) = self.random.weighted(&ZONES);
        let pages = len.div_ceil(PAGE).min(count);
        ARENA + (first + self.random.below(count - pages + 1)) * PAGE
    }

    /// A range, seldom with an odd begin or end. It touches no page outside of the windows.
    pub fn range(&mut self) -> (u64, u64) {
        let (addr, len) = self.pages(16);
        let odd = 1 + self.random.below(PAGE - 1);
        match self.random.below(24) {
            0 => (addr + odd, len - odd),
            1 => (addr, len - odd),
            2 => (addr, 0),
            _ => (addr, len),
        }
    }

    /// A range that no call accepts: one that wraps around, or is not the user's.
    pub fn wild(&mut self) -> (u64, u64) {
        let (addr, len) = self.pages(4);
        let place = self.random.pick(&[1 << 47, 1 << 63, 0xffff_8000_0000_0000, u64::MAX - PAGE + 1]);
        let size = self.random.pick(&[u64::MAX, u64::MAX - PAGE + 1, u64::MAX - 2 * PAGE + 1]);
        match self.random.below(3) {
            0 => (addr, size),
            1 => (place, len),
            _ => (place, 2 * PAGE),
        }
    }

    /// A range, seldom a wild one.
    pub fn any_range(&mut self) -> (u64, u64) {
        if self.random.one_in(32) { self.wild() } else { self.range() }
    }

    /// An address to access, with so many bytes from there on.
    pub fn byte(&mut self) -> u64 {
        let (addr, _) = self.pages(1);
        match self.random.below(40) {
            0 => self.random.pick(&[0, 8, 1 << 47, 1 << 63, 0xffff_8000_0000_0000, u64::MAX - 15]),
            1..6 => addr + PAGE - 4,
            6..12 => addr + self.random.below(PAGE - 8),
            12..20 => addr + PAGE - 8,
            _ => addr,
        }
    }

    /// Bytes that a call reads or writes: address and length.
    pub fn buffer(&mut self) -> (u64, u64) {
        if self.random.one_in(3) {
            let len = 1 + self.random.below(3 * PAGE);
            return (SCRATCH_MARK + self.random.below(SCRATCH - len), len);
        }
        if self.random.one_in(32) {
            return self.wild();
        }
        let (addr, len) = self.pages(4);
        let odd = self.random.below(PAGE);
        if self.random.one_in(2) { (addr + odd, len - odd) } else { (addr, len) }
    }

    /// A place for so many bytes that a call writes.
    pub fn out_buffer(&mut self, len: u64) -> u64 {
        let (addr, _) = self.pages(1);
        match self.random.below(4) {
            0 => addr + PAGE - 1 - self.random.below(len.clamp(1, PAGE)),
            _ => SCRATCH_MARK + self.random.below(SCRATCH - len.min(SCRATCH - 1)),
        }
    }

    /// A file, mostly one of those with pages.
    pub fn file(&mut self) -> u64 {
        let slot = self.random.weighted(&[
            (30, 0),
            (14, 1),
            (8, 2),
            (3, 3),
            (6, 4),
            (16, 5),
            (8, 6),
            (4, 7),
            (5, 8),
            (1, 9),
            (1, 10),
            (1, 11),
        ]);
        FILES[slot].1
    }

    /// A file that is open for everything.
    pub fn plain_file(&mut self) -> u64 {
        match self.random.below(12) {
            0 => self.file(),
            1..6 => FILES[0].1,
            6 | 7 => FILES[1].1,
            8 | 9 => FILES[5].1,
            _ => FILES[6].1,
        }
    }

    /// Protection bits.
    pub fn protection(&mut self) -> u64 {
        const CHOICES: [(u32, u64); 9] =
            [(50, 3), (20, 1), (12, 0), (4, 5), (4, 7), (3, 2), (3, 4), (2, 6), (1, 8 | 1)];
        self.random.weighted(&CHOICES)
    }

    /// One of the processes.
    pub fn who(&mut self) -> u64 {
        match self.random.below(20) {
            0 => 2,
            number => number % 2,
        }
    }

    /// A word to be stored; often one whose first byte can be executed.
    pub fn word(&mut self) -> u64 {
        if self.random.one_in(4) { 0xc3 } else { self.random.next() }
    }
}

/// Puts arguments together.
pub fn args<const N: usize>(given: [u64; N]) -> Args {
    let mut args = [0; 6];
    args[..N].copy_from_slice(&given);
    args
}
