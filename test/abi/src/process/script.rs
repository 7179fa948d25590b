// SPDX-License-Identifier: MPL-2.0

//! Scripts: files that begin with `#!` and name the program that runs them.

use super::*;
use crate::{
    program::{execve, output_of, written_to},
    tmp,
};

pub const CASES: &[Case] = cases!["process/script":
    interpreter_gets_the_scripts_name,
    one_argument_with_its_spaces,
    blanks_around_the_interpreter,
    scripts_nest,
    nesting_ends_with_eloop,
    missing_interpreter_is_enoent,
    empty_line_is_enoexec,
    unreadable_but_executable,
    closed_descriptor_is_enoent,
    long_line,
];

/// A script with this first line.
fn script(line: &str) -> String {
    let (fd, path) = tmp::named_file(line.as_bytes());
    ok!(syscall!(SYS_fchmod, fd, 0o755));
    sys::close(fd);
    path
}

/// This binary under a path without blanks.
fn interpreter() -> String {
    let path = tmp::path();
    ok!(syscall!(SYS_symlink, c"/proc/self/exe".as_ptr(), sys::c_string(&path).as_ptr()));
    path
}

/// What is printed when the script is executed with these arguments after its name.
fn run(path: &str, args: &[&str]) -> String {
    let argv: Vec<_> = ["zero"].iter().chain(args).copied().collect();
    output_of(|| {
        let error = execve(path, &argv, &[]);
        panic!("executing {path} gives {error:?}");
    })
}

/// A script whose interpreter is this binary with `--helper`, which takes the script's path as the role's name, and says
/// that there is no such role: so it tells what it got.
fn told_by_helper(line: &str) -> String {
    let path = script(line);
    let (text, status) = written_to(2, || {
        let error = execve(&path, &["zero", "a"], &[]);
        panic!("executing {path} gives {error:?}");
    });
    check_eq!(exited(status), Some(2));
    text.replace(&path, "PATH")
}

fn interpreter_gets_the_scripts_name() {
    check_eq!(told_by_helper(&format!("#!{} --helper\n", interpreter())), "abi: PATH: no such helper");
    let chain = script(&format!("#!{} --list\n", interpreter()));
    check!(run(&chain, &["process/"]).lines().any(|line| line == "process/fork/fork_copies_memory"));
}

fn one_argument_with_its_spaces() {
    let line = format!("#!{} --no such   option \t\n", interpreter());
    check_eq!(told_by_helper(&line), "abi: --no such   option: no such option");
}

fn blanks_around_the_interpreter() {
    let line = format!("#! \t {}\t --helper\n", interpreter());
    check_eq!(told_by_helper(&line), "abi: PATH: no such helper");
    // The end of the file ends the line, too.
    check_eq!(told_by_helper(&format!("#!{} --helper", interpreter())), "abi: PATH: no such helper");
}

fn scripts_nest() {
    let inner = script(&format!("#!{} --helper\n", interpreter()));
    let told = told_by_helper(&format!("#!{inner}\n"));
    check_eq!(told, format!("abi: {inner}: no such helper"));
}

fn nesting_ends_with_eloop() {
    let path = tmp::path();
    let endless = format!("#!{path}\n");
    let fd = ok!(sys::open(&path, libc::O_CREAT | libc::O_RDWR, 0o755));
    check_eq!(sys::write(fd, endless.as_bytes()), Ok(endless.len()));
    sys::close(fd);
    errno_is!(execve(&path, &["x"], &[]), ELOOP);
    // Five are too many, four are not.
    let mut path = script(&format!("#!{} --list\n", interpreter()));
    for depth in 1..=5 {
        path = script(&format!("#!{path}\n"));
        match depth {
            ..=3 => check!(run(&path, &[]).len() > 100),
            4 => {}
            _ => errno_is!(execve(&path, &["x"], &[]), ELOOP),
        }
    }
}

fn missing_interpreter_is_enoent() {
    errno_is!(execve(&script("#!/none/such\n"), &["x"], &[]), ENOENT);
    errno_is!(execve(&script("#!/dev/null\n"), &["x"], &[]), EACCES);
    errno_is!(execve(&script(&format!("#!{}\n", tmp::dir())), &["x"], &[]), EACCES);
}

fn empty_line_is_enoexec() {
    for line in ["#!\n", "#!   \n", "# !/bin/sh\n"] {
        errno_is!(execve(&script(line), &["x"], &[]), ENOEXEC);
    }
}

fn unreadable_but_executable() {
    let path = script(&format!("#!{} --list\n", interpreter()));
    ok!(syscall!(SYS_chmod, sys::c_string(&path).as_ptr(), 0o111));
    let told = output_of(|| {
        sys::become_unprivileged();
        let error = execve(&path, &["x"], &[]);
        panic!("executing gives {error:?}");
    });
    check!(told.len() > 100);
}

fn closed_descriptor_is_enoent() {
    let path = sys::c_string(&script(&format!("#!{} --list\n", interpreter())));
    let fd = ok!(syscall!(SYS_open, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC, 0));
    let argv = [c"x".as_ptr(), std::ptr::null()];
    errno_is!(syscall!(SYS_execveat, fd, c"".as_ptr(), argv.as_ptr(), 0, libc::AT_EMPTY_PATH), ENOENT);
}

fn long_line() {
    // The interpreter's path must be within the first 256 bytes.
    errno_is!(execve(&script(&format!("#!/{}\n", "n".repeat(300))), &["x"], &[]), ENOEXEC);
    let line = format!("#!{} --{}\n", interpreter(), "o".repeat(300));
    let told = told_by_helper(&line);
    check!(told.starts_with("abi: --ooo") && told.len() < 270, "{told}");
}
