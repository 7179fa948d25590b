// SPDX-License-Identifier: MPL-2.0

//! Memory: every call that maps, protects, moves, locks or tells of memory, and what accesses to it do.
//!
//! One module for each family of calls. Below are the few things that all of them need; pages are 4 KiB.

use libc::{MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE};

use crate::{
    harness::{Case, Helper},
    sys,
};

mod access;
mod anon;
mod brk;
mod efault;
mod exec;
mod family;
mod figures;
mod file;
mod flags;
mod fork;
mod fork_large;
mod guard;
mod keep_size;
mod madvise;
mod map_count;
mod maps;
mod memfd;
mod mempolicy;
mod mlock;
mod mmap_errors;
mod mprotect;
mod mremap;
mod munmap;
mod overcommit;
mod overcommit_modes;
mod pagemap;
mod pkey;
mod place;
mod process_madvise;
mod process_mrelease;
mod process_vm;
mod remap_pages;
mod rlimit;
mod seal;
mod shm;
mod stack;
mod stress;
mod sync;
mod text;
mod threads;
mod tmpfs;
mod usage;
mod userfaultfd;

/// The groups of this area, in the order they run.
pub const GROUPS: &[&[Case]] = &[
    anon::CASES,
    mmap_errors::CASES,
    map_count::CASES,
    place::CASES,
    overcommit::CASES,
    overcommit_modes::CASES,
    overcommit_modes::growth::CASES,
    file::CASES,
    munmap::CASES,
    mprotect::CASES,
    pkey::CASES,
    seal::CASES,
    access::CASES,
    text::CASES,
    fork::CASES,
    fork_large::CASES,
    family::CASES,
    mremap::CASES,
    remap_pages::CASES,
    brk::CASES,
    rlimit::CASES,
    stack::CASES,
    guard::CASES,
    flags::CASES,
    process_vm::CASES,
    madvise::CASES,
    process_madvise::CASES,
    process_mrelease::CASES,
    mempolicy::CASES,
    mempolicy::move_pages::CASES,
    mempolicy::shared::CASES,
    sync::CASES,
    sync::MINCORE,
    mlock::CASES,
    memfd::CASES,
    tmpfs::CASES,
    keep_size::CASES,
    shm::CASES,
    shm::attach::CASES,
    shm::control::CASES,
    shm::count::CASES,
    shm::detach::CASES,
    maps::CASES,
    maps::SMAPS,
    maps::MEM,
    pagemap::CASES,
    pagemap::clear::CASES,
    figures::CASES,
    figures::machine::CASES,
    figures::scores::CASES,
    figures::scores::OTHERS,
    usage::CASES,
    efault::CASES,
    efault::TOUCH,
    exec::CASES,
    threads::CASES,
    userfaultfd::GROUPS[0],
    userfaultfd::GROUPS[1],
    userfaultfd::GROUPS[2],
    userfaultfd::GROUPS[3],
    userfaultfd::GROUPS[4],
    userfaultfd::GROUPS[5],
    userfaultfd::GROUPS[6],
    stress::CASES,
];

/// The roles of this area.
pub const HELPERS: &[Helper] = exec::HELPERS;

/// The size of a page in bytes.
pub const PAGE: usize = 4096;

/// An address that no process has, with four levels of page tables or five.
pub const BEYOND: usize = 1 << 56;

/// Read and write.
pub const RW: i32 = PROT_READ | PROT_WRITE;

/// Flags of private anonymous memory.
pub const ANON: i32 = MAP_PRIVATE | MAP_ANONYMOUS;

/// Flags of shared anonymous memory.
pub const ANON_SHARED: i32 = MAP_SHARED | MAP_ANONYMOUS;

/// Maps private anonymous pages for reading and writing.
#[track_caller]
pub fn anon(pages: usize) -> usize {
    ok!(sys::mmap(0, pages * PAGE, RW, ANON, -1, 0))
}

/// Maps shared anonymous pages for reading and writing.
#[track_caller]
pub fn anon_shared(pages: usize) -> usize {
    ok!(sys::mmap(0, pages * PAGE, RW, ANON_SHARED, -1, 0))
}

/// An address at which nothing is mapped for that many pages, with an unmapped page on both sides.
///
/// Behind those stand fences, mapped pages without rights: a larger mapping, such as a thread's stack, cannot come to lie
/// there by itself.
///
/// ```text
///   fence | free | that many free pages | free | fence
/// ```
#[track_caller]
pub fn free_range(pages: usize) -> usize {
    let fence = ok!(sys::mmap(0, (pages + 4) * PAGE, PROT_NONE, ANON, -1, 0));
    ok!(sys::munmap(fence + PAGE, (pages + 2) * PAGE));
    fence + 2 * PAGE
}

/// Maps private anonymous pages for reading and writing that have an unmapped page on both sides.
#[track_caller]
pub fn lone_anon(pages: usize) -> usize {
    let start = free_range(pages);
    check_eq!(sys::mmap(start, pages * PAGE, RW, ANON | libc::MAP_FIXED, -1, 0), Ok(start));
    start
}

/// Reads a byte.
pub fn peek(addr: usize) -> u8 {
    // SAFETY: the case says that the byte is there; if not, its process ends by a signal.
    unsafe { (addr as *const u8).read_volatile() }
}

/// Writes a byte.
pub fn poke(addr: usize, value: u8) {
    // SAFETY: the case says that the byte is there and its own; if not, its process ends by a signal.
    unsafe { (addr as *mut u8).write_volatile(value) }
}

/// Writes `first`, `first + 1`, ... into the first byte of each page.
pub fn number_pages(addr: usize, pages: usize, first: u8) {
    for page in 0..pages {
        poke(addr + page * PAGE, first.wrapping_add(page as u8));
    }
}

/// The first byte of each page.
pub fn page_numbers(addr: usize, pages: usize) -> Vec<u8> {
    (0..pages).map(|page| peek(addr + page * PAGE)).collect()
}

/// The bytes of a range that nobody writes meanwhile.
pub fn bytes(addr: usize, len: usize) -> &'static [u8] {
    // SAFETY: the case keeps the range mapped and unwritten while it looks at it.
    unsafe { std::slice::from_raw_parts(addr as *const u8, len) }
}

/// Sets the bytes of a range.
pub fn fill(addr: usize, len: usize, value: u8) {
    // SAFETY: the case says that the range is there and its own; if not, its process ends by a signal.
    unsafe { std::ptr::write_bytes(addr as *mut u8, value, len) }
}

/// The first address behind those a process may have: it depends on the levels of page tables that the machine has.
pub fn address_space_end() -> usize {
    const FOUR_LEVELS: usize = 1 << 47;
    match sys::mmap(FOUR_LEVELS, PAGE, PROT_NONE, ANON | MAP_FIXED_NOREPLACE, -1, 0) {
        Ok(at) => {
            ok!(sys::munmap(at, PAGE));
            BEYOND - PAGE
        }
        Err(_) => FOUR_LEVELS - PAGE,
    }
}
