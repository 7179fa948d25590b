// SPDX-License-Identifier: MPL-2.0

//! The limits of a tmpfs (tmpfs(5)): they bind what is written, and what mappings ask for.

use libc::{
    FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, PROT_READ, SIGBUS,
};

use super::{PAGE, RW, bytes, number_pages, page_numbers, peek, poke};
use crate::{
    child::in_child,
    fault::{BUS_ADRERR, try_read, try_write},
    harness::Case,
    sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/tmpfs":
    fault_beyond_the_limit_is_sigbus,
    read_of_a_hole_beyond_the_limit_is_sigbus,
    page_that_is_there_is_no_growth,
    private_copy_of_a_hole_takes_a_page_of_the_file,
    what_goes_makes_room,
    files_share_the_limit,
    pages_of_mappings_count_in_statfs,
    use_by_the_kernel_is_efault,
    populate_stops_at_the_limit,
    write_and_fallocate_are_enospc,
    limit_can_be_raised,
    number_of_inodes_is_limited,
];

/// How many pages the file system may have.
const LIMIT: usize = 8;

/// Runs `body` with a sparse file of four times as many pages as there may be, and a shared mapping of it.
fn on_small(body: impl FnOnce(i32, usize)) {
    let run = || {
        let fd = sparse(4 * LIMIT);
        body(fd, ok!(sys::mmap(0, 4 * LIMIT * PAGE, RW, MAP_SHARED, fd, 0)));
    };
    if tmp::on_tmpfs(0, "size=32k,nr_inodes=4", run).is_none() {
        skip!("a tmpfs cannot be mounted");
    }
}

fn sparse(pages: usize) -> i32 {
    let fd = tmp::file(&[]);
    ok!(sys::ftruncate(fd, pages * PAGE));
    fd
}

/// What comes of an access beyond the limit.
#[track_caller]
fn expect_bus(at: usize) {
    for result in [try_write(at, 1), try_read(at).map(drop)] {
        let fault = result.map_err(|fault| (fault.signal, fault.code, fault.addr));
        check_eq!(fault, Err((SIGBUS, BUS_ADRERR, at)));
    }
}

/// The size in blocks of the file system, and how many are free.
fn blocks() -> (usize, usize) {
    let mut stat = [0_usize; 15];
    ok!(syscall!(SYS_statfs, sys::c_string(&tmp::dir()).as_ptr(), stat.as_mut_ptr()));
    (stat[2], stat[3])
}

fn fault_beyond_the_limit_is_sigbus() {
    on_small(|_, at| {
        number_pages(at, LIMIT, 1);
        expect_bus(at + LIMIT * PAGE);
        expect_bus(at + (4 * LIMIT - 1) * PAGE);
        check_eq!(page_numbers(at, LIMIT), (1..=LIMIT as u8).collect::<Vec<_>>());
    });
}

