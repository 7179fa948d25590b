// SPDX-License-Identifier: MPL-2.0

//! Faults on a mapped file, in a file system in memory.

use std::ffi::CStr;

use super::{Operation, operations};
use crate::{
    arena::{Area, PAGE, READ_WRITE},
    clock::Samples,
    sys::{Result, check, close},
};

pub const OPERATIONS: &[Operation] = operations! {
    "file_read_first", 1, 64, 30, first, "the first read of a mapped page of a file that nobody has written, nor read before; mean of 64 in order";
    "file_read_again", 0, 64, 30, again, "the first read through a new mapping of a page that the file has in memory; mean of 64 in order";
    "file_read_dontneed", 0, 1, 500, dontneed, "the read of a mapped page of a file in memory after MADV_DONTNEED of it";
    "file_write_private", 1, 64, 30, private, "the first write to a page of a private mapping of a file in memory, read before, which copies the page; mean of 64 in order";
    "file_write_shared", 0, 64, 30, shared, "the first write to a page of a shared mapping of a file in memory; mean of 64 in order";
};

const PAGES: usize = 64;

/// An open file of so many pages without a name.
struct File(i32);

impl File {
    /// A file that is one hole.
    fn empty(pages: usize) -> Result<Self> {
        const PATH: &CStr = c"/tmp/bench.file";
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;
        let file = check("open", syscall!(libc::SYS_open, PATH.as_ptr(), flags, 0o600))? as i32;
        check("unlink", syscall!(libc::SYS_unlink, PATH.as_ptr()))?;
        check("ftruncate", syscall!(libc::SYS_ftruncate, file, pages * PAGE))?;
        Ok(Self(file))
    }

    /// A file with contents.
    fn full(pages: usize) -> Result<Self> {
        let file = Self::empty(pages)?;
        let page = [7u8; PAGE];
        for _ in 0..pages {
            check("write", syscall!(libc::SYS_write, file.0, page.as_ptr(), PAGE))?;
        }
        Ok(file)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        close(self.0);
    }
}

fn first(samples: &mut Samples) -> Result {
    while samples.wants_more() {
        let file = File::empty(PAGES)?;
        let area = Area::of_file(file.0, PAGES, libc::PROT_READ, libc::MAP_SHARED)?;
        samples.time(|| area.read_all());
    }
    Ok(())
}

fn again(samples: &mut Samples) -> Result {
    let file = File::full(PAGES)?;
    while samples.wants_more() {
        let area = Area::of_file(file.0, PAGES, libc::PROT_READ, libc::MAP_SHARED)?;
        samples.time(|| area.read_all());
    }
    Ok(())
}

fn dontneed(samples: &mut Samples) -> Result {
    let file = File::full(1)?;
    let area = Area::of_file(file.0, 1, libc::PROT_READ, libc::MAP_SHARED)?;
    while samples.wants_more() {
        area.forget()?;
        samples.time(|| area.read_all());
    }
    Ok(())
}

fn private(samples: &mut Samples) -> Result {
    let file = File::full(PAGES)?;
    while samples.wants_more() {
        let area = Area::of_file(file.0, PAGES, READ_WRITE, libc::MAP_PRIVATE)?;
        area.read_all();
        samples.time(|| area.write_all());
    }
    Ok(())
}

fn shared(samples: &mut Samples) -> Result {
    let file = File::full(PAGES)?;
    while samples.wants_more() {
        let area = Area::of_file(file.0, PAGES, READ_WRITE, libc::MAP_SHARED)?;
        samples.time(|| area.write_all());
    }
    Ok(())
}
