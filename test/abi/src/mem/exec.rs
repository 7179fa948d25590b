// SPDX-License-Identifier: MPL-2.0

//! execve(2) and memory: a new address space each time, at random addresses unless the personality says otherwise.
//!
//! The cases execute this binary again in a role that prints what it finds.

use libc::{ADDR_NO_RANDOMIZE, MAP_FIXED, RLIMIT_STACK};

use super::{ANON, PAGE, RW, free_range, peek, poke};
use crate::{
    harness::{Case, Helper},
    procfs,
    program::role,
    sys,
};

pub const CASES: &[Case] = cases!["mem/exec":
    addresses_vary,
    addresses_stay_without_randomization,
    personality_is_inherited,
    old_mappings_are_gone,
    locks_are_gone,
    limits_stay,
    stack_limit_moves_the_mappings,
    heap_can_grow_in_a_new_program,
    failed_exec_keeps_the_memory,
    auxv_tells_page_size_and_program,
    random_bytes_vary,
    stack_holds_the_arguments,
];

pub const HELPERS: &[Helper] = &[
    Helper { name: "mem/addresses", run: print_addresses },
    Helper { name: "mem/mapped", run: is_mapped },
    Helper { name: "mem/status", run: print_status },
    Helper { name: "mem/limit", run: print_stack_limit },
    Helper { name: "mem/heap", run: print_heap },
    Helper { name: "mem/auxv", run: print_auxv },
    Helper { name: "mem/arguments", run: print_arguments },
    Helper { name: "mem/peak", run: super::usage::print_peak },
];

fn set_personality(persona: i32) {
    ok!(syscall!(SYS_personality, persona));
}

/// Where the role's code, stack, heap and mappings are.
fn print_addresses(_: &[String]) -> i32 {
    let local = 0_u8;
    let map = ok!(sys::mmap(0, PAGE, RW, ANON, -1, 0));
    let stack = std::hint::black_box(&raw const local) as usize;
    println!("{:x} {stack:x} {:x} {map:x}", print_addresses as *const () as usize, sys::brk(0));
    0
}

fn addresses(persona: i32) -> Vec<usize> {
    let text = role(&["mem/addresses"], || set_personality(persona));
    let numbers: Vec<_> = text.split(' ').filter_map(|word| usize::from_str_radix(word, 16).ok()).collect();
    check_eq!(numbers.len(), 4, "the role printed {text:?}");
    numbers
}

fn addresses_vary() {
    if std::fs::read_to_string("/proc/sys/kernel/randomize_va_space").is_ok_and(|level| level.trim() != "2") {
        skip!("address space randomization is off");
    }
    let runs: Vec<_> = (0..6).map(|_| addresses(0)).collect();
    for (index, what) in ["code", "stack", "heap", "mappings"].iter().enumerate() {
        let mut seen: Vec<_> = runs.iter().map(|run| run[index]).collect();
        seen.sort();
        seen.dedup();
        check!(seen.len() > 1, "{what}: always at {:#x}", seen[0]);
    }
}

fn addresses_stay_without_randomization() {
    let first = addresses(ADDR_NO_RANDOMIZE);
    for _ in 0..4 {
        check_eq!(addresses(ADDR_NO_RANDOMIZE), first);
    }
}

fn personality_is_inherited() {
    set_personality(ADDR_NO_RANDOMIZE);
    let persona = |query: u32| syscall!(SYS_personality, query);
    check_eq!(persona(u32::MAX), Ok(ADDR_NO_RANDOMIZE as usize));
    crate::child::in_child(|| check_eq!(persona(u32::MAX), Ok(ADDR_NO_RANDOMIZE as usize)));
    check_eq!(persona(0), Ok(ADDR_NO_RANDOMIZE as usize));
    check_eq!(persona(u32::MAX), Ok(0));
}

/// Whether the page at the address in the first argument is mapped.
fn is_mapped(args: &[String]) -> i32 {
    let at = args.first().and_then(|arg| usize::from_str_radix(arg, 16).ok()).unwrap_or(0);
    println!("{}", procfs::vma_at(at).is_some());
    0
}

