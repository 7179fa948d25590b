// SPDX-License-Identifier: MPL-2.0

use super::{super::testing::*, *};
use crate::{machine::CachePolicy, object::VmoKind, sim::SimIoMem};

fn flags(process: &crate::sim::Process) -> alloc::vec::Vec<(Range<usize>, MappingFlags)> {
    layout(process).into_iter().map(|seen| (seen.pages, seen.flags)).collect()
}

#[test]
fn v8_advice_splits_and_its_opposite_merges() {
    let process = process();
    let none = MappingFlags::empty();
    for (advice, opposite, flag) in [
        (Advice::Random, Advice::Normal, MappingFlags::RANDOM),
        (Advice::Sequential, Advice::Normal, MappingFlags::SEQUENTIAL),
        (Advice::DontFork, Advice::DoFork, MappingFlags::DONT_FORK),
        (Advice::WipeOnFork, Advice::KeepOnFork, MappingFlags::WIPE_ON_FORK),
        (Advice::DontDump, Advice::DoDump, MappingFlags::DONT_DUMP),
    ] {
        map(&process, 0..6, RW);
        process.vmar.advise(pages(2..4), advice).unwrap();
        assert_eq!(flags(&process), [(0..2, none), (2..4, flag), (4..6, none)]);
        process.vmar.advise(pages(0..6), opposite).unwrap();
        assert_eq!(flags(&process), [(0..6, none)]);
        process.audit();
    }
    process.vmar.advise(pages(0..6), Advice::Random).unwrap();
    process.vmar.advise(pages(0..6), Advice::Sequential).unwrap();
    assert_eq!(flags(&process), [(0..6, MappingFlags::SEQUENTIAL)]);
}

#[test]
fn v8_advice_passes_over_holes_and_tells() {
    let process = process();
    map(&process, 0..1, RW);
    map(&process, 2..3, RW);
    assert_eq!(process.vmar.advise(pages(0..3), Advice::DontFork), Err(Error::NotMapped));
    assert_eq!(flags(&process), [(0..1, MappingFlags::DONT_FORK), (2..3, MappingFlags::DONT_FORK)]);
    assert_eq!(process.vmar.advise(pages(5..6), Advice::DontFork), Err(Error::NotMapped));
}

#[test]
fn v8_advice_that_does_not_suit_is_refused() {
    let process = process();
    map(&process, 0..1, RW);
    over(&process, 1..2, RW).vmo(object(&process, 1, VmoKind::File)).build().unwrap();
    assert_eq!(process.vmar.advise(pages(0..2), Advice::WipeOnFork), Err(Error::InvalidOptions));
    assert_eq!(flags(&process)[0].1, MappingFlags::WIPE_ON_FORK);
    let io = SimIoMem::new(1);
    over(&process, 4..5, RW).device(io, 0, CachePolicy::WriteBack).shared().build().unwrap();
    for advice in [Advice::DoFork, Advice::DoDump] {
        assert_eq!(process.vmar.advise(pages(4..5), advice), Err(Error::InvalidOptions));
    }
}
