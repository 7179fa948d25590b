// SPDX-License-Identifier: MPL-2.0

//! memfd_create(2) and its seals, and every error that they name.

use libc::{
    F_ADD_SEALS, F_GET_SEALS, F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE,
    FD_CLOEXEC, MAP_PRIVATE, MAP_SHARED, MFD_ALLOW_SEALING, MFD_CLOEXEC, PROT_READ, RLIMIT_NOFILE,
};

use super::{PAGE, RW, bytes, free_range, lone_anon, number_pages, page_numbers, peek, poke};
use crate::{child::in_child, fault::expect_bus, harness::Case, procfs, sys, sys::Result};

pub const CASES: &[Case] = cases!["mem/memfd":
    is_empty_at_first,
    holds_what_is_written,
    read_write_and_mapping_are_one_truth,
    is_shared_across_fork,
    two_are_two,
    same_name_is_no_clash,
    name_shows_in_maps,
    name_shows_in_proc_fd,
    cloexec_flag_is_obeyed,
    can_be_opened_for_reading_and_writing,
    truncated_mapping_is_sigbus,
    private_mapping_is_a_copy,
    name_of_249_bytes_is_taken,
    name_of_250_bytes_is_einval,
    unknown_flag_is_einval,
    bad_name_pointer_is_efault,
    name_without_an_end_is_efault,
    too_many_files_is_emfile,
    without_allow_sealing_is_sealed,
    seals_add_up,
    seal_of_a_sealed_is_eperm,
    unknown_seal_is_einval,
    seal_shrink_refuses_shrinking,
    seal_grow_refuses_growing,
    seal_write_refuses_write,
    seal_write_refuses_shared_writable_mapping,
    seal_write_with_a_writable_mapping_is_ebusy,
    seal_write_after_unmapping_succeeds,
    seal_write_allows_private_mapping,
    seal_future_write_keeps_old_mappings_writable,
    seal_future_write_bounds_mprotect,
    seals_of_a_pipe_is_einval,
];

fn create(name: &str, flags: u32) -> Result<i32> {
    let name = sys::c_string(name);
    syscall!(SYS_memfd_create, name.as_ptr(), flags).map(|fd| fd as i32)
}

