// SPDX-License-Identifier: MPL-2.0

//! Pointers that the kernel is given: bad ones give EFAULT and never a signal, good ones work wherever they point.

use libc::{MADV_DONTNEED, MAP_PRIVATE, MAP_SHARED, O_CLOEXEC, O_RDONLY, PROT_NONE, PROT_READ, PROT_WRITE};

use super::{
    ANON, BEYOND, PAGE, RW, anon, bytes, fill, free_range, lone_anon, number_pages, page_numbers, peek, poke,
};
use crate::{child::in_child, harness::Case, sys, tmp};

pub const CASES: &[Case] = cases!["mem/efault":
    read_into_every_kind_of_bad_pointer,
    write_from_every_kind_of_bad_pointer,
    structures_to_bad_pointers,
    structures_from_bad_pointers,
    paths_from_bad_pointers,
    path_that_ends_with_the_page_is_read,
    path_that_runs_into_nothing_is_efault,
    read_into_read_only_memory,
    read_into_read_only_file_mapping,
    write_from_write_only_memory_succeeds,
    write_from_beyond_a_file_is_efault,
    file_read_across_the_end_is_partial,
    file_write_across_the_end_is_partial,
    pipe_write_from_bad_leaves_nothing,
    pipe_read_into_bad_is_efault,
    zero_bytes_at_a_bad_pointer_succeed,
    huge_lengths_are_bounded,
    readv_into_a_bad_second_part_is_partial,
    writev_from_a_bad_second_part_is_partial,
    iovec_itself_bad_is_efault,
    pipe_call_with_bad_array_opens_nothing,
    wait_with_a_bad_status_pointer,
    unaligned_structures_are_taken,
    structure_across_two_pages,
];

pub const TOUCH: &[Case] = cases!["mem/kernel_touch":
    read_into_untouched_memory,
    read_into_untouched_memory_across_pages,
    write_from_untouched_memory,
    write_from_untouched_file_mapping,
    read_into_private_file_mapping_copies,
    read_into_memory_shared_after_fork_copies,
    read_into_dropped_memory,
    read_into_zero_page_copies,
    path_on_untouched_page_of_a_file,
    getrandom_fills_untouched_memory,
    iovec_on_untouched_memory,
    read_a_megabyte_into_untouched_memory,
    read_only_source_is_enough_for_write,
];

/// Pointers that nothing may be written to: none, low, unmapped, no rights, the kernel's, not an address at all.
fn unreachable() -> Vec<usize> {
    let none = ok!(sys::mmap(0, PAGE, PROT_NONE, ANON, -1, 0));
    vec![
        0,
        8,
        free_range(1),
        none,
        (1 << 47) - PAGE,
        BEYOND,
        1 << 63,
        0xffff_8000_0000_0000,
        0xffff_ffff_8000_0000,
        usize::MAX - 7,
    ]
}

fn zeros() -> i32 {
    ok!(sys::open("/dev/zero", O_RDONLY | O_CLOEXEC, 0))
}

fn read_into_every_kind_of_bad_pointer() {
    let (file, (reader, writer)) = (tmp::file(&[1; 100]), ok!(sys::pipe(0)));
    check_eq!(sys::write(writer, &[2; 100]), Ok(100));
    for at in unreachable() {
        errno_is!(syscall!(SYS_pread64, file, at, 8, 0), EFAULT);
        errno_is!(syscall!(SYS_read, reader, at, 8), EFAULT);
        errno_is!(syscall!(SYS_read, zeros(), at, 8), EFAULT);
    }
}

fn write_from_every_kind_of_bad_pointer() {
    let (file, (_, writer)) = (tmp::file(b""), ok!(sys::pipe(0)));
    for at in unreachable() {
        errno_is!(syscall!(SYS_pwrite64, file, at, 8, 0), EFAULT);
        errno_is!(syscall!(SYS_write, writer, at, 8), EFAULT);
    }
    check_eq!(sys::pread(file, &mut [0], 0), Ok(0));
}

