// SPDX-License-Identifier: MPL-2.0

//! fork(2) with many relatives: long chains, many siblings, orphans, much memory.

use std::sync::atomic::Ordering::SeqCst;

use super::{PAGE, anon, number_pages, page_numbers, peek, poke};
use crate::{
    child::{Child, Turn, in_child, shared_words},
    harness::Case,
    sys,
};

pub const CASES: &[Case] = cases!["mem/fork":
    chain_of_forty_generations,
    many_children_at_once,
    large_memory_is_copied_on_demand,
    vfork_child_shares_memory,
    content_outlives_the_parent,
    siblings_do_not_see_each_other,
];

fn chain_of_forty_generations() {
    fn generation(at: usize, left: u8) {
        poke(at + left as usize * PAGE, left);
        if left > 0 {
            in_child(|| generation(at, left - 1));
        } else {
            check!((0..=40).all(|page| peek(at + page * PAGE) == page as u8));
        }
    }
    let at = anon(41);
    generation(at, 40);
    check_eq!(peek(at + 40 * PAGE), 40);
    check!((0..40).all(|page| peek(at + page * PAGE) == 0));
}

fn many_children_at_once() {
    let (at, sums, go) = (anon(16), shared_words(), Turn::new());
    number_pages(at, 16, 1);
    let children: Vec<Child> = (0..24)
        .map(|index| {
            Child::spawn(|| {
                go.wait();
                poke(at + (index % 16) * PAGE, 100 + index as u8);
                let sum: usize = page_numbers(at, 16).iter().map(|&number| number as usize).sum();
                sums[index].store(sum, SeqCst);
            })
        })
        .collect();
    (0..24).for_each(|_| go.post());
    children.into_iter().for_each(Child::join);
    for (index, sum) in sums[..24].iter().enumerate() {
        let expected = (1..=16).sum::<usize>() - (index % 16 + 1) + 100 + index;
        check_eq!(sum.load(SeqCst), expected);
    }
    check_eq!(page_numbers(at, 16), (1..=16).collect::<Vec<u8>>());
}

fn large_memory_is_copied_on_demand() {
    const PAGES: usize = 8192;
    let at = anon(PAGES);
    number_pages(at, PAGES, 0);
    in_child(|| {
        for page in (0..PAGES).step_by(97) {
            check_eq!(peek(at + page * PAGE), page as u8);
            poke(at + page * PAGE, 255);
        }
    });
    check!((0..PAGES).all(|page| peek(at + page * PAGE) == page as u8));
}

fn vfork_child_shares_memory() {
    let at = anon(1);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let stack = anon(16) + 16 * PAGE;
    extern "C" fn body(at: *mut libc::c_void) -> i32 {
        poke(at as usize, 77);
        0
    }
    // SAFETY: the child has a stack of its own, touches one byte and exits.
    let pid = unsafe { libc::clone(body, stack as *mut libc::c_void, flags, at as *mut libc::c_void) };
    check!(pid > 0);
    check_eq!(peek(at), 77);
    check_eq!(sys::wait4(pid, 0), Ok((pid, 0)));
}

fn content_outlives_the_parent() {
    let (at, words, go) = (anon(4), shared_words(), Turn::new());
    let done = Turn::new();
    in_child(|| {
        number_pages(at, 4, 30);
        // The grandchild is not waited for: it goes on when its parent and its parent's memory are gone.
        let _ = Child::spawn(|| {
            go.wait();
            let sum: usize = page_numbers(at, 4).iter().map(|&number| number as usize).sum();
            words[0].store(sum, SeqCst);
            done.post();
        });
    });
    go.post();
    done.wait();
    check_eq!(words[0].load(SeqCst), 30 + 31 + 32 + 33);
}

fn siblings_do_not_see_each_other() {
    let (at, first_done, go) = (anon(2), Turn::new(), Turn::new());
    number_pages(at, 2, 1);
    let first = Child::spawn(|| {
        number_pages(at, 2, 10);
        first_done.post();
        go.wait();
        check_eq!(page_numbers(at, 2), [10, 11]);
    });
    let second = Child::spawn(|| {
        first_done.wait();
        check_eq!(page_numbers(at, 2), [1, 2]);
        number_pages(at, 2, 20);
    });
    second.join();
    go.post();
    first.join();
    check_eq!(page_numbers(at, 2), [1, 2]);
}