fn read_of_a_hole_beyond_the_limit_is_sigbus() {
    on_small(|fd, at| {
        let private = ok!(sys::mmap(0, 4 * LIMIT * PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
        check_eq!(peek(private + PAGE), 0);
        number_pages(at, LIMIT - 1, 1);
        peek(at + LIMIT * PAGE);
        for hole in [at, private].map(|base| base + (LIMIT + 1) * PAGE) {
            let fault = try_read(hole).map_err(|fault| fault.signal);
            check_eq!(fault, Err(SIGBUS));
        }
        // A private copy is made of a page that is there.
        ok!(sys::mprotect(private, 4 * LIMIT * PAGE, RW));
        let fault = try_write(private + (LIMIT + 1) * PAGE, 1).map_err(|fault| fault.signal);
        check_eq!(fault, Err(SIGBUS));
        // To read a hole by a call takes no page.
        let mut byte = [7];
        check_eq!(sys::pread(fd, &mut byte, (LIMIT + 1) * PAGE), Ok(1));
        check_eq!(byte, [0]);
    });
}

fn page_that_is_there_is_no_growth() {
    on_small(|fd, at| {
        number_pages(at, LIMIT, 1);
        let again = ok!(sys::mmap(0, LIMIT * PAGE, RW, MAP_SHARED, fd, 0));
        number_pages(again, LIMIT, 11);
        check_eq!(sys::pwrite(fd, &[5], PAGE), Ok(1));
        in_child(|| poke(at, 12));
        let private = ok!(sys::mmap(0, LIMIT * PAGE, RW, MAP_PRIVATE, fd, 0));
        number_pages(private, LIMIT, 21);
        check_eq!(page_numbers(at, 3), [12, 5, 13]);
        check_eq!(blocks(), (LIMIT, 0));
    });
}

fn private_copy_of_a_hole_takes_a_page_of_the_file() {
    on_small(|fd, _| {
        let private = ok!(sys::mmap(0, 4 * LIMIT * PAGE, RW, MAP_PRIVATE, fd, 0));
        poke(private + PAGE, 7);
        check_eq!(blocks(), (LIMIT, LIMIT - 1));
        number_pages(private, LIMIT, 1);
        expect_bus(private + LIMIT * PAGE);
        check_eq!(page_numbers(private, LIMIT), (1..=LIMIT as u8).collect::<Vec<_>>());
        let mut byte = [7];
        check_eq!(sys::pread(fd, &mut byte, PAGE), Ok(1));
        check_eq!(byte, [0]);
    });
}

fn what_goes_makes_room() {
    on_small(|fd, at| {
        number_pages(at, LIMIT, 1);
        let punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        check_eq!(syscall!(SYS_fallocate, fd, punch, PAGE, PAGE), Ok(0));
        poke(at + LIMIT * PAGE, 9);
        expect_bus(at + PAGE);
        ok!(sys::madvise(at + LIMIT * PAGE, PAGE, libc::MADV_REMOVE));
        check_eq!(peek(at + PAGE), 0);
        expect_bus(at + LIMIT * PAGE);
        ok!(sys::ftruncate(fd, 2 * PAGE));
        ok!(sys::ftruncate(fd, 4 * LIMIT * PAGE));
        number_pages(at + 2 * PAGE, LIMIT - 2, 3);
        expect_bus(at + LIMIT * PAGE);
        check_eq!((peek(at), peek(at + PAGE)), (1, 0));
    });
}

fn files_share_the_limit() {
    on_small(|_, at| {
        let (other, path) = tmp::named_file(&[3; PAGE]);
        number_pages(at, LIMIT - 1, 1);
        expect_bus(at + LIMIT * PAGE);
        ok!(syscall!(SYS_unlink, sys::c_string(&path).as_ptr()));
        expect_bus(at + LIMIT * PAGE);
        sys::close(other);
        poke(at + LIMIT * PAGE, 1);
    });
}

fn pages_of_mappings_count_in_statfs() {
    on_small(|fd, at| {
        check_eq!(blocks(), (LIMIT, LIMIT));
        number_pages(at, 3, 1);
        check_eq!(blocks(), (LIMIT, LIMIT - 3));
        ok!(sys::munmap(at, 4 * LIMIT * PAGE));
        check_eq!(blocks(), (LIMIT, LIMIT - 3));
        ok!(sys::ftruncate(fd, PAGE));
        check_eq!(blocks(), (LIMIT, LIMIT - 1));
    });
}

fn use_by_the_kernel_is_efault() {
    on_small(|_, at| {
        number_pages(at, LIMIT, 1);
        let zero = ok!(sys::open("/dev/zero", libc::O_RDONLY, 0));
        errno_is!(syscall!(SYS_read, zero, at + LIMIT * PAGE, 1), EFAULT);
        check_eq!(syscall!(SYS_read, zero, at, 1), Ok(1));
        check_eq!(page_numbers(at, 2), [0, 2]);
    });
}

fn populate_stops_at_the_limit() {
    on_small(|fd, _| {
        let at = ok!(sys::mmap(0, 2 * LIMIT * PAGE, RW, MAP_SHARED | MAP_POPULATE, fd, 0));
        check_eq!(blocks(), (LIMIT, 0));
        check!(bytes(at, LIMIT * PAGE).iter().all(|byte| *byte == 0));
        errno_is!(sys::madvise(at, 2 * LIMIT * PAGE, libc::MADV_POPULATE_WRITE), EFAULT);
        check_eq!(sys::madvise(at, LIMIT * PAGE, libc::MADV_POPULATE_WRITE), Ok(0));
        expect_bus(at + LIMIT * PAGE);
    });
}

fn write_and_fallocate_are_enospc() {
    on_small(|fd, at| {
        number_pages(at, LIMIT - 2, 1);
        errno_is!(syscall!(SYS_fallocate, fd, 0, (LIMIT - 2) * PAGE, 3 * PAGE), ENOSPC);
        check_eq!(blocks(), (LIMIT, 2));
        check_eq!(sys::pwrite(fd, &vec![6; 3 * PAGE], LIMIT * PAGE), Ok(2 * PAGE));
        errno_is!(sys::pwrite(fd, &[6], (LIMIT + 2) * PAGE), ENOSPC);
        expect_bus(at + (LIMIT + 2) * PAGE);
        check_eq!((peek(at + LIMIT * PAGE), peek(at + (LIMIT + 2) * PAGE - 1)), (6, 6));
    });
}

fn limit_can_be_raised() {
    on_small(|_, at| {
        number_pages(at, LIMIT, 1);
        expect_bus(at + LIMIT * PAGE);
        let remount = |options: &str| {
            let (dir, kind, options) =
                (sys::c_string(&tmp::dir()), sys::c_string("tmpfs"), sys::c_string(options));
            syscall!(
                SYS_mount,
                kind.as_ptr(),
                dir.as_ptr(),
                kind.as_ptr(),
                libc::MS_REMOUNT,
                options.as_ptr()
            )
        };
        errno_is!(remount("size=16k"), EINVAL);
        ok!(remount("size=40k"));
        number_pages(at + LIMIT * PAGE, 2, 9);
        expect_bus(at + (LIMIT + 2) * PAGE);
    });
}

fn number_of_inodes_is_limited() {
    on_small(|_, _| {
        // The root and the file of the case are two of four.
        let more = [0; 2].map(|_| tmp::named_file(&[]));
        let path = sys::c_string(&tmp::path());
        let create = || syscall!(SYS_open, path.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600);
        errno_is!(create(), ENOSPC);
        sys::close(more[0].0);
        ok!(syscall!(SYS_unlink, sys::c_string(&more[0].1).as_ptr()));
        ok!(create());
    });
}
