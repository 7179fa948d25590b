// SPDX-License-Identifier: MPL-2.0

//! Queues: rt_sigqueueinfo(2), real-time signals, RLIMIT_SIGPENDING.

use libc::*;

use super::*;
use crate::child::{Child, in_child};

pub const CASES: &[Case] = cases!["signal/queue":
    standard_signals_merge,
    real_time_signals_queue_in_order,
    lowest_real_time_signal_is_taken_first,
    value_arrives,
    kernel_codes_are_eperm_to_others,
    kernel_codes_are_allowed_to_oneself,
    tgsigqueueinfo_goes_to_the_thread,
    limit_is_eagain,
    limit_does_not_hold_back_kill,
    nobody_is_esrch,
];

/// Takes pending signals one by one: signal and value.
fn take_all(set: u64) -> Vec<(i32, usize)> {
    let mut taken = Vec::new();
    let now = [0_i64; 2];
    loop {
        let mut info = [0_u8; 128];
        match syscall!(SYS_rt_sigtimedwait, &raw const set, info.as_mut_ptr(), now.as_ptr(), 8) {
            Ok(signal) => {
                let value = usize::from_ne_bytes(info[24..32].try_into().expect("eight bytes"));
                taken.push((signal as i32, value));
            }
            Err(_) => return taken,
        }
    }
}

fn standard_signals_merge() {
    set_mask(bit(SIGUSR1));
    for value in 1..4 {
        ok!(queue(sys::getpid(), SIGUSR1, value));
    }
    check_eq!(take_all(bit(SIGUSR1)), [(SIGUSR1, 1)]);
}

fn real_time_signals_queue_in_order() {
    set_mask(bit(RT));
    for value in 1..6 {
        ok!(queue(sys::getpid(), RT, value));
    }
    check_eq!(take_all(bit(RT)), [(RT, 1), (RT, 2), (RT, 3), (RT, 4), (RT, 5)]);
}

fn lowest_real_time_signal_is_taken_first() {
    let set = bit(RT) | bit(RT + 1) | bit(RT + 2) | bit(SIGUSR1);
    set_mask(set);
    for signal in [RT + 2, RT, RT + 1, SIGUSR1, RT] {
        ok!(queue(sys::getpid(), signal, signal as usize));
    }
    let signals: Vec<i32> = take_all(set).into_iter().map(|(signal, _)| signal).collect();
    check_eq!(signals, [SIGUSR1, RT, RT, RT + 1, RT + 2]);
}

fn value_arrives() {
    handle(RT, 0);
    ok!(queue(sys::getpid(), RT, 0xdead_beef_1234));
    check_eq!((count(RT), last_code(), last_value()), (1, SI_QUEUE, 0xdead_beef_1234));
}

fn kernel_codes_are_eperm_to_others() {
    let child = Child::spawn(|| {
        loop {
            sys::sleep_us(1_000_000);
        }
    });
    for code in [SI_USER, SI_KERNEL, SI_TKILL, CLD_EXITED] {
        errno_is!(queue_code(child.pid, SIGUSR1, code, 0), EPERM);
    }
    ok!(sys::kill(child.pid, SIGKILL));
    let _ = child.wait();
}

fn kernel_codes_are_allowed_to_oneself() {
    handle(SIGUSR1, 0);
    ok!(queue_code(sys::getpid(), SIGUSR1, SI_KERNEL, 0));
    check_eq!((count(SIGUSR1), last_code()), (1, SI_KERNEL));
}

fn tgsigqueueinfo_goes_to_the_thread() {
    handle(RT, 0);
    let mut info = [0_u8; 128];
    info[8..12].copy_from_slice(&SI_QUEUE.to_ne_bytes());
    info[24] = 9;
    ok!(syscall!(SYS_rt_tgsigqueueinfo, sys::getpid(), own_tid(), RT, info.as_ptr()));
    check_eq!((count(RT), last_value()), (1, 9));
    errno_is!(syscall!(SYS_rt_tgsigqueueinfo, 0, own_tid(), RT, info.as_ptr()), EINVAL);
    errno_is!(syscall!(SYS_rt_tgsigqueueinfo, sys::getpid(), own_tid(), 65, info.as_ptr()), EINVAL);
}

fn limit_is_eagain() {
    in_child(|| {
        ok!(sys::setrlimit(RLIMIT_SIGPENDING, 0, 0));
        set_mask(bit(RT));
        errno_is!(queue(sys::getpid(), RT, 1), EAGAIN);
    });
}

fn limit_does_not_hold_back_kill() {
    in_child(|| {
        ok!(sys::setrlimit(RLIMIT_SIGPENDING, 0, 0));
        set_mask(bit(RT) | bit(SIGUSR1));
        raise_process(RT);
        raise_process(SIGUSR1);
        check_eq!(pending(), bit(RT) | bit(SIGUSR1));
    });
}

fn nobody_is_esrch() {
    let child = Child::spawn(|| {});
    let pid = child.pid;
    child.join();
    errno_is!(queue(pid, SIGUSR1, 0), ESRCH);
}
