// SPDX-License-Identifier: MPL-2.0

//! The modes of overcommit_memory (proc_sys_vm(5)), and what /proc/meminfo tells of what was promised.
//!
//! A setting is the whole machine's: the cases that change one run only where the suite may change the machine, and put back
//! what was there, whatever has happened.

pub(super) mod growth;

use libc::{MAP_NORESERVE, MAP_PRIVATE, MREMAP_MAYMOVE, PROT_READ};

use super::{ANON, ANON_SHARED, PAGE, RW, anon, lone_anon, number_pages};
use crate::{child::Child, harness::Case, procfs, sys, sys::Result};

pub const CASES: &[Case] = cases!["mem/overcommit_modes":
    committed_follows_what_can_be_written,
    committed_counts_shared_anonymous_memory,
    committed_counts_what_could_be_written_once,
    committed_counts_a_fork_twice,
    accounted_mappings_show_in_smaps,
    what_could_be_written_once_is_a_mapping_of_its_own,
    limit_follows_ratio_and_kbytes,
    settings_keep_their_bounds,
    others_may_not_change_the_settings,
    always_refuses_nothing,
    never_refuses_what_is_not_there,
    never_counts_without_reserve_too,
    never_counts_each_way_to_grow,
    never_gives_back_what_goes,
    never_keeps_a_reserve_for_the_superuser,
    max_map_count_can_be_set,
];

/// `CAP_SYS_TIME`: who may not set the clock is not to change the machine at all.
const SYS_TIME: u32 = 25;

/// A field of /proc/meminfo in bytes.
fn meminfo(name: &str) -> usize {
    let text = ok!(std::fs::read_to_string("/proc/meminfo"));
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok());
    match value {
        Some(kib) => kib * 1024,
        None => panic!("meminfo has no {name}"),
    }
}

/// By how much `Committed_AS` grows while `body` runs, in MiB, rounded: others are at work too.
fn committed_by(body: impl FnOnce()) -> isize {
    let before = meminfo("Committed_AS") as isize;
    body();
    (meminfo("Committed_AS") as isize - before + (8 << 20)).div_euclid(16 << 20) * 16
}

/// Large enough to stand out.
const LARGE: usize = 256 << 20;
const LARGE_MIB: isize = 256;

fn committed_follows_what_can_be_written() {
    let map = |prot, flags| ok!(sys::mmap(0, LARGE, prot, flags, -1, 0));
    let mut at = 0;
    check_eq!(committed_by(|| at = map(RW, ANON)), LARGE_MIB);
    check_eq!(committed_by(|| _ = ok!(sys::munmap(at, LARGE / 2))), -LARGE_MIB / 2);
    check_eq!(committed_by(|| _ = ok!(sys::munmap(at, LARGE))), -LARGE_MIB / 2);
    check_eq!(committed_by(|| at = map(PROT_READ, ANON)), 0);
    check_eq!(committed_by(|| _ = ok!(sys::mprotect(at, LARGE, RW))), LARGE_MIB);
    check_eq!(committed_by(|| _ = map(RW, ANON | MAP_NORESERVE)), 0);
    let file = crate::tmp::file(b"small");
    check_eq!(committed_by(|| _ = ok!(sys::mmap(0, LARGE, RW, libc::MAP_SHARED, file, 0))), 0);
    check_eq!(committed_by(|| _ = ok!(sys::mmap(0, LARGE, RW, MAP_PRIVATE, file, 0))), LARGE_MIB);
}

fn committed_counts_shared_anonymous_memory() {
    let mut at = 0;
    check_eq!(committed_by(|| at = ok!(sys::mmap(0, LARGE, RW, ANON_SHARED, -1, 0))), LARGE_MIB);
    // Half of the mapping is not half of the memory.
    check_eq!(committed_by(|| _ = ok!(sys::munmap(at, LARGE / 2))), 0);
    check_eq!(committed_by(|| _ = ok!(sys::munmap(at, LARGE))), -LARGE_MIB);
    let mut id = 0;
    check_eq!(committed_by(|| id = ok!(syscall!(SYS_shmget, 0, LARGE, 0o600))), LARGE_MIB);
    check_eq!(committed_by(|| _ = ok!(syscall!(SYS_shmctl, id, libc::IPC_RMID, 0))), -LARGE_MIB);
}

