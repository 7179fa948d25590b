// SPDX-License-Identifier: MPL-2.0

//! Memory that nobody has mapped before it is wanted: stacks that grow, programs that are executed, pages of files in memory.
//! What is promised of it, and how it is refused.

use libc::{MAP_FIXED, MAP_GROWSDOWN, MAP_NORESERVE, MAP_SHARED, RLIMIT_STACK, SIGBUS, SIGSEGV};

use super::{
    ALL, LARGE, LARGE_MIB, SLACK, beyond, committed_by, meminfo, never_beyond, set, setting, with_settings,
};
use crate::{
    child::Child,
    fault::{expect_maperr, try_write},
    harness::Case,
    mem::{ANON, ANON_SHARED, PAGE, RW, free_range, number_pages, peek, poke},
    program, sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/overcommit_modes":
    committed_counts_pages_of_memory_files,
    committed_counts_pages_of_a_tmpfs,
    committed_counts_pages_of_unreserved_shared_memory,
    committed_counts_pages_of_an_unreserved_segment,
    never_refuses_pages_of_unreserved_shared_memory,
    never_lets_no_stack_grow_beyond,
    never_refuses_pages_of_memory_files,
    never_refuses_an_allocation_as_a_whole,
    never_ends_a_program_that_is_too_large,
    never_executes_nothing_without_a_page,
    heuristic_ends_a_program_larger_than_memory,
];

/// A memory file.
fn memfd() -> i32 {
    ok!(syscall!(SYS_memfd_create, c"growth".as_ptr(), libc::MFD_CLOEXEC)) as i32
}

fn allocate(fd: i32, mode: i32, size: usize) -> sys::Result {
    syscall!(SYS_fallocate, fd, mode, 0, size)
}

/// What fits into the smallest machine that the suite runs on.
const PART: usize = LARGE / 4;
const PART_MIB: isize = LARGE_MIB / 4;

fn committed_counts_pages_of_memory_files() {
    let fd = memfd();
    check_eq!(committed_by(|| _ = ok!(sys::ftruncate(fd, LARGE))), 0);
    check_eq!(committed_by(|| _ = ok!(allocate(fd, 0, PART / 2))), PART_MIB / 2);
    let at = ok!(sys::mmap(0, PART, RW, MAP_SHARED, fd, 0));
    check_eq!(committed_by(|| number_pages(at + PART / 2, PART / 2 / PAGE, 1)), PART_MIB / 2);
    check_eq!(committed_by(|| _ = ok!(sys::munmap(at, PART))), 0);
    check_eq!(committed_by(|| _ = ok!(sys::ftruncate(fd, PART / 2))), -PART_MIB / 2);
    check_eq!(committed_by(|| sys::close(fd)), -PART_MIB / 2);
}

fn committed_counts_pages_of_a_tmpfs() {
    let fd = ok!(sys::open("/dev/shm", libc::O_TMPFILE | libc::O_RDWR, 0o600));
    let chunk = vec![1; 1 << 20];
    let write = || (0..PART >> 20).for_each(|_| check_eq!(sys::write(fd, &chunk), Ok(chunk.len())));
    check_eq!(committed_by(write), PART_MIB);
    check_eq!(committed_by(|| sys::close(fd)), -PART_MIB);
}

fn committed_counts_pages_of_unreserved_shared_memory() {
    let mut at = 0;
    let map = || ok!(sys::mmap(0, LARGE, RW, ANON_SHARED | MAP_NORESERVE, -1, 0));
    check_eq!(committed_by(|| at = map()), 0);
    check_eq!(committed_by(|| number_pages(at, PART / PAGE, 1)), PART_MIB);
    // Pages are counted where they are, not where they are mapped.
    check_eq!(committed_by(|| number_pages(at, PART / PAGE, 2)), 0);
    check_eq!(committed_by(|| _ = ok!(sys::madvise(at, PART / 2, libc::MADV_DONTNEED))), 0);
    check_eq!(committed_by(|| _ = ok!(sys::madvise(at, PART / 2, libc::MADV_REMOVE))), -PART_MIB / 2);
    check_eq!(committed_by(|| _ = ok!(sys::munmap(at + PART, LARGE - PART))), 0);
    check_eq!(committed_by(|| _ = ok!(sys::munmap(at, PART))), -PART_MIB / 2);
}

fn committed_counts_pages_of_an_unreserved_segment() {
    let mut id = 0;
    let get = || ok!(syscall!(SYS_shmget, libc::IPC_PRIVATE, LARGE, libc::SHM_NORESERVE | 0o600));
    check_eq!(committed_by(|| id = get()), 0);
    let at = ok!(syscall!(SYS_shmat, id, 0, 0));
    ok!(syscall!(SYS_shmctl, id, libc::IPC_RMID, 0));
    check_eq!(committed_by(|| number_pages(at, PART / PAGE, 1)), PART_MIB);
    check_eq!(committed_by(|| _ = ok!(syscall!(SYS_shmdt, at))), -PART_MIB);
}

fn never_refuses_pages_of_unreserved_shared_memory() {
    with_settings(&ALL, || {
        let at = ok!(sys::mmap(0, LARGE, RW, ANON_SHARED | MAP_NORESERVE, -1, 0));
        let reserved = ok!(sys::mmap(0, LARGE, RW, ANON_SHARED, -1, 0));
        poke(at, 1);
        never_beyond(PART / 2);
        let touch = |page: usize| try_write(at + page * PAGE, 2).map_err(|fault| fault.signal);
        let refused = (0..PART / PAGE).find_map(|page| touch(page).err().map(|signal| (page, signal)));
        let Some((page, signal)) = refused else { panic!("nothing is refused") };
        check_eq!(signal, SIGBUS);
        check!(((PART / 2 - SLACK) / PAGE..PART / PAGE).contains(&page), "{page}");
        // What was promised is there.
        number_pages(reserved, SLACK / PAGE, 3);
        check_eq!((peek(at), peek(reserved)), (2, 3));
    });
}

