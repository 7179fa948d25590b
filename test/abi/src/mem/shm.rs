// SPDX-License-Identifier: MPL-2.0

//! System V shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2).
//!
//! A case's segments go with it: each is marked for removal as soon as it is attached, or removed by a [`Segment`].

pub(super) mod control;

use libc::{
    IPC_CREAT, IPC_EXCL, IPC_PRIVATE, IPC_RMID, IPC_STAT, PROT_EXEC, PROT_NONE, PROT_READ, RLIMIT_AS,
    SHM_EXEC, SHM_RDONLY, SHM_REMAP, SHM_RND,
};

use super::{ANON, PAGE, RW, bytes, fill, free_range, lone_anon, number_pages, page_numbers, peek, poke};
use crate::{
    child::{Child, Turn, in_child},
    fault::{expect_accerr, expect_maperr},
    harness::Case,
    procfs, sys,
    sys::Result,
};

pub const CASES: &[Case] = cases!["mem/shm":
    is_zero_and_holds_what_is_written,
    is_shared_with_a_child,
    is_found_by_its_key,
    two_attaches_are_one_memory,
    outlives_its_detach,
    create_errors,
    find_errors,
    private_key_makes_a_new_one_each_time,
    size_is_rounded_up_to_pages_for_access,
    huge_pages_are_refused_or_given,
    attach_where_it_is_told,
    attach_rounds_with_shm_rnd,
    attach_over_something_is_einval,
    attach_remaps_with_shm_remap,
    attach_read_only,
    attach_read_only_can_never_be_written,
    attach_executable,
    attach_errors,
    attach_obeys_the_limit_on_the_address_space,
    detach_takes_it_away,
    detach_errors,
    detach_finds_what_is_left,
    detach_leaves_other_attaches,
    munmap_of_a_part,
    attaches_are_counted,
    attaches_are_counted_over_fork_and_exit,
    attaches_end_with_exec,
    fork_unmapping_and_exit_are_noted,
    exec_is_noted,
    cut_in_two_it_counts_twice,
    shows_in_maps,
    shows_in_proc_sysvipc,
    mremap_old_size_zero_attaches_once_more,
    madvise_remove_zeroes_it,
    counts_as_shared_memory,
];

const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;
const IPC_INFO: i32 = 3;
const SHM_DEST: u32 = 0o1000;
const SHM_LOCKED: u32 = 0o2000;
const SHM_HUGETLB: i32 = 0o4000;

/// `struct shmid64_ds`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
struct Status {
    key: i32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    mode: u32,
    seq: u16,
    padding: [u16; 3],
    unused: [u64; 2],
    size: u64,
    attached: i64,
    detached: i64,
    changed: i64,
    maker: i32,
    last: i32,
    attaches: u64,
    more: [u64; 2],
}

fn get(key: i32, size: usize, flags: i32) -> Result<i32> {
    syscall!(SYS_shmget, key, size, flags).map(|id| id as i32)
}

fn attach(id: i32, addr: usize, flags: i32) -> Result {
    syscall!(SYS_shmat, id, addr, flags)
}

fn detach(addr: usize) -> Result {
    syscall!(SYS_shmdt, addr)
}

fn control(id: i32, command: i32, buffer: *mut Status) -> Result {
    syscall!(SYS_shmctl, id, command, buffer)
}

fn remove(id: i32) -> Result {
    control(id, IPC_RMID, std::ptr::null_mut())
}

#[track_caller]
fn stat(id: i32) -> Status {
    let mut status = Status::default();
    check_eq!(control(id, IPC_STAT, &mut status), Ok(0));
    status
}

/// A segment that goes with the case, even if it fails: marked for removal while a mapping keeps it.
fn segment(pages: usize) -> i32 {
    let id = ok!(get(IPC_PRIVATE, pages * PAGE, 0o600));
    ok!(attach(id, 0, 0));
    ok!(remove(id));
    id
}

/// A segment of one page with that mode, not attached, and removed when the value goes.
struct Segment(i32);

impl Segment {
    fn new(mode: i32) -> Self {
        Self(ok!(get(IPC_PRIVATE, PAGE, mode)))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let _ = remove(self.0);
    }
}

/// A key that nobody else uses: cases may run beside each other on one machine.
fn key() -> i32 {
    0x7e55_0000 ^ sys::getpid()
}

