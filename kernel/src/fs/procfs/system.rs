// SPDX-License-Identifier: MPL-2.0

//! Files of `/proc` about the machine as a whole.

use ostd::boot::boot_info;
use vmar::rss::RssKind;

use super::super::{
    self as fs, file_system,
    synthetic::{Text, put},
};
use crate::{
    ipc::shm,
    mm::{
        self, commit,
        layout::TASK_SIZE,
        mapped_file::{SharedMemory, known_as},
    },
    prelude::*,
    process::{table, worker},
    sched::{self, load},
    uts,
};

/// `cmdline`.
pub(super) fn cmdline(text: &mut Text) {
    put!(text, "{}\n", boot_info().kernel_cmdline.as_str());
}

/// `version`.
pub(super) fn version(text: &mut Text) {
    put!(text, "Linux version {} (tessera) {}\n", uts::RELEASE, uts::VERSION);
}

/// `devices`: the drivers by major number.
pub(super) fn devices(text: &mut Text) {
    text.push(b"Character devices:\n");
    let drivers = [
        (1, "mem"),
        (4, "ttyS"),
        (5, "/dev/tty"),
        (5, "/dev/console"),
        (5, "/dev/ptmx"),
        (128, "ptm"),
        (136, "pts"),
    ];
    for (major, name) in drivers {
        put!(text, "{major:3} {name}\n");
    }
    text.push(b"\nBlock devices:\n");
}

/// `filesystems`.
pub(super) fn filesystems(text: &mut Text) {
    for kind in file_system::types() {
        put!(text, "{}\t{}\n", if kind.needs_device() { "" } else { "nodev" }, kind.name());
    }
}

/// `loadavg`.
pub(super) fn loadavg(text: &mut Text) {
    for average in load::averages() {
        // Rounded to two places.
        let hundredths = (u64::from(average) * 100 + (1 << (load::FRACTION_BITS - 1))) >> load::FRACTION_BITS;
        put!(text, "{}.{:02} ", hundredths / 100, hundredths % 100);
    }
    let (threads, last) = table::with(|table| (table.thread_count(), table.last_pid()));
    put!(text, "{}/{threads} {last}\n", sched::runnable_count());
}

/// What memory is used for.
pub(super) struct Census {
    /// Free memory, in bytes.
    pub(super) free: usize,
    /// In page tables of programs, private to a process, in pages.
    pub(super) anonymous: usize,
    /// In page tables of programs, of files and shared memory, in pages.
    pub(super) mapped: usize,
    /// Contents of files that are nowhere else, in pages.
    pub(super) files: usize,
    /// Contents of files that can be read again, in pages.
    pub(super) cached: usize,
    /// Of locked mappings, in bytes.
    pub(super) locked: usize,
    /// Page tables of programs, in pages; about.
    pub(super) tables: usize,
    /// The kernel's stacks, in bytes.
    pub(super) stacks: usize,
    /// Those of them that no thread has, in bytes.
    pub(super) idle_stacks: usize,
    /// What else the kernel has allocated, in bytes.
    pub(super) slab: usize,
}

impl Census {
    /// Counts.
    pub(super) fn take() -> Self {
        let (mut anonymous, mut mapped, mut locked, mut tables) = (0, 0, 0, 0);
        let mut objects = BTreeMap::new();
        mm::for_each_space(|vm| {
            let (rss, usage) = (vm.vmar().rss(), vm.vmar().usage());
            anonymous += rss.pages(RssKind::Anonymous);
            mapped += rss.pages(RssKind::File) + rss.pages(RssKind::SharedMemory);
            locked += usage.locked;
            tables += vm.table_pages();
            for mapping in vm.vmar().query(0..TASK_SIZE).iter() {
                if let Some(memory) = known_as::<SharedMemory>(&mapping) {
                    objects.insert(memory.object().id(), memory.object().resident_count());
                }
            }
        });
        // Shared memory is a file that has no name, or none that is to be seen.
        let (_, in_segments) = shm::with_table(|table| table.pages());
        let files = objects.values().sum::<usize>() + in_segments + fs::pages_in_memory();
        let cached = mm::cache::pages();
        let [stacks, idle_stacks] = worker::counts().map(|count| count * mm::KERNEL_STACK);
        let free = mm::free_memory();
        let known = (anonymous + files + cached + tables) * PAGE_SIZE + stacks + free + mm::memory_at_start();
        let slab = mm::total_memory().saturating_sub(known);
        Self { free, anonymous, mapped, files, cached, locked, tables, stacks, idle_stacks, slab }
    }
}

