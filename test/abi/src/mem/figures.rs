// SPDX-License-Identifier: MPL-2.0

//! Do the figures in `/proc` agree with each other, and with what the program did? Here those of a process: `smaps`,
//! `smaps_rollup`, `status`, `stat`.

pub(super) mod machine;
pub(super) mod scores;

use libc::{MADV_DONTNEED, MAP_PRIVATE, MAP_SHARED};

use super::{PAGE, RW, anon, anon_shared, lone_anon, number_pages, page_numbers, poke};
use crate::{
    child::{Child, Turn, in_child},
    harness::Case,
    procfs::{Vma, smaps_kib, statm, status_kib, text},
    sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/figures":
    smaps_fields_are_in_their_order,
    rollup_has_its_form,
    rollup_is_the_sum_of_smaps,
    rollup_agrees_with_status_and_statm,
    a_touch_is_one_page_everywhere,
    locked_is_the_share_that_is_locked,
    sizes_add_up_to_statm,
    status_fields_are_in_their_order,
    stat_agrees_with_statm_and_status,
    stat_counts_faults,
];

/// Pages enough to be seen through loose counters.
const MANY: usize = 8192;

/// The sum of a field over all mappings of an `smaps`, in KiB.
fn sum(smaps: &str, name: &str) -> usize {
    let prefix = format!("{name}:");
    smaps.lines().filter_map(|line| number(line.strip_prefix(&prefix)?)).sum()
}

/// The number in `   123 kB`.
fn number(value: &str) -> Option<usize> {
    value.trim().strip_suffix(" kB").unwrap_or(value.trim()).trim().parse().ok()
}

fn read(path: &str) -> String {
    match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => panic!("reading {path}: {error}"),
    }
}

/// A field of a file of lines `name: value`.
fn field(text: &str, name: &str) -> usize {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    match line.and_then(number) {
        Some(value) => value,
        None => panic!("there is no {name}"),
    }
}

fn meminfo(name: &str) -> usize {
    field(&read("/proc/meminfo"), name)
}

fn vmstat(name: &str) -> usize {
    let text = read("/proc/vmstat");
    match text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()) {
        Some(value) => value,
        None => panic!("vmstat has no {name}"),
    }
}

/// Fails unless `names` are among `found`, in this order. Later kernels have more.
fn check_order<'a>(mut found: impl Iterator<Item = &'a str>, names: &[&str]) {
    for name in names {
        check!(found.any(|found| found == *name), "{name} is missing, or not in its place");
    }
}

fn about(value: usize, expected: usize) -> bool {
    value.abs_diff(expected) <= expected / 4
}

/// Keeps a child that has done `prepare` alive, and still, while the case looks.
fn with_child(prepare: impl FnOnce(), look: impl FnOnce(i32)) {
    let (ready, go) = (Turn::new(), Turn::new());
    let child = Child::spawn(|| {
        prepare();
        ready.post();
        go.wait();
    });
    ready.wait();
    look(child.pid);
    go.post();
    child.join();
}

fn smaps_fields_are_in_their_order() {
    let at = lone_anon(2);
    poke(at, 1);
    let text = text("smaps");
    let mut lines =
        text.lines().skip_while(|line| Vma::parse(line).is_none_or(|vma| vma.start != at)).skip(1);
    let own: Vec<&str> = lines.by_ref().take_while(|line| Vma::parse(line).is_none()).collect();
    check_order(
        own.iter().filter_map(|line| line.split(':').next()),
        &[
            "Size",
            "KernelPageSize",
            "MMUPageSize",
            "Rss",
            "Pss",
            "Pss_Dirty",
            "Shared_Clean",
            "Shared_Dirty",
            "Private_Clean",
            "Private_Dirty",
            "Referenced",
            "Anonymous",
            "LazyFree",
            "AnonHugePages",
            "ShmemPmdMapped",
            "FilePmdMapped",
            "Shared_Hugetlb",
            "Private_Hugetlb",
            "Swap",
            "SwapPss",
            "Locked",
            "THPeligible",
            "VmFlags",
        ],
    );
    for line in own.iter().filter(|line| line.ends_with(" kB")) {
        check_eq!(line.len(), "Rss:                   4 kB".len(), "{line:?}");
    }
    check_eq!(own.iter().find(|line| line.starts_with("Rss:")), Some(&"Rss:                   4 kB"));
    check!(own.last().is_some_and(|line| line.ends_with(' ')));
}

