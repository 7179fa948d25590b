// SPDX-License-Identifier: MPL-2.0

//! Scheduling: affinity, policies, nice values, yielding.

use libc::{PRIO_PGRP, PRIO_PROCESS, PRIO_USER, SCHED_BATCH, SCHED_FIFO, SCHED_IDLE, SCHED_OTHER, SCHED_RR};

use super::*;
use crate::{child::in_child, mem::free_range};

pub const CASES: &[Case] = cases!["process/sched":
    affinity_is_told,
    affinity_is_kept_to,
    affinity_errors,
    policies_can_be_chosen,
    policy_errors,
    real_time_needs_privilege,
    priority_range_of_each_policy,
    nice_values,
    nice_is_inherited,
    priorities_of_groups_and_users,
    priority_errors,
    yield_gives_way,
    interval_of_round_robin,
];

type Mask = [u64; 16];

fn affinity(pid: i32) -> Mask {
    let mut mask = [0; 16];
    let size = ok!(syscall!(SYS_sched_getaffinity, pid, 128, mask.as_mut_ptr()));
    check!(size >= 8 && size % 8 == 0 && size <= 128, "{size}");
    mask
}

fn set_affinity(pid: i32, mask: &[u64]) -> sys::Result {
    syscall!(SYS_sched_setaffinity, pid, mask.len() * 8, mask.as_ptr())
}

fn cpu() -> u32 {
    let (mut cpu, mut node) = (u32::MAX, u32::MAX);
    ok!(syscall!(SYS_getcpu, &raw mut cpu, &raw mut node, 0));
    check!(node < 64);
    cpu
}

fn affinity_is_told() {
    let mask = affinity(0);
    check!(mask.iter().any(|&word| word != 0));
    check_eq!(affinity(sys::getpid()), mask);
    let cpu = cpu() as usize;
    check!(mask[cpu / 64] & 1 << (cpu % 64) != 0, "running on processor {cpu} of {mask:?}");
    in_child(|| check_eq!(affinity(0), mask));
}

fn affinity_is_kept_to() {
    let all = affinity(0);
    for number in (0..64).filter(|number| all[0] & 1 << number != 0) {
        ok!(set_affinity(0, &[1 << number]));
        check_eq!(affinity(0)[0], 1 << number);
        for _ in 0..20 {
            check_eq!(cpu(), number);
            ok!(syscall!(SYS_sched_yield));
        }
        in_child(|| check_eq!(cpu(), number));
    }
    // Those that do not exist do not matter.
    ok!(set_affinity(0, &[u64::MAX; 16]));
    check_eq!(affinity(0)[0] & all[0], all[0]);
}

fn affinity_errors() {
    let before = affinity(0);
    let mut mask = [0_u64; 16];
    errno_is!(set_affinity(0, &[0; 16]), EINVAL);
    errno_is!(set_affinity(0, &[]), EINVAL);
    errno_is!(syscall!(SYS_sched_getaffinity, 0, 4, mask.as_mut_ptr()), EINVAL);
    errno_is!(syscall!(SYS_sched_getaffinity, 0, 12, mask.as_mut_ptr()), EINVAL);
    errno_is!(syscall!(SYS_sched_getaffinity, 0, 128, free_range(1)), EFAULT);
    errno_is!(syscall!(SYS_sched_setaffinity, 0, 128, free_range(1)), EFAULT);
    errno_is!(syscall!(SYS_sched_getaffinity, 0x3fff_ffff, 128, mask.as_mut_ptr()), ESRCH);
    errno_is!(set_affinity(0x3fff_ffff, &[1]), ESRCH);
    let other = sleeper();
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(set_affinity(other.pid, &before), EPERM);
    });
    end(other);
    check_eq!(affinity(0), before);
}

fn set_policy(pid: i32, policy: i32, priority: i32) -> sys::Result {
    syscall!(SYS_sched_setscheduler, pid, policy, &raw const priority)
}

fn policy(pid: i32) -> sys::Result<i32> {
    syscall!(SYS_sched_getscheduler, pid).map(|policy| policy as i32)
}

fn policies_can_be_chosen() {
    check_eq!(policy(0), Ok(SCHED_OTHER));
    for (wanted, priority) in
        [(SCHED_BATCH, 0), (SCHED_IDLE, 0), (SCHED_FIFO, 1), (SCHED_RR, 5), (SCHED_OTHER, 0)]
    {
        ok!(set_policy(0, wanted, priority));
        check_eq!(policy(0), Ok(wanted));
        let mut told = -1_i32;
        ok!(syscall!(SYS_sched_getparam, 0, &raw mut told));
        check_eq!(told, priority);
        in_child(|| check_eq!(policy(0), Ok(wanted)));
    }
}

fn policy_errors() {
    errno_is!(set_policy(0, SCHED_OTHER, 1), EINVAL);
    errno_is!(set_policy(0, SCHED_FIFO, 0), EINVAL);
    errno_is!(set_policy(0, SCHED_RR, 100), EINVAL);
    errno_is!(set_policy(0, 99, 0), EINVAL);
    errno_is!(set_policy(0, -1, 0), EINVAL);
    errno_is!(set_policy(-1, SCHED_OTHER, 0), EINVAL);
    errno_is!(set_policy(0x3fff_ffff, SCHED_OTHER, 0), ESRCH);
    errno_is!(policy(0x3fff_ffff), ESRCH);
    errno_is!(policy(-1), EINVAL);
    errno_is!(syscall!(SYS_sched_setscheduler, 0, SCHED_OTHER, 0), EINVAL);
    errno_is!(syscall!(SYS_sched_setscheduler, 0, SCHED_OTHER, free_range(1)), EFAULT);
    errno_is!(syscall!(SYS_sched_getparam, 0, 0), EINVAL);
    check_eq!(policy(0), Ok(SCHED_OTHER));
}