/// `meminfo`: every line of Debian's Linux 6.1, in its order.
pub(super) fn meminfo(text: &mut Text) {
    for (name, value) in memory() {
        let unit = if name.starts_with("HugePages_") { "" } else { " kB" };
        let name = format!("{name}:");
        put!(text, "{name:<16}{value:8}{unit}\n");
    }
}

/// `meminfo` of the one node of memory, in Linux's order: what it has of the machine's.
pub(in super::super) fn node_meminfo(text: &mut Text) {
    const BEFORE: [&str; 2] = ["MemTotal", "MemFree"];
    const BEHIND: [&str; 29] = [
        "SwapCached",
        "Active",
        "Inactive",
        "Active(anon)",
        "Inactive(anon)",
        "Active(file)",
        "Inactive(file)",
        "Unevictable",
        "Mlocked",
        "Dirty",
        "Writeback",
        "FilePages",
        "Mapped",
        "AnonPages",
        "Shmem",
        "KernelStack",
        "PageTables",
        "SecPageTables",
        "NFS_Unstable",
        "Bounce",
        "WritebackTmp",
        "KReclaimable",
        "Slab",
        "SReclaimable",
        "SUnreclaim",
        "AnonHugePages",
        "ShmemHugePages",
        "ShmemPmdMapped",
        "FileHugePages",
    ];
    let rows = memory();
    let value = |name: &str| {
        let name = if name == "FilePages" { "Cached" } else { name };
        rows.iter().find(|row| row.0 == name).map_or(0, |row| row.1)
    };
    let mut put = |name: &str, value: usize| {
        let name = format!("{name}:");
        put!(text, "Node 0 {name:<16}{value:8} kB\n");
    };
    BEFORE.iter().for_each(|name| put(name, value(name)));
    put("MemUsed", value("MemTotal").saturating_sub(value("MemFree")));
    BEHIND.iter().for_each(|name| put(name, value(name)));
    put("FilePmdMapped", 0);
    for name in ["HugePages_Total", "HugePages_Free", "HugePages_Surp"] {
        let name = format!("{name}:");
        put!(text, "Node 0 {name:<16} {:5}\n", 0);
    }
}

/// What `meminfo` tells, most of it in KiB.
fn memory() -> [(&'static str, usize); 51] {
    let census = Census::take();
    let kib = |bytes: usize| bytes / 1024;
    let in_kib = |pages: usize| pages * (PAGE_SIZE / 1024);
    [
        ("MemTotal", kib(mm::total_memory())),
        ("MemFree", kib(census.free)),
        ("MemAvailable", kib(mm::available_memory() + census.idle_stacks) + in_kib(census.cached)),
        ("Buffers", 0),
        ("Cached", in_kib(census.files + census.cached)),
        ("SwapCached", 0),
        ("Active", in_kib(census.anonymous + census.cached)),
        ("Inactive", in_kib(census.files)),
        ("Active(anon)", in_kib(census.anonymous)),
        ("Inactive(anon)", in_kib(census.files)),
        ("Active(file)", in_kib(census.cached)),
        ("Inactive(file)", 0),
        ("Unevictable", kib(census.locked)),
        ("Mlocked", kib(census.locked)),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", in_kib(census.anonymous)),
        ("Mapped", in_kib(census.mapped)),
        ("Shmem", in_kib(census.files)),
        ("KReclaimable", 0),
        ("Slab", kib(census.slab)),
        ("SReclaimable", 0),
        ("SUnreclaim", kib(census.slab)),
        ("KernelStack", kib(census.stacks)),
        ("PageTables", in_kib(census.tables)),
        ("SecPageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", kib(commit::limit())),
        ("Committed_AS", kib(commit::promised())),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", 0),
        ("VmallocChunk", 0),
        ("Percpu", 0),
        ("AnonHugePages", 0),
        ("ShmemHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FileHugePages", 0),
        ("FilePmdMapped", 0),
        ("HugePages_Total", 0),
        ("HugePages_Free", 0),
        ("HugePages_Rsvd", 0),
        ("HugePages_Surp", 0),
        ("Hugepagesize", 2048),
        ("Hugetlb", 0),
        ("DirectMap4k", 0),
        ("DirectMap2M", kib(mm::total_memory())),
        ("DirectMap1G", 0),
    ]
}