fn rollup_has_its_form() {
    let text = text("smaps_rollup");
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let vma = Vma::parse(head);
    check!(
        vma.is_some_and(|vma| vma.path == "[rollup]" && vma.perms == "---p" && vma.dev == "00:00"),
        "{head:?}"
    );
    check_eq!(head.find("[rollup]"), Some(73));
    check_order(
        lines.filter_map(|line| line.split(':').next()),
        &[
            "Rss",
            "Pss",
            "Pss_Dirty",
            "Pss_Anon",
            "Pss_File",
            "Pss_Shmem",
            "Shared_Clean",
            "Shared_Dirty",
            "Private_Clean",
            "Private_Dirty",
            "Referenced",
            "Anonymous",
            "LazyFree",
            "AnonHugePages",
            "ShmemPmdMapped",
            "FilePmdMapped",
            "Shared_Hugetlb",
            "Private_Hugetlb",
            "Swap",
            "SwapPss",
            "Locked",
        ],
    );
}

/// Memory of every kind.
fn some_of_each() {
    let fd = tmp::file(&vec![1; 16 * PAGE]);
    let file = ok!(sys::mmap(0, 16 * PAGE, RW, MAP_PRIVATE, fd, 0));
    page_numbers(file, 16);
    number_pages(file, 5, 1);
    number_pages(ok!(sys::mmap(0, 16 * PAGE, RW, MAP_SHARED, fd, 0)), 7, 1);
    number_pages(anon(30), 20, 1);
    number_pages(anon_shared(30), 10, 1);
}

fn rollup_is_the_sum_of_smaps() {
    // A child that stands still is looked at: to look takes memory as well.
    with_child(some_of_each, |pid| {
        let look = || (read(&format!("/proc/{pid}/smaps")), read(&format!("/proc/{pid}/smaps_rollup")));
        // The code that looks is in memory then, which both share.
        look();
        let (smaps, rollup) = look();
        for name in [
            "Rss",
            "Shared_Clean",
            "Shared_Dirty",
            "Private_Clean",
            "Private_Dirty",
            "Referenced",
            "Anonymous",
            "LazyFree",
            "Swap",
            "Locked",
        ] {
            check_eq!(sum(&smaps, name), field(&rollup, name), "{name}");
        }
        let [whole, anon, file, shmem] =
            ["Pss", "Pss_Anon", "Pss_File", "Pss_Shmem"].map(|name| field(&rollup, name));
        check!(whole.abs_diff(anon + file + shmem) <= 2, "{rollup}");
        check!(sum(&smaps, "Pss").abs_diff(whole) <= smaps.len() / 600, "{rollup}");
    });
}

fn rollup_agrees_with_status_and_statm() {
    // Linux counts loosely, by 64 pages and more for each CPU.
    number_pages(anon(MANY), MANY, 1);
    let rss = field(&text("smaps_rollup"), "Rss");
    check!(about(status_kib("VmRSS"), rss), "{} and {rss}", status_kib("VmRSS"));
    check!(about(statm()[1] * 4, rss));
    check!(about(status_kib("RssAnon"), field(&text("smaps_rollup"), "Anonymous")));
}

fn a_touch_is_one_page_everywhere() {
    let (private, shared) = (lone_anon(40), anon_shared(40));
    let look = |at: usize, names: [&str; 4]| names.map(|name| smaps_kib(at, name));
    for (at, own) in [(private, 4), (shared, 0)] {
        for page in [0, 39, 7, 8] {
            let names = ["Rss", "Pss", "Private_Dirty", "Anonymous"];
            let before = look(at, names);
            poke(at + page * PAGE, 1);
            let expected = [before[0] + 4, before[1] + 4, before[2] + 4, before[3] + own];
            check_eq!(look(at, names), expected);
            poke(at + page * PAGE, 2);
            check_eq!(look(at, names), expected);
        }
    }
    ok!(sys::madvise(private + 7 * PAGE, PAGE, MADV_DONTNEED));
    check_eq!(smaps_kib(private, "Rss"), 12);
}

