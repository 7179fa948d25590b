// SPDX-License-Identifier: MPL-2.0

//! getrlimit(2), setrlimit(2), prlimit(2), and the limits on memory. Locked memory's is in `mlock`, the stack's in `stack`.

use libc::{
    MAP_FIXED, MAP_NORESERVE, MAP_SHARED, PROT_EXEC, PROT_NONE, PROT_READ, RLIM_INFINITY, RLIMIT_AS,
    RLIMIT_DATA, RLIMIT_FSIZE, RLIMIT_MEMLOCK, RLIMIT_NOFILE, RLIMIT_STACK, SIGXFSZ,
};

use super::{ANON, ANON_SHARED, PAGE, RW, anon, free_range, number_pages, page_numbers};
use crate::{
    child::{Child, Turn, in_child, killed_by},
    harness::Case,
    procfs, sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/rlimit":
    every_resource_can_be_asked,
    what_is_set_is_got,
    soft_above_hard_is_einval,
    unknown_resource_is_einval,
    bad_pointer_is_efault,
    root_may_raise_the_hard_limit,
    others_may_not_raise_the_hard_limit,
    others_may_move_the_soft_limit,
    prlimit_gives_the_old_and_sets_the_new,
    prlimit_of_another_process,
    prlimit_of_nobody_is_esrch,
    prlimit_without_permission_is_eperm,
    prlimit_bad_pointer_is_efault_and_changes_nothing,
    nofile_above_nr_open_is_eperm,
    inherited_by_a_child,
    shown_in_proc_limits,
    as_refuses_mmap,
    as_refuses_prot_none_and_noreserve,
    as_refuses_shared_and_file,
    as_counts_what_is_replaced_only_once,
    as_gives_back_what_is_unmapped,
    as_below_the_present_size_keeps_what_is_there,
    data_refuses_private_writable,
    data_allows_shared_and_read_only,
    data_refuses_mprotect_to_writable,
    data_zero_keeps_what_is_there,
    fsize_refuses_growth,
];

/// The size of the address space in bytes.
fn size() -> u64 {
    (procfs::statm()[0] * PAGE) as u64
}

/// What counts as data, in bytes.
fn data() -> u64 {
    (procfs::status_kib("VmData") << 10) as u64
}

fn limit(resource: i32, value: u64) {
    ok!(sys::setrlimit(resource, value, value));
}

fn every_resource_can_be_asked() {
    for resource in 0..16 {
        let (soft, hard) = ok!(sys::getrlimit(resource));
        check!(soft <= hard, "resource {resource}: {soft} of {hard}");
    }
}

fn what_is_set_is_got() {
    for resource in [RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_MEMLOCK, RLIMIT_FSIZE] {
        let (_, hard) = ok!(sys::getrlimit(resource));
        for soft in [0, hard.min(12345), hard] {
            in_child(|| {
                ok!(sys::setrlimit(resource, soft, hard));
                check_eq!(sys::getrlimit(resource), Ok((soft, hard)));
            });
        }
    }
}

fn soft_above_hard_is_einval() {
    let before = sys::getrlimit(RLIMIT_FSIZE);
    errno_is!(sys::setrlimit(RLIMIT_FSIZE, 2, 1), EINVAL);
    errno_is!(sys::setrlimit(RLIMIT_FSIZE, RLIM_INFINITY, 1), EINVAL);
    check_eq!(sys::getrlimit(RLIMIT_FSIZE), before);
}

fn unknown_resource_is_einval() {
    for resource in [16, 100, -1] {
        errno_is!(sys::getrlimit(resource), EINVAL);
        errno_is!(sys::setrlimit(resource, 0, 0), EINVAL);
        errno_is!(syscall!(SYS_prlimit64, 0, resource, 0, 0), EINVAL);
    }
}

fn bad_pointer_is_efault() {
    let hole = free_range(1);
    errno_is!(syscall!(SYS_getrlimit, RLIMIT_AS, hole), EFAULT);
    errno_is!(syscall!(SYS_setrlimit, RLIMIT_AS, hole), EFAULT);
    errno_is!(syscall!(SYS_setrlimit, RLIMIT_AS, 0), EFAULT);
}

fn root_may_raise_the_hard_limit() {
    const CAP_SYS_RESOURCE: u32 = 24;
    if !procfs::has_capability(CAP_SYS_RESOURCE) {
        skip!("root without CAP_SYS_RESOURCE");
    }
    ok!(sys::setrlimit(RLIMIT_FSIZE, 0, 10));
    ok!(sys::setrlimit(RLIMIT_FSIZE, 5, 20));
    check_eq!(sys::getrlimit(RLIMIT_FSIZE), Ok((5, 20)));
}

