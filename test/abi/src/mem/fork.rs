// SPDX-License-Identifier: MPL-2.0

//! fork(2) and memory: private memory is copied, in every direction; shared memory stays one.
//!
//! ```text
//!   parent ──▶ child ──▶ grandchild     a private write anywhere is seen there alone,
//!      └─────▶ child                    a shared write anywhere is seen everywhere
//! ```

use libc::{MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ};

use super::{ANON, PAGE, RW, anon, anon_shared, fill, lone_anon, number_pages, page_numbers, peek, poke};
use crate::{
    child::{Child, Turn, in_child},
    fault::{expect_accerr, expect_maperr, try_write},
    harness::Case,
    procfs, sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/fork":
    child_sees_the_content,
    child_write_stays_with_the_child,
    parent_write_stays_with_the_parent,
    both_write_the_same_page,
    untouched_pages_are_zero_on_both_sides,
    page_touched_in_the_child_only,
    grandchild_sees_what_its_parent_wrote,
    grandchild_write_stays_with_the_grandchild,
    write_after_the_child_has_gone,
    shared_anonymous_stays_shared,
    shared_untouched_page_is_one_page,
    shared_in_grandchildren,
    shared_file_stays_shared,
    private_file_is_copied,
    private_file_copy_is_copied_again,
    parent_protects_and_child_writes,
    write_after_read_only_and_back,
    prot_none_content_is_copied,
    moved_memory_is_copied,
    moved_after_fork_keeps_its_own,
    unmapped_in_the_parent_stays_in_the_child,
    mapped_after_fork_is_not_in_the_other,
    stack_is_copied,
    data_is_copied,
    heap_is_copied,
    every_byte_of_a_copied_page,
    read_only_stays_read_only,
    layout_is_the_same,
    kernel_write_copies_first,
];

fn child_sees_the_content() {
    let at = anon(8);
    number_pages(at, 8, 1);
    in_child(|| check_eq!(page_numbers(at, 8), [1, 2, 3, 4, 5, 6, 7, 8]));
}

fn child_write_stays_with_the_child() {
    let at = anon(4);
    number_pages(at, 4, 1);
    in_child(|| {
        number_pages(at, 4, 100);
        check_eq!(page_numbers(at, 4), [100, 101, 102, 103]);
    });
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
}

fn parent_write_stays_with_the_parent() {
    let (at, go) = (anon(4), Turn::new());
    number_pages(at, 4, 1);
    let child = Child::spawn(|| {
        go.wait();
        check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
    });
    number_pages(at, 4, 100);
    go.post();
    child.join();
    check_eq!(page_numbers(at, 4), [100, 101, 102, 103]);
}

fn both_write_the_same_page() {
    let (at, go, done) = (anon(1), Turn::new(), Turn::new());
    fill(at, PAGE, 1);
    let child = Child::spawn(|| {
        poke(at + 10, 2);
        done.post();
        go.wait();
        check_eq!((peek(at + 10), peek(at + 20), peek(at + 30)), (2, 1, 1));
    });
    done.wait();
    check_eq!(peek(at + 10), 1);
    poke(at + 20, 3);
    go.post();
    child.join();
    check_eq!((peek(at + 10), peek(at + 20), peek(at + 30)), (1, 3, 1));
}

fn untouched_pages_are_zero_on_both_sides() {
    let at = anon(4);
    in_child(|| {
        check_eq!(page_numbers(at, 4), [0; 4]);
        number_pages(at, 4, 5);
    });
    check_eq!(page_numbers(at, 4), [0; 4]);
}

fn page_touched_in_the_child_only() {
    let at = anon(4);
    poke(at, 1);
    in_child(|| {
        poke(at + 3 * PAGE, 4);
        check_eq!(page_numbers(at, 4), [1, 0, 0, 4]);
    });
    check_eq!(page_numbers(at, 4), [1, 0, 0, 0]);
}

fn grandchild_sees_what_its_parent_wrote() {
    let at = anon(3);
    number_pages(at, 3, 1);
    in_child(|| {
        poke(at + PAGE, 50);
        in_child(|| check_eq!(page_numbers(at, 3), [1, 50, 3]));
    });
    check_eq!(page_numbers(at, 3), [1, 2, 3]);
}

fn grandchild_write_stays_with_the_grandchild() {
    let at = anon(3);
    number_pages(at, 3, 1);
    in_child(|| {
        in_child(|| number_pages(at, 3, 70));
        check_eq!(page_numbers(at, 3), [1, 2, 3]);
    });
    check_eq!(page_numbers(at, 3), [1, 2, 3]);
}

