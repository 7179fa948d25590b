// SPDX-License-Identifier: MPL-2.0

//! Files of `/proc`: `proc(5)`.

use std::{fs, path::PathBuf};

use libc::{O_RDONLY, O_RDWR, O_WRONLY};

use crate::{
    child::{Child, Turn, in_child},
    harness::Case,
    sys, tmp,
};

pub const CASES: &[Case] = cases!["procfs":
    self_is_the_caller,
    thread_self_is_the_calling_thread,
    stat_has_its_fields,
    stat_tells_a_zombie,
    status_tells_ids,
    status_tells_signals,
    comm_can_be_changed,
    comm_of_another_cannot_be_changed,
    cmdline_has_the_arguments,
    environ_has_the_environment,
    auxv_has_the_page_size,
    exe_cwd_and_root_are_links,
    exe_of_a_removed_program_says_so,
    fd_lists_the_open_files,
    fd_reopens_the_file,
    fd_reopens_a_pipe_without_waiting,
    fd_tells_pipes_and_sockets,
    fdinfo_tells_offset_and_flags,
    task_lists_the_threads,
    limits_follow_setrlimit,
    oom_score_adj_keeps_its_bounds,
    another_users_secrets_are_eacces,
    entries_go_with_the_process,
    mounts_have_their_form,
    meminfo_adds_up,
    uptime_goes_on,
    loadavg_has_its_form,
    cpuinfo_lists_each_cpu,
    hostname_is_unames,
    uuid_is_new_each_time,
    filesystems_have_their_form,
    pagemap_tells_what_is_present,
    numbers_with_zeros_are_nobody,
];

fn text(path: &str) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => panic!("reading {path}: {error}"),
    }
}

fn link(path: &str) -> PathBuf {
    match fs::read_link(path) {
        Ok(target) => target,
        Err(error) => panic!("the link {path}: {error}"),
    }
}

fn self_is_the_caller() {
    check_eq!(link("/proc/self"), PathBuf::from(sys::getpid().to_string()));
    in_child(|| check_eq!(link("/proc/self"), PathBuf::from(sys::getpid().to_string())));
}

fn thread_self_is_the_calling_thread() {
    let name = || {
        let tid = ok!(syscall!(SYS_gettid));
        check_eq!(link("/proc/thread-self"), PathBuf::from(format!("{}/task/{tid}", sys::getpid())));
    };
    name();
    check!(std::thread::spawn(name).join().is_ok());
}

/// The fields of `stat` from the state on.
fn stat(pid: i32) -> Vec<String> {
    let text = text(&format!("/proc/{pid}/stat"));
    let Some((head, tail)) = text.rsplit_once(") ") else { panic!("{text:?}") };
    check!(head.starts_with(&format!("{pid} (")), "{text:?}");
    tail.split_whitespace().map(String::from).collect()
}

fn stat_has_its_fields() {
    let fields = stat(sys::getpid());
    check_eq!(fields.len(), 50);
    check_eq!(fields[0], "R");
    check_eq!(fields[1], ok!(syscall!(SYS_getppid)).to_string());
    check_eq!(fields[2], ok!(syscall!(SYS_getpgid, 0)).to_string());
    check_eq!(fields[3], ok!(syscall!(SYS_getsid, 0)).to_string());
    check!(fields[1..].iter().all(|field| field.parse::<i128>().is_ok()), "{fields:?}");
}

fn stat_tells_a_zombie() {
    let child = Child::spawn(|| {});
    let mut info = [0_u64; 16];
    ok!(syscall!(SYS_waitid, libc::P_PID, child.pid, info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT, 0));
    check_eq!(stat(child.pid)[0], "Z");
    check!(text(&format!("/proc/{}/status", child.pid)).contains("\nState:\tZ (zombie)\n"));
    check_eq!(text(&format!("/proc/{}/cmdline", child.pid)), "");
    check!(fs::read_link(format!("/proc/{}/exe", child.pid)).is_err());
    child.join();
}

fn status(name: &str) -> String {
    let text = text("/proc/self/status");
    match text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")) {
        Some(value) => value.to_string(),
        None => panic!("status has no {name}"),
    }
}

fn status_tells_ids() {
    check_eq!(status("Pid"), sys::getpid().to_string());
    check_eq!(status("Tgid"), sys::getpid().to_string());
    check_eq!(status("PPid"), ok!(syscall!(SYS_getppid)).to_string());
    let uid = ok!(syscall!(SYS_getuid));
    check_eq!(status("Uid"), format!("{uid}\t{uid}\t{uid}\t{uid}"));
    check_eq!(status("Threads"), "1");
    check_eq!(status("State"), "R (running)");
}

