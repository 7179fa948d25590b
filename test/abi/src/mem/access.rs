// SPDX-License-Identifier: MPL-2.0

//! Accesses: every right against every kind of mapping, and the signal of those that are refused.

use libc::{
    MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE, SIGFPE, SIGILL, SIGSEGV,
    SIGTRAP,
};

use super::{ANON, ANON_SHARED, PAGE, RW, anon, bytes, free_range, lone_anon, peek, poke};
use crate::{
    child::killed_by,
    fault::{Fault, SEGV_ACCERR, expect_accerr, expect_maperr, expect_signal, fault_of, try_read, try_write},
    harness::Case,
    sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/access":
    rights_of_private_anonymous,
    rights_of_shared_anonymous,
    rights_of_private_file,
    rights_of_shared_file,
    null_is_maperr,
    null_with_offset_is_maperr,
    unmapped_is_maperr,
    kernel_address_is_maperr,
    last_page_of_the_lower_half_is_maperr,
    non_canonical_address_is_a_general_protection_fault,
    write_that_crosses_into_nothing_names_the_second_page,
    read_that_crosses_into_prot_none_names_the_second_page,
    own_text_cannot_be_written,
    read_only_data_cannot_be_written,
    default_action_is_death_by_sigsegv,
    default_action_is_death_by_sigbus,
    handler_that_maps_lets_the_access_go_on,
    handler_that_protects_lets_the_access_go_on,
    fault_again_after_a_handled_fault,
    bss_beyond_the_file_is_zero,
    illegal_instruction_is_sigill,
    breakpoint_is_sigtrap,
    division_by_zero_is_sigfpe,
    privileged_instruction_is_sigsegv,
];

/// Tries every right on one kind of mapping. On x86-64 what can be written or executed can be read; a mapping that can only
/// be executed is left out, since protection keys make a difference there.
fn all_rights(map: impl Fn(i32) -> usize) {
    for prot in 0..8 {
        if prot & !(PROT_READ | PROT_WRITE | PROT_EXEC) != 0 || prot == PROT_EXEC {
            continue;
        }
        // Once untouched, once after a touch while it was allowed.
        for touched in [false, true] {
            let at = map(if touched { RW } else { prot });
            if touched {
                poke(at, 7);
                ok!(sys::mprotect(at, PAGE, prot));
            }
            let refused = Err(Fault { signal: SIGSEGV, code: SEGV_ACCERR, addr: at + 5 });
            let read = if prot == PROT_NONE { refused } else { Ok(7) };
            let write = if prot & PROT_WRITE == 0 { refused.map(|_| ()) } else { Ok(()) };
            check_eq!(try_read(at + 5).map(|_| 7), read, "rights {prot}, touched {touched}");
            check_eq!(try_write(at + 5, 1), write, "rights {prot}, touched {touched}");
        }
    }
}

fn rights_of_private_anonymous() {
    all_rights(|prot| ok!(sys::mmap(0, PAGE, prot, ANON, -1, 0)));
}

fn rights_of_shared_anonymous() {
    all_rights(|prot| ok!(sys::mmap(0, PAGE, prot, ANON_SHARED, -1, 0)));
}

fn rights_of_private_file() {
    let fd = tmp::file(&[7; PAGE]);
    all_rights(|prot| ok!(sys::mmap(0, PAGE, prot, MAP_PRIVATE, fd, 0)));
}

fn rights_of_shared_file() {
    let fd = tmp::file(&[7; PAGE]);
    all_rights(|prot| ok!(sys::mmap(0, PAGE, prot, MAP_SHARED, fd, 0)));
}

fn null_is_maperr() {
    expect_maperr(0, || _ = peek(std::hint::black_box(0)));
    expect_maperr(0, || poke(std::hint::black_box(0), 1));
}

fn null_with_offset_is_maperr() {
    expect_maperr(0xff8, || _ = peek(0xff8));
}

fn unmapped_is_maperr() {
    let at = free_range(1);
    expect_maperr(at + 123, || _ = peek(at + 123));
    expect_maperr(at + 123, || poke(at + 123, 1));
}

fn kernel_address_is_maperr() {
    for addr in [0xffff_8000_0000_0000, 0xffff_ffff_8100_0000, 0xffff_ffff_ffff_f000] {
        expect_maperr(addr, || _ = peek(addr));
        expect_maperr(addr, || poke(addr, 1));
    }
}

fn last_page_of_the_lower_half_is_maperr() {
    let addr = (1 << 47) - PAGE;
    expect_maperr(addr, || _ = peek(addr));
}

fn non_canonical_address_is_a_general_protection_fault() {
    const SI_KERNEL: i32 = 0x80;
    expect_signal(SIGSEGV, SI_KERNEL, 0, || _ = peek(1 << 63));
    expect_signal(SIGSEGV, SI_KERNEL, 0, || poke(0x1234_5678_0000_0000, 1));
}

