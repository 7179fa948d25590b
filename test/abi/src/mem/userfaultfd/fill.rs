// SPDX-License-Identifier: MPL-2.0

//! Missing pages of private memory: UFFDIO_COPY, UFFDIO_ZEROPAGE, UFFDIO_WAKE.

use libc::{MADV_DONTNEED, PROT_READ};

use super::{
    super::{ANON, anon, lone_anon, number_pages, page_numbers, peek, poke},
    *,
};

pub const CASES: &[Case] = cases!["mem/userfaultfd":
    read_of_a_missing_page_is_told,
    write_to_a_missing_page_is_told,
    copied_page_can_be_written,
    copy_before_the_access_spares_the_fault,
    copy_of_several_pages,
    copy_stops_at_a_page_that_is_there,
    copy_onto_a_page_is_eexist,
    copy_to_what_is_not_registered_is_enoent,
    copy_across_mappings_is_enoent,
    copy_from_a_bad_address_is_efault,
    copy_of_a_bad_range_is_einval,
    copy_with_an_unknown_mode_is_einval,
    copy_without_waking_is_followed_by_a_wake,
    copy_into_read_only_memory,
    zeropage_is_zeros_that_can_be_written,
    zeropage_onto_a_page_is_eexist,
    zeropage_of_a_bad_range_is_einval,
    pages_read_before_are_not_missing,
    dontneed_makes_pages_missing,
    neighbours_of_a_read_stay_missing,
    wake_without_a_page_makes_the_fault_come_again,
    wake_of_a_bad_range_is_einval,
    continue_of_anonymous_memory_is_einval,
    source_may_be_any_address,
];

fn read_of_a_missing_page_is_told() {
    let at = anon(2);
    let uffd = Uffd::missing(at, 2);
    let value = beside(
        || peek(at + PAGE + 100),
        |_| {
            check_eq!(uffd.next(), fault(at + PAGE, 0));
            check!(uffd.is_silent());
            let source = anon(1);
            poke(source + 100, 42);
            check_eq!(uffd.copy_from(at + PAGE, source, 1, 0), (Ok(0), PAGE as i64));
        },
    );
    check_eq!(value, 42);
}

fn write_to_a_missing_page_is_told() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    beside(
        || poke(at + 1, 2),
        |_| {
            check_eq!(uffd.next(), fault(at, FLAG_WRITE));
            uffd.copy(at, 1, 1, 0);
        },
    );
    check_eq!((peek(at), peek(at + 1)), (1, 2));
}

fn copied_page_can_be_written() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    uffd.copy(at, 1, 1, 0);
    poke(at, 9);
    check_eq!(peek(at), 9);
}

fn copy_before_the_access_spares_the_fault() {
    let at = anon(3);
    let uffd = Uffd::missing(at, 3);
    uffd.copy(at, 3, 10, 0);
    check_eq!(page_numbers(at, 3), [10, 11, 12]);
    check!(uffd.is_silent());
}

fn copy_of_several_pages() {
    let at = anon(64);
    let uffd = Uffd::missing(at, 64);
    uffd.copy(at, 64, 100, 0);
    check!(page_numbers(at, 64).into_iter().eq((100..164).map(|page| page as u8)));
}

fn copy_stops_at_a_page_that_is_there() {
    let at = anon(4);
    poke(at + 2 * PAGE, 99);
    let uffd = Uffd::missing(at, 4);
    let source = anon(4);
    number_pages(source, 4, 1);
    check_eq!(uffd.copy_from(at, source, 4, 0), (Err(sys::Errno(libc::EAGAIN)), 2 * PAGE as i64));
    check_eq!(page_numbers(at, 3), [1, 2, 99]);
    uffd.copy(at + 3 * PAGE, 1, 4, 0);
    check_eq!(peek(at + 3 * PAGE), 4);
}

fn copy_onto_a_page_is_eexist() {
    let at = anon(1);
    poke(at, 5);
    let uffd = Uffd::missing(at, 1);
    check_eq!(uffd.copy_from(at, anon(1), 1, 0), (Err(sys::Errno(libc::EEXIST)), -i64::from(libc::EEXIST)));
    check_eq!(peek(at), 5);
}

fn copy_to_what_is_not_registered_is_enoent() {
    let at = lone_anon(3);
    let uffd = Uffd::missing(at, 1);
    errno_is!(uffd.copy_from(at + PAGE, anon(1), 1, 0).0, ENOENT);
    errno_is!(uffd.copy_from(at, anon(2), 2, 0).0, ENOENT);
    errno_is!(uffd.copy_from(at + 3 * PAGE, anon(1), 1, 0).0, ENOENT);
    errno_is!(uffd.zeropage(at + PAGE, 1, 0).0, ENOENT);
}

fn copy_across_mappings_is_enoent() {
    let at = lone_anon(2);
    let uffd = Uffd::missing(at, 2);
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ));
    errno_is!(uffd.copy_from(at, anon(2), 2, 0).0, ENOENT);
}

fn copy_from_a_bad_address_is_efault() {
    let at = anon(2);
    let uffd = Uffd::missing(at, 2);
    let source = lone_anon(1);
    check_eq!(
        uffd.copy_from(at, source - PAGE, 1, 0),
        (Err(sys::Errno(libc::EFAULT)), -i64::from(libc::EFAULT))
    );
    // What could be copied is.
    check_eq!(uffd.copy_from(at, source, 2, 0), (Err(sys::Errno(libc::EAGAIN)), PAGE as i64));
}

