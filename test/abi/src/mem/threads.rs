// SPDX-License-Identifier: MPL-2.0

//! Threads that share an address space: faults, calls and forks at the same time, and no stale translation left behind.

use std::{
    sync::atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use libc::{MADV_DONTNEED, MAP_FIXED, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_NONE, PROT_READ};

use super::{ANON, PAGE, RW, anon, anon_shared, bytes, lone_anon, number_pages, page_numbers, peek, poke};
use crate::{
    child::in_child,
    fault::{SEGV_ACCERR, SEGV_MAPERR, try_read, try_write},
    harness::Case,
    procfs, sys,
};

pub const CASES: &[Case] = cases!["mem/threads", slow:
    fault_on_the_same_pages_at_once,
    fault_on_shared_pages_at_once,
    fault_on_pages_of_their_own,
    map_and_unmap_beside_each_other,
    new_mappings_do_not_overlap,
    mprotect_while_another_reads,
    mprotect_stops_a_writer,
    munmap_stops_a_writer,
    fixed_mapping_replaces_under_a_writer,
    dontneed_under_writers,
    mremap_under_a_reader,
    unmapped_and_mapped_under_a_reader,
    copy_on_write_by_four_at_once,
    fork_while_others_fault,
    fork_takes_a_snapshot_of_a_writer,
    fork_while_others_map,
    calls_write_memory_while_others_fork,
    calls_into_memory_that_comes_and_goes,
    brk_by_four_at_once,
    maps_while_others_map,
    memory_of_a_thread_that_has_ended_stays,
];

/// Two places where nothing is mapped, nor will be by itself: new mappings come to lie far above. A hole among them would
/// not do, since the start of a thread maps a stack for its signals.
const FAR: [usize; 2] = [0x1000_0000_0000, 0x1000_1000_0000];

/// Runs `body` in that many threads, numbered from 0, and waits for all.
fn together(count: usize, body: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        (0..count).for_each(|index| {
            _ = scope.spawn({
                let body = &body;
                move || body(index)
            })
        })
    });
}

/// Runs `other` over and over in a thread beside `main` for as long as `main` runs.
fn beside(other: impl Fn() + Sync, main: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                other();
            }
        });
        main();
        stop.store(true, Relaxed);
    });
}

/// Repeats `round` for a while.
fn for_a_while(mut round: impl FnMut()) {
    let start = Instant::now();
    for done in 0.. {
        round();
        if done >= 20 && start.elapsed() > Duration::from_millis(150) {
            break;
        }
    }
}

/// Memory as counters that several threads may use.
fn counters(at: usize, count: usize) -> &'static [AtomicUsize] {
    // SAFETY: the case keeps the range mapped; atomics may be used by all.
    unsafe { std::slice::from_raw_parts(at as *const AtomicUsize, count) }
}

fn fault_on_the_same_pages_at_once() {
    for _ in 0..20 {
        let at = anon(64);
        together(4, |index| (0..64).for_each(|page| poke(at + page * PAGE + index, index as u8 + 1)));
        check!((0..64).all(|page| bytes(at + page * PAGE, 5) == [1, 2, 3, 4, 0]));
        ok!(sys::munmap(at, 64 * PAGE));
    }
}

fn fault_on_shared_pages_at_once() {
    for _ in 0..20 {
        let at = anon_shared(64);
        together(4, |index| {
            // Each from another end, so that they meet.
            for step in 0..64 {
                let page = if index % 2 == 0 { step } else { 63 - step };
                poke(at + page * PAGE + index, index as u8 + 1);
            }
        });
        check!((0..64).all(|page| bytes(at + page * PAGE, 5) == [1, 2, 3, 4, 0]));
        ok!(sys::munmap(at, 64 * PAGE));
    }
}

fn fault_on_pages_of_their_own() {
    let at = anon(400);
    together(4, |index| number_pages(at + index * 100 * PAGE, 100, index as u8 * 50));
    for index in 0..4 {
        let expected: Vec<u8> = (0..100).map(|page| (index as u8 * 50).wrapping_add(page)).collect();
        check_eq!(page_numbers(at + index * 100 * PAGE, 100), expected);
    }
}

fn map_and_unmap_beside_each_other() {
    together(4, |index| {
        for round in 0..200 {
            let pages = 1 + (round * 7 + index) % 16;
            let at = anon(pages);
            check_eq!(page_numbers(at, pages), vec![0; pages]);
            number_pages(at, pages, index as u8 + 1);
            check_eq!(peek(at), index as u8 + 1);
            ok!(sys::munmap(at, pages * PAGE));
        }
    });
}

