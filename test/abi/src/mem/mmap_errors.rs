// SPDX-License-Identifier: MPL-2.0

//! Every error that mmap(2) names, and that a refused call changes nothing.

use libc::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_HUGETLB, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED,
    MAP_SHARED_VALIDATE, MAP_SYNC, O_APPEND, O_CLOEXEC, O_DIRECTORY, O_PATH, O_RDONLY, O_RDWR, O_WRONLY,
    PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE,
};

use super::{ANON, BEYOND, PAGE, RW, address_space_end, anon, page_numbers, peek, poke};
use crate::{harness::Case, sys, tmp};

pub const CASES: &[Case] = cases!["mem/mmap":
    zero_length_is_einval,
    length_that_wraps_is_enomem,
    length_beyond_the_address_space_is_enomem,
    fixed_unaligned_is_einval,
    fixed_beyond_the_address_space_is_enomem,
    fixed_reaching_beyond_the_address_space_is_enomem,
    noreplace_beyond_the_address_space_is_enomem,
    unaligned_offset_is_einval,
    no_sharing_type_is_einval,
    unknown_sharing_type_is_einval,
    shared_validate_anonymous_is_einval,
    shared_validate_unknown_flag_is_eopnotsupp,
    private_ignores_unknown_flags,
    closed_fd_is_ebadf,
    negative_fd_is_ebadf,
    path_fd_is_ebadf,
    write_only_private_is_eacces,
    write_only_shared_is_eacces,
    write_only_prot_none_is_eacces,
    read_only_shared_writable_is_eacces,
    read_only_shared_readable_succeeds,
    read_only_private_writable_succeeds,
    append_only_open_may_be_written_shared,
    directory_is_enodev,
    pipe_is_enodev,
    pipe_writer_is_eacces,
    socket_is_enodev,
    null_device_is_enodev,
    zero_device_private_is_zero_memory,
    zero_device_shared_is_zero_memory,
    offset_and_length_overflow_is_eoverflow,
    hugetlb_without_pages_is_enomem_or_einval,
    executable_of_a_noexec_mount_is_eperm,
    read_implies_exec_but_not_on_a_noexec_mount,
    what_cannot_be_mapped_is_told_by_rights_first,
    refusal_comes_before_lack_of_memory,
    denywrite_and_executable_flags_are_ignored,
    refused_fixed_leaves_old_mapping,
    refused_fixed_of_bad_fd_leaves_old_mapping,
];

fn file(flags: i32) -> i32 {
    let (fd, path) = tmp::named_file(&[b'x'; PAGE]);
    sys::close(fd);
    ok!(sys::open(&path, flags | O_CLOEXEC, 0))
}

fn zero_length_is_einval() {
    errno_is!(sys::mmap(0, 0, RW, ANON, -1, 0), EINVAL);
    errno_is!(sys::mmap(0, 0, PROT_READ, MAP_PRIVATE, tmp::file(b"x"), 0), EINVAL);
}

fn length_that_wraps_is_enomem() {
    errno_is!(sys::mmap(0, usize::MAX, RW, ANON, -1, 0), ENOMEM);
    errno_is!(sys::mmap(0, usize::MAX - PAGE + 2, RW, ANON, -1, 0), ENOMEM);
}

fn length_beyond_the_address_space_is_enomem() {
    errno_is!(sys::mmap(0, BEYOND, PROT_NONE, ANON | MAP_NORESERVE, -1, 0), ENOMEM);
    errno_is!(sys::mmap(0, 1 << 62, PROT_NONE, ANON | MAP_NORESERVE, -1, 0), ENOMEM);
}

