// SPDX-License-Identifier: MPL-2.0

//! How often a segment is attached, who attached or detached it last, and when.

use libc::{IPC_PRIVATE, MREMAP_MAYMOVE, PROT_READ, SHM_RDONLY};

use super::{Segment, attach, detach, get, remove, segment, stat};
use crate::{
    child::{Child, Turn, in_child},
    harness::Case,
    mem::{PAGE, RW, free_range, number_pages, page_numbers},
    procfs, sys,
};

pub const CASES: &[Case] = cases!["mem/shm":
    attaches_are_counted,
    attaches_are_counted_over_fork_and_exit,
    attaches_end_with_exec,
    fork_unmapping_and_exit_are_noted,
    exec_is_noted,
    cut_in_two_it_counts_twice,
    each_part_counts,
    parts_do_not_become_one_again,
    cutting_and_unmapping_a_part_are_noted,
    mremap_old_size_zero_attaches_once_more,
];

fn attaches_are_counted() {
    let segment = Segment::new(0o600);
    check_eq!(stat(segment.0).attaches, 0);
    let at = ok!(attach(segment.0, 0, 0));
    check_eq!(stat(segment.0).attaches, 1);
    let other = ok!(attach(segment.0, 0, SHM_RDONLY));
    check_eq!(stat(segment.0).attaches, 2);
    ok!(detach(at));
    check_eq!(stat(segment.0).attaches, 1);
    ok!(sys::munmap(other, PAGE));
    check_eq!(stat(segment.0).attaches, 0);
}

fn attaches_are_counted_over_fork_and_exit() {
    let id = segment(1);
    let (go, done) = (Turn::new(), Turn::new());
    let child = Child::spawn(|| {
        done.post();
        go.wait();
    });
    done.wait();
    check_eq!(stat(id).attaches, 2);
    go.post();
    child.join();
    check_eq!(stat(id).attaches, 1);
    let killed = Child::spawn(|| {
        ok!(attach(id, 0, 0));
        done.post();
        go.wait();
    });
    done.wait();
    check_eq!(stat(id).attaches, 3);
    ok!(sys::kill(killed.pid, libc::SIGKILL));
    killed.wait();
    check_eq!(stat(id).attaches, 1);
}

fn attaches_end_with_exec() {
    let id = segment(1);
    let (reader, writer) = ok!(sys::pipe(0));
    let child = Child::spawn(|| {
        ok!(syscall!(SYS_dup2, reader, 0));
        ok!(syscall!(SYS_dup2, ok!(sys::open("/dev/null", libc::O_WRONLY, 0)), 1));
        sys::close(writer);
        check_eq!(stat(id).attaches, 2);
        let (path, role) = (sys::c_string("/proc/self/exe"), sys::c_string("--list"));
        let argv = [path.as_ptr(), role.as_ptr(), std::ptr::null()];
        let _ = syscall!(SYS_execve, path.as_ptr(), argv.as_ptr(), [std::ptr::null::<u8>()].as_ptr());
        sys::exit_group(9);
    });
    child.join();
    check_eq!(stat(id).attaches, 1);
}

fn fork_unmapping_and_exit_are_noted() {
    let segment = Segment::new(0o600);
    let at = ok!(attach(segment.0, 0, 0));
    let attached = stat(segment.0).attached;
    check_eq!(stat(segment.0).detached, 0);
    let (go, done) = (Turn::new(), Turn::new());
    sys::sleep_us(1_100_000);
    let child = Child::spawn(|| {
        done.post();
        go.wait();
        ok!(sys::munmap(at, PAGE));
        check_eq!(stat(segment.0).last, sys::getpid());
        check!(stat(segment.0).detached > attached);
        ok!(attach(segment.0, 0, 0));
        done.post();
        go.wait();
    });
    let pid = child.pid;
    done.wait();
    // It is the parent who has attached it for the child.
    let status = stat(segment.0);
    check_eq!((status.last, status.detached, status.attaches), (sys::getpid(), 0, 2));
    check!(status.attached > attached, "{} after {attached}", status.attached);
    go.post();
    done.wait();
    check_eq!(stat(segment.0).last, pid);
    ok!(detach(at));
    check_eq!(stat(segment.0).last, sys::getpid());
    go.post();
    child.join();
    check_eq!((stat(segment.0).last, stat(segment.0).attaches), (pid, 0));
}

