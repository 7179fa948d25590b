// SPDX-License-Identifier: MPL-2.0

//! msync(2) and mincore(2), and every error they name.

use libc::{MADV_DONTNEED, MAP_PRIVATE, MAP_SHARED, MS_ASYNC, MS_INVALIDATE, MS_SYNC, PROT_NONE, PROT_READ};

use super::{
    ANON, PAGE, RW, anon, anon_shared, free_range, lone_anon, number_pages, page_numbers, peek, poke,
};
use crate::{child::in_child, harness::Case, sys, tmp};

pub const CASES: &[Case] = cases!["mem/msync":
    sync_of_a_shared_file,
    async_and_invalidate_succeed,
    anonymous_memory_succeeds,
    private_changes_stay_out_of_the_file,
    prot_none_succeeds,
    zero_length_succeeds,
    unaligned_is_einval,
    both_sync_and_async_is_einval,
    unknown_flag_is_einval,
    unmapped_is_enomem,
    hole_is_enomem,
    length_that_wraps_is_enomem,
    invalidate_of_locked_memory_is_ebusy,
];

pub const MINCORE: &[Case] = cases!["mem/mincore":
    untouched_is_not_resident,
    touched_is_resident,
    read_is_resident,
    dropped_is_not_resident,
    cached_file_pages_are_resident,
    shared_page_touched_by_a_child_is_resident,
    result_has_only_the_lowest_bit,
    length_is_rounded_up,
    zero_length_writes_nothing,
    mincore_unaligned_is_einval,
    mincore_unmapped_is_enomem,
    mincore_hole_is_enomem,
    beyond_the_address_space_is_enomem,
    bad_vector_is_efault,
    across_several_mappings,
];

fn shared_file(pages: usize) -> (i32, usize) {
    let fd = tmp::file(&vec![b's'; pages * PAGE]);
    (fd, ok!(sys::mmap(0, pages * PAGE, RW, MAP_SHARED, fd, 0)))
}

fn sync_of_a_shared_file() {
    let (fd, at) = shared_file(3);
    number_pages(at, 3, 1);
    check_eq!(sys::msync(at, 3 * PAGE, MS_SYNC), Ok(0));
    let mut content = vec![0; 3 * PAGE];
    check_eq!(sys::pread(fd, &mut content, 0), Ok(3 * PAGE));
    check_eq!((content[0], content[PAGE], content[2 * PAGE], content[1]), (1, 2, 3, b's'));
}

fn async_and_invalidate_succeed() {
    let (_, at) = shared_file(2);
    poke(at, 1);
    check_eq!(sys::msync(at, 2 * PAGE, MS_ASYNC), Ok(0));
    check_eq!(sys::msync(at, 2 * PAGE, MS_SYNC | MS_INVALIDATE), Ok(0));
    check_eq!(sys::msync(at, 2 * PAGE, MS_INVALIDATE), Ok(0));
    check_eq!(sys::msync(at, 2 * PAGE, 0), Ok(0));
    check_eq!((peek(at), peek(at + 1)), (1, b's'));
}

fn anonymous_memory_succeeds() {
    let (private, shared) = (anon(2), anon_shared(2));
    number_pages(private, 2, 1);
    check_eq!(sys::msync(private, 2 * PAGE, MS_SYNC), Ok(0));
    check_eq!(sys::msync(shared, 2 * PAGE, MS_SYNC), Ok(0));
    check_eq!(page_numbers(private, 2), [1, 2]);
}

fn private_changes_stay_out_of_the_file() {
    let fd = tmp::file(&[b'f'; PAGE]);
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0));
    poke(at, b'p');
    check_eq!(sys::msync(at, PAGE, MS_SYNC), Ok(0));
    let mut byte = [0];
    check_eq!(sys::pread(fd, &mut byte, 0), Ok(1));
    check_eq!((byte, peek(at)), (*b"f", b'p'));
}

fn prot_none_succeeds() {
    let at = ok!(sys::mmap(0, PAGE, PROT_NONE, ANON, -1, 0));
    check_eq!(sys::msync(at, PAGE, MS_SYNC), Ok(0));
}

fn zero_length_succeeds() {
    check_eq!(sys::msync(anon(1), 0, MS_SYNC), Ok(0));
    check_eq!(sys::msync(free_range(1), 0, MS_SYNC), Ok(0));
}

fn unaligned_is_einval() {
    errno_is!(sys::msync(anon(2) + 1, PAGE, MS_SYNC), EINVAL);
}

fn both_sync_and_async_is_einval() {
    errno_is!(sys::msync(anon(1), PAGE, MS_SYNC | MS_ASYNC), EINVAL);
}

fn unknown_flag_is_einval() {
    errno_is!(sys::msync(anon(1), PAGE, 8), EINVAL);
    errno_is!(sys::msync(anon(1), PAGE, MS_SYNC | 0x100), EINVAL);
}

fn unmapped_is_enomem() {
    errno_is!(sys::msync(free_range(2), 2 * PAGE, MS_SYNC), ENOMEM);
    errno_is!(sys::msync(free_range(2), 2 * PAGE, MS_ASYNC), ENOMEM);
}

