// SPDX-License-Identifier: MPL-2.0

//! Waiting and waking.

use std::{sync::atomic::AtomicUsize, thread};

use libc::*;

use super::*;
use crate::{
    child::{Child, in_child},
    mem::{ANON, ANON_SHARED, PAGE, RW, anon, free_range},
    signal::{a_while, until},
    tmp,
};

pub const CASES: &[Case] = cases!["futex/wait":
    other_value_is_eagain,
    nobody_waits_is_zero,
    waiters_are_woken,
    only_so_many_are_woken,
    time_limit_is_etimedout,
    absolute_time_limit,
    bad_time_limit_is_einval,
    unaligned_is_einval,
    unmapped_is_efault,
    unknown_operation_is_enosys,
    real_time_flag_is_enosys_for_wait,
    bitset_selects_waiters,
    empty_bitset_is_einval,
    private_does_not_meet_another_process,
    shared_meets_across_fork,
    shared_meets_at_other_addresses,
    shared_meets_through_a_file,
    shared_on_private_memory_stays_private,
    no_waking_is_lost,
    end_of_a_thread_wakes_its_joiner,
    waiter_that_is_killed_leaves_nothing,
];

fn other_value_is_eagain() {
    let word = AtomicU32::new(5);
    errno_is!(wait_for(&word, 4, 0), EAGAIN);
    errno_is!(wait_for(&word, 4, FUTEX_PRIVATE_FLAG), EAGAIN);
}

fn nobody_waits_is_zero() {
    let word = AtomicU32::new(0);
    check_eq!(wake(&word, 1, 0), Ok(0));
    check_eq!(wake(&word, i32::MAX, FUTEX_PRIVATE_FLAG), Ok(0));
}

fn waiters_are_woken() {
    let word = AtomicU32::new(0);
    for flags in [0, FUTEX_PRIVATE_FLAG] {
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| check_eq!(wait_for(&word, 0, flags), Ok(0)));
            }
            wake_exactly(&word, 5, flags);
        });
    }
}

fn only_so_many_are_woken() {
    let word = AtomicU32::new(0);
    let woken = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                check_eq!(wait_for(&word, 0, FUTEX_PRIVATE_FLAG), Ok(0));
                woken.fetch_add(1, SeqCst);
            });
        }
        let mut sum = 0;
        until("the first two", || {
            sum += ok!(wake(&word, 2 - sum as i32, FUTEX_PRIVATE_FLAG));
            sum == 2
        });
        a_while();
        check_eq!(woken.load(SeqCst), 2);
        wake_exactly(&word, 2, FUTEX_PRIVATE_FLAG);
    });
}

fn time_limit_is_etimedout() {
    let word = AtomicU32::new(0);
    let start = sys::monotonic_ms();
    errno_is!(syscall!(SYS_futex, at(&word), FUTEX_WAIT, 0, [0_i64, 30_000_000].as_ptr()), ETIMEDOUT);
    check!(sys::monotonic_ms() - start >= 29);
    errno_is!(syscall!(SYS_futex, at(&word), FUTEX_WAIT, 0, [0_i64, 0].as_ptr()), ETIMEDOUT);
}

fn absolute_time_limit() {
    let word = AtomicU32::new(0);
    for (clock, flag) in [(CLOCK_MONOTONIC, 0), (CLOCK_REALTIME, FUTEX_CLOCK_REALTIME)] {
        let mut end = [0_i64; 2];
        ok!(syscall!(SYS_clock_gettime, clock, end.as_mut_ptr()));
        end[1] += 30_000_000;
        if end[1] >= 1_000_000_000 {
            end = [end[0] + 1, end[1] - 1_000_000_000];
        }
        let op = FUTEX_WAIT_BITSET | flag;
        errno_is!(syscall!(SYS_futex, at(&word), op, 0, end.as_ptr(), 0, u32::MAX), ETIMEDOUT);
        let mut now = [0_i64; 2];
        ok!(syscall!(SYS_clock_gettime, clock, now.as_mut_ptr()));
        check!(now >= end);
    }
}

