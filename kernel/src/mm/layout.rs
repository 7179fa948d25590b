// SPDX-License-Identifier: MPL-2.0

//! Where things go in an address space: Linux's layout for x86-64, with its randomization.
//!
//! ```text
//! 0   64 KiB        2/3                                            base       stack      128 TiB
//! │    │             │                                               │          │           │
//!      │ fixed ELF   │ PIE program, its heap     ◄── mappings, PIEs ─┤   gap    │◄── stack ─┤
//! ```
//!
//! Source: the comments in Linux's `arch/x86/mm/mmap.c` and `fs/binfmt_elf.c` (6.1) on what is random by how much.

use ostd::mm::MAX_USERSPACE_VADDR;
use vmar::placement::Window;

use crate::{prelude::*, random};

/// Nothing is mapped below (`vm.mmap_min_addr`).
pub const MIN_ADDR: Vaddr = 64 << 10;
/// The end of what a program can use.
pub const TASK_SIZE: Vaddr = MAX_USERSPACE_VADDR;
/// Where a position-independent program with an interpreter starts, before randomization.
pub const PIE_BASE: Vaddr = (TASK_SIZE / 3 * 2) & !(PAGE_SIZE - 1);

/// By how much the stack's top can be lowered: 16 GiB.
const STACK_RANDOM: usize = 16 << 30;
/// By how much mappings can be lowered, and a program raised: 2^28 pages.
const MMAP_RANDOM: usize = PAGE_SIZE << 28;
/// By how much the heap can be raised: 32 MiB.
const HEAP_RANDOM: usize = 32 << 20;
/// The least and the most room that is left for the stack to grow.
const MIN_GAP: usize = 128 << 20;
const MAX_GAP: usize = TASK_SIZE / 6 * 5;
/// The gap that the kernel keeps below a stack.
const STACK_GUARD: usize = 256 * PAGE_SIZE;

/// Whether addresses are random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Randomize {
    /// They are.
    Yes,
    /// They are the same each time (`personality(ADDR_NO_RANDOMIZE)`).
    No,
}

impl Randomize {
    /// A random multiple of the page size below `span`, which is one too.
    fn pages(self, span: usize) -> usize {
        match self {
            Self::Yes => (random::next_u64() as usize) % (span / PAGE_SIZE) * PAGE_SIZE,
            Self::No => 0,
        }
    }

    /// The page-aligned address that the stack ends at.
    pub fn stack_top(self) -> Vaddr {
        TASK_SIZE - self.pages(STACK_RANDOM)
    }

    /// How many bytes below its top the stack begins to be used: less than a page or two, and a multiple of 16.
    pub fn stack_shift(self) -> usize {
        match self {
            Self::Yes => (random::next_u64() as usize % 8192) & !15,
            Self::No => 0,
        }
    }

    /// Where mappings go, if the stack may grow to `stack_limit` bytes.
    pub fn window(self, stack_limit: u64) -> Window {
        let limit = usize::try_from(stack_limit).unwrap_or(usize::MAX);
        let room = match self {
            Self::Yes => STACK_RANDOM + STACK_GUARD,
            Self::No => STACK_GUARD,
        };
        let gap = limit.saturating_add(room).clamp(MIN_GAP, MAX_GAP);
        let base = (TASK_SIZE - gap - self.pages(MMAP_RANDOM)) & !(PAGE_SIZE - 1);
        let bottom = (TASK_SIZE / 3).next_multiple_of(PAGE_SIZE);
        Window { floor: MIN_ADDR, base, bottom, ceiling: TASK_SIZE }
    }

    /// Where a position-independent program with an interpreter starts.
    pub fn pie_base(self) -> Vaddr {
        PIE_BASE + self.pages(MMAP_RANDOM)
    }

    /// Where the heap starts, if the program ends at `end`.
    pub fn heap_start(self, end: Vaddr) -> Vaddr {
        end.next_multiple_of(PAGE_SIZE) + self.pages(HEAP_RANDOM)
    }
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn without_randomization_everything_has_one_place() {
        let fixed = Randomize::No;
        assert_eq!(fixed.stack_top(), TASK_SIZE);
        assert_eq!(fixed.pie_base(), PIE_BASE);
        assert_eq!(fixed.heap_start(0x1234), 0x2000);
        assert_eq!(fixed.window(8 << 20).base, TASK_SIZE - MIN_GAP);
    }

    #[ktest]
    fn mappings_leave_room_for_the_stack() {
        for randomize in [Randomize::Yes, Randomize::No] {
            for limit in [0, 8 << 20, 64 << 30, u64::MAX] {
                let window = randomize.window(limit);
                assert!(window.base <= TASK_SIZE - MIN_GAP);
                assert!(window.base > window.floor && window.base.is_multiple_of(PAGE_SIZE));
            }
        }
        assert!(Randomize::No.window(64 << 30).base <= TASK_SIZE - (64 << 30));
    }

    #[ktest]
    fn random_places_are_aligned_and_in_range() {
        for _ in 0..100 {
            let top = Randomize::Yes.stack_top();
            assert!(top.is_multiple_of(PAGE_SIZE) && (TASK_SIZE - STACK_RANDOM..=TASK_SIZE).contains(&top));
            assert!(Randomize::Yes.stack_shift() < 8192);
            let base = Randomize::Yes.pie_base();
            assert!((PIE_BASE..PIE_BASE + MMAP_RANDOM).contains(&base));
        }
    }
}
