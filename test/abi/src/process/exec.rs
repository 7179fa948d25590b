// SPDX-License-Identifier: MPL-2.0

//! execve(2): what the new program finds, what stays of the old one, and what is refused.
//!
//! The cases execute this binary again in a role that prints what it finds.

use libc::{O_CLOEXEC, O_RDONLY, O_RDWR, O_WRONLY, SIGSEGV, SIGUSR1, SIGUSR2};

use super::*;
use crate::{
    child::{Turn, in_child},
    mem::free_range,
    program::{become_role, execve, output, output_of, role, strings},
    tmp,
};

pub const CASES: &[Case] = cases!["process/exec":
    arguments_and_environment,
    many_arguments,
    identity_stays,
    signal_dispositions,
    pending_signals_and_mask_stay,
    folder_mask_and_limits_stay,
    name_is_the_files,
    cloexec_closes_and_the_rest_stays,
    shared_descriptor_table_is_left,
    children_stay_children,
    exec_by_another_thread_takes_the_pid,
    exec_ends_the_other_threads,
    exec_after_vfork_lets_the_parent_go,
    auxv_tells,
    missing_and_forbidden,
    wrong_format_is_enoexec,
    entry_that_no_program_can_have,
    too_much_is_e2big,
    bad_pointers_are_efault,
    failed_exec_changes_nothing,
    busy_text,
    own_program_through_proc,
];

pub const HELPERS: &[Helper] = &[
    Helper { name: "process/arguments", run: print_arguments },
    Helper { name: "process/ids", run: print_ids },
    Helper { name: "process/state", run: print_state },
    Helper { name: "process/signals", run: print_signals },
    Helper { name: "process/open", run: print_open },
    Helper { name: "process/auxv", run: print_auxv },
    Helper { name: "process/wait", run: wait_for_one },
    Helper { name: "process/nothing", run: |_| 0 },
    Helper { name: "process/sleep", run: say_and_sleep },
    Helper { name: "process/rseq", run: rseq::say_registered },
];

/// Makes an executable file.
fn executable(content: &[u8], mode: u32) -> String {
    let (fd, path) = tmp::named_file(content);
    ok!(syscall!(SYS_fchmod, fd, mode));
    sys::close(fd);
    path
}

fn print_arguments(args: &[String]) -> i32 {
    let mut environment: Vec<_> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    environment.sort();
    println!("{args:?} {environment:?}");
    0
}