fn bad_time_limit_is_einval() {
    let word = AtomicU32::new(0);
    for limit in [[0_i64, 1_000_000_000], [0, -1], [-1, 0]] {
        errno_is!(syscall!(SYS_futex, at(&word), FUTEX_WAIT, 0, limit.as_ptr()), EINVAL);
    }
    errno_is!(syscall!(SYS_futex, at(&word), FUTEX_WAIT, 0, 8), EFAULT);
}

fn unaligned_is_einval() {
    let word = AtomicU32::new(0);
    for op in [FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAIT | FUTEX_PRIVATE_FLAG] {
        errno_is!(syscall!(SYS_futex, at(&word) + 1, op, 0, 0), EINVAL);
    }
}

fn unmapped_is_efault() {
    let nowhere = free_range(1);
    errno_is!(syscall!(SYS_futex, nowhere, FUTEX_WAIT, 0, 0), EFAULT);
    errno_is!(syscall!(SYS_futex, nowhere, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, 0), EFAULT);
    errno_is!(syscall!(SYS_futex, nowhere, FUTEX_WAKE, 1), EFAULT);
    errno_is!(syscall!(SYS_futex, 0x8000_0000_0000_usize, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1), EFAULT);
}

fn unknown_operation_is_enosys() {
    let word = AtomicU32::new(0);
    for op in [2, 30, 77] {
        errno_is!(syscall!(SYS_futex, at(&word), op, 0, 0, 0, 0), ENOSYS);
    }
}

fn real_time_flag_is_enosys_for_wait() {
    let word = AtomicU32::new(0);
    errno_is!(syscall!(SYS_futex, at(&word), FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 0, 0), ENOSYS);
    errno_is!(syscall!(SYS_futex, at(&word), FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 0, 0), ENOSYS);
}

fn bitset_selects_waiters() {
    let word = AtomicU32::new(0);
    let woken = AtomicU32::new(0);
    thread::scope(|scope| {
        for bits in [1_u32, 2] {
            let (word, woken) = (&word, &woken);
            scope.spawn(move || {
                check_eq!(syscall!(SYS_futex, at(word), FUTEX_WAIT_BITSET, 0, 0, 0, bits), Ok(0));
                woken.fetch_or(bits, SeqCst);
            });
        }
        check_eq!(syscall!(SYS_futex, at(&word), FUTEX_WAKE_BITSET, 9, 0, 0, 4), Ok(0));
        until("the second", || {
            ok!(syscall!(SYS_futex, at(&word), FUTEX_WAKE_BITSET, 9, 0, 0, 6));
            value(&woken) != 0
        });
        check_eq!(value(&woken), 2);
        wake_exactly(&word, 1, 0);
    });
}

fn empty_bitset_is_einval() {
    let word = AtomicU32::new(0);
    errno_is!(syscall!(SYS_futex, at(&word), FUTEX_WAIT_BITSET, 0, 0, 0, 0), EINVAL);
    errno_is!(syscall!(SYS_futex, at(&word), FUTEX_WAKE_BITSET, 1, 0, 0, 0), EINVAL);
}

/// A child that waits for the word for at most a second; its status is 0 if it was woken.
fn waiting_child(word: &'static AtomicU32, flags: i32) -> Child {
    Child::spawn(move || {
        let limit = [1_i64, 0];
        let result = syscall!(SYS_futex, at(word), FUTEX_WAIT | flags, 0, limit.as_ptr());
        sys::exit_group(i32::from(result != Ok(0)))
    })
}

fn private_does_not_meet_another_process() {
    let word = shared_word();
    let child = waiting_child(word, FUTEX_PRIVATE_FLAG);
    a_while();
    check_eq!(wake(word, 1, FUTEX_PRIVATE_FLAG), Ok(0));
    check_eq!(WEXITSTATUS(child.wait()), 1);
}

fn shared_meets_across_fork() {
    let word = shared_word();
    let child = waiting_child(word, 0);
    wake_exactly(word, 1, 0);
    child.join();
}

