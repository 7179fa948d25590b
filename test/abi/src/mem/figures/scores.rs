// SPDX-License-Identifier: MPL-2.0

//! Who goes when memory runs out, what a process is held to and was given, and the figures of others.

use libc::{O_CLOEXEC, O_RDWR};

use super::{MANY, about, field, read, with_child};
use crate::{
    child::{Child, Turn, in_child},
    harness::Case,
    mem::{anon, number_pages},
    procfs::{self, text},
    sys,
};

pub const CASES: &[Case] = cases!["mem/figures":
    oom_score_follows_its_adjustment,
    oom_score_is_zero_when_protected,
    oom_adj_is_the_same_in_other_units,
    oom_adj_keeps_its_bounds,
    others_may_not_lower_the_score,
    limits_have_their_form,
    auxv_is_what_the_program_got,
];

fn score() -> usize {
    match text("oom_score").trim().parse() {
        Ok(score) => score,
        Err(_) => panic!("oom_score holds {:?}", text("oom_score")),
    }
}

fn write_own(name: &str, value: &str) -> sys::Result {
    let fd = ok!(sys::open(&format!("/proc/self/{name}"), O_RDWR | O_CLOEXEC, 0));
    let result = sys::write(fd, value.as_bytes());
    sys::close(fd);
    result
}

fn oom_score_follows_its_adjustment() {
    // From 0 for nobody's memory, 2/3 of a thousand, to 4/3 of a thousand.
    let before: usize = text("oom_score_adj").trim().parse().unwrap_or(0);
    for adjustment in [before, before.max(300), 500.max(before), 1000] {
        ok!(write_own("oom_score_adj", &adjustment.to_string()));
        let expected = (1000 + adjustment) * 2 / 3;
        check!((expected.saturating_sub(8)..expected + 80).contains(&score()), "{} at {adjustment}", score());
    }
}

/// Whether the score may be lowered.
fn may_protect() -> bool {
    const SYS_RESOURCE: u32 = 24;
    procfs::has_capability(SYS_RESOURCE)
}

fn oom_score_is_zero_when_protected() {
    if !may_protect() {
        skip!("only those with CAP_SYS_RESOURCE can be protected");
    }
    ok!(write_own("oom_score_adj", "-1000"));
    check_eq!(score(), 0);
    check_eq!(text("oom_adj"), "-17\n");
}

fn oom_adj_is_the_same_in_other_units() {
    ok!(write_own("oom_score_adj", "1000"));
    check_eq!(text("oom_adj"), "15\n");
    if !may_protect() {
        skip!("only those with CAP_SYS_RESOURCE can lower it again");
    }
    ok!(write_own("oom_score_adj", "0"));
    check_eq!(text("oom_adj"), "0\n");
    for (old, new) in [("8", "470\n"), ("15", "1000\n"), ("-16", "-941\n"), ("-17", "-1000\n")] {
        ok!(write_own("oom_adj", old));
        check_eq!(text("oom_score_adj"), new);
    }
}

fn oom_adj_keeps_its_bounds() {
    for bad in ["16", "-18", "x", ""] {
        match write_own("oom_adj", bad) {
            Ok(0) if bad.is_empty() => {}
            result => errno_is!(result, EINVAL),
        }
    }
}

fn others_may_not_lower_the_score() {
    // Who may lower it has said with it how low it may be.
    let least: i32 = if may_protect() { 500 } else { text("oom_score_adj").trim().parse().unwrap_or(0) };
    ok!(write_own("oom_score_adj", &least.to_string()));
    in_child(|| {
        if ok!(syscall!(SYS_getuid)) == 0 {
            sys::become_unprivileged();
            ok!(syscall!(SYS_prctl, libc::PR_SET_DUMPABLE, 1));
        }
        errno_is!(write_own("oom_score_adj", &(least - 1).to_string()), EACCES);
        ok!(write_own("oom_score_adj", "600"));
        errno_is!(write_own("oom_adj", "3"), EACCES);
        ok!(write_own("oom_score_adj", &least.to_string()));
        check_eq!(text("oom_score_adj"), format!("{least}\n"));
    });
}

fn limits_have_their_form() {
    let text = text("limits");
    let head = "Limit                     Soft Limit           Hard Limit           Units     ";
    check_eq!(text.lines().next(), Some(head));
    let names: Vec<&str> = text.lines().skip(1).map(|line| line.get(..25).unwrap_or(line).trim()).collect();
    let expected = [
        "Max cpu time",
        "Max file size",
        "Max data size",
        "Max stack size",
        "Max core file size",
        "Max resident set",
        "Max processes",
        "Max open files",
        "Max locked memory",
        "Max address space",
        "Max file locks",
        "Max pending signals",
        "Max msgqueue size",
        "Max nice priority",
        "Max realtime priority",
        "Max realtime timeout",
    ];
    check_eq!(names, expected);
    let (soft, hard) = ok!(sys::getrlimit(libc::RLIMIT_NOFILE as _));
    check!(
        text.lines()
            .any(|line| line == format!("{:<25} {soft:<20} {hard:<20} {:<10}", "Max open files", "files"))
    );
}

fn auxv_is_what_the_program_got() {
    let bytes = match std::fs::read("/proc/self/auxv") {
        Ok(bytes) => bytes,
        Err(error) => panic!("reading auxv: {error}"),
    };
    let words: Vec<u64> =
        bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default())).collect();
    check!(words.len().is_multiple_of(2) && words.ends_with(&[0, 0]), "{words:?}");
    for pair in words.chunks(2).filter(|pair| pair[0] != 0) {
        // SAFETY: a lookup in the auxiliary vector.
        check_eq!(unsafe { libc::getauxval(pair[0]) }, pair[1], "entry {}", pair[0]);
    }
}

pub const OTHERS: &[Case] = cases!["mem/figures_of_others":
    smaps_and_status_of_a_child,
    a_zombie_has_no_memory,
];

fn smaps_and_status_of_a_child() {
    with_child(
        || number_pages(anon(MANY), MANY, 1),
        |pid| {
            let rollup = read(&format!("/proc/{pid}/smaps_rollup"));
            check!(field(&rollup, "Private_Dirty") >= MANY * 4, "{rollup}");
            let status = read(&format!("/proc/{pid}/status"));
            check!(about(field(&status, "RssAnon"), field(&rollup, "Anonymous")));
        },
    );
}

fn a_zombie_has_no_memory() {
    let ready = Turn::new();
    let child = Child::spawn(|| ready.post());
    ready.wait();
    let path = format!("/proc/{}", child.pid);
    // It says so just before it ends.
    for _ in 0..500 {
        if read(&format!("{path}/status")).contains("State:\tZ") {
            break;
        }
        sys::sleep_us(10_000);
    }
    check_eq!(read(&format!("{path}/maps")), "");
    check_eq!(read(&format!("{path}/smaps")), "");
    check_eq!(read(&format!("{path}/statm")), "0 0 0 0 0 0 0\n");
    check!(!read(&format!("{path}/status")).contains("VmSize"));
    check_eq!(
        sys::open(&format!("{path}/smaps_rollup"), libc::O_RDONLY, 0)
            .and_then(|fd| sys::read(fd, &mut [0; 64])),
        Err(sys::Errno(libc::ESRCH))
    );
    child.join();
}