fn new_mappings_do_not_overlap() {
    let places: [AtomicUsize; 400] = [const { AtomicUsize::new(0) }; 400];
    together(4, |index| (0..100).for_each(|round| places[index * 100 + round].store(anon(3), SeqCst)));
    let mut places: Vec<_> = places.iter().map(|place| place.load(SeqCst)).collect();
    places.sort();
    check!(places.windows(2).all(|pair| pair[0] + 3 * PAGE <= pair[1]));
}

fn mprotect_while_another_reads() {
    let at = anon(4);
    number_pages(at, 4, 1);
    let toggle = || {
        ok!(sys::mprotect(at, 4 * PAGE, PROT_READ));
        ok!(sys::mprotect(at, 4 * PAGE, RW));
    };
    beside(toggle, || for_a_while(|| check_eq!(page_numbers(at, 4), [1, 2, 3, 4])));
}

/// The main thread counts up in memory while another runs `revoke`; from its return until `restore`, nothing may change.
fn writer_is_stopped(at: usize, look_at: usize, revoke: impl Fn() + Sync, restore: impl Fn() + Sync) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let checker = scope.spawn(|| {
            for_a_while(|| {
                revoke();
                let before = peek(look_at);
                for _ in 0..2000 {
                    check_eq!(peek(look_at), before, "a write has come through");
                }
                restore();
            });
            stop.store(true, SeqCst);
        });
        let mut value = 0_u8;
        while !checker.is_finished() && !stop.load(SeqCst) {
            value = value.wrapping_add(1);
            if let Err(fault) = try_write(at, value) {
                check!([SEGV_ACCERR, SEGV_MAPERR].contains(&fault.code) && fault.addr == at);
            }
        }
    });
}

fn mprotect_stops_a_writer() {
    let at = anon(1);
    writer_is_stopped(
        at,
        at,
        || _ = ok!(sys::mprotect(at, PAGE, PROT_READ)),
        || _ = ok!(sys::mprotect(at, PAGE, RW)),
    );
}

fn munmap_stops_a_writer() {
    // The same shared page twice: one place is written and taken away, the other looked at.
    let (look, at) = (anon_shared(1), FAR[0]);
    let restore = || {
        let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
        check_eq!(sys::mremap(look, 0, PAGE, flags, at), Ok(at));
    };
    restore();
    writer_is_stopped(at, look, || _ = ok!(sys::munmap(at, PAGE)), restore);
}

fn fixed_mapping_replaces_under_a_writer() {
    let at = anon(1);
    writer_is_stopped(
        at,
        at,
        || {
            check_eq!(sys::mmap(at, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0), Ok(at));
            check_eq!(peek(at), 0);
        },
        || _ = ok!(sys::mprotect(at, PAGE, RW)),
    );
}

fn dontneed_under_writers() {
    let at = anon(8);
    beside(
        || _ = ok!(sys::madvise(at, 8 * PAGE, MADV_DONTNEED)),
        || {
            for_a_while(|| {
                number_pages(at, 8, 1);
                for (page, number) in page_numbers(at, 8).into_iter().enumerate() {
                    check!(number == 0 || number == page as u8 + 1, "page {page} holds {number}");
                }
            })
        },
    );
}

