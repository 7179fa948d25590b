// SPDX-License-Identifier: MPL-2.0

//! Executing programs from a child that borrows its parent's memory.

use super::{Operation, SELF, SELF_TO_EXIT, operations};
use crate::{
    clock::Samples,
    sys::{Result, Stack, check, exec, exit, wait_for, wrong},
};

pub const OPERATIONS: &[Operation] = operations! {
    "vfork_exec", 0, 1, 30, vfork_exec, "`vfork` and `execve`, until the parent goes on";
    "exec_static", 0, 1, 30, run::<{ STATIC }>, "`vfork`, `execve` of a small static program that ends at once, `wait4`";
    "exec_dynamic", 0, 1, 30, run::<{ DYNAMIC }>, "the same with Debian's `true`, which is linked with its libc at run time";
};

const STATIC: bool = false;
const DYNAMIC: bool = true;

/// Ends with a status that a program which was executed does not end with.
extern "C" fn execute_static(_: usize) -> ! {
    exec(SELF, &SELF_TO_EXIT);
    exit(126)
}

extern "C" fn execute_dynamic(_: usize) -> ! {
    exec(c"/usr/bin/true", &[c"true".as_ptr(), std::ptr::null()]);
    exit(126)
}

fn judge(pid: isize, answer: isize, status: i32) -> Result {
    check("vfork", pid)?;
    check("wait4", answer)?;
    if status == 0 { Ok(()) } else { wrong("the program was not executed") }
}

fn vfork_exec(samples: &mut Samples) -> Result {
    let mut stack = Stack::new();
    while samples.wants_more() {
        let pid = samples.time(|| stack.vfork(execute_static, 0));
        let mut status = 0;
        let answer = wait_for(pid, &mut status);
        judge(pid, answer, status)?;
    }
    Ok(())
}

fn run<const DYNAMICALLY: bool>(samples: &mut Samples) -> Result {
    let mut stack = Stack::new();
    let child = if DYNAMICALLY { execute_dynamic } else { execute_static };
    while samples.wants_more() {
        let mut status = 0;
        let (pid, answer) = samples.time(|| {
            let pid = stack.vfork(child, 0);
            (pid, wait_for(pid, &mut status))
        });
        judge(pid, answer, status)?;
    }
    Ok(())
}
