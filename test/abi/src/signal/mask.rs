// SPDX-License-Identifier: MPL-2.0

//! rt_sigprocmask(2), rt_sigpending(2): what is blocked, and what waits.

use libc::*;

use super::*;

pub const CASES: &[Case] = cases!["signal/mask":
    block_adds_and_unblock_removes,
    kill_and_stop_stay_unblocked,
    bad_how_is_einval,
    how_does_not_matter_without_a_set,
    bad_size_is_einval,
    bad_pointer_is_efault,
    blocked_signal_waits_and_runs_when_unblocked,
    several_are_delivered_from_the_highest_frame_down,
    threads_have_masks_of_their_own,
    process_signal_goes_to_a_thread_that_takes_it,
    thread_signal_goes_to_that_thread,
    pending_tells_only_blocked_ones,
    pending_size_may_be_smaller,
];

fn block_adds_and_unblock_removes() {
    set_mask(bit(SIGHUP));
    let set = bit(SIGUSR1);
    ok!(syscall!(SYS_rt_sigprocmask, SIG_BLOCK, &raw const set, 0, 8));
    check_eq!(mask(), bit(SIGHUP) | bit(SIGUSR1));
    let set = bit(SIGHUP) | bit(SIGUSR2);
    ok!(syscall!(SYS_rt_sigprocmask, SIG_UNBLOCK, &raw const set, 0, 8));
    check_eq!(mask(), bit(SIGUSR1));
}

fn kill_and_stop_stay_unblocked() {
    set_mask(u64::MAX);
    check_eq!(mask(), !(bit(SIGKILL) | bit(SIGSTOP)));
}

fn bad_how_is_einval() {
    let set = 0_u64;
    errno_is!(syscall!(SYS_rt_sigprocmask, 3, &raw const set, 0, 8), EINVAL);
    errno_is!(syscall!(SYS_rt_sigprocmask, -1_i32, &raw const set, 0, 8), EINVAL);
}

fn how_does_not_matter_without_a_set() {
    let mut old = 1_u64;
    ok!(syscall!(SYS_rt_sigprocmask, 77, 0, &raw mut old, 8));
    check_eq!(old, 0);
}

fn bad_size_is_einval() {
    errno_is!(syscall!(SYS_rt_sigprocmask, SIG_BLOCK, 0, 0, 4), EINVAL);
    errno_is!(syscall!(SYS_rt_sigpending, 0, 16), EINVAL);
}

fn bad_pointer_is_efault() {
    errno_is!(syscall!(SYS_rt_sigprocmask, SIG_BLOCK, 8, 0, 8), EFAULT);
    errno_is!(syscall!(SYS_rt_sigprocmask, SIG_BLOCK, 0, 8, 8), EFAULT);
    errno_is!(syscall!(SYS_rt_sigpending, 8, 8), EFAULT);
}

fn blocked_signal_waits_and_runs_when_unblocked() {
    handle(SIGUSR1, 0);
    set_mask(bit(SIGUSR1));
    raise_process(SIGUSR1);
    check_eq!((count(SIGUSR1), pending()), (0, bit(SIGUSR1)));
    set_mask(0);
    check_eq!((count(SIGUSR1), pending()), (1, 0));
}

/// Each frame is put on top of the one before, so the handler of the highest signal runs first.
fn several_are_delivered_from_the_highest_frame_down() {
    for signal in [SIGUSR1, SIGUSR2, SIGTERM] {
        handle(signal, 0);
    }
    set_mask(bit(SIGUSR1) | bit(SIGUSR2) | bit(SIGTERM));
    for signal in [SIGTERM, SIGUSR1, SIGUSR2] {
        raise_process(signal);
    }
    set_mask(0);
    check_eq!(order(), [SIGTERM, SIGUSR2, SIGUSR1]);
}

fn threads_have_masks_of_their_own() {
    set_mask(bit(SIGUSR1));
    let in_thread = std::thread::spawn(|| {
        let inherited = mask();
        set_mask(bit(SIGUSR2));
        inherited
    });
    check_eq!(in_thread.join().ok(), Some(bit(SIGUSR1)));
    check_eq!(mask(), bit(SIGUSR1));
}

static TAKER: AtomicI32 = AtomicI32::new(0);

extern "C" fn note_thread(_signal: i32, _info: *mut siginfo_t, _context: *mut c_void) {
    TAKER.store(own_tid(), SeqCst);
}

fn process_signal_goes_to_a_thread_that_takes_it() {
    handle_with(note_thread, SIGUSR1, 0, 0);
    set_mask(bit(SIGUSR1));
    let thread = std::thread::spawn(|| {
        set_mask(0);
        until("the signal", || TAKER.load(SeqCst) != 0);
        own_tid()
    });
    a_while();
    raise_process(SIGUSR1);
    check_eq!(thread.join().ok(), Some(TAKER.load(SeqCst)));
    check_eq!(pending(), 0);
}

fn thread_signal_goes_to_that_thread() {
    handle_with(note_thread, SIGUSR1, 0, 0);
    let main = own_tid();
    let thread = std::thread::spawn(move || {
        ok!(syscall!(SYS_tgkill, sys::getpid(), main, SIGUSR1));
        own_tid()
    });
    until("the signal", || TAKER.load(SeqCst) != 0);
    check_eq!(TAKER.load(SeqCst), main);
    check!(thread.join().is_ok());
}

fn pending_tells_only_blocked_ones() {
    set_mask(bit(SIGUSR1));
    raise_thread(SIGUSR1);
    raise_process(SIGCONT);
    check_eq!(pending(), bit(SIGUSR1));
}

fn pending_size_may_be_smaller() {
    set_mask(bit(SIGUSR1) | bit(RT));
    raise_process(SIGUSR1);
    raise_process(RT);
    let mut set = u64::MAX;
    ok!(syscall!(SYS_rt_sigpending, &raw mut set, 4));
    check_eq!(set, u64::MAX << 32 | bit(SIGUSR1));
}