/// A memfd that allows seals, of that many pages.
fn sealable(pages: usize) -> i32 {
    let fd = ok!(create("sealable", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ok!(sys::ftruncate(fd, pages * PAGE));
    fd
}

fn add_seals(fd: i32, seals: i32) -> Result {
    syscall!(SYS_fcntl, fd, F_ADD_SEALS, seals)
}

fn seals(fd: i32) -> Result<i32> {
    syscall!(SYS_fcntl, fd, F_GET_SEALS).map(|seals| seals as i32)
}

fn shared(fd: i32, pages: usize) -> usize {
    ok!(sys::mmap(0, pages * PAGE, RW, MAP_SHARED, fd, 0))
}

fn is_empty_at_first() {
    let fd = ok!(create("empty", 0));
    check_eq!(sys::read(fd, &mut [0; 10]), Ok(0));
    check_eq!(syscall!(SYS_lseek, fd, 0, libc::SEEK_END), Ok(0));
    let at = ok!(sys::mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0));
    expect_bus(at, || _ = peek(at));
}

fn holds_what_is_written() {
    let fd = ok!(create("words", 0));
    check_eq!(sys::write(fd, b"hello world"), Ok(11));
    let mut word = [0; 5];
    check_eq!(sys::pread(fd, &mut word, 6), Ok(5));
    check_eq!(&word, b"world");
}

fn read_write_and_mapping_are_one_truth() {
    let fd = sealable(2);
    let at = shared(fd, 2);
    poke(at + PAGE, 5);
    let mut byte = [0];
    check_eq!(sys::pread(fd, &mut byte, PAGE), Ok(1));
    check_eq!(byte, [5]);
    check_eq!(sys::pwrite(fd, b"x", 7), Ok(1));
    check_eq!(peek(at + 7), b'x');
}

fn is_shared_across_fork() {
    let fd = sealable(1);
    let at = shared(fd, 1);
    in_child(|| {
        poke(at, 1);
        poke(shared(fd, 1) + 1, 2);
    });
    check_eq!(bytes(at, 3), [1, 2, 0]);
}

fn two_are_two() {
    let (first, second) = (shared(sealable(1), 1), shared(sealable(1), 1));
    poke(first, 1);
    check_eq!(peek(second), 0);
}

fn same_name_is_no_clash() {
    let (first, second) = (ok!(create("twin", 0)), ok!(create("twin", 0)));
    check_eq!(sys::write(first, b"a"), Ok(1));
    check_eq!(sys::read(second, &mut [0]), Ok(0));
}

fn name_shows_in_maps() {
    let fd = ok!(create("some name", 0));
    ok!(sys::ftruncate(fd, PAGE));
    let vma = procfs::vma_at(shared(fd, 1));
    check_eq!(
        vma.map(|vma| (vma.path, vma.perms)),
        Some(("/memfd:some name (deleted)".into(), "rw-s".into()))
    );
}

fn name_shows_in_proc_fd() {
    let fd = ok!(create("shown", 0));
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
    check_eq!(
        link.ok().and_then(|path| path.to_str().map(String::from)),
        Some("/memfd:shown (deleted)".into())
    );
}

fn cloexec_flag_is_obeyed() {
    let flags = |fd: i32| syscall!(SYS_fcntl, fd, libc::F_GETFD);
    check_eq!(flags(ok!(create("a", MFD_CLOEXEC))), Ok(FD_CLOEXEC as usize));
    check_eq!(flags(ok!(create("b", 0))), Ok(0));
}

fn can_be_opened_for_reading_and_writing() {
    let fd = ok!(create("rw", 0));
    let mode = ok!(syscall!(SYS_fcntl, fd, libc::F_GETFL)) as i32 & libc::O_ACCMODE;
    check_eq!(mode, libc::O_RDWR);
}

fn truncated_mapping_is_sigbus() {
    let fd = sealable(3);
    let at = shared(fd, 3);
    number_pages(at, 3, 1);
    ok!(sys::ftruncate(fd, PAGE));
    check_eq!(peek(at), 1);
    expect_bus(at + PAGE, || _ = peek(at + PAGE));
    ok!(sys::ftruncate(fd, 3 * PAGE));
    check_eq!(page_numbers(at, 3), [1, 0, 0]);
}

fn private_mapping_is_a_copy() {
    let fd = sealable(1);
    let (private, shared) = (ok!(sys::mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0)), shared(fd, 1));
    poke(private, 1);
    check_eq!(peek(shared), 0);
    poke(shared + 1, 2);
    check_eq!(bytes(private, 2), [1, 0]);
}

fn name_of_249_bytes_is_taken() {
    ok!(create(&"n".repeat(249), 0));
    ok!(create("", 0));
}

fn name_of_250_bytes_is_einval() {
    errno_is!(create(&"n".repeat(250), 0), EINVAL);
}

fn unknown_flag_is_einval() {
    errno_is!(create("x", 0x8000_0000), EINVAL);
    errno_is!(create("x", 0x100), EINVAL);
}

fn bad_name_pointer_is_efault() {
    errno_is!(syscall!(SYS_memfd_create, 0, 0), EFAULT);
    errno_is!(syscall!(SYS_memfd_create, free_range(1), 0), EFAULT);
}

fn name_without_an_end_is_efault() {
    let at = lone_anon(1);
    poke(at + PAGE - 2, b'a');
    poke(at + PAGE - 1, b'b');
    errno_is!(syscall!(SYS_memfd_create, at + PAGE - 2, 0), EFAULT);
    poke(at + PAGE - 1, 0);
    ok!(syscall!(SYS_memfd_create, at + PAGE - 2, 0));
}

fn too_many_files_is_emfile() {
    let next = ok!(create("next", 0));
    sys::close(next);
    ok!(sys::setrlimit(RLIMIT_NOFILE, next as u64, next as u64));
    errno_is!(create("one too many", 0), EMFILE);
}

fn without_allow_sealing_is_sealed() {
    let fd = ok!(create("plain", 0));
    check_eq!(seals(fd), Ok(F_SEAL_SEAL));
    errno_is!(add_seals(fd, F_SEAL_WRITE), EPERM);
}

