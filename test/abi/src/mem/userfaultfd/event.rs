// SPDX-License-Identifier: MPL-2.0

//! Events: what is told of forks, moves and removals of registered memory.

use libc::{
    MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MAP_FIXED, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE,
};

use super::{
    super::{ANON, RW, anon, anon_shared, free_range, lone_anon, page_numbers, peek, poke},
    *,
};
use crate::child::Child;

pub const CASES: &[Case] = cases!["mem/userfaultfd":
    munmap_is_told,
    munmap_without_the_feature_is_not,
    mapping_over_it_is_told,
    munmap_of_a_part_is_told,
    mremap_is_told_and_stays_registered,
    mremap_without_the_feature_is_not_registered,
    mremap_that_moves_is_told_as_unmapping_too,
    mremap_that_grows_in_place_is_not_told,
    mremap_that_leaves_the_old_range_leaves_it_missing,
    dontneed_is_told,
    free_is_told,
    remove_of_shared_memory_is_told,
    nothing_is_filled_until_the_event_is_read,
    fork_gives_a_descriptor_for_the_child,
    protection_is_inherited_with_the_fork_event,
    two_forks_are_two_events,
    close_lets_those_go_on_whose_events_nobody_reads,
];

fn event(event: u8, args: [usize; 3]) -> Message {
    Message { event, args: args.map(|arg| arg as u64) }
}

/// A userfaultfd with these features that serves the missing pages of that many, and where they are.
fn with_features(features: u64, pages: usize) -> (usize, Uffd) {
    let at = lone_anon(pages);
    let uffd = Uffd::with(features);
    ok!(uffd.register(at, pages, MODE_MISSING));
    (at, uffd)
}

/// A place that nothing else comes to lie in, not even what a thread maps for itself when it starts.
fn reserved(pages: usize) -> usize {
    ok!(sys::mmap(0, pages * PAGE, libc::PROT_NONE, ANON, -1, 0))
}

fn munmap_is_told() {
    let (at, uffd) = with_features(FEATURE_EVENT_UNMAP, 2);
    beside(
        || ok!(sys::munmap(at, 2 * PAGE)),
        |thread| {
            a_moment();
            check!(!thread.is_finished());
            check_eq!(uffd.next(), event(EVENT_UNMAP, [at, at + 2 * PAGE, 0]));
        },
    );
}

fn munmap_without_the_feature_is_not() {
    let (at, uffd) = with_features(FEATURE_EVENT_REMOVE, 2);
    ok!(sys::munmap(at, 2 * PAGE));
    check!(uffd.is_silent());
}

