// SPDX-License-Identifier: MPL-2.0

//! The system calls that `std` does not have, behind safe functions.

use std::{
    ffi::CString,
    ptr::null_mut,
    sync::atomic::{AtomicU32, AtomicU64},
    thread::sleep,
    time::{Duration, Instant},
};

/// Forks; the child runs `child` and does not return. `None` if there is no process to be had.
pub fn fork(child: impl FnOnce()) -> Option<i32> {
    match fork_raw()? {
        0 => {
            child();
            // SAFETY: ending a process is always sound.
            unsafe { libc::_exit(0) }
        }
        pid => Some(pid),
    }
}

/// Forks: 0 in the child.
pub fn fork_raw() -> Option<i32> {
    // SAFETY: every process here has one thread, but those of the kind that makes threads, whose threads only sleep.
    let pid = unsafe { libc::fork() };
    (pid >= 0).then_some(pid)
}

/// Makes a thread that sleeps for ever; returns whether there was one to be had.
///
/// Not one of `std`'s, which says things when memory runs out.
pub fn sleeping_thread() -> bool {
    const STACK: usize = 1 << 14;
    extern "C" fn sleep(_: *mut libc::c_void) -> *mut libc::c_void {
        pause();
        null_mut()
    }
    // SAFETY: the attributes are initialized before they are used; the thread does nothing but sleep.
    unsafe {
        let mut attributes = std::mem::zeroed();
        let mut thread = std::mem::zeroed();
        libc::pthread_attr_init(&mut attributes);
        libc::pthread_attr_setstacksize(&mut attributes, STACK);
        libc::pthread_create(&mut thread, &attributes, sleep, null_mut()) == 0
    }
}

/// Waits for a signal, for ever.
pub fn pause() {
    loop {
        // SAFETY: no memory is involved.
        unsafe { libc::pause() };
    }
}

/// Counters that children share.
pub fn shared_counters(count: usize) -> Option<&'static [AtomicU64]> {
    let addr = map(count * size_of::<AtomicU64>(), libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED)?;
    // SAFETY: the mapping is new, large enough, zeroed, and never unmapped.
    Some(unsafe { std::slice::from_raw_parts(addr as *const AtomicU64, count) })
}

/// Maps anonymous memory that nothing else refers to.
pub fn map(size: usize, protection: i32, sharing: i32) -> Option<usize> {
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let addr = unsafe { libc::mmap(null_mut(), size, protection, sharing | libc::MAP_ANONYMOUS, -1, 0) };
    (addr != libc::MAP_FAILED).then_some(addr as usize)
}

/// Writes a byte to memory that [`map`] gave.
pub fn touch(addr: usize) {
    // SAFETY: the caller has mapped it for writing, and nobody else uses it.
    unsafe { std::ptr::write_volatile(addr as *mut u8, 1) };
}

/// Unmaps what [`map`] gave, of which the caller has no reference left.
pub fn unmap(addr: usize, size: usize) {
    // SAFETY: the caller has mapped it, and nobody else uses it.
    unsafe { libc::munmap(addr as *mut _, size) };
}

/// Has the kernel read into memory that [`map`] gave.
pub fn read_into(fd: i32, addr: usize, len: usize) {
    // SAFETY: the caller has mapped it for writing, and nobody else uses it.
    unsafe { libc::read(fd, addr as *mut _, len) };
}

/// Takes the lock at `addr`, in memory that [`map`] gave, if it is free.
pub fn try_lock(addr: usize) {
    // SAFETY: the kernel checks the address; nobody else uses the memory.
    unsafe { libc::syscall(libc::SYS_futex, addr, libc::FUTEX_TRYLOCK_PI | libc::FUTEX_PRIVATE_FLAG) };
}

/// `struct futex_waitv`.
#[repr(C)]
struct WaitV {
    value: u64,
    addr: u64,
    flags: u32,
    reserved: u32,
}

/// Waits until somebody wakes one of the words, which hold 0.
pub fn wait_for_any(words: &'static [AtomicU32]) {
    const FUTEX_32: u32 = 2;
    let flags = FUTEX_32 | libc::FUTEX_PRIVATE_FLAG as u32;
    let waits: Vec<WaitV> =
        words.iter().map(|word| WaitV { value: 0, addr: word.as_ptr() as u64, flags, reserved: 0 }).collect();
    // SAFETY: the list is as long as it says, and the words live for ever.
    unsafe { libc::syscall(libc::SYS_futex_waitv, waits.as_ptr(), waits.len(), 0, 0, 0) };
}

/// The two ends of a pipe, which nothing owns.
#[derive(Clone, Copy)]
pub struct Pipe {
    pub reader: i32,
    pub writer: i32,
}

/// A new pipe.
pub fn pipe() -> Option<Pipe> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    let answer = unsafe { libc::pipe(ends.as_mut_ptr()) };
    is_ok(answer).then_some(Pipe { reader: ends[0], writer: ends[1] })
}

