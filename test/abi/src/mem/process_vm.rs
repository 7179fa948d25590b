// SPDX-License-Identifier: MPL-2.0

//! process_vm_readv(2) and process_vm_writev(2): whole and partial transfers, and every error.

use libc::{PROT_NONE, PROT_READ};

use super::{PAGE, anon, bytes, fill, free_range, lone_anon, number_pages, page_numbers, peek, poke};
use crate::{
    child::{Child, Turn},
    harness::Case,
    sys,
    sys::Result,
};

pub const CASES: &[Case] = cases!["mem/process_vm":
    reads_from_another_process,
    writes_to_another_process,
    own_memory_works_too,
    parts_need_not_match,
    the_shorter_side_decides,
    remote_hole_ends_a_read,
    remote_hole_ends_a_write,
    remote_hole_in_a_later_part_ends_it_there,
    nothing_to_be_had_is_efault,
    local_hole_ends_a_read,
    rights_of_the_other_side_count,
    copies_what_a_fork_shares,
    untouched_memory_is_zero,
    nothing_to_do_is_zero_whoever_it_is,
    flags_are_einval,
    too_many_or_negative_parts_are_einval,
    bad_lists_are_efault,
    nobody_is_esrch,
    ended_process_is_esrch,
    others_is_eperm,
];

type Part = [usize; 2];

fn read(pid: i32, local: &[Part], remote: &[Part]) -> Result {
    syscall!(SYS_process_vm_readv, pid, local.as_ptr(), local.len(), remote.as_ptr(), remote.len(), 0)
}

fn write(pid: i32, local: &[Part], remote: &[Part]) -> Result {
    syscall!(SYS_process_vm_writev, pid, local.as_ptr(), local.len(), remote.as_ptr(), remote.len(), 0)
}

/// Runs `body` with the number of a child that has run `prepare`; the child runs `finish` afterwards.
fn with_child(prepare: impl FnOnce(), body: impl FnOnce(i32), finish: impl FnOnce()) {
    let (ready, go) = (Turn::new(), Turn::new());
    let child = Child::spawn(|| {
        prepare();
        ready.post();
        go.wait();
        finish();
    });
    ready.wait();
    body(child.pid);
    go.post();
    child.join();
}

fn reads_from_another_process() {
    let (at, here) = (anon(3), anon(3));
    let body = |pid| {
        check_eq!(read(pid, &[[here, 3 * PAGE]], &[[at, 3 * PAGE]]), Ok(3 * PAGE));
        check_eq!(page_numbers(here, 3), [5, 6, 7]);
        check_eq!(read(pid, &[[here + 1, 3]], &[[at + 2 * PAGE - 1, 3]]), Ok(3));
        check_eq!(bytes(here, 5), [5, 0, 7, 0, 0]);
    };
    with_child(|| number_pages(at, 3, 5), body, || {});
    check_eq!(page_numbers(at, 3), [0; 3]);
}

fn writes_to_another_process() {
    let (at, here) = (anon(3), anon(3));
    number_pages(here, 3, 1);
    let body = |pid| check_eq!(write(pid, &[[here, 3 * PAGE]], &[[at, 3 * PAGE]]), Ok(3 * PAGE));
    with_child(|| poke(at, 9), body, || check_eq!(page_numbers(at, 3), [1, 2, 3]));
    check_eq!(page_numbers(at, 3), [0; 3]);
}

fn own_memory_works_too() {
    let (from, to) = (anon(1), anon(1));
    fill(from, PAGE, 4);
    check_eq!(read(sys::getpid(), &[[to, PAGE]], &[[from, PAGE]]), Ok(PAGE));
    check_eq!(peek(to + PAGE - 1), 4);
    fill(from, PAGE, 5);
    check_eq!(write(sys::getpid(), &[[from, 100]], &[[to, 100]]), Ok(100));
    check_eq!((peek(to + 99), peek(to + 100)), (5, 4));
}