fn seals_add_up() {
    let fd = sealable(1);
    check_eq!(seals(fd), Ok(0));
    ok!(add_seals(fd, F_SEAL_GROW));
    ok!(add_seals(fd, F_SEAL_SHRINK));
    check_eq!(seals(fd), Ok(F_SEAL_GROW | F_SEAL_SHRINK));
}

fn seal_of_a_sealed_is_eperm() {
    let fd = sealable(1);
    ok!(add_seals(fd, F_SEAL_SEAL));
    errno_is!(add_seals(fd, F_SEAL_GROW), EPERM);
    check_eq!(seals(fd), Ok(F_SEAL_SEAL));
}

fn unknown_seal_is_einval() {
    errno_is!(add_seals(sealable(1), 0x1000), EINVAL);
}

fn seal_shrink_refuses_shrinking() {
    let fd = sealable(2);
    ok!(add_seals(fd, F_SEAL_SHRINK));
    errno_is!(sys::ftruncate(fd, PAGE), EPERM);
    ok!(sys::ftruncate(fd, 3 * PAGE));
    ok!(sys::ftruncate(fd, 3 * PAGE));
}

fn seal_grow_refuses_growing() {
    let fd = sealable(2);
    ok!(add_seals(fd, F_SEAL_GROW));
    errno_is!(sys::ftruncate(fd, 3 * PAGE), EPERM);
    errno_is!(sys::pwrite(fd, b"x", 2 * PAGE), EPERM);
    check_eq!(sys::pwrite(fd, b"x", 2 * PAGE - 1), Ok(1));
    ok!(sys::ftruncate(fd, PAGE));
}

fn seal_write_refuses_write() {
    let fd = sealable(1);
    check_eq!(sys::pwrite(fd, b"a", 0), Ok(1));
    ok!(add_seals(fd, F_SEAL_WRITE));
    errno_is!(sys::pwrite(fd, b"b", 0), EPERM);
    let mut byte = [0];
    check_eq!(sys::pread(fd, &mut byte, 0), Ok(1));
    check_eq!(&byte, b"a");
}

fn seal_write_refuses_shared_writable_mapping() {
    let fd = sealable(1);
    ok!(add_seals(fd, F_SEAL_WRITE));
    errno_is!(sys::mmap(0, PAGE, RW, MAP_SHARED, fd, 0), EPERM);
}

fn seal_write_with_a_writable_mapping_is_ebusy() {
    let fd = sealable(1);
    let at = shared(fd, 1);
    errno_is!(add_seals(fd, F_SEAL_WRITE), EBUSY);
    check_eq!(seals(fd), Ok(0));
    poke(at, 1);
}

fn seal_write_after_unmapping_succeeds() {
    let fd = sealable(1);
    let at = shared(fd, 1);
    poke(at, 1);
    ok!(sys::munmap(at, PAGE));
    check_eq!(add_seals(fd, F_SEAL_WRITE), Ok(0));
}

fn seal_write_allows_private_mapping() {
    let fd = sealable(1);
    check_eq!(sys::pwrite(fd, b"s", 0), Ok(1));
    ok!(add_seals(fd, F_SEAL_WRITE));
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0));
    check_eq!(peek(at), b's');
    poke(at, 1);
    check_eq!(peek(at), 1);
}

fn seal_future_write_keeps_old_mappings_writable() {
    let fd = sealable(1);
    let at = shared(fd, 1);
    check_eq!(add_seals(fd, F_SEAL_FUTURE_WRITE), Ok(0));
    poke(at, 7);
    errno_is!(sys::mmap(0, PAGE, RW, MAP_SHARED, fd, 0), EPERM);
    errno_is!(sys::pwrite(fd, b"b", 0), EPERM);
    check_eq!(peek(at), 7);
}

fn seal_future_write_bounds_mprotect() {
    let fd = sealable(1);
    ok!(add_seals(fd, F_SEAL_FUTURE_WRITE));
    let at = ok!(sys::mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0));
    errno_is!(sys::mprotect(at, PAGE, RW), EACCES);
    check_eq!(peek(at), 0);
}

fn seals_of_a_pipe_is_einval() {
    let (_, writer) = ok!(sys::pipe(0));
    errno_is!(seals(writer), EINVAL);
    errno_is!(add_seals(writer, F_SEAL_GROW), EINVAL);
}