fn is_zero_and_holds_what_is_written() {
    let at = ok!(attach(segment(3), 0, 0));
    check!(at.is_multiple_of(PAGE));
    check_eq!(page_numbers(at, 3), [0; 3]);
    fill(at, 3 * PAGE, 7);
    check!(bytes(at, 3 * PAGE).iter().all(|&byte| byte == 7));
}

fn is_shared_with_a_child() {
    let at = ok!(attach(segment(2), 0, 0));
    poke(at, 1);
    in_child(|| {
        check_eq!(peek(at), 1);
        poke(at + PAGE, 2);
    });
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn is_found_by_its_key() {
    let id = ok!(get(key(), 2 * PAGE, IPC_CREAT | IPC_EXCL | 0o600));
    let at = ok!(attach(id, 0, 0));
    poke(at, 5);
    let parent_key = key();
    in_child(|| {
        let found = get(parent_key, 0, 0);
        check_eq!(found, Ok(id));
        check_eq!(get(parent_key, 2 * PAGE, IPC_CREAT | 0o600), Ok(id));
        check_eq!(peek(ok!(attach(id, 0, 0))), 5);
    });
    ok!(remove(id));
}

fn two_attaches_are_one_memory() {
    let id = segment(2);
    let (first, second) = (ok!(attach(id, 0, 0)), ok!(attach(id, 0, 0)));
    check!(first != second);
    number_pages(first, 2, 3);
    check_eq!(page_numbers(second, 2), [3, 4]);
}

fn outlives_its_detach() {
    let segment = Segment::new(0o600);
    let at = ok!(attach(segment.0, 0, 0));
    poke(at, 8);
    ok!(detach(at));
    check_eq!(stat(segment.0).attaches, 0);
    check_eq!(peek(ok!(attach(segment.0, 0, 0))), 8);
}

fn create_errors() {
    errno_is!(get(key(), PAGE, 0o600), ENOENT);
    errno_is!(get(IPC_PRIVATE, 0, 0o600), EINVAL);
    errno_is!(get(key(), 0, IPC_CREAT | 0o600), EINVAL);
    errno_is!(get(IPC_PRIVATE, usize::MAX, 0o600), EINVAL);
}

fn find_errors() {
    let id = ok!(get(key(), PAGE, IPC_CREAT | IPC_EXCL | 0o600));
    let again = get(key(), PAGE, IPC_CREAT | IPC_EXCL | 0o600);
    let too_large = get(key(), PAGE + 1, 0o600);
    let smaller = get(key(), 1, 0o600);
    let parent_key = key();
    let of_others = Child::spawn(|| {
        sys::become_unprivileged();
        errno_is!(get(parent_key, PAGE, 0o400), EACCES);
        check_eq!(get(parent_key, PAGE, 0), Ok(id));
    });
    let status = of_others.wait();
    ok!(remove(id));
    errno_is!(again, EEXIST);
    errno_is!(too_large, EINVAL);
    check_eq!((smaller, status), (Ok(id), 0));
}

fn private_key_makes_a_new_one_each_time() {
    let (first, second) = (segment(1), segment(1));
    check!(first != second);
    check_eq!((stat(first).key, stat(second).key), (0, 0));
}

fn size_is_rounded_up_to_pages_for_access() {
    let id = ok!(get(IPC_PRIVATE, PAGE + 1, 0o600));
    let at = ok!(attach(id, 0, 0));
    ok!(remove(id));
    check_eq!(stat(id).size, (PAGE + 1) as u64);
    poke(at + 2 * PAGE - 1, 1);
    check_eq!(procfs::vma_at(at).map(|vma| vma.len()), Some(2 * PAGE));
}

fn huge_pages_are_refused_or_given() {
    // Few machines have set any aside.
    match get(IPC_PRIVATE, 2 << 20, SHM_HUGETLB | 0o600) {
        Ok(id) => _ = ok!(remove(id)),
        Err(error) => check!([libc::ENOMEM, libc::EPERM].contains(&error.0), "{error}"),
    }
    errno_is!(get(IPC_PRIVATE, 2 << 20, SHM_HUGETLB | 5 << 26 | 0o600), EINVAL);
}

fn attach_where_it_is_told() {
    let (id, at) = (segment(2), free_range(2));
    check_eq!(attach(id, at, 0), Ok(at));
    number_pages(at, 2, 1);
    check_eq!(procfs::vma_at(at).map(|vma| (vma.start, vma.end)), Some((at, at + 2 * PAGE)));
}

fn attach_rounds_with_shm_rnd() {
    let (id, at) = (segment(1), free_range(1));
    errno_is!(attach(id, at + 1, 0), EINVAL);
    check_eq!(attach(id, at + PAGE - 1, SHM_RND), Ok(at));
}

fn attach_over_something_is_einval() {
    let (id, at) = (segment(2), lone_anon(1));
    poke(at, 4);
    errno_is!(attach(id, at, 0), EINVAL);
    errno_is!(attach(id, at - PAGE, 0), EINVAL);
    check_eq!(peek(at), 4);
}

fn attach_remaps_with_shm_remap() {
    let (id, at) = (segment(2), lone_anon(3));
    number_pages(at, 3, 5);
    check_eq!(attach(id, at, SHM_REMAP), Ok(at));
    check_eq!(page_numbers(at, 3), [0, 0, 7]);
    errno_is!(attach(id, 0, SHM_REMAP), EINVAL);
    errno_is!(attach(id, 100, SHM_REMAP | SHM_RND), EINVAL);
}

fn attach_read_only() {
    let id = segment(1);
    let (at, written) = (ok!(attach(id, 0, SHM_RDONLY)), ok!(attach(id, 0, 0)));
    poke(written, 6);
    check_eq!(peek(at), 6);
    expect_accerr(at, || poke(at, 1));
    check_eq!(procfs::vma_at(at).map(|vma| vma.perms), Some("r--s".to_string()));
}

fn attach_read_only_can_never_be_written() {
    let at = ok!(attach(segment(1), 0, SHM_RDONLY));
    errno_is!(sys::mprotect(at, PAGE, RW), EACCES);
    ok!(sys::mprotect(at, PAGE, PROT_NONE));
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    let writable = ok!(attach(segment(1), 0, 0));
    ok!(sys::mprotect(writable, PAGE, PROT_READ));
    ok!(sys::mprotect(writable, PAGE, RW));
    poke(writable, 1);
}

fn attach_executable() {
    let segment = Segment::new(0o700);
    let at = ok!(attach(segment.0, 0, SHM_EXEC));
    check_eq!(procfs::vma_at(at).map(|vma| vma.perms), Some("rwxs".to_string()));
    let plain = ok!(attach(segment.0, 0, 0));
    check_eq!(sys::mprotect(plain, PAGE, PROT_READ | PROT_EXEC), Ok(0));
}

fn attach_errors() {
    let id = segment(1);
    errno_is!(attach(-1, 0, 0), EINVAL);
    errno_is!(attach(id + (1 << 24), 0, 0), EINVAL);
    errno_is!(attach(i32::MAX, 0, 0), EINVAL);
    errno_is!(attach(id, usize::MAX & !(PAGE - 1), 0), EINVAL);
    errno_is!(attach(id, super::BEYOND, 0), ENOMEM);
    check_eq!(stat(id).attaches, 1);
}

fn attach_obeys_the_limit_on_the_address_space() {
    let id = segment(16);
    let size = procfs::status_kib("VmSize") as u64 * 1024;
    ok!(sys::setrlimit(RLIMIT_AS, size + 8 * PAGE as u64, size + 8 * PAGE as u64));
    errno_is!(attach(id, 0, 0), ENOMEM);
    check_eq!(stat(id).attaches, 1);
}

fn detach_takes_it_away() {
    let at = ok!(attach(segment(2), 0, 0));
    poke(at, 1);
    check_eq!(detach(at), Ok(0));
    check_eq!(procfs::vma_at(at), None);
    expect_maperr(at, || _ = peek(at));
}

fn detach_errors() {
    let at = ok!(attach(segment(2), 0, 0));
    errno_is!(detach(at + 1), EINVAL);
    errno_is!(detach(at + PAGE), EINVAL);
    errno_is!(detach(lone_anon(1)), EINVAL);
    errno_is!(detach(free_range(1)), EINVAL);
    check_eq!(detach(at), Ok(0));
    errno_is!(detach(at), EINVAL);
}

fn detach_finds_what_is_left() {
    let (id, at) = (segment(4), free_range(4));
    ok!(attach(id, at, 0));
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ));
    ok!(sys::munmap(at + 2 * PAGE, PAGE));
    ok!(sys::mmap(at + 2 * PAGE, PAGE, RW, ANON | libc::MAP_FIXED, -1, 0));
    poke(at + 2 * PAGE, 9);
    check_eq!(detach(at), Ok(0));
    check_eq!(procfs::layout(at..at + 4 * PAGE), [(2, 3, "rw-p".to_string())]);
    check_eq!(peek(at + 2 * PAGE), 9);
}

