// SPDX-License-Identifier: MPL-2.0

//! What becomes of faulting, mapping and unmapping when there are many mappings.

use super::{Operation, operations};
use crate::{
    arena::{Crowd, PAGE, map, unmap, write},
    clock::Samples,
    sys::{Result, check},
};

pub const OPERATIONS: &[Operation] = operations! {
    "fault_among_1000", 1, 1, 200, fault::<1000>, "the first write to a page in one of 1,000 mappings, in no order";
    "fault_among_10000", 1, 1, 200, fault::<10_000>, "the same with 10,000 mappings";
    "fault_among_60000", 1, 1, 200, fault::<60_000>, "the same with 60,000 mappings";
    "map_among_1000", 0, 1, 200, mapping::<1000>, "`mmap` of a page, where the kernel likes, among 1,000 mappings";
    "map_among_10000", 0, 1, 200, mapping::<10_000>, "the same with 10,000 mappings";
    "map_among_60000", 0, 1, 200, mapping::<60_000>, "the same with 60,000 mappings";
    "unmap_among_1000", 0, 1, 200, unmapping::<1000>, "`munmap` of one of 1,000 mappings, in no order";
    "unmap_among_10000", 0, 1, 200, unmapping::<10_000>, "the same with 10,000 mappings";
    "unmap_among_60000", 0, 1, 200, unmapping::<60_000>, "the same with 60,000 mappings";
};

fn fault<const COUNT: usize>(samples: &mut Samples) -> Result {
    while samples.wants_more() {
        let crowd = Crowd::new(COUNT)?;
        let some = crowd.some(samples.wanted());
        some.iter().for_each(|&number| write(crowd.at(number)));
        some.iter().for_each(|&number| samples.time(|| write(crowd.at(number) + PAGE)));
    }
    Ok(())
}

/// The pages stay mapped while others are; the crowd hardly grows by that.
fn mapping<const COUNT: usize>(samples: &mut Samples) -> Result {
    let _crowd = Crowd::new(COUNT)?;
    while samples.wants_more() {
        check("mmap", samples.time(|| map(1)))?;
    }
    Ok(())
}

fn unmapping<const COUNT: usize>(samples: &mut Samples) -> Result {
    let crowd = Crowd::new(COUNT)?;
    for number in crowd.some(samples.wanted().min(COUNT / 2)) {
        check("munmap", samples.time(|| unmap(crowd.at(number), 2)))?;
    }
    Ok(())
}