fn fixed_unaligned_is_einval() {
    let at = anon(4);
    errno_is!(sys::mmap(at + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
    errno_is!(sys::mmap(at + PAGE / 2, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EINVAL);
}

fn fixed_beyond_the_address_space_is_enomem() {
    errno_is!(sys::mmap(BEYOND, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
    errno_is!(sys::mmap(0xffff_8000_0000_0000, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
    errno_is!(sys::mmap(0xffff_ffff_ffff_f000, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
}

fn fixed_reaching_beyond_the_address_space_is_enomem() {
    let end = address_space_end();
    errno_is!(sys::mmap(end, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
    errno_is!(sys::mmap(end - PAGE, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
}

fn noreplace_beyond_the_address_space_is_enomem() {
    errno_is!(sys::mmap(BEYOND, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), ENOMEM);
}

fn unaligned_offset_is_einval() {
    let fd = tmp::file(&[1; 2 * PAGE]);
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 1), EINVAL);
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 512), EINVAL);
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, -1), EINVAL);
    errno_is!(sys::mmap(0, PAGE, RW, ANON, -1, 100), EINVAL);
}

fn no_sharing_type_is_einval() {
    errno_is!(sys::mmap(0, PAGE, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
    errno_is!(sys::mmap(0, PAGE, PROT_READ, 0, tmp::file(b"x"), 0), EINVAL);
}

fn unknown_sharing_type_is_einval() {
    errno_is!(sys::mmap(0, PAGE, RW, MAP_ANONYMOUS | 0x7, -1, 0), EINVAL);
    errno_is!(sys::mmap(0, PAGE, PROT_READ, 0x5, tmp::file(b"x"), 0), EINVAL);
}

fn shared_validate_anonymous_is_einval() {
    errno_is!(sys::mmap(0, PAGE, RW, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -1, 0), EINVAL);
}

fn shared_validate_unknown_flag_is_eopnotsupp() {
    let fd = tmp::file(&[3; PAGE]);
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_SHARED_VALIDATE, fd, 0));
    check_eq!(peek(at), 3);
    errno_is!(sys::mmap(0, PAGE, RW, MAP_SHARED_VALIDATE | 0x200_0000, fd, 0), EOPNOTSUPP);
    errno_is!(sys::mmap(0, PAGE, RW, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0), EOPNOTSUPP);
}

fn private_ignores_unknown_flags() {
    let at = ok!(sys::mmap(0, PAGE, RW, ANON | 0x200_0000, -1, 0));
    poke(at, 1);
    let fd = tmp::file(&[3; PAGE]);
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_SHARED | 0x200_0000, fd, 0));
    check_eq!(peek(at), 3);
}

fn closed_fd_is_ebadf() {
    let fd = tmp::file(b"x");
    sys::close(fd);
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), EBADF);
}

fn negative_fd_is_ebadf() {
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, -1, 0), EBADF);
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_SHARED, -5, 0), EBADF);
}

fn path_fd_is_ebadf() {
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, file(O_PATH), 0), EBADF);
}

fn write_only_private_is_eacces() {
    let fd = file(O_WRONLY);
    errno_is!(sys::mmap(0, PAGE, PROT_WRITE, MAP_PRIVATE, fd, 0), EACCES);
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), EACCES);
}

fn write_only_shared_is_eacces() {
    let fd = file(O_WRONLY);
    errno_is!(sys::mmap(0, PAGE, PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
    errno_is!(sys::mmap(0, PAGE, RW, MAP_SHARED, fd, 0), EACCES);
}

fn write_only_prot_none_is_eacces() {
    errno_is!(sys::mmap(0, PAGE, PROT_NONE, MAP_PRIVATE, file(O_WRONLY), 0), EACCES);
}

fn read_only_shared_writable_is_eacces() {
    let fd = file(O_RDONLY);
    errno_is!(sys::mmap(0, PAGE, RW, MAP_SHARED, fd, 0), EACCES);
    errno_is!(sys::mmap(0, PAGE, PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
}

fn read_only_shared_readable_succeeds() {
    check_eq!(peek(ok!(sys::mmap(0, PAGE, PROT_READ, MAP_SHARED, file(O_RDONLY), 0))), b'x');
}

fn read_only_private_writable_succeeds() {
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_PRIVATE, file(O_RDONLY), 0));
    poke(at, b'y');
    check_eq!(peek(at), b'y');
    check_eq!(peek(at + 1), b'x');
}

fn append_only_open_may_be_written_shared() {
    // The manual's "append-only" is an attribute of the file, not O_APPEND.
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_SHARED, file(O_RDWR | O_APPEND), 0));
    poke(at, b'y');
    check_eq!(peek(at), b'y');
}

