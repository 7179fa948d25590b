// SPDX-License-Identifier: MPL-2.0

//! Signals of a tracee: stops before their delivery, group stops, what they carry, the mask.

use libc::{SIGCONT, SIGTERM, SIGTRAP, SIGUSR1, SIGUSR2, SIGWINCH};

use super::*;
use crate::{
    child::shared_words,
    process::{block, ignore, killed},
};

pub const CASES: &[Case] = cases!["ptrace/signal":
    delivery_is_the_tracers_to_decide,
    ignored_signals_stop_too,
    replaced_signal_is_the_tracers,
    information_can_be_read_and_changed,
    stop_signal_begins_a_group_stop,
    seized_group_stop_and_listen,
    mask_can_be_read_and_changed,
    pending_signals_can_be_read,
    no_such_signal_is_eio,
];

static SEEN: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);

extern "C" fn note(_: i32, info: *const i32, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a whole siginfo.
    let (signal, code, pid, value) = unsafe { (*info, *info.add(2), *info.add(4), *info.add(6)) };
    SEEN.store(signal, std::sync::atomic::Ordering::SeqCst);
    let words = [signal, code, pid, value];
    let _ = sys::write(NOTES.load(std::sync::atomic::Ordering::SeqCst), &words.map(|word| word as u8));
}

static NOTES: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

fn notes(signals: &[i32]) -> i32 {
    let (reader, writer) = ok!(sys::pipe(libc::O_NONBLOCK));
    NOTES.store(writer, std::sync::atomic::Ordering::SeqCst);
    for signal in signals {
        // SAFETY: the handler makes one call.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(*signal, &action, std::ptr::null_mut());
        }
    }
    reader
}

fn read_note(reader: i32) -> Option<[u8; 4]> {
    let mut note = [0; 4];
    sys::read(reader, &mut note).ok().map(|_| note)
}

fn delivery_is_the_tracers_to_decide() {
    let reader = notes(&[SIGUSR1]);
    let child = traced(|| {
        for _ in 0..2 {
            ok!(sys::kill(sys::getpid(), SIGUSR1));
        }
        ok!(sys::kill(sys::getpid(), SIGTERM));
    });
    for signal in [0, SIGUSR1] {
        go_on(PTRACE_CONT, child.pid, 0);
        check_eq!(next(child.pid), SIGUSR1);
        let info = ok!(info_of(child.pid));
        check_eq!((info[0], info[2], info[4]), (SIGUSR1, libc::SI_USER, child.pid));
        check_eq!(read_note(reader), None);
        if signal != 0 {
            go_on(PTRACE_CONT, child.pid, signal);
        } else {
            continue;
        }
        check_eq!(next(child.pid), SIGTERM);
        check_eq!(read_note(reader).map(|note| note[0]), Some(SIGUSR1 as u8));
    }
    finish(child);
}

fn ignored_signals_stop_too() {
    ignore(SIGUSR1);
    let child = traced(|| {
        for signal in [SIGUSR1, SIGWINCH, SIGCONT] {
            ok!(sys::kill(sys::getpid(), signal));
        }
    });
    for signal in [SIGUSR1, SIGWINCH, SIGCONT] {
        go_on(PTRACE_CONT, child.pid, 0);
        check_eq!(next(child.pid), signal);
    }
    go_on(PTRACE_CONT, child.pid, SIGUSR1);
    child.join();
}

fn replaced_signal_is_the_tracers() {
    let reader = notes(&[SIGUSR1, SIGUSR2]);
    let child = traced(|| {
        ok!(sys::kill(sys::getpid(), SIGUSR1));
    });
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGUSR1);
    go_on(PTRACE_CONT, child.pid, SIGUSR2);
    child.join();
    let note = read_note(reader);
    check_eq!(note.map(|note| note[..3].to_vec()), Some(vec![SIGUSR2 as u8, 0, sys::getpid() as u8]));
    check_eq!(read_note(reader), None);
}

fn information_can_be_read_and_changed() {
    let reader = notes(&[SIGUSR1]);
    let child = traced(|| {
        ok!(sys::kill(sys::getpid(), SIGUSR1));
    });
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGUSR1);
    let mut info = ok!(info_of(child.pid));
    (info[2], info[4], info[6]) = (-6, 99, 42);
    ok!(ptrace(PTRACE_SETSIGINFO, child.pid, 0, info.as_ptr() as usize));
    check_eq!(ok!(info_of(child.pid))[..8], info[..8]);
    errno_is!(ptrace(PTRACE_SETSIGINFO, child.pid, 0, 8), EFAULT);
    errno_is!(ptrace(PTRACE_GETSIGINFO, child.pid, 0, 8), EFAULT);
    go_on(PTRACE_CONT, child.pid, SIGUSR1);
    child.join();
    check_eq!(read_note(reader), Some([SIGUSR1 as u8, -6_i8 as u8, 99, 42]));
}

