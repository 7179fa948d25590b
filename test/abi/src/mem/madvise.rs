// SPDX-License-Identifier: MPL-2.0

//! madvise(2): advice that changes what memory holds, advice that changes what fork does, and every error it names.

use libc::{
    MADV_COLD, MADV_DODUMP, MADV_DOFORK, MADV_DONTDUMP, MADV_DONTFORK, MADV_DONTNEED, MADV_FREE,
    MADV_KEEPONFORK, MADV_NORMAL, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_RANDOM,
    MADV_REMOVE, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_WIPEONFORK, MAP_PRIVATE, MAP_SHARED, PROT_EXEC,
    PROT_NONE, PROT_READ, PROT_WRITE,
};

use super::{
    ANON, PAGE, RW, anon, anon_shared, free_range, lone_anon, number_pages, page_numbers, peek, poke,
};
use crate::{
    child::{Child, Turn, in_child},
    fault::{expect_accerr, expect_maperr},
    harness::Case,
    procfs, sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/madvise":
    dontneed_zeroes_private_anonymous,
    dontneed_of_a_part,
    dontneed_keeps_shared_anonymous,
    dontneed_shows_the_file_again,
    dontneed_keeps_a_shared_file,
    dontneed_of_read_only_memory,
    dontneed_of_prot_none,
    dontneed_keeps_the_rights,
    dontneed_gives_frames_back,
    dontneed_here_keeps_the_child,
    dontneed_of_the_stack_below,
    dontneed_many_times,
    free_gives_old_or_zero,
    free_then_written_stays,
    free_of_file_or_shared_is_einval,
    willneed_of_a_file_changes_nothing,
    willneed_of_anonymous_changes_nothing,
    hints_change_nothing,
    hints_show_in_smaps,
    cold_and_pageout_keep_the_content,
    dontfork_is_not_in_the_child,
    dofork_takes_it_back,
    dontfork_of_the_middle,
    wipeonfork_is_zero_in_the_child,
    wipeonfork_holds_for_grandchildren,
    keeponfork_takes_it_back,
    wipeonfork_of_shared_or_file_is_einval,
    dontdump_shows_in_smaps,
    populate_read_makes_resident,
    populate_write_makes_writable,
    populate_of_a_file_keeps_the_content,
    populate_without_the_right_is_einval,
    populate_read_needs_the_right_to_read,
    populate_beyond_the_file_is_efault,
    populate_across_a_hole_is_enomem,
    remove_zeroes_shared_memory,
    remove_of_private_anonymous_is_einval,
    remove_of_private_file_is_eacces,
    unknown_advice_is_einval,
    unaligned_is_einval,
    length_that_wraps_is_einval,
    zero_length_succeeds,
    length_is_rounded_up,
    unmapped_is_enomem,
    hole_is_enomem_with_the_rest_done,
    locked_memory_is_einval,
    poison_by_others_is_eperm,
];

fn dontneed_zeroes_private_anonymous() {
    let at = anon(4);
    number_pages(at, 4, 1);
    check_eq!(sys::madvise(at, 4 * PAGE, MADV_DONTNEED), Ok(0));
    check_eq!(page_numbers(at, 4), [0; 4]);
    number_pages(at, 4, 5);
    check_eq!(page_numbers(at, 4), [5, 6, 7, 8]);
}

fn dontneed_of_a_part() {
    let at = anon(5);
    number_pages(at, 5, 1);
    ok!(sys::madvise(at + PAGE, 2 * PAGE, MADV_DONTNEED));
    check_eq!(page_numbers(at, 5), [1, 0, 0, 4, 5]);
}

fn dontneed_keeps_shared_anonymous() {
    let at = anon_shared(3);
    number_pages(at, 3, 1);
    ok!(sys::madvise(at, 3 * PAGE, MADV_DONTNEED));
    check_eq!(page_numbers(at, 3), [1, 2, 3]);
}

fn dontneed_shows_the_file_again() {
    let fd = tmp::file(&[b'f'; 2 * PAGE]);
    let at = ok!(sys::mmap(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0));
    number_pages(at, 2, 1);
    check_eq!(sys::pwrite(fd, b"N", PAGE), Ok(1));
    ok!(sys::madvise(at, 2 * PAGE, MADV_DONTNEED));
    check_eq!(page_numbers(at, 2), [b'f', b'N']);
}