fn structures_to_bad_pointers() {
    let (file, read_only) = (tmp::file(b"x"), ok!(sys::mmap(0, PAGE, PROT_READ, ANON, -1, 0)));
    for at in unreachable().into_iter().chain([read_only]) {
        errno_is!(syscall!(SYS_fstat, file, at), EFAULT);
        errno_is!(syscall!(SYS_uname, at), EFAULT);
        errno_is!(syscall!(SYS_sysinfo, at), EFAULT);
        errno_is!(syscall!(SYS_getcwd, at, 100), EFAULT);
        errno_is!(syscall!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, at), EFAULT);
        errno_is!(syscall!(SYS_getrandom, at, 8, 0), EFAULT);
        errno_is!(
            syscall!(SYS_getdents64, ok!(sys::open("/", O_RDONLY | libc::O_DIRECTORY, 0)), at, 4096),
            EFAULT
        );
        if at != 0 {
            errno_is!(syscall!(SYS_times, at), EFAULT);
            errno_is!(syscall!(SYS_rt_sigprocmask, libc::SIG_BLOCK, 0, at, 8), EFAULT);
            errno_is!(syscall!(SYS_rt_sigaction, libc::SIGUSR1, 0, at, 8), EFAULT);
            errno_is!(syscall!(SYS_sigaltstack, 0, at), EFAULT);
        }
    }
}

fn structures_from_bad_pointers() {
    for at in unreachable() {
        errno_is!(syscall!(SYS_nanosleep, at, 0), EFAULT);
        errno_is!(syscall!(SYS_poll, at, 1, 0), EFAULT);
        if at != 0 {
            errno_is!(syscall!(SYS_rt_sigprocmask, libc::SIG_BLOCK, at, 0, 8), EFAULT);
            errno_is!(syscall!(SYS_rt_sigaction, libc::SIGUSR1, at, 0, 8), EFAULT);
            errno_is!(syscall!(SYS_sigaltstack, at, 0), EFAULT);
            errno_is!(syscall!(SYS_select, 1, at, 0, 0, 0), EFAULT);
        }
    }
}

fn paths_from_bad_pointers() {
    let mut status = [0_u8; 256];
    for at in unreachable() {
        errno_is!(syscall!(SYS_openat, libc::AT_FDCWD, at, O_RDONLY, 0), EFAULT);
        errno_is!(syscall!(SYS_newfstatat, libc::AT_FDCWD, at, status.as_mut_ptr(), 0), EFAULT);
        errno_is!(syscall!(SYS_unlink, at), EFAULT);
        errno_is!(syscall!(SYS_chdir, at), EFAULT);
        errno_is!(syscall!(SYS_access, at, 0), EFAULT);
        errno_is!(syscall!(SYS_execve, at, 0, 0), EFAULT);
        errno_is!(syscall!(SYS_mkdir, at, 0o700), EFAULT);
        errno_is!(syscall!(SYS_rename, at, at), EFAULT);
    }
}

/// A page with an unmapped one behind, and these bytes at its very end.
fn at_the_edge(text: &[u8]) -> usize {
    let start = lone_anon(1) + PAGE - text.len();
    text.iter().enumerate().for_each(|(offset, &byte)| poke(start + offset, byte));
    start
}

fn path_that_ends_with_the_page_is_read() {
    for path in [&b"/\0"[..], b"/dev\0", b"/tmp\0"] {
        ok!(syscall!(SYS_openat, libc::AT_FDCWD, at_the_edge(path), O_RDONLY, 0));
    }
}

fn path_that_runs_into_nothing_is_efault() {
    errno_is!(syscall!(SYS_openat, libc::AT_FDCWD, at_the_edge(b"/tmp"), O_RDONLY, 0), EFAULT);
    errno_is!(syscall!(SYS_openat, libc::AT_FDCWD, at_the_edge(b"/"), O_RDONLY, 0), EFAULT);
}

fn read_into_read_only_memory() {
    let at = anon(1);
    poke(at, 7);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    errno_is!(syscall!(SYS_read, zeros(), at, 8), EFAULT);
    check_eq!(peek(at), 7);
}

