// SPDX-License-Identifier: MPL-2.0

//! A tracee's memory, word by word.

use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE, SIGTRAP};

use super::*;

pub const CASES: &[Case] = cases!["ptrace/memory":
    words_are_read_and_written,
    read_only_private_memory_is_written,
    memory_without_rights_is_read,
    what_is_not_there_is_eio,
    word_across_two_pages,
    breakpoint_in_the_text,
];

fn map(prot: i32, flags: i32) -> usize {
    ok!(sys::mmap(0, 8192, prot, flags | MAP_ANONYMOUS, -1, 0))
}

fn words_are_read_and_written() {
    let at = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
    // SAFETY: mapped and aligned.
    let word = unsafe { &mut *(at as *mut u64) };
    *word = 0x0123_4567_89ab_cdef;
    let child = traced(|| {
        // SAFETY: as above.
        check_eq!(unsafe { std::ptr::read_volatile(at as *const u64) }, 77);
    });
    *word = 1;
    check_eq!(peek(child.pid, at), Ok(0x0123_4567_89ab_cdef));
    check_eq!(peek(child.pid, at + 4), Ok(0x0123_4567));
    ok!(ptrace(PTRACE_POKEDATA, child.pid, at, 76));
    ok!(ptrace(PTRACE_POKETEXT, child.pid, at, 77));
    check_eq!(peek(child.pid, at), Ok(77));
    check_eq!(*word, 1, "the tracer's own copy is its own");
    errno_is!(ptrace(PTRACE_PEEKTEXT, child.pid, at, 8), EFAULT);
    finish(child);
}

fn read_only_private_memory_is_written() {
    let at = map(PROT_READ, MAP_PRIVATE);
    let shared = map(PROT_READ, MAP_SHARED);
    let child = traced(|| {
        // SAFETY: mapped and aligned.
        check_eq!(unsafe { std::ptr::read_volatile(at as *const u64) }, 5);
    });
    ok!(ptrace(PTRACE_POKEDATA, child.pid, at, 5));
    check_eq!(peek(child.pid, at), Ok(5));
    check_eq!(peek(child.pid, shared), Ok(0));
    finish(child);
}

fn memory_without_rights_is_read() {
    let at = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
    // SAFETY: mapped and aligned.
    unsafe { *(at as *mut u64) = 9 };
    let child = traced(|| {
        ok!(sys::mprotect(at, 4096, PROT_NONE));
        ok!(sys::kill(sys::getpid(), SIGSTOP));
        ok!(sys::mprotect(at, 4096, PROT_READ));
        // SAFETY: as above.
        check_eq!(unsafe { std::ptr::read_volatile(at as *const u64) }, 10);
    });
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGSTOP);
    check_eq!(peek(child.pid, at), Ok(9));
    ok!(ptrace(PTRACE_POKEDATA, child.pid, at, 10));
    finish(child);
}

fn what_is_not_there_is_eio() {
    let at = map(PROT_READ, MAP_PRIVATE);
    ok!(sys::munmap(at, 8192));
    let child = traced(|| {});
    for addr in [at, 0, usize::MAX - 7, usize::MAX, 1 << 63] {
        errno_is!(peek(child.pid, addr), EIO);
        errno_is!(ptrace(PTRACE_POKEDATA, child.pid, addr, 0), EIO);
    }
    finish(child);
}

fn word_across_two_pages() {
    let at = ok!(sys::mmap(0, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ok!(sys::munmap(at + 8192, 4096));
    let child = traced(|| {});
    ok!(ptrace(PTRACE_POKEDATA, child.pid, at + 4092, 0x1111_2222_3333_4444));
    check_eq!(peek(child.pid, at + 4092), Ok(0x1111_2222_3333_4444));
    check_eq!(peek(child.pid, at + 4096), Ok(0x1111_2222));
    errno_is!(ptrace(PTRACE_POKEDATA, child.pid, at + 8188, 0), EIO);
    errno_is!(peek(child.pid, at + 8188), EIO);
    finish(child);
}

#[inline(never)]
extern "C" fn marked(value: i32) -> i32 {
    std::hint::black_box(value) + 1
}

fn breakpoint_in_the_text() {
    let at = marked as *const () as usize;
    let child = traced(|| {
        check_eq!(std::hint::black_box(marked as extern "C" fn(i32) -> i32)(41), 42);
    });
    let word = ok!(peek(child.pid, at));
    ok!(ptrace(PTRACE_POKETEXT, child.pid, at, word & !0xff | 0xcc));
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGTRAP);
    let mut registers = registers_of(child.pid);
    check_eq!((registers.rip as usize, registers.rdi as i32), (at + 1, 41));
    ok!(ptrace(PTRACE_POKETEXT, child.pid, at, word));
    registers.rip = at as u64;
    ok!(set_registers(child.pid, &registers));
    check_eq!(marked(1), 2, "the tracer has the text it had");
    finish(child);
}
