// SPDX-License-Identifier: MPL-2.0

//! Do the figures in `/proc` agree with each other, and with what the program did? `smaps`, `smaps_rollup`, `status`, `stat`,
//! `meminfo`, `vmstat`, `zoneinfo`, `/proc/sys/vm` and the scores for when memory runs out.

use libc::{MADV_DONTNEED, MAP_PRIVATE, MAP_SHARED, O_CLOEXEC, O_RDWR, O_WRONLY};

use super::{PAGE, RW, anon, anon_shared, lone_anon, number_pages, page_numbers, poke};
use crate::{
    child::{Child, Turn, in_child},
    harness::Case,
    procfs::{self, Vma, smaps_kib, statm, status_kib, text},
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
    meminfo_fields_are_in_their_order,
    meminfo_follows_anonymous_memory,
    meminfo_follows_shared_memory,
    meminfo_follows_locks,
    meminfo_is_consistent,
    vmstat_fields_are_in_their_order,
    vmstat_agrees_with_meminfo,
    vmstat_counts_faults,
    zoneinfo_has_its_form,
    zoneinfo_agrees_with_meminfo,
    settings_are_there,
    settings_refuse_what_they_cannot_be,
    others_may_not_change_settings,
    oom_score_follows_its_adjustment,
    oom_score_is_zero_when_protected,
    oom_adj_is_the_same_in_other_units,
    oom_adj_keeps_its_bounds,
    others_may_not_lower_the_score,
    limits_have_their_form,
    auxv_is_what_the_program_got,
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

fn meminfo_fields_are_in_their_order() {
    let text = read("/proc/meminfo");
    check_order(
        text.lines().filter_map(|line| line.split(':').next()),
        &[
            "MemTotal",
            "MemFree",
            "MemAvailable",
            "Buffers",
            "Cached",
            "SwapCached",
            "Active",
            "Inactive",
            "Active(anon)",
            "Inactive(anon)",
            "Active(file)",
            "Inactive(file)",
            "Unevictable",
            "Mlocked",
            "SwapTotal",
            "SwapFree",
            "Dirty",
            "Writeback",
            "AnonPages",
            "Mapped",
            "Shmem",
            "KReclaimable",
            "Slab",
            "SReclaimable",
            "SUnreclaim",
            "KernelStack",
            "PageTables",
            "SecPageTables",
            "NFS_Unstable",
            "Bounce",
            "WritebackTmp",
            "CommitLimit",
            "Committed_AS",
            "VmallocTotal",
            "VmallocUsed",
            "VmallocChunk",
            "Percpu",
        ],
    );
    let total = text.lines().next().unwrap_or_default();
    check_eq!(total.len(), "MemTotal:         996624 kB".len(), "{total:?}");
}

fn meminfo_follows_anonymous_memory() {
    let before = meminfo("AnonPages");
    let at = anon(MANY);
    number_pages(at, MANY, 1);
    let grown = meminfo("AnonPages").saturating_sub(before);
    check!(about(grown, MANY * 4), "{grown} KiB for {}", MANY * 4);
}

fn meminfo_follows_shared_memory() {
    let before = (meminfo("Shmem"), meminfo("Cached"));
    let at = anon_shared(MANY);
    number_pages(at, MANY, 1);
    let after = (meminfo("Shmem"), meminfo("Cached"));
    for (before, after) in [(before.0, after.0), (before.1, after.1)] {
        check!(about(after.saturating_sub(before), MANY * 4), "{before} KiB, then {after}");
    }
}

fn meminfo_follows_locks() {
    let before = meminfo("Mlocked");
    let at = anon(MANY);
    if sys::mlock(at, MANY * PAGE).is_err() {
        skip!("too much to be locked");
    }
    let grown = meminfo("Mlocked").saturating_sub(before);
    check!(about(grown, MANY * 4), "{grown} KiB");
}

fn meminfo_is_consistent() {
    let text = read("/proc/meminfo");
    let get = |name: &str| field(&text, name);
    check!(get("MemFree") < get("MemTotal") && get("MemAvailable") < get("MemTotal"));
    for name in ["Active", "Inactive"] {
        let parts = get(&format!("{name}(anon)")) + get(&format!("{name}(file)"));
        check!(parts.abs_diff(get(name)) <= 64, "{name}");
    }
    check_eq!(get("Slab"), get("SReclaimable") + get("SUnreclaim"));
    check!(get("Shmem") <= get("Cached") + 64);
    check!(get("AnonPages") + get("Cached") + get("Slab") <= get("MemTotal"));
}

fn vmstat_fields_are_in_their_order() {
    let text = read("/proc/vmstat");
    check_order(
        text.lines().filter_map(|line| line.split(' ').next()),
        &[
            "nr_free_pages",
            "nr_zone_inactive_anon",
            "nr_zone_active_anon",
            "nr_zone_inactive_file",
            "nr_zone_active_file",
            "nr_zone_unevictable",
            "nr_zone_write_pending",
            "nr_mlock",
            "nr_inactive_anon",
            "nr_active_anon",
            "nr_inactive_file",
            "nr_active_file",
            "nr_unevictable",
            "nr_slab_reclaimable",
            "nr_slab_unreclaimable",
            "nr_anon_pages",
            "nr_mapped",
            "nr_file_pages",
            "nr_dirty",
            "nr_writeback",
            "nr_shmem",
            "nr_kernel_stack",
            "nr_page_table_pages",
            "pgpgin",
            "pgpgout",
            "pswpin",
            "pswpout",
            "pgfree",
            "pgactivate",
            "pgdeactivate",
            "pgfault",
            "pgmajfault",
            "drop_pagecache",
            "drop_slab",
            "oom_kill",
            "unevictable_pgs_culled",
        ],
    );
    check!(text.lines().all(|line| line.split_once(' ').is_some_and(|(_, n)| n.parse::<u64>().is_ok())));
}

fn vmstat_agrees_with_meminfo() {
    for (count, kib) in [
        ("nr_anon_pages", "AnonPages"),
        ("nr_shmem", "Shmem"),
        ("nr_file_pages", "Cached"),
        ("nr_page_table_pages", "PageTables"),
        ("nr_free_pages", "MemFree"),
    ] {
        let (pages, kib) = (vmstat(count) * 4, meminfo(kib));
        check!(pages.abs_diff(kib) <= kib / 10 + 4096, "{count}: {pages} KiB, and {kib} KiB in meminfo");
    }
}

fn vmstat_counts_faults() {
    let at = anon(MANY);
    let before = vmstat("pgfault");
    number_pages(at, MANY, 1);
    check!(vmstat("pgfault") - before >= MANY * 3 / 4);
}

/// The zones that have memory: their `managed` and `free` pages.
fn zones() -> Vec<(usize, usize)> {
    let text = read("/proc/zoneinfo");
    let mut zones = Vec::new();
    for zone in text.split("Node ").skip(1) {
        let value = |name: &str| {
            zone.lines().find_map(|line| line.trim().strip_prefix(name)?.trim().parse::<usize>().ok())
        };
        match (value("managed "), value("pages free ")) {
            (Some(0), _) => {}
            (Some(managed), Some(free)) => zones.push((managed, free)),
            _ => panic!("a zone of unknown form: {zone}"),
        }
    }
    zones
}

fn zoneinfo_has_its_form() {
    let text = read("/proc/zoneinfo");
    let first = text.lines().next().unwrap_or_default();
    check!(first.starts_with("Node 0, zone ") && first.len() == "Node 0, zone      DMA".len(), "{first:?}");
    for line in [
        "  per-node stats",
        "        min ",
        "        low ",
        "        high ",
        "        spanned ",
        "        present ",
        "        managed ",
        "        protection: (",
        "      nr_free_pages ",
        "  pagesets",
        "    cpu: 0",
        "  node_unreclaimable:  0",
        "  start_pfn: ",
    ] {
        check!(text.lines().any(|found| found.starts_with(line)), "there is no line {line:?}");
    }
}

fn zoneinfo_agrees_with_meminfo() {
    let zones = zones();
    check_eq!(zones.iter().map(|(managed, _)| managed).sum::<usize>() * 4, meminfo("MemTotal"));
    check!(zones.iter().all(|(managed, free)| free <= managed));
}

fn settings_are_there() {
    for (name, value) in [
        ("overcommit_memory", None),
        ("overcommit_ratio", None),
        ("overcommit_kbytes", None),
        ("max_map_count", None),
        ("mmap_min_addr", None),
        ("min_free_kbytes", None),
        ("swappiness", None),
        ("admin_reserve_kbytes", None),
        ("user_reserve_kbytes", None),
        ("nr_hugepages", None),
        ("oom_dump_tasks", Some(1)),
        ("oom_kill_allocating_task", Some(0)),
        ("panic_on_oom", Some(0)),
    ] {
        let text = read(&format!("/proc/sys/vm/{name}"));
        let found = text.strip_suffix('\n').and_then(|number| number.parse::<usize>().ok());
        check!(found.is_some() && (value.is_none() || found == value), "{name}: {text:?}");
    }
}

/// Tries to change a setting of memory.
fn set(name: &str, value: &str) -> sys::Result {
    let fd = sys::open(&format!("/proc/sys/vm/{name}"), O_WRONLY | O_CLOEXEC, 0)?;
    let result = sys::write(fd, value.as_bytes());
    sys::close(fd);
    result
}

fn settings_refuse_what_they_cannot_be() {
    if ok!(syscall!(SYS_getuid)) != 0 {
        skip!("only root can try");
    }
    for (name, bad) in [
        ("overcommit_memory", "3"),
        ("overcommit_memory", "-1"),
        ("overcommit_memory", "x"),
        ("max_map_count", "-1"),
        ("panic_on_oom", "3"),
    ] {
        match set(name, bad) {
            // Where the host's settings are out of reach.
            Err(sys::Errno(libc::EROFS | libc::EACCES | libc::EPERM)) => {}
            result => errno_is!(result, EINVAL),
        }
    }
}

fn others_may_not_change_settings() {
    in_child(|| {
        sys::become_unprivileged();
        for name in ["overcommit_memory", "max_map_count", "drop_caches", "oom_dump_tasks"] {
            match set(name, "1") {
                Err(sys::Errno(libc::EACCES | libc::EROFS)) => {}
                other => panic!("writing {name} gives {other:?}"),
            }
        }
    });
}

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
