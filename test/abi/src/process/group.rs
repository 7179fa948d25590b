// SPDX-License-Identifier: MPL-2.0

//! Process groups and sessions: setpgid(2), setsid(2), and signals to a group.

use libc::{SIGKILL, SIGUSR1};

use super::*;
use crate::child::{Turn, in_child, shared_words};

pub const CASES: &[Case] = cases!["process/group":
    programs_have_a_session,
    own_group_by_itself,
    parent_sets_the_childs_group,
    join_a_group,
    group_lives_on_without_its_leader,
    setpgid_errors,
    setpgid_after_exec_is_eacces,
    setsid_starts_a_session,
    setsid_of_a_leader_is_eperm,
    groups_do_not_cross_sessions,
    ids_of_others,
    signal_to_a_group,
    signal_to_the_own_group,
    signal_permissions,
];

fn getpgid(pid: i32) -> sys::Result<i32> {
    syscall!(SYS_getpgid, pid).map(|group| group as i32)
}

fn getsid(pid: i32) -> sys::Result<i32> {
    syscall!(SYS_getsid, pid).map(|session| session as i32)
}

fn programs_have_a_session() {
    // A session whose leader this namespace does not know is 0, as is the first process's.
    let session = ok!(getsid(0));
    check!(session >= 0);
    check!(ok!(getpgid(0)) >= 0);
    in_child(|| {
        check_eq!(getsid(0), Ok(session));
        ok!(syscall!(SYS_setsid));
        check_eq!(getsid(0), Ok(sys::getpid()));
    });
}

fn own_group_by_itself() {
    in_child(|| {
        let me = sys::getpid();
        check!(ok!(getpgid(0)) != me);
        ok!(sys::setpgid(0, 0));
        check_eq!(getpgid(0), Ok(me));
        check_eq!(syscall!(SYS_getpgrp), Ok(me as usize));
        ok!(sys::setpgid(me, me));
        in_child(|| check_eq!(getpgid(0), Ok(me)));
    });
}

fn parent_sets_the_childs_group() {
    let child = sleeper();
    ok!(sys::setpgid(child.pid, 0));
    check_eq!(getpgid(child.pid), Ok(child.pid));
    let own = ok!(getpgid(0));
    ok!(sys::setpgid(child.pid, own));
    check_eq!(getpgid(child.pid), Ok(own));
    end(child);
}

fn join_a_group() {
    let (a, b) = (sleeper(), sleeper());
    ok!(sys::setpgid(a.pid, a.pid));
    ok!(sys::setpgid(b.pid, a.pid));
    check_eq!(getpgid(b.pid), Ok(a.pid));
    check_eq!(getsid(b.pid), getsid(0));
    end(a);
    end(b);
}

fn group_lives_on_without_its_leader() {
    let (a, b) = (sleeper(), sleeper());
    let group = a.pid;
    ok!(sys::setpgid(a.pid, group));
    ok!(sys::setpgid(b.pid, group));
    end(a);
    check_eq!(getpgid(b.pid), Ok(group));
    let c = sleeper();
    ok!(sys::setpgid(c.pid, group));
    ok!(sys::kill(-group, SIGKILL));
    check_eq!(killed(b.wait()), Some(SIGKILL));
    check_eq!(killed(c.wait()), Some(SIGKILL));
    errno_is!(sys::kill(-group, 0), ESRCH);
}

fn setpgid_errors() {
    let child = sleeper();
    errno_is!(sys::setpgid(0, -1), EINVAL);
    errno_is!(sys::setpgid(-1, 0), EINVAL);
    errno_is!(sys::setpgid(-1, 1), ESRCH);
    errno_is!(sys::setpgid(0x3fff_ffff, 0), ESRCH);
    errno_is!(sys::setpgid(child.pid, 0x3fff_ffff), EPERM);
    // Neither its parent nor itself.
    errno_is!(sys::setpgid(ok!(syscall!(SYS_getppid)) as i32, 0), ESRCH);
    errno_is!(getpgid(0x3fff_ffff), ESRCH);
    errno_is!(getpgid(-1), ESRCH);
    errno_is!(getsid(0x3fff_ffff), ESRCH);
    end(child);
}