fn parts_need_not_match() {
    let (at, here) = (anon(1), anon(1));
    let prepare = || (0..10).for_each(|index| poke(at + index, index as u8));
    let body = |pid| {
        let local = [[here, 3], [here + 100, 0], [here + 200, 5]];
        check_eq!(read(pid, &local, &[[at, 1], [at + 8, 2], [at + 2, 5]]), Ok(8));
        check_eq!((bytes(here, 3), bytes(here + 200, 5)), (&[0, 8, 9][..], &[2, 3, 4, 5, 6][..]));
    };
    with_child(prepare, body, || {});
}

fn the_shorter_side_decides() {
    let (at, here) = (anon(1), anon(1));
    fill(at, PAGE, 1);
    let own = sys::getpid();
    check_eq!(read(own, &[[here, 10]], &[[at, 20]]), Ok(10));
    check_eq!(read(own, &[[here, 20]], &[[at, 15]]), Ok(15));
    check_eq!((peek(here + 14), peek(here + 15)), (1, 0));
}

fn remote_hole_ends_a_read() {
    let (at, here) = (lone_anon(2), anon(4));
    let body = |pid| {
        check_eq!(read(pid, &[[here, 4 * PAGE]], &[[at + 100, 4 * PAGE]]), Ok(2 * PAGE - 100));
        check_eq!((peek(here), peek(here + PAGE), peek(here + 2 * PAGE - 101)), (3, 3, 3));
        check_eq!(peek(here + 2 * PAGE - 100), 0);
    };
    with_child(|| fill(at, 2 * PAGE, 3), body, || {});
}

fn remote_hole_ends_a_write() {
    let (at, here) = (lone_anon(2), anon(4));
    fill(here, 4 * PAGE, 6);
    let body = |pid| check_eq!(write(pid, &[[here, 4 * PAGE]], &[[at, 4 * PAGE]]), Ok(2 * PAGE));
    with_child(|| {}, body, || check!(bytes(at, 2 * PAGE).iter().all(|&byte| byte == 6)));
}

fn remote_hole_in_a_later_part_ends_it_there() {
    let (at, hole, here) = (anon(1), free_range(1), anon(1));
    fill(at, PAGE, 2);
    let own = sys::getpid();
    check_eq!(read(own, &[[here, 30]], &[[at, 10], [hole, 10], [at, 10]]), Ok(10));
    check_eq!((peek(here + 9), peek(here + 10)), (2, 0));
}

fn nothing_to_be_had_is_efault() {
    let (hole, here) = (free_range(1), anon(1));
    let own = sys::getpid();
    errno_is!(read(own, &[[here, 10]], &[[hole, 10]]), EFAULT);
    errno_is!(write(own, &[[here, 10]], &[[hole, 10]]), EFAULT);
    errno_is!(read(own, &[[hole, 10]], &[[here, 10]]), EFAULT);
    errno_is!(write(own, &[[hole, 10]], &[[here, 10]]), EFAULT);
}

fn local_hole_ends_a_read() {
    let (at, here) = (anon(2), lone_anon(1));
    fill(at, 2 * PAGE, 7);
    check_eq!(read(sys::getpid(), &[[here + PAGE - 10, 20]], &[[at, 20]]), Ok(10));
    check_eq!((peek(here + PAGE - 11), peek(here + PAGE - 1)), (0, 7));
}

fn rights_of_the_other_side_count() {
    let (at, here) = (lone_anon(1), anon(1));
    poke(at, 8);
    let own = sys::getpid();
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    check_eq!(read(own, &[[here, 1]], &[[at, 1]]), Ok(1));
    errno_is!(write(own, &[[here, 1]], &[[at, 1]]), EFAULT);
    ok!(sys::mprotect(at, PAGE, PROT_NONE));
    errno_is!(read(own, &[[here, 1]], &[[at, 1]]), EFAULT);
    check_eq!(peek(here), 8);
}

