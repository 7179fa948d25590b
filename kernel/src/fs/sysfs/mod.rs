// SPDX-License-Identifier: MPL-2.0

//! The few files of `/sys` that programs look at: the processors and their caches, the one node of memory, and that there are no
//! huge pages.
//!
//! ```text
//! devices/system/cpu/    online, possible, ...    which processors there are
//!                        cpu0/topology, cache     how they lie beside each other, and what they share
//! devices/system/node/   node0                    all memory and all processors
//! ```

pub mod cache;
mod cpu;
mod node;

use linux_raw_sys::general::SYSFS_MAGIC;
use spin::Once;

use super::{
    file_system::{FileSystem, FileSystemType},
    synthetic::{Row, StaticInode, SyntheticFs, Text},
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
            &[Row::folder("system", &[Row::folder("cpu", cpu::FOLDER), Row::folder("node", node::FOLDER)])],
        ),
        Row::folder("fs", &[]),
        Row::folder("kernel", &[Row::folder("mm", &[Row::folder("transparent_hugepage", HUGE_PAGES)])]),
    ],
);

/// A file with nothing but a line, which may be empty.
fn line(text: &mut Text, line: &str) {
    text.push(line.as_bytes());
    text.push(b"\n");
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
