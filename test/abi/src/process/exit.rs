// SPDX-License-Identifier: MPL-2.0

//! _exit(2), exit_group(2): what ends with a process, and what becomes of those it leaves behind.

use libc::{PR_GET_CHILD_SUBREAPER, PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, SIGHUP, SIGKILL, SIGTERM};

use super::*;
use crate::child::{Turn, in_child, shared_words};

pub const CASES: &[Case] = cases!["process/exit":
    exit_group_ends_all_threads,
    process_outlives_its_first_thread,
    status_of_the_last_thread_counts,
    one_of_threads_that_end_together_is_the_last,
    fatal_signal_ends_all_threads,
    descriptors_are_closed,
    orphan_goes_to_the_subreaper,
    orphan_goes_to_the_nearest_subreaper,
    subreaper_is_not_inherited,
    orphaned_zombie_can_be_waited_for,
    parent_death_signal,
    orphaned_stopped_group_is_hung_up,
    many_threads_end_with_the_process,
];

fn sleep_forever() {
    loop {
        sys::sleep_us(1_000_000);
    }
}

fn exit_group_ends_all_threads() {
    let status = Child::spawn(|| {
        std::thread::spawn(sleep_forever);
        std::thread::spawn(|| {
            sys::sleep_us(10_000);
            sys::exit_group(9);
        });
        sleep_forever();
    })
    .wait();
    check_eq!(exited(status), Some(9));
}

/// Ends the calling thread alone.
fn exit_thread(status: i32) -> ! {
    let _ = syscall!(SYS_exit, status);
    std::process::abort()
}

fn process_outlives_its_first_thread() {
    let words = shared_words();
    let child = Child::spawn(|| {
        std::thread::spawn(|| {
            sys::sleep_us(40_000);
            words[0].store(sys::getpid() as usize, SeqCst);
            sys::exit_group(5);
        });
        exit_thread(1);
    });
    let pid = child.pid;
    sys::sleep_us(10_000);
    check_eq!(sys::wait4(pid, libc::WNOHANG), Ok((0, 0)));
    check_eq!(exited(child.wait()), Some(5));
    check_eq!(words[0].load(SeqCst), pid as usize);
}

fn status_of_the_last_thread_counts() {
    let status = Child::spawn(|| {
        std::thread::spawn(|| {
            sys::sleep_us(20_000);
            exit_thread(4);
        });
        exit_thread(3);
    })
    .wait();
    check_eq!(exited(status), Some(4));
}

fn one_of_threads_that_end_together_is_the_last() {
    for _ in 0..100 {
        let words = shared_words();
        let status = Child::spawn(|| {
            for _ in 0..3 {
                std::thread::spawn(|| {
                    words[0].fetch_add(1, SeqCst);
                    while words[0].load(SeqCst) < 4 {
                        std::hint::spin_loop();
                    }
                    exit_thread(7);
                });
            }
            while words[0].load(SeqCst) < 3 {
                std::thread::yield_now();
            }
            words[0].fetch_add(1, SeqCst);
            exit_thread(7);
        })
        .wait();
        check_eq!(exited(status), Some(7));
    }
}

fn fatal_signal_ends_all_threads() {
    let status = Child::spawn(|| {
        std::thread::spawn(sleep_forever);
        std::thread::spawn(|| {
            sys::sleep_us(10_000);
            ok!(syscall!(SYS_tgkill, sys::getpid(), gettid(), SIGTERM));
        });
        sleep_forever();
    })
    .wait();
    check_eq!(killed(status), Some(SIGTERM));
}

fn descriptors_are_closed() {
    let (reader, writer) = ok!(sys::pipe(0));
    let child = Child::spawn(|| check_eq!(sys::write(writer, b"x"), Ok(1)));
    sys::close(writer);
    check_eq!(sys::read(reader, &mut [0; 9]), Ok(1));
    check_eq!(sys::read(reader, &mut [0; 9]), Ok(0));
    child.join();
}

fn become_subreaper() {
    ok!(prctl(PR_SET_CHILD_SUBREAPER, [1, 0, 0, 0]));
}

