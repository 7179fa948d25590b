// SPDX-License-Identifier: MPL-2.0

//! Shared memory: missing, minor and write-protected pages of memory files and of anonymous memory that is shared.

use libc::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, MADV_DONTNEED, MAP_PRIVATE, MAP_SHARED};

use super::{
    super::{RW, anon, anon_shared, page_numbers, peek, poke},
    *,
};
use crate::child::Child;

pub const CASES: &[Case] = cases!["mem/userfaultfd":
    missing_page_of_shared_memory_is_told,
    copy_fills_the_file,
    page_of_the_file_is_not_missing,
    copy_onto_a_page_of_the_file_is_eexist,
    copy_past_the_end_of_the_file_is_efault,
    zeropage_fills_the_file,
    private_mapping_gets_a_page_of_its_own,
    hole_in_the_file_is_missing,
    page_set_aside_behind_the_end_is_not_missing,
    minor_fault_is_told_and_continued,
    continue_without_a_page_is_efault,
    continue_onto_a_page_is_eexist,
    protected_page_of_shared_memory_is_told,
    shared_pages_are_protected_before_they_are_there,
    pagemap_shows_what_is_protected_before_it_is_there,
    protection_of_shared_memory_outlives_dontneed,
    another_process_is_not_told_about,
];

/// A memory file of that many pages.
fn file(pages: usize) -> i32 {
    let name = sys::c_string("uffd");
    let fd = ok!(syscall!(SYS_memfd_create, name.as_ptr(), 0)) as i32;
    ok!(sys::ftruncate(fd, pages * PAGE));
    fd
}

fn map(fd: i32, pages: usize, sharing: i32) -> usize {
    ok!(sys::mmap(0, pages * PAGE, RW, sharing, fd, 0))
}

fn byte_of(fd: i32, page: usize) -> u8 {
    let mut byte = [0];
    check_eq!(sys::pread(fd, &mut byte, page * PAGE), Ok(1));
    byte[0]
}

fn missing_page_of_shared_memory_is_told() {
    let at = anon_shared(2);
    let uffd = Uffd::missing(at, 2);
    uffd.fills_what_is_read(at + PAGE, 3);
    poke(at + PAGE, 4);
    check_eq!(peek(at + PAGE), 4);
}

fn copy_fills_the_file() {
    let fd = file(2);
    let at = map(fd, 2, MAP_SHARED);
    let uffd = Uffd::missing(at, 2);
    uffd.copy(at, 2, 5, 0);
    check_eq!((byte_of(fd, 0), byte_of(fd, 1)), (5, 6));
    check_eq!(page_numbers(at, 2), [5, 6]);
    poke(at, 8);
    check_eq!(byte_of(fd, 0), 8);
}

fn page_of_the_file_is_not_missing() {
    let fd = file(2);
    check_eq!(sys::pwrite(fd, &[9], PAGE), Ok(1));
    let at = map(fd, 2, MAP_SHARED);
    let uffd = Uffd::missing(at, 2);
    check_eq!(peek(at + PAGE), 9);
    check!(uffd.is_silent());
}

fn copy_onto_a_page_of_the_file_is_eexist() {
    let fd = file(2);
    check_eq!(sys::pwrite(fd, &[9], PAGE), Ok(1));
    let at = map(fd, 2, MAP_SHARED);
    let uffd = Uffd::missing(at, 2);
    errno_is!(uffd.copy_from(at + PAGE, anon(1), 1, 0).0, EEXIST);
    errno_is!(uffd.zeropage(at + PAGE, 1, 0).0, EEXIST);
    check_eq!(byte_of(fd, 1), 9);
}