fn directory_is_enodev() {
    let fd = ok!(sys::open("/", O_RDONLY | O_DIRECTORY, 0));
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0), ENODEV);
}

fn pipe_is_enodev() {
    let (reader, _) = ok!(sys::pipe(0));
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, reader, 0), ENODEV);
}

fn pipe_writer_is_eacces() {
    let (_, writer) = ok!(sys::pipe(0));
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, writer, 0), EACCES);
}

fn socket_is_enodev() {
    let mut ends = [0_i32; 2];
    ok!(syscall!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()));
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, ends[0], 0), ENODEV);
}

fn what_cannot_be_mapped_is_told_by_rights_first() {
    let (reader, writer) = ok!(sys::pipe(0));
    for sharing in [MAP_PRIVATE, MAP_SHARED] {
        errno_is!(sys::mmap(0, PAGE, PROT_READ, sharing, reader, 0), ENODEV);
        errno_is!(sys::mmap(0, PAGE, PROT_READ, sharing, writer, 0), EACCES);
    }
    errno_is!(sys::mmap(0, PAGE, RW, MAP_SHARED, reader, 0), EACCES);
    errno_is!(sys::mmap(0, PAGE, RW, MAP_PRIVATE, reader, 0), ENODEV);
    let zero = ok!(sys::open("/dev/zero", O_RDONLY, 0));
    errno_is!(sys::mmap(0, PAGE, RW, MAP_SHARED, zero, 0), EACCES);
    let zero = ok!(sys::open("/dev/zero", O_WRONLY, 0));
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, zero, 0), EACCES);
    let event = ok!(syscall!(SYS_eventfd2, 0, 0)) as i32;
    errno_is!(sys::mmap(0, PAGE, RW, MAP_SHARED, event, 0), ENODEV);
}

fn refusal_comes_before_lack_of_memory() {
    const HUGE: usize = 1 << 45;
    let (reader, _) = ok!(sys::pipe(0));
    errno_is!(sys::mmap(0, HUGE, RW, MAP_PRIVATE, file(O_WRONLY), 0), EACCES);
    errno_is!(sys::mmap(0, HUGE, RW, MAP_PRIVATE, reader, 0), ENODEV);
}

fn null_device_is_enodev() {
    let fd = ok!(sys::open("/dev/null", O_RDWR, 0));
    errno_is!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
}

fn zero_device_private_is_zero_memory() {
    let fd = ok!(sys::open("/dev/zero", O_RDWR, 0));
    let at = ok!(sys::mmap(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0));
    check_eq!(page_numbers(at, 2), [0, 0]);
    poke(at, 1);
    check_eq!(page_numbers(at, 2), [1, 0]);
}

fn zero_device_shared_is_zero_memory() {
    let fd = ok!(sys::open("/dev/zero", O_RDWR, 0));
    let at = ok!(sys::mmap(0, 2 * PAGE, RW, MAP_SHARED, fd, 0));
    let other = ok!(sys::mmap(0, 2 * PAGE, RW, MAP_SHARED, fd, 0));
    crate::child::in_child(|| poke(at + PAGE, 5));
    check_eq!(page_numbers(at, 2), [0, 5]);
    check_eq!(page_numbers(other, 2), [0, 0]);
}

fn offset_and_length_overflow_is_eoverflow() {
    let fd = tmp::file(b"x");
    let last = (usize::MAX & !(PAGE - 1)) as i64;
    match sys::mmap(0, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, last) {
        Err(error) if [libc::EOVERFLOW, libc::EINVAL].contains(&error.0) => {}
        other => panic!("an offset of 2^64 - 4096 gives {other:?}"),
    }
}

fn hugetlb_without_pages_is_enomem_or_einval() {
    match std::fs::read_to_string("/proc/sys/vm/nr_hugepages") {
        Ok(count) if count.trim() != "0" => skip!("the system has huge pages"),
        _ => {}
    }
    match sys::mmap(0, 2 << 20, RW, ANON | MAP_HUGETLB, -1, 0) {
        Err(error) if [libc::ENOMEM, libc::EINVAL, libc::ENOSYS].contains(&error.0) => {}
        other => panic!("MAP_HUGETLB without huge pages gives {other:?}"),
    }
}