fn detach_leaves_other_attaches() {
    let (id, at) = (segment(1), free_range(3));
    ok!(attach(id, at, 0));
    ok!(attach(id, at + 2 * PAGE, 0));
    ok!(detach(at));
    poke(at + 2 * PAGE, 1);
    check_eq!(procfs::layout(at..at + 3 * PAGE), [(2, 3, "rw-s".to_string())]);
}

fn munmap_of_a_part() {
    let at = ok!(attach(segment(3), 0, 0));
    number_pages(at, 3, 1);
    ok!(sys::munmap(at, PAGE));
    check_eq!(page_numbers(at + PAGE, 2), [2, 3]);
    // What began at its start is found by where that was.
    check_eq!(detach(at), Ok(0));
    check_eq!(procfs::vma_at(at + PAGE), None);
}

fn attaches_are_counted() {
    let segment = Segment::new(0o600);
    check_eq!(stat(segment.0).attaches, 0);
    let at = ok!(attach(segment.0, 0, 0));
    check_eq!(stat(segment.0).attaches, 1);
    let other = ok!(attach(segment.0, 0, SHM_RDONLY));
    check_eq!(stat(segment.0).attaches, 2);
    ok!(detach(at));
    check_eq!(stat(segment.0).attaches, 1);
    ok!(sys::munmap(other, PAGE));
    check_eq!(stat(segment.0).attaches, 0);
}

