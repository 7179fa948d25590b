// SPDX-License-Identifier: MPL-2.0

//! The machine, and the small calls of a thread: uname(2), sysinfo(2), getrandom(2), arch_prctl(2) and the like.

use libc::{GRND_NONBLOCK, GRND_RANDOM};

use super::*;
use crate::{child::in_child, mem::free_range};

pub const CASES: &[Case] = cases!["process/system":
    uname_tells,
    host_name_needs_privilege,
    sysinfo_tells,
    getrandom_fills,
    getrandom_errors,
    arch_prctl_bases,
    arch_prctl_errors,
    set_tid_address_gives_the_tid,
    robust_list_is_kept,
    getcpu_takes_null,
    personality_can_be_asked,
    reboot_needs_privilege,
    membarrier_can_be_asked,
    ids_of_threads,
];

fn uname_tells() {
    let mut fields = [[0_u8; 65]; 6];
    ok!(syscall!(SYS_uname, fields.as_mut_ptr()));
    let text = |index: usize| {
        let field = fields[index].split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(field).into_owned()
    };
    check_eq!(text(0), "Linux");
    check_eq!(text(4), "x86_64");
    check!(!text(1).is_empty() && !text(3).is_empty());
    let major: u32 = text(2).split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    check!(major >= 4, "release {}", text(2));
    errno_is!(syscall!(SYS_uname, free_range(1)), EFAULT);
}

fn host_name_needs_privilege() {
    let name = "n".repeat(65);
    errno_is!(syscall!(SYS_sethostname, name.as_ptr(), 65), EINVAL);
    errno_is!(syscall!(SYS_sethostname, name.as_ptr(), -1_i64), EINVAL);
    errno_is!(syscall!(SYS_setdomainname, name.as_ptr(), 65), EINVAL);
    errno_is!(syscall!(SYS_sethostname, free_range(1), 5), EFAULT);
    sys::become_unprivileged();
    errno_is!(syscall!(SYS_sethostname, name.as_ptr(), 5), EPERM);
    errno_is!(syscall!(SYS_setdomainname, name.as_ptr(), 5), EPERM);
}

fn sysinfo_tells() {
    let told = || {
        // SAFETY: plain numbers.
        let mut info: libc::sysinfo = unsafe { std::mem::zeroed() };
        ok!(syscall!(SYS_sysinfo, &raw mut info));
        info
    };
    let info = told();
    check!(info.totalram > 0 && info.freeram > 0 && info.freeram <= info.totalram);
    check!(info.mem_unit >= 1);
    check!(info.procs >= 2);
    let children: Vec<_> = (0..5).map(|_| sleeper()).collect();
    check!(told().procs >= 6);
    children.into_iter().for_each(end);
    errno_is!(syscall!(SYS_sysinfo, free_range(1)), EFAULT);
}

fn getrandom_fills() {
    let (mut a, mut b) = ([0_u8; 256], [0_u8; 256]);
    check_eq!(syscall!(SYS_getrandom, a.as_mut_ptr(), 256, 0), Ok(256));
    check_eq!(syscall!(SYS_getrandom, b.as_mut_ptr(), 256, GRND_NONBLOCK), Ok(256));
    check!(a != b && a != [0; 256]);
    check_eq!(syscall!(SYS_getrandom, a.as_mut_ptr(), 0, 0), Ok(0));
    let mut big = vec![0_u8; 100_000];
    check_eq!(syscall!(SYS_getrandom, big.as_mut_ptr(), 100_000, 0), Ok(100_000));
    check!(big[99_000..].iter().any(|&byte| byte != 0));
}

fn getrandom_errors() {
    let mut bytes = [0_u8; 8];
    errno_is!(syscall!(SYS_getrandom, bytes.as_mut_ptr(), 8, 8), EINVAL);
    errno_is!(syscall!(SYS_getrandom, bytes.as_mut_ptr(), 8, GRND_RANDOM | libc::GRND_INSECURE), EINVAL);
    errno_is!(syscall!(SYS_getrandom, free_range(1), 8, 0), EFAULT);
}

const SET_GS: i32 = 0x1001;
const SET_FS: i32 = 0x1002;
const GET_FS: i32 = 0x1003;
const GET_GS: i32 = 0x1004;

fn base(code: i32) -> usize {
    let mut base = usize::MAX;
    ok!(syscall!(SYS_arch_prctl, code, &raw mut base));
    base
}