fn committed_counts_what_could_be_written_once() {
    let at = ok!(sys::mmap(0, LARGE, RW, ANON, -1, 0));
    number_pages(at, 1, 1);
    check_eq!(committed_by(|| _ = ok!(sys::mprotect(at, LARGE, PROT_READ))), 0);
    check_eq!(committed_by(|| _ = ok!(sys::munmap(at, LARGE))), -LARGE_MIB);
}

fn committed_counts_a_fork_twice() {
    ok!(sys::mmap(0, LARGE, RW, ANON, -1, 0));
    let (go, mut child) = (crate::child::Turn::new(), None);
    check_eq!(committed_by(|| child = Some(Child::spawn(|| go.wait()))), LARGE_MIB + 32);
    let end = || {
        go.post();
        child.take().into_iter().for_each(Child::join);
    };
    check_eq!(committed_by(end), -LARGE_MIB - 32);
}

fn accounted_mappings_show_in_smaps() {
    let has = |at, flag: &str| procfs::vm_flags(at).iter().any(|have| have == flag);
    check!(has(lone_anon(1), "ac"));
    let unreserved = ok!(sys::mmap(0, PAGE, RW, ANON | MAP_NORESERVE, -1, 0));
    check_eq!((has(unreserved, "ac"), has(unreserved, "nr")), (false, true));
    let unwritable = ok!(sys::mmap(super::free_range(1), PAGE, PROT_READ, ANON | libc::MAP_FIXED, -1, 0));
    check!(!has(unwritable, "ac"));
    ok!(sys::mprotect(unwritable, PAGE, RW));
    check!(has(unwritable, "ac"));
}

fn what_could_be_written_once_is_a_mapping_of_its_own() {
    let at = super::free_range(4);
    ok!(sys::mmap(at, 4 * PAGE, PROT_READ, ANON | libc::MAP_FIXED, -1, 0));
    ok!(sys::mprotect(at + PAGE, PAGE, RW));
    number_pages(at + PAGE, 1, 1);
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ));
    let layout = procfs::layout(at..at + 4 * PAGE);
    let expected = [(0, 1), (1, 2), (2, 4)].map(|(start, end)| (start, end, "r--p".to_string()));
    check_eq!(layout, expected);
}

fn path_of(name: &str) -> String {
    format!("/proc/sys/vm/{name}")
}

fn setting(name: &str) -> usize {
    let text = ok!(std::fs::read_to_string(path_of(name)));
    match text.trim().parse() {
        Ok(value) => value,
        Err(_) => panic!("{name} is {text:?}"),
    }
}

fn set(name: &str, value: &str) -> Result {
    let fd = sys::open(&path_of(name), libc::O_WRONLY, 0)?;
    let written = sys::write(fd, value.as_bytes());
    sys::close(fd);
    written
}

/// Runs `body` in a child, and puts back these settings when it has ended.
fn with_settings(names: &[&str], body: impl FnOnce()) {
    if !procfs::has_capability(SYS_TIME) {
        skip!("the suite may not change this machine");
    }
    let old: Vec<String> = names.iter().map(|name| setting(name).to_string()).collect();
    let status = Child::spawn(body).wait();
    for (name, old) in names.iter().zip(&old) {
        // The limit in KiB and the one in hundredths put each other out of force.
        if *name != "overcommit_kbytes" || old != "0" {
            ok!(set(name, old));
        }
    }
    check_eq!(status, 0);
}

const LIMITS: [&str; 3] = ["overcommit_memory", "overcommit_kbytes", "overcommit_ratio"];

