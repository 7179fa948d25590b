// SPDX-License-Identifier: MPL-2.0

//! The few files of `/sys` that programs look at: which CPUs there are, and that there are no huge pages.

use linux_raw_sys::general::SYSFS_MAGIC;
use spin::Once;

use super::{
    file_system::{FileSystem, FileSystemType},
    synthetic::{Row, StaticInode, SyntheticFs, Text, put},
};
use crate::prelude::*;

/// Huge pages are never used; programs ask here how large they would be.
const HUGE_PAGES: &[Row] = &[
    Row::text("enabled", |text| text.push(b"always madvise [never]\n")),
    Row::text("hpage_pmd_size", |text| text.push(b"2097152\n")),
    Row::text("shmem_enabled", |text| text.push(b"always within_size advise [never] deny force\n")),
];

static ROOT: Row = Row::folder(
    "",
    &[
        Row::folder(
            "devices",
            &[Row::folder(
                "system",
                &[Row::folder(
                    "cpu",
                    &[
                        Row::text("online", cpus),
                        Row::text("possible", cpus),
                        Row::text("present", cpus),
                        Row::text("offline", |text| text.push(b"\n")),
                        Row::text("kernel_max", |text| put!(text, "{}\n", crate::sched::MAX_CPUS - 1)),
                    ],
                )],
            )],
        ),
        Row::folder("fs", &[]),
        Row::folder("kernel", &[Row::folder("mm", &[Row::folder("transparent_hugepage", HUGE_PAGES)])]),
    ],
);

fn cpus(text: &mut Text) {
    match ostd::cpu::num_cpus() {
        1 => text.push(b"0\n"),
        count => put!(text, "0-{}\n", count - 1),
    }
}

/// The type `sysfs`: one instance.
pub struct Sysfs;

impl FileSystemType for Sysfs {
    fn name(&self) -> &'static str {
        "sysfs"
    }

    fn mount(&self, _source: &[u8], _options: &[u8]) -> Result<Arc<dyn FileSystem>> {
        static INSTANCE: Once<Arc<SyntheticFs>> = Once::new();
        let make = || SyntheticFs::new("sysfs", SYSFS_MAGIC, |fs| StaticInode::inode(fs, &ROOT));
        Ok(INSTANCE.call_once(make).clone())
    }
}