fn copy_past_the_end_of_the_file_is_efault() {
    let fd = file(1);
    let at = map(fd, 2, MAP_SHARED);
    let uffd = Uffd::missing(at, 2);
    errno_is!(uffd.copy_from(at + PAGE, anon(1), 1, 0).0, EFAULT);
    crate::fault::expect_bus(at + PAGE, || _ = peek(at + PAGE));
    let private = map(fd, 2, MAP_PRIVATE);
    ok!(uffd.register(private, 2, MODE_MISSING));
    errno_is!(uffd.copy_from(private + PAGE, anon(1), 1, 0).0, EFAULT);
    errno_is!(uffd.zeropage(private + PAGE, 1, 0).0, EFAULT);
}

fn zeropage_fills_the_file() {
    let fd = file(2);
    let at = map(fd, 2, MAP_SHARED);
    let uffd = Uffd::missing(at, 2);
    check_eq!(uffd.zeropage(at, 1, 0), (Ok(0), PAGE as i64));
    poke(at, 1);
    check_eq!(byte_of(fd, 0), 1);
    check!(uffd.is_silent());
}

fn private_mapping_gets_a_page_of_its_own() {
    let fd = file(2);
    let at = map(fd, 2, MAP_PRIVATE);
    let uffd = Uffd::missing(at, 2);
    let value = beside(
        || peek(at),
        |_| {
            check_eq!(uffd.next(), fault(at, 0));
            uffd.copy(at, 1, 7, 0);
        },
    );
    check_eq!((value, byte_of(fd, 0)), (7, 0));
    check_eq!(uffd.zeropage(at + PAGE, 1, 0), (Ok(0), PAGE as i64));
    poke(at + PAGE, 2);
    check_eq!((peek(at + PAGE), byte_of(fd, 1)), (2, 0));
}

fn hole_in_the_file_is_missing() {
    let fd = file(1);
    let at = map(fd, 1, MAP_SHARED);
    poke(at, 1);
    let uffd = Uffd::missing(at, 1);
    ok!(syscall!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE));
    uffd.fills_what_is_read(at, 2);
}

fn page_set_aside_behind_the_end_is_not_missing() {
    let fd = file(1);
    let at = map(fd, 4, MAP_SHARED);
    let uffd = Uffd::missing(at, 4);
    ok!(syscall!(SYS_fallocate, fd, FALLOC_FL_KEEP_SIZE, 2 * PAGE, PAGE));
    ok!(sys::ftruncate(fd, 4 * PAGE));
    check_eq!(peek(at + 2 * PAGE), 0);
    check!(uffd.is_silent());
    uffd.fills_what_is_read(at + 3 * PAGE, 3);
}

fn minor_fault_is_told_and_continued() {
    let fd = file(2);
    let (at, other) = (map(fd, 2, MAP_SHARED), map(fd, 2, MAP_SHARED));
    let uffd = Uffd::with(FEATURE_MINOR_SHMEM);
    ok!(uffd.register(at, 2, MODE_MINOR));
    poke(other, 1);
    let value = beside(
        || peek(at),
        |_| {
            check_eq!(uffd.next(), fault(at, FLAG_MINOR));
            // It can be changed before it is shown.
            poke(other, 2);
            check_eq!(uffd.proceed(at, 1, 0), (Ok(0), PAGE as i64));
        },
    );
    check_eq!(value, 2);
    poke(at, 3);
    check_eq!(peek(other), 3);
    // What nobody has is served as usual.
    check_eq!(peek(at + PAGE), 0);
    check!(uffd.is_silent());
}

fn continue_without_a_page_is_efault() {
    let fd = file(1);
    let at = map(fd, 1, MAP_SHARED);
    let uffd = Uffd::with(FEATURE_MINOR_SHMEM);
    ok!(uffd.register(at, 1, MODE_MINOR));
    check_eq!(uffd.proceed(at, 1, 0), (Err(sys::Errno(libc::EFAULT)), -i64::from(libc::EFAULT)));
}