fn is_subreaper() -> bool {
    let mut is = -1_i32;
    ok!(prctl(PR_GET_CHILD_SUBREAPER, [&raw mut is as usize, 0, 0, 0]));
    is == 1
}

fn orphan_goes_to_the_subreaper() {
    become_subreaper();
    let (words, me) = (shared_words(), sys::getpid());
    in_child(|| {
        let parent = sys::getpid();
        let orphan = Child::spawn(|| {
            while ok!(syscall!(SYS_getppid)) == parent as usize {
                sys::sleep_us(1000);
            }
            check_eq!(syscall!(SYS_getppid), Ok(me as usize));
            sys::exit_group(6);
        });
        words[0].store(orphan.pid as usize, SeqCst);
    });
    let orphan = words[0].load(SeqCst) as i32;
    check_eq!(sys::wait4(-1, 0), Ok((orphan, 6 << 8)));
}

fn orphan_goes_to_the_nearest_subreaper() {
    become_subreaper();
    in_child(|| {
        become_subreaper();
        let words = shared_words();
        in_child(|| words[0].store(Child::spawn(|| sys::sleep_us(10_000)).pid as usize, SeqCst));
        let orphan = words[0].load(SeqCst) as i32;
        check_eq!(sys::wait4(orphan, 0), Ok((orphan, 0)));
    });
    errno_is!(sys::wait4(-1, 0), ECHILD);
}

fn subreaper_is_not_inherited() {
    check!(!is_subreaper());
    become_subreaper();
    check!(is_subreaper());
    in_child(|| check!(!is_subreaper()));
    ok!(prctl(PR_SET_CHILD_SUBREAPER, [0; 4]));
    check!(!is_subreaper());
}

fn orphaned_zombie_can_be_waited_for() {
    become_subreaper();
    let words = shared_words();
    in_child(|| {
        let zombie = Child::spawn(|| sys::exit_group(8));
        wait_until_zombie(zombie.pid);
        words[0].store(zombie.pid as usize, SeqCst);
    });
    let zombie = words[0].load(SeqCst) as i32;
    check_eq!(sys::wait4(zombie, 0), Ok((zombie, 8 << 8)));
}

fn parent_death_signal() {
    become_subreaper();
    let (words, turn) = (shared_words(), Turn::new());
    in_child(|| {
        let orphan = Child::spawn(|| {
            ok!(prctl(PR_SET_PDEATHSIG, [SIGTERM as usize, 0, 0, 0]));
            let mut signal = 0_i32;
            ok!(prctl(libc::PR_GET_PDEATHSIG, [&raw mut signal as usize, 0, 0, 0]));
            check_eq!(signal, SIGTERM);
            turn.post();
            sleep_forever();
        });
        words[0].store(orphan.pid as usize, SeqCst);
        turn.wait();
    });
    let orphan = words[0].load(SeqCst) as i32;
    check_eq!(sys::wait4(orphan, 0), Ok((orphan, SIGTERM)));
    errno_is!(prctl(PR_SET_PDEATHSIG, [65, 0, 0, 0]), EINVAL);
}

fn orphaned_stopped_group_is_hung_up() {
    become_subreaper();
    let words = shared_words();
    in_child(|| {
        ok!(syscall!(SYS_setsid));
        let stopped = sleeper();
        ok!(sys::setpgid(stopped.pid, stopped.pid));
        ok!(sys::kill(stopped.pid, libc::SIGSTOP));
        ok!(sys::wait4(stopped.pid, libc::WUNTRACED));
        words[0].store(stopped.pid as usize, SeqCst);
    });
    let stopped = words[0].load(SeqCst) as i32;
    check_eq!(sys::wait4(stopped, 0), Ok((stopped, SIGHUP)));
}

fn many_threads_end_with_the_process() {
    for _ in 0..5 {
        let turn = Turn::new();
        let child = Child::spawn(|| {
            (0..16).for_each(|_| _ = std::thread::spawn(sleep_forever));
            turn.post();
            sleep_forever();
        });
        turn.wait();
        ok!(sys::kill(child.pid, SIGKILL));
        check_eq!(killed(child.wait()), Some(SIGKILL));
    }
}
