// SPDX-License-Identifier: MPL-2.0

//! `/proc/PID/pagemap`: an entry of 64 bits for each page.

pub(super) mod clear;

use libc::{MAP_PRIVATE, MAP_SHARED, O_CLOEXEC, O_RDONLY, O_RDWR, PROT_READ};

use super::{PAGE, RW, anon_shared, free_range, lone_anon, number_pages, peek, poke};
use crate::{
    child::{Child, Turn, in_child},
    harness::Case,
    procfs::{self, smaps_kib},
    sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/pagemap":
    present_follows_the_touches,
    unmapped_pages_are_zero,
    anonymous_pages_are_neither_file_nor_shared,
    pages_of_files_and_shared_memory_say_so,
    a_private_copy_is_no_page_of_the_file,
    exclusive_until_a_fork,
    zeros_that_were_read_are_present_and_nobodys,
    prot_none_stays_present,
    dropped_pages_are_not_present,
    agrees_with_smaps_and_mincore,
    frames_are_hidden_from_others,
    frames_are_told_to_root,
    of_a_child,
    unaligned_reads_are_einval,
    beyond_the_end_is_empty,
    cannot_be_written,
    new_memory_is_soft_dirty,
];

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FILE_OR_SHARED: u64 = 1 << 61;
const WRITE_PROTECTED: u64 = 1 << 57;
const EXCLUSIVE: u64 = 1 << 56;
const SOFT_DIRTY: u64 = 1 << 55;
const FRAME: u64 = SOFT_DIRTY - 1;

/// The entries of so many pages of a process.
fn entries_of(pid: &str, at: usize, pages: usize) -> Vec<u64> {
    let fd = ok!(sys::open(&format!("/proc/{pid}/pagemap"), O_RDONLY | O_CLOEXEC, 0));
    let mut bytes = vec![0; 8 * pages];
    check_eq!(sys::pread(fd, &mut bytes, at / PAGE * 8), Ok(8 * pages));
    sys::close(fd);
    bytes.chunks(8).map(|entry| u64::from_le_bytes(entry.try_into().unwrap_or_default())).collect()
}

/// The entries of so many pages, without the number of their frame.
pub(super) fn entries(at: usize, pages: usize) -> Vec<u64> {
    entries_of("self", at, pages).into_iter().map(|entry| entry & !FRAME).collect()
}

/// The same without the bit that tells of writes.
fn plain(at: usize, pages: usize) -> Vec<u64> {
    entries(at, pages).into_iter().map(|entry| entry & !SOFT_DIRTY).collect()
}

fn present_follows_the_touches() {
    let at = lone_anon(6);
    check_eq!(plain(at, 6), [0; 6]);
    for page in [1, 4] {
        poke(at + page * PAGE, 1);
    }
    let own = PRESENT | EXCLUSIVE;
    check_eq!(plain(at, 6), [0, own, 0, 0, own, 0]);
}

fn unmapped_pages_are_zero() {
    let at = free_range(4);
    check_eq!(entries(at, 4), [0; 4]);
    let at = lone_anon(1);
    poke(at, 1);
    check_eq!(entries(at - PAGE, 1), [0]);
    check_eq!(entries(at + PAGE, 1), [0]);
}

fn anonymous_pages_are_neither_file_nor_shared() {
    let at = lone_anon(1);
    poke(at, 1);
    check_eq!(plain(at, 1)[0] & (FILE_OR_SHARED | SWAPPED | WRITE_PROTECTED), 0);
}

fn pages_of_files_and_shared_memory_say_so() {
    let fd = tmp::file(&[1; 2 * PAGE]);
    let file = ok!(sys::mmap(0, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
    let shared = anon_shared(1);
    peek(file);
    peek(file + PAGE);
    poke(shared, 1);
    for entry in [plain(file, 2), plain(shared, 1)].concat() {
        check_eq!(entry, PRESENT | FILE_OR_SHARED | EXCLUSIVE);
    }
}

fn a_private_copy_is_no_page_of_the_file() {
    let fd = tmp::file(&[1; PAGE]);
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0));
    poke(at, 2);
    check_eq!(plain(at, 1), [PRESENT | EXCLUSIVE]);
}

fn exclusive_until_a_fork() {
    let (at, ready, go) = (lone_anon(2), Turn::new(), Turn::new());
    number_pages(at, 2, 1);
    check_eq!(plain(at, 2), [PRESENT | EXCLUSIVE; 2]);
    let child = Child::spawn(|| {
        poke(at, 9);
        ready.post();
        go.wait();
    });
    ready.wait();
    check_eq!(plain(at, 2), [PRESENT | EXCLUSIVE, PRESENT]);
    go.post();
    child.join();
    check_eq!(plain(at, 2), [PRESENT | EXCLUSIVE; 2]);
}

fn zeros_that_were_read_are_present_and_nobodys() {
    let at = lone_anon(1);
    check_eq!(peek(at), 0);
    check_eq!(plain(at, 1), [PRESENT]);
}