fn shared_meets_at_other_addresses() {
    let here = ok!(sys::mmap(0, PAGE, RW, ANON_SHARED, -1, 0));
    let there = ok!(sys::mremap(here, 0, PAGE, MREMAP_MAYMOVE, 0));
    check!(here != there);
    // SAFETY: both are mapped, aligned, and zero.
    let (here, there) = unsafe { (&*(here as *const AtomicU32), &*(there as *const AtomicU32)) };
    thread::scope(|scope| {
        scope.spawn(|| check_eq!(wait_for(here, 0, 0), Ok(0)));
        wake_exactly(there, 1, 0);
    });
}

fn shared_meets_through_a_file() {
    let fd = tmp::file(&[0; 2 * PAGE]);
    let map = || ok!(sys::mmap(0, PAGE, RW, MAP_SHARED, fd, PAGE as i64));
    let (here, there) = (map(), map());
    // SAFETY: both are mapped, aligned, and zero.
    let (here, there) = unsafe { (&*(here as *const AtomicU32), &*(there as *const AtomicU32)) };
    thread::scope(|scope| {
        scope.spawn(|| check_eq!(wait_for(here, 0, 0), Ok(0)));
        wake_exactly(there, 1, 0);
    });
}

fn shared_on_private_memory_stays_private() {
    let at = ok!(sys::mmap(0, PAGE, RW, ANON, -1, 0));
    // SAFETY: mapped, aligned, and zero.
    let word: &'static AtomicU32 = unsafe { &*(at as *const AtomicU32) };
    let child = waiting_child(word, 0);
    a_while();
    check_eq!(wake(word, 1, 0), Ok(0));
    check_eq!(WEXITSTATUS(child.wait()), 1);
}

/// Two threads take turns a thousand times: one waking that is lost, and they wait for ever.
fn no_waking_is_lost() {
    let word = AtomicU32::new(0);
    thread::scope(|scope| {
        for me in 0..2 {
            let word = &word;
            scope.spawn(move || {
                for round in 0..1000 {
                    let mine = 2 * round + me;
                    loop {
                        let now = value(word);
                        if now == mine {
                            break;
                        }
                        let _ = wait_for(word, now, FUTEX_PRIVATE_FLAG);
                    }
                    word.store(mine + 1, SeqCst);
                    ok!(wake(word, 1, FUTEX_PRIVATE_FLAG));
                }
            });
        }
    });
    check_eq!(value(&word), 2000);
}

fn end_of_a_thread_wakes_its_joiner() {
    let tid = AtomicU32::new(1);
    let stack = anon(4) + 4 * PAGE;
    let flags = CLONE_VM
        | CLONE_FS
        | CLONE_FILES
        | CLONE_SIGHAND
        | CLONE_THREAD
        | CLONE_SYSVSEM
        | CLONE_CHILD_CLEARTID;
    // SAFETY: the new thread has a stack of its own, sleeps a little, and ends.
    unsafe {
        std::arch::asm!("syscall", "test rax, rax", "jnz 2f", "sub rsp, 64", "mov qword ptr [rsp], 0",
            "mov qword ptr [rsp + 8], 30000000", "mov eax, {sleep}", "mov rdi, rsp", "xor esi, esi", "syscall",
            "mov eax, {exit}", "xor edi, edi", "syscall", "2:", sleep = const SYS_nanosleep, exit = const SYS_exit,
            inlateout("rax") SYS_clone => _, in("rdi") flags, in("rsi") stack, in("rdx") 0, in("r10") at(&tid),
            in("r8") 0, out("rcx") _, out("r11") _);
    }
    while value(&tid) != 0 {
        match wait_for(&tid, 1, 0) {
            Ok(_) | Err(sys::Errno(EAGAIN)) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn waiter_that_is_killed_leaves_nothing() {
    let word = shared_word();
    for _ in 0..20 {
        let child = waiting_child(word, 0);
        sys::sleep_us(2000);
        ok!(sys::kill(child.pid, SIGKILL));
        let _ = child.wait();
    }
    check_eq!(wake(word, 100, 0), Ok(0));
    in_child(|| check_eq!(wake(word, 100, 0), Ok(0)));
}