fn exec_is_noted() {
    let segment = Segment::new(0o600);
    let at = ok!(attach(segment.0, 0, 0));
    let words = crate::child::shared_words();
    crate::program::role(&["mem/status", "VmSize"], || {
        words[0].store(sys::getpid() as usize, std::sync::atomic::Ordering::Relaxed);
    });
    let pid = words[0].load(std::sync::atomic::Ordering::Relaxed) as i32;
    let status = stat(segment.0);
    check_eq!((status.last, status.attaches), (pid, 1));
    check!(status.detached >= status.attached);
    ok!(detach(at));
}

fn cut_in_two_it_counts_twice() {
    let id = segment(1);
    let large = ok!(get(IPC_PRIVATE, 3 * PAGE, 0o600));
    let at = ok!(attach(large, 0, 0));
    ok!(remove(large));
    ok!(sys::munmap(at + PAGE, PAGE));
    check_eq!(stat(large).attaches, 2);
    ok!(sys::munmap(at, PAGE));
    check_eq!(stat(large).attaches, 1);
    check_eq!(stat(id).attaches, 1);
}

fn mremap_old_size_zero_attaches_once_more() {
    let id = segment(2);
    let at = ok!(attach(id, 0, 0));
    let other = ok!(sys::mremap(at, 0, 2 * PAGE, libc::MREMAP_MAYMOVE, 0));
    number_pages(at, 2, 5);
    check_eq!(page_numbers(other, 2), [5, 6]);
    check_eq!(stat(id).attaches, 3);
}

fn each_part_counts() {
    let segment = Segment::of(6);
    let at = ok!(attach(segment.0, 0, 0));
    ok!(sys::mprotect(at + 2 * PAGE, PAGE, PROT_READ));
    check_eq!(stat(segment.0).attaches, 3);
    ok!(sys::munmap(at + PAGE, 3 * PAGE));
    check_eq!(stat(segment.0).attaches, 2);
    let part = ok!(sys::mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | libc::MREMAP_FIXED, at + 2 * PAGE));
    check_eq!(stat(segment.0).attaches, 2);
    in_child(|| check_eq!(stat(segment.0).attaches, 4));
    ok!(sys::munmap(part, PAGE));
    check_eq!(stat(segment.0).attaches, 1);
    ok!(sys::munmap(at, 6 * PAGE));
    check_eq!(stat(segment.0).attaches, 0);
}

fn parts_do_not_become_one_again() {
    let segment = Segment::of(4);
    let at = free_range(4);
    ok!(attach(segment.0, at, 0));
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ));
    ok!(sys::mprotect(at + PAGE, PAGE, RW));
    check_eq!(stat(segment.0).attaches, 3);
    let parts = [(0, 1), (1, 2), (2, 4)].map(|(start, end)| (start, end, "rw-s".to_string()));
    check_eq!(procfs::layout(at..at + 4 * PAGE), parts);
    check_eq!(detach(at), Ok(0));
    check_eq!(stat(segment.0).attaches, 0);
}

fn cutting_and_unmapping_a_part_are_noted() {
    let segment = Segment::of(3);
    let at = ok!(attach(segment.0, 0, 0));
    let before = stat(segment.0);
    sys::sleep_us(1_100_000);
    let child = Child::spawn(|| {
        ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ));
        let cut = stat(segment.0);
        check_eq!((cut.last, cut.detached), (sys::getpid(), 0));
        check!(cut.attached > before.attached, "{} after {}", cut.attached, before.attached);
        ok!(sys::munmap(at, PAGE));
        check!(stat(segment.0).detached >= cut.attached);
    });
    child.join();
}