fn stop_signal_begins_a_group_stop() {
    let child = traced(|| {
        ok!(sys::kill(sys::getpid(), SIGSTOP));
        ok!(sys::kill(sys::getpid(), SIGUSR1));
    });
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGSTOP);
    check_eq!(ok!(info_of(child.pid))[0], SIGSTOP);
    go_on(PTRACE_CONT, child.pid, SIGSTOP);
    check_eq!(next(child.pid), SIGSTOP);
    errno_is!(info_of(child.pid), EINVAL);
    check!(status_field(child.pid, "State").starts_with('t'));
    // A tracer can have it run nevertheless.
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGUSR1);
    // What runs without its tracer stops again.
    ok!(ptrace(PTRACE_DETACH, child.pid, 0, 0));
    while !status_field(child.pid, "State").starts_with('T') {
        sys::sleep_us(500);
    }
    ok!(sys::kill(child.pid, SIGCONT));
    child.join();
}

fn seized_group_stop_and_listen() {
    let words = shared_words();
    let child = Child::spawn(|| {
        crate::process::await_word(&words[0]);
    });
    ok!(ptrace(PTRACE_SEIZE, child.pid, 0, 0));
    ok!(sys::kill(child.pid, SIGSTOP));
    check_eq!(next(child.pid), SIGSTOP);
    go_on(PTRACE_CONT, child.pid, SIGSTOP);
    check_eq!(next(child.pid), SIGSTOP | EVENT_STOP << 8);
    ok!(ptrace(PTRACE_LISTEN, child.pid, 0, 0));
    errno_is!(ptrace(PTRACE_CONT, child.pid, 0, 0), ESRCH);
    check_eq!(sys::wait4(child.pid, libc::WNOHANG), Ok((0, 0)));
    ok!(sys::kill(child.pid, SIGCONT));
    check_eq!(next(child.pid), SIGTRAP | EVENT_STOP << 8);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGCONT);
    errno_is!(ptrace(PTRACE_LISTEN, child.pid, 0, 0), EIO);
    words[0].store(1, std::sync::atomic::Ordering::SeqCst);
    finish(child);
}

fn mask_can_be_read_and_changed() {
    let mask_of = |pid: i32| {
        let mut mask = 0_u64;
        ok!(ptrace(PTRACE_GETSIGMASK, pid, 8, &raw mut mask as usize));
        mask
    };
    block(SIGUSR2);
    let child = traced(|| {
        ok!(sys::kill(sys::getpid(), SIGUSR1));
        ok!(sys::kill(sys::getpid(), SIGUSR2));
    });
    check_eq!(mask_of(child.pid), 1 << (SIGUSR2 - 1));
    let all = u64::MAX;
    ok!(ptrace(PTRACE_SETSIGMASK, child.pid, 8, &raw const all as usize));
    check_eq!(mask_of(child.pid), !(1 << (libc::SIGKILL - 1) | 1 << (SIGSTOP - 1)));
    let mask = 1_u64 << (SIGUSR1 - 1);
    ok!(ptrace(PTRACE_SETSIGMASK, child.pid, 8, &raw const mask as usize));
    errno_is!(ptrace(PTRACE_GETSIGMASK, child.pid, 16, &raw const mask as usize), EINVAL);
    errno_is!(ptrace(PTRACE_SETSIGMASK, child.pid, 4, &raw const mask as usize), EINVAL);
    errno_is!(ptrace(PTRACE_SETSIGMASK, child.pid, 8, 8), EFAULT);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGUSR2);
    finish(child);
}

fn pending_signals_can_be_read() {
    const RT: i32 = 40;
    block(RT);
    block(SIGUSR1);
    let child = traced(|| {});
    let peek = |shared: u32, first: u64, count: i32, infos: &mut [Info]| {
        #[repr(C)]
        struct Args(u64, u32, i32);
        let args = Args(first, shared, count);
        ptrace(PTRACE_PEEKSIGINFO, child.pid, &raw const args as usize, infos.as_mut_ptr() as usize)
    };
    let mut infos = [[0; 32]; 4];
    check_eq!(peek(1, 0, 4, &mut infos), Ok(0));
    for value in [5, 6] {
        let mut info = [0_i32; 32];
        (info[0], info[2], info[6]) = (RT, libc::SI_QUEUE, value);
        ok!(syscall!(SYS_rt_sigqueueinfo, child.pid, RT, info.as_ptr()));
    }
    ok!(syscall!(SYS_tgkill, child.pid, child.pid, SIGUSR1));
    check_eq!(peek(1, 0, 4, &mut infos), Ok(2));
    check_eq!([infos[0], infos[1]].map(|info| (info[0], info[6])), [(RT, 5), (RT, 6)]);
    check_eq!(peek(1, 1, 4, &mut infos), Ok(1));
    check_eq!((infos[0][0], infos[0][6]), (RT, 6));
    check_eq!(peek(0, 0, 4, &mut infos), Ok(1));
    check_eq!((infos[0][0], infos[0][2]), (SIGUSR1, libc::SI_TKILL));
    errno_is!(peek(2, 0, 4, &mut infos), EINVAL);
    errno_is!(peek(0, 0, -1, &mut infos), EINVAL);
    errno_is!(ptrace(PTRACE_PEEKSIGINFO, child.pid, 8, 8), EFAULT);
    finish(child);
}

fn no_such_signal_is_eio() {
    let child = traced(|| {});
    for request in [PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SINGLESTEP, PTRACE_DETACH] {
        errno_is!(ptrace(request, child.pid, 0, 65), EIO);
        errno_is!(ptrace(request, child.pid, 0, usize::MAX), EIO);
    }
    go_on(PTRACE_CONT, child.pid, SIGTERM);
    check_eq!(killed(end_of(child.pid)), Some(SIGTERM));
}