fn limit_follows_ratio_and_kbytes() {
    with_settings(&LIMITS, || {
        let total = meminfo("MemTotal") + meminfo("SwapTotal");
        ok!(set("overcommit_ratio", "80"));
        check_eq!((setting("overcommit_ratio"), setting("overcommit_kbytes")), (80, 0));
        let limit = meminfo("CommitLimit");
        check!(limit.abs_diff(total / 100 * 80) < total / 50, "{limit} of {total}");
        ok!(set("overcommit_kbytes", "123456"));
        check_eq!((setting("overcommit_ratio"), setting("overcommit_kbytes")), (0, 123456));
        check_eq!(meminfo("CommitLimit"), 123456 * 1024 + meminfo("SwapTotal"));
        ok!(set("overcommit_ratio", "50"));
        check_eq!((setting("overcommit_ratio"), setting("overcommit_kbytes")), (50, 0));
    });
}

fn settings_keep_their_bounds() {
    with_settings(&["overcommit_memory", "max_map_count", "panic_on_oom"], || {
        for (name, value) in [
            ("overcommit_memory", "3"),
            ("overcommit_memory", "-1"),
            ("overcommit_memory", "x"),
            ("max_map_count", "-1"),
            ("panic_on_oom", "3"),
            ("panic_on_oom", "-1"),
        ] {
            errno_is!(set(name, value), EINVAL);
        }
        for mode in ["1", "0\n", " 0"] {
            check_eq!(set("overcommit_memory", mode), Ok(mode.len()));
        }
        check_eq!(setting("overcommit_memory"), 0);
        check_eq!(set("panic_on_oom", "0"), Ok(1));
    });
}

fn others_may_not_change_the_settings() {
    sys::become_unprivileged();
    for name in LIMITS.iter().chain(&["max_map_count", "user_reserve_kbytes", "admin_reserve_kbytes"]) {
        setting(name);
        errno_is!(set(name, "1"), EACCES);
    }
}

/// More bytes than all memory.
fn beyond() -> usize {
    2 * (meminfo("MemTotal") + meminfo("SwapTotal"))
}

fn always_refuses_nothing() {
    with_settings(&LIMITS, || {
        let at = ok!(sys::mmap(0, beyond(), PROT_READ, ANON, -1, 0));
        errno_is!(sys::mprotect(at, beyond(), RW), ENOMEM);
        ok!(set("overcommit_memory", "1"));
        ok!(sys::mprotect(at, beyond(), RW));
        ok!(sys::mmap(0, beyond(), RW, ANON, -1, 0));
        ok!(sys::mmap(0, beyond(), RW, ANON_SHARED, -1, 0));
        ok!(sys::mremap(anon(1), PAGE, beyond(), MREMAP_MAYMOVE, 0));
        // What was promised is counted all the same.
        check!(meminfo("Committed_AS") >= 4 * beyond());
    });
}

/// Bounds what may be promised to what is promised now and `more` bytes, and has nothing kept back.
fn never_beyond(more: usize) {
    for reserve in ["user_reserve_kbytes", "admin_reserve_kbytes"] {
        ok!(set(reserve, "0"));
    }
    let limit = meminfo("Committed_AS") + more;
    ok!(set("overcommit_kbytes", &(limit / 1024).to_string()));
    ok!(set("overcommit_memory", "2"));
}

const ALL: [&str; 5] = [
    "overcommit_memory",
    "overcommit_kbytes",
    "overcommit_ratio",
    "user_reserve_kbytes",
    "admin_reserve_kbytes",
];

/// What others may want meanwhile.
const SLACK: usize = 16 << 20;

fn never_refuses_what_is_not_there() {
    with_settings(&ALL, || {
        never_beyond(64 << 20);
        errno_is!(sys::mmap(0, 64 << 20, RW, ANON, -1, 0), ENOMEM);
        errno_is!(sys::mmap(0, 64 << 20, RW, ANON_SHARED, -1, 0), ENOMEM);
        let at = ok!(sys::mmap(0, (64 << 20) - SLACK, RW, ANON, -1, 0));
        errno_is!(sys::mmap(0, 2 * SLACK, RW, ANON, -1, 0), ENOMEM);
        ok!(sys::munmap(at, 2 * SLACK));
        ok!(sys::mmap(0, 2 * SLACK, RW, ANON, -1, 0));
        // What cannot be written is not counted, however large.
        ok!(sys::mmap(0, beyond(), PROT_READ, ANON, -1, 0));
    });
}

