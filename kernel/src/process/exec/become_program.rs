// SPDX-License-Identifier: MPL-2.0

//! The point of no return: the calling thread becomes the new program.

use linux_raw_sys::general::SIGCHLD;
use ostd::{arch::cpu::context::UserContext, user::UserContextApi};

use super::{Gain, NewProgram};
use crate::{
    fs::{
        File,
        mount::MountFlags,
        types::{S_ISGID, S_ISUID},
    },
    futex::Leaving,
    prelude::*,
    process::{Credentials, ThreadName, credentials::CapSet, exit, exit_hooks, ptrace, table},
    wait::wait_killable,
};

/// The group's permission to execute; without it the set-group-ID bit means something else.
const S_IXGRP: u16 = 0o010;

/// Ends all other threads of the process, and takes over its number.
///
/// # Errors
///
/// `EAGAIN` if another thread is doing the same; `EINTR` if the process is being ended. Either way this thread ends too.
pub(super) fn end_other_threads(ctx: &Ctx) -> Result<()> {
    let process = ctx.process;
    if process.thread_count() == 1 && ctx.thread.tid() == process.pid() {
        return Ok(());
    }
    if process.is_in_exec.swap(true, Ordering::AcqRel) {
        return Err(EAGAIN);
    }
    process.with_threads(|threads| {
        for thread in threads.iter().filter(|thread| !Arc::ptr_eq(thread, ctx.thread)) {
            thread.must_exit.store(true, Ordering::Relaxed);
            thread.interrupt();
        }
    });
    let alone = wait_killable(&process.thread_exits, || (process.thread_count() == 1).then_some(()));
    if alone.is_ok() && ctx.thread.tid() != process.pid() {
        let old = table::with(|table| {
            let renamed = table.rename_thread(ctx.thread, process.pid());
            (renamed, ptrace::first_thread_replaced(table, ctx.thread))
        });
        drop(old);
    }
    process.is_in_exec.store(false, Ordering::Release);
    alone
}

/// Makes the calling thread, which is alone in its process, run `program`. Answers the registers to start with.
pub(super) fn commit(ctx: &Ctx, program: NewProgram) -> UserContext {
    let registers = registers_for(&program);
    let NewProgram { vm, exe, name, credentials, .. } = program;
    let (thread, process) = (ctx.thread, ctx.process);

    crate::futex::thread_leaves(thread, ctx.vm, Leaving::Exec);
    exit_hooks::clear_child_tid(thread, ctx.vm);

    // The order matters: a vfork parent goes on only when nothing of it is in use any more.
    let old = process.set_vm(Some(vm.clone()));
    if let Some(old) = &old {
        let mut times = process.times.lock();
        times.own.max_rss_kib = times.own.max_rss_kib.max(old.peak_rss_kib());
    }
    ctx.local.set_vm(vm);
    ctx.local.reset();
    drop(old);
    exit::release_vfork_parent(process);

    let files = thread.files();
    // One for the thread, one for this function: more, and somebody else sees the table.
    let files = match Arc::strong_count(&files) {
        0..=2 => Some(files),
        _ => {
            let own = files.fork().ok().map(Arc::new);
            drop(thread.set_files(own.clone()));
            own
        }
    };
    match files {
        Some(files) => files.close_on_exec(),
        // The old program is gone, and the new one cannot be: as Linux does, the process is ended.
        None => exit::kill(process),
    }

    process.signals.reset_for_exec();
    process.timers.reset_for_exec();
    thread.signals.reset_for_exec();
    process.set_exe(Some(exe));
    thread.set_name(ThreadName::new(&name));
    let same_user = (credentials.uid, credentials.gid) == (credentials.euid, credentials.egid);
    process.dumpable.store(same_user, Ordering::Relaxed);
    if !same_user {
        thread.parent_death_signal.store(0, Ordering::Relaxed);
    }
    thread.set_credentials(match Gain::for_thread(thread) {
        Gain::Allowed => credentials,
        // A tracer may have come since the program was prepared.
        Gain::Forbidden => without_gain(&thread.credentials(), credentials),
    });
    process.exit_signal.store(SIGCHLD, Ordering::Relaxed);
    process.has_execed.store(true, Ordering::Relaxed);
    registers
}

/// The registers that `program` starts with.
pub(super) fn registers_for(program: &NewProgram) -> UserContext {
    let mut registers = UserContext::default();
    registers.set_instruction_pointer(program.entry);
    registers.set_stack_pointer(program.stack);
    registers
}

/// The credentials after running `file`: its set-user-ID and set-group-ID bits, and what becomes of capabilities
/// (capabilities(7), for files without capabilities of their own).
pub(super) fn credentials_for(old: &Credentials, file: &File, gain: Gain) -> Credentials {
    let mut new = old.clone();
    let metadata = file.inode().metadata();
    let may_gain = !old.no_new_privs && !file.path().mount().flags().contains(MountFlags::NOSUID);
    if may_gain && metadata.mode & S_ISUID != 0 {
        new.euid = metadata.uid;
    }
    if may_gain && metadata.mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP {
        new.egid = metadata.gid;
    }
    (new.suid, new.fsuid) = (new.euid, new.euid);
    (new.sgid, new.fsgid) = (new.egid, new.egid);
    let is_root = new.euid == 0 || new.uid == 0;
    new.permitted = if is_root { new.inheritable | new.bounding } else { CapSet::empty() };
    new.effective = if new.euid == 0 { new.permitted } else { CapSet::empty() };
    new.keep_caps = false;
    if gain == Gain::Forbidden { without_gain(old, new) } else { new }
}

/// `new` with no more rights than `old` has (ptrace(2), "execve(2) under ptrace").
fn without_gain(old: &Credentials, mut new: Credentials) -> Credentials {
    if (new.euid, new.egid) == (old.euid, old.egid) && old.permitted.contains(new.permitted) {
        return new;
    }
    if !old.has(CapSet::SETUID) {
        (new.euid, new.egid) = (new.uid, new.gid);
        (new.suid, new.fsuid) = (new.euid, new.euid);
        (new.sgid, new.fsgid) = (new.egid, new.egid);
    }
    new.permitted &= old.permitted;
    new.effective &= new.permitted;
    new
}
