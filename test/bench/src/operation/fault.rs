// SPDX-License-Identifier: MPL-2.0

//! Faults on anonymous memory.

use super::{Operation, operations};
use crate::{
    arena::{ANONYMOUS, Area, Crowd, PAGE, READ_WRITE, read, shuffled, unmap, write},
    clock::Samples,
    sys::{Result, check},
};

pub const OPERATIONS: &[Operation] = operations! {
    "first_write", 1, 2048, 5, in_order::<{ WRITE }>, "the first write to an anonymous page, one page after the other; mean of 2,048";
    "first_write_single", 1, 1, 2000, single, "the median of such writes instead, each measured by itself";
    "first_write_random", 1, 2048, 5, random::<{ WRITE }>, "the mean in no order over 8 MiB";
    "first_write_2000", 1, 2000, 3, crowded::<{ WRITE }>, "the same, each page in another one of 2,000 mappings";
    "first_read", 0, 2048, 5, in_order::<{ READ }>, "the first read of an anonymous page, which shows the shared page of zeroes, one page after the other; mean of 2,048";
    "first_read_random", 0, 2048, 5, random::<{ READ }>, "the same, in no order over 8 MiB";
    "first_read_2000", 0, 2000, 3, crowded::<{ READ }>, "the same, each page in another one of 2,000 mappings";
    "write_after_read", 1, 2048, 5, in_order::<{ WRITE_AFTER_READ }>, "the first write to an anonymous page that was only read so far; mean of 2,048";
    "write_after_read_random", 1, 2048, 5, random::<{ WRITE_AFTER_READ }>, "the same, in no order over 8 MiB";
    "write_after_read_2000", 1, 2000, 3, crowded::<{ WRITE_AFTER_READ }>, "the same, each page in another one of 2,000 mappings";
    "populate", 1, 256, 20, populate, "`mmap` with MAP_POPULATE of 256 pages, by the page";
};

/// What is done to a page; a constant, so that no test of it is in what is timed.
const WRITE: u8 = 0;
const READ: u8 = 1;
const WRITE_AFTER_READ: u8 = 2;

/// Pages of an area, which are one sample: a kernel may do the work of many faults in one of them, and the other pages
/// must not show as free.
const PAGES: usize = 2048;

/// Takes a sample of touching all these pages.
#[inline(always)]
fn touch_all<const KIND: u8>(samples: &mut Samples, addresses: impl Iterator<Item = usize> + Clone) {
    if KIND == WRITE_AFTER_READ {
        addresses.clone().for_each(read);
    }
    samples.time(|| match KIND {
        READ => addresses.for_each(read),
        _ => addresses.for_each(write),
    });
}

fn in_order<const KIND: u8>(samples: &mut Samples) -> Result {
    while samples.wants_more() {
        let area = Area::new(PAGES)?;
        touch_all::<KIND>(samples, (0..PAGES).map(|page| area.at(page)));
    }
    Ok(())
}

fn single(samples: &mut Samples) -> Result {
    while samples.wants_more() {
        let area = Area::new(PAGES)?;
        (0..PAGES).for_each(|page| samples.time(|| write(area.at(page))));
    }
    Ok(())
}

fn random<const KIND: u8>(samples: &mut Samples) -> Result {
    let order = shuffled(PAGES);
    while samples.wants_more() {
        let area = Area::new(PAGES)?;
        touch_all::<KIND>(samples, order.iter().map(|&page| area.at(page)));
    }
    Ok(())
}

/// The first page of each mapping has been written to, so that what is needed once for a mapping is there.
fn crowded<const KIND: u8>(samples: &mut Samples) -> Result {
    const MAPPINGS: usize = 2000;
    let order = shuffled(MAPPINGS);
    while samples.wants_more() {
        let crowd = Crowd::new(MAPPINGS)?;
        order.iter().for_each(|&mapping| write(crowd.at(mapping)));
        touch_all::<KIND>(samples, order.iter().map(|&mapping| crowd.at(mapping) + PAGE));
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
