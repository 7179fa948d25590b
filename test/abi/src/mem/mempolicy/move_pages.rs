// SPDX-License-Identifier: MPL-2.0

//! move_pages(2).

use super::{MF_MOVE, MF_MOVE_ALL, MF_STRICT, one_node};
use crate::{
    child::{Child, Turn, in_child},
    harness::Case,
    mem::{BEYOND, PAGE, RW, anon, anon_shared, lone_anon, number_pages, page_numbers, peek, poke},
    sys,
    sys::Result,
    tmp,
};

pub const CASES: &[Case] = cases!["mem/mempolicy":
    move_pages_tells_the_node,
    move_pages_of_absent_pages,
    move_pages_moves_nothing,
    move_pages_of_a_child,
    move_pages_errors,
];

/// What move_pages says of each page, told where it should go or just asked.
fn move_pages(pid: i32, pages: &[usize], nodes: Option<&[i32]>, flags: i32) -> Result<Vec<i32>> {
    let mut status = vec![-99_i32; pages.len()];
    let nodes = nodes.map_or(std::ptr::null(), <[i32]>::as_ptr);
    syscall!(SYS_move_pages, pid, pages.len(), pages.as_ptr(), nodes, status.as_mut_ptr(), flags)
        .map(|_| status)
}

fn move_pages_tells_the_node() {
    one_node();
    let at = anon(3);
    number_pages(at, 3, 1);
    let shared = anon_shared(1);
    poke(shared, 1);
    check_eq!(move_pages(0, &[at + 2 * PAGE, at, at + 100, shared], None, 0), Ok(vec![0; 4]));
}

fn move_pages_of_absent_pages() {
    one_node();
    let at = lone_anon(3);
    check_eq!(peek(at), 0);
    let status = ok!(move_pages(0, &[at, at + PAGE, at + 3 * PAGE, 0x1000, BEYOND], None, 0));
    // The shared zeros, and what is not mapped. What was never touched is either, or simply not there.
    check_eq!(
        (status[0], status[2], status[3], status[4]),
        (-libc::EFAULT, -libc::EFAULT, -libc::EFAULT, -libc::EFAULT)
    );
    check!([-libc::EFAULT, -libc::ENOENT].contains(&status[1]));
    let file = ok!(sys::mmap(0, PAGE, RW, libc::MAP_SHARED, tmp::file(&[1; PAGE]), 0));
    check_eq!(move_pages(0, &[file], None, 0), Ok(vec![-libc::ENOENT]));
}

fn move_pages_moves_nothing() {
    one_node();
    let at = anon(2);
    number_pages(at, 2, 1);
    for flags in [0, MF_MOVE, MF_MOVE_ALL] {
        check_eq!(move_pages(0, &[at, at + PAGE], Some(&[0, 0]), flags), Ok(vec![0, 0]));
    }
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn move_pages_of_a_child() {
    one_node();
    let at = lone_anon(1);
    let (go, done) = (Turn::new(), Turn::new());
    let child = Child::spawn(|| {
        poke(at, 1);
        done.post();
        go.wait();
    });
    done.wait();
    check_eq!(move_pages(child.pid, &[at], None, 0), Ok(vec![0]));
    check!(move_pages(0, &[at], None, 0) != Ok(vec![0]));
    go.post();
    child.join();
}

fn move_pages_errors() {
    one_node();
    let at = anon(1);
    poke(at, 1);
    errno_is!(move_pages(0, &[at], None, MF_STRICT), EINVAL);
    errno_is!(move_pages(0, &[at], Some(&[1]), MF_MOVE), ENODEV);
    errno_is!(move_pages(0, &[at], Some(&[-1]), MF_MOVE), ENODEV);
    errno_is!(move_pages(0x3fff_ffff, &[at], None, 0), ESRCH);
    let status = 0_i32;
    errno_is!(syscall!(SYS_move_pages, 0, 1, 8, 0, &raw const status, 0), EFAULT);
    errno_is!(syscall!(SYS_move_pages, 0, 1, &raw const at, 0, 8, 0), EFAULT);
    errno_is!(syscall!(SYS_move_pages, 0, 1, &raw const at, 8, &raw const status, 0), EFAULT);
    check_eq!(syscall!(SYS_move_pages, 0, 0, 0, 0, 0, 0), Ok(0));
    let parent = sys::getpid();
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(move_pages(parent, &[at], None, 0), EPERM);
        errno_is!(move_pages(0, &[at], None, MF_MOVE_ALL), EPERM);
    });
}