fn locked_is_the_share_that_is_locked() {
    let at = lone_anon(8);
    number_pages(at, 8, 1);
    ok!(sys::mlock(at, 4 * PAGE));
    check_eq!((smaps_kib(at, "Locked"), smaps_kib(at + 4 * PAGE, "Locked")), (16, 0));
    check_eq!(sum(&text("smaps"), "Locked"), 16);
    check_eq!(status_kib("VmLck"), 16);
    ok!(sys::munlock(at, 8 * PAGE));
    check_eq!(sum(&text("smaps"), "Locked"), 0);
}

fn sizes_add_up_to_statm() {
    with_child(some_of_each, |pid| {
        let smaps = read(&format!("/proc/{pid}/smaps"));
        let legacy = if smaps.contains("[vsyscall]") { 4 } else { 0 };
        let statm = read(&format!("/proc/{pid}/statm"));
        let size: usize = statm.split(' ').next().and_then(|size| size.parse().ok()).unwrap_or(0);
        check_eq!(sum(&smaps, "Size") - legacy, size * 4);
    });
    check_eq!(status_kib("VmSize"), statm()[0] * 4);
    check_eq!(status_kib("VmData") + status_kib("VmStk"), statm()[5] * 4);
}

fn status_fields_are_in_their_order() {
    let text = text("status");
    check_order(
        text.lines().filter_map(|line| line.split(':').next()),
        &[
            "Name",
            "Umask",
            "State",
            "Tgid",
            "Ngid",
            "Pid",
            "PPid",
            "TracerPid",
            "Uid",
            "Gid",
            "FDSize",
            "Groups",
            "NStgid",
            "NSpid",
            "NSpgid",
            "NSsid",
            "VmPeak",
            "VmSize",
            "VmLck",
            "VmPin",
            "VmHWM",
            "VmRSS",
            "RssAnon",
            "RssFile",
            "RssShmem",
            "VmData",
            "VmStk",
            "VmExe",
            "VmLib",
            "VmPTE",
            "VmSwap",
            "CoreDumping",
            "THP_enabled",
            "Threads",
            "SigQ",
            "SigPnd",
            "ShdPnd",
            "SigBlk",
            "SigIgn",
            "SigCgt",
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapAmb",
            "NoNewPrivs",
            "Seccomp",
            "Speculation_Store_Bypass",
            "Cpus_allowed",
            "Cpus_allowed_list",
            "Mems_allowed",
            "Mems_allowed_list",
            "voluntary_ctxt_switches",
            "nonvoluntary_ctxt_switches",
        ],
    );
    let size = text.lines().find(|line| line.starts_with("VmSize:")).unwrap_or_default();
    check!(size.starts_with("VmSize:\t") && size.len() >= "VmSize:\t    1234 kB".len(), "{size:?}");
}

/// The fields of stat behind the name, counted from 3 as in proc(5).
fn stat(index: usize) -> usize {
    let text = text("stat");
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    match rest.split_whitespace().nth(index - 3).and_then(|field| field.parse().ok()) {
        Some(value) => value,
        None => panic!("field {index} of {text:?}"),
    }
}

fn stat_agrees_with_statm_and_status() {
    number_pages(anon(MANY), MANY, 1);
    check_eq!(stat(23), statm()[0] * PAGE);
    check!(about(stat(24), statm()[1]), "{} and {}", stat(24), statm()[1]);
    let heap = sys::brk(0);
    check!(stat(47) <= heap && heap - stat(47) < 1 << 30, "start_brk {:#x}, break {heap:#x}", stat(47));
    let here = 0_u8;
    let stack = stat(28);
    check!(stack.abs_diff(&raw const here as usize) < 8 << 20, "start_stack {stack:#x}");
}

fn stat_counts_faults() {
    let at = lone_anon(300);
    let before = stat(10);
    number_pages(at, 300, 1);
    let faults = stat(10) - before;
    check!((300..420).contains(&faults), "{faults} faults for 300 touches");
    let before = stat(11);
    in_child(|| number_pages(anon(300), 300, 1));
    check!(stat(11) - before >= 300);
}
