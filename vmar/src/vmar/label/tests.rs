// SPDX-License-Identifier: MPL-2.0

use super::{
    super::{remap::RemapTarget, testing::*},
    *,
};
use crate::sim::{PAGE_SIZE, Process};

fn labels(vmar: &super::super::FullVmar<crate::sim::Sim>) -> alloc::vec::Vec<(Range<usize>, u8)> {
    let guard = vmar.query(vmar.user_range());
    guard.iter().map(|info| (info.range(), info.label())).collect()
}

fn labelled() -> Process {
    let process = process();
    map(&process, 0..4, RW);
    process.vmar.label(pages(1..3), 7).unwrap();
    process
}

#[test]
fn labels_keep_neighbours_apart() {
    let process = labelled();
    assert_eq!(labels(&process.vmar), [(pages(0..1), 0), (pages(1..3), 7), (pages(3..4), 0)]);
    process.vmar.label(pages(0..4), 7).unwrap();
    assert_eq!(labels(&process.vmar), [(pages(0..4), 7)]);
    process.vmar.label(pages(0..4), 0).unwrap();
    map(&process, 4..5, RW);
    assert_eq!(labels(&process.vmar), [(pages(0..5), 0)]);
    process.audit();
}

#[test]
fn labels_go_with_their_mappings() {
    let process = labelled();
    process.vmar.unmap(pages(2..3)).unwrap();
    process.vmar.protect(pages(1..2), R).unwrap();
    assert_eq!(process.vmar.remap(pages(1..2), PAGE_SIZE, RemapTarget::Fixed(at(9))), Ok(at(9)));
    let expected = [(pages(0..1), 0), (pages(3..4), 0), (pages(9..10), 7)];
    assert_eq!(labels(&process.vmar), expected);
    assert_eq!(labels(&process.vmar.fork().unwrap()), expected);
    map(&process, 9..10, RW);
    assert_eq!(labels(&process.vmar)[2], (pages(9..10), 0));
    process.audit();
}

#[test]
fn holes_are_passed_over() {
    let process = process();
    map(&process, 0..1, RW);
    map(&process, 2..3, RW);
    process.vmar.label(pages(0..3), 1).unwrap();
    process.vmar.label(pages(5..6), 1).unwrap();
    assert_eq!(labels(&process.vmar), [(pages(0..1), 1), (pages(2..3), 1)]);
}

#[test]
fn labelling_all_or_nothing() {
    fail_each_allocation(|process| map(process, 0..4, RW), |process| process.vmar.label(pages(1..3), 1));
}