fn prot_none_stays_present() {
    let at = lone_anon(1);
    poke(at, 1);
    ok!(sys::mprotect(at, PAGE, libc::PROT_NONE));
    check_eq!(plain(at, 1), [PRESENT | EXCLUSIVE]);
}

fn dropped_pages_are_not_present() {
    let at = lone_anon(3);
    number_pages(at, 3, 1);
    ok!(sys::madvise(at + PAGE, PAGE, libc::MADV_DONTNEED));
    check_eq!(plain(at, 3), [PRESENT | EXCLUSIVE, 0, PRESENT | EXCLUSIVE]);
}

fn agrees_with_smaps_and_mincore() {
    let at = lone_anon(64);
    for page in (0..64).filter(|page| page % 5 == 2) {
        let before = (smaps_kib(at, "Rss"), smaps_kib(at, "Anonymous"), smaps_kib(at, "Pss"));
        poke(at + page * PAGE, 1);
        let after = (smaps_kib(at, "Rss"), smaps_kib(at, "Anonymous"), smaps_kib(at, "Pss"));
        check_eq!(after, (before.0 + 4, before.1 + 4, before.2 + 4));
    }
    let present: Vec<bool> = entries(at, 64).iter().map(|entry| entry & PRESENT != 0).collect();
    let resident: Vec<bool> = ok!(sys::mincore(at, 64 * PAGE)).iter().map(|byte| byte & 1 != 0).collect();
    check_eq!(present, resident);
    check_eq!(present.iter().filter(|present| **present).count() * 4, smaps_kib(at, "Rss"));
}

fn frames_are_hidden_from_others() {
    let at = lone_anon(1);
    poke(at, 1);
    in_child(|| {
        if ok!(syscall!(SYS_getuid)) == 0 {
            sys::become_unprivileged();
            // Who changes its user is not to be looked into, until it says otherwise.
            ok!(syscall!(SYS_prctl, libc::PR_SET_DUMPABLE, 1));
        }
        let entry = entries_of("self", at, 1)[0];
        check_eq!((entry & FRAME, entry & PRESENT), (0, PRESENT));
    });
}

fn frames_are_told_to_root() {
    const SYS_ADMIN: u32 = 21;
    if !procfs::has_capability(SYS_ADMIN) {
        skip!("only for those with CAP_SYS_ADMIN");
    }
    let at = lone_anon(16);
    number_pages(at, 16, 1);
    let mut frames: Vec<u64> = entries_of("self", at, 16).iter().map(|entry| entry & FRAME).collect();
    frames.sort_unstable();
    frames.dedup();
    check_eq!(frames.len(), 16);
    check!(frames[0] != 0);
    // Two mappings of one page are one frame.
    let fd = tmp::file(&[1; PAGE]);
    let [a, b] = [0; 2].map(|_| ok!(sys::mmap(0, PAGE, RW, MAP_SHARED, fd, 0)));
    poke(a, 1);
    poke(b, 1);
    check_eq!(entries_of("self", a, 1)[0] & FRAME, entries_of("self", b, 1)[0] & FRAME);
}

fn of_a_child() {
    let (at, ready, go) = (lone_anon(2), Turn::new(), Turn::new());
    let child = Child::spawn(|| {
        poke(at + PAGE, 1);
        ready.post();
        go.wait();
    });
    ready.wait();
    let seen = entries_of(&child.pid.to_string(), at, 2);
    go.post();
    child.join();
    check_eq!(seen.iter().map(|entry| entry & PRESENT != 0).collect::<Vec<_>>(), [false, true]);
    check_eq!(plain(at, 2), [0; 2]);
}

fn unaligned_reads_are_einval() {
    let fd = ok!(sys::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0));
    errno_is!(sys::pread(fd, &mut [0; 8], 4), EINVAL);
    errno_is!(sys::pread(fd, &mut [0; 12], 0), EINVAL);
    check_eq!(sys::pread(fd, &mut [], 8), Ok(0));
}

fn beyond_the_end_is_empty() {
    let fd = ok!(sys::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0));
    check_eq!(sys::pread(fd, &mut [0; 8], super::BEYOND / PAGE * 8), Ok(0));
}

fn cannot_be_written() {
    match sys::open("/proc/self/pagemap", O_RDWR | O_CLOEXEC, 0) {
        Ok(fd) => errno_is!(sys::write(fd, &[0; 8]), EINVAL),
        Err(error) => check_eq!(error, sys::Errno(libc::EACCES)),
    }
}

/// Ends the case on a kernel that was built without this.
fn need_soft_dirty() {
    let at = lone_anon(1);
    if !procfs::vm_flags(at).iter().any(|flag| flag == "sd") {
        skip!("a kernel without CONFIG_MEM_SOFT_DIRTY");
    }
}

fn new_memory_is_soft_dirty() {
    need_soft_dirty();
    let at = lone_anon(2);
    poke(at, 1);
    check_eq!(entries(at, 2), [PRESENT | EXCLUSIVE | SOFT_DIRTY, SOFT_DIRTY]);
}
