// SPDX-License-Identifier: MPL-2.0

//! shmctl(2): removal, status, owners and modes, locks and limits.

use libc::{
    IPC_CREAT, IPC_EXCL, IPC_PRIVATE, IPC_SET, IPC_STAT, RLIMIT_MEMLOCK, SHM_EXEC, SHM_LOCK, SHM_RDONLY,
    SHM_UNLOCK,
};

use super::{
    IPC_INFO, SHM_DEST, SHM_INFO, SHM_LOCKED, SHM_STAT, SHM_STAT_ANY, Segment, Status, attach, control,
    detach, get, key, remove, segment, stat,
};
use crate::{
    child::Child,
    harness::Case,
    mem::{PAGE, number_pages, peek, poke},
    sys,
};

pub const CASES: &[Case] = cases!["mem/shm":
    removed_at_once_when_nobody_has_it,
    removed_with_its_last_detach,
    removed_it_can_be_attached_by_its_identifier,
    removed_its_key_is_free,
    stat_tells_who_and_when,
    stat_of_an_index,
    stat_needs_the_right_to_read,
    set_changes_owner_and_mode,
    set_errors,
    remove_errors,
    permissions_of_others,
    lock_marks_the_mode,
    lock_needs_a_limit_or_the_capability,
    locked_pages_count_against_the_limit,
    info_tells_the_limits,
    info_counts_what_there_is,
    unknown_command_is_einval,
];

fn removed_at_once_when_nobody_has_it() {
    let id = ok!(get(IPC_PRIVATE, PAGE, 0o600));
    check_eq!(remove(id), Ok(0));
    errno_is!(attach(id, 0, 0), EINVAL);
    errno_is!(control(id, IPC_STAT, &mut Status::default()), EINVAL);
    errno_is!(remove(id), EINVAL);
}

fn removed_with_its_last_detach() {
    let id = ok!(get(IPC_PRIVATE, PAGE, 0o600));
    let (first, second) = (ok!(attach(id, 0, 0)), ok!(attach(id, 0, 0)));
    ok!(remove(id));
    let status = stat(id);
    check_eq!((status.mode, status.attaches, status.key), (0o600 | SHM_DEST, 2, 0));
    poke(first, 3);
    ok!(detach(first));
    check_eq!(peek(second), 3);
    ok!(sys::munmap(second, PAGE));
    errno_is!(control(id, IPC_STAT, &mut Status::default()), EINVAL);
}

fn removed_it_can_be_attached_by_its_identifier() {
    let id = segment(1);
    check_eq!(stat(id).mode & SHM_DEST, SHM_DEST);
    let at = ok!(attach(id, 0, 0));
    poke(at, 1);
    check_eq!(stat(id).attaches, 2);
}

fn removed_its_key_is_free() {
    let id = ok!(get(key(), PAGE, IPC_CREAT | IPC_EXCL | 0o600));
    ok!(attach(id, 0, 0));
    ok!(remove(id));
    errno_is!(get(key(), PAGE, 0o600), ENOENT);
    let other = ok!(get(key(), PAGE, IPC_CREAT | IPC_EXCL | 0o600));
    ok!(remove(other));
    check!(other != id);
}

fn stat_tells_who_and_when() {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    ok!(syscall!(SYS_clock_gettime, libc::CLOCK_REALTIME, &raw mut now));
    let is_now = |time: i64| (now.tv_sec - 2..=now.tv_sec + 10).contains(&time);
    let segment = Segment::new(0o640);
    let status = stat(segment.0);
    check_eq!((status.size, status.mode, status.attaches), (PAGE as u64, 0o640, 0));
    let own = (ok!(syscall!(SYS_geteuid)) as u32, ok!(syscall!(SYS_getegid)) as u32);
    check_eq!(((status.uid, status.gid), (status.cuid, status.cgid)), (own, own));
    check_eq!((status.maker, status.last), (sys::getpid(), 0));
    check_eq!((status.attached, status.detached, is_now(status.changed)), (0, 0, true));
    let child = Child::spawn(|| {
        let at = ok!(attach(segment.0, 0, 0));
        check_eq!(stat(segment.0).last, sys::getpid());
        ok!(detach(at));
    });
    let pid = child.pid;
    child.join();
    let status = stat(segment.0);
    check_eq!((status.maker, status.last), (sys::getpid(), pid));
    check!(is_now(status.attached) && is_now(status.detached), "{status:?}");
}

