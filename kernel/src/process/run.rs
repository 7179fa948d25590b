// SPDX-License-Identifier: MPL-2.0

//! The life of a thread: user mode, and what brings it into the kernel.
//!
//! ```text
//! ┌► user mode ──► system call │ exception │ interrupt with something pending
//! │                    ▼            ▼            ▼
//! └── registers ◄── signals are delivered, the thread stops or ends here
//! ```

use linux_raw_sys::general::SIGSEGV;
use ostd::{
    arch::cpu::context::UserContext,
    irq::DisabledLocalIrqGuard,
    user::{ReturnReason, UserMode, UserModeHooks},
};

use crate::{
    prelude::*,
    process::{ThreadLocal, exit, ptrace, rseq},
    sched,
    signal::{self, Interrupted, SigInfo},
    syscall,
};

struct Hooks<'a> {
    thread: &'a Thread,
    local: &'a ThreadLocal,
}

impl UserModeHooks for Hooks<'_> {
    fn has_kernel_event(&self) -> bool {
        needs_attention(self.thread)
    }

    fn pre_user_run(&self, guard: &DisabledLocalIrqGuard) {
        self.local.load(guard);
        if self.thread.is_disturbed.load(Ordering::Relaxed) {
            self.local.settle_rseq_late(self.thread, guard);
        }
    }
}

/// Whether the thread has something to do before it returns to user mode.
fn needs_attention(thread: &Thread) -> bool {
    signal::has_pending(thread) || !sched::is_at_home(thread) || thread.is_disturbed.load(Ordering::Relaxed)
}

/// Does what must be done before the thread returns to user mode.
#[cold]
#[inline(never)]
fn attend(ctx: &Ctx, registers: &mut UserContext, mut interrupted: Option<Interrupted>) {
    if ctx.local.take_exit_due() {
        ptrace::report::call_exits(ctx, registers, &mut interrupted);
    }
    loop {
        signal::deliver(ctx, registers, interrupted.take());
        sched::migrate_current(ctx.thread);
        let is_disturbed = ctx.thread.is_disturbed.load(Ordering::Relaxed);
        if ctx.thread.must_exit.load(Ordering::Relaxed) {
            return;
        }
        if !is_disturbed {
            ctx.local.forget_call();
            return;
        }
        if rseq::settle(ctx, registers).is_err() {
            signal::force(ctx.thread, SigInfo::kernel(SIGSEGV as u8));
        }
    }
}

/// Runs `thread` in user mode, with the given registers at first, until it has ended. `local` is what the calling task has for it.
pub(super) fn run(thread: &Arc<Thread>, local: &ThreadLocal, registers: UserContext) {
    let mut user = UserMode::new(registers);
    let hooks = Hooks { thread, local };

    let set_child_tid = thread.set_child_tid.swap(0, Ordering::Relaxed);
    if set_child_tid != 0 {
        // As Linux does, a bad address is the program's own fault.
        let _ = local.vm().write_val(set_child_tid, &thread.tid());
    }

    while !thread.must_exit.load(Ordering::Relaxed) {
        let vm = local.vm();
        run_in_space(&Ctx { thread, process: thread.process(), local, vm: &vm }, &mut user, &hooks);
    }
    report_exit(thread, local, user.context_mut());
    exit::thread_exited(thread, local);
}

/// Lets a tracer see the thread before it ends.
#[inline(never)]
fn report_exit(thread: &Arc<Thread>, local: &ThreadLocal, registers: &mut UserContext) {
    if thread.tracing.is_traced() {
        let vm = local.vm();
        ptrace::report::exits(&Ctx { thread, process: thread.process(), local, vm: &vm }, registers);
    }
}

/// Runs the thread until it must end or is in another address space.
fn run_in_space(ctx: &Ctx, user: &mut UserMode, hooks: &Hooks<'_>) {
    let Ctx { thread, local, .. } = ctx;
    let mut interrupted = None;
    local.settle_in_space();
    while !local.has_moved() {
        if interrupted.is_some() || needs_attention(thread) {
            attend(ctx, user.context_mut(), interrupted.take());
            if thread.must_exit.load(Ordering::Relaxed) {
                return;
            }
        }
        match user.execute(hooks) {
            ReturnReason::UserSyscall => interrupted = syscall::handle(ctx, user.context_mut()),
            ReturnReason::UserException => {
                if let Some(exception) = user.context_mut().take_exception()
                    && !local.return_from_astray()
                {
                    crate::mm::fault::handle_exception(ctx, &exception, user.context());
                }
            }
            ReturnReason::KernelEvent => {
                local.return_from_astray();
            }
        }
    }
}
