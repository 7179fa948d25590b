// SPDX-License-Identifier: MPL-2.0

//! Write-protected pages: UFFDIO_WRITEPROTECT, and UFFDIO_COPY with UFFDIO_COPY_MODE_WP.

use libc::{MADV_DONTNEED, PROT_READ};

use super::{
    super::{RW, anon, lone_anon, number_pages, page_numbers, peek, poke},
    *,
};
use crate::child::in_child;

pub const CASES: &[Case] = cases!["mem/userfaultfd":
    write_to_a_protected_page_is_told,
    pagemap_shows_what_is_protected,
    unprotecting_lets_the_write_go_on,
    unprotecting_without_waking_is_followed_by_a_wake,
    read_of_a_protected_page_is_not_told,
    zeros_that_were_read_can_be_protected,
    pages_that_are_not_there_are_not_protected,
    protection_outlives_mprotect,
    protection_goes_with_dontneed,
    protection_goes_with_unregister,
    copy_can_protect,
    missing_and_protected_are_told_apart,
    protect_of_a_bad_range_is_einval,
    protect_with_a_bad_mode_is_einval,
    protect_of_what_is_not_registered_for_it_is_enoent,
    protected_page_stays_protected_after_fork,
    forked_child_is_not_told_about,
    write_by_the_kernel_is_told,
];

/// Private pages, numbered from 1, of which writes are watched.
fn numbered(pages: usize) -> (usize, Uffd) {
    let at = lone_anon(pages);
    number_pages(at, pages, 1);
    let uffd = Uffd::with(0);
    ok!(uffd.register(at, pages, MODE_WP));
    (at, uffd)
}

fn pagemap_shows_what_is_protected() {
    const PRESENT: u64 = 1 << 63;
    const PROTECTED: u64 = 1 << 57;
    let at = anon(3);
    number_pages(at, 3, 1);
    let uffd = Uffd::with(0);
    ok!(uffd.register(at, 3, MODE_WP));
    ok!(uffd.protect(at + PAGE, 2, PROTECT_WP));
    let shown = || {
        super::super::pagemap::entries(at, 3)
            .iter()
            .map(|entry| entry & (PRESENT | PROTECTED))
            .collect::<Vec<_>>()
    };
    check_eq!(shown(), [PRESENT, PRESENT | PROTECTED, PRESENT | PROTECTED]);
    ok!(uffd.protect(at + PAGE, 1, 0));
    check_eq!(shown(), [PRESENT, PRESENT, PRESENT | PROTECTED]);
    ok!(uffd.unregister(at, 3));
    check_eq!(shown(), [PRESENT; 3]);
}

fn write_to_a_protected_page_is_told() {
    let (at, uffd) = numbered(3);
    ok!(uffd.protect(at, 3, PROTECT_WP));
    beside(
        || poke(at + PAGE + 1, 9),
        |thread| {
            check_eq!(uffd.next(), fault(at + PAGE, FLAG_WRITE | FLAG_WP));
            a_moment();
            check!(!thread.is_finished());
            check_eq!(peek(at + PAGE + 1), 0);
            ok!(uffd.protect(at + PAGE, 1, 0));
        },
    );
    check_eq!((peek(at + PAGE), peek(at + PAGE + 1)), (2, 9));
}

fn unprotecting_lets_the_write_go_on() {
    let (at, uffd) = numbered(2);
    ok!(uffd.protect(at, 2, PROTECT_WP));
    ok!(uffd.protect(at, 1, 0));
    poke(at, 7);
    check!(uffd.is_silent());
    check_eq!(page_numbers(at, 2), [7, 2]);
}

fn unprotecting_without_waking_is_followed_by_a_wake() {
    let (at, uffd) = numbered(1);
    ok!(uffd.protect(at, 1, PROTECT_WP));
    beside(
        || poke(at, 7),
        |thread| {
            uffd.next();
            ok!(uffd.protect(at, 1, PROTECT_DONTWAKE));
            a_moment();
            check!(!thread.is_finished());
            ok!(uffd.wake(at, 1));
        },
    );
    check_eq!(peek(at), 7);
}

fn read_of_a_protected_page_is_not_told() {
    let (at, uffd) = numbered(2);
    ok!(uffd.protect(at, 2, PROTECT_WP));
    check_eq!(page_numbers(at, 2), [1, 2]);
    check!(uffd.is_silent());
}

fn zeros_that_were_read_can_be_protected() {
    let at = lone_anon(1);
    check_eq!(peek(at), 0);
    let uffd = Uffd::protecting(at, 1);
    uffd.lets_write(at, 3);
}

fn pages_that_are_not_there_are_not_protected() {
    let at = lone_anon(4);
    let uffd = Uffd::protecting(at, 4);
    poke(at + PAGE, 1);
    check_eq!(peek(at + 2 * PAGE), 0);
    poke(at + 2 * PAGE, 2);
    check!(uffd.is_silent());
}