fn stat_of_an_index() {
    let segment = Segment::new(0o600);
    let (mut status, index) = (Status::default(), segment.0 % 32768);
    for command in [SHM_STAT, SHM_STAT_ANY] {
        check_eq!(control(index, command, &mut status), Ok(segment.0 as usize));
        check_eq!((status.size, status.maker), (PAGE as u64, sys::getpid()));
    }
    errno_is!(control(32000, SHM_STAT, &mut status), EINVAL);
    check!(ok!(control(0, SHM_INFO, &mut status)) >= index as usize);
}

fn stat_needs_the_right_to_read() {
    let segment = Segment::new(0o600);
    let child = Child::spawn(|| {
        sys::become_unprivileged();
        let mut status = Status::default();
        errno_is!(control(segment.0, IPC_STAT, &mut status), EACCES);
        errno_is!(control(segment.0 % 32768, SHM_STAT, &mut status), EACCES);
        check_eq!(control(segment.0 % 32768, SHM_STAT_ANY, &mut status), Ok(segment.0 as usize));
    });
    check_eq!(child.wait(), 0);
    errno_is!(control(segment.0, IPC_STAT, std::ptr::dangling_mut()), EFAULT);
}

fn set_changes_owner_and_mode() {
    let segment = Segment::new(0o600);
    let mut status = stat(segment.0);
    (status.uid, status.gid, status.mode) = (1, 2, 0o7644);
    check_eq!(control(segment.0, IPC_SET, &mut status), Ok(0));
    let status = stat(segment.0);
    check_eq!((status.uid, status.gid, status.mode), (1, 2, 0o644));
    check_eq!(status.cuid, ok!(syscall!(SYS_geteuid)) as u32);
}

fn set_errors() {
    let segment = Segment::new(0o666);
    let mut status = stat(segment.0);
    status.uid = u32::MAX;
    errno_is!(control(segment.0, IPC_SET, &mut status), EINVAL);
    errno_is!(control(segment.0, IPC_SET, std::ptr::null_mut()), EFAULT);
    errno_is!(control(segment.0 + (1 << 24), IPC_SET, &mut status), EINVAL);
    let child = Child::spawn(|| {
        sys::become_unprivileged();
        errno_is!(control(segment.0, IPC_SET, &mut status), EPERM);
    });
    check_eq!(child.wait(), 0);
    check_eq!(stat(segment.0).mode, 0o666);
}

fn remove_errors() {
    let segment = Segment::new(0o666);
    errno_is!(remove(segment.0 + (1 << 24)), EINVAL);
    errno_is!(remove(-1), EINVAL);
    let child = Child::spawn(|| {
        sys::become_unprivileged();
        errno_is!(remove(segment.0), EPERM);
    });
    check_eq!(child.wait(), 0);
    check_eq!(stat(segment.0).attaches, 0);
}

fn permissions_of_others() {
    let of = |mode, flags| {
        let segment = Segment::new(mode);
        let child = Child::spawn(|| {
            sys::become_unprivileged();
            match attach(segment.0, 0, flags) {
                Ok(_) => sys::exit_group(1),
                Err(error) => sys::exit_group(if error.0 == libc::EACCES { 2 } else { 3 }),
            }
        });
        libc::WEXITSTATUS(child.wait())
    };
    check_eq!((of(0o666, 0), of(0o606, 0), of(0o660, 0)), (1, 1, 2));
    check_eq!((of(0o644, 0), of(0o644, SHM_RDONLY), of(0o640, SHM_RDONLY)), (2, 1, 2));
    check_eq!((of(0o666, SHM_EXEC), of(0o677, SHM_EXEC), of(0o677, 0)), (2, 1, 1));
}