fn setpgid_after_exec_is_eacces() {
    let (reader, writer) = ok!(sys::pipe(0));
    let child = Child::spawn(|| {
        ok!(syscall!(SYS_dup2, writer, 1));
        crate::program::become_role(&["process/sleep"], &[]);
    });
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
    errno_is!(sys::setpgid(child.pid, child.pid), EACCES);
    end(child);
}

fn setsid_starts_a_session() {
    in_child(|| {
        let me = sys::getpid();
        check_eq!(syscall!(SYS_setsid), Ok(me as usize));
        check_eq!((getsid(0), getpgid(0)), (Ok(me), Ok(me)));
        in_child(|| check_eq!((getsid(0), getpgid(0)), (Ok(me), Ok(me))));
        errno_is!(sys::setpgid(0, 0), EPERM);
        // Without a terminal there is nothing to open.
        errno_is!(sys::open("/dev/tty", libc::O_RDWR, 0), ENXIO);
    });
}

fn setsid_of_a_leader_is_eperm() {
    in_child(|| {
        ok!(sys::setpgid(0, 0));
        errno_is!(syscall!(SYS_setsid), EPERM);
    });
    in_child(|| {
        ok!(syscall!(SYS_setsid));
        errno_is!(syscall!(SYS_setsid), EPERM);
    });
}

fn groups_do_not_cross_sessions() {
    let turn = Turn::new();
    let words = shared_words();
    let other = Child::spawn(|| {
        ok!(syscall!(SYS_setsid));
        words[0].store(1, SeqCst);
        turn.wait();
    });
    await_word(&words[0]);
    errno_is!(sys::setpgid(0, other.pid), EPERM);
    errno_is!(sys::setpgid(other.pid, ok!(getpgid(0))), EPERM);
    check_eq!(getsid(other.pid), Ok(other.pid));
    turn.post();
    other.join();
}

fn ids_of_others() {
    let child = sleeper();
    check_eq!(getpgid(child.pid), getpgid(0));
    check_eq!(getsid(child.pid), getsid(0));
    sys::become_unprivileged();
    check_eq!(getpgid(child.pid), getpgid(0));
    check_eq!(getsid(child.pid), getsid(0));
}

fn signal_to_a_group() {
    let children: Vec<_> = (0..3).map(|_| sleeper()).collect();
    let group = children[0].pid;
    children.iter().for_each(|child| _ = ok!(sys::setpgid(child.pid, group)));
    let outside = sleeper();
    ok!(sys::kill(-group, SIGUSR1));
    children.into_iter().for_each(|child| check_eq!(killed(child.wait()), Some(SIGUSR1)));
    check_eq!(sys::wait4(outside.pid, libc::WNOHANG), Ok((0, 0)));
    end(outside);
}

fn signal_to_the_own_group() {
    in_child(|| {
        ok!(sys::setpgid(0, 0));
        let children: Vec<_> = (0..2).map(|_| sleeper()).collect();
        ignore(SIGUSR1);
        ok!(sys::kill(0, SIGUSR1));
        children.into_iter().for_each(|child| check_eq!(killed(child.wait()), Some(SIGUSR1)));
    });
}

fn signal_permissions() {
    let child = sleeper();
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(sys::kill(child.pid, SIGUSR1), EPERM);
        errno_is!(sys::kill(child.pid, 0), EPERM);
        errno_is!(sys::kill(0x3fff_ffff, 0), ESRCH);
        ok!(sys::kill(sys::getpid(), 0));
    });
    errno_is!(sys::kill(child.pid, 65), EINVAL);
    errno_is!(sys::kill(child.pid, -1), EINVAL);
    end(child);
}