fn read_into_read_only_file_mapping() {
    let fd = tmp::file(&[7; PAGE]);
    for flags in [MAP_PRIVATE, MAP_SHARED] {
        let at = ok!(sys::mmap(0, PAGE, PROT_READ, flags, fd, 0));
        errno_is!(syscall!(SYS_read, zeros(), at, 8), EFAULT);
        check_eq!(peek(at), 7);
    }
}

fn write_from_write_only_memory_succeeds() {
    // What can be written can be read on x86-64.
    let at = ok!(sys::mmap(0, PAGE, PROT_WRITE, ANON, -1, 0));
    poke(at, 3);
    let fd = tmp::file(b"");
    check_eq!(syscall!(SYS_pwrite64, fd, at, 1, 0), Ok(1));
}

fn write_from_beyond_a_file_is_efault() {
    let at = ok!(sys::mmap(0, 2 * PAGE, PROT_READ, MAP_SHARED, tmp::file(&[1; PAGE]), 0));
    let out = tmp::file(b"");
    errno_is!(syscall!(SYS_pwrite64, out, at + PAGE, 10, 0), EFAULT);
    check_eq!(syscall!(SYS_pwrite64, out, at, 10, 0), Ok(10));
}

fn file_read_across_the_end_is_partial() {
    let (fd, at) = (tmp::file(&[5; 200]), lone_anon(1));
    check_eq!(syscall!(SYS_pread64, fd, at + PAGE - 50, 200, 0), Ok(50));
    check_eq!((peek(at + PAGE - 51), peek(at + PAGE - 50), peek(at + PAGE - 1)), (0, 5, 5));
    check_eq!(syscall!(SYS_read, fd, at + PAGE - 60, 200), Ok(60));
    check_eq!(syscall!(SYS_lseek, fd, 0, libc::SEEK_CUR), Ok(60));
}

fn file_write_across_the_end_is_partial() {
    let (fd, at) = (tmp::file(b""), lone_anon(1));
    fill(at, PAGE, 6);
    check_eq!(syscall!(SYS_write, fd, at + PAGE - 50, 200), Ok(50));
    let mut content = [0; 100];
    check_eq!(sys::pread(fd, &mut content, 0), Ok(50));
    check!(content[..50].iter().all(|&byte| byte == 6));
}

fn pipe_write_from_bad_leaves_nothing() {
    let (reader, writer) = ok!(sys::pipe(libc::O_NONBLOCK));
    errno_is!(syscall!(SYS_write, writer, free_range(1), 10), EFAULT);
    errno_is!(sys::read(reader, &mut [0; 10]), EAGAIN);
    check_eq!(sys::write(writer, b"ok"), Ok(2));
    check_eq!(sys::read(reader, &mut [0; 10]), Ok(2));
}

fn pipe_read_into_bad_is_efault() {
    let (reader, writer) = ok!(sys::pipe(libc::O_NONBLOCK));
    check_eq!(sys::write(writer, b"data"), Ok(4));
    errno_is!(syscall!(SYS_read, reader, free_range(1), 4), EFAULT);
    let mut data = [0; 4];
    check_eq!(sys::read(reader, &mut data), Ok(4));
    check_eq!(&data, b"data");
}

fn zero_bytes_at_a_bad_pointer_succeed() {
    let (fd, hole) = (tmp::file(b"abc"), free_range(1));
    check_eq!(syscall!(SYS_read, fd, hole, 0), Ok(0));
    check_eq!(syscall!(SYS_write, fd, hole, 0), Ok(0));
    check_eq!(syscall!(SYS_getrandom, hole, 0, 0), Ok(0));
}

fn huge_lengths_are_bounded() {
    let (fd, at) = (tmp::file(&[9; 10]), lone_anon(1));
    check_eq!(syscall!(SYS_pread64, fd, at, PAGE * 1000, 0), Ok(10));
    match syscall!(SYS_pread64, fd, at, usize::MAX, 0) {
        Err(error) if error.0 == libc::EINVAL || error.0 == libc::EFAULT => {}
        other => panic!("reading 2^64 - 1 bytes gives {other:?}"),
    }
}