fn mremap_under_a_reader() {
    let [first, second] = FAR;
    check_eq!(sys::mmap(first, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(first));
    number_pages(first, 2, 1);
    let shuttle = || {
        let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
        check_eq!(sys::mremap(first, 2 * PAGE, 2 * PAGE, flags, second), Ok(second));
        check_eq!(sys::mremap(second, 2 * PAGE, 2 * PAGE, flags, first), Ok(first));
    };
    beside(shuttle, || {
        for_a_while(|| {
            for at in [first, second] {
                match try_read(at + PAGE) {
                    Ok(value) => check_eq!(value, 2),
                    Err(fault) => check_eq!((fault.code, fault.addr), (SEGV_MAPERR, at + PAGE)),
                }
            }
        })
    });
}

fn unmapped_and_mapped_under_a_reader() {
    let at = FAR[0];
    let other = || {
        check_eq!(sys::mmap(at, 4 * PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(at));
        number_pages(at, 4, 1);
        ok!(sys::munmap(at, 4 * PAGE));
    };
    beside(other, || {
        for_a_while(|| match try_read(at + 2 * PAGE) {
            Ok(value) => check!(value == 0 || value == 3, "{value}"),
            Err(fault) => check_eq!((fault.code, fault.addr), (SEGV_MAPERR, at + 2 * PAGE)),
        })
    });
}

fn copy_on_write_by_four_at_once() {
    let at = anon(64);
    for page in 0..64 {
        (0..4).for_each(|index| poke(at + page * PAGE + index, 100));
    }
    for round in 0..10 {
        in_child(|| {
            together(4, |index| (0..64).for_each(|page| poke(at + page * PAGE + index, index as u8 + round)));
            let expected = [round, round + 1, round + 2, round + 3];
            check!((0..64).all(|page| bytes(at + page * PAGE, 4) == expected));
        });
    }
    check!((0..64).all(|page| bytes(at + page * PAGE, 4) == [100; 4]));
}

fn fork_while_others_fault() {
    let at = anon(2000);
    let next = AtomicUsize::new(0);
    let touch = || {
        let page = next.fetch_add(1, SeqCst) % 2000;
        poke(at + page * PAGE, page as u8 | 1);
    };
    beside(touch, || {
        for _ in 0..20 {
            in_child(|| {
                for page in 0..2000 {
                    let number = peek(at + page * PAGE);
                    check!(number == 0 || number == page as u8 | 1, "page {page} holds {number}");
                }
            });
        }
    });
}

fn fork_takes_a_snapshot_of_a_writer() {
    let words = counters(anon(2), 1024);
    // The second page is always written after the first: a snapshot may show it behind by one, never ahead.
    let count = || {
        let next = words[0].load(SeqCst) + 1;
        words[0].store(next, SeqCst);
        words[512].store(next, SeqCst);
    };
    beside(count, || {
        for _ in 0..30 {
            in_child(|| {
                let seen = (words[0].load(SeqCst), words[512].load(SeqCst));
                check!(seen.0 == seen.1 || seen.0 == seen.1 + 1, "{seen:?}");
                sys::sleep_us(200);
                check_eq!(
                    (words[0].load(SeqCst), words[512].load(SeqCst)),
                    seen,
                    "the parent writes into its child"
                );
            });
        }
    });
}

fn fork_while_others_map() {
    let churn = || {
        let at = anon(5);
        poke(at, 1);
        ok!(sys::munmap(at, 5 * PAGE));
    };
    beside(churn, || {
        for _ in 0..20 {
            in_child(|| {
                let at = anon(5);
                check_eq!(peek(at), 0);
            });
        }
    });
}

/// A fork and a child's end may take the page table from under a call that is about to write.
fn calls_write_memory_while_others_fork() {
    let at = anon(100);
    (0..100).for_each(|page| poke(at + page * PAGE, 1));
    let words = counters(at, 100 * PAGE / 8);
    let call = || {
        let page = words[0].fetch_add(1, SeqCst) % 99 + 1;
        check_eq!(syscall!(SYS_getrusage, libc::RUSAGE_SELF, at + page * PAGE), Ok(0));
        check_eq!(syscall!(SYS_getresuid, at + page * PAGE, at + page * PAGE + 4, at + PAGE - 4), Ok(0));
    };
    beside(call, || together(2, |_| (0..150).for_each(|_| in_child(|| ()))));
}

fn calls_into_memory_that_comes_and_goes() {
    let (at, file) = (FAR[0], crate::tmp::file(&[7; 64]));
    let other = || {
        check_eq!(sys::mmap(at, PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(at));
        ok!(sys::mprotect(at, PAGE, PROT_NONE));
        ok!(sys::munmap(at, PAGE));
    };
    beside(other, || {
        for_a_while(|| match syscall!(SYS_pread64, file, at + 10, 64, 0) {
            // The page may go while bytes are copied: then they are fewer.
            Ok(count) => check!((1..=64).contains(&count), "{count}"),
            Err(error) => check_eq!(error, sys::Errno(libc::EFAULT)),
        })
    });
}

fn brk_by_four_at_once() {
    let start = sys::brk(0);
    together(4, |index| {
        for round in 0..100 {
            let to = start + (index * 100 + round) * PAGE;
            check_eq!(sys::brk(to), to);
        }
    });
    check_eq!(sys::brk(start), start);
}

fn maps_while_others_map() {
    let churn = || {
        let at = anon(3);
        ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ));
        ok!(sys::munmap(at, 3 * PAGE));
    };
    let fixed = lone_anon(3);
    // Rights of their own, so that no neighbour joins them.
    ok!(sys::mprotect(fixed, 3 * PAGE, PROT_NONE));
    beside(churn, || {
        for _ in 0..50 {
            let found = procfs::vma_at(fixed);
            check_eq!(found.map(|vma| (vma.start, vma.end)), Some((fixed, fixed + 3 * PAGE)));
        }
    });
}

fn memory_of_a_thread_that_has_ended_stays() {
    let places: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
    together(4, |index| {
        let at = anon(2);
        number_pages(at, 2, index as u8 * 10);
        places[index].store(at, SeqCst);
    });
    for (index, place) in places.iter().enumerate() {
        check_eq!(page_numbers(place.load(SeqCst), 2), [index as u8 * 10, index as u8 * 10 + 1]);
    }
}
