// SPDX-License-Identifier: MPL-2.0

//! Restartable sequences: rseq(2), and what a switch, a signal or a barrier does to a critical section.
//!
//! There is no man page. What is expected here is what Linux does, with the area of 32 bytes that Linux 6.1 takes.

use std::{
    arch::asm,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    thread,
};

use libc::{PROT_NONE, PROT_READ, SIGSEGV, SIGUSR1, c_int, c_void, siginfo_t};

use super::*;
use crate::{
    child::{in_child, killed_by},
    mem::{ANON, PAGE, RW},
    program,
    signal::{handle_with, raise_thread, until},
};

pub const CASES: &[Case] = cases!["process/rseq":
    area_tells_the_cpu,
    area_follows_the_cpu,
    bad_arguments_are_einval,
    second_registration_is_ebusy,
    other_signature_is_eperm,
    kernel_address_is_efault,
    unmapped_area_is_efault,
    pointer_in_a_new_area_is_cleared,
    lost_area_is_sigsegv,
    undisturbed_section_commits,
    signal_aborts_a_section,
    switch_aborts_a_section,
    barrier_aborts_sections,
    barrier_needs_registration,
    signal_elsewhere_clears_the_pointer,
    wrong_signature_is_sigsegv,
    bad_section_is_sigsegv,
    fork_inherits,
    new_thread_does_not_inherit,
    exec_forgets,
];

/// What stands before the abort handler of these cases.
const SIGNATURE: u32 = 0x5305_3053;
const UNREGISTER: i32 = 1;
const AREA: usize = 32;

/// `struct rseq`.
#[repr(C, align(32))]
struct Area {
    cpu_id_start: AtomicU32,
    cpu_id: AtomicU32,
    section: AtomicU64,
    flags: AtomicU32,
    rest: [u32; 3],
}

impl Drop for Area {
    /// The kernel must not go on using memory that is something else by now.
    fn drop(&mut self) {
        let _ = rseq(self.addr(), AREA, UNREGISTER, SIGNATURE);
    }
}

impl Area {
    const fn new() -> Self {
        Self {
            cpu_id_start: AtomicU32::new(0),
            cpu_id: AtomicU32::new(u32::MAX),
            section: AtomicU64::new(0),
            flags: AtomicU32::new(0),
            rest: [0; 3],
        }
    }

    fn addr(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    fn cpus(&self) -> [u32; 2] {
        [self.cpu_id_start.load(SeqCst), self.cpu_id.load(SeqCst)]
    }

    fn register(&self) {
        ok!(rseq(self.addr(), AREA, 0, SIGNATURE));
    }
}

/// `struct rseq_cs`.
#[repr(C, align(32))]
#[derive(Default)]
struct Section {
    version: u32,
    flags: u32,
    start: u64,
    len: u64,
    abort: u64,
}

fn rseq(addr: usize, len: usize, flags: i32, signature: u32) -> sys::Result {
    syscall!(SYS_rseq, addr, len, flags, signature)
}

/// How a section ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Committed,
    Aborted,
}

/// Runs a section that spins until `word` is not 0, and says how it ended. `entered` becomes 1 when it is inside.
fn run(area: &Area, section: &mut Section, word: &AtomicU32, entered: &AtomicU32) -> End {
    let aborted: u32;
    // SAFETY: the section only reads and writes what it is given; the abort handler ends where the section does.
    unsafe {
        asm!(
            "lea {t}, [rip + 2f]",
            "mov [{section} + 8], {t}",
            "lea {t}, [rip + 3f]",
            "sub {t}, [{section} + 8]",
            "mov [{section} + 16], {t}",
            "lea {t}, [rip + 4f]",
            "mov [{section} + 24], {t}",
            "mov {aborted:e}, 0",
            "mov [{area} + 8], {section}",
            "2:",
            "mov dword ptr [{entered}], 1",
            "5:",
            "cmp dword ptr [{word}], 0",
            "je 5b",
            "3:",
            "jmp 6f",
            // An instruction that nobody runs, so that the signature looks like one to a disassembler.
            ".byte 0x0f, 0xb9, 0x3d",
            ".long {signature}",
            "4:",
            "mov {aborted:e}, 1",
            "6:",
            area = in(reg) area.addr(),
            section = in(reg) section,
            word = in(reg) word.as_ptr(),
            entered = in(reg) entered.as_ptr(),
            aborted = out(reg) aborted,
            t = out(reg) _,
            signature = const SIGNATURE,
        );
    }
    if aborted == 1 { End::Aborted } else { End::Committed }
}