fn copy_of_a_bad_range_is_einval() {
    let at = anon(2);
    let uffd = Uffd::missing(at, 2);
    errno_is!(uffd.copy_from(at + 8, anon(1), 1, 0).0, EINVAL);
    errno_is!(uffd.copy_from(at, anon(1), 0, 0).0, EINVAL);
    errno_is!(uffd.copy_from(at, !0 - PAGE + 2, 1, 0).0, EINVAL);
    errno_is!(uffd.ioctl(IOCTL_COPY, &mut [at as u64, at as u64, 77, 0, 0]), EINVAL);
}

fn copy_with_an_unknown_mode_is_einval() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    errno_is!(uffd.copy_from(at, anon(1), 1, 1 << 5).0, EINVAL);
    // The range is not watched for writes.
    errno_is!(uffd.copy_from(at, anon(1), 1, COPY_WP).0, EINVAL);
    errno_is!(uffd.zeropage(at, 1, 1 << 5).0, EINVAL);
}

fn copy_without_waking_is_followed_by_a_wake() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    let value = beside(
        || peek(at),
        |thread| {
            uffd.next();
            uffd.copy(at, 1, 8, COPY_DONTWAKE);
            a_moment();
            check!(!thread.is_finished());
            ok!(uffd.wake(at, 1));
        },
    );
    check_eq!(value, 8);
}

fn copy_into_read_only_memory() {
    let at = ok!(sys::mmap(0, PAGE, PROT_READ, ANON, -1, 0));
    let uffd = Uffd::missing(at, 1);
    uffd.copy(at, 1, 3, 0);
    check_eq!(peek(at), 3);
    crate::fault::expect_accerr(at, || poke(at, 1));
}

fn zeropage_is_zeros_that_can_be_written() {
    let at = anon(3);
    let uffd = Uffd::missing(at, 3);
    let value = beside(
        || peek(at + PAGE),
        |_| {
            uffd.next();
            check_eq!(uffd.zeropage(at, 3, 0), (Ok(0), 3 * PAGE as i64));
        },
    );
    check_eq!(value, 0);
    poke(at + 2 * PAGE, 4);
    check_eq!(page_numbers(at, 3), [0, 0, 4]);
    check!(uffd.is_silent());
}

fn zeropage_onto_a_page_is_eexist() {
    let at = anon(2);
    poke(at, 1);
    let uffd = Uffd::missing(at, 2);
    check_eq!(uffd.zeropage(at, 1, 0), (Err(sys::Errno(libc::EEXIST)), -i64::from(libc::EEXIST)));
    check_eq!(uffd.zeropage(at + PAGE, 1, 0), (Ok(0), PAGE as i64));
    check_eq!(uffd.zeropage(at + PAGE, 1, 0).0, Err(sys::Errno(libc::EEXIST)));
}

fn zeropage_of_a_bad_range_is_einval() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    errno_is!(uffd.zeropage(at + 1, 1, 0).0, EINVAL);
    errno_is!(uffd.zeropage(at, 0, 0).0, EINVAL);
}

fn pages_read_before_are_not_missing() {
    let at = lone_anon(8);
    check_eq!(peek(at + 3 * PAGE), 0);
    let uffd = Uffd::missing(at, 8);
    check_eq!(peek(at + 3 * PAGE), 0);
    poke(at + 3 * PAGE, 1);
    check!(uffd.is_silent());
    beside(
        || peek(at + 4 * PAGE),
        |_| {
            check_eq!(uffd.next(), fault(at + 4 * PAGE, 0));
            uffd.copy(at + 4 * PAGE, 1, 1, 0);
        },
    );
}

fn dontneed_makes_pages_missing() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    uffd.copy(at, 1, 1, 0);
    ok!(sys::madvise(at, PAGE, MADV_DONTNEED));
    uffd.fills_what_is_read(at, 2);
}

fn neighbours_of_a_read_stay_missing() {
    let at = lone_anon(16);
    let uffd = Uffd::missing(at + 4 * PAGE, 4);
    check_eq!(peek(at + 3 * PAGE), 0);
    check_eq!(peek(at + 8 * PAGE), 0);
    uffd.copy(at + 4 * PAGE, 4, 1, 0);
    check_eq!(page_numbers(at + 4 * PAGE, 4), [1, 2, 3, 4]);
}

fn wake_without_a_page_makes_the_fault_come_again() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    beside(
        || peek(at),
        |thread| {
            for _ in 0..3 {
                check_eq!(uffd.next(), fault(at, 0));
                ok!(uffd.wake(at, 1));
            }
            uffd.next();
            check!(!thread.is_finished());
            uffd.copy(at, 1, 1, 0);
        },
    );
}

fn wake_of_a_bad_range_is_einval() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    errno_is!(uffd.wake(at + 1, 1), EINVAL);
    errno_is!(uffd.wake(at, 0), EINVAL);
    // Nobody need wait there, nor anything be mapped.
    ok!(uffd.wake(at, 1));
    ok!(uffd.wake(PAGE, 1));
}

fn continue_of_anonymous_memory_is_einval() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    errno_is!(uffd.proceed(at, 1, 0).0, EINVAL);
}

fn source_may_be_any_address() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    let source = anon(2);
    poke(source + 13, 77);
    check_eq!(uffd.copy_from(at, source + 13, 1, 0), (Ok(0), PAGE as i64));
    check_eq!(peek(at), 77);
}