fn status_tells_signals() {
    let (blocked, pending) = (1_u64 << (libc::SIGUSR1 - 1), 1_u64 << (libc::SIGUSR1 - 1));
    ok!(syscall!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const blocked, 0, 8));
    ok!(sys::kill(sys::getpid(), libc::SIGUSR1));
    // SAFETY: ignoring runs no code of ours.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
    let set = |name| u64::from_str_radix(&status(name), 16).unwrap_or(0);
    check!(set("SigBlk") & blocked != 0 && set("ShdPnd") & pending != 0);
    check!(set("SigIgn") & (1 << (libc::SIGUSR2 - 1)) != 0);
}

fn comm_can_be_changed() {
    let fd = ok!(sys::open("/proc/self/comm", O_RDWR, 0));
    check_eq!(sys::write(fd, b"a-name-that-is-too-long"), Ok(23));
    check_eq!(text("/proc/self/comm"), "a-name-that-is-\n");
    check!(text("/proc/self/stat").contains("(a-name-that-is-)"));
    check_eq!(status("Name"), "a-name-that-is-");
}

fn comm_of_another_cannot_be_changed() {
    let go = Turn::new();
    let child = Child::spawn(|| go.wait());
    match sys::open(&format!("/proc/{}/comm", child.pid), O_WRONLY, 0) {
        Ok(fd) => errno_is!(sys::write(fd, b"x"), EINVAL),
        Err(error) => check_eq!(error, sys::Errno(libc::EACCES)),
    }
    go.post();
    child.join();
}

fn cmdline_has_the_arguments() {
    let expected: Vec<u8> = std::env::args().flat_map(|arg| [arg.as_bytes(), &[0]].concat()).collect();
    check_eq!(text("/proc/self/cmdline").into_bytes(), expected);
}

fn environ_has_the_environment() {
    let environ = text("/proc/self/environ");
    for (name, value) in std::env::vars() {
        check!(environ.split('\0').any(|entry| entry == format!("{name}={value}")), "{name}");
    }
}

fn auxv_has_the_page_size() {
    let Ok(bytes) = fs::read("/proc/self/auxv") else { panic!("no auxv") };
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .map(|word| word.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        .collect();
    check!(words.chunks_exact(2).any(|pair| pair == [libc::AT_PAGESZ, 4096]), "{words:x?}");
    check_eq!(&words[words.len() - 2..], [0, 0]);
}

fn exe_cwd_and_root_are_links() {
    check!(fs::metadata("/proc/self/exe").is_ok_and(|meta| meta.is_file()));
    let folder = tmp::dir();
    let path = sys::c_string(&folder);
    ok!(syscall!(SYS_chdir, path.as_ptr()));
    check_eq!(link("/proc/self/cwd"), PathBuf::from(folder));
    check_eq!(link("/proc/self/root"), PathBuf::from("/"));
    ok!(sys::open("/proc/self/cwd/../..", O_RDONLY | libc::O_DIRECTORY, 0));
}

fn exe_of_a_removed_program_says_so() {
    let (fd, path) = tmp::named_file(b"x");
    check!(fs::remove_file(&path).is_ok());
    check_eq!(link(&format!("/proc/self/fd/{fd}")), PathBuf::from(format!("{path} (deleted)")));
}

fn numbers(path: &str) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(path) else { panic!("{path} cannot be listed") };
    let mut numbers: Vec<i32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

fn fd_lists_the_open_files() {
    let fd = tmp::file(b"");
    check!(numbers("/proc/self/fd").contains(&fd));
    sys::close(fd);
    // The listing itself is open while it lasts, perhaps under this very number.
    errno_is!(sys::open(&format!("/proc/self/fd/{}", fd + 100), O_RDONLY, 0), ENOENT);
}

fn fd_reopens_the_file() {
    let fd = tmp::file(b"content");
    check_eq!(sys::read(fd, &mut [0; 3]), Ok(3));
    let again = ok!(sys::open(&format!("/proc/self/fd/{fd}"), O_RDONLY, 0));
    let mut bytes = [0; 3];
    check_eq!((sys::read(again, &mut bytes), &bytes), (Ok(3), b"con"));
    let (reader, writer) = ok!(sys::pipe(0));
    let again = ok!(sys::open(&format!("/proc/self/fd/{writer}"), O_WRONLY, 0));
    check_eq!(sys::write(again, b"x"), Ok(1));
    check_eq!(sys::read(reader, &mut [0; 4]), Ok(1));
}

fn fd_reopens_a_pipe_without_waiting() {
    let (reader, writer) = ok!(sys::pipe(0));
    check_eq!(sys::write(writer, b"x"), Ok(1));
    sys::close(writer);
    // As in a shell's `cat <(echo x)`, when echo is the faster one.
    let again = ok!(sys::open(&format!("/proc/self/fd/{reader}"), O_RDONLY, 0));
    check_eq!((sys::read(again, &mut [0; 4]), sys::read(again, &mut [0; 4])), (Ok(1), Ok(0)));
    let writer = ok!(sys::open(&format!("/proc/self/fd/{reader}"), O_WRONLY, 0));
    check_eq!(sys::write(writer, b"y"), Ok(1));
}

fn fd_tells_pipes_and_sockets() {
    let (reader, _writer) = ok!(sys::pipe(0));
    let mut fds = [0_i32; 2];
    ok!(syscall!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, fds.as_mut_ptr()));
    let event = ok!(syscall!(SYS_eventfd2, 0, 0));
    for (fd, start) in [(reader, "pipe:["), (fds[0], "socket:["), (event as i32, "anon_inode:[eventfd]")] {
        let target = link(&format!("/proc/self/fd/{fd}"));
        check!(target.to_str().is_some_and(|target| target.starts_with(start)), "{target:?}");
    }
}

