// SPDX-License-Identifier: MPL-2.0

//! shmat(2): where a segment is attached, how, and when it is not.

use libc::{
    IPC_PRIVATE, PROT_EXEC, PROT_NONE, PROT_READ, RLIMIT_AS, SHM_EXEC, SHM_RDONLY, SHM_REMAP, SHM_RND,
};

use super::{Segment, attach, get, remove, segment, stat};
use crate::{
    fault::expect_accerr,
    harness::Case,
    mem::{BEYOND, PAGE, RW, free_range, lone_anon, number_pages, page_numbers, peek, poke},
    procfs, sys,
};

pub const CASES: &[Case] = cases!["mem/shm":
    attach_where_it_is_told,
    attach_rounds_with_shm_rnd,
    attach_over_something_is_einval,
    attach_remaps_with_shm_remap,
    attach_read_only,
    attach_read_only_can_never_be_written,
    attach_executable,
    attach_errors,
    attach_obeys_the_limit_on_the_address_space,
];

fn attach_where_it_is_told() {
    let (id, at) = (segment(2), free_range(2));
    check_eq!(attach(id, at, 0), Ok(at));
    number_pages(at, 2, 1);
    check_eq!(procfs::vma_at(at).map(|vma| (vma.start, vma.end)), Some((at, at + 2 * PAGE)));
}

fn attach_rounds_with_shm_rnd() {
    let (id, at) = (segment(1), free_range(1));
    errno_is!(attach(id, at + 1, 0), EINVAL);
    check_eq!(attach(id, at + PAGE - 1, SHM_RND), Ok(at));
}

fn attach_over_something_is_einval() {
    let (id, at) = (segment(2), lone_anon(1));
    poke(at, 4);
    errno_is!(attach(id, at, 0), EINVAL);
    errno_is!(attach(id, at - PAGE, 0), EINVAL);
    check_eq!(peek(at), 4);
}

fn attach_remaps_with_shm_remap() {
    let (id, at) = (segment(2), lone_anon(3));
    number_pages(at, 3, 5);
    check_eq!(attach(id, at, SHM_REMAP), Ok(at));
    check_eq!(page_numbers(at, 3), [0, 0, 7]);
    errno_is!(attach(id, 0, SHM_REMAP), EINVAL);
    errno_is!(attach(id, 100, SHM_REMAP | SHM_RND), EINVAL);
}

fn attach_read_only() {
    let id = segment(1);
    let (at, written) = (ok!(attach(id, 0, SHM_RDONLY)), ok!(attach(id, 0, 0)));
    poke(written, 6);
    check_eq!(peek(at), 6);
    expect_accerr(at, || poke(at, 1));
    check_eq!(procfs::vma_at(at).map(|vma| vma.perms), Some("r--s".to_string()));
}

fn attach_read_only_can_never_be_written() {
    let at = ok!(attach(segment(1), 0, SHM_RDONLY));
    errno_is!(sys::mprotect(at, PAGE, RW), EACCES);
    ok!(sys::mprotect(at, PAGE, PROT_NONE));
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    let writable = ok!(attach(segment(1), 0, 0));
    ok!(sys::mprotect(writable, PAGE, PROT_READ));
    ok!(sys::mprotect(writable, PAGE, RW));
    poke(writable, 1);
}

fn attach_executable() {
    let segment = Segment::new(0o700);
    let at = ok!(attach(segment.0, 0, SHM_EXEC));
    check_eq!(procfs::vma_at(at).map(|vma| vma.perms), Some("rwxs".to_string()));
    let plain = ok!(attach(segment.0, 0, 0));
    check_eq!(sys::mprotect(plain, PAGE, PROT_READ | PROT_EXEC), Ok(0));
}

fn attach_errors() {
    let id = segment(1);
    errno_is!(attach(-1, 0, 0), EINVAL);
    errno_is!(attach(id + (1 << 24), 0, 0), EINVAL);
    errno_is!(attach(i32::MAX, 0, 0), EINVAL);
    errno_is!(attach(id, usize::MAX & !(PAGE - 1), 0), EINVAL);
    errno_is!(attach(id, BEYOND, 0), ENOMEM);
    check_eq!(stat(id).attaches, 1);
    // What it has is less than the page, and does not wrap around.
    let small = ok!(get(IPC_PRIVATE, PAGE - 1, 0o600));
    errno_is!(attach(small, usize::MAX & !(PAGE - 1), 0), ENOMEM);
    ok!(remove(small));
}

fn attach_obeys_the_limit_on_the_address_space() {
    let id = segment(16);
    let size = procfs::status_kib("VmSize") as u64 * 1024;
    ok!(sys::setrlimit(RLIMIT_AS, size + 8 * PAGE as u64, size + 8 * PAGE as u64));
    errno_is!(attach(id, 0, 0), ENOMEM);
    check_eq!(stat(id).attaches, 1);
}
