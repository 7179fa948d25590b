// SPDX-License-Identifier: MPL-2.0

//! sigaltstack(2).

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use libc::*;

use super::*;
use crate::{
    child::{in_child, killed_by},
    mem::{PAGE, anon, free_range, lone_anon},
};

pub const CASES: &[Case] = cases!["signal/stack":
    none_at_first,
    old_one_is_told,
    handler_runs_on_it,
    handler_without_onstack_does_not,
    nested_handler_stays_on_it,
    changing_it_while_on_it_is_eperm,
    too_small_is_enomem,
    bad_flags_are_einval,
    bad_pointer_is_efault,
    disable_forgets_it,
    autodisarm_disarms_and_rearms,
    overflow_of_it_is_sigsegv,
    stack_overflow_is_caught_on_it,
    threads_have_none,
    fork_keeps_it,
    exec_forgets_it,
];

const SIZE: usize = 16 * PAGE;
const SS_AUTODISARM: i32 = i32::MIN;

static SP: AtomicUsize = AtomicUsize::new(0);
static FLAGS: AtomicUsize = AtomicUsize::new(0);
static RESULT: AtomicUsize = AtomicUsize::new(0);

/// Base, flags, size.
fn current() -> (usize, i32, usize) {
    let mut old = [0_usize; 3];
    ok!(syscall!(SYS_sigaltstack, 0, old.as_mut_ptr()));
    (old[0], old[1] as i32, old[2])
}

fn set(base: usize, flags: i32, size: usize) -> sys::Result {
    syscall!(SYS_sigaltstack, [base, flags as u32 as usize, size].as_ptr(), 0)
}

extern "C" fn where_am_i(_signal: i32, _info: *mut siginfo_t, _context: *mut c_void) {
    let here = 0_u8;
    SP.store(&raw const here as usize, SeqCst);
    FLAGS.store(current().1 as u32 as usize, SeqCst);
    RESULT.store(set(0, SS_DISABLE, 0).map_or_else(|error| error.0 as usize, |_| 0), SeqCst);
}

fn ran_on(base: usize) -> bool {
    (base..base + SIZE).contains(&SP.load(SeqCst))
}

fn fresh() -> usize {
    // Fenced in: what runs over its end must not go on in somebody else's memory.
    let base = lone_anon(SIZE / PAGE);
    ok!(set(base, 0, SIZE));
    base
}

fn none_at_first() {
    in_child(|| {
        ok!(set(0, SS_DISABLE, 0));
        check_eq!(current(), (0, SS_DISABLE, 0));
    });
}

fn old_one_is_told() {
    let base = fresh();
    check_eq!(current(), (base, 0, SIZE));
}

fn handler_runs_on_it() {
    let base = fresh();
    handle_with(where_am_i, SIGUSR1, SA_ONSTACK, 0);
    raise_process(SIGUSR1);
    check!(ran_on(base));
    check_eq!(FLAGS.load(SeqCst), SS_ONSTACK as usize);
    check_eq!(current(), (base, 0, SIZE));
}

fn handler_without_onstack_does_not() {
    let base = fresh();
    handle_with(where_am_i, SIGUSR1, 0, 0);
    raise_process(SIGUSR1);
    check!(!ran_on(base));
    check_eq!(FLAGS.load(SeqCst), 0);
}

extern "C" fn raise_another(_signal: i32, _info: *mut siginfo_t, _context: *mut c_void) {
    raise_process(SIGUSR1);
    let here = 0_u8;
    let outer = &raw const here as usize;
    let inner = SP.load(SeqCst);
    RESULT.store(usize::from(inner < outer && outer - inner < SIZE), SeqCst);
}

fn nested_handler_stays_on_it() {
    let base = fresh();
    handle_with(where_am_i, SIGUSR1, SA_ONSTACK, 0);
    handle_with(raise_another, SIGUSR2, SA_ONSTACK, 0);
    raise_process(SIGUSR2);
    check!(ran_on(base));
    check_eq!(RESULT.load(SeqCst), 1);
}

fn changing_it_while_on_it_is_eperm() {
    fresh();
    handle_with(where_am_i, SIGUSR1, SA_ONSTACK, 0);
    raise_process(SIGUSR1);
    check_eq!(RESULT.load(SeqCst), EPERM as usize);
}