fn continue_onto_a_page_is_eexist() {
    let fd = file(1);
    check_eq!(sys::pwrite(fd, &[1], 0), Ok(1));
    let at = map(fd, 1, MAP_SHARED);
    let uffd = Uffd::with(FEATURE_MINOR_SHMEM);
    ok!(uffd.register(at, 1, MODE_MINOR));
    check_eq!(uffd.proceed(at, 1, 0), (Ok(0), PAGE as i64));
    errno_is!(uffd.proceed(at, 1, 0).0, EEXIST);
    errno_is!(uffd.proceed(at, 1, 1 << 7).0, EINVAL);
}

fn protected_page_of_shared_memory_is_told() {
    let fd = file(2);
    let at = map(fd, 2, MAP_SHARED);
    poke(at, 1);
    poke(at + PAGE, 2);
    let uffd = Uffd::protecting(at, 2);
    check_eq!(page_numbers(at, 2), [1, 2]);
    beside(
        || poke(at, 5),
        |_| {
            check_eq!(uffd.next(), fault(at, FLAG_WRITE | FLAG_WP));
            check_eq!(byte_of(fd, 0), 1);
            ok!(uffd.protect(at, 1, 0));
        },
    );
    check_eq!(byte_of(fd, 0), 5);
}

fn shared_pages_are_protected_before_they_are_there() {
    let fd = file(2);
    let at = map(fd, 2, MAP_SHARED);
    let uffd = Uffd::protecting(at, 2);
    check_eq!(peek(at + PAGE), 0);
    beside(
        || {
            poke(at, 5);
            poke(at + PAGE, 6);
        },
        |_| {
            for page in [at, at + PAGE] {
                check_eq!(uffd.next(), fault(page, FLAG_WRITE | FLAG_WP));
                ok!(uffd.protect(page, 1, 0));
            }
        },
    );
    check_eq!((byte_of(fd, 0), byte_of(fd, 1)), (5, 6));
}

fn pagemap_shows_what_is_protected_before_it_is_there() {
    const PRESENT: u64 = 1 << 63;
    // Linux keeps the mark where a page that is swapped out would be.
    const ELSEWHERE: u64 = 1 << 62;
    const PROTECTED: u64 = 1 << 57;
    let at = map(file(6), 6, MAP_SHARED);
    poke(at + PAGE, 1);
    poke(at + 2 * PAGE, 2);
    let uffd = Uffd::with(0);
    ok!(uffd.register(at, 6, MODE_WP));
    ok!(uffd.protect(at, 5, PROTECT_WP));
    ok!(sys::madvise(at + 2 * PAGE, PAGE, MADV_DONTNEED));
    ok!(uffd.protect(at + 3 * PAGE, 1, 0));
    let shown = || {
        let entries = super::super::pagemap::entries(at, 6);
        entries.iter().map(|entry| entry & (PRESENT | ELSEWHERE | PROTECTED)).collect::<Vec<_>>()
    };
    let marked = ELSEWHERE | PROTECTED;
    check_eq!(shown(), [marked, PRESENT | PROTECTED, marked, 0, marked, 0]);
    check_eq!(peek(at + 2 * PAGE), 2);
    check_eq!(shown()[2], PRESENT | PROTECTED);
    ok!(uffd.unregister(at, 6));
    check_eq!(shown().iter().filter(|entry| **entry & PROTECTED != 0).count(), 0);
}

fn protection_of_shared_memory_outlives_dontneed() {
    let fd = file(1);
    let at = map(fd, 1, MAP_SHARED);
    poke(at, 1);
    let uffd = Uffd::protecting(at, 1);
    ok!(sys::madvise(at, PAGE, MADV_DONTNEED));
    check_eq!(peek(at), 1);
    uffd.lets_write(at, 5);
}

fn another_process_is_not_told_about() {
    let at = anon_shared(1);
    let uffd = Uffd::missing(at, 1);
    Child::spawn(|| poke(at, 7)).join();
    check_eq!(peek(at), 7);
    check!(uffd.is_silent());
}
