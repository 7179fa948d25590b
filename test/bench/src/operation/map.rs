// SPDX-License-Identifier: MPL-2.0

//! Making and removing mappings.

use super::{Operation, operations};
use crate::{
    arena::{ANONYMOUS, Area, Crowd, PAGE, READ_WRITE, map, map_at, protect, read, unmap, write},
    clock::Samples,
    sys::{Result, check},
};

pub const OPERATIONS: &[Operation] = operations! {
    "map_unmap", 0, 1, 500, map_unmap, "`mmap` and `munmap` of one page that is not touched";
    "map_touch_unmap", 1, 1, 500, map_touch_unmap, "`mmap` of a page, a write to it, `munmap`, with nothing near that would keep its page table";
    "map_touch_unmap_near", 1, 1, 500, map_touch_unmap_near, "the same with a resident page near, so that the page table stays";
    "map_unmap_2000", 0, 1, 500, map_unmap_2000, "`mmap` and `munmap` of one page, where the kernel likes, among 2,000 mappings";
    "unmap_4096", 0, 4096, 5, unmap_many, "`munmap` of 4,096 resident pages, by the page";
    "fill_unmap_4096", 1, 4096, 30, fill_unmap_many, "`mmap` of 4,096 pages, a write to each, `munmap`, over and over: by the page, the freeing included";
    "hole", 0, 1, 200, hole, "`munmap` of the middle one of three resident pages";
    "hole_untouched", 0, 1, 200, hole_untouched, "`munmap` of the middle one of three pages of which none is resident";
    "replace", 0, 1, 200, replace, "`mmap` with MAP_FIXED over a resident page in the middle of three";
    "split_merge", 0, 1, 200, split_merge, "`mprotect` of the middle one of three pages, the only resident one, and back";
    "split", 0, 1, 200, split, "the first half of that, which makes three mappings of one";
    "merge", 0, 1, 200, merge, "the second half of that, which makes one mapping of three";
};

const MANY: usize = 4096;

/// Makes the next mapping one by itself: none is near that it could become one with, or share a page table with.
///
/// Kernels look for room from the top down: it will be right below this area, which can be read but not written to,
/// and which begins where tables of the two lowest levels do.
fn aside() -> Result<Area> {
    /// What the two lowest levels of page tables map.
    const TABLE: usize = 512 * 512 * PAGE;
    let base = syscall!(libc::SYS_mmap, 0, 2 * TABLE, libc::PROT_READ, ANONYMOUS, -1isize, 0);
    let base = check("mmap", base)?;
    let begin = base.next_multiple_of(TABLE);
    let end = base + 2 * TABLE;
    if begin > base {
        check("munmap", unmap(base, (begin - base) / PAGE))?;
    }
    Ok(Area { base: begin, pages: (end - begin) / PAGE })
}

fn map_unmap(samples: &mut Samples) -> Result {
    let _aside = aside()?;
    while samples.wants_more() {
        let answer = samples.time(|| {
            let base = map(1);
            (base, unmap(base as usize, 1))
        });
        check("mmap", answer.0)?;
        check("munmap", answer.1)?;
    }
    Ok(())
}

#[inline(always)]
fn come_and_go() -> isize {
    let base = map(1) as usize;
    write(base);
    unmap(base, 1)
}

fn map_touch_unmap(samples: &mut Samples) -> Result {
    let _aside = aside()?;
    // Nothing can be written to if this does not work.
    Area::resident(1)?;
    while samples.wants_more() {
        check("munmap", samples.time(come_and_go))?;
    }
    Ok(())
}

fn map_touch_unmap_near(samples: &mut Samples) -> Result {
    let aside = aside()?;
    check("munmap", unmap(aside.base, 1))?;
    // The page below takes the free one, and this one keeps their table.
    read(aside.at(1));
    while samples.wants_more() {
        check("munmap", samples.time(come_and_go))?;
    }
    Ok(())
}

fn map_unmap_2000(samples: &mut Samples) -> Result {
    let _crowd = Crowd::new(2000)?;
    map_unmap(samples)
}

fn unmap_many(samples: &mut Samples) -> Result {
    while samples.wants_more() {
        let area = Area::resident(MANY)?;
        check("munmap", samples.time(|| unmap(area.base, MANY)))?;
    }
    Ok(())
}

/// Long enough for what is put off to be done some time.
fn fill_unmap_many(samples: &mut Samples) -> Result {
    while samples.wants_more() {
        samples.time(|| Area::resident(MANY).map(drop))?;
    }
    Ok(())
}

fn hole(samples: &mut Samples) -> Result {
    while samples.wants_more() {
        let area = Area::resident(3)?;
        check("munmap", samples.time(|| unmap(area.at(1), 1)))?;
    }
    Ok(())
}

fn hole_untouched(samples: &mut Samples) -> Result {
    while samples.wants_more() {
        let area = Area::new(3)?;
        check("munmap", samples.time(|| unmap(area.at(1), 1)))?;
    }
    Ok(())
}

fn replace(samples: &mut Samples) -> Result {
    while samples.wants_more() {
        let area = Area::resident(3)?;
        check("mmap", samples.time(|| map_at(area.at(1), 1, READ_WRITE)))?;
    }
    Ok(())
}

fn split_merge(samples: &mut Samples) -> Result {
    let area = Area::new(3)?;
    write(area.at(1));
    while samples.wants_more() {
        let answer =
            samples.time(|| (protect(area.at(1), 1, libc::PROT_READ), protect(area.at(1), 1, READ_WRITE)));
        check("mprotect", answer.0)?;
        check("mprotect", answer.1)?;
        write(area.at(1));
    }
    Ok(())
}

fn split(samples: &mut Samples) -> Result {
    let area = Area::new(3)?;
    write(area.at(1));
    while samples.wants_more() {
        check("mprotect", samples.time(|| protect(area.at(1), 1, libc::PROT_READ)))?;
        check("mprotect", protect(area.at(1), 1, READ_WRITE))?;
        write(area.at(1));
    }
    Ok(())
}

fn merge(samples: &mut Samples) -> Result {
    let area = Area::new(3)?;
    write(area.at(1));
    while samples.wants_more() {
        check("mprotect", protect(area.at(1), 1, libc::PROT_READ))?;
        check("mprotect", samples.time(|| protect(area.at(1), 1, READ_WRITE)))?;
        write(area.at(1));
    }
    Ok(())
}