fn too_small_is_enomem() {
    let base = anon(4);
    errno_is!(set(base, 0, 2047), ENOMEM);
    errno_is!(set(base, 0, 0), ENOMEM);
}

fn bad_flags_are_einval() {
    let base = anon(16);
    for flags in [4, 3, 64] {
        errno_is!(set(base, flags, SIZE), EINVAL);
    }
    ok!(set(base, SS_ONSTACK, SIZE));
}

fn bad_pointer_is_efault() {
    errno_is!(syscall!(SYS_sigaltstack, 8, 0), EFAULT);
    errno_is!(syscall!(SYS_sigaltstack, 0, 8), EFAULT);
}

fn disable_forgets_it() {
    let base = fresh();
    ok!(set(base, SS_DISABLE, SIZE));
    check_eq!(current(), (0, SS_DISABLE, 0));
    handle_with(where_am_i, SIGUSR1, SA_ONSTACK, 0);
    raise_process(SIGUSR1);
    check!(!ran_on(base));
}

fn autodisarm_disarms_and_rearms() {
    let base = anon(SIZE / PAGE);
    ok!(set(base, SS_AUTODISARM, SIZE));
    handle_with(where_am_i, SIGUSR1, SA_ONSTACK, 0);
    raise_process(SIGUSR1);
    check!(ran_on(base));
    check_eq!((FLAGS.load(SeqCst), RESULT.load(SeqCst)), (SS_DISABLE as usize, 0));
    check_eq!(current(), (base, SS_AUTODISARM, SIZE));
}

extern "C" fn raise_again(_signal: i32, _info: *mut siginfo_t, _context: *mut c_void) {
    raise_process(SIGUSR1);
}

fn overflow_of_it_is_sigsegv() {
    let killer = killed_by(|| {
        fresh();
        sys::default_action(SIGSEGV);
        handle_with(raise_again, SIGUSR1, SA_ONSTACK | SA_NODEFER, 0);
        raise_process(SIGUSR1);
    });
    check_eq!(killer, Some(SIGSEGV));
}

extern "C" fn leave(_signal: i32, _info: *mut siginfo_t, _context: *mut c_void) {
    sys::exit_group(0)
}

fn stack_overflow_is_caught_on_it() {
    in_child(|| {
        fresh();
        handle_with(leave, SIGSEGV, SA_ONSTACK, 0);
        let nowhere = free_range(1);
        // SAFETY: the handler runs on its own stack and ends the process.
        unsafe {
            std::arch::asm!("mov rsp, {}", "push rax", "ud2", in(reg) nowhere + PAGE, options(noreturn))
        };
    });
}

fn threads_have_none() {
    fresh();
    // The library gives its threads stacks of their own, so this one is made by hand: a fork that shares memory.
    let child_sees = AtomicUsize::new(0);
    let stack = anon(16) + 16 * PAGE;
    let flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    // SAFETY: the new thread has a stack of its own, asks for its alternate stack there, and ends.
    unsafe {
        std::arch::asm!("syscall", "test rax, rax", "jnz 2f", "sub rsp, 64", "mov eax, {ask}", "xor edi, edi",
            "mov rsi, rsp", "syscall", "mov eax, [rsp + 8]", "mov [r12], rax", "mov eax, {exit}", "xor edi, edi",
            "syscall", "2:", ask = const SYS_sigaltstack, exit = const SYS_exit,
            inlateout("rax") SYS_clone => _, in("rdi") flags, in("rsi") stack, in("rdx") 0, in("r10") 0, in("r8") 0,
            in("r12") &raw const child_sees, out("rcx") _, out("r11") _);
    }
    until("the thread", || child_sees.load(SeqCst) != 0);
    check_eq!(child_sees.load(SeqCst), SS_DISABLE as usize);
}

fn fork_keeps_it() {
    let base = fresh();
    in_child(|| check_eq!(current(), (base, 0, SIZE)));
}

fn exec_forgets_it() {
    in_child(|| {
        fresh();
        super::action::exec_self("signal-stack");
    });
}

/// The program's start-up code may set a stack of its own, but not the one from before.
pub fn helper_stack(_args: &[String]) -> i32 {
    i32::from(current().2 == SIZE)
}