fn dontneed_keeps_a_shared_file() {
    let fd = tmp::file(&[b'f'; PAGE]);
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_SHARED, fd, 0));
    poke(at, b'n');
    ok!(sys::madvise(at, PAGE, MADV_DONTNEED));
    check_eq!((peek(at), peek(at + 1)), (b'n', b'f'));
}

fn dontneed_of_read_only_memory() {
    let at = anon(2);
    number_pages(at, 2, 1);
    ok!(sys::mprotect(at, 2 * PAGE, PROT_READ));
    ok!(sys::madvise(at, 2 * PAGE, MADV_DONTNEED));
    check_eq!(page_numbers(at, 2), [0, 0]);
}

fn dontneed_of_prot_none() {
    let at = anon(2);
    number_pages(at, 2, 1);
    ok!(sys::mprotect(at, 2 * PAGE, PROT_NONE));
    ok!(sys::madvise(at, 2 * PAGE, MADV_DONTNEED));
    ok!(sys::mprotect(at, 2 * PAGE, RW));
    check_eq!(page_numbers(at, 2), [0, 0]);
}

fn dontneed_keeps_the_rights() {
    let at = anon(1);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    ok!(sys::madvise(at, PAGE, MADV_DONTNEED));
    expect_accerr(at, || poke(at, 1));
}

fn dontneed_gives_frames_back() {
    let at = lone_anon(64);
    number_pages(at, 64, 1);
    check_eq!(procfs::smaps_kib(at, "Rss"), 256);
    ok!(sys::madvise(at, 32 * PAGE, MADV_DONTNEED));
    check_eq!(procfs::smaps_kib(at, "Rss"), 128);
    check_eq!(procfs::smaps_kib(at, "Size"), 256);
}

fn dontneed_here_keeps_the_child() {
    let (at, go) = (anon(2), Turn::new());
    number_pages(at, 2, 1);
    let child = Child::spawn(|| {
        go.wait();
        check_eq!(page_numbers(at, 2), [1, 2]);
    });
    ok!(sys::madvise(at, 2 * PAGE, MADV_DONTNEED));
    check_eq!(page_numbers(at, 2), [0, 0]);
    go.post();
    child.join();
}

fn dontneed_of_the_stack_below() {
    let local = 0_u8;
    let at = (std::hint::black_box(&raw const local) as usize - (256 << 10)) & !(PAGE - 1);
    poke(at, 9);
    ok!(sys::madvise(at, PAGE, MADV_DONTNEED));
    check_eq!(peek(at), 0);
}

fn dontneed_many_times() {
    let at = anon(16);
    for round in 1..200 {
        number_pages(at, 16, round);
        ok!(sys::madvise(at, 16 * PAGE, MADV_DONTNEED));
        check_eq!(peek(at + (round as usize % 16) * PAGE), 0);
    }
}

fn free_gives_old_or_zero() {
    let at = anon(8);
    number_pages(at, 8, 1);
    ok!(sys::madvise(at, 8 * PAGE, MADV_FREE));
    for (page, number) in page_numbers(at, 8).into_iter().enumerate() {
        check!(number == 0 || number == page as u8 + 1, "page {page} holds {number}");
    }
}

fn free_then_written_stays() {
    let at = anon(4);
    number_pages(at, 4, 1);
    ok!(sys::madvise(at, 4 * PAGE, MADV_FREE));
    number_pages(at, 4, 11);
    in_child(|| check_eq!(page_numbers(at, 4), [11, 12, 13, 14]));
    check_eq!(page_numbers(at, 4), [11, 12, 13, 14]);
}

fn free_of_file_or_shared_is_einval() {
    let fd = tmp::file(&[1; PAGE]);
    let file = ok!(sys::mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0));
    errno_is!(sys::madvise(file, PAGE, MADV_FREE), EINVAL);
    errno_is!(sys::madvise(anon_shared(1), PAGE, MADV_FREE), EINVAL);
}