fn fdinfo_tells_offset_and_flags() {
    let fd = tmp::file(b"content");
    check_eq!(sys::read(fd, &mut [0; 3]), Ok(3));
    let text = text(&format!("/proc/self/fdinfo/{fd}"));
    check!(text.starts_with("pos:\t3\nflags:\t0"), "{text:?}");
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:\t"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags, 8).ok()).unwrap_or(0);
    check_eq!(flags & (libc::O_ACCMODE | libc::O_CLOEXEC), O_RDWR | libc::O_CLOEXEC);
}

fn task_lists_the_threads() {
    check_eq!(numbers("/proc/self/task"), [sys::getpid()]);
    let (ready, go) = (Turn::new(), Turn::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            ready.post();
            go.wait();
        });
        ready.wait();
        let tasks = numbers("/proc/self/task");
        check_eq!(tasks.len(), 2);
        check_eq!(status("Threads"), "2");
        let path = format!("/proc/self/task/{}/status", tasks[1]);
        // It takes a moment to fall asleep.
        let is_asleep = || {
            sys::sleep_us(5000);
            text(&path).contains("\nState:\tS (sleeping)\n")
        };
        check!((0..200).any(|_| is_asleep()));
        go.post();
    });
}

fn limits_follow_setrlimit() {
    let (_, hard) = ok!(sys::getrlimit(libc::RLIMIT_CORE));
    ok!(sys::setrlimit(libc::RLIMIT_CORE, 12345.min(hard), hard));
    let text = text("/proc/self/limits");
    let line = text.lines().find(|line| line.starts_with("Max core file size")).unwrap_or("");
    let hard = if hard == u64::MAX { "unlimited".into() } else { hard.to_string() };
    check_eq!(line, format!("{:<25} {:<20} {:<20} {:<10}", "Max core file size", 12345, hard, "bytes"));
}

fn oom_score_adj_keeps_its_bounds() {
    let write = |value: &str| {
        let fd = ok!(sys::open("/proc/self/oom_score_adj", O_RDWR, 0));
        let result = sys::write(fd, value.as_bytes());
        sys::close(fd);
        result
    };
    check_eq!(write("500\n"), Ok(4));
    check_eq!(text("/proc/self/oom_score_adj"), "500\n");
    for bad in ["1001", "-1001", "x"] {
        errno_is!(write(bad), EINVAL);
    }
    in_child(|| check_eq!(text("/proc/self/oom_score_adj"), "500\n"));
    check!(text("/proc/self/oom_score").trim().parse::<u32>().is_ok());
}

fn another_users_secrets_are_eacces() {
    if ok!(syscall!(SYS_getuid)) != 0 {
        skip!("only root can become another user");
    }
    let parent = sys::getpid();
    in_child(|| {
        sys::become_unprivileged();
        for name in ["maps", "mem", "environ", "auxv", "smaps"] {
            errno_is!(sys::open(&format!("/proc/{parent}/{name}"), O_RDONLY, 0), EACCES);
        }
        for name in ["status", "stat", "statm", "cmdline", "comm"] {
            sys::close(ok!(sys::open(&format!("/proc/{parent}/{name}"), O_RDONLY, 0)));
        }
        check!(fs::read_link(format!("/proc/{parent}/exe")).is_err());
        check!(fs::read_dir(format!("/proc/{parent}/fd")).is_err());
    });
}