fn cpu() -> u32 {
    let mut cpu = 0_u32;
    ok!(syscall!(SYS_getcpu, &raw mut cpu, 0, 0));
    cpu
}

fn pin(mask: u64) {
    ok!(syscall!(SYS_sched_setaffinity, 0, 8, &raw const mask));
}

/// The CPUs that this case may use.
fn cpus() -> Vec<u32> {
    let mut mask = [0_u64; 16];
    ok!(syscall!(SYS_sched_getaffinity, 0, 128, mask.as_mut_ptr()));
    (0..64).filter(|cpu| mask[0] & 1 << cpu != 0).collect()
}

fn area_tells_the_cpu() {
    pin(1 << cpus()[0]);
    let area = Area::new();
    area.register();
    check_eq!(area.cpus(), [cpu(); 2]);
    check_eq!(rseq(area.addr(), AREA, UNREGISTER, SIGNATURE), Ok(0));
    check_eq!(area.cpus(), [0, u32::MAX]);
}

fn area_follows_the_cpu() {
    let area = Area::new();
    area.register();
    for _ in 0..20 {
        for cpu in cpus() {
            pin(1 << cpu);
            check_eq!(area.cpus(), [cpu; 2]);
            pin(u64::MAX);
        }
    }
}

fn bad_arguments_are_einval() {
    let areas = [Area::new(), Area::new()];
    let [first, second] = areas.each_ref().map(Area::addr);
    errno_is!(rseq(first, AREA, UNREGISTER, SIGNATURE), EINVAL);
    errno_is!(rseq(first + 4, AREA, 0, SIGNATURE), EINVAL);
    errno_is!(rseq(first, 16, 0, SIGNATURE), EINVAL);
    errno_is!(rseq(first, AREA, 2, SIGNATURE), EINVAL);
    areas[0].register();
    errno_is!(rseq(second, AREA, 0, SIGNATURE), EINVAL);
    errno_is!(rseq(first, 64, 0, SIGNATURE), EINVAL);
    errno_is!(rseq(second, AREA, UNREGISTER, SIGNATURE), EINVAL);
    errno_is!(rseq(first, 64, UNREGISTER, SIGNATURE), EINVAL);
    errno_is!(rseq(first, AREA, UNREGISTER | 2, SIGNATURE), EINVAL);
    ok!(rseq(first, AREA, UNREGISTER, SIGNATURE));
}

fn second_registration_is_ebusy() {
    let area = Area::new();
    area.register();
    errno_is!(rseq(area.addr(), AREA, 0, SIGNATURE), EBUSY);
    ok!(rseq(area.addr(), AREA, UNREGISTER, SIGNATURE));
    area.register();
}

fn other_signature_is_eperm() {
    let area = Area::new();
    area.register();
    errno_is!(rseq(area.addr(), AREA, 0, SIGNATURE + 1), EPERM);
    errno_is!(rseq(area.addr(), AREA, UNREGISTER, SIGNATURE + 1), EPERM);
}

fn kernel_address_is_efault() {
    errno_is!(rseq(0xffff_8000_0000_0000, AREA, 0, SIGNATURE), EFAULT);
    errno_is!(rseq(usize::MAX - 31, AREA, 0, SIGNATURE), EFAULT);
}

fn unmapped_area_is_efault() {
    let at = ok!(sys::mmap(0, PAGE, RW, ANON, -1, 0));
    ok!(sys::munmap(at, PAGE));
    errno_is!(rseq(at, AREA, 0, SIGNATURE), EFAULT);
}

fn pointer_in_a_new_area_is_cleared() {
    let area = Area::new();
    area.section.store(0x1000, SeqCst);
    area.register();
    check_eq!(area.section.load(SeqCst), 0);
}

/// The area goes, or cannot be written any more: the next signal ends the process, a handler of `SIGSEGV` or not.
fn lost_area_is_sigsegv() {
    handle_with(on_signal, SIGUSR1, 0, 0);
    for (protection, caught) in [(PROT_READ, false), (PROT_NONE, false), (PROT_READ, true)] {
        let ended = killed_by(|| {
            let at = ok!(sys::mmap(0, PAGE, RW, ANON, -1, 0));
            if caught {
                handle_with(on_signal, SIGSEGV, 0, 0);
            }
            ok!(rseq(at, AREA, 0, SIGNATURE));
            ok!(sys::mprotect(at, PAGE, protection));
            raise_thread(SIGUSR1);
        });
        check_eq!(ended, Some(SIGSEGV));
    }
}