fn write_after_the_child_has_gone() {
    let at = anon(4);
    for round in 0..20 {
        number_pages(at, 4, round);
        in_child(|| {
            check_eq!(peek(at + 3 * PAGE), round + 3);
            poke(at, 200);
        });
        check_eq!(peek(at), round);
    }
}

fn shared_anonymous_stays_shared() {
    let at = anon_shared(2);
    number_pages(at, 2, 1);
    in_child(|| {
        check_eq!(page_numbers(at, 2), [1, 2]);
        number_pages(at, 2, 10);
    });
    check_eq!(page_numbers(at, 2), [10, 11]);
}

fn shared_untouched_page_is_one_page() {
    let (at, go) = (anon_shared(2), Turn::new());
    let child = Child::spawn(|| {
        poke(at, 5);
        go.wait();
        check_eq!(peek(at + PAGE), 6);
    });
    poke(at + PAGE, 6);
    go.post();
    child.join();
    check_eq!(page_numbers(at, 2), [5, 6]);
}

fn shared_in_grandchildren() {
    let at = anon_shared(3);
    in_child(|| {
        poke(at, 1);
        in_child(|| {
            poke(at + PAGE, 2);
            in_child(|| poke(at + 2 * PAGE, peek(at) + peek(at + PAGE)));
        });
    });
    check_eq!(page_numbers(at, 3), [1, 2, 3]);
}

fn shared_file_stays_shared() {
    let fd = tmp::file(&[1; 2 * PAGE]);
    let at = ok!(sys::mmap(0, 2 * PAGE, RW, MAP_SHARED, fd, 0));
    in_child(|| poke(at + PAGE, 9));
    check_eq!(page_numbers(at, 2), [1, 9]);
}

fn private_file_is_copied() {
    let fd = tmp::file(&[1; 2 * PAGE]);
    let at = ok!(sys::mmap(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0));
    in_child(|| {
        poke(at, 9);
        check_eq!(page_numbers(at, 2), [9, 1]);
    });
    check_eq!(page_numbers(at, 2), [1, 1]);
}

fn private_file_copy_is_copied_again() {
    let fd = tmp::file(&[1; 2 * PAGE]);
    let at = ok!(sys::mmap(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0));
    poke(at, 5);
    in_child(|| {
        check_eq!(page_numbers(at, 2), [5, 1]);
        poke(at, 6);
        check_eq!(sys::pwrite(fd, b"Z", PAGE), Ok(1));
        check_eq!(page_numbers(at, 2), [6, b'Z']);
    });
    check_eq!(page_numbers(at, 2), [5, b'Z']);
}

fn parent_protects_and_child_writes() {
    let (at, go) = (anon(2), Turn::new());
    number_pages(at, 2, 1);
    let child = Child::spawn(|| {
        go.wait();
        number_pages(at, 2, 40);
        check_eq!(page_numbers(at, 2), [40, 41]);
    });
    ok!(sys::mprotect(at, 2 * PAGE, PROT_READ));
    go.post();
    child.join();
    check_eq!(page_numbers(at, 2), [1, 2]);
    expect_accerr(at, || poke(at, 1));
}

fn write_after_read_only_and_back() {
    let (at, go) = (anon(2), Turn::new());
    number_pages(at, 2, 1);
    let child = Child::spawn(|| {
        go.wait();
        check_eq!(page_numbers(at, 2), [1, 2], "making memory writable again must not undo copy-on-write");
    });
    ok!(sys::mprotect(at, 2 * PAGE, PROT_READ));
    ok!(sys::mprotect(at, 2 * PAGE, RW));
    number_pages(at, 2, 60);
    go.post();
    child.join();
    check_eq!(page_numbers(at, 2), [60, 61]);
}