fn never_lets_no_stack_grow_beyond() {
    with_settings(&ALL, || {
        const SIZE: usize = LARGE;
        ok!(sys::setrlimit(RLIMIT_STACK, 2 * SIZE as u64, 2 * SIZE as u64));
        let at = free_range(2 * SIZE / PAGE) + 2 * SIZE - PAGE;
        ok!(sys::mmap(at, PAGE, RW, ANON | MAP_GROWSDOWN | MAP_FIXED, -1, 0));
        never_beyond(SIZE / 2);
        poke(at - PAGE, 1);
        expect_maperr(at - SIZE, || poke(at - SIZE, 1));
        errno_is!(syscall!(SYS_getrandom, at - SIZE, 1, 0), EFAULT);
        poke(at - SLACK / 2, 2);
        ok!(set("overcommit_memory", "0"));
        poke(at - SIZE, 3);
        check_eq!((peek(at - PAGE), peek(at - SLACK / 2), peek(at - SIZE)), (1, 2, 3));
    });
}

fn never_refuses_pages_of_memory_files() {
    with_settings(&ALL, || {
        let fd = memfd();
        ok!(sys::ftruncate(fd, PART));
        let at = ok!(sys::mmap(0, PART, RW, MAP_SHARED, fd, 0));
        never_beyond(PART / 2);
        poke(at + PART - PAGE, 1);
        let chunk = vec![1; 1 << 20];
        let refused = (0..PART >> 20).find_map(|_| match sys::write(fd, &chunk) {
            Ok(count) if count == chunk.len() => None,
            // Some of it was written.
            Ok(_) => Some(sys::write(fd, &chunk)),
            Err(error) => Some(Err(error)),
        });
        check_eq!(refused, Some(Err(sys::Errno(libc::ENOSPC))));
        let end = ok!(syscall!(SYS_lseek, fd, 0, libc::SEEK_CUR));
        check!((PART / 2 - SLACK..PART - PAGE).contains(&end), "{end}");
        let fault = try_write(at + end + PAGE, 1).map_err(|fault| fault.signal);
        check_eq!(fault, Err(SIGBUS));
        // What is there can be written on, and what goes makes room.
        poke(at, 2);
        check_eq!(allocate(fd, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, SLACK / 2), Ok(0));
        poke(at + end + PAGE, 3);
        check_eq!((peek(at), peek(at + end - 1), peek(at + PART - PAGE)), (0, 1, 1));
    });
}

fn never_refuses_an_allocation_as_a_whole() {
    with_settings(&ALL, || {
        let fd = memfd();
        never_beyond(PART / 2);
        errno_is!(allocate(fd, 0, PART), ENOSPC);
        check_eq!(syscall!(SYS_lseek, fd, 0, libc::SEEK_END), Ok(0));
        check_eq!(committed_by(|| _ = ok!(allocate(fd, 0, PART / 4))), PART_MIB / 4);
    });
}

/// A program that has `zeros` bytes of zeros and ends with status 7.
fn program_with_zeros(zeros: usize) -> String {
    const CODE: [u8; 12] = [0xbf, 7, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
    const HEADERS: u64 = 64 + 2 * 56;
    const BASE: u64 = 0x40_0000;
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    let mut words = |list: &[u64]| list.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    // The entry, where the two program headers are, and their size and number.
    words(&[BASE + HEADERS, 64, 0, 64 << 32 | 56 << 48, 2]);
    let size = HEADERS + CODE.len() as u64;
    words(&[1 | 5 << 32, 0, BASE, BASE, size, size, 4096]);
    words(&[1 | 6 << 32, 0, 0x1000_0000, 0x1000_0000, 0, zeros as u64, 4096]);
    bytes.extend_from_slice(&CODE);
    let (fd, path) = tmp::named_file(&bytes);
    sys::close(fd);
    ok!(syscall!(SYS_chmod, sys::c_string(&path).as_ptr(), 0o700));
    path
}

/// The wait status of a program.
fn status_of(path: &str) -> i32 {
    let run = || {
        let error = program::execve(path, &["zeros"], &[]);
        panic!("executing {path} gives {error:?}");
    };
    Child::spawn(run).wait()
}

fn never_ends_a_program_that_is_too_large() {
    with_settings(&ALL, || {
        let path = program_with_zeros(LARGE);
        check_eq!(libc::WEXITSTATUS(status_of(&path)), 7);
        never_beyond(LARGE / 2);
        let status = status_of(&path);
        check!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == SIGSEGV, "{status:#x}");
        let small = program_with_zeros(PAGE);
        check_eq!(libc::WEXITSTATUS(status_of(&small)), 7);
    });
}

fn never_executes_nothing_without_a_page() {
    with_settings(&ALL, || {
        let path = program_with_zeros(PAGE);
        never_beyond(PART);
        ok!(set("overcommit_kbytes", &(meminfo("Committed_AS") / 2 / 1024).to_string()));
        errno_is!(program::execve(&path, &["zeros"], &[]), ENOMEM);
        ok!(set("overcommit_memory", "0"));
        check_eq!(libc::WEXITSTATUS(status_of(&path)), 7);
    });
}

fn heuristic_ends_a_program_larger_than_memory() {
    if setting("overcommit_memory") != 0 {
        skip!("the machine promises memory in another way");
    }
    let status = status_of(&program_with_zeros(beyond()));
    check!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == SIGSEGV, "{status:#x}");
    check_eq!(libc::WEXITSTATUS(status_of(&program_with_zeros(PART))), 7);
}
