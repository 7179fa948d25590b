// SPDX-License-Identifier: MPL-2.0

//! `execve(2)` and `execveat(2)`.

use linux_raw_sys::general::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW};
use ostd::arch::cpu::context::UserContext;

use crate::{
    fs::{CloseOnExec, open::lookup_from},
    prelude::*,
    process::exec::{Budget, ExecRequest, Strings, exec},
};

/// `execve(2)`.
pub fn sys_execve(ctx: &Ctx, registers: &mut UserContext, arguments: [usize; 6]) -> Result<Option<usize>> {
    let [path, argv, envp, ..] = arguments;
    run(ctx, registers, AT_FDCWD, path, [argv, envp], 0)
}

/// `execveat(2)`.
pub fn sys_execveat(ctx: &Ctx, registers: &mut UserContext, arguments: [usize; 6]) -> Result<Option<usize>> {
    let [dir, path, argv, envp, flags, _] = arguments;
    if flags as u32 & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(EINVAL);
    }
    run(ctx, registers, dir as i32, path, [argv, envp], flags as u32)
}

fn run(
    ctx: &Ctx,
    registers: &mut UserContext,
    dir: i32,
    path: Vaddr,
    [argv, envp]: [Vaddr; 2],
    flags: u32,
) -> Result<Option<usize>> {
    let path = ctx.vm.read_path(path)?.into_bytes();
    if path.is_empty() && flags & AT_EMPTY_PATH == 0 {
        return Err(ENOENT);
    }
    let is_relative = path.first() != Some(&b'/');
    let (base, display_path, path_vanishes) = if dir == AT_FDCWD || !is_relative {
        (ctx.fs().cwd(), path.clone(), false)
    } else {
        let files = ctx.files();
        let base = files.get(dir)?.path().clone();
        let display = match path.is_empty() {
            true => format!("/dev/fd/{dir}").into_bytes(),
            false => [format!("/dev/fd/{dir}/").as_bytes(), &path].concat(),
        };
        (base, display, files.is_close_on_exec(dir)? == CloseOnExec::Yes)
    };
    let mut budget = Budget::new(&ctx.process.rlimits);
    let argv = Strings::read(ctx.vm, argv, &mut budget)?;
    let envp = Strings::read(ctx.vm, envp, &mut budget)?;
    let no_follow = flags & AT_SYMLINK_NOFOLLOW != 0;
    let lookup = lookup_from(base);
    let request = ExecRequest { lookup, path, path_vanishes, no_follow, display_path, argv, envp };
    exec(ctx, registers, request)?;
    Ok(None)
}