fn prot_none_content_is_copied() {
    let at = anon(2);
    number_pages(at, 2, 1);
    ok!(sys::mprotect(at, 2 * PAGE, PROT_NONE));
    in_child(|| {
        expect_accerr(at, || _ = peek(at));
        ok!(sys::mprotect(at, 2 * PAGE, RW));
        check_eq!(page_numbers(at, 2), [1, 2]);
        number_pages(at, 2, 80);
    });
    ok!(sys::mprotect(at, 2 * PAGE, PROT_READ));
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn moved_memory_is_copied() {
    let at = anon(3);
    number_pages(at, 3, 1);
    let to = super::free_range(3);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    check_eq!(sys::mremap(at, 3 * PAGE, 3 * PAGE, flags, to), Ok(to));
    in_child(|| {
        number_pages(to, 3, 90);
        expect_maperr(at, || _ = peek(at));
    });
    check_eq!(page_numbers(to, 3), [1, 2, 3]);
}

fn moved_after_fork_keeps_its_own() {
    let (at, to, go) = (anon(3), super::free_range(3), Turn::new());
    number_pages(at, 3, 1);
    let child = Child::spawn(|| {
        go.wait();
        check_eq!(page_numbers(at, 3), [1, 2, 3]);
    });
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    check_eq!(sys::mremap(at, 3 * PAGE, 3 * PAGE, flags, to), Ok(to));
    number_pages(to, 3, 90);
    go.post();
    child.join();
    check_eq!(page_numbers(to, 3), [90, 91, 92]);
}

fn unmapped_in_the_parent_stays_in_the_child() {
    let (at, go) = (lone_anon(2), Turn::new());
    number_pages(at, 2, 1);
    let child = Child::spawn(|| {
        go.wait();
        check_eq!(page_numbers(at, 2), [1, 2]);
    });
    ok!(sys::munmap(at, 2 * PAGE));
    go.post();
    child.join();
    expect_maperr(at, || _ = peek(at));
}

fn mapped_after_fork_is_not_in_the_other() {
    let (at, go) = (super::free_range(1), Turn::new());
    let child = Child::spawn(|| {
        go.wait();
        expect_maperr(at, || _ = peek(at));
    });
    check_eq!(sys::mmap(at, PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(at));
    poke(at, 1);
    go.post();
    child.join();
}

fn stack_is_copied() {
    let mut local = [1_u8; 10_000];
    let at = local.as_mut_ptr() as usize;
    in_child(|| {
        fill(at, 10_000, 2);
        check_eq!((peek(at), peek(at + 9999)), (2, 2));
    });
    check_eq!((peek(at), peek(at + 9999)), (1, 1));
    check_eq!(std::hint::black_box(&mut local)[5000], 1);
}

fn data_is_copied() {
    static WORD: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(5);
    use std::sync::atomic::Ordering::SeqCst;
    in_child(|| {
        check_eq!(WORD.load(SeqCst), 5);
        WORD.store(6, SeqCst);
    });
    check_eq!(WORD.load(SeqCst), 5);
}

fn heap_is_copied() {
    let start = sys::brk(0).next_multiple_of(PAGE);
    check_eq!(sys::brk(start + PAGE), start + PAGE);
    poke(start, 3);
    in_child(|| {
        check_eq!(peek(start), 3);
        poke(start, 4);
        check_eq!(sys::brk(start), start);
    });
    check_eq!(peek(start), 3);
    check_eq!(sys::brk(0), start + PAGE);
}

fn every_byte_of_a_copied_page() {
    let at = anon(1);
    (0..PAGE).for_each(|offset| poke(at + offset, (offset % 239) as u8));
    in_child(|| {
        poke(at + 1234, 255);
        check!(
            (0..PAGE).all(|offset| {
                peek(at + offset) == if offset == 1234 { 255 } else { (offset % 239) as u8 }
            })
        );
    });
    check_eq!(peek(at + 1234), (1234 % 239) as u8);
}

fn read_only_stays_read_only() {
    let at = anon(1);
    poke(at, 1);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    in_child(|| {
        check!(try_write(at, 2).is_err());
        check_eq!(peek(at), 1);
    });
    check!(try_write(at, 2).is_err());
}

fn layout_is_the_same() {
    let at = lone_anon(6);
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ));
    ok!(sys::munmap(at + 3 * PAGE, PAGE));
    let lines = |maps: Vec<procfs::Vma>| -> Vec<_> {
        maps.into_iter().map(|vma| (vma.start, vma.end, vma.perms, vma.offset, vma.path)).collect()
    };
    // Reading a file grows no heap here, and the stack may grow: leave it out.
    let mut before = lines(procfs::maps());
    before.retain(|line| line.4 != "[stack]");
    in_child(|| {
        let mut after = lines(procfs::maps());
        after.retain(|line| line.4 != "[stack]");
        check_eq!(after, before);
    });
}

fn kernel_write_copies_first() {
    let (at, zero) = (anon(2), ok!(sys::open("/dev/zero", libc::O_RDONLY, 0)));
    fill(at, 2 * PAGE, 7);
    in_child(|| {
        check_eq!(syscall!(SYS_read, zero, at + 100, PAGE), Ok(PAGE));
        check_eq!((peek(at + 99), peek(at + 100), peek(at + PAGE + 99), peek(at + PAGE + 100)), (7, 0, 0, 7));
    });
    check_eq!((peek(at + 100), peek(at + PAGE + 99)), (7, 7));
}