fn attaches_are_counted_over_fork_and_exit() {
    let id = segment(1);
    let (go, done) = (Turn::new(), Turn::new());
    let child = Child::spawn(|| {
        done.post();
        go.wait();
    });
    done.wait();
    check_eq!(stat(id).attaches, 2);
    go.post();
    child.join();
    check_eq!(stat(id).attaches, 1);
    let killed = Child::spawn(|| {
        ok!(attach(id, 0, 0));
        done.post();
        go.wait();
    });
    done.wait();
    check_eq!(stat(id).attaches, 3);
    ok!(sys::kill(killed.pid, libc::SIGKILL));
    killed.wait();
    check_eq!(stat(id).attaches, 1);
}

fn attaches_end_with_exec() {
    let id = segment(1);
    let (reader, writer) = ok!(sys::pipe(0));
    let child = Child::spawn(|| {
        ok!(syscall!(SYS_dup2, reader, 0));
        ok!(syscall!(SYS_dup2, ok!(sys::open("/dev/null", libc::O_WRONLY, 0)), 1));
        sys::close(writer);
        check_eq!(stat(id).attaches, 2);
        let (path, role) = (sys::c_string("/proc/self/exe"), sys::c_string("--list"));
        let argv = [path.as_ptr(), role.as_ptr(), std::ptr::null()];
        let _ = syscall!(SYS_execve, path.as_ptr(), argv.as_ptr(), [std::ptr::null::<u8>()].as_ptr());
        sys::exit_group(9);
    });
    child.join();
    check_eq!(stat(id).attaches, 1);
}

fn fork_unmapping_and_exit_are_noted() {
    let segment = Segment::new(0o600);
    let at = ok!(attach(segment.0, 0, 0));
    let attached = stat(segment.0).attached;
    check_eq!(stat(segment.0).detached, 0);
    let (go, done) = (Turn::new(), Turn::new());
    sys::sleep_us(1_100_000);
    let child = Child::spawn(|| {
        done.post();
        go.wait();
        ok!(sys::munmap(at, PAGE));
        check_eq!(stat(segment.0).last, sys::getpid());
        check!(stat(segment.0).detached > attached);
        ok!(attach(segment.0, 0, 0));
        done.post();
        go.wait();
    });
    let pid = child.pid;
    done.wait();
    // It is the parent who has attached it for the child.
    let status = stat(segment.0);
    check_eq!((status.last, status.detached, status.attaches), (sys::getpid(), 0, 2));
    check!(status.attached > attached, "{} after {attached}", status.attached);
    go.post();
    done.wait();
    check_eq!(stat(segment.0).last, pid);
    ok!(detach(at));
    check_eq!(stat(segment.0).last, sys::getpid());
    go.post();
    child.join();
    check_eq!((stat(segment.0).last, stat(segment.0).attaches), (pid, 0));
}