fn hole_is_enomem() {
    let at = lone_anon(3);
    ok!(sys::munmap(at + PAGE, PAGE));
    errno_is!(sys::msync(at, 3 * PAGE, MS_SYNC), ENOMEM);
    errno_is!(sys::msync(at + 2 * PAGE, 2 * PAGE, MS_ASYNC), ENOMEM);
}

fn length_that_wraps_is_enomem() {
    errno_is!(sys::msync(anon(1), usize::MAX & !(PAGE - 1), MS_SYNC), ENOMEM);
}

fn invalidate_of_locked_memory_is_ebusy() {
    let (_, at) = shared_file(2);
    ok!(sys::mlock(at, PAGE));
    errno_is!(sys::msync(at, 2 * PAGE, MS_INVALIDATE), EBUSY);
    check_eq!(sys::msync(at, 2 * PAGE, MS_SYNC), Ok(0));
    ok!(sys::munlock(at, PAGE));
    check_eq!(sys::msync(at, 2 * PAGE, MS_INVALIDATE), Ok(0));
}

fn resident(at: usize, pages: usize) -> Vec<u8> {
    ok!(sys::mincore(at, pages * PAGE)).into_iter().map(|page| page & 1).collect()
}

fn untouched_is_not_resident() {
    check_eq!(resident(anon(4), 4), [0; 4]);
    check_eq!(resident(anon_shared(4), 4), [0; 4]);
}

fn touched_is_resident() {
    let at = anon(4);
    poke(at + PAGE, 1);
    poke(at + 3 * PAGE, 1);
    check_eq!(resident(at, 4), [0, 1, 0, 1]);
}

fn read_is_resident() {
    let at = anon(3);
    check_eq!(peek(at + PAGE), 0);
    check_eq!(resident(at, 3), [0, 1, 0]);
}

fn dropped_is_not_resident() {
    let at = anon(4);
    number_pages(at, 4, 1);
    ok!(sys::madvise(at + PAGE, 2 * PAGE, MADV_DONTNEED));
    check_eq!(resident(at, 4), [1, 0, 0, 1]);
}

fn cached_file_pages_are_resident() {
    let fd = tmp::file(&[1; 2 * PAGE]);
    let at = ok!(sys::mmap(0, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0));
    check_eq!(resident(at, 2), [1, 1], "just written, so in the page cache");
}

fn shared_page_touched_by_a_child_is_resident() {
    let at = anon_shared(3);
    in_child(|| poke(at + PAGE, 1));
    check_eq!(resident(at, 3), [0, 1, 0]);
}

fn result_has_only_the_lowest_bit() {
    let at = anon(2);
    poke(at, 1);
    check_eq!(sys::mincore(at, 2 * PAGE), Ok(vec![1, 0]));
}

fn length_is_rounded_up() {
    let at = anon(2);
    poke(at + PAGE, 1);
    let mut pages = [0xaa_u8; 3];
    check_eq!(syscall!(SYS_mincore, at, PAGE + 1, pages.as_mut_ptr()), Ok(0));
    check_eq!(pages, [0, 1, 0xaa]);
}

fn zero_length_writes_nothing() {
    let mut pages = [0xaa_u8];
    check_eq!(syscall!(SYS_mincore, anon(1), 0, pages.as_mut_ptr()), Ok(0));
    check_eq!(pages, [0xaa]);
}

fn mincore_unaligned_is_einval() {
    errno_is!(sys::mincore(anon(2) + 1, PAGE), EINVAL);
}

fn mincore_unmapped_is_enomem() {
    errno_is!(sys::mincore(free_range(2), 2 * PAGE), ENOMEM);
}

fn mincore_hole_is_enomem() {
    let at = lone_anon(3);
    ok!(sys::munmap(at + PAGE, PAGE));
    errno_is!(sys::mincore(at, 3 * PAGE), ENOMEM);
}

fn beyond_the_address_space_is_enomem() {
    let (at, mut pages) = (anon(1), [0_u8; 1]);
    errno_is!(syscall!(SYS_mincore, at, usize::MAX, pages.as_mut_ptr()), ENOMEM);
    errno_is!(syscall!(SYS_mincore, 0xffff_8000_0000_0000_usize, PAGE, pages.as_mut_ptr()), ENOMEM);
}

fn bad_vector_is_efault() {
    let (at, hole) = (anon(4), free_range(1));
    errno_is!(syscall!(SYS_mincore, at, 4 * PAGE, hole), EFAULT);
    errno_is!(syscall!(SYS_mincore, at, 4 * PAGE, 0), EFAULT);
}

fn across_several_mappings() {
    let at = lone_anon(4);
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ));
    poke(at, 1);
    ok!(sys::mprotect(at + 2 * PAGE, PAGE, PROT_NONE));
    poke(at + 3 * PAGE, 1);
    check_eq!(resident(at, 4), [1, 0, 0, 1]);
}