fn old_mappings_are_gone() {
    // Low in the address space, where nothing is put by itself.
    let at = 0x1000_0000;
    check_eq!(sys::mmap(at, PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(at));
    poke(at, 1);
    check_eq!(role(&["mem/mapped", "10000000"], || {}), "false");
    check_eq!(peek(at), 1);
}

/// The field of status that the first argument names.
fn print_status(args: &[String]) -> i32 {
    println!("{}", args.first().map_or(0, |name| procfs::status_kib(name)));
    0
}

fn locks_are_gone() {
    let locked = role(&["mem/status", "VmLck"], || {
        ok!(syscall!(SYS_mlockall, libc::MCL_CURRENT | libc::MCL_FUTURE));
    });
    check_eq!(locked, "0");
}

fn print_stack_limit(_: &[String]) -> i32 {
    let (soft, hard) = ok!(sys::getrlimit(RLIMIT_STACK));
    println!("{soft} {hard}");
    0
}

fn limits_stay() {
    let set = || _ = ok!(sys::setrlimit(RLIMIT_STACK, 1 << 20, 2 << 20));
    check_eq!(role(&["mem/limit"], set), format!("{} {}", 1 << 20, 2 << 20));
}

fn stack_limit_moves_the_mappings() {
    let hard = ok!(sys::getrlimit(RLIMIT_STACK)).1;
    if hard < 2 << 30 {
        skip!("the hard limit on the stack is {hard}");
    }
    let gap = |soft: u64| {
        let text = role(&["mem/addresses"], || {
            set_personality(ADDR_NO_RANDOMIZE);
            ok!(sys::setrlimit(RLIMIT_STACK, soft, hard));
        });
        let numbers: Vec<_> =
            text.split(' ').filter_map(|word| usize::from_str_radix(word, 16).ok()).collect();
        numbers[1] - numbers[3]
    };
    check!(gap(2 << 30) >= 2 << 30, "the stack has no room to grow");
    check!(gap(8 << 20) < 2 << 30);
}

/// Whether the heap can grow, and shows as what it is.
fn print_heap(_: &[String]) -> i32 {
    let start = sys::brk(0).next_multiple_of(PAGE);
    let grown = sys::brk(start + 10 * PAGE) == start + 10 * PAGE;
    println!("{grown} {}", procfs::vma_at(start).map_or(String::new(), |vma| vma.path));
    0
}

fn heap_can_grow_in_a_new_program() {
    check_eq!(role(&["mem/heap"], || {}), "true [heap]");
    check_eq!(role(&["mem/heap"], || set_personality(ADDR_NO_RANDOMIZE)), "true [heap]");
}

fn failed_exec_keeps_the_memory() {
    let at = free_range(1);
    check_eq!(sys::mmap(at, PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(at));
    poke(at, 5);
    let path = sys::c_string("/nowhere/at/all");
    let none = [0_usize];
    errno_is!(syscall!(SYS_execve, path.as_ptr(), none.as_ptr(), none.as_ptr()), ENOENT);
    let (fd, text) = crate::tmp::named_file(b"neither a program nor a script");
    sys::close(fd);
    let path = sys::c_string(&text);
    ok!(syscall!(SYS_chmod, path.as_ptr(), 0o700));
    errno_is!(syscall!(SYS_execve, path.as_ptr(), none.as_ptr(), none.as_ptr()), ENOEXEC);
    check_eq!(peek(at), 5);
}

fn print_auxv(_: &[String]) -> i32 {
    // SAFETY: lookups in the auxiliary vector, and sixteen bytes that the kernel says are there.
    let (page, headers, entry, random) = unsafe {
        let random = libc::getauxval(libc::AT_RANDOM) as *const [u8; 16];
        (
            libc::getauxval(libc::AT_PAGESZ),
            libc::getauxval(libc::AT_PHDR) as usize,
            libc::getauxval(libc::AT_ENTRY) as usize,
            *random,
        )
    };
    let exe = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let inside = |at: usize| procfs::vma_at(at).is_some_and(|vma| Some(vma.path.as_str()) == exe.to_str());
    println!("{page} {} {} {random:x?}", inside(headers), inside(entry));
    0
}

fn auxv_tells_page_size_and_program() {
    let text = role(&["mem/auxv"], || {});
    check!(text.starts_with("4096 true true "), "{text}");
}

fn random_bytes_vary() {
    let (first, second) = (role(&["mem/auxv"], || {}), role(&["mem/auxv"], || {}));
    check!(first != second, "{first}");
}

fn print_arguments(args: &[String]) -> i32 {
    let total: usize = args.iter().map(String::len).sum();
    let inside = args.iter().all(|arg| arg.bytes().all(|byte| byte == b'a'));
    let stack = procfs::maps().into_iter().find(|vma| vma.path == "[stack]").map_or(0, |vma| vma.len());
    println!("{} {total} {inside} {}", args.len(), stack > total);
    0
}

fn stack_holds_the_arguments() {
    // Four times 100 kB: more than the first pages of a stack hold, less than the limit for one string and for all.
    let long = "a".repeat(100_000);
    let text = role(&["mem/arguments", &long, &long, &long, &long], || {});
    check_eq!(text, "4 400000 true true");
}
