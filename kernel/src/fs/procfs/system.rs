// SPDX-License-Identifier: MPL-2.0

//! Files of `/proc` about the machine as a whole.

use ostd::boot::boot_info;
use vmar::rss::RssKind;

use super::super::{
    file_system, mount,
    synthetic::{Text, put},
};
use crate::{
    mm::{self, commit},
    prelude::*,
    process::table,
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

/// Pages in memory by use.
struct Pages {
    /// In page tables, private to a process.
    anonymous: usize,
    /// In page tables, of files and shared memory.
    mapped: usize,
    /// Contents of files.
    files: usize,
}

impl Pages {
    fn count() -> Self {
        let mut pages = Self { anonymous: 0, mapped: 0, files: 0 };
        let mut seen = BTreeSet::new();
        for vm in table::all().filter_map(|process| process.vm()) {
            if seen.insert(Arc::as_ptr(&vm)) {
                let rss = vm.vmar().rss();
                pages.anonymous += rss.pages(RssKind::Anonymous);
                pages.mapped += rss.pages(RssKind::File) + rss.pages(RssKind::SharedMemory);
            }
        }
        let mut seen = BTreeSet::new();
        for mount in mount::all() {
            if seen.insert(mount.fs().device()) {
                let stats = mount.fs().stats();
                pages.files += (stats.blocks - stats.free) as usize;
            }
        }
        pages
    }
}

/// `meminfo`.
pub(super) fn meminfo(text: &mut Text) {
    let pages = Pages::count();
    let kib = |bytes: usize| bytes / 1024;
    let in_kib = |pages: usize| pages * (PAGE_SIZE / 1024);
    let rows = [
        ("MemTotal", kib(mm::total_memory())),
        ("MemFree", kib(mm::free_memory())),
        ("MemAvailable", kib(mm::available_memory())),
        ("Buffers", 0),
        ("Cached", in_kib(pages.files)),
        ("SwapCached", 0),
        ("Active", in_kib(pages.anonymous + pages.files)),
        ("Inactive", 0),
        ("Active(anon)", in_kib(pages.anonymous)),
        ("Inactive(anon)", 0),
        ("Active(file)", in_kib(pages.files)),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", in_kib(pages.anonymous)),
        ("Mapped", in_kib(pages.mapped)),
        ("Shmem", in_kib(pages.files)),
        ("CommitLimit", kib(commit::limit())),
        ("Committed_AS", kib(commit::promised())),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", 0),
        ("VmallocChunk", 0),
        ("HugePages_Total", 0),
        ("HugePages_Free", 0),
        ("HugePages_Rsvd", 0),
        ("HugePages_Surp", 0),
        ("Hugepagesize", 2048),
    ];
    for (name, value) in rows {
        let unit = if name.starts_with("HugePages_") { "" } else { " kB" };
        let name = format!("{name}:");
        put!(text, "{name:<15} {value:8}{unit}\n");
    }
}

/// `vmstat`: those of Linux's counts that are kept.
pub(super) fn vmstat(text: &mut Text) {
    let pages = Pages::count();
    let mut faults = (0, 0);
    for process in table::all() {
        let mut usage = process.usage();
        usage += process.times.lock().children;
        faults.0 += usage.minor_faults + usage.major_faults;
        faults.1 += usage.major_faults;
    }
    let rows = [
        ("nr_free_pages", (mm::free_memory() / PAGE_SIZE) as u64),
        ("nr_anon_pages", pages.anonymous as u64),
        ("nr_mapped", pages.mapped as u64),
        ("nr_file_pages", pages.files as u64),
        ("nr_dirty", 0),
        ("nr_writeback", 0),
        ("nr_shmem", pages.files as u64),
        ("pswpin", 0),
        ("pswpout", 0),
        ("pgfault", faults.0),
        ("pgmajfault", faults.1),
    ];
    for (name, value) in rows {
        put!(text, "{name} {value}\n");
    }
}