fn willneed_of_a_file_changes_nothing() {
    let fd = tmp::file(&[b'w'; 3 * PAGE]);
    let at = ok!(sys::mmap(0, 3 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
    check_eq!(sys::madvise(at, 3 * PAGE, MADV_WILLNEED), Ok(0));
    check_eq!(page_numbers(at, 3), [b'w'; 3]);
}

fn willneed_of_anonymous_changes_nothing() {
    let at = anon(2);
    number_pages(at, 2, 1);
    // A kernel without swap says that this maps no file.
    match sys::madvise(at, 2 * PAGE, MADV_WILLNEED) {
        Ok(0) | Err(sys::Errno(libc::EBADF)) => {}
        other => panic!("MADV_WILLNEED gives {other:?}"),
    }
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn hints_change_nothing() {
    let at = anon(4);
    number_pages(at, 4, 1);
    for advice in [MADV_RANDOM, MADV_SEQUENTIAL, MADV_NORMAL, MADV_DODUMP, MADV_DOFORK, MADV_KEEPONFORK] {
        check_eq!(sys::madvise(at + PAGE, 2 * PAGE, advice), Ok(0));
    }
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
}

fn hints_show_in_smaps() {
    let at = lone_anon(1);
    let has = |flag: &str| procfs::vm_flags(at).iter().any(|have| have == flag);
    ok!(sys::madvise(at, PAGE, MADV_RANDOM));
    check_eq!((has("rr"), has("sr")), (true, false));
    ok!(sys::madvise(at, PAGE, MADV_SEQUENTIAL));
    check_eq!((has("rr"), has("sr")), (false, true));
    ok!(sys::madvise(at, PAGE, MADV_NORMAL));
    check_eq!((has("rr"), has("sr")), (false, false));
}

fn cold_and_pageout_keep_the_content() {
    let at = anon(4);
    number_pages(at, 4, 1);
    check_eq!(sys::madvise(at, 4 * PAGE, MADV_COLD), Ok(0));
    check_eq!(sys::madvise(at, 4 * PAGE, MADV_PAGEOUT), Ok(0));
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
}

fn dontfork_is_not_in_the_child() {
    let at = lone_anon(2);
    number_pages(at, 2, 1);
    ok!(sys::madvise(at, 2 * PAGE, MADV_DONTFORK));
    in_child(|| {
        check_eq!(procfs::vma_at(at), None);
        expect_maperr(at, || _ = peek(at));
    });
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn dofork_takes_it_back() {
    let at = lone_anon(2);
    number_pages(at, 2, 1);
    ok!(sys::madvise(at, 2 * PAGE, MADV_DONTFORK));
    ok!(sys::madvise(at, 2 * PAGE, MADV_DOFORK));
    in_child(|| check_eq!(page_numbers(at, 2), [1, 2]));
}

fn dontfork_of_the_middle() {
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    ok!(sys::madvise(at + PAGE, 2 * PAGE, MADV_DONTFORK));
    in_child(|| {
        check_eq!(procfs::layout(at..at + 4 * PAGE), [(0, 1, "rw-p".into()), (3, 4, "rw-p".into())]);
        check_eq!((peek(at), peek(at + 3 * PAGE)), (1, 4));
    });
}

fn wipeonfork_is_zero_in_the_child() {
    let at = anon(4);
    number_pages(at, 4, 1);
    ok!(sys::madvise(at + PAGE, 2 * PAGE, MADV_WIPEONFORK));
    in_child(|| {
        check_eq!(page_numbers(at, 4), [1, 0, 0, 4]);
        number_pages(at, 4, 9);
    });
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
}

fn wipeonfork_holds_for_grandchildren() {
    let at = anon(1);
    poke(at, 1);
    ok!(sys::madvise(at, PAGE, MADV_WIPEONFORK));
    in_child(|| {
        check_eq!(peek(at), 0);
        poke(at, 2);
        in_child(|| check_eq!(peek(at), 0));
        check_eq!(peek(at), 2);
    });
}

fn keeponfork_takes_it_back() {
    let at = anon(1);
    poke(at, 1);
    ok!(sys::madvise(at, PAGE, MADV_WIPEONFORK));
    ok!(sys::madvise(at, PAGE, MADV_KEEPONFORK));
    in_child(|| check_eq!(peek(at), 1));
}

fn wipeonfork_of_shared_or_file_is_einval() {
    let fd = tmp::file(&[1; PAGE]);
    let file = ok!(sys::mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0));
    errno_is!(sys::madvise(file, PAGE, MADV_WIPEONFORK), EINVAL);
    errno_is!(sys::madvise(anon_shared(1), PAGE, MADV_WIPEONFORK), EINVAL);
}

fn dontdump_shows_in_smaps() {
    let at = lone_anon(1);
    let has = |flag: &str| procfs::vm_flags(at).iter().any(|have| have == flag);
    ok!(sys::madvise(at, PAGE, MADV_DONTDUMP));
    check!(has("dd"));
    ok!(sys::madvise(at, PAGE, MADV_DODUMP));
    check!(!has("dd"));
}

fn resident(at: usize, pages: usize) -> usize {
    ok!(sys::mincore(at, pages * PAGE)).iter().filter(|&&page| page & 1 == 1).count()
}

fn populate_read_makes_resident() {
    let at = anon(8);
    check_eq!(sys::madvise(at, 8 * PAGE, MADV_POPULATE_READ), Ok(0));
    check_eq!(resident(at, 8), 8);
    check_eq!(page_numbers(at, 8), [0; 8]);
}

fn populate_write_makes_writable() {
    let at = lone_anon(8);
    poke(at + PAGE, 5);
    check_eq!(sys::madvise(at, 8 * PAGE, MADV_POPULATE_WRITE), Ok(0));
    check_eq!(procfs::smaps_kib(at, "Rss"), 32);
    check_eq!(peek(at + PAGE), 5);
}

fn populate_of_a_file_keeps_the_content() {
    let fd = tmp::file(&[b'p'; 2 * PAGE]);
    let at = ok!(sys::mmap(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0));
    check_eq!(sys::madvise(at, 2 * PAGE, MADV_POPULATE_WRITE), Ok(0));
    check_eq!(page_numbers(at, 2), [b'p'; 2]);
    check_eq!(sys::pwrite(fd, b"x", 0), Ok(1));
    check_eq!(peek(at), b'p');
}

fn populate_without_the_right_is_einval() {
    let at = ok!(sys::mmap(0, PAGE, PROT_NONE, ANON, -1, 0));
    errno_is!(sys::madvise(at, PAGE, MADV_POPULATE_READ), EINVAL);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    errno_is!(sys::madvise(at, PAGE, MADV_POPULATE_WRITE), EINVAL);
    ok!(sys::mprotect(at, PAGE, PROT_READ | PROT_WRITE));
    check_eq!(sys::madvise(at, PAGE, MADV_POPULATE_WRITE), Ok(0));
}

fn populate_read_needs_the_right_to_read() {
    let at = ok!(sys::mmap(0, PAGE, PROT_WRITE, ANON, -1, 0));
    errno_is!(sys::madvise(at, PAGE, MADV_POPULATE_READ), EINVAL);
    check_eq!(sys::madvise(at, PAGE, MADV_POPULATE_WRITE), Ok(0));
    // Locking brings in what can be accessed in any way.
    check_eq!(sys::mlock(at, PAGE), Ok(0));
    ok!(sys::mprotect(at, PAGE, PROT_EXEC));
    errno_is!(sys::madvise(at, PAGE, MADV_POPULATE_READ), EINVAL);
}

fn populate_beyond_the_file_is_efault() {
    let fd = tmp::file(&[1; PAGE]);
    let at = ok!(sys::mmap(0, 3 * PAGE, RW, MAP_SHARED, fd, 0));
    errno_is!(sys::madvise(at, 3 * PAGE, MADV_POPULATE_READ), EFAULT);
    check_eq!(sys::madvise(at, PAGE, MADV_POPULATE_READ), Ok(0));
}

fn populate_across_a_hole_is_enomem() {
    let at = lone_anon(3);
    ok!(sys::munmap(at + PAGE, PAGE));
    errno_is!(sys::madvise(at, 3 * PAGE, MADV_POPULATE_READ), ENOMEM);
}

fn remove_zeroes_shared_memory() {
    let at = anon_shared(4);
    number_pages(at, 4, 1);
    check_eq!(sys::madvise(at + PAGE, 2 * PAGE, MADV_REMOVE), Ok(0));
    check_eq!(page_numbers(at, 4), [1, 0, 0, 4]);
    in_child(|| check_eq!(page_numbers(at, 4), [1, 0, 0, 4]));
}

fn remove_of_private_anonymous_is_einval() {
    errno_is!(sys::madvise(anon(1), PAGE, MADV_REMOVE), EINVAL);
}

fn remove_of_private_file_is_eacces() {
    let fd = tmp::file(&[1; PAGE]);
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0));
    errno_is!(sys::madvise(at, PAGE, MADV_REMOVE), EACCES);
}

fn unknown_advice_is_einval() {
    let at = anon(1);
    poke(at, 1);
    for advice in [5, 6, 7, 1000, -1, i32::MAX] {
        errno_is!(sys::madvise(at, PAGE, advice), EINVAL);
    }
    check_eq!(peek(at), 1);
}

fn unaligned_is_einval() {
    let at = anon(2);
    number_pages(at, 2, 1);
    errno_is!(sys::madvise(at + 1, PAGE, MADV_DONTNEED), EINVAL);
    errno_is!(sys::madvise(at + 8, 0, MADV_DONTNEED), EINVAL);
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn length_that_wraps_is_einval() {
    let at = anon(1);
    poke(at, 1);
    errno_is!(sys::madvise(at, usize::MAX, MADV_DONTNEED), EINVAL);
    errno_is!(sys::madvise(at, usize::MAX & !(PAGE - 1), MADV_DONTNEED), EINVAL);
    check_eq!(peek(at), 1);
}

fn zero_length_succeeds() {
    check_eq!(sys::madvise(anon(1), 0, MADV_DONTNEED), Ok(0));
    check_eq!(sys::madvise(free_range(1), 0, MADV_DONTNEED), Ok(0));
}

fn length_is_rounded_up() {
    let at = anon(3);
    number_pages(at, 3, 1);
    ok!(sys::madvise(at, PAGE + 1, MADV_DONTNEED));
    check_eq!(page_numbers(at, 3), [0, 0, 3]);
}

fn unmapped_is_enomem() {
    let at = free_range(2);
    for advice in [MADV_DONTNEED, MADV_NORMAL, MADV_WILLNEED, MADV_DONTFORK, MADV_FREE] {
        errno_is!(sys::madvise(at, 2 * PAGE, advice), ENOMEM);
    }
}

fn hole_is_enomem_with_the_rest_done() {
    let at = lone_anon(5);
    number_pages(at, 5, 1);
    ok!(sys::munmap(at + 2 * PAGE, PAGE));
    errno_is!(sys::madvise(at + PAGE, 4 * PAGE, MADV_DONTNEED), ENOMEM);
    check_eq!((page_numbers(at, 2), page_numbers(at + 3 * PAGE, 2)), (vec![1, 0], vec![0, 0]));
}

fn locked_memory_is_einval() {
    let at = anon(2);
    number_pages(at, 2, 1);
    ok!(sys::mlock(at, PAGE));
    errno_is!(sys::madvise(at, 2 * PAGE, MADV_DONTNEED), EINVAL);
    errno_is!(sys::madvise(at, PAGE, MADV_COLD), EINVAL);
    errno_is!(sys::madvise(at, PAGE, MADV_PAGEOUT), EINVAL);
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn poison_by_others_is_eperm() {
    let at = anon(1);
    poke(at, 1);
    sys::become_unprivileged();
    match sys::madvise(at, PAGE, libc::MADV_HWPOISON) {
        Err(error) if error.0 == libc::EPERM => {}
        // A kernel that was built without it.
        Err(error) if error.0 == libc::EINVAL => {}
        other => panic!("MADV_HWPOISON gives {other:?}"),
    }
    check_eq!(peek(at), 1);
}
