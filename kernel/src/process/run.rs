// SPDX-License-Identifier: MPL-2.0

//! The life of a thread: user mode, and what brings it into the kernel.
//!
//! ```text
//! ┌► user mode ──► system call │ exception │ interrupt with something pending
//! │                    ▼            ▼            ▼
//! └── registers ◄── signals are delivered, the thread stops or ends here
//! ```

use ostd::{
    arch::cpu::context::UserContext,
    irq::DisabledLocalIrqGuard,
    task::{Task, TaskOptions},
    user::{ReturnReason, UserMode, UserModeHooks},
};

use crate::{
    prelude::*,
    process::{TaskData, ThreadLocal, exit, local},
    sched, signal, syscall,
};

/// Makes the task that runs `thread` in user mode with the given registers. It does not run yet.
///
/// # Errors
///
/// `ENOMEM` if there is no memory for a kernel stack.
pub fn build(thread: Arc<Thread>, local: ThreadLocal, registers: UserContext) -> Result<Arc<Task>> {
    let task = TaskOptions::new(move || run(registers))
        .data(TaskData::User(thread))
        .local_data(local)
        .build()
        .map_err(|_| ENOMEM)?;
    Ok(Arc::new(task))
}

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
    }
}

/// Whether the thread has something to do before it returns to user mode.
fn needs_attention(thread: &Thread) -> bool {
    thread.must_exit.load(Ordering::Relaxed) || signal::has_pending(thread) || !sched::is_at_home(thread)
}

fn run(registers: UserContext) {
    let Some(task) = Task::current() else { return };
    let (Some(thread), Some(local)) = (Thread::of(&task), local::of(&task)) else { return };
    let mut user = UserMode::new(registers);
    let hooks = Hooks { thread, local };

    let set_child_tid = thread.set_child_tid.swap(0, Ordering::Relaxed);
    if set_child_tid != 0 {
        // As Linux does, a bad address is the program's own fault.
        let _ = local.vm().write_val(set_child_tid, &thread.tid());
    }

    while !thread.must_exit.load(Ordering::Relaxed) {
        let reason = user.execute(&hooks);
        let vm = local.vm();
        let ctx = Ctx { thread, process: thread.process(), local, vm: &vm };
        let interrupted = match reason {
            ReturnReason::UserSyscall => syscall::handle(&ctx, user.context_mut()),
            ReturnReason::UserException => {
                if let Some(exception) = user.context_mut().take_exception() {
                    crate::mm::fault::handle_exception(&ctx, &exception, user.context());
                }
                None
            }
            ReturnReason::KernelEvent => None,
        };
        drop(vm);
        if interrupted.is_some() || needs_attention(thread) {
            let vm = local.vm();
            let ctx = Ctx { thread, process: thread.process(), local, vm: &vm };
            signal::deliver(&ctx, user.context_mut(), interrupted);
            sched::migrate_current(thread);
        }
    }
    exit::thread_exited(thread, local);
}