fn exec_is_noted() {
    let segment = Segment::new(0o600);
    let at = ok!(attach(segment.0, 0, 0));
    let words = crate::child::shared_words();
    crate::program::role(&["mem/status", "VmSize"], || {
        words[0].store(sys::getpid() as usize, std::sync::atomic::Ordering::Relaxed);
    });
    let pid = words[0].load(std::sync::atomic::Ordering::Relaxed) as i32;
    let status = stat(segment.0);
    check_eq!((status.last, status.attaches), (pid, 1));
    check!(status.detached >= status.attached);
    ok!(detach(at));
}

fn cut_in_two_it_counts_twice() {
    let id = segment(1);
    let large = ok!(get(IPC_PRIVATE, 3 * PAGE, 0o600));
    let at = ok!(attach(large, 0, 0));
    ok!(remove(large));
    ok!(sys::munmap(at + PAGE, PAGE));
    check_eq!(stat(large).attaches, 2);
    ok!(sys::munmap(at, PAGE));
    check_eq!(stat(large).attaches, 1);
    check_eq!(stat(id).attaches, 1);
}

fn shows_in_maps() {
    let id = ok!(get(key(), PAGE, IPC_CREAT | IPC_EXCL | 0o600));
    let at = ok!(attach(id, 0, 0));
    ok!(remove(id));
    let Some(vma) = procfs::vma_at(at) else { panic!("it is not in maps") };
    check_eq!(vma.path, format!("/SYSV{:08x} (deleted)", key()));
    check_eq!((vma.perms.as_str(), vma.offset, vma.inode), ("rw-s", 0, id as u64));
    let private = ok!(attach(segment(1), 0, 0));
    check_eq!(procfs::vma_at(private).map(|vma| vma.path), Some("/SYSV00000000 (deleted)".to_string()));
}

fn shows_in_proc_sysvipc() {
    let segment = Segment::new(0o640);
    let at = ok!(attach(segment.0, 0, 0));
    poke(at, 1);
    let text = ok!(std::fs::read_to_string("/proc/sysvipc/shm"));
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    check_eq!(
        header,
        "key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap"
            .split(' ')
            .collect::<Vec<_>>()
    );
    let id = segment.0.to_string();
    let row = lines.map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|row| row[1] == id);
    let Some(row) = row else { panic!("{id} is not in {text}") };
    let pid = sys::getpid().to_string();
    check_eq!(row[..7], ["0", &id, "640", "4096", &pid, &pid, "1"]);
    check_eq!((row.len(), row[14], row[15]), (16, "4096", "0"));
}

fn mremap_old_size_zero_attaches_once_more() {
    let id = segment(2);
    let at = ok!(attach(id, 0, 0));
    let other = ok!(sys::mremap(at, 0, 2 * PAGE, libc::MREMAP_MAYMOVE, 0));
    number_pages(at, 2, 5);
    check_eq!(page_numbers(other, 2), [5, 6]);
    check_eq!(stat(id).attaches, 3);
}

fn madvise_remove_zeroes_it() {
    let id = segment(3);
    let (at, other) = (ok!(attach(id, 0, 0)), ok!(attach(id, 0, 0)));
    number_pages(at, 3, 1);
    check_eq!(sys::madvise(at + PAGE, PAGE, libc::MADV_REMOVE), Ok(0));
    check_eq!(page_numbers(other, 3), [1, 0, 3]);
}

fn counts_as_shared_memory() {
    let at = ok!(attach(segment(64), 0, 0));
    let before = procfs::status_kib("RssShmem");
    number_pages(at, 64, 1);
    check_eq!(procfs::smaps_kib(at, "Rss"), 256);
    // With others that a file in memory, such as this program, may have.
    check!(procfs::status_kib("RssShmem") >= before + 256);
}