fn mapping_over_it_is_told() {
    let (at, uffd) = with_features(FEATURE_EVENT_UNMAP, 2);
    beside(
        || check_eq!(sys::mmap(at, PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(at)),
        |_| check_eq!(uffd.next(), event(EVENT_UNMAP, [at, at + PAGE, 0])),
    );
    poke(at, 1);
    check!(uffd.is_silent());
}

fn munmap_of_a_part_is_told() {
    let at = lone_anon(6);
    let uffd = Uffd::with(FEATURE_EVENT_UNMAP);
    ok!(uffd.register(at, 4, MODE_MISSING));
    beside(
        || ok!(sys::munmap(at + 2 * PAGE, 4 * PAGE)),
        |_| check_eq!(uffd.next(), event(EVENT_UNMAP, [at + 2 * PAGE, at + 6 * PAGE, 0])),
    );
    uffd.copy(at, 2, 1, 0);
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn mremap_is_told_and_stays_registered() {
    let (at, uffd) = with_features(FEATURE_EVENT_REMAP, 2);
    uffd.copy(at, 1, 1, 0);
    let to = reserved(2);
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    beside(
        || check_eq!(sys::mremap(at, 2 * PAGE, 2 * PAGE, flags, to), Ok(to)),
        |_| check_eq!(uffd.next(), event(EVENT_REMAP, [at, to, 2 * PAGE])),
    );
    check_eq!(peek(to), 1);
    uffd.fills_what_is_read(to + PAGE, 2);
}

fn mremap_without_the_feature_is_not_registered() {
    let (at, uffd) = with_features(0, 2);
    uffd.copy(at, 1, 1, 0);
    let to = reserved(2);
    check_eq!(sys::mremap(at, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), Ok(to));
    check_eq!(page_numbers(to, 2), [1, 0]);
    check!(uffd.is_silent());
}

fn mremap_that_moves_is_told_as_unmapping_too() {
    let (at, uffd) = with_features(FEATURE_EVENT_REMAP | FEATURE_EVENT_UNMAP, 1);
    let to = reserved(1);
    beside(
        || check_eq!(sys::mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), Ok(to)),
        |_| {
            check_eq!(uffd.next(), event(EVENT_REMAP, [at, to, PAGE]));
            check_eq!(uffd.next(), event(EVENT_UNMAP, [at, at + PAGE, 0]));
        },
    );
}

fn mremap_that_grows_in_place_is_not_told() {
    let at = free_range(3);
    check_eq!(sys::mmap(at, PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(at));
    let uffd = Uffd::with(FEATURE_EVENT_REMAP | FEATURE_EVENT_UNMAP);
    ok!(uffd.register(at, 1, MODE_MISSING));
    check_eq!(sys::mremap(at, PAGE, 3 * PAGE, 0, 0), Ok(at));
    check!(uffd.is_silent());
    uffd.copy(at, 3, 1, 0);
    check_eq!(page_numbers(at, 3), [1, 2, 3]);
}

fn mremap_that_leaves_the_old_range_leaves_it_missing() {
    let (at, uffd) = with_features(0, 1);
    uffd.copy(at, 1, 7, 0);
    let to = ok!(sys::mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0));
    check_eq!(peek(to), 7);
    let value = beside(
        || peek(at),
        |_| {
            check_eq!(uffd.next(), fault(at, 0));
            uffd.copy(at, 1, 8, 0);
        },
    );
    check_eq!((value, peek(to)), (8, 7));
}

fn dontneed_is_told() {
    let (at, uffd) = with_features(FEATURE_EVENT_REMOVE, 4);
    uffd.copy(at, 4, 1, 0);
    beside(
        || ok!(sys::madvise(at + PAGE, 2 * PAGE, MADV_DONTNEED)),
        |_| check_eq!(uffd.next(), event(EVENT_REMOVE, [at + PAGE, at + 3 * PAGE, 0])),
    );
    check_eq!((peek(at), peek(at + 3 * PAGE)), (1, 4));
    uffd.copy(at + PAGE, 2, 9, 0);
    check_eq!(page_numbers(at, 4), [1, 9, 10, 4]);
}

fn free_is_told() {
    let (at, uffd) = with_features(FEATURE_EVENT_REMOVE, 1);
    uffd.copy(at, 1, 1, 0);
    beside(
        || ok!(sys::madvise(at, PAGE, MADV_FREE)),
        |_| check_eq!(uffd.next(), event(EVENT_REMOVE, [at, at + PAGE, 0])),
    );
}

fn remove_of_shared_memory_is_told() {
    let at = anon_shared(2);
    let uffd = Uffd::with(FEATURE_EVENT_REMOVE);
    ok!(uffd.register(at, 2, MODE_MISSING));
    uffd.copy(at, 2, 1, 0);
    beside(
        || ok!(sys::madvise(at, PAGE, MADV_REMOVE)),
        |_| check_eq!(uffd.next(), event(EVENT_REMOVE, [at, at + PAGE, 0])),
    );
    uffd.copy(at, 1, 5, 0);
    check_eq!(page_numbers(at, 2), [5, 2]);
}

fn nothing_is_filled_until_the_event_is_read() {
    let (at, uffd) = with_features(FEATURE_EVENT_UNMAP, 2);
    beside(
        || ok!(sys::munmap(at + PAGE, PAGE)),
        |_| {
            uffd.set_nonblocking(true);
            let mut polled = libc::pollfd { fd: uffd.0, events: libc::POLLIN, revents: 0 };
            check_eq!(syscall!(SYS_poll, &raw mut polled, 1, 5000), Ok(1));
            errno_is!(uffd.copy_from(at, anon(1), 1, 0).0, EAGAIN);
            errno_is!(uffd.zeropage(at, 1, 0).0, EAGAIN);
            check_eq!(uffd.next(), event(EVENT_UNMAP, [at + PAGE, at + 2 * PAGE, 0]));
        },
    );
    uffd.copy(at, 1, 1, 0);
}

/// Forks a child that runs `body`, while the fork is read of; the userfaultfd of the child, and the child.
fn fork_told(uffd: Uffd, body: impl FnOnce() + Send) -> (Uffd, i32) {
    let mut child_uffd = Uffd(-1);
    let pid = beside(
        || Child::spawn(body).pid,
        |_| {
            let message = uffd.next();
            check_eq!((message.event, message.args[1], message.args[2]), (EVENT_FORK, 0, 0));
            child_uffd = Uffd(message.args[0] as i32);
        },
    );
    check!(child_uffd.0 > 2 && child_uffd.0 != uffd.0);
    (child_uffd, pid)
}

fn fork_gives_a_descriptor_for_the_child() {
    let (at, uffd) = with_features(FEATURE_EVENT_FORK, 3);
    uffd.copy(at, 1, 1, 0);
    let (child_uffd, pid) = fork_told(uffd, || {
        check_eq!(peek(at), 1);
        check_eq!(page_numbers(at, 3), [1, 55, 66]);
    });
    check_eq!(child_uffd.next(), fault(at + PAGE, 0));
    child_uffd.copy(at + PAGE, 1, 55, 0);
    check_eq!(child_uffd.next(), fault(at + 2 * PAGE, 0));
    child_uffd.copy(at + 2 * PAGE, 1, 66, 0);
    Child { pid }.join();
    // The parent's memory is another.
    uffd.copy(at + PAGE, 2, 2, 0);
    check_eq!(page_numbers(at, 3), [1, 2, 3]);
}

fn protection_is_inherited_with_the_fork_event() {
    let at = lone_anon(2);
    poke(at, 1);
    poke(at + PAGE, 2);
    let uffd = Uffd::with(FEATURE_EVENT_FORK);
    ok!(uffd.register(at, 2, MODE_WP));
    ok!(uffd.protect(at, 1, PROTECT_WP));
    let (child_uffd, pid) = fork_told(uffd, || {
        poke(at + PAGE, 8);
        poke(at, 9);
        check_eq!(page_numbers(at, 2), [9, 8]);
    });
    check_eq!(child_uffd.next(), fault(at, FLAG_WRITE | FLAG_WP));
    ok!(child_uffd.protect(at, 1, 0));
    Child { pid }.join();
    check_eq!(page_numbers(at, 2), [1, 2]);
    check!(uffd.is_silent());
}

fn two_forks_are_two_events() {
    let (at, uffd) = with_features(FEATURE_EVENT_FORK, 1);
    let (first, first_pid) = fork_told(uffd, || check_eq!(peek(at), 10));
    let (second, second_pid) = fork_told(uffd, || check_eq!(peek(at), 20));
    second.next();
    second.copy(at, 1, 20, 0);
    first.next();
    first.copy(at, 1, 10, 0);
    Child { pid: first_pid }.join();
    Child { pid: second_pid }.join();
    check!(uffd.is_silent());
}

fn close_lets_those_go_on_whose_events_nobody_reads() {
    let (at, uffd) = with_features(FEATURE_EVENT_UNMAP, 1);
    beside(
        || ok!(sys::munmap(at, PAGE)),
        |thread| {
            a_moment();
            check!(!thread.is_finished());
            uffd.close();
        },
    );
}
