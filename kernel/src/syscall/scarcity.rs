// SPDX-License-Identifier: MPL-2.0

//! What is refused while the kernel itself is short of memory.
//!
//! Programs get no more pages once only the reserve is left, but they can still have the kernel take notes: of mappings,
//! files, sockets, processes. Each note is small, and most cannot be refused where it is made. So they are refused here, before
//! a call has begun: while a part of the reserve is used up, calls that make something fail, and those that end something,
//! wait or go on with what is there succeed. Before one is refused, a program with much memory is ended if there is one, as it
//! would be for a page.

use linux_raw_sys::general::*;

use crate::{
    mm::{
        self,
        oom::{self, Need, Outlook},
    },
    prelude::*,
};

/// How often a call waits a moment for memory before it is refused, though some is about to come back.
const ATTEMPTS: usize = 1000;

/// Refuses a call that makes something while the kernel is short of memory.
///
/// # Errors
///
/// `ENOMEM`, which the man pages of all these calls name.
#[inline]
pub(super) fn check(number: u32) -> Result<()> {
    if mm::is_kernel_short() { check_closely(number) } else { Ok(()) }
}

#[cold]
#[inline(never)]
fn check_closely(number: u32) -> Result<()> {
    if !makes_something(number) {
        return Ok(());
    }
    for _ in 0..ATTEMPTS {
        if mm::relieve_kernel() {
            return Ok(());
        }
        if Thread::current().is_some_and(|thread| thread.must_exit.load(Ordering::Relaxed)) {
            break;
        }
        match oom::make_room(Need::Note) {
            Outlook::Hopeful => {}
            Outlook::Stuck => oom::reap_stuck(),
            Outlook::Hopeless => break,
        }
    }
    Err(ENOMEM)
}

#[expect(non_upper_case_globals, reason = "the numbers have Linux's own names")]
fn makes_something(number: u32) -> bool {
    matches!(
        number,
        __NR_fork
            | __NR_vfork
            | __NR_clone
            | __NR_clone3
            | __NR_execve
            | __NR_execveat
            | __NR_pidfd_open
            | __NR_mmap
            | __NR_mremap
            | __NR_mprotect
            | __NR_madvise
            | __NR_pkey_mprotect
            | __NR_mseal
            | __NR_mbind
            | __NR_remap_file_pages
            | __NR_shmget
            | __NR_shmat
            | __NR_mlock
            | __NR_mlock2
            | __NR_mlockall
            | __NR_open
            | __NR_creat
            | __NR_openat
            | __NR_openat2
            | __NR_memfd_create
            | __NR_userfaultfd
            | __NR_pipe
            | __NR_pipe2
            | __NR_mkdir
            | __NR_mkdirat
            | __NR_mknod
            | __NR_mknodat
            | __NR_symlink
            | __NR_symlinkat
            | __NR_link
            | __NR_linkat
            | __NR_setxattr
            | __NR_lsetxattr
            | __NR_fsetxattr
            | __NR_mount
            | __NR_eventfd
            | __NR_eventfd2
            | __NR_signalfd
            | __NR_signalfd4
            | __NR_timerfd_create
            | __NR_epoll_create
            | __NR_epoll_create1
            | __NR_epoll_ctl
            | __NR_timer_create
            | __NR_socket
            | __NR_socketpair
            | __NR_bind
            | __NR_accept
            | __NR_accept4
            | __NR_connect
            | __NR_sendto
            | __NR_sendmsg
            | __NR_sendmmsg
    )
}