fn never_counts_without_reserve_too() {
    with_settings(&ALL, || {
        never_beyond(32 << 20);
        errno_is!(sys::mmap(0, 64 << 20, RW, ANON | MAP_NORESERVE, -1, 0), ENOMEM);
        errno_is!(sys::mmap(0, 64 << 20, RW, ANON_SHARED | MAP_NORESERVE, -1, 0), ENOMEM);
        errno_is!(syscall!(SYS_shmget, 0, 64 << 20, libc::SHM_NORESERVE | 0o600), ENOMEM);
        let at = ok!(sys::mmap(0, PAGE, RW, ANON | MAP_NORESERVE, -1, 0));
        check!(!procfs::vm_flags(at).iter().any(|flag| flag == "nr"));
    });
}

fn never_counts_each_way_to_grow() {
    with_settings(&ALL, || {
        const SIZE: usize = 64 << 20;
        let unwritable = ok!(sys::mmap(0, SIZE, PROT_READ, ANON, -1, 0));
        let small = anon(1);
        let heap = sys::brk(0);
        never_beyond(SIZE / 2);
        errno_is!(sys::mprotect(unwritable, SIZE, RW), ENOMEM);
        ok!(sys::mprotect(unwritable, PAGE, RW));
        errno_is!(sys::mremap(small, PAGE, SIZE, MREMAP_MAYMOVE, 0), ENOMEM);
        check_eq!(sys::brk(heap + SIZE), heap);
        check_eq!(super::peek(unwritable), 0);
    });
    with_settings(&ALL, || {
        ok!(sys::mmap(0, 128 << 20, RW, ANON, -1, 0));
        never_beyond(64 << 20);
        check_eq!(sys::fork().map(drop), Err(sys::Errno(libc::ENOMEM)));
    });
}

fn never_gives_back_what_goes() {
    with_settings(&ALL, || {
        never_beyond(64 << 20);
        for _ in 0..20 {
            let at = ok!(sys::mmap(0, 32 << 20, RW, ANON, -1, 0));
            ok!(sys::munmap(at, 32 << 20));
        }
        let at = ok!(sys::mmap(0, 40 << 20, RW, ANON, -1, 0));
        // What takes the place of something gives that back first.
        for _ in 0..3 {
            check_eq!(sys::mmap(at, 40 << 20, RW, ANON | libc::MAP_FIXED, -1, 0), Ok(at));
        }
    });
}

fn never_keeps_a_reserve_for_the_superuser() {
    with_settings(&ALL, || {
        never_beyond(64 << 20);
        ok!(set("admin_reserve_kbytes", "32768"));
        let at = ok!(sys::mmap(0, 40 << 20, RW, ANON, -1, 0));
        ok!(sys::munmap(at, 40 << 20));
        sys::become_unprivileged();
        errno_is!(sys::mmap(0, 40 << 20, RW, ANON, -1, 0), ENOMEM);
        ok!(sys::mmap(0, 16 << 20, RW, ANON, -1, 0));
    });
}

fn max_map_count_can_be_set() {
    with_settings(&["max_map_count"], || {
        let count = procfs::maps().len();
        ok!(set("max_map_count", &(count + 20).to_string()));
        check_eq!(setting("max_map_count"), count + 20);
        let at = ok!(sys::mmap(0, 100 * PAGE, RW, ANON, -1, 0));
        let mut split = 0;
        let refused =
            (0..50).map(|pair| sys::mprotect(at + (2 * pair + 1) * PAGE, PAGE, PROT_READ)).find(|result| {
                split += 1;
                result.is_err()
            });
        check_eq!(refused, Some(Err(sys::Errno(libc::ENOMEM))));
        check!((5..=12).contains(&split), "{split}");
        ok!(set("max_map_count", "65530"));
        for pair in 0..50 {
            ok!(sys::mprotect(at + (2 * pair + 1) * PAGE, PAGE, PROT_READ));
        }
    });
}
