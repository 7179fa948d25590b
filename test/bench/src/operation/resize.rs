// SPDX-License-Identifier: MPL-2.0

//! The heap's end, forgetting pages, and moving and growing mappings.

use super::{Operation, operations};
use crate::{
    arena::{Area, PAGE, unmap, write},
    clock::Samples,
    sys::{Result, check, wrong},
};

pub const OPERATIONS: &[Operation] = operations! {
    "brk_grow", 0, 1, 300, brk_grow, "`brk` that grows the heap by a page";
    "brk_shrink", 0, 1, 300, brk_shrink, "`brk` that shrinks the heap by a page that was not touched";
    "brk_shrink_touched", 0, 1, 300, brk_shrink_touched, "`brk` that shrinks the heap by a resident page";
    "dontneed_1", 0, 1, 300, dontneed::<1>, "MADV_DONTNEED of one resident page";
    "dontneed_100", 0, 1, 100, dontneed::<100>, "MADV_DONTNEED of 100 resident pages";
    "fill_dontneed_100", 100, 1, 300, fill_dontneed, "a write to each of 100 pages and MADV_DONTNEED, over and over: the freeing included";
    "mremap_move_100", 0, 1, 100, mremap_move::<RESIDENT>, "`mremap` that moves 100 resident pages";
    "mremap_move_100_untouched", 0, 1, 100, mremap_move::<UNTOUCHED>, "`mremap` that moves 100 pages of which none is resident";
    "mremap_grow", 0, 1, 200, mremap_grow, "`mremap` that grows a mapping of one page by one, in place";
};

#[inline(always)]
fn brk(end: usize) -> isize {
    syscall!(libc::SYS_brk, end)
}

/// The end of a heap of eight pages of which none is resident.
fn heap() -> Result<usize> {
    let end = (brk(0) as usize).next_multiple_of(PAGE) + 8 * PAGE;
    if brk(end) == end as isize { Ok(end) } else { wrong("brk did not go where it was told") }
}

fn brk_grow(samples: &mut Samples) -> Result {
    let end = heap()?;
    while samples.wants_more() {
        check("brk", samples.time(|| brk(end + PAGE)))?;
        check("brk", brk(end))?;
    }
    Ok(())
}

fn brk_shrink(samples: &mut Samples) -> Result {
    let end = heap()?;
    while samples.wants_more() {
        check("brk", brk(end + PAGE))?;
        check("brk", samples.time(|| brk(end)))?;
    }
    Ok(())
}

fn brk_shrink_touched(samples: &mut Samples) -> Result {
    let end = heap()?;
    while samples.wants_more() {
        check("brk", brk(end + PAGE))?;
        write(end);
        check("brk", samples.time(|| brk(end)))?;
    }
    Ok(())
}

#[inline(always)]
fn forget(area: &Area) -> isize {
    syscall!(libc::SYS_madvise, area.base, area.pages * PAGE, libc::MADV_DONTNEED)
}

fn dontneed<const PAGES: usize>(samples: &mut Samples) -> Result {
    let area = Area::new(PAGES)?;
    while samples.wants_more() {
        area.write_all();
        check("madvise", samples.time(|| forget(&area)))?;
    }
    Ok(())
}

fn fill_dontneed(samples: &mut Samples) -> Result {
    let area = Area::new(100)?;
    while samples.wants_more() {
        let answer = samples.time(|| {
            area.write_all();
            forget(&area)
        });
        check("madvise", answer)?;
    }
    Ok(())
}

const RESIDENT: bool = true;
const UNTOUCHED: bool = false;

/// Back and forth between two places, so that the page-table pages of both are there.
fn mremap_move<const WRITTEN: bool>(samples: &mut Samples) -> Result {
    const PAGES: usize = 100;
    let mut from = Area::new(PAGES)?;
    let mut to = Area::resident(PAGES)?;
    check("munmap", unmap(to.base, PAGES))?;
    while samples.wants_more() {
        if WRITTEN {
            from.write_all();
        }
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let size = PAGES * PAGE;
        let answer = samples.time(|| syscall!(libc::SYS_mremap, from.base, size, size, flags, to.base));
        check("mremap", answer)?;
        std::mem::swap(&mut from, &mut to);
    }
    Ok(())
}

fn mremap_grow(samples: &mut Samples) -> Result {
    let room = Area::resident(8)?;
    check("munmap", unmap(room.at(1), 7))?;
    while samples.wants_more() {
        let answer = samples.time(|| syscall!(libc::SYS_mremap, room.base, PAGE, 2 * PAGE, 0));
        check("mremap", answer)?;
        check("munmap", unmap(room.at(1), 1))?;
    }
    Ok(())
}