fn readv_into_a_bad_second_part_is_partial() {
    let (fd, at, hole) = (tmp::file(&[4; 100]), anon(1), free_range(1));
    let parts = [at, 30, hole, 30, at + 100, 30];
    check_eq!(syscall!(SYS_preadv, fd, parts.as_ptr(), 3, 0, 0), Ok(30));
    check_eq!((peek(at + 29), peek(at + 30), peek(at + 100)), (4, 0, 0));
    let parts = [hole, 30, at, 30];
    errno_is!(syscall!(SYS_preadv, fd, parts.as_ptr(), 2, 0, 0), EFAULT);
}

fn writev_from_a_bad_second_part_is_partial() {
    let (fd, at, hole) = (tmp::file(b""), anon(1), free_range(1));
    fill(at, PAGE, 8);
    let parts = [at, 30, hole, 30, at, 30];
    check_eq!(syscall!(SYS_pwritev, fd, parts.as_ptr(), 3, 0, 0), Ok(30));
    check_eq!(sys::pread(fd, &mut [0; 100], 0), Ok(30));
}

fn iovec_itself_bad_is_efault() {
    let fd = tmp::file(b"x");
    for at in unreachable() {
        errno_is!(syscall!(SYS_preadv, fd, at, 1, 0, 0), EFAULT);
        errno_is!(syscall!(SYS_pwritev, fd, at, 1, 0, 0), EFAULT);
    }
}

fn pipe_call_with_bad_array_opens_nothing() {
    let next = || {
        let fd = tmp::file(b"");
        sys::close(fd);
        fd
    };
    let before = next();
    for at in unreachable() {
        errno_is!(syscall!(SYS_pipe2, at, 0), EFAULT);
    }
    check_eq!(next(), before);
}

fn wait_with_a_bad_status_pointer() {
    let child = crate::child::Child::spawn(|| {});
    errno_is!(syscall!(SYS_wait4, child.pid, free_range(1), 0, 0), EFAULT);
    // The child has been waited for all the same.
    errno_is!(sys::wait4(child.pid, 0), ECHILD);
    let _ = child;
}

fn unaligned_structures_are_taken() {
    let at = anon(1);
    for offset in [1, 2, 3, 5, 7] {
        ok!(syscall!(SYS_fstat, tmp::file(b"x"), at + offset));
        ok!(syscall!(SYS_uname, at + offset));
        ok!(syscall!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, at + offset));
    }
}

fn structure_across_two_pages() {
    let at = lone_anon(2);
    ok!(syscall!(SYS_uname, at + PAGE - 100));
    check_eq!(bytes(at + PAGE - 100, 5), b"Linux");
    let edge = lone_anon(1) + PAGE - 100;
    errno_is!(syscall!(SYS_uname, edge), EFAULT);
}

fn read_into_untouched_memory() {
    let (fd, at) = (tmp::file(&[3; 100]), anon(2));
    check_eq!(syscall!(SYS_pread64, fd, at + PAGE + 10, 100, 0), Ok(100));
    check_eq!((peek(at + PAGE + 9), peek(at + PAGE + 10), peek(at + PAGE + 110)), (0, 3, 0));
}

fn read_into_untouched_memory_across_pages() {
    let (fd, at) = (tmp::file(&[3; 3 * PAGE]), anon(5));
    check_eq!(syscall!(SYS_pread64, fd, at + 100, 3 * PAGE, 0), Ok(3 * PAGE));
    check!(bytes(at + 100, 3 * PAGE).iter().all(|&byte| byte == 3));
    check_eq!((peek(at + 99), peek(at + 100 + 3 * PAGE)), (0, 0));
}

fn write_from_untouched_memory() {
    let (fd, at) = (tmp::file(&[1; 3 * PAGE]), anon(3));
    check_eq!(syscall!(SYS_pwrite64, fd, at, 3 * PAGE, 0), Ok(3 * PAGE));
    let mut content = vec![1; 3 * PAGE];
    check_eq!(sys::pread(fd, &mut content, 0), Ok(3 * PAGE));
    check!(content.iter().all(|&byte| byte == 0));
}

