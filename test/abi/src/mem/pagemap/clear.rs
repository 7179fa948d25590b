// SPDX-License-Identifier: MPL-2.0

//! `/proc/PID/clear_refs`, which has the kernel forget what was done to pages.

use libc::{MAP_PRIVATE, O_CLOEXEC, O_RDONLY, O_RDWR, O_WRONLY, PROT_READ};

use super::{
    super::{
        ANON, PAGE, RW, anon, anon_shared, free_range, lone_anon, number_pages, page_numbers, peek, poke,
    },
    EXCLUSIVE, PRESENT, SOFT_DIRTY, entries, entries_of, need_soft_dirty, plain,
};
use crate::{
    child::{Child, Turn, in_child},
    harness::Case,
    procfs::{self, smaps_kib, status_kib},
    sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/clear_refs":
    four_clears_soft_dirty,
    a_write_is_told_page_by_page,
    a_read_is_no_write,
    writes_by_the_kernel_are_told,
    protection_there_and_back_is_no_write,
    shared_memory_is_watched,
    a_new_mapping_is_dirty,
    a_neighbour_that_continues_it_is_dirty,
    flag_in_smaps_goes_with_four,
    content_survives,
    fork_after_four,
    a_child_knows_what_its_parent_has_written,
    of_a_child_by_its_parent,
    one_clears_referenced,
    two_is_for_anonymous_memory,
    three_is_for_files,
    five_resets_the_peak,
    other_numbers_are_einval,
    reading_is_einval,
];

/// Writes to `clear_refs` of a process.
fn clear_of(pid: &str, what: &str) -> sys::Result {
    let fd = ok!(sys::open(&format!("/proc/{pid}/clear_refs"), O_WRONLY | O_CLOEXEC, 0));
    let result = sys::write(fd, what.as_bytes());
    sys::close(fd);
    result
}

fn clear(what: &str) {
    check_eq!(clear_of("self", what), Ok(what.len()));
}

/// Which of so many pages count as written.
fn written(at: usize, pages: usize) -> Vec<usize> {
    let entries = entries(at, pages);
    (0..pages).filter(|page| entries[*page] & SOFT_DIRTY != 0).collect()
}

fn four_clears_soft_dirty() {
    need_soft_dirty();
    let at = lone_anon(4);
    number_pages(at, 3, 1);
    check_eq!(written(at, 4), [0, 1, 2, 3]);
    clear("4\n");
    check_eq!(written(at, 4), []);
    check_eq!(plain(at, 4), [PRESENT | EXCLUSIVE, PRESENT | EXCLUSIVE, PRESENT | EXCLUSIVE, 0]);
}

fn a_write_is_told_page_by_page() {
    need_soft_dirty();
    let at = lone_anon(64);
    number_pages(at, 60, 1);
    clear("4");
    // In order, out of order, and where nothing was before.
    for page in [3, 4, 5, 6, 7, 50, 20, 62] {
        poke(at + page * PAGE, 9);
    }
    check_eq!(written(at, 64), [3, 4, 5, 6, 7, 20, 50, 62]);
    clear("4");
    check_eq!(written(at, 64), []);
    poke(at + 4 * PAGE, 10);
    check_eq!(written(at, 64), [4]);
}

fn a_read_is_no_write() {
    need_soft_dirty();
    let at = lone_anon(8);
    number_pages(at, 4, 1);
    clear("4");
    check_eq!(page_numbers(at, 8), [1, 2, 3, 4, 0, 0, 0, 0]);
    check_eq!(written(at, 8), []);
}

fn writes_by_the_kernel_are_told() {
    need_soft_dirty();
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    let fd = tmp::file(&[7; PAGE]);
    let mem = ok!(sys::open("/proc/self/mem", O_RDWR | O_CLOEXEC, 0));
    clear("4");
    ok!(syscall!(SYS_pread64, fd, at + PAGE, 10, 0));
    check_eq!(sys::pwrite(mem, b"x", at + 3 * PAGE), Ok(1));
    check_eq!(written(at, 4), [1, 3]);
}

fn protection_there_and_back_is_no_write() {
    need_soft_dirty();
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    clear("4");
    poke(at, 5);
    ok!(sys::mprotect(at, 4 * PAGE, PROT_READ));
    ok!(sys::mprotect(at, 4 * PAGE, RW));
    check_eq!(written(at, 4), [0]);
    poke(at + 2 * PAGE, 5);
    check_eq!(written(at, 4), [0, 2]);
}

fn shared_memory_is_watched() {
    need_soft_dirty();
    let at = anon_shared(4);
    number_pages(at, 4, 1);
    clear("4");
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
    check_eq!(written(at, 4), []);
    poke(at + PAGE, 9);
    check_eq!(written(at, 4), [1]);
}

fn a_new_mapping_is_dirty() {
    need_soft_dirty();
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    clear("4");
    // In the place of one that was clean.
    ok!(sys::mmap(at, 4 * PAGE, RW, ANON | libc::MAP_FIXED, -1, 0));
    check_eq!(written(at, 4), [0, 1, 2, 3]);
}

fn a_neighbour_that_continues_it_is_dirty() {
    need_soft_dirty();
    let at = free_range(4);
    ok!(sys::mmap(at, 2 * PAGE, RW, ANON | libc::MAP_FIXED, -1, 0));
    number_pages(at, 2, 1);
    clear("4");
    ok!(sys::mmap(at + 2 * PAGE, 2 * PAGE, RW, ANON | libc::MAP_FIXED, -1, 0));
    check_eq!(procfs::layout(at..at + 4 * PAGE), [(0, 4, "rw-p".to_string())]);
    let dirty = written(at, 4);
    check!(dirty.ends_with(&[2, 3]), "{dirty:?}");
}

