// SPDX-License-Identifier: MPL-2.0

//! Job control: stopping and continuing, and what the parent hears of it.

use libc::*;

use super::*;
use crate::child::{Child, Turn, in_child, shared_words};

pub const CASES: &[Case] = cases!["signal/stop":
    parent_sees_stop_and_continuation,
    each_stop_signal_stops,
    stopped_process_does_not_run,
    sigchld_tells_of_stop_and_continuation,
    nocldstop_is_quiet,
    wait_without_wuntraced_sees_nothing,
    waitid_tells_stopped_and_continued,
    cont_runs_its_handler,
    cont_continues_although_blocked,
    cont_drops_pending_stops,
    stop_drops_pending_cont,
    all_threads_stop,
    all_threads_stop_again_at_once,
    tty_stops_are_ignored_by_orphans,
    orphaned_stopped_group_is_hung_up,
];

fn idle() -> Child {
    Child::spawn(|| {
        loop {
            sys::sleep_us(100_000);
        }
    })
}

fn end(child: Child) {
    ok!(sys::kill(child.pid, SIGKILL));
    check_eq!(WTERMSIG(child.wait()), SIGKILL);
}

fn parent_sees_stop_and_continuation() {
    let child = idle();
    ok!(sys::kill(child.pid, SIGSTOP));
    let (pid, status) = ok!(sys::wait4(child.pid, WUNTRACED));
    check_eq!((pid, WIFSTOPPED(status), WSTOPSIG(status)), (child.pid, true, SIGSTOP));
    check_eq!(sys::wait4(child.pid, WUNTRACED | WNOHANG).map(|(pid, _)| pid), Ok(0));
    ok!(sys::kill(child.pid, SIGCONT));
    let (pid, status) = ok!(sys::wait4(child.pid, WCONTINUED));
    check_eq!((pid, WIFCONTINUED(status)), (child.pid, true));
    end(child);
}

fn each_stop_signal_stops() {
    for signal in [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU] {
        let child = Child::spawn(|| {
            ok!(sys::setpgid(0, 0));
            loop {
                sys::sleep_us(100_000);
            }
        });
        let _ = sys::setpgid(child.pid, child.pid);
        ok!(sys::kill(child.pid, signal));
        check_eq!(WSTOPSIG(ok!(sys::wait4(child.pid, WUNTRACED)).1), signal);
        end(child);
    }
}

fn stopped_process_does_not_run() {
    let words = shared_words();
    let child = Child::spawn(|| {
        loop {
            words[0].fetch_add(1, SeqCst);
            sys::sleep_us(500);
        }
    });
    until("the child's work", || words[0].load(SeqCst) > 3);
    ok!(sys::kill(child.pid, SIGSTOP));
    ok!(sys::wait4(child.pid, WUNTRACED));
    let before = words[0].load(SeqCst);
    a_while();
    check_eq!(words[0].load(SeqCst), before);
    ok!(sys::kill(child.pid, SIGCONT));
    until("the child's work", || words[0].load(SeqCst) > before);
    end(child);
}

fn sigchld_tells_of_stop_and_continuation() {
    handle(SIGCHLD, 0);
    let child = idle();
    ok!(sys::kill(child.pid, SIGSTOP));
    until("SIGCHLD", || count(SIGCHLD) == 1);
    check_eq!((last_code(), last_sender().0), (CLD_STOPPED, child.pid));
    ok!(sys::kill(child.pid, SIGCONT));
    until("SIGCHLD", || count(SIGCHLD) == 2);
    check_eq!((last_code(), last_sender().0), (CLD_CONTINUED, child.pid));
    end(child);
}

fn nocldstop_is_quiet() {
    handle(SIGCHLD, SA_NOCLDSTOP);
    let child = idle();
    for signal in [SIGSTOP, SIGCONT] {
        ok!(sys::kill(child.pid, signal));
        ok!(sys::wait4(child.pid, WUNTRACED | WCONTINUED));
    }
    check_eq!(count(SIGCHLD), 0);
    end(child);
}

fn wait_without_wuntraced_sees_nothing() {
    let child = idle();
    ok!(sys::kill(child.pid, SIGSTOP));
    a_while();
    check_eq!(sys::wait4(child.pid, WNOHANG).map(|(pid, _)| pid), Ok(0));
    check!(WIFSTOPPED(ok!(sys::wait4(child.pid, WUNTRACED)).1));
    end(child);
}

fn waitid_tells_stopped_and_continued() {
    let child = idle();
    let mut info = [0_i32; 32];
    for (signal, option, code, status) in
        [(SIGTSTP, WSTOPPED, CLD_STOPPED, SIGTSTP), (SIGCONT, WCONTINUED, CLD_CONTINUED, SIGCONT)]
    {
        // Of an orphaned group SIGTSTP would not stop it; SIGSTOP does always.
        let (signal, status) = if signal == SIGTSTP { (SIGSTOP, SIGSTOP) } else { (signal, status) };
        ok!(sys::kill(child.pid, signal));
        ok!(syscall!(SYS_waitid, P_PID, child.pid, info.as_mut_ptr(), option, 0));
        check_eq!((info[0], info[2], info[4], info[6]), (SIGCHLD, code, child.pid, status));
    }
    end(child);
}