fn arch_prctl_bases() {
    check!(base(GET_FS) != 0, "this thread has local storage");
    check_eq!(base(GET_GS), 0);
    let word = Box::leak(Box::new(0x1234_usize)) as *mut usize;
    ok!(syscall!(SYS_arch_prctl, SET_GS, word));
    check_eq!(base(GET_GS), word as usize);
    ok!(syscall!(SYS_sched_yield));
    let seen: usize;
    // SAFETY: GS points to the word.
    unsafe { std::arch::asm!("mov {}, gs:[0]", out(reg) seen) };
    check_eq!(seen, 0x1234);
    in_child(|| check_eq!(base(GET_GS), word as usize));
    std::thread::scope(|scope| {
        let fs = base(GET_FS);
        scope.spawn(move || check!(base(GET_FS) != fs));
    });
}

fn arch_prctl_errors() {
    errno_is!(syscall!(SYS_arch_prctl, 0x7777, 0), EINVAL);
    errno_is!(syscall!(SYS_arch_prctl, SET_FS, usize::MAX), EPERM);
    errno_is!(syscall!(SYS_arch_prctl, SET_GS, usize::MAX), EPERM);
    errno_is!(syscall!(SYS_arch_prctl, GET_FS, free_range(1)), EFAULT);
}

fn set_tid_address_gives_the_tid() {
    let mut word = 0_i32;
    check_eq!(syscall!(SYS_set_tid_address, &raw mut word), Ok(gettid() as usize));
    check_eq!(syscall!(SYS_set_tid_address, 0), Ok(gettid() as usize));
}

fn robust_list_is_kept() {
    let head = Box::leak(Box::new([0_usize; 3]));
    head[0] = head.as_ptr() as usize;
    let at = head.as_ptr();
    errno_is!(syscall!(SYS_set_robust_list, at, 23), EINVAL);
    errno_is!(syscall!(SYS_set_robust_list, at, 0), EINVAL);
    ok!(syscall!(SYS_set_robust_list, at, 24));
    let (mut told, mut size) = (0_usize, 0_usize);
    ok!(syscall!(SYS_get_robust_list, 0, &raw mut told, &raw mut size));
    check_eq!((told, size), (at as usize, 24));
    errno_is!(syscall!(SYS_get_robust_list, 0x3fff_ffff, &raw mut told, &raw mut size), ESRCH);
    errno_is!(syscall!(SYS_get_robust_list, 0, free_range(1), &raw mut size), EFAULT);
    in_child(|| {
        ok!(syscall!(SYS_get_robust_list, 0, &raw mut told, &raw mut size));
        sys::become_unprivileged();
        let parent = ok!(syscall!(SYS_getppid));
        errno_is!(syscall!(SYS_get_robust_list, parent, &raw mut told, &raw mut size), EPERM);
    });
}

fn getcpu_takes_null() {
    let mut cpu = u32::MAX;
    ok!(syscall!(SYS_getcpu, 0, 0, 0));
    ok!(syscall!(SYS_getcpu, &raw mut cpu, 0, 0));
    check!(cpu < 1024);
    errno_is!(syscall!(SYS_getcpu, free_range(1), 0, 0), EFAULT);
}

fn personality_can_be_asked() {
    check_eq!(syscall!(SYS_personality, 0xffff_ffff_u32), Ok(0));
    check_eq!(syscall!(SYS_personality, libc::ADDR_NO_RANDOMIZE), Ok(0));
    check_eq!(syscall!(SYS_personality, 0xffff_ffff_u32), Ok(libc::ADDR_NO_RANDOMIZE as usize));
}

fn reboot_needs_privilege() {
    // With wrong numbers, so that it cannot happen.
    sys::become_unprivileged();
    errno_is!(syscall!(SYS_reboot, 1, 2, 3, 0), EPERM);
}

fn membarrier_can_be_asked() {
    const QUERY: i32 = 0;
    check!(ok!(syscall!(SYS_membarrier, QUERY, 0, 0)) & 1 == 1);
    errno_is!(syscall!(SYS_membarrier, QUERY, 1 << 10, 0), EINVAL);
    errno_is!(syscall!(SYS_membarrier, 1 << 30, 0, 0), EINVAL);
    ok!(syscall!(SYS_membarrier, 1, 0, 0));
}

fn ids_of_threads() {
    let me = sys::getpid();
    check_eq!(gettid(), me);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let tid = gettid();
            check!(tid != me && sys::getpid() == me);
            ok!(syscall!(SYS_tgkill, me, tid, 0));
            ok!(syscall!(SYS_tkill, tid, 0));
            errno_is!(syscall!(SYS_tgkill, tid, tid, 0), ESRCH);
            errno_is!(syscall!(SYS_tgkill, -1_i64, tid, 0), EINVAL);
            // Calls on processes take the number of any thread.
            check_eq!(syscall!(SYS_getpgid, tid), syscall!(SYS_getpgid, 0));
        });
    });
}
