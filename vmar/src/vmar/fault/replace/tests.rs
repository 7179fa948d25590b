// SPDX-License-Identifier: MPL-2.0

use alloc::vec::Vec;
use core::ops::Range;

use super::super::super::{ForkPolicy, lock::LockMode, testing::*};
use crate::{
    object::VmoKind,
    rss::RssKind,
    sim::{PAGE_SIZE, Process},
};

/// Returns the pages that something is mapped at.
fn resident(process: &Process) -> Vec<usize> {
    process.vmar.space().walk().iter().map(|entry| (entry.addr - BASE) / PAGE_SIZE).collect()
}

fn read_all(process: &Process, pages: Range<usize>) {
    pages.for_each(|page| assert!(process.read_byte(at(page)).is_ok()));
}

#[test]
fn v15_zeros_that_were_read_make_room_for_the_writes_to_come() {
    let process = process();
    map(&process, 0..40, RW);
    read_all(&process, 0..1);
    touch(&process, 5..6);
    read_all(&process, 1..12);
    // Of the zeros around page 8, those mapped but not read stay, and so does what is not zeros.
    process.write(at(8), &[9]).unwrap();
    assert_eq!(resident(&process), [0, 1, 2, 3, 4, 5, 8, 12, 13, 14, 15]);
    assert_eq!(
        (process.read_byte(at(7)), process.read_byte(at(8)), process.read_byte(at(5))),
        (Ok(0), Ok(9), Ok(6))
    );
    assert_eq!(process.vmar.rss().pages(RssKind::Anonymous), 2);
    process.audit();
}

#[test]
fn v15_pages_of_a_file_make_room_when_writes_follow_on_each_other() {
    let process = process();
    let vmo = object(&process, 16, VmoKind::File);
    over(&process, 0..16, RW).vmo(vmo.dup()).build().unwrap();
    read_all(&process, 0..16);
    process.write(at(3), &[99]).unwrap();
    assert_eq!(process.vmar.rss().pages(RssKind::File), 15, "a single write leaves the others");
    process.write(at(4), &[99]).unwrap();
    assert_eq!(resident(&process), [0, 1, 2, 3, 4]);
    assert_eq!(process.vmar.rss().pages(RssKind::File), 3);
    assert_eq!(process.vmar.rss().pages(RssKind::Anonymous), 2);
    // Until it is written a page shows what becomes of the file.
    vmo.write_bytes(5 * PAGE_SIZE, &[77]).unwrap();
    assert_eq!(process.read_byte(at(5)), Ok(77));
    process.write(at(5) + 1, &[1]).unwrap();
    assert_eq!((process.read_byte(at(5)), process.read_byte(at(3))), (Ok(77), Ok(99)));
    process.audit();
}

#[test]
fn v15_what_is_locked_stays() {
    let process = process();
    map(&process, 0..8, R);
    process.vmar.lock(pages(0..8), LockMode::Now).unwrap();
    process.vmar.protect(pages(0..8), RW).unwrap();
    read_all(&process, 0..8);
    touch(&process, 3..4);
    assert_eq!(resident(&process), [0, 1, 2, 3, 4, 5, 6, 7]);
    process.audit();
}

#[test]
fn v15_a_copy_that_follows_on_another_copies_ahead() {
    let process = process();
    map(&process, 0..40, RW);
    touch(&process, 0..40);
    process.vmar.set_fork_policy(ForkPolicy::Copy);
    let child = process.fork_on(1).unwrap();
    let copies = |pages: Range<usize>, expected: usize| {
        let before = process.vmar.machine().live_frames();
        pages.for_each(|page| process.write(at(page), &[99]).unwrap());
        assert_eq!(process.vmar.machine().live_frames() - before, expected);
    };
    copies(10..11, 1);
    copies(12..13, 1);
    copies(13..14, 4);
    copies(14..17, 0);
    // Not past the block, nor what is the parent's already.
    copies(28..29, 1);
    copies(29..30, 3);
    copies(35..36, 1);
    copies(33..34, 1);
    copies(34..35, 1);
    for page in 0..40 {
        assert_eq!(child.read_byte(at(page)), Ok(page as u8 + 1));
    }
    assert_eq!(process.read_byte(at(15)), Ok(99));
    assert_eq!(process.read_byte(at(11)), Ok(12));
    assert_eq!(process.vmar.rss().pages(RssKind::Anonymous), 40);
    process.audit();
    child.audit();
}

#[test]
fn v15_without_memory_for_copies_ahead_the_first_is_made() {
    let process = process();
    map(&process, 0..8, RW);
    touch(&process, 0..8);
    let child = process.fork_on(1).unwrap();
    touch(&process, 0..1);
    process.vmar.machine().set_frame_limit(8 + 1 + 1);
    process.write(at(1), &[99]).unwrap();
    assert_eq!(child.read_byte(at(1)), Ok(2));
    process.audit();
    child.audit();
}