fn others_may_not_raise_the_hard_limit() {
    ok!(sys::setrlimit(RLIMIT_FSIZE, 5, 10));
    sys::become_unprivileged();
    errno_is!(sys::setrlimit(RLIMIT_FSIZE, 5, 11), EPERM);
    errno_is!(sys::setrlimit(RLIMIT_FSIZE, 5, RLIM_INFINITY), EPERM);
    check_eq!(sys::getrlimit(RLIMIT_FSIZE), Ok((5, 10)));
}

fn others_may_move_the_soft_limit() {
    ok!(sys::setrlimit(RLIMIT_FSIZE, 5, 10));
    sys::become_unprivileged();
    ok!(sys::setrlimit(RLIMIT_FSIZE, 10, 10));
    ok!(sys::setrlimit(RLIMIT_FSIZE, 0, 7));
    errno_is!(sys::setrlimit(RLIMIT_FSIZE, 0, 8), EPERM);
}

fn prlimit_gives_the_old_and_sets_the_new() {
    ok!(sys::setrlimit(RLIMIT_FSIZE, 10, 20));
    let (new, mut old) = ([3_u64, 4], [0_u64; 2]);
    check_eq!(syscall!(SYS_prlimit64, 0, RLIMIT_FSIZE, new.as_ptr(), old.as_mut_ptr()), Ok(0));
    check_eq!(old, [10, 20]);
    check_eq!(syscall!(SYS_prlimit64, sys::getpid(), RLIMIT_FSIZE, 0, old.as_mut_ptr()), Ok(0));
    check_eq!(old, [3, 4]);
}

fn prlimit_of_another_process() {
    let (go, set) = (Turn::new(), Turn::new());
    let child = Child::spawn(|| {
        go.wait();
        check_eq!(sys::getrlimit(RLIMIT_FSIZE), Ok((7, 8)));
        set.post();
    });
    let new = [7_u64, 8];
    check_eq!(syscall!(SYS_prlimit64, child.pid, RLIMIT_FSIZE, new.as_ptr(), 0), Ok(0));
    go.post();
    set.wait();
    child.join();
    check!(sys::getrlimit(RLIMIT_FSIZE) != Ok((7, 8)));
}

fn prlimit_of_nobody_is_esrch() {
    let child = Child::spawn(|| {});
    let pid = child.pid;
    child.join();
    errno_is!(syscall!(SYS_prlimit64, pid, RLIMIT_FSIZE, 0, 0), ESRCH);
    errno_is!(syscall!(SYS_prlimit64, -3_i32, RLIMIT_FSIZE, 0, 0), ESRCH);
}

fn prlimit_without_permission_is_eperm() {
    let parent = sys::getpid();
    in_child(|| {
        sys::become_unprivileged();
        let mut old = [0_u64; 2];
        errno_is!(syscall!(SYS_prlimit64, parent, RLIMIT_FSIZE, 0, old.as_mut_ptr()), EPERM);
    });
}

fn prlimit_bad_pointer_is_efault_and_changes_nothing() {
    let hole = free_range(1);
    ok!(sys::setrlimit(RLIMIT_FSIZE, 1, 2));
    errno_is!(syscall!(SYS_prlimit64, 0, RLIMIT_FSIZE, hole, 0), EFAULT);
    errno_is!(syscall!(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, hole), EFAULT);
    check_eq!(sys::getrlimit(RLIMIT_FSIZE), Ok((1, 2)));
}

fn nofile_above_nr_open_is_eperm() {
    let Some(most) =
        std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok())
    else {
        skip!("no /proc/sys/fs/nr_open")
    };
    let most: u64 = most;
    errno_is!(sys::setrlimit(RLIMIT_NOFILE, 10, most + 1), EPERM);
}

fn inherited_by_a_child() {
    ok!(sys::setrlimit(RLIMIT_FSIZE, 11, 22));
    in_child(|| {
        check_eq!(sys::getrlimit(RLIMIT_FSIZE), Ok((11, 22)));
        ok!(sys::setrlimit(RLIMIT_FSIZE, 1, 2));
    });
    check_eq!(sys::getrlimit(RLIMIT_FSIZE), Ok((11, 22)));
}

fn shown_in_proc_limits() {
    ok!(sys::setrlimit(RLIMIT_FSIZE, 1111, 2222));
    let text = procfs::text("limits");
    let Some(line) = text.lines().find(|line| line.starts_with("Max file size")) else {
        panic!("no line about file sizes in {text:?}")
    };
    check_eq!(
        line["Max file size".len()..].split_whitespace().collect::<Vec<_>>(),
        ["1111", "2222", "bytes"]
    );
}

