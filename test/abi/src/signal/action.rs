// SPDX-License-Identifier: MPL-2.0

//! rt_sigaction(2): flags, default actions, what survives fork and execve.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use libc::*;

use super::*;
use crate::child::{Child, in_child, killed_by};

pub const CASES: &[Case] = cases!["signal/action":
    handler_runs_with_siginfo,
    old_action_is_told,
    kill_and_stop_cannot_be_changed,
    kill_and_stop_can_be_asked,
    bad_numbers_are_einval,
    bad_set_size_is_einval,
    bad_pointer_is_efault,
    unknown_flags_are_cleared,
    mask_never_holds_kill_and_stop,
    handler_blocks_its_own_signal,
    nodefer_lets_it_nest,
    handler_blocks_its_mask,
    resethand_works_once,
    ignoring_drops_what_is_pending,
    default_ignored_drops_what_is_pending,
    default_actions_that_terminate,
    default_actions_that_do_nothing,
    fork_keeps_handlers_and_drops_pending,
    exec_resets_handlers_and_keeps_ignored,
    exec_keeps_mask_and_pending,
    nocldwait_leaves_no_zombie,
    ignored_sigchld_leaves_no_zombie,
    sigchld_tells_of_exit,
    sigchld_tells_of_a_killing,
];

pub const HELPERS: &[Helper] = &[
    Helper { name: "signal-actions", run: helper_actions },
    Helper { name: "signal-mask", run: helper_mask },
    Helper {
        name: "signal-idle",
        run: |_| loop {
            sys::sleep_us(1_000_000)
        },
    },
    Helper { name: "signal-stack", run: super::stack::helper_stack },
];

/// The kernel's own structure: handler, flags, restorer, mask.
fn raw_action(signal: i32) -> [usize; 4] {
    let mut old = [0; 4];
    ok!(syscall!(SYS_rt_sigaction, signal, 0, old.as_mut_ptr(), 8));
    old
}

fn handler_runs_with_siginfo() {
    handle(SIGUSR1, 0);
    raise_process(SIGUSR1);
    check_eq!(count(SIGUSR1), 1);
    check_eq!(last_code(), SI_USER);
    check_eq!(last_sender(), (sys::getpid(), ok!(syscall!(SYS_getuid)) as u32));
}

fn old_action_is_told() {
    check_eq!(raw_action(SIGUSR1)[0], SIG_DFL);
    handle_with(note, SIGUSR1, SA_RESTART, bit(SIGTERM));
    let [handler, flags, _, mask] = raw_action(SIGUSR1);
    check_eq!(handler, note as *const () as usize);
    check_eq!(flags & (SA_RESTART | SA_SIGINFO) as usize, (SA_RESTART | SA_SIGINFO) as usize);
    check_eq!(mask as u64, bit(SIGTERM));
}

fn kill_and_stop_cannot_be_changed() {
    let action = [SIG_IGN, 0, 0, 0];
    errno_is!(syscall!(SYS_rt_sigaction, SIGKILL, action.as_ptr(), 0, 8), EINVAL);
    errno_is!(syscall!(SYS_rt_sigaction, SIGSTOP, action.as_ptr(), 0, 8), EINVAL);
}

fn kill_and_stop_can_be_asked() {
    check_eq!(raw_action(SIGKILL)[0], SIG_DFL);
    check_eq!(raw_action(SIGSTOP)[0], SIG_DFL);
}

fn bad_numbers_are_einval() {
    for signal in [0, -1, 65, 1000] {
        errno_is!(syscall!(SYS_rt_sigaction, signal, 0, 0, 8), EINVAL);
    }
    ok!(syscall!(SYS_rt_sigaction, 64, 0, 0, 8));
}

fn bad_set_size_is_einval() {
    for size in [0, 4, 16, 128] {
        errno_is!(syscall!(SYS_rt_sigaction, SIGUSR1, 0, 0, size), EINVAL);
    }
}

fn bad_pointer_is_efault() {
    errno_is!(syscall!(SYS_rt_sigaction, SIGUSR1, 8, 0, 8), EFAULT);
    errno_is!(syscall!(SYS_rt_sigaction, SIGUSR1, 0, 8, 8), EFAULT);
}

fn unknown_flags_are_cleared() {
    const SA_UNSUPPORTED: usize = 0x400;
    let action = [SIG_IGN, SA_UNSUPPORTED | SA_NODEFER as usize, 0, 0];
    ok!(syscall!(SYS_rt_sigaction, SIGUSR1, action.as_ptr(), 0, 8));
    check_eq!(raw_action(SIGUSR1)[1], SA_NODEFER as usize);
}

fn mask_never_holds_kill_and_stop() {
    let action = [SIG_IGN, 0, 0, usize::MAX];
    ok!(syscall!(SYS_rt_sigaction, SIGUSR1, action.as_ptr(), 0, 8));
    check_eq!(raw_action(SIGUSR1)[3] as u64, !(bit(SIGKILL) | bit(SIGSTOP)));
}

static DEPTH: AtomicUsize = AtomicUsize::new(0);
static DEEPEST: AtomicUsize = AtomicUsize::new(0);

extern "C" fn nest(signal: i32, _info: *mut siginfo_t, _context: *mut c_void) {
    let depth = DEPTH.fetch_add(1, SeqCst) + 1;
    DEEPEST.fetch_max(depth, SeqCst);
    COUNTS[signal as usize].fetch_add(1, SeqCst);
    if count(SIGUSR1) + count(SIGUSR2) < 3 {
        raise_process(signal);
        raise_process(SIGUSR2);
    }
    DEPTH.fetch_sub(1, SeqCst);
}