fn cont_runs_its_handler() {
    let ready = Turn::new();
    let child = Child::spawn(|| {
        handle(SIGCONT, 0);
        ready.post();
        until("SIGCONT", || count(SIGCONT) == 1);
    });
    ready.wait();
    ok!(sys::kill(child.pid, SIGSTOP));
    ok!(sys::wait4(child.pid, WUNTRACED));
    ok!(sys::kill(child.pid, SIGCONT));
    child.join();
}

fn cont_continues_although_blocked() {
    let ready = Turn::new();
    let child = Child::spawn(|| {
        set_mask(u64::MAX);
        ready.post();
        until("SIGCONT", || pending() & bit(SIGCONT) != 0);
    });
    ready.wait();
    ok!(sys::kill(child.pid, SIGSTOP));
    ok!(sys::wait4(child.pid, WUNTRACED));
    ok!(sys::kill(child.pid, SIGCONT));
    child.join();
}

fn cont_drops_pending_stops() {
    set_mask(bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGCONT));
    handle(SIGCONT, 0);
    raise_process(SIGTSTP);
    raise_thread(SIGTTIN);
    check_eq!(pending(), bit(SIGTSTP) | bit(SIGTTIN));
    raise_process(SIGCONT);
    check_eq!(pending(), bit(SIGCONT));
}

fn stop_drops_pending_cont() {
    set_mask(bit(SIGTSTP) | bit(SIGCONT));
    handle(SIGCONT, 0);
    raise_process(SIGCONT);
    check_eq!(pending(), bit(SIGCONT));
    raise_process(SIGTSTP);
    check_eq!(pending(), bit(SIGTSTP));
}

fn all_threads_stop() {
    let words = shared_words();
    let child = Child::spawn(|| {
        std::thread::spawn(|| {
            loop {
                words[0].fetch_add(1, SeqCst);
            }
        });
        std::thread::spawn(|| {
            loop {
                words[1].fetch_add(1, SeqCst);
                sys::sleep_us(500);
            }
        });
        loop {
            sys::sleep_us(100_000);
        }
    });
    until("the threads' work", || words[0].load(SeqCst) > 3 && words[1].load(SeqCst) > 3);
    ok!(sys::kill(child.pid, SIGSTOP));
    ok!(sys::wait4(child.pid, WUNTRACED));
    let work = || (words[0].load(SeqCst), words[1].load(SeqCst));
    let before = work();
    a_while();
    check_eq!(work(), before);
    ok!(sys::kill(child.pid, SIGCONT));
    until("the threads' work", || words[0].load(SeqCst) > before.0 && words[1].load(SeqCst) > before.1);
    end(child);
}

fn all_threads_stop_again_at_once() {
    let words = shared_words();
    let child = Child::spawn(|| {
        for word in &words[..3] {
            std::thread::spawn(|| {
                loop {
                    word.fetch_add(1, SeqCst);
                    sys::sleep_us(500);
                }
            });
        }
        loop {
            sys::sleep_us(100_000);
        }
    });
    until("the threads' work", || words[..3].iter().all(|word| word.load(SeqCst) > 0));
    ok!(sys::kill(child.pid, SIGSTOP));
    for _ in 0..50 {
        check!(WIFSTOPPED(ok!(sys::wait4(child.pid, WUNTRACED)).1));
        ok!(sys::kill(child.pid, SIGCONT));
        ok!(sys::kill(child.pid, SIGSTOP));
    }
    check!(WIFSTOPPED(ok!(sys::wait4(child.pid, WUNTRACED)).1));
    end(child);
}

/// The leader of a session has no parent in it: its group is orphaned from the start.
fn tty_stops_are_ignored_by_orphans() {
    in_child(|| {
        ok!(syscall!(SYS_setsid));
        for signal in [SIGTSTP, SIGTTIN, SIGTTOU] {
            raise_process(signal);
        }
    });
}

fn orphaned_stopped_group_is_hung_up() {
    let words = shared_words();
    let between = Child::spawn(|| {
        let grandchild = Child::spawn(|| {
            ok!(sys::setpgid(0, 0));
            handle(SIGHUP, 0);
            handle(SIGCONT, 0);
            words[0].store(1, SeqCst);
            until("SIGHUP and SIGCONT", || count(SIGHUP) == 1 && count(SIGCONT) == 1);
            words[1].store(1, SeqCst);
        });
        until("the grandchild", || words[0].load(SeqCst) == 1);
        ok!(sys::kill(grandchild.pid, SIGSTOP));
        ok!(sys::wait4(grandchild.pid, WUNTRACED));
    });
    between.join();
    until("the grandchild's end", || words[1].load(SeqCst) == 1);
}
