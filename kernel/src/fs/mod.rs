// SPDX-License-Identifier: MPL-2.0

//! Files: one tree of names over all file systems, and the open files of processes.
//!
//! ```text
//!   system calls      syscall/fs_*.rs        parse, look up, call one operation
//!        │
//!   ┌────┴─────────┬──────────────────────┐
//!   open, namei, lookup                FileTable ─► File ─► FileOps      what is open
//!        │                                             │
//!   Path = Mount + Dentry                           Inode               what is there
//!        │                                             │
//!   mount table, dentry tree            ramfs, procfs, devices, pipes   who keeps it
//!                                                      │
//!                                             PageCache ─► Vmo          the contents
//! ```
//!
//! # Order of locks
//!
//! From left to right; nothing further left is taken while something is held.
//!
//! ```text
//! File::offset ► namei::RENAMING ► Dentry::children (of two directories: lower address first) ► InodeExt::{io, fifo}
//!   ► entries of a ramfs directory ► mount table ► locks of the memory framework ► advisory locks, spin locks
//! ```
//!
//! - All of these but the spin locks are sleeping locks: user memory may be touched while they are held. The fault handler
//!   takes only locks of the memory framework.
//! - Directory locks are taken from a parent to its entry, or two at a time under `RENAMING`.
//! - What is dropped may be the last reference to a file, and dropping that can sleep: never drop a `File`, `Path` or `Dentry` with
//!   a spin lock held.

pub mod anon;
pub mod context;
pub mod current;
pub mod dentry;
pub mod device;
pub mod devpts;
pub mod epoll;
pub mod eventfd;
pub mod file;
pub mod file_system;
pub mod file_table;
pub mod initramfs;
pub mod inode;
pub mod inode_file;
pub mod io;
pub mod locks;
pub mod lookup;
pub mod memfd;
pub mod mount;
pub mod namei;
pub mod open;
pub mod open_flags;
pub mod page_cache;
pub mod path;
pub mod permission;
pub mod pipe;
pub mod poll;
pub mod procfs;
pub mod protected;
pub mod quota;
pub mod ramfs;
mod set_aside;
pub mod sigio;
pub mod synthetic;
pub mod sysfs;
#[cfg(ktest)]
mod tests;
pub mod text;
pub mod types;
pub mod userfaultfd;
pub mod xattr;

pub use self::{
    context::FsContext,
    file::{File, FileOps, OpenFlags},
    file_table::{CloseOnExec, Fd, FileTable},
    inode::Inode,
    path::Path,
};
use crate::prelude::*;

/// How many pages the file systems in memory have, of files with a name and without.
pub fn pages_in_memory() -> usize {
    let mut seen = BTreeSet::new();
    let mut pages = memfd::pages();
    for mount in mount::all() {
        if seen.insert(mount.fs().device()) {
            let stats = mount.fs().stats();
            pages += (stats.blocks - stats.free) as usize;
        }
    }
    pages
}

/// Registers the file systems that are always there, and unpacks the initramfs into the root.
pub fn init() {
    file_system::register_type(Arc::new(ramfs::Tmpfs));
    file_system::register_type(Arc::new(ramfs::DevTmpfs::new()));
    file_system::register_type(Arc::new(procfs::Procfs));
    file_system::register_type(Arc::new(sysfs::Sysfs));
    file_system::register_type(Arc::new(devpts::Devpts));
    if let Some(archive) = ostd::boot::boot_info().initramfs {
        initramfs::unpack(archive);
    }
}
