// SPDX-License-Identifier: MPL-2.0

//! Faults on anonymous memory.

use super::{Operation, operations};
use crate::{
    arena::{ANONYMOUS, Area, Crowd, PAGE, READ_WRITE, read, shuffled, unmap, write},
    clock::Samples,
    sys::{Result, check},
};

pub const OPERATIONS: &[Operation] = operations! {
    "first_write", 1, 1, 2000, first::<{ WRITE }>, "the first write to an anonymous page, one page after the other";
    "first_write_random", 1, 1, 2000, random::<{ WRITE }>, "the same, in no order over 16 MiB";
    "first_write_2000", 1, 1, 1000, crowded::<{ WRITE }>, "the same, each page in another one of 2,000 mappings";
    "first_read", 0, 1, 2000, first::<{ READ }>, "the first read of an anonymous page, which shows the shared page of zeroes";
    "first_read_random", 0, 1, 2000, random::<{ READ }>, "the same, in no order over 16 MiB";
    "first_read_2000", 0, 1, 1000, crowded::<{ READ }>, "the same, each page in another one of 2,000 mappings";
    "write_after_read", 1, 1, 2000, first::<{ WRITE_AFTER_READ }>, "the first write to an anonymous page that was only read so far";
    "write_after_read_random", 1, 1, 2000, random::<{ WRITE_AFTER_READ }>, "the same, in no order over 16 MiB";
    "write_after_read_2000", 1, 1, 1000, crowded::<{ WRITE_AFTER_READ }>, "the same, each page in another one of 2,000 mappings";
    "populate", 1, 256, 20, populate, "`mmap` with MAP_POPULATE of 256 pages, by the page";
};

/// What is done to a page; a constant, so that no test of it is in what is timed.
const WRITE: u8 = 0;
const READ: u8 = 1;
const WRITE_AFTER_READ: u8 = 2;

/// Pages of the areas here, 16 MiB.
const PAGES: usize = 4096;

#[inline(always)]
fn time<const KIND: u8>(samples: &mut Samples, address: usize) {
    match KIND {
        READ => samples.time(|| read(address)),
        _ => samples.time(|| write(address)),
    }
}

/// What goes before: a page of `WRITE_AFTER_READ` has been read.
fn prepare<const KIND: u8>(address: usize) {
    if KIND == WRITE_AFTER_READ {
        read(address);
    }
}

fn first<const KIND: u8>(samples: &mut Samples) -> Result {
    while samples.wants_more() {
        let area = Area::new(PAGES)?;
        let pages = PAGES.min(samples.wanted());
        (0..pages).for_each(|page| prepare::<KIND>(area.at(page)));
        (0..pages).for_each(|page| time::<KIND>(samples, area.at(page)));
    }
    Ok(())
}

fn random<const KIND: u8>(samples: &mut Samples) -> Result {
    while samples.wants_more() {
        let area = Area::new(PAGES)?;
        let mut order = shuffled(PAGES);
        order.truncate(samples.wanted());
        order.iter().for_each(|&page| prepare::<KIND>(area.at(page)));
        order.iter().for_each(|&page| time::<KIND>(samples, area.at(page)));
    }
    Ok(())
}

/// The first page of each mapping has been written to, so that what is needed once for a mapping is there.
fn crowded<const KIND: u8>(samples: &mut Samples) -> Result {
    while samples.wants_more() {
        let crowd = Crowd::new(2000)?;
        let order = crowd.some(samples.wanted());
        for &mapping in &order {
            write(crowd.at(mapping));
            prepare::<KIND>(crowd.at(mapping) + PAGE);
        }
        order.iter().for_each(|&mapping| time::<KIND>(samples, crowd.at(mapping) + PAGE));
    }
    Ok(())
}

fn populate(samples: &mut Samples) -> Result {
    const MANY: usize = 256;
    while samples.wants_more() {
        let flags = ANONYMOUS | libc::MAP_POPULATE;
        let base = samples.time(|| syscall!(libc::SYS_mmap, 0, MANY * PAGE, READ_WRITE, flags, -1isize, 0));
        check("munmap", unmap(check("mmap", base)?, MANY))?;
    }
    Ok(())
}
