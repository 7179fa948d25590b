// SPDX-License-Identifier: MPL-2.0

//! Memory to operate on: areas of pages, and crowds of mappings around them.

use crate::sys::{Result, check};

pub const PAGE: usize = 4096;
pub const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
pub const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// `mmap(2)` of anonymous, private memory, where the kernel likes, as it answers.
#[inline(always)]
pub fn map(pages: usize) -> isize {
    syscall!(libc::SYS_mmap, 0, pages * PAGE, READ_WRITE, ANONYMOUS, -1isize, 0)
}

/// `mmap(2)` at an address.
#[inline(always)]
pub fn map_at(base: usize, pages: usize, protection: i32) -> isize {
    syscall!(libc::SYS_mmap, base, pages * PAGE, protection, ANONYMOUS | libc::MAP_FIXED, -1isize, 0)
}

#[inline(always)]
pub fn unmap(base: usize, pages: usize) -> isize {
    syscall!(libc::SYS_munmap, base, pages * PAGE)
}

#[inline(always)]
pub fn protect(base: usize, pages: usize, protection: i32) -> isize {
    syscall!(libc::SYS_mprotect, base, pages * PAGE, protection)
}

/// Reads the first byte of a page.
#[inline(always)]
pub fn read(address: usize) {
    // SAFETY: who calls has mapped it.
    unsafe { (address as *const u8).read_volatile() };
}

/// Writes the first byte of a page.
#[inline(always)]
pub fn write(address: usize) {
    // SAFETY: who calls has mapped it, and holds nothing of Rust's there.
    unsafe { (address as *mut u8).write_volatile(1) };
}

/// Some pages next to each other, unmapped in the end.
///
/// An anonymous private one is a mapping by itself: a free page on each side keeps it from becoming one with another.
pub struct Area {
    pub base: usize,
    pub pages: usize,
}

impl Area {
    /// Anonymous private memory of which nothing is resident.
    pub fn new(pages: usize) -> Result<Self> {
        let room = check("mmap", map(pages + 2))?;
        check("munmap", unmap(room, 1))?;
        check("munmap", unmap(room + (pages + 1) * PAGE, 1))?;
        Ok(Self { base: room + PAGE, pages })
    }

    /// The same, and all of it written to.
    pub fn resident(pages: usize) -> Result<Self> {
        let area = Self::new(pages)?;
        area.write_all();
        Ok(area)
    }

    /// Anonymous memory that children share.
    pub fn shared(pages: usize) -> Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let base = check("mmap", syscall!(libc::SYS_mmap, 0, pages * PAGE, READ_WRITE, flags, -1isize, 0))?;
        let area = Self { base, pages };
        area.write_all();
        Ok(area)
    }

    /// A private or shared mapping of a file, from its begin.
    pub fn of_file(file: i32, pages: usize, protection: i32, flags: i32) -> Result<Self> {
        let base = syscall!(libc::SYS_mmap, 0, pages * PAGE, protection, flags, file, 0);
        Ok(Self { base: check("mmap", base)?, pages })
    }

    /// The address of a page.
    #[inline(always)]
    pub fn at(&self, page: usize) -> usize {
        self.base + page * PAGE
    }

    /// Writes to each page.
    #[inline(always)]
    pub fn write_all(&self) {
        (0..self.pages).for_each(|page| write(self.at(page)));
    }

    /// Reads from each page.
    #[inline(always)]
    pub fn read_all(&self) {
        (0..self.pages).for_each(|page| read(self.at(page)));
    }

    /// Forgets the contents of all pages.
    pub fn forget(&self) -> Result {
        check("madvise", syscall!(libc::SYS_madvise, self.base, self.pages * PAGE, libc::MADV_DONTNEED))?;
        Ok(())
    }

    /// A room of free addresses: nothing is mapped there, and nothing has been.
    pub fn free(pages: usize) -> Result<Self> {
        let base = check("mmap", map(pages))?;
        check("munmap", unmap(base, pages))?;
        Ok(Self { base, pages })
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        unmap(self.base, self.pages);
    }
}

/// Many mappings of two pages, with a free page between each two of them, so that they stay as many as they are.
///
/// They are executable, which nothing else here is, so that what is put between two becomes one with neither.
pub struct Crowd {
    room: Area,
    count: usize,
}

impl Crowd {
    /// Pages from the begin of one mapping to that of the next.
    const STRIDE: usize = 3;

    pub fn new(count: usize) -> Result<Self> {
        let room = Area::free(count * Self::STRIDE)?;
        let crowd = Self { room, count };
        for number in 0..count {
            check("mmap", map_at(crowd.at(number), 2, READ_WRITE | libc::PROT_EXEC))?;
        }
        Ok(crowd)
    }

    /// The begin of a mapping of two pages.
    #[inline(always)]
    pub fn at(&self, number: usize) -> usize {
        self.room.at(number * Self::STRIDE)
    }

    /// The numbers of some of the mappings, in no order, none twice.
    pub fn some(&self, most: usize) -> Vec<usize> {
        let mut numbers = shuffled(self.count);
        numbers.truncate(most);
        numbers
    }
}

/// The numbers below `count` in an order that looks random, the same each time.
pub fn shuffled(count: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..count).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..count).rev() {
        // xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        numbers.swap(last, (state % (last as u64 + 1)) as usize);
    }
    numbers
}