fn write_that_crosses_into_nothing_names_the_second_page() {
    let at = lone_anon(1);
    expect_maperr(at + PAGE, || {
        // SAFETY: its second half is not mapped: that is the point.
        unsafe { ((at + PAGE - 4) as *mut u64).write_unaligned(std::hint::black_box(u64::MAX)) }
    });
}

fn read_that_crosses_into_prot_none_names_the_second_page() {
    let at = anon(2);
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_NONE));
    expect_accerr(at + PAGE, || {
        // SAFETY: its second half cannot be read: that is the point.
        let _ = std::hint::black_box(unsafe { ((at + PAGE - 4) as *const u64).read_unaligned() });
    });
}

fn own_text_cannot_be_written() {
    let at = own_text_cannot_be_written as *const () as usize;
    check!(bytes(at, 1).len() == 1);
    expect_accerr(at, || poke(at, 0));
}

fn read_only_data_cannot_be_written() {
    static WORD: [u8; 4] = *b"word";
    let at = WORD.as_ptr() as usize;
    expect_accerr(at, || poke(at, 0));
}

fn default_action_is_death_by_sigsegv() {
    let at = free_range(1);
    check_eq!(killed_by(|| poke(at, 1)), Some(SIGSEGV));
    check_eq!(killed_by(|| poke(anon(1), 1)), None);
}

fn default_action_is_death_by_sigbus() {
    let at = ok!(sys::mmap(0, PAGE, PROT_READ, MAP_SHARED, tmp::file(b""), 0));
    check_eq!(killed_by(|| _ = peek(at)), Some(libc::SIGBUS));
}

static PLACE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

fn page_of(info: *mut libc::siginfo_t) -> usize {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a valid siginfo.
    let addr = unsafe { (*info).si_addr() as usize } & !(PAGE - 1);
    PLACE.store(addr, std::sync::atomic::Ordering::Relaxed);
    addr
}

extern "C" fn map_there(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let addr = page_of(info);
    check_eq!(sys::mmap(addr, PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(addr));
}

extern "C" fn allow_there(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    ok!(sys::mprotect(page_of(info), PAGE, RW));
}

fn handler_that_maps_lets_the_access_go_on() {
    let at = free_range(8);
    crate::fault::handle(map_there, &[SIGSEGV]);
    for page in 0..8 {
        poke(at + page * PAGE + 3, page as u8);
        check_eq!(PLACE.load(std::sync::atomic::Ordering::Relaxed), at + page * PAGE);
        check_eq!(peek(at + page * PAGE + 3), page as u8);
    }
}

fn handler_that_protects_lets_the_access_go_on() {
    let at = anon(8);
    super::number_pages(at, 8, 1);
    ok!(sys::mprotect(at, 8 * PAGE, PROT_READ));
    crate::fault::handle(allow_there, &[SIGSEGV]);
    super::number_pages(at, 8, 11);
    check_eq!(super::page_numbers(at, 8), [11, 12, 13, 14, 15, 16, 17, 18]);
}

fn fault_again_after_a_handled_fault() {
    let at = free_range(1);
    for round in 0..200 {
        let fault = Err(Fault { signal: SIGSEGV, code: crate::fault::SEGV_MAPERR, addr: at + round });
        check_eq!(try_read(at + round), fault);
    }
}

fn bss_beyond_the_file_is_zero() {
    static mut SPACE: [u8; 3 * PAGE] = [0; 3 * PAGE];
    let at = &raw const SPACE as usize;
    check!((0..3 * PAGE).all(|offset| peek(at + offset) == 0));
    poke(at + PAGE, 1);
    check_eq!(peek(at + PAGE), 1);
}

fn illegal_instruction_is_sigill() {
    // SAFETY: the instruction raises SIGILL, which ends the child.
    let fault = fault_of(|| unsafe { std::arch::asm!("ud2") });
    let fault = fault.map(|fault| (fault.signal, fault.code, fault.addr != 0));
    check_eq!(fault, Some((SIGILL, 2, true)));
}

fn breakpoint_is_sigtrap() {
    // SAFETY: the instruction raises SIGTRAP, which ends the child.
    let fault = fault_of(|| unsafe { std::arch::asm!("int3") });
    check_eq!(fault.map(|fault| (fault.signal, fault.code)), Some((SIGTRAP, 0x80)));
}

fn division_by_zero_is_sigfpe() {
    let fault = fault_of(|| {
        // SAFETY: the instruction raises SIGFPE, which ends the child.
        unsafe { std::arch::asm!("xor edx, edx", "div ecx", in("ecx") 0, inout("eax") 1 => _, out("edx") _) }
    });
    let fault = fault.map(|fault| (fault.signal, fault.code, fault.addr != 0));
    check_eq!(fault, Some((SIGFPE, 1, true)));
}

fn privileged_instruction_is_sigsegv() {
    // SAFETY: the instruction raises SIGSEGV, which ends the child.
    expect_signal(SIGSEGV, 0x80, 0, || unsafe { std::arch::asm!("hlt") });
}
