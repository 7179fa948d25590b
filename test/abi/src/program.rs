// SPDX-License-Identifier: MPL-2.0

//! Executing programs: this binary in one of its roles, above all, and reading what it prints.

use libc::O_CLOEXEC;

use crate::{child::Child, sys};

/// A NUL-terminated array of strings, as execve takes it.
pub fn strings(list: &[std::ffi::CString]) -> Vec<*const libc::c_char> {
    list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Calls execve(2).
pub fn execve(path: &str, argv: &[&str], envp: &[&str]) -> sys::Result {
    let argv: Vec<_> = argv.iter().map(|arg| sys::c_string(arg)).collect();
    let envp: Vec<_> = envp.iter().map(|arg| sys::c_string(arg)).collect();
    let path = sys::c_string(path);
    syscall!(SYS_execve, path.as_ptr(), strings(&argv).as_ptr(), strings(&envp).as_ptr())
}

/// Goes on as this binary in a role.
pub fn become_role(role: &[&str], envp: &[&str]) -> ! {
    let argv: Vec<_> = ["abi", "--helper"].iter().chain(role).copied().collect();
    let error = execve("/proc/self/exe", &argv, envp);
    panic!("executing /proc/self/exe gives {error:?}");
}

/// What `body`, which becomes another program in a new child, prints.
pub fn output_of(body: impl FnOnce()) -> String {
    let (text, status) = written_to(1, body);
    check_eq!(status, 0);
    text
}

/// What `body`, which becomes another program in a new child, writes to a descriptor, and its wait status.
pub fn written_to(fd: i32, body: impl FnOnce()) -> (String, i32) {
    let (reader, writer) = ok!(sys::pipe(O_CLOEXEC));
    let child = Child::spawn(|| {
        ok!(syscall!(SYS_dup2, writer, fd));
        body();
        panic!("nothing was executed");
    });
    sys::close(writer);
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match ok!(sys::read(reader, &mut part)) {
            0 => break,
            count => text.extend_from_slice(&part[..count]),
        }
    }
    sys::close(reader);
    (String::from_utf8_lossy(&text).trim().to_string(), child.wait())
}

/// What the copy of this binary at `path` prints in a role, executed after `before` in a new child.
pub fn output(path: &str, role: &[&str], envp: &[&str], before: impl FnOnce()) -> String {
    let argv: Vec<_> = ["abi", "--helper"].iter().chain(role).copied().collect();
    output_of(|| {
        before();
        let error = execve(path, &argv, envp);
        panic!("executing {path} gives {error:?}");
    })
}

/// What this binary prints in a role, executed after `before` in a new child.
pub fn role(role: &[&str], before: impl FnOnce()) -> String {
    output("/proc/self/exe", role, &[], before)
}
