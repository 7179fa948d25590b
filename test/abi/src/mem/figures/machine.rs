// SPDX-License-Identifier: MPL-2.0

//! What is said of the machine as a whole: `meminfo`, `vmstat`, `zoneinfo`, and the settings in `/proc/sys/vm`.

use libc::{O_CLOEXEC, O_WRONLY};

use super::{MANY, about, check_order, field, meminfo, read, vmstat};
use crate::{
    child::in_child,
    harness::Case,
    mem::{PAGE, anon, anon_shared, number_pages},
    procfs::sets_memory_up_lazily,
    sys,
};

pub const CASES: &[Case] = cases!["mem/figures":
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
];

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
        let to_come = if kib == "MemFree" { memory_to_come() } else { 0 };
        let (pages, kib) = (vmstat(count) * 4 + to_come, meminfo(kib));
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

/// What is managed in all of them, in KiB.
fn managed(zones: &[(usize, usize)]) -> usize {
    zones.iter().map(|(managed, _)| managed * 4).sum()
}

/// Memory in KiB that is in no zone yet: there are kernels, none of Linux's own releases, that set it up as it is needed.
fn memory_to_come() -> usize {
    if sets_memory_up_lazily() { meminfo("MemTotal") - managed(&zones()) } else { 0 }
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
    check_eq!(managed(&zones) + memory_to_come(), meminfo("MemTotal"));
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