/// Runs `body` with a file on a tmpfs that is mounted without execution.
fn on_noexec_mount<T>(body: impl FnOnce(i32) -> T) -> Option<T> {
    tmp::on_tmpfs(libc::MS_NOEXEC, "", || {
        let fd = tmp::file(&[0xc3; PAGE]);
        let result = body(fd);
        sys::close(fd);
        result
    })
}

fn executable_of_a_noexec_mount_is_eperm() {
    let exec = PROT_READ | PROT_EXEC;
    let seen = on_noexec_mount(|fd| {
        let read = ok!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
        let refused = [MAP_PRIVATE, MAP_SHARED].map(|sharing| sys::mmap(0, PAGE, exec, sharing, fd, 0));
        let protected = sys::mprotect(read, PAGE, exec);
        ok!(sys::munmap(read, PAGE));
        (refused, protected)
    });
    let Some((refused, protected)) = seen else { skip!("a tmpfs cannot be mounted") };
    check_eq!(refused, [Err(sys::Errno(libc::EPERM)); 2]);
    check_eq!(protected, Err(sys::Errno(libc::EACCES)));
}

fn read_implies_exec_but_not_on_a_noexec_mount() {
    let seen = on_noexec_mount(|fd| {
        let old = ok!(syscall!(SYS_personality, 0xffff_ffff_u32));
        ok!(syscall!(SYS_personality, old | libc::READ_IMPLIES_EXEC as usize));
        let file = sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
        let anonymous = sys::mmap(0, PAGE, PROT_READ, ANON, -1, 0);
        let none = sys::mmap(0, PAGE, PROT_NONE, MAP_PRIVATE, fd, 0);
        let protected = none.and_then(|at| sys::mprotect(at, PAGE, PROT_READ));
        ok!(syscall!(SYS_personality, old));
        let perms = [file, anonymous, none].map(|at| at.map(perms_at));
        for at in [file, anonymous, none].into_iter().flatten() {
            ok!(sys::munmap(at, PAGE));
        }
        (perms, protected)
    });
    let Some((perms, protected)) = seen else { skip!("a tmpfs cannot be mounted") };
    check_eq!(perms.map(|perms| perms.unwrap_or_default()), ["r--p", "r-xp", "r--p"]);
    check_eq!(protected, Ok(0));
}

/// The permissions of the mapping that starts at `at`, as `/proc/self/maps` shows them.
fn perms_at(at: usize) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let line = maps.lines().find(|line| line.starts_with(&format!("{at:x}-"))).unwrap_or_default();
    line.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn denywrite_and_executable_flags_are_ignored() {
    let fd = tmp::file(&[7; PAGE]);
    let at =
        ok!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE | libc::MAP_DENYWRITE | libc::MAP_EXECUTABLE, fd, 0));
    check_eq!(sys::pwrite(fd, &[8], 0), Ok(1));
    check_eq!(peek(at), 8);
}

fn refused_fixed_leaves_old_mapping() {
    let at = anon(4);
    poke(at, 9);
    errno_is!(sys::mmap(at, PAGE, RW, MAP_ANONYMOUS | MAP_FIXED, -1, 0), EINVAL);
    errno_is!(sys::mmap(at, 0, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
    errno_is!(sys::mmap(at, BEYOND, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
    check_eq!(page_numbers(at, 4), [9, 0, 0, 0]);
}

fn refused_fixed_of_bad_fd_leaves_old_mapping() {
    let at = anon(4);
    poke(at, 9);
    errno_is!(sys::mmap(at, PAGE, RW, MAP_SHARED | MAP_FIXED, file(O_RDONLY), 0), EACCES);
    errno_is!(sys::mmap(at, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, 9999, 0), EBADF);
    let (reader, _) = ok!(sys::pipe(O_CLOEXEC));
    errno_is!(sys::mmap(at, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, reader, 0), ENODEV);
    check_eq!(peek(at), 9);
    poke(at, 8);
    check_eq!(page_numbers(at, 4), [8, 0, 0, 0]);
}