fn handler_blocks_its_own_signal() {
    handle_with(nest, SIGUSR1, 0, 0);
    ignore(SIGUSR2);
    raise_process(SIGUSR1);
    check_eq!((count(SIGUSR1), DEEPEST.load(SeqCst)), (3, 1));
    check_eq!(mask(), 0);
}

fn nodefer_lets_it_nest() {
    handle_with(nest, SIGUSR1, SA_NODEFER, 0);
    ignore(SIGUSR2);
    raise_process(SIGUSR1);
    check_eq!((count(SIGUSR1), DEEPEST.load(SeqCst)), (3, 3));
}

fn handler_blocks_its_mask() {
    handle_with(nest, SIGUSR1, 0, bit(SIGUSR2));
    handle_with(nest, SIGUSR2, 0, bit(SIGUSR1));
    raise_process(SIGUSR1);
    check_eq!(DEEPEST.load(SeqCst), 1);
    check!(count(SIGUSR2) >= 1);
}

fn resethand_works_once() {
    handle(SIGUSR1, SA_RESETHAND);
    raise_process(SIGUSR1);
    check_eq!(count(SIGUSR1), 1);
    check_eq!(raw_action(SIGUSR1)[0], SIG_DFL);
}

fn ignoring_drops_what_is_pending() {
    set_mask(bit(SIGUSR1));
    raise_process(SIGUSR1);
    raise_thread(SIGUSR1);
    check_eq!(pending(), bit(SIGUSR1));
    ignore(SIGUSR1);
    check_eq!(pending(), 0);
}

fn default_ignored_drops_what_is_pending() {
    set_mask(bit(SIGURG));
    handle(SIGURG, 0);
    raise_process(SIGURG);
    check_eq!(pending(), bit(SIGURG));
    sys::default_action(SIGURG);
    check_eq!(pending(), 0);
}

fn default_actions_that_terminate() {
    for signal in
        [SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGKILL, SIGUSR1, SIGPIPE, SIGALRM, SIGTERM, SIGIO, SIGSYS, RT, 64]
    {
        check_eq!(
            killed_by(|| {
                if signal != SIGKILL {
                    sys::default_action(signal);
                }
                raise_process(signal);
            }),
            Some(signal)
        );
    }
}

fn default_actions_that_do_nothing() {
    for signal in [SIGCHLD, SIGURG, SIGWINCH, SIGCONT] {
        check_eq!(killed_by(|| raise_process(signal)), None);
    }
}

fn fork_keeps_handlers_and_drops_pending() {
    handle(SIGUSR1, 0);
    set_mask(bit(SIGUSR1) | bit(SIGUSR2));
    raise_process(SIGUSR1);
    in_child(|| {
        check_eq!(pending(), 0);
        check_eq!(mask(), bit(SIGUSR1) | bit(SIGUSR2));
        check_eq!(raw_action(SIGUSR1)[0], note as *const () as usize);
    });
    check_eq!(pending(), bit(SIGUSR1));
}

/// Executes this binary again, in this role.
pub fn exec_self(role: &str) {
    let args = ["abi", "--helper", role].map(sys::c_string);
    let argv = [args[0].as_ptr(), args[1].as_ptr(), args[2].as_ptr(), std::ptr::null()];
    let path = sys::c_string("/proc/self/exe");
    let own = std::env::args().next().map_or(path.clone(), |arg| sys::c_string(&arg));
    let envp = [std::ptr::null::<u8>()];
    let _ = syscall!(SYS_execve, own.as_ptr(), argv.as_ptr(), envp.as_ptr());
    let error = syscall!(SYS_execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr());
    panic!("execve gives {error:?}");
}

fn exec_resets_handlers_and_keeps_ignored() {
    in_child(|| {
        handle(SIGUSR1, SA_RESTART);
        ignore(SIGUSR2);
        exec_self("signal-actions");
    });
}

fn helper_actions(_args: &[String]) -> i32 {
    let good = raw_action(SIGUSR1)[0] == SIG_DFL && raw_action(SIGUSR2)[0] == SIG_IGN;
    i32::from(!good)
}

fn exec_keeps_mask_and_pending() {
    in_child(|| {
        set_mask(bit(SIGUSR1));
        raise_process(SIGUSR1);
        exec_self("signal-mask");
    });
}

fn helper_mask(_args: &[String]) -> i32 {
    i32::from(mask() != bit(SIGUSR1) || pending() != bit(SIGUSR1))
}

fn nocldwait_leaves_no_zombie() {
    handle(SIGCHLD, SA_NOCLDWAIT);
    let child = Child::spawn(|| {});
    errno_is!(sys::wait4(child.pid, 0), ECHILD);
    until("SIGCHLD", || count(SIGCHLD) == 1);
}

fn ignored_sigchld_leaves_no_zombie() {
    ignore(SIGCHLD);
    let child = Child::spawn(|| {});
    errno_is!(sys::wait4(child.pid, 0), ECHILD);
}

fn sigchld_tells_of_exit() {
    handle(SIGCHLD, 0);
    let child = Child::spawn(|| sys::exit_group(7));
    until("SIGCHLD", || count(SIGCHLD) == 1);
    check_eq!((last_code(), last_sender().0), (CLD_EXITED, child.pid));
    check_eq!(WEXITSTATUS(child.wait()), 7);
}

fn sigchld_tells_of_a_killing() {
    handle(SIGCHLD, 0);
    let child = Child::spawn(|| raise_process(SIGKILL));
    until("SIGCHLD", || count(SIGCHLD) == 1);
    check_eq!((last_code(), last_sender().0), (CLD_KILLED, child.pid));
    check_eq!(WTERMSIG(child.wait()), SIGKILL);
}
