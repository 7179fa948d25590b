// SPDX-License-Identifier: MPL-2.0

//! Code: what PROT_EXEC allows, and code that changes.

use libc::{MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE};

use super::{ANON, ANON_SHARED, PAGE, RW, anon, free_range, lone_anon, peek, poke};
use crate::{
    child::in_child,
    fault::{expect_accerr, expect_maperr},
    harness::Case,
    sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/text":
    code_in_anonymous_memory_runs,
    code_in_shared_memory_runs,
    code_in_a_file_mapping_runs,
    written_then_made_executable_runs,
    without_exec_is_accerr,
    exec_taken_away_is_accerr,
    unmapped_is_maperr,
    into_the_next_page_without_exec_is_accerr,
    code_that_changes_itself_runs_anew,
    code_changed_through_another_mapping_runs_anew,
    code_changed_with_write_runs_anew,
    child_changes_only_its_own_code,
    replaced_code_runs_anew,
];

/// `mov eax, value; ret`.
fn returning(value: u8) -> [u8; 6] {
    [0xb8, value, 0, 0, 0, 0xc3]
}

fn put(at: usize, code: &[u8]) {
    code.iter().enumerate().for_each(|(offset, &byte)| poke(at + offset, byte));
}

fn call(at: usize) -> i32 {
    // SAFETY: the case has put a function there, or wants the fault.
    let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(at) };
    std::hint::black_box(function)()
}

fn code_in_anonymous_memory_runs() {
    let at = ok!(sys::mmap(0, PAGE, RW | PROT_EXEC, ANON, -1, 0));
    put(at, &returning(42));
    check_eq!(call(at), 42);
}

fn code_in_shared_memory_runs() {
    let at = ok!(sys::mmap(0, PAGE, RW | PROT_EXEC, ANON_SHARED, -1, 0));
    put(at + 16, &returning(43));
    check_eq!(call(at + 16), 43);
    in_child(|| check_eq!(call(at + 16), 43));
}

fn code_in_a_file_mapping_runs() {
    let mut content = vec![0xcc; 2 * PAGE];
    content[PAGE + 100..PAGE + 106].copy_from_slice(&returning(44));
    let fd = tmp::file(&content);
    for flags in [MAP_PRIVATE, MAP_SHARED] {
        let at = ok!(sys::mmap(0, PAGE, PROT_READ | PROT_EXEC, flags, fd, PAGE as i64));
        check_eq!(call(at + 100), 44);
    }
}

fn written_then_made_executable_runs() {
    let at = anon(1);
    put(at, &returning(45));
    ok!(sys::mprotect(at, PAGE, PROT_READ | PROT_EXEC));
    check_eq!(call(at), 45);
    expect_accerr(at, || poke(at, 0));
}

fn without_exec_is_accerr() {
    let at = anon(1);
    put(at, &returning(1));
    expect_accerr(at, || _ = call(at));
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    expect_accerr(at, || _ = call(at));
}

fn exec_taken_away_is_accerr() {
    let at = ok!(sys::mmap(0, PAGE, RW | PROT_EXEC, ANON, -1, 0));
    put(at, &returning(46));
    check_eq!(call(at), 46);
    ok!(sys::mprotect(at, PAGE, RW));
    expect_accerr(at, || _ = call(at));
    ok!(sys::mprotect(at, PAGE, RW | PROT_EXEC));
    check_eq!(call(at), 46);
}

fn unmapped_is_maperr() {
    let at = free_range(1);
    expect_maperr(at + 8, || _ = call(at + 8));
    expect_maperr(0, || _ = call(std::hint::black_box(0)));
}

fn into_the_next_page_without_exec_is_accerr() {
    let at = lone_anon(2);
    poke(at + PAGE - 1, 0x90);
    poke(at + PAGE, 0xc3);
    ok!(sys::mprotect(at, PAGE, PROT_READ | PROT_EXEC));
    expect_accerr(at + PAGE, || _ = call(at + PAGE - 1));
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ | PROT_EXEC));
    call(at + PAGE - 1);
}

fn code_that_changes_itself_runs_anew() {
    let at = ok!(sys::mmap(0, PAGE, RW | PROT_EXEC, ANON, -1, 0));
    for value in 0..100 {
        put(at, &returning(value));
        check_eq!(call(at), value as i32);
    }
}

fn code_changed_through_another_mapping_runs_anew() {
    let fd = tmp::file(&[0xcc; PAGE]);
    let code = ok!(sys::mmap(0, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0));
    let data = ok!(sys::mmap(0, PAGE, RW, MAP_SHARED, fd, 0));
    for value in 0..50 {
        put(data, &returning(value));
        check_eq!(call(code), value as i32);
    }
}

fn code_changed_with_write_runs_anew() {
    let fd = tmp::file(&[0xcc; PAGE]);
    let code = ok!(sys::mmap(0, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0));
    for value in 0..50 {
        check_eq!(sys::pwrite(fd, &returning(value), 0), Ok(6));
        check_eq!(call(code), value as i32);
    }
}

fn child_changes_only_its_own_code() {
    let at = ok!(sys::mmap(0, PAGE, RW | PROT_EXEC, ANON, -1, 0));
    put(at, &returning(1));
    in_child(|| {
        check_eq!(call(at), 1);
        put(at, &returning(2));
        check_eq!(call(at), 2);
    });
    check_eq!(call(at), 1);
}

fn replaced_code_runs_anew() {
    let at = ok!(sys::mmap(0, PAGE, RW | PROT_EXEC, ANON, -1, 0));
    put(at, &returning(1));
    check_eq!(call(at), 1);
    let prot = PROT_READ | PROT_WRITE | PROT_EXEC;
    check_eq!(sys::mmap(at, PAGE, prot, ANON | MAP_FIXED, -1, 0), Ok(at));
    check_eq!(peek(at), 0);
    put(at, &returning(3));
    check_eq!(call(at), 3);
}
