// SPDX-License-Identifier: MPL-2.0

//! procfs: what the kernel knows, as text (`proc(5)`).
//!
//! ```text
//!   /proc ─┬─ meminfo, stat, cpuinfo ..     system.rs, cpu.rs, mounts.rs
//!          ├─ sys/                          sysctl.rs
//!          ├─ self, thread-self             links to whoever asks
//!          └─ PID/ ─┬─ maps, smaps ..       maps.rs        task/TID/ has the same files
//!                   ├─ mem, pagemap         memory.rs
//!                   ├─ status, stat ..      status.rs, info.rs
//!                   └─ fd/, fdinfo/         fd.rs
//! ```
//!
//! The folder of a process holds the process weakly: it goes when the process is waited for, and what is still open of it then
//! answers ESRCH. Names of processes are never kept in the tree of dentries; each lookup asks the table of processes.

mod cpu;
mod fd;
mod info;
mod maps;
mod memory;
mod mounts;
mod status;
mod sysctl;
mod system;
mod task;
mod vmstat;

use linux_raw_sys::general::PROC_SUPER_MAGIC;
use spin::Once;

use self::task::{Task, TaskFolder};
pub(super) use self::{system::node_meminfo, vmstat::node_vmstat};
use super::{
    file_system::{FileSystem, FileSystemType},
    inode::Inode,
    synthetic::{Row, StaticInode, SyntheticFs, list_rows, metadata},
    types::*,
};
use crate::{ipc::shm, prelude::*, process::table};

/// What is in `/proc` beside the processes.
static ROWS: &[Row] = &[
    Row::dynamic_link("self", || {
        let thread = Thread::current().ok_or(ENOENT)?;
        Ok(format!("{}", thread.process().pid()))
    }),
    Row::dynamic_link("thread-self", || {
        let thread = Thread::current().ok_or(ENOENT)?;
        Ok(format!("{}/task/{}", thread.process().pid(), thread.tid()))
    }),
    Row::link("mounts", "self/mounts"),
    Row::text("cmdline", system::cmdline),
    Row::text("cpuinfo", cpu::cpuinfo),
    Row::text("devices", system::devices),
    Row::text("filesystems", system::filesystems),
    Row::text("loadavg", system::loadavg),
    Row::text("meminfo", system::meminfo),
    Row::text("stat", cpu::stat),
    Row::text("swaps", |text| text.push(b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")),
    Row::folder("sys", sysctl::ROWS),
    Row::folder("sysvipc", &[Row::text("shm", shm::show)]),
    Row::text("uptime", cpu::uptime),
    Row::text("version", system::version),
    Row::text("vmstat", vmstat::vmstat),
    Row::text("zoneinfo", vmstat::zoneinfo),
];

/// The position of process 0 in a listing of the root.
const FIRST_PID: u64 = 256;

/// The root of procfs.
struct Root {
    fs: Arc<SyntheticFs>,
    born: Timestamp,
}

impl Inode for Root {
    fn metadata(&self) -> Metadata {
        let meta = metadata(&self.fs, 1, FileType::Directory, 0o555, self.born);
        Metadata { nlink: meta.nlink + table::with(|table| table.process_count()) as u32, ..meta }
    }

    fn kind(&self) -> FileType {
        FileType::Directory
    }

    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn lookup_is_stable(&self) -> bool {
        false
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if let Some(row) = ROWS.iter().find(|row| row.name.as_bytes() == name) {
            return Ok(StaticInode::inode(&self.fs, row));
        }
        let number = parse_number(name).ok_or(ENOENT)?;
        // A thread's number leads to its process, though it is not listed.
        let process = table::process(number)
            .or_else(|| table::thread(number).map(|thread| thread.process().clone()))
            .ok_or(ENOENT)?;
        Ok(TaskFolder::inode(&self.fs, Task::of_process(&process)))
    }

    fn readdir(&self, from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        if !list_rows(ROWS, from, visit) {
            return Ok(());
        }
        let first = Pid::try_from(from.saturating_sub(FIRST_PID)).unwrap_or(Pid::MAX);
        let tasks = table::all_from(first).map(|process| (process.pid(), Task::of_process(&process)));
        list_tasks(tasks, FIRST_PID, from, visit);
        Ok(())
    }
}

/// Lists the folders of `tasks`, named by their numbers and ascending; the one of number N stands at `first` + N.
fn list_tasks(
    tasks: impl Iterator<Item = (u32, Task)>,
    first: u64,
    from: u64,
    visit: &mut dyn FnMut(DirEntry<'_>) -> bool,
) {
    for (number, task) in tasks {
        let position = first + u64::from(number);
        if position < from {
            continue;
        }
        let name = number.to_string();
        let entry = DirEntry {
            name: name.as_bytes(),
            ino: task.ino(0),
            kind: FileType::Directory,
            next: position + 1,
        };
        if !visit(entry) {
            break;
        }
    }
}

/// A decimal number in the one form it is listed in.
fn parse_number(name: &[u8]) -> Option<u32> {
    let is_plain = name.iter().all(u8::is_ascii_digit) && (name.len() == 1 || name.first() != Some(&b'0'));
    if !is_plain {
        return None;
    }
    core::str::from_utf8(name).ok()?.parse().ok()
}

/// A number that was written to a setting, blanks around it allowed.
fn parse_setting(bytes: &[u8]) -> Result<i64> {
    let text = core::str::from_utf8(bytes.trim_ascii()).map_err(|_| EINVAL)?;
    text.parse().map_err(|_| EINVAL)
}

/// The type `proc`: one instance.
pub struct Procfs;

impl FileSystemType for Procfs {
    fn name(&self) -> &'static str {
        "proc"
    }

    fn mount(&self, _source: &[u8], _options: &[u8]) -> Result<Arc<dyn FileSystem>> {
        static INSTANCE: Once<Arc<SyntheticFs>> = Once::new();
        let root = |fs: &Arc<SyntheticFs>| -> Arc<dyn Inode> {
            Arc::new(Root { fs: fs.clone(), born: super::current::now() })
        };
        Ok(INSTANCE.call_once(|| SyntheticFs::new("proc", PROC_SUPER_MAGIC, root)).clone())
    }
}