fn protection_outlives_mprotect() {
    let (at, uffd) = numbered(2);
    ok!(uffd.protect(at, 2, PROTECT_WP));
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    ok!(sys::mprotect(at, PAGE, RW));
    uffd.lets_write(at, 5);
}

fn protection_goes_with_dontneed() {
    let (at, uffd) = numbered(1);
    ok!(uffd.protect(at, 1, PROTECT_WP));
    ok!(sys::madvise(at, PAGE, MADV_DONTNEED));
    poke(at, 3);
    check!(uffd.is_silent());
}

fn protection_goes_with_unregister() {
    let (at, uffd) = numbered(2);
    ok!(uffd.protect(at, 2, PROTECT_WP));
    ok!(uffd.unregister(at, 2));
    poke(at, 3);
    ok!(uffd.register(at, 2, MODE_WP));
    poke(at + PAGE, 4);
    check!(uffd.is_silent());
    check_eq!(page_numbers(at, 2), [3, 4]);
}

fn copy_can_protect() {
    let at = anon(1);
    let uffd = Uffd::with(0);
    ok!(uffd.register(at, 1, MODE_MISSING | MODE_WP));
    uffd.copy(at, 1, 6, COPY_WP);
    check_eq!(peek(at), 6);
    uffd.lets_write(at, 7);
}

fn missing_and_protected_are_told_apart() {
    let at = anon(2);
    poke(at, 1);
    let uffd = Uffd::with(0);
    ok!(uffd.register(at, 2, MODE_MISSING | MODE_WP));
    ok!(uffd.protect(at, 2, PROTECT_WP));
    beside(
        || {
            poke(at, 2);
            poke(at + PAGE, 2);
        },
        |_| {
            check_eq!(uffd.next(), fault(at, FLAG_WRITE | FLAG_WP));
            ok!(uffd.protect(at, 1, 0));
            check_eq!(uffd.next(), fault(at + PAGE, FLAG_WRITE));
            uffd.copy(at + PAGE, 1, 9, 0);
        },
    );
    check_eq!(page_numbers(at, 2), [2, 2]);
}

fn protect_of_a_bad_range_is_einval() {
    let (at, uffd) = numbered(1);
    errno_is!(uffd.protect(at + 1, 1, PROTECT_WP), EINVAL);
    errno_is!(uffd.protect(at, 0, PROTECT_WP), EINVAL);
}

fn protect_with_a_bad_mode_is_einval() {
    let (at, uffd) = numbered(1);
    errno_is!(uffd.protect(at, 1, 1 << 4), EINVAL);
    errno_is!(uffd.protect(at, 1, PROTECT_WP | PROTECT_DONTWAKE), EINVAL);
}

fn protect_of_what_is_not_registered_for_it_is_enoent() {
    let at = lone_anon(3);
    number_pages(at, 3, 1);
    let uffd = Uffd::missing(at, 1);
    errno_is!(uffd.protect(at, 1, PROTECT_WP), ENOENT);
    errno_is!(uffd.protect(at + PAGE, 1, PROTECT_WP), ENOENT);
    errno_is!(uffd.protect(at + 3 * PAGE, 1, PROTECT_WP), ENOENT);
}

fn protected_page_stays_protected_after_fork() {
    let (at, uffd) = numbered(64);
    ok!(uffd.protect(at, 64, PROTECT_WP));
    in_child(|| {});
    uffd.lets_write(at + 9 * PAGE, 5);
}

fn forked_child_is_not_told_about() {
    let at = lone_anon(4);
    number_pages(at, 2, 1);
    let uffd = Uffd::with(0);
    ok!(uffd.register(at, 4, MODE_MISSING | MODE_WP));
    ok!(uffd.protect(at, 2, PROTECT_WP));
    in_child(|| {
        poke(at, 9);
        check_eq!(peek(at + 3 * PAGE), 0);
        check_eq!(page_numbers(at, 4), [9, 2, 0, 0]);
    });
    check!(uffd.is_silent());
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn write_by_the_kernel_is_told() {
    let (at, uffd) = numbered(1);
    ok!(uffd.protect(at, 1, PROTECT_WP));
    let (reader, writer) = ok!(sys::pipe(0));
    check_eq!(sys::write(writer, b"abc"), Ok(3));
    let count = beside(
        || syscall!(SYS_read, reader, at, 3),
        |_| {
            check_eq!(uffd.next(), fault(at, FLAG_WRITE | FLAG_WP));
            ok!(uffd.protect(at, 1, 0));
        },
    );
    check_eq!(count, Ok(3));
    check_eq!(peek(at + 2), b'c');
}