/// A word that is 1 lets the section commit at once: sooner or later nothing comes between.
fn undisturbed_section_commits() {
    let (area, word) = (Area::new(), AtomicU32::new(1));
    area.register();
    until("a commit", || run(&area, &mut Section::default(), &word, &AtomicU32::new(0)) == End::Committed);
}

static ENTERED: AtomicU32 = AtomicU32::new(0);
static NEVER: AtomicU32 = AtomicU32::new(0);
static HANDLED: AtomicU32 = AtomicU32::new(0);
static SEEN: AtomicU64 = AtomicU64::new(0);
static STATIC_AREA: Area = Area::new();

extern "C" fn on_signal(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    HANDLED.fetch_add(1, SeqCst);
    SEEN.store(STATIC_AREA.section.load(SeqCst), SeqCst);
}

/// The section never ends by itself: another thread sends the signal.
fn signal_aborts_a_section() {
    handle_with(on_signal, SIGUSR1, 0, 0);
    let (pid, tid) = (sys::getpid(), gettid());
    STATIC_AREA.register();
    for round in 1..=20 {
        ENTERED.store(0, SeqCst);
        thread::scope(|scope| {
            scope.spawn(move || {
                until("the section", || ENTERED.load(SeqCst) == 1);
                ok!(syscall!(SYS_tgkill, pid, tid, SIGUSR1));
            });
            check_eq!(run(&STATIC_AREA, &mut Section::default(), &NEVER, &ENTERED), End::Aborted);
        });
        check_eq!(STATIC_AREA.section.load(SeqCst), 0);
        // A switch may have come first; the signal comes all the same, and its handler finds no section.
        until("the handler", || HANDLED.load(SeqCst) == round);
        check_eq!(SEEN.load(SeqCst), 0);
    }
}

/// Two threads that never end by themselves share a CPU.
fn switch_aborts_a_section() {
    let first = 1 << cpus()[0];
    let sections = || {
        pin(first);
        let area = Area::new();
        area.register();
        for _ in 0..10 {
            check_eq!(run(&area, &mut Section::default(), &NEVER, &AtomicU32::new(0)), End::Aborted);
            check_eq!(area.section.load(SeqCst), 0);
        }
        // The other may be in a section still, which takes two.
        HANDLED.fetch_add(1, SeqCst);
        while HANDLED.load(SeqCst) < 2 {
            std::hint::spin_loop();
        }
        ok!(rseq(area.addr(), AREA, UNREGISTER, SIGNATURE));
    };
    thread::scope(|scope| {
        scope.spawn(sections);
        scope.spawn(sections);
    });
}

const PRIVATE_RSEQ: i32 = 128;
const REGISTER_PRIVATE_RSEQ: i32 = 256;
const FLAG_CPU: i32 = 1;

fn membarrier(command: i32, flags: i32, cpu: u32) -> sys::Result {
    syscall!(SYS_membarrier, command, flags, cpu)
}

/// A section in another thread, alone on its CPU if there is another, is aborted by the barrier: of all CPUs, and of one.
fn barrier_aborts_sections() {
    let cpus = cpus();
    let (own, other) = (cpus[0], cpus[cpus.len() - 1]);
    pin(1 << own);
    ok!(membarrier(REGISTER_PRIVATE_RSEQ, 0, 0));
    for (flags, cpu) in [(0, 0), (FLAG_CPU, other)] {
        thread::scope(|scope| {
            let section = scope.spawn(|| {
                pin(1 << other);
                let area = Area::new();
                area.register();
                ENTERED.store(0, SeqCst);
                let end = run(&area, &mut Section::default(), &NEVER, &ENTERED);
                ok!(rseq(area.addr(), AREA, UNREGISTER, SIGNATURE));
                end
            });
            until("the section", || ENTERED.load(SeqCst) == 1);
            until("its end", || {
                check_eq!(membarrier(PRIVATE_RSEQ, flags, cpu), Ok(0));
                section.is_finished()
            });
            check_eq!(section.join().ok(), Some(End::Aborted));
            ENTERED.store(0, SeqCst);
        });
    }
}