fn real_time_needs_privilege() {
    ok!(sys::setrlimit(libc::RLIMIT_RTPRIO, 0, 0));
    sys::become_unprivileged();
    errno_is!(set_policy(0, SCHED_FIFO, 1), EPERM);
    errno_is!(set_policy(0, SCHED_RR, 99), EPERM);
    ok!(set_policy(0, SCHED_BATCH, 0));
}

fn priority_range_of_each_policy() {
    let range = |policy: i32| {
        (syscall!(SYS_sched_get_priority_min, policy), syscall!(SYS_sched_get_priority_max, policy))
    };
    for policy in [SCHED_FIFO, SCHED_RR] {
        check_eq!(range(policy), (Ok(1), Ok(99)));
    }
    for policy in [SCHED_OTHER, SCHED_BATCH, SCHED_IDLE] {
        check_eq!(range(policy), (Ok(0), Ok(0)));
    }
    errno_is!(range(99).0, EINVAL);
    errno_is!(range(-1).1, EINVAL);
}

/// The nice value: the bare call tells 20 less it.
fn nice(which: i32, who: i32) -> sys::Result<i32> {
    syscall!(SYS_getpriority, which, who).map(|told| 20 - told as i32)
}

fn set_nice(which: i32, who: i32, value: i32) -> sys::Result {
    syscall!(SYS_setpriority, which, who, value)
}

fn nice_values() {
    for (asked, set) in [(5, 5), (19, 19), (100, 19), (-5, -5), (-100, -20), (0, 0)] {
        ok!(set_nice(PRIO_PROCESS, 0, asked));
        check_eq!(nice(PRIO_PROCESS, 0), Ok(set));
    }
    ok!(set_nice(PRIO_PROCESS, 0, 3));
    ok!(sys::setrlimit(libc::RLIMIT_NICE, 0, 0));
    sys::become_unprivileged();
    ok!(set_nice(PRIO_PROCESS, 0, 4));
    errno_is!(set_nice(PRIO_PROCESS, 0, 3), EACCES);
    check_eq!(nice(PRIO_PROCESS, 0), Ok(4));
}

fn nice_is_inherited() {
    ok!(set_nice(PRIO_PROCESS, 0, 7));
    in_child(|| {
        check_eq!(nice(PRIO_PROCESS, 0), Ok(7));
        ok!(set_nice(PRIO_PROCESS, 0, 8));
    });
    check_eq!(nice(PRIO_PROCESS, 0), Ok(7));
}

fn priorities_of_groups_and_users() {
    let (a, b) = (sleeper(), sleeper());
    ok!(sys::setpgid(a.pid, a.pid));
    ok!(sys::setpgid(b.pid, a.pid));
    ok!(set_nice(PRIO_PGRP, a.pid, 9));
    check_eq!(nice(PRIO_PROCESS, a.pid), Ok(9));
    check_eq!(nice(PRIO_PROCESS, b.pid), Ok(9));
    ok!(set_nice(PRIO_PROCESS, b.pid, 2));
    check_eq!(nice(PRIO_PGRP, a.pid), Ok(2), "the best of them");
    end(a);
    end(b);
    const USER: i32 = 54_322;
    ok!(syscall!(SYS_setresuid, USER, USER, USER));
    ok!(set_nice(PRIO_USER, USER, 11));
    check_eq!(nice(PRIO_PROCESS, 0), Ok(11));
    check_eq!(nice(PRIO_USER, 0), Ok(11));
}

fn priority_errors() {
    errno_is!(nice(3, 0), EINVAL);
    errno_is!(set_nice(99, 0, 0), EINVAL);
    errno_is!(nice(PRIO_PROCESS, 0x3fff_ffff), ESRCH);
    errno_is!(nice(PRIO_PGRP, 0x3fff_ffff), ESRCH);
    errno_is!(set_nice(PRIO_PROCESS, 0x3fff_ffff, 0), ESRCH);
    let other = sleeper();
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(set_nice(PRIO_PROCESS, other.pid, 10), EPERM);
    });
    end(other);
}

fn yield_gives_way() {
    let words = crate::child::shared_words();
    let first = affinity(0)[0].trailing_zeros();
    ok!(set_affinity(0, &[1 << first]));
    let child = Child::spawn(|| {
        while words[0].load(SeqCst) == 0 {
            ok!(syscall!(SYS_sched_yield));
        }
    });
    (0..20).for_each(|_| _ = ok!(syscall!(SYS_sched_yield)));
    words[0].store(1, SeqCst);
    child.join();
}

fn interval_of_round_robin() {
    let mut interval = libc::timespec { tv_sec: -1, tv_nsec: -1 };
    ok!(syscall!(SYS_sched_rr_get_interval, 0, &raw mut interval));
    check!((0..1).contains(&interval.tv_sec) && (0..1_000_000_000).contains(&interval.tv_nsec));
    errno_is!(syscall!(SYS_sched_rr_get_interval, 0x3fff_ffff, &raw mut interval), ESRCH);
    errno_is!(syscall!(SYS_sched_rr_get_interval, -1_i64, &raw mut interval), EINVAL);
}
