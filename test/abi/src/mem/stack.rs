// SPDX-License-Identifier: MPL-2.0

//! The stack: it grows on demand as far as its limit, and not a page further.

use libc::{PROT_READ, RLIMIT_STACK, SIGSEGV};

use super::{PAGE, fill, peek, poke};
use crate::{
    child::{Child, in_child, killed_by},
    fault::{expect_maperr, fault_of},
    harness::Case,
    procfs, sys,
};

pub const CASES: &[Case] = cases!["mem/stack":
    is_named_in_maps,
    grows_page_by_page,
    grows_far_below_at_once,
    grows_for_the_kernel_as_well,
    grows_to_its_limit_and_no_further,
    a_limit_raised_lets_it_grow_further,
    endless_recursion_is_sigsegv,
    endless_recursion_can_be_handled_on_another_stack,
    overflow_without_another_stack_is_death,
    large_frame_is_zero,
    grown_part_is_of_the_process_alone,
    does_not_shrink,
    can_be_protected,
    vmstk_tells_its_size,
];

/// An address in the current frame.
#[inline(never)]
fn here() -> usize {
    let local = 0_u8;
    std::hint::black_box(&raw const local) as usize
}

/// The mapping called `[stack]`.
fn stack() -> procfs::Vma {
    match procfs::maps().into_iter().find(|vma| vma.path == "[stack]") {
        Some(vma) => vma,
        None => panic!("no [stack] in maps"),
    }
}

#[inline(never)]
fn recurse(depth: usize) -> usize {
    let mut frame = [0_u8; 1024];
    std::hint::black_box(&mut frame)[depth % 1024] = 1;
    let below = if depth == 0 { 0 } else { recurse(depth - 1) };
    below + std::hint::black_box(&frame)[depth % 1024] as usize
}

fn is_named_in_maps() {
    let vma = stack();
    check!((vma.start..vma.end).contains(&here()));
    check_eq!(&vma.perms[..2], "rw");
    check_eq!((vma.perms.ends_with('p'), vma.inode), (true, 0));
}

fn grows_page_by_page() {
    check_eq!(recurse(2000), 2001);
    check!(stack().len() >= 2 << 20);
}

fn grows_far_below_at_once() {
    let at = here() - (4 << 20);
    check!(at < stack().start);
    poke(at, 5);
    check_eq!(peek(at), 5);
    check_eq!(peek(at + PAGE), 0);
    check!(stack().start <= at);
}

fn grows_for_the_kernel_as_well() {
    let at = (here() - (2 << 20)) & !(PAGE - 1);
    let (reader, writer) = ok!(sys::pipe(0));
    check_eq!(sys::write(writer, b"deep"), Ok(4));
    check_eq!(syscall!(SYS_read, reader, at + 100, 4), Ok(4));
    check_eq!((peek(at + 100), peek(at + 104)), (b'd', 0));
}

fn grows_to_its_limit_and_no_further() {
    const LIMIT: usize = 1 << 20;
    ok!(sys::setrlimit(RLIMIT_STACK, LIMIT as u64, LIMIT as u64));
    let end = stack().end;
    in_child(|| poke(end - LIMIT + PAGE, 1));
    let beyond = end - LIMIT - PAGE;
    expect_maperr(beyond, || poke(beyond, 1));
    expect_maperr(beyond, || _ = peek(beyond));
    check_eq!(killed_by(|| poke(beyond, 1)), Some(SIGSEGV));
}

fn a_limit_raised_lets_it_grow_further() {
    let end = stack().end;
    ok!(sys::setrlimit(RLIMIT_STACK, 512 << 10, 8 << 20));
    let at = end - (1 << 20);
    expect_maperr(at, || poke(at, 1));
    ok!(sys::setrlimit(RLIMIT_STACK, 8 << 20, 8 << 20));
    poke(at, 1);
}

fn endless_recursion_is_sigsegv() {
    let limit = ok!(sys::getrlimit(RLIMIT_STACK)).0;
    ok!(sys::setrlimit(RLIMIT_STACK, limit.min(1 << 20), limit));
    check_eq!(killed_by(|| _ = recurse(1 << 40)), Some(SIGSEGV));
}

fn endless_recursion_can_be_handled_on_another_stack() {
    ok!(sys::setrlimit(RLIMIT_STACK, 1 << 20, 1 << 20));
    let end = stack().end;
    let Some(fault) = fault_of(|| _ = recurse(1 << 40)) else { panic!("endless recursion came to an end") };
    check_eq!((fault.signal, fault.code), (SIGSEGV, crate::fault::SEGV_MAPERR));
    check!(
        (end - (1 << 20) - 2 * PAGE..end - (1 << 20) + 2 * PAGE).contains(&fault.addr),
        "{:#x} with the end at {end:#x}",
        fault.addr
    );
}

fn overflow_without_another_stack_is_death() {
    extern "C" fn never(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        sys::exit_group(3)
    }
    ok!(sys::setrlimit(RLIMIT_STACK, 1 << 20, 1 << 20));
    // A handler that would run on the very stack that has overflowed cannot run.
    let status = Child::spawn(|| {
        // SAFETY: plain C structures, all of whose bytes may be 0.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = never as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            check_eq!(libc::sigaction(SIGSEGV, &action, std::ptr::null_mut()), 0);
        }
        recurse(1 << 40);
    })
    .wait();
    check!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == SIGSEGV, "status {status:#x}");
}

#[inline(never)]
fn large_frame() -> usize {
    let mut frame = [std::mem::MaybeUninit::<u8>::uninit(); 3 << 20];
    let at = std::hint::black_box(frame.as_mut_ptr()) as usize;
    // Far below what any call before has used.
    (0..256).map(|page| peek(at + page * PAGE) as usize).sum()
}

fn large_frame_is_zero() {
    check_eq!(large_frame(), 0);
}

fn grown_part_is_of_the_process_alone() {
    let at = here() - (1 << 20);
    let before = stack().start;
    check!(at < before);
    in_child(|| {
        poke(at, 1);
        check!(stack().start <= at);
    });
    check_eq!(stack().start, before);
    check_eq!(peek(at), 0);
}

fn does_not_shrink() {
    recurse(1000);
    let start = stack().start;
    recurse(1);
    check_eq!(stack().start, start);
}

fn can_be_protected() {
    let at = (here() - (64 << 10)) & !(PAGE - 1);
    fill(at, PAGE, 3);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    check_eq!(peek(at + 5), 3);
    crate::fault::expect_accerr(at, || poke(at, 1));
}

fn vmstk_tells_its_size() {
    poke(here() - (1 << 20), 1);
    let (kib, vma) = (procfs::status_kib("VmStk"), stack());
    check!(kib >= 1024);
    check!((kib << 10).abs_diff(vma.len()) <= 2 * PAGE, "VmStk {kib} KiB, [stack] {} bytes", vma.len());
}