fn barrier_needs_registration() {
    errno_is!(membarrier(PRIVATE_RSEQ, 0, 0), EPERM);
    ok!(membarrier(REGISTER_PRIVATE_RSEQ, 0, 0));
    check_eq!(membarrier(PRIVATE_RSEQ, 0, 0), Ok(0));
    check_eq!(membarrier(PRIVATE_RSEQ, FLAG_CPU, 1000), Ok(0));
    errno_is!(membarrier(PRIVATE_RSEQ, 2, 0), EINVAL);
    errno_is!(membarrier(REGISTER_PRIVATE_RSEQ, FLAG_CPU, 0), EINVAL);
}

/// A pointer that was left behind is taken away at the next chance.
fn signal_elsewhere_clears_the_pointer() {
    handle_with(on_signal, SIGUSR1, 0, 0);
    STATIC_AREA.register();
    let (mut section, word) = (Section::default(), AtomicU32::new(1));
    run(&STATIC_AREA, &mut section, &word, &ENTERED);
    STATIC_AREA.section.store(&raw const section as u64, SeqCst);
    raise_thread(SIGUSR1);
    check_eq!((STATIC_AREA.section.load(SeqCst), SEEN.load(SeqCst)), (0, 0));
}

fn wrong_signature_is_sigsegv() {
    handle_with(on_signal, SIGUSR1, 0, 0);
    let ended = killed_by(|| {
        ok!(rseq(STATIC_AREA.addr(), AREA, 0, SIGNATURE + 1));
        let mut section = Section::default();
        run(&STATIC_AREA, &mut section, &AtomicU32::new(1), &ENTERED);
        STATIC_AREA.section.store(&raw const section as u64, SeqCst);
        raise_thread(SIGUSR1);
    });
    check_eq!(ended, Some(SIGSEGV));
}

fn bad_section_is_sigsegv() {
    handle_with(on_signal, SIGUSR1, 0, 0);
    let spoil: [fn(&mut Section); 6] = [
        |section| section.version = 1,
        |section| section.abort = section.start + 1,
        |section| section.start = 1 << 63,
        |section| section.len = u64::MAX,
        |section| section.abort = 1 << 63,
        |section| section.abort = 0x1000,
    ];
    for (index, spoil) in spoil.into_iter().enumerate() {
        let ended = killed_by(|| {
            STATIC_AREA.register();
            let mut section = Section::default();
            run(&STATIC_AREA, &mut section, &AtomicU32::new(1), &ENTERED);
            spoil(&mut section);
            STATIC_AREA.section.store(&raw const section as u64, SeqCst);
            raise_thread(SIGUSR1);
        });
        check_eq!(ended, Some(SIGSEGV), "section {index}");
    }
    for at in [0x1000_u64, 1 << 63] {
        let ended = killed_by(|| {
            STATIC_AREA.register();
            STATIC_AREA.section.store(at, SeqCst);
            raise_thread(SIGUSR1);
        });
        check_eq!(ended, Some(SIGSEGV), "a section at {at:#x}");
    }
}

fn fork_inherits() {
    let area = Area::new();
    area.register();
    in_child(|| {
        errno_is!(rseq(area.addr(), AREA, 0, SIGNATURE), EBUSY);
        area.cpu_id.store(12345, SeqCst);
        pin(1 << cpus()[0]);
        until("an update", || area.cpus() == [cpu(); 2]);
    });
    errno_is!(rseq(area.addr(), AREA, 0, SIGNATURE), EBUSY);
}

fn new_thread_does_not_inherit() {
    let area = Area::new();
    area.register();
    let own = thread::spawn(|| {
        let own = Area::new();
        own.register();
        ok!(rseq(own.addr(), AREA, UNREGISTER, SIGNATURE));
    });
    check!(own.join().is_ok());
    errno_is!(rseq(area.addr(), AREA, 0, SIGNATURE), EBUSY);
}

fn exec_forgets() {
    STATIC_AREA.register();
    check_eq!(program::output_of(|| program::become_role(&["process/rseq"], &[])), "registered");
}

pub(super) fn say_registered(_: &[String]) -> i32 {
    let area = Area::new();
    area.register();
    println!("registered");
    0
}