fn write_from_untouched_file_mapping() {
    let (from, to) = (tmp::file(&[8; 2 * PAGE]), tmp::file(b""));
    let at = ok!(sys::mmap(0, 2 * PAGE, PROT_READ, MAP_PRIVATE, from, 0));
    check_eq!(syscall!(SYS_write, to, at, 2 * PAGE), Ok(2 * PAGE));
    let mut content = vec![0; 2 * PAGE];
    check_eq!(sys::pread(to, &mut content, 0), Ok(2 * PAGE));
    check!(content.iter().all(|&byte| byte == 8));
}

fn read_into_private_file_mapping_copies() {
    let (file, from) = (tmp::file(&[b'o'; PAGE]), tmp::file(b"NEW"));
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_PRIVATE, file, 0));
    check_eq!(syscall!(SYS_pread64, from, at, 3, 0), Ok(3));
    check_eq!(bytes(at, 4), b"NEWo");
    let mut content = [0; 4];
    check_eq!(sys::pread(file, &mut content, 0), Ok(4));
    check_eq!(&content, b"oooo");
}

fn read_into_memory_shared_after_fork_copies() {
    let (from, at) = (tmp::file(b"NEW"), anon(2));
    number_pages(at, 2, 1);
    in_child(|| {
        check_eq!(syscall!(SYS_pread64, from, at + PAGE, 3, 0), Ok(3));
        check_eq!(page_numbers(at, 2), [1, b'N']);
    });
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn read_into_dropped_memory() {
    let (from, at) = (tmp::file(b"NEW"), anon(1));
    fill(at, PAGE, 5);
    ok!(sys::madvise(at, PAGE, MADV_DONTNEED));
    check_eq!(syscall!(SYS_pread64, from, at + 1, 3, 0), Ok(3));
    check_eq!(bytes(at, 5), b"\0NEW\0");
}

fn read_into_zero_page_copies() {
    let (from, first, second) = (tmp::file(b"NEW"), anon(1), anon(1));
    check_eq!((peek(first), peek(second)), (0, 0));
    check_eq!(syscall!(SYS_pread64, from, first, 3, 0), Ok(3));
    check_eq!((bytes(first, 4), peek(second)), (&b"NEW\0"[..], 0));
}

fn path_on_untouched_page_of_a_file() {
    let at = ok!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, tmp::file(b"/dev/null\0"), 0));
    ok!(syscall!(SYS_openat, libc::AT_FDCWD, at, O_RDONLY, 0));
}

fn getrandom_fills_untouched_memory() {
    let at = anon(2);
    check_eq!(syscall!(SYS_getrandom, at + PAGE - 100, 200, 0), Ok(200));
    check!(bytes(at + PAGE - 100, 200).iter().any(|&byte| byte != 0));
    check_eq!((peek(at + PAGE - 101), peek(at + PAGE + 100)), (0, 0));
}

fn iovec_on_untouched_memory() {
    let (from, at) = (tmp::file(b"abcdef"), anon(3));
    let parts = [at + PAGE - 2, 4, at + 2 * PAGE, 2];
    check_eq!(syscall!(SYS_preadv, from, parts.as_ptr(), 2, 0, 0), Ok(6));
    check_eq!((bytes(at + PAGE - 2, 4), bytes(at + 2 * PAGE, 3)), (&b"abcd"[..], &b"ef\0"[..]));
}

fn read_a_megabyte_into_untouched_memory() {
    let (fd, at) = (tmp::file(&vec![0x3c; 1 << 20]), anon(256));
    check_eq!(syscall!(SYS_pread64, fd, at, 1 << 20, 0), Ok(1 << 20));
    check!(bytes(at, 1 << 20).iter().all(|&byte| byte == 0x3c));
}

fn read_only_source_is_enough_for_write() {
    let at = anon(1);
    fill(at, PAGE, 9);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    check_eq!(syscall!(SYS_pwrite64, tmp::file(b""), at, PAGE, 0), Ok(PAGE));
}