/// Opens what `fd` is for writing, apart from it.
pub fn open_again(fd: i32) -> Option<i32> {
    let path = CString::new(format!("/proc/self/fd/{fd}")).ok()?;
    // SAFETY: the path ends with a zero.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY) };
    is_ok(fd).then_some(fd)
}

/// Closes a descriptor that nothing owns.
pub fn close(fd: i32) {
    // SAFETY: descriptors here are numbers that nothing owns.
    unsafe { libc::close(fd) };
}

/// How ready this process is to be ended when memory runs out, from -1000 to 1000.
pub fn set_oom_score(score: &str) {
    let _ = std::fs::write("/proc/self/oom_score_adj", score);
}

/// Ends a process.
pub fn kill(pid: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Has orphans become children of this process.
pub fn adopt_orphans() {
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// Makes this process the leader of a group of its own.
pub fn lead_group() {
    // SAFETY: no memory is involved.
    unsafe { libc::setpgid(0, 0) };
}

/// Ends a group's processes.
pub fn kill_group(leader: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(-leader, libc::SIGKILL) };
}

/// Whether a child has ended, in which case it is gone afterwards.
pub fn has_ended(pid: i32) -> bool {
    next_end(pid) != 0
}

/// Takes note of the children that have ended; returns whether there are no more.
pub fn reap_all() -> bool {
    loop {
        match next_end(-1) {
            0 => return false,
            -1 => return true,
            _ => {}
        }
    }
}

/// Takes note of a child that has ended: its number, 0 if none has, -1 if there is none. A child that has made its parent trace it
/// and has stopped is ended: nobody lets it go on.
fn next_end(pid: i32) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: the status is a valid number.
        let who = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        if who <= 0 || !libc::WIFSTOPPED(status) {
            return who;
        }
        kill(who);
        let_go(who);
    }
}

/// Whether a child ends, before so much time has gone by. It is gone afterwards.
pub fn ends_within(pid: i32, limit: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if has_ended(pid) {
            return true;
        }
        sleep(Duration::from_millis(10));
    }
    false
}

/// Has the parent trace this process, and stops it.
pub fn have_parent_trace() -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == 0 && libc::raise(libc::SIGSTOP) == 0 }
}

/// Waits until a child stops; answers for what, with the event above bit 8.
pub fn wait_for_stop(pid: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: the status is a valid number.
    let who = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    (who == pid && libc::WIFSTOPPED(status)).then_some(status >> 8)
}

/// Lets a stopped tracee go on, and stops it again before its end.
pub fn see_end_of(pid: i32) -> bool {
    // SAFETY: no memory is involved.
    unsafe {
        libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, libc::PTRACE_O_TRACEEXIT) == 0
            && libc::ptrace(libc::PTRACE_CONT, pid, 0, 0) == 0
    }
}

/// Lets a stopped tracee go on, if it is one.
pub fn let_go(pid: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0, 0) };
}

/// Raises the limit of open files as far as it goes.
pub fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid structure.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// Closes every descriptor but the standard ones.
pub fn close_all() {
    // SAFETY: descriptors here are numbers that nothing owns.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
}

/// Turns the answer of a call into success or not.
pub fn is_ok(answer: i32) -> bool {
    answer >= 0
}

/// Opens a new file for reading and writing.
pub fn create(path: &str) -> Option<i32> {
    let path = CString::new(path).ok()?;
    // SAFETY: the path ends with a zero.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600) };
    (fd >= 0).then_some(fd)
}

/// Writes until the kernel takes no more; returns whether it took anything.
pub fn fill(fd: i32) -> bool {
    let is_taken = write_piece(fd);
    while write_piece(fd) {}
    is_taken
}

/// Writes 64 KiB, or what of it the kernel takes; returns whether that is anything.
pub fn write_piece(fd: i32) -> bool {
    static BYTES: [u8; 1 << 16] = [7; 1 << 16];
    // SAFETY: the buffer is as long as it says.
    unsafe { libc::write(fd, BYTES.as_ptr().cast(), BYTES.len()) > 0 }
}

/// Makes a system call with any arguments at all, in a process of which nothing is expected any more.
pub fn call(number: libc::c_long, args: [u64; 6]) {
    // SAFETY: it is not. Whatever it does to this process is this process's own affair: it was made for that, owns nothing, and does
    // nothing but such calls until it ends, mostly by a signal.
    unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
}

/// Gives up every privilege for good.
pub fn become_nobody() {
    const NOBODY: u32 = 65534;
    // SAFETY: no memory is involved.
    unsafe {
        libc::syscall(libc::SYS_setgroups, 0, 0);
        libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY);
        libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY);
    }
}

/// Keeps this process from using up what others need: memory, files, the time it has.
pub fn limit_resources() {
    let limits = [(libc::RLIMIT_AS, 256 << 20), (libc::RLIMIT_FSIZE, 1 << 20), (libc::RLIMIT_CORE, 0)];
    for (resource, value) in limits {
        let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
        // SAFETY: the structure is valid.
        unsafe { libc::setrlimit(resource, &limit) };
    }
}

/// Nanoseconds of a clock, for what is to differ from run to run.
pub fn nanoseconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::from(now.subsec_nanos()))
}
