// SPDX-License-Identifier: MPL-2.0

//! Pages that `fallocate(2)` gives a file in memory behind its end (`FALLOC_FL_KEEP_SIZE`): nobody sees them until it grows.

use libc::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, MAP_SHARED};

use super::{PAGE, RW, peek, poke};
use crate::{fault::expect_bus, file::fstat, harness::Case, sys, tmp};

pub const CASES: &[Case] = cases!["mem/keep_size":
    pages_are_where_they_are_asked_for,
    mapping_ends_where_the_file_does,
    pages_become_the_files_when_it_grows,
    fallocate_of_more_takes_them_along,
    truncation_gives_them_back,
    truncation_to_the_same_size_gives_them_back,
    hole_gives_them_back,
    write_finds_room_for_what_it_was_promised,
    write_that_fails_leaves_them,
    others_find_no_room,
    failure_adds_none,
];

/// How many pages a small file system may have.
const LIMIT: usize = 8;

fn file(size: usize) -> i32 {
    let fd = ok!(syscall!(SYS_memfd_create, c"keep".as_ptr(), 0)) as i32;
    ok!(sys::ftruncate(fd, size));
    fd
}

fn keep(fd: i32, page: usize, pages: usize) -> sys::Result {
    syscall!(SYS_fallocate, fd, FALLOC_FL_KEEP_SIZE, page * PAGE, pages * PAGE)
}

/// The pages that it takes, and the size in bytes.
fn space(fd: i32) -> (usize, usize) {
    let stat = ok!(fstat(fd));
    (stat.st_blocks as usize * 512 / PAGE, stat.st_size as usize)
}

fn on_small(body: impl FnOnce()) {
    if tmp::on_tmpfs(0, "size=32k", body).is_none() {
        skip!("a tmpfs cannot be mounted");
    }
}

fn pages_are_where_they_are_asked_for() {
    let fd = file(PAGE + 1);
    ok!(keep(fd, 4, 2));
    check_eq!(space(fd), (2, PAGE + 1));
    ok!(keep(fd, 5, 2));
    check_eq!(space(fd), (3, PAGE + 1));
    // The second is within the size.
    ok!(keep(fd, 1, 2));
    check_eq!(space(fd), (5, PAGE + 1));
}

fn mapping_ends_where_the_file_does() {
    let fd = file(PAGE);
    let at = ok!(sys::mmap(0, 4 * PAGE, RW, MAP_SHARED, fd, 0));
    ok!(keep(fd, 0, 4));
    poke(at, 1);
    expect_bus(at + PAGE, || poke(at + PAGE, 1));
    expect_bus(at + 3 * PAGE, || poke(at + 3 * PAGE, 1));
    check_eq!(space(fd), (4, PAGE));
    ok!(sys::ftruncate(fd, 2 * PAGE));
    check_eq!(peek(at + PAGE), 0);
    expect_bus(at + 2 * PAGE, || poke(at + 2 * PAGE, 1));
}

fn pages_become_the_files_when_it_grows() {
    let fd = file(0);
    ok!(keep(fd, 2, 4));
    ok!(sys::ftruncate(fd, 4 * PAGE));
    check_eq!(space(fd), (4, 4 * PAGE));
    check_eq!(sys::pwrite(fd, &[1; PAGE], 4 * PAGE), Ok(PAGE));
    check_eq!(space(fd), (4, 5 * PAGE));
    let mut bytes = [9; PAGE];
    check_eq!(sys::pread(fd, &mut bytes, 3 * PAGE), Ok(PAGE));
    check!(bytes.iter().all(|byte| *byte == 0));
    check_eq!(sys::pwrite(fd, &[1], 0), Ok(1));
    check_eq!(space(fd), (5, 5 * PAGE));
}

fn fallocate_of_more_takes_them_along() {
    let fd = file(0);
    ok!(keep(fd, 2, 2));
    check_eq!(syscall!(SYS_fallocate, fd, 0, 3 * PAGE, 3 * PAGE), Ok(0));
    check_eq!(space(fd), (4, 6 * PAGE));
}

fn truncation_gives_them_back() {
    let fd = file(2 * PAGE);
    ok!(keep(fd, 1, 4));
    ok!(sys::ftruncate(fd, PAGE));
    check_eq!(space(fd), (0, PAGE));
    ok!(sys::ftruncate(fd, 8 * PAGE));
    check_eq!(space(fd), (0, 8 * PAGE));
}

fn truncation_to_the_same_size_gives_them_back() {
    let fd = file(PAGE);
    ok!(keep(fd, 0, 4));
    ok!(sys::ftruncate(fd, PAGE));
    check_eq!(space(fd), (1, PAGE));
}

fn hole_gives_them_back() {
    let fd = file(PAGE);
    ok!(keep(fd, 0, 6));
    ok!(syscall!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * PAGE, 2 * PAGE));
    check_eq!(space(fd), (4, PAGE));
    ok!(syscall!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 5 * PAGE + 1));
    check_eq!(space(fd), (1, PAGE));
}

fn write_finds_room_for_what_it_was_promised() {
    on_small(|| {
        let fd = tmp::file(&[]);
        ok!(keep(fd, 1, LIMIT));
        check_eq!(sys::pwrite(fd, &[1; 4 * PAGE], PAGE), Ok(4 * PAGE));
        check_eq!(space(fd), (LIMIT, 5 * PAGE));
        check_eq!(sys::pwrite(fd, &[1; 6 * PAGE], 5 * PAGE), Ok(4 * PAGE));
        check_eq!(space(fd), (LIMIT, 9 * PAGE));
        errno_is!(sys::pwrite(fd, &[1], 0), ENOSPC);
    });
}

fn write_that_fails_leaves_them() {
    on_small(|| {
        let fd = tmp::file(&[]);
        ok!(keep(fd, 0, LIMIT));
        errno_is!(syscall!(SYS_pwrite64, fd, 1, 2 * PAGE, 0), EFAULT);
        check_eq!(space(fd), (LIMIT, 0));
        check_eq!(sys::pwrite(fd, &[1; LIMIT * PAGE], 0), Ok(LIMIT * PAGE));
    });
}

fn others_find_no_room() {
    on_small(|| {
        let (fd, other) = (tmp::file(&[]), tmp::file(&[]));
        ok!(keep(fd, 10, LIMIT - 1));
        check_eq!(sys::pwrite(other, &[1; 2 * PAGE], 0), Ok(PAGE));
        errno_is!(sys::pwrite(other, &[1], PAGE), ENOSPC);
        ok!(sys::ftruncate(fd, 0));
        check_eq!(sys::pwrite(other, &[1], PAGE), Ok(1));
    });
}

fn failure_adds_none() {
    on_small(|| {
        let (fd, other) = (tmp::file(&[]), tmp::file(&[1; 2 * PAGE]));
        ok!(keep(fd, 3, 1));
        errno_is!(keep(fd, 0, LIMIT), ENOSPC);
        check_eq!(space(fd), (1, 0));
        ok!(keep(fd, 3, LIMIT - 2));
        check_eq!((space(fd), space(other)), ((LIMIT - 2, 0), (2, 2 * PAGE)));
    });
}