fn entries_go_with_the_process() {
    let go = Turn::new();
    let child = Child::spawn(|| go.wait());
    let path = format!("/proc/{}/stat", child.pid);
    let fd = ok!(sys::open(&path, O_RDONLY, 0));
    go.post();
    child.join();
    errno_is!(sys::open(&path, O_RDONLY, 0), ENOENT);
    errno_is!(sys::read(fd, &mut [0; 10]), ESRCH);
}

fn mounts_have_their_form() {
    let mounts = text("/proc/mounts");
    check_eq!(mounts, text("/proc/self/mounts"));
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        check!(fields.len() == 6 && fields[1].starts_with('/') && fields[4] == "0", "{line:?}");
    }
    check!(mounts.lines().any(|line| line.split(' ').nth(1) == Some("/proc")));
    for line in text("/proc/self/mountinfo").lines() {
        check!(line.split(" - ").count() == 2 && line.split(' ').count() >= 9, "{line:?}");
    }
}

fn meminfo_adds_up() {
    let text = text("/proc/meminfo");
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let value = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("meminfo has no {name}"))
    };
    check!(field("MemTotal") > field("MemFree") && field("MemFree") > 0);
    check!(field("MemAvailable") <= field("MemTotal"));
    check!(field("Cached") + field("Buffers") < field("MemTotal"));
}

fn uptime_goes_on() {
    let read = || {
        let text = text("/proc/uptime");
        let mut fields = text.split_whitespace().map(|field| field.parse::<f64>());
        match (fields.next(), fields.next(), fields.next()) {
            (Some(Ok(up)), Some(Ok(_idle)), None) => up,
            _ => panic!("{text:?}"),
        }
    };
    let before = read();
    sys::sleep_us(50_000);
    let passed = read() - before;
    check!((0.03..5.0).contains(&passed), "{passed} s");
}

fn loadavg_has_its_form() {
    let text = text("/proc/loadavg");
    let fields: Vec<&str> = text.split_whitespace().collect();
    check_eq!(fields.len(), 5);
    check!(fields[..3].iter().all(|field| field.parse::<f64>().is_ok()), "{text:?}");
    check!(
        fields[3]
            .split_once('/')
            .is_some_and(|(running, all)| { running.parse::<u32>().is_ok() && all.parse::<u32>().is_ok() })
    );
}

fn cpuinfo_lists_each_cpu() {
    let count = text("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor\t: ")).count();
    let lines = text("/proc/stat").lines().filter(|line| line.starts_with("cpu")).count();
    check!(count >= 1 && lines == count + 1, "{count} and {lines}");
}

fn hostname_is_unames() {
    // SAFETY: all zeros are names, and the call fills them in.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    ok!(syscall!(SYS_uname, &raw mut names));
    let string = |field: &[libc::c_char]| -> String {
        field.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8 as char).collect()
    };
    for (file, field) in [
        ("hostname", &names.nodename),
        ("osrelease", &names.release),
        ("ostype", &names.sysname),
        ("version", &names.version),
    ] {
        check_eq!(text(&format!("/proc/sys/kernel/{file}")), format!("{}\n", string(field)));
    }
}

fn uuid_is_new_each_time() {
    let read = |name: &str| text(&format!("/proc/sys/kernel/random/{name}"));
    let (one, other) = (read("uuid"), read("uuid"));
    check!(one != other && one.len() == 37 && one.as_bytes()[14] == b'4', "{one:?}");
    check_eq!(read("boot_id"), read("boot_id"));
}

fn filesystems_have_their_form() {
    let text = text("/proc/filesystems");
    check!(text.lines().any(|line| line == "nodev\tproc") && text.contains("nodev\ttmpfs\n"), "{text:?}");
    check!(text.lines().all(|line| line.starts_with("nodev\t") || line.starts_with('\t')), "{text:?}");
}

fn pagemap_tells_what_is_present() {
    let at = ok!(sys::mmap(0, 3 * 4096, 3, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0));
    // SAFETY: a page of a fresh mapping.
    unsafe { ((at + 4096) as *mut u8).write_volatile(1) };
    let fd = ok!(sys::open("/proc/self/pagemap", O_RDONLY, 0));
    let mut bytes = [0; 24];
    check_eq!(sys::pread(fd, &mut bytes, at / 4096 * 8), Ok(24));
    let present = |page: usize| bytes[page * 8 + 7] & 0x80 != 0;
    check_eq!([present(0), present(1), present(2)], [false, true, false]);
    errno_is!(sys::pread(fd, &mut bytes[..7], 0), EINVAL);
}

fn numbers_with_zeros_are_nobody() {
    check!(fs::metadata(format!("/proc/0{}", sys::getpid())).is_err());
    check!(fs::metadata("/proc/self/fd/00").is_err());
    check!(fs::metadata("/proc/self/nothing").is_err());
}