fn as_refuses_mmap() {
    limit(RLIMIT_AS, size() + 64 * PAGE as u64);
    errno_is!(sys::mmap(0, 128 * PAGE, RW, ANON, -1, 0), ENOMEM);
    ok!(sys::mmap(0, 32 * PAGE, RW, ANON, -1, 0));
    errno_is!(sys::mmap(0, 40 * PAGE, RW, ANON, -1, 0), ENOMEM);
}

fn as_refuses_prot_none_and_noreserve() {
    limit(RLIMIT_AS, size() + 16 * PAGE as u64);
    errno_is!(sys::mmap(0, 64 * PAGE, PROT_NONE, ANON, -1, 0), ENOMEM);
    errno_is!(sys::mmap(0, 64 * PAGE, PROT_NONE, ANON | MAP_NORESERVE, -1, 0), ENOMEM);
}

fn as_refuses_shared_and_file() {
    let fd = tmp::file(b"x");
    limit(RLIMIT_AS, size() + 16 * PAGE as u64);
    errno_is!(sys::mmap(0, 64 * PAGE, RW, ANON_SHARED, -1, 0), ENOMEM);
    errno_is!(sys::mmap(0, 64 * PAGE, PROT_READ, MAP_SHARED, fd, 0), ENOMEM);
}

fn as_counts_what_is_replaced_only_once() {
    let at = anon(64);
    limit(RLIMIT_AS, size() + 8 * PAGE as u64);
    check_eq!(sys::mmap(at, 64 * PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(at));
    check_eq!(sys::mmap(at + 32 * PAGE, 32 * PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0), Ok(at + 32 * PAGE));
}

fn as_gives_back_what_is_unmapped() {
    let at = anon(64);
    limit(RLIMIT_AS, size());
    errno_is!(sys::mmap(0, 60 * PAGE, RW, ANON, -1, 0), ENOMEM);
    ok!(sys::munmap(at, 64 * PAGE));
    ok!(sys::mmap(0, 60 * PAGE, RW, ANON, -1, 0));
}

fn as_below_the_present_size_keeps_what_is_there() {
    let at = anon(8);
    limit(RLIMIT_AS, PAGE as u64);
    number_pages(at, 8, 1);
    check_eq!(page_numbers(at, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    errno_is!(sys::mmap(0, PAGE, RW, ANON, -1, 0), ENOMEM);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    in_child(|| check_eq!(page_numbers(at, 8), [1, 2, 3, 4, 5, 6, 7, 8]));
}

fn data_refuses_private_writable() {
    limit(RLIMIT_DATA, data() + 64 * PAGE as u64);
    errno_is!(sys::mmap(0, 128 * PAGE, RW, ANON, -1, 0), ENOMEM);
    ok!(sys::mmap(0, 32 * PAGE, RW, ANON, -1, 0));
    errno_is!(sys::mmap(0, 40 * PAGE, RW, ANON, -1, 0), ENOMEM);
}

fn data_allows_shared_and_read_only() {
    limit(RLIMIT_DATA, data() + 8 * PAGE as u64);
    ok!(sys::mmap(0, 128 * PAGE, RW, ANON_SHARED, -1, 0));
    ok!(sys::mmap(0, 128 * PAGE, PROT_READ, ANON, -1, 0));
    ok!(sys::mmap(0, 128 * PAGE, PROT_READ | PROT_EXEC, ANON, -1, 0));
    errno_is!(sys::mmap(0, 128 * PAGE, RW, ANON, -1, 0), ENOMEM);
}

fn data_refuses_mprotect_to_writable() {
    let at = ok!(sys::mmap(0, 128 * PAGE, PROT_READ, ANON, -1, 0));
    limit(RLIMIT_DATA, data() + 8 * PAGE as u64);
    errno_is!(sys::mprotect(at, 128 * PAGE, RW), ENOMEM);
    check_eq!(procfs::vma_at(at).map(|vma| vma.perms), Some("r--p".into()));
    ok!(sys::mprotect(at, 4 * PAGE, RW));
}

fn data_zero_keeps_what_is_there() {
    let at = anon(8);
    limit(RLIMIT_DATA, 0);
    number_pages(at, 8, 1);
    check_eq!(page_numbers(at, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
}

fn fsize_refuses_growth() {
    let fd = tmp::file(&[1; 100]);
    limit(RLIMIT_FSIZE, 150);
    check_eq!(killed_by(|| _ = sys::pwrite(fd, b"x", 150)), Some(SIGXFSZ));
    in_child(|| {
        check_eq!(sys::pwrite(fd, &[2; 100], 100), Ok(50));
    });
    check_eq!(killed_by(|| _ = sys::ftruncate(fd, 151)), Some(SIGXFSZ));
}