fn arguments_and_environment() {
    let told =
        output("/proc/self/exe", &["process/arguments", "a", "", "b c"], &["X=1", "Y=two words"], || {});
    check_eq!(told, r#"["a", "", "b c"] ["X=1", "Y=two words"]"#);
    check_eq!(role(&["process/arguments"], || {}), "[] []");
}

fn many_arguments() {
    let long = "x".repeat(100_000);
    let args: Vec<_> = ["process/arguments"].into_iter().chain((0..10).map(|_| long.as_str())).collect();
    let told = role(&args, || {});
    check_eq!(told.len(), 10 * 100_000 + 10 * 4 + 3);
}

fn print_ids(_: &[String]) -> i32 {
    let mut ids = [0_u32; 6];
    ok!(syscall!(SYS_getresuid, &raw mut ids[0], &raw mut ids[1], &raw mut ids[2]));
    ok!(syscall!(SYS_getresgid, &raw mut ids[3], &raw mut ids[4], &raw mut ids[5]));
    let ids: Vec<_> = ids.iter().map(u32::to_string).collect();
    println!("{} secure={}", ids.join(" "), aux(libc::AT_SECURE));
    0
}

fn print_state(_: &[String]) -> i32 {
    let cwd = std::env::current_dir().unwrap_or_default();
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    println!(
        "{} {} {} {} {} {:o} {:?} {}",
        sys::getpid(),
        gettid(),
        ok!(syscall!(SYS_getppid)),
        ok!(syscall!(SYS_getpgid, 0)),
        ok!(syscall!(SYS_getsid, 0)),
        ok!(syscall!(SYS_umask, 0)),
        cwd,
        comm.trim(),
    );
    0
}

fn identity_stays() {
    let told = crate::child::shared_words();
    let line = role(&["process/state"], || {
        ok!(sys::setpgid(0, 0));
        told[0].store(sys::getpid() as usize, SeqCst);
    });
    let (pid, parent) = (told[0].load(SeqCst), sys::getpid());
    let session = ok!(syscall!(SYS_getsid, 0));
    check!(line.starts_with(&format!("{pid} {pid} {parent} {pid} {session} ")), "{line}");
}

fn print_signals(_: &[String]) -> i32 {
    let state = |signal: i32| {
        let mut action = [0_usize; 4];
        ok!(syscall!(SYS_rt_sigaction, signal, 0, action.as_mut_ptr(), 8));
        action[0]
    };
    let (mut pending, mut mask) = (0_u64, 0_u64);
    ok!(syscall!(SYS_rt_sigpending, &raw mut pending, 8));
    ok!(syscall!(SYS_rt_sigprocmask, 0, 0, &raw mut mask, 8));
    println!("{} {} pending={pending:x} mask={mask:x}", state(SIGUSR1), state(SIGUSR2));
    0
}

fn signal_dispositions() {
    let told = role(&["process/signals"], || {
        ignore(SIGUSR1);
        interrupt_with(SIGUSR2);
    });
    check_eq!(told, "1 0 pending=0 mask=0");
}

fn pending_signals_and_mask_stay() {
    let told = role(&["process/signals"], || {
        block(SIGUSR1);
        ok!(sys::kill(sys::getpid(), SIGUSR1));
    });
    let bit = 1 << (SIGUSR1 - 1);
    check_eq!(told, format!("0 0 pending={bit:x} mask={bit:x}"));
}

fn folder_mask_and_limits_stay() {
    let dir = tmp::dir();
    let told = role(&["process/state"], || {
        ok!(syscall!(SYS_chdir, sys::c_string(&dir).as_ptr()));
        ok!(syscall!(SYS_umask, 0o123));
    });
    check!(told.contains(&format!(" 123 {dir:?} ")), "{told}");
}

fn name_is_the_files() {
    let dir = tmp::dir();
    let path = format!("{dir}/a-long-program-name");
    if let Err(error) = std::fs::copy("/proc/self/exe", &path) {
        panic!("copying /proc/self/exe: {error}");
    }
    ok!(syscall!(SYS_chmod, sys::c_string(&path).as_ptr(), 0o755));
    let told = output(&path, &["process/state"], &[], || {});
    check!(told.ends_with(" a-long-program-"), "{told}");
}

fn print_open(args: &[String]) -> i32 {
    let open = |arg: &String| {
        let fd: i32 = arg.parse().unwrap_or(-1);
        let mut byte = [b'-'];
        match sys::read(fd, &mut byte) {
            Ok(_) => char::from(byte[0]),
            Err(_) => 'x',
        }
    };
    println!("{}", args.iter().map(open).collect::<String>());
    0
}

fn cloexec_closes_and_the_rest_stays() {
    let (fd, path) = tmp::named_file(b"0123456789");
    let told = role(&["process/open", "200", "201", "202"], || {
        let plain = ok!(sys::open(&path, O_RDONLY, 0));
        ok!(syscall!(SYS_lseek, plain, 4, libc::SEEK_SET));
        ok!(syscall!(SYS_dup2, plain, 200));
        ok!(syscall!(SYS_dup3, fd, 201, O_CLOEXEC));
        ok!(syscall!(SYS_dup2, plain, 202));
        ok!(syscall!(SYS_fcntl, 202, libc::F_SETFD, libc::FD_CLOEXEC));
    });
    check_eq!(told, "4xx");
}

fn shared_descriptor_table_is_left() {
    let fd = tmp::file(b"content");
    let (reader, writer) = ok!(sys::pipe(O_CLOEXEC));
    let flags = libc::CLONE_FILES | libc::SIGCHLD;
    match ok!(syscall!(SYS_clone, flags, 0, 0, 0, 0)) {
        0 => become_role(&["process/nothing"], &[]),
        pid => {
            ok!(sys::wait4(pid as i32, 0));
        }
    }
    // Closing at the child's exec has closed nothing here.
    check_eq!(sys::write(writer, b"x"), Ok(1));
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
    check_eq!(sys::pread(fd, &mut [0; 9], 0), Ok(7));
}

fn wait_for_one(_: &[String]) -> i32 {
    println!("{:?}", sys::wait4(-1, 0).map(|(_, status)| status));
    0
}

fn children_stay_children() {
    let told = role(&["process/wait"], || {
        let _ = Child::spawn(|| {
            sys::sleep_us(20_000);
            sys::exit_group(2);
        });
    });
    check_eq!(told, "Ok(512)");
}

fn exec_by_another_thread_takes_the_pid() {
    let told = crate::child::shared_words();
    let line = role(&["process/state"], || {
        told[0].store(sys::getpid() as usize, SeqCst);
        let thread = std::thread::spawn(|| {
            told[1].store(gettid() as usize, SeqCst);
            become_role(&["process/state"], &[]);
        });
        let _ = thread.join();
    });
    let (pid, tid) = (told[0].load(SeqCst), told[1].load(SeqCst));
    check!(pid != tid);
    check!(line.starts_with(&format!("{pid} {pid} ")), "{line}");
}

fn exec_ends_the_other_threads() {
    let words = crate::child::shared_words();
    let told = role(&["process/arguments", "done"], || {
        let turn = Turn::new();
        for _ in 0..4 {
            std::thread::spawn(|| {
                loop {
                    words[0].fetch_add(1, SeqCst);
                    sys::sleep_us(500);
                }
            });
        }
        turn.post();
        await_word(&words[0]);
    });
    check_eq!(told, r#"["done"] []"#);
    let count = words[0].load(SeqCst);
    sys::sleep_us(10_000);
    check_eq!(words[0].load(SeqCst), count, "a thread lives on");
}

fn say_and_sleep(_: &[String]) -> i32 {
    let _ = sys::write(1, b".");
    sys::sleep_us(10_000_000);
    0
}

fn exec_after_vfork_lets_the_parent_go() {
    let (reader, writer) = ok!(sys::pipe(O_CLOEXEC));
    let exe = sys::c_string("/proc/self/exe");
    let args: Vec<_> = ["abi", "--helper", "process/sleep"].map(sys::c_string).into();
    let (argv, envp) = (strings(&args), [0_usize]);
    let top = crate::mem::anon(16) + 16 * 4096 - 64;
    extern "C" fn child(body: *mut libc::c_void) -> i32 {
        // SAFETY: a reference to a closure of the parent, which waits.
        unsafe { (*body.cast::<&dyn Fn()>())() };
        1
    }
    let body = || {
        let _ = syscall!(SYS_dup2, writer, 1);
        let _ = syscall!(SYS_execve, exe.as_ptr(), argv.as_ptr(), envp.as_ptr());
    };
    let mut body: &dyn Fn() = &body;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child makes two system calls on a stack of its own.
    let pid = unsafe { libc::clone(child, top as *mut libc::c_void, flags, (&raw mut body).cast()) };
    check!(pid > 0);
    // The parent goes on while the new program sleeps.
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
    check_eq!(sys::wait4(pid, libc::WNOHANG), Ok((0, 0)));
    ok!(sys::kill(pid, libc::SIGKILL));
    check_eq!(sys::wait4(pid, 0), Ok((pid, libc::SIGKILL)));
}

fn aux(kind: u64) -> u64 {
    // SAFETY: reads what the kernel put on the stack.
    unsafe { libc::getauxval(kind) }
}

fn print_auxv(_: &[String]) -> i32 {
    let name = aux(libc::AT_EXECFN) as *const libc::c_char;
    // SAFETY: the kernel says that a string is there.
    let name = unsafe { std::ffi::CStr::from_ptr(name) }.to_string_lossy().into_owned();
    let ids = [libc::AT_UID, libc::AT_EUID, libc::AT_GID, libc::AT_EGID].map(aux);
    println!(
        "{name} {ids:?} page={} tick={} secure={} random={} phent={} entry={}",
        aux(libc::AT_PAGESZ),
        aux(libc::AT_CLKTCK),
        aux(libc::AT_SECURE),
        aux(libc::AT_RANDOM) != 0,
        aux(libc::AT_PHENT),
        aux(libc::AT_ENTRY) != 0 && aux(libc::AT_PHNUM) > 0 && aux(libc::AT_PHDR) != 0,
    );
    0
}

fn auxv_tells() {
    let told = role(&["process/auxv"], || {
        ok!(syscall!(SYS_setresgid, 7, 7, 7));
        ok!(syscall!(SYS_setresuid, 5, 5, 5));
    });
    let rest = "page=4096 tick=100 secure=0 random=true phent=56 entry=true";
    check_eq!(told, format!("/proc/self/exe [5, 5, 7, 7] {rest}"));
}

fn missing_and_forbidden() {
    let path = executable(b"#!/bin/sh\n", 0o644);
    errno_is!(execve(&tmp::path(), &["x"], &[]), ENOENT);
    errno_is!(execve("", &["x"], &[]), ENOENT);
    errno_is!(execve(&path, &["x"], &[]), EACCES);
    errno_is!(execve(&tmp::dir(), &["x"], &[]), EACCES);
    errno_is!(execve("/dev/null", &["x"], &[]), EACCES);
    errno_is!(execve(&format!("{path}/x"), &["x"], &[]), ENOTDIR);
    errno_is!(execve(&"n".repeat(300), &["x"], &[]), ENAMETOOLONG);
    let link = tmp::path();
    ok!(syscall!(SYS_symlink, sys::c_string(&link).as_ptr(), sys::c_string(&link).as_ptr()));
    errno_is!(execve(&link, &["x"], &[]), ELOOP);
    let own = executable(b"#!/bin/sh\n", 0o700);
    sys::become_unprivileged();
    errno_is!(execve(&own, &["x"], &[]), EACCES);
}

fn wrong_format_is_enoexec() {
    for content in [&b""[..], b"x", b"hello, world\n", b"\x7fELF", &[0x7f; 200], &[0; 4096]] {
        errno_is!(execve(&executable(content, 0o755), &["x"], &[]), ENOEXEC);
    }
    // An ELF header of another machine.
    let mut header = [0_u8; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (header[16], header[18]) = (2, 0xf3);
    errno_is!(execve(&executable(&header, 0o755), &["x"], &[]), ENOEXEC);
}

/// A program of one segment that starts at `entry`.
fn program_at(entry: u64) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const SIZE: u64 = 64 + 56;
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [entry, 64, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for half in [0_u16, 0, 64, 56, 1, 0, 0, 0] {
        bytes.extend_from_slice(&half.to_le_bytes());
    }
    // PT_LOAD, to be read and executed.
    for word in [1 | 5 << 32, 0, BASE, BASE, SIZE, SIZE, 4096] {
        bytes.extend_from_slice(&u64::to_le_bytes(word));
    }
    bytes
}

/// Linux finds out when the old program is gone, and then ends the process.
fn entry_that_no_program_can_have() {
    for entry in [1 << 63, 1 << 47, (1 << 47) - 4096, u64::MAX] {
        let path = executable(&program_at(entry), 0o755);
        let child = Child::spawn(|| {
            errno_is!(execve(&path, &[], &[]), EINVAL);
            ok!(sys::kill(sys::getpid(), SIGSEGV));
        });
        check_eq!(killed(child.wait()), Some(SIGSEGV), "{entry:#x}");
    }
}

fn too_much_is_e2big() {
    // One string may have 32 pages with its NUL.
    let long = "x".repeat(32 * 4096);
    errno_is!(execve("/proc/self/exe", &["abi", &long], &[]), E2BIG);
    errno_is!(execve("/proc/self/exe", &["abi"], &[&long]), E2BIG);
    // All together a quarter of the stack's limit.
    let hard = ok!(sys::getrlimit(libc::RLIMIT_STACK)).1;
    ok!(sys::setrlimit(libc::RLIMIT_STACK, 1 << 20, hard));
    let part = "x".repeat(100_000);
    errno_is!(execve("/proc/self/exe", &["abi", &part, &part, &part], &[]), E2BIG);
    let told = role(&["process/arguments", &part[..50_000], &part], || {});
    check_eq!(told.len(), 150_000 + 2 * 4 + 3);
}

fn bad_pointers_are_efault() {
    let (hole, exe) = (free_range(1), sys::c_string("/proc/self/exe"));
    let bad = [hole, 0];
    errno_is!(syscall!(SYS_execve, hole, 0, 0), EFAULT);
    errno_is!(syscall!(SYS_execve, exe.as_ptr(), hole, 0), EFAULT);
    errno_is!(syscall!(SYS_execve, exe.as_ptr(), 0, hole), EFAULT);
    errno_is!(syscall!(SYS_execve, exe.as_ptr(), bad.as_ptr(), 0), EFAULT);
}

fn failed_exec_changes_nothing() {
    let fd = tmp::file(b"content");
    interrupt_with(SIGUSR1);
    let state = || {
        let mut action = [0_usize; 4];
        ok!(syscall!(SYS_rt_sigaction, SIGUSR1, 0, action.as_mut_ptr(), 8));
        (action[0], gettid(), std::fs::read_to_string("/proc/self/comm").unwrap_or_default())
    };
    let before = state();
    std::thread::scope(|scope| {
        let words = crate::child::shared_words();
        scope.spawn(|| await_word(&words[0]));
        errno_is!(execve(&executable(b"no program", 0o755), &["x"], &[]), ENOEXEC);
        errno_is!(execve(&tmp::path(), &["x"], &[]), ENOENT);
        words[0].store(1, SeqCst);
    });
    check_eq!(state(), before);
    check_eq!(sys::pread(fd, &mut [0; 9], 0), Ok(7));
}

fn busy_text() {
    let path = tmp::path();
    if let Err(error) = std::fs::copy("/proc/self/exe", &path) {
        panic!("copying /proc/self/exe: {error}");
    }
    ok!(syscall!(SYS_chmod, sys::c_string(&path).as_ptr(), 0o755));
    let writer = ok!(sys::open(&path, O_RDWR | O_CLOEXEC, 0));
    errno_is!(execve(&path, &["abi"], &[]), ETXTBSY);
    sys::close(writer);
    let (reader, writer) = ok!(sys::pipe(O_CLOEXEC));
    let child = Child::spawn(|| {
        ok!(syscall!(SYS_dup2, writer, 1));
        let error = execve(&path, &["abi", "--helper", "process/sleep"], &[]);
        panic!("executing gives {error:?}");
    });
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
    errno_is!(sys::open(&path, O_WRONLY, 0), ETXTBSY);
    errno_is!(syscall!(SYS_truncate, sys::c_string(&path).as_ptr(), 0), ETXTBSY);
    ok!(sys::open(&path, O_RDONLY, 0));
    end(child);
    ok!(sys::open(&path, O_WRONLY, 0));
}

fn own_program_through_proc() {
    let before = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let told = output_of(|| {
        ok!(syscall!(SYS_chdir, c"/".as_ptr()));
        become_role(&["process/state"], &[]);
    });
    check!(told.ends_with(" exe"), "{told}");
    in_child(|| check_eq!(std::fs::read_link("/proc/self/exe").unwrap_or_default(), before));
}