fn copies_what_a_fork_shares() {
    let (at, here) = (anon(2), anon(1));
    number_pages(at, 2, 1);
    poke(here, 9);
    let body = |pid| check_eq!(write(pid, &[[here, 1]], &[[at, 1]]), Ok(1));
    with_child(|| {}, body, || check_eq!(page_numbers(at, 2), [9, 2]));
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn untouched_memory_is_zero() {
    let (at, here) = (anon(2), anon(2));
    fill(here, 2 * PAGE, 1);
    with_child(
        || {},
        |pid| check_eq!(read(pid, &[[here, 2 * PAGE]], &[[at, 2 * PAGE]]), Ok(2 * PAGE)),
        || {},
    );
    check!(bytes(here, 2 * PAGE).iter().all(|&byte| byte == 0));
}

/// A number that no process has.
const NOBODY: i32 = 0x3fff_ffff;

fn nothing_to_do_is_zero_whoever_it_is() {
    let here = anon(1);
    for pid in [sys::getpid(), NOBODY, -1] {
        check_eq!(read(pid, &[], &[[here, 10]]), Ok(0));
        check_eq!(read(pid, &[[here, 0]], &[[here, 10]]), Ok(0));
        check_eq!(write(pid, &[[here, 10]], &[]), Ok(0));
        check_eq!(write(pid, &[[here, 10]], &[[8, 0]]), Ok(0));
    }
}

fn flags_are_einval() {
    let part = [anon(1), 1];
    let (own, list) = (sys::getpid(), &raw const part);
    errno_is!(syscall!(SYS_process_vm_readv, own, list, 1, list, 1, 1), EINVAL);
    errno_is!(syscall!(SYS_process_vm_writev, own, list, 1, list, 1, 1), EINVAL);
}

fn too_many_or_negative_parts_are_einval() {
    let here = anon(1);
    let (many, one) = (vec![[here, 1]; 1025], [[here, 1]]);
    let own = sys::getpid();
    check_eq!(read(own, &many[..1024], &many[..1024]), Ok(1024));
    errno_is!(read(own, &many, &one), EINVAL);
    errno_is!(read(own, &one, &many), EINVAL);
    errno_is!(read(own, &[[here, usize::MAX]], &one), EINVAL);
    errno_is!(read(own, &one, &[[here, usize::MAX]]), EINVAL);
}

fn bad_lists_are_efault() {
    let part = [anon(1), 1];
    let (own, list) = (sys::getpid(), &raw const part);
    errno_is!(syscall!(SYS_process_vm_readv, own, 8, 1, list, 1, 0), EFAULT);
    errno_is!(syscall!(SYS_process_vm_readv, own, list, 1, 8, 1, 0), EFAULT);
}

fn nobody_is_esrch() {
    let here = anon(1);
    errno_is!(read(NOBODY, &[[here, 1]], &[[here, 1]]), ESRCH);
    errno_is!(write(NOBODY, &[[here, 1]], &[[here, 1]]), ESRCH);
}

fn ended_process_is_esrch() {
    let here = anon(1);
    let child = Child::spawn(|| {});
    let pid = child.pid;
    // It has ended, and is still there to be waited for.
    let mut info = [0_u64; 16];
    ok!(syscall!(SYS_waitid, libc::P_PID, pid, info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT, 0));
    errno_is!(read(pid, &[[here, 1]], &[[here, 1]]), ESRCH);
    child.join();
    errno_is!(read(pid, &[[here, 1]], &[[here, 1]]), ESRCH);
}

fn others_is_eperm() {
    let here = anon(1);
    let parent = sys::getpid();
    let child = Child::spawn(|| {
        sys::become_unprivileged();
        errno_is!(read(parent, &[[here, 1]], &[[here, 1]]), EPERM);
        errno_is!(write(parent, &[[here, 1]], &[[here, 1]]), EPERM);
        check_eq!(read(sys::getpid(), &[[here, 1]], &[[here, 1]]), Ok(1));
    });
    child.join();
}