fn lock_marks_the_mode() {
    let segment = Segment::new(0o600);
    let null = std::ptr::null_mut();
    check_eq!(control(segment.0, SHM_LOCK, null), Ok(0));
    check_eq!(stat(segment.0).mode, 0o600 | SHM_LOCKED);
    check_eq!(control(segment.0, SHM_LOCK, null), Ok(0));
    check_eq!(control(segment.0, SHM_UNLOCK, null), Ok(0));
    check_eq!(stat(segment.0).mode, 0o600);
    errno_is!(control(segment.0 + (1 << 24), SHM_LOCK, null), EINVAL);
}

fn lock_needs_a_limit_or_the_capability() {
    let segment = Segment::new(0o666);
    let null = std::ptr::null_mut();
    let child = Child::spawn(|| {
        sys::become_unprivileged();
        errno_is!(control(segment.0, SHM_LOCK, null), EPERM);
        errno_is!(control(segment.0, SHM_UNLOCK, null), EPERM);
        let own = Segment::new(0o600);
        check_eq!(control(own.0, SHM_LOCK, null), Ok(0));
        check_eq!(control(own.0, SHM_UNLOCK, null), Ok(0));
        ok!(sys::setrlimit(RLIMIT_MEMLOCK, 0, 0));
        errno_is!(control(own.0, SHM_LOCK, null), EPERM);
    });
    check_eq!(child.wait(), 0);
}

fn locked_pages_count_against_the_limit() {
    let null = std::ptr::null_mut();
    let child = Child::spawn(|| {
        sys::become_unprivileged();
        ok!(sys::setrlimit(RLIMIT_MEMLOCK, 2 * PAGE as u64, 2 * PAGE as u64));
        let large = ok!(get(IPC_PRIVATE, 2 * PAGE + 1, 0o600));
        let refused = control(large, SHM_LOCK, null);
        ok!(remove(large));
        errno_is!(refused, ENOMEM);
        let [first, second, third] = [(); 3].map(|()| Segment::new(0o600));
        check_eq!((control(first.0, SHM_LOCK, null), control(second.0, SHM_LOCK, null)), (Ok(0), Ok(0)));
        errno_is!(control(third.0, SHM_LOCK, null), ENOMEM);
        check_eq!(stat(third.0).mode & SHM_LOCKED, 0);
        // One that is locked already takes nothing more, and what is unlocked or goes makes room.
        check_eq!(control(first.0, SHM_LOCK, null), Ok(0));
        ok!(control(first.0, SHM_UNLOCK, null));
        check_eq!(control(third.0, SHM_LOCK, null), Ok(0));
        drop(second);
        check_eq!(control(first.0, SHM_LOCK, null), Ok(0));
    });
    check_eq!(child.wait(), 0);
}

fn info_tells_the_limits() {
    let mut limits = [u64::MAX; 10];
    ok!(syscall!(SYS_shmctl, 0, IPC_INFO, limits.as_mut_ptr()));
    let setting = |name: &str| {
        let text = ok!(std::fs::read_to_string(format!("/proc/sys/kernel/{name}")));
        text.trim().parse::<u64>().ok()
    };
    let [max, min, count, per_process, all, rest @ ..] = limits;
    check_eq!((Some(max), min), (setting("shmmax"), 1));
    check_eq!(
        (Some(count), Some(per_process), Some(all)),
        (setting("shmmni"), setting("shmmni"), setting("shmall"))
    );
    check_eq!(rest, [0, 0, 0, 0, u64::MAX]);
    errno_is!(syscall!(SYS_shmctl, 0, IPC_INFO, 8), EFAULT);
}

fn info_counts_what_there_is() {
    let count = || {
        let mut info = [u64::MAX; 6];
        ok!(syscall!(SYS_shmctl, 0, SHM_INFO, info.as_mut_ptr()));
        (info[0] as u32, info[1], info[2])
    };
    let at = ok!(attach(segment(4), 0, 0));
    let before = count();
    check!(before.0 >= 1 && before.1 >= 4, "{before:?}");
    number_pages(at, 4, 1);
    check!(count().2 >= 4);
}

fn unknown_command_is_einval() {
    let id = segment(1);
    for command in [4, 10, 16, 99, -1] {
        errno_is!(control(id, command, &mut Status::default()), EINVAL);
    }
}
