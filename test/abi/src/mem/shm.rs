// SPDX-License-Identifier: MPL-2.0

//! System V shared memory: shmget(2), and what a segment is. The other calls have modules of their own.
//!
//! A case's segments go with it: each is marked for removal as soon as it is attached, or removed by a [`Segment`].

pub(super) mod attach;
pub(super) mod control;
pub(super) mod count;
pub(super) mod detach;

use libc::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE, IPC_RMID, IPC_STAT};

use super::{PAGE, bytes, fill, number_pages, page_numbers, peek, poke};
use crate::{
    child::{Child, in_child},
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
    shows_in_maps,
    shows_in_proc_sysvipc,
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

pub(super) fn attach(id: i32, addr: usize, flags: i32) -> Result {
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
pub(super) fn segment(pages: usize) -> i32 {
    let id = ok!(get(IPC_PRIVATE, pages * PAGE, 0o600));
    ok!(attach(id, 0, 0));
    ok!(remove(id));
    id
}

/// A segment that is not attached, and removed when the value goes.
struct Segment(i32);

impl Segment {
    /// One of one page, with that mode.
    fn new(mode: i32) -> Self {
        Self(ok!(get(IPC_PRIVATE, PAGE, mode)))
    }

    /// One of so many pages.
    fn of(pages: usize) -> Self {
        Self(ok!(get(IPC_PRIVATE, pages * PAGE, 0o600)))
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