fn flag_in_smaps_goes_with_four() {
    need_soft_dirty();
    let at = lone_anon(1);
    clear("4");
    check!(!procfs::vm_flags(at).iter().any(|flag| flag == "sd"));
    let new = lone_anon(1);
    check!(procfs::vm_flags(new).iter().any(|flag| flag == "sd"));
    check!(!procfs::vm_flags(at).iter().any(|flag| flag == "sd"));
}

fn content_survives() {
    let (at, shared) = (anon(32), anon_shared(8));
    number_pages(at, 32, 1);
    number_pages(shared, 8, 100);
    for what in ["1", "2", "3", "4", "5", "4", "1"] {
        clear(what);
        number_pages(at, 3, 50);
    }
    check_eq!(page_numbers(at, 5), [50, 51, 52, 4, 5]);
    check_eq!(page_numbers(shared, 8), (100..108).collect::<Vec<u8>>());
}

fn fork_after_four() {
    let at = anon(64);
    number_pages(at, 64, 1);
    for what in ["4", "1"] {
        clear(what);
        in_child(|| {
            check_eq!(peek(at + 63 * PAGE), 64);
            number_pages(at, 64, 100);
            in_child(|| check_eq!(peek(at), 100));
        });
        check_eq!(page_numbers(at, 3), [1, 2, 3]);
        poke(at + 5 * PAGE, 6);
    }
    check_eq!(page_numbers(at, 64), (1..=64).collect::<Vec<u8>>());
}

fn a_child_knows_what_its_parent_has_written() {
    need_soft_dirty();
    let at = lone_anon(40);
    number_pages(at, 40, 1);
    clear("4");
    for page in [1, 30] {
        poke(at + page * PAGE, 9);
    }
    in_child(|| {
        check_eq!(written(at, 40), [1, 30]);
        poke(at + 2 * PAGE, 9);
        check_eq!(written(at, 40), [1, 2, 30]);
        in_child(|| check_eq!(written(at, 40), [1, 2, 30]));
        clear("4");
        check_eq!(written(at, 40), []);
    });
    check_eq!(written(at, 40), [1, 30]);
}

fn of_a_child_by_its_parent() {
    need_soft_dirty();
    let (at, ready, go) = (lone_anon(4), Turn::new(), Turn::new());
    number_pages(at, 4, 1);
    let child = Child::spawn(|| {
        number_pages(at, 4, 5);
        ready.post();
        go.wait();
        poke(at + 2 * PAGE, 9);
        ready.post();
        go.wait();
    });
    let pid = child.pid.to_string();
    ready.wait();
    check_eq!(clear_of(&pid, "4"), Ok(1));
    go.post();
    ready.wait();
    let dirty: Vec<bool> = entries_of(&pid, at, 4).iter().map(|entry| entry & SOFT_DIRTY != 0).collect();
    check_eq!(dirty, [false, false, true, false]);
    go.post();
    child.join();
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
}

fn one_clears_referenced() {
    let at = lone_anon(8);
    number_pages(at, 8, 1);
    check_eq!(smaps_kib(at, "Referenced"), 32);
    clear("1");
    check_eq!(smaps_kib(at, "Referenced"), 0);
    check_eq!((smaps_kib(at, "Rss"), smaps_kib(at, "Private_Dirty")), (32, 32));
    // Linux leaves it to chance when a processor looks at the entries again; a change of permissions has it do so.
    ok!(sys::mprotect(at, 8 * PAGE, PROT_READ));
    ok!(sys::mprotect(at, 8 * PAGE, RW));
    peek(at + 3 * PAGE);
    poke(at + 5 * PAGE, 1);
    check_eq!(smaps_kib(at, "Referenced"), 8);
}

/// Pages of anonymous memory and of a file, all of them referenced.
fn both_kinds() -> (usize, usize) {
    let fd = tmp::file(&[1; 4 * PAGE]);
    let file = ok!(sys::mmap(0, 4 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
    let own = lone_anon(4);
    number_pages(own, 4, 1);
    page_numbers(file, 4);
    check_eq!((smaps_kib(own, "Referenced"), smaps_kib(file, "Referenced")), (16, 16));
    (own, file)
}

fn two_is_for_anonymous_memory() {
    let (own, file) = both_kinds();
    clear("2");
    check_eq!((smaps_kib(own, "Referenced"), smaps_kib(file, "Referenced")), (0, 16));
}

fn three_is_for_files() {
    let (own, file) = both_kinds();
    clear("3");
    check_eq!((smaps_kib(own, "Referenced"), smaps_kib(file, "Referenced")), (16, 0));
}

fn five_resets_the_peak() {
    const MANY: usize = 4096;
    let at = anon(MANY);
    number_pages(at, MANY, 1);
    ok!(sys::munmap(at, MANY * PAGE));
    let (peak, size) = (status_kib("VmHWM"), status_kib("VmPeak"));
    clear("5");
    check!(status_kib("VmHWM") + MANY * 3 < peak, "{} KiB after {peak}", status_kib("VmHWM"));
    check_eq!(status_kib("VmPeak"), size);
}

fn other_numbers_are_einval() {
    for bad in ["0", "6", "-1", "x", "", "4x"] {
        match clear_of("self", bad) {
            // Nothing is written at all.
            Ok(0) if bad.is_empty() => {}
            result => errno_is!(result, EINVAL),
        }
    }
}

fn reading_is_einval() {
    match sys::open("/proc/self/clear_refs", O_RDONLY | O_CLOEXEC, 0) {
        Ok(fd) => errno_is!(sys::read(fd, &mut [0; 8]), EINVAL),
        Err(error) => check_eq!(error, sys::Errno(libc::EACCES)),
    }
}
