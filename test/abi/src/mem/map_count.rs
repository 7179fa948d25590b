// SPDX-License-Identifier: MPL-2.0

//! The limit on the number of mappings: at it, every call that would make one more is refused and changes nothing.

use libc::{
    MADV_DONTFORK, MAP_FIXED, MAP_NORESERVE, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_EXEC, PROT_NONE, PROT_READ,
};

use super::{ANON, PAGE, RW, free_range};
use crate::{harness::Case, procfs, sys};

pub const CASES: &[Case] = cases!["mem/map_count", slow:
    mmap_at_the_limit_is_enomem,
    every_split_at_the_limit_is_refused,
    unmapping_makes_room_again,
];

/// A process that has as many mappings as it may, most of them single pages in one range.
struct Full {
    /// The end of the single pages and the start of a mapping without rights that reaches on for many pages.
    rest: usize,
    /// The second of the single pages.
    piece: usize,
    /// A place where nothing is mapped.
    hole: usize,
    limit: usize,
}

/// Maps single pages into a range without rights until that is refused. Skips the case where that would take too long.
fn fill_up() -> Full {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    let Ok(limit) = text.trim().parse::<usize>() else { skip!("no /proc/sys/vm/max_map_count") };
    if limit > 70_000 {
        skip!("max_map_count is {limit}: too many to try");
    }
    let hole = free_range(1);
    let at = ok!(sys::mmap(0, 2 * limit * PAGE, PROT_NONE, ANON | MAP_NORESERVE, -1, 0));
    let mut made = 0;
    let error = loop {
        match sys::mmap(at + (2 * made + 1) * PAGE, PAGE, PROT_READ | PROT_EXEC, ANON | MAP_FIXED, -1, 0) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        check!(2 * made < limit, "{made} pieces and no end");
    };
    check_eq!(error, sys::Errno(libc::ENOMEM));
    Full { rest: at + 2 * made * PAGE, piece: at + PAGE, hole, limit }
}

fn mmap_at_the_limit_is_enomem() {
    let full = fill_up();
    let made = procfs::text("maps").lines().count();
    check!(made.abs_diff(full.limit) <= 4, "refused at {made} mappings, the limit is {}", full.limit);
    // The refused call has not even taken a page out of the mapping in its way.
    let vma = procfs::vma_at(full.rest + PAGE);
    check_eq!(vma.map(|vma| (vma.start, vma.perms)), Some((full.rest, "---p".into())));
}

fn every_split_at_the_limit_is_refused() {
    let full = fill_up();
    let middle = full.rest + 10 * PAGE;
    errno_is!(sys::munmap(middle, PAGE), ENOMEM);
    errno_is!(sys::mprotect(middle, PAGE, PROT_READ), ENOMEM);
    errno_is!(sys::mlock(middle, PAGE), ENOMEM);
    errno_is!(sys::madvise(middle, PAGE, MADV_DONTFORK), EAGAIN);
    errno_is!(sys::mremap(middle, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, full.hole), ENOMEM);
    check_eq!(procfs::vma_at(middle).map(|vma| (vma.start, vma.perms)), Some((full.rest, "---p".into())));
    check_eq!(procfs::vma_at(full.hole), None);
    // Where nothing is split, nothing is refused.
    check_eq!(sys::mprotect(full.piece, PAGE, RW), Ok(0));
    check_eq!(sys::munmap(full.piece, PAGE), Ok(0));
}

fn unmapping_makes_room_again() {
    let full = fill_up();
    for piece in 0..8 {
        ok!(sys::munmap(full.piece + 2 * piece * PAGE, PAGE));
    }
    check_eq!(sys::munmap(full.rest + 10 * PAGE, PAGE), Ok(0));
    check_eq!(sys::mprotect(full.rest + 20 * PAGE, PAGE, PROT_READ), Ok(0));
    check_eq!(sys::mmap(full.hole, PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(full.hole));
}
