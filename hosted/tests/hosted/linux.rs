// SPDX-License-Identifier: MPL-2.0

//! The same random calls on the host's kernel and on a guest space: results, contents and permissions are equal.
//!
//! The kernel's side is a range of this process at the same addresses as the guest's. Where Linux is free to choose an address it
//! is moved to the one that the guest space chose, which must be free there too.
//!
//! One thing differs on purpose. Two adjoining mappings that are equal in all that a program can ask about can still be two to Linux
//! (its bookkeeping of copied pages says so), and mremap over both is refused. The guest space takes them for one. Where that shows
//! both ranges are unmapped, and it has to stay rare.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use vmar_hosted::{GuestSpace, PageSize, host::Errno, posix::Posix};

use crate::support::{audit, file_of, host_map, oracle::Linux, pattern, random, steps};

const PAGE: usize = 4096;
const PAGES: usize = 48;
const START: usize = 0x20_0000_0000;
const END: usize = START + PAGES * PAGE;

const PRIVATE_ANONYMOUS: u64 = 0x22;
const SHARED_ANONYMOUS: u64 = 0x21;
const FIXED: u64 = 0x10;
const NOREPLACE: u64 = 0x100000;

struct Both {
    ours: GuestSpace<Posix>,
    linux: Linux,
    rng: fastrand::Rng,
    /// For each side: a file open for writing, and for reading.
    files: [(Arc<OwnedFd>, Arc<OwnedFd>); 2],
    odd: usize,
    /// What the host's pages are taken to be. If they are larger than Linux's nothing is shared, and no file ends: what is
    /// refused or different then the model knows.
    granule: usize,
}

impl Both {
    fn new(rng: fastrand::Rng, granule: PageSize) -> Self {
        let ours = GuestSpace::builder(PageSize::Kib4).granule(granule).range(START..END).build().unwrap();
        let granule = granule.bytes();
        let content = pattern(if granule == PAGE { 24 * PAGE - 1000 } else { 3 * PAGES * PAGE });
        let files = [file_of(&content), file_of(&content)];
        Self { ours, linux: Linux::new(START..END), rng, files, odd: 0, granule }
    }

    fn addr(&mut self) -> usize {
        START + self.rng.usize(0..PAGES) * PAGE
    }

    /// A length that ends in the range, sometimes not of whole pages.
    fn len(&mut self, addr: usize) -> usize {
        let most = ((END - addr) / PAGE).min(if self.rng.u8(..) < 16 { PAGES } else { 6 });
        let len = self.rng.usize(1..=most) * PAGE;
        if self.rng.bool() { len } else { len - self.rng.usize(0..PAGE) }
    }

    /// Any but to execute alone, which Linux may enforce by other means than page protections.
    fn prot(&mut self) -> u64 {
        [0, 1, 1, 2, 3, 3, 3, 5, 7][self.rng.usize(0..9)]
    }

    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..18 => self.mmap(),
            18..28 => self.munmap(),
            28..42 => self.mprotect(),
            42..57 => self.mremap(),
            57..67 => self.madvise(),
            67..90 => self.write(),
            _ => self.odd_numbers(),
        }
    }

    fn mmap(&mut self) {
        let (mut addr, prot) = (self.addr(), self.prot());
        let len = self.len(addr);
        let kinds = if self.granule == PAGE { 10 } else { 8 };
        let (flags, file) = match self.rng.u8(0..kinds) {
            5 if self.granule > PAGE => (PRIVATE_ANONYMOUS, None),
            0..5 => (PRIVATE_ANONYMOUS, None),
            5 => (SHARED_ANONYMOUS, None),
            6 | 7 => (2, Some(self.rng.bool())),
            _ => (1, Some(self.rng.bool())),
        };
        let how = [0, FIXED, FIXED, NOREPLACE][self.rng.usize(0..4)];
        if how == 0 && self.rng.bool() {
            addr = 0;
        }
        let offset = if file.is_some() { self.rng.u64(0..26) * PAGE as u64 } else { 0 };
        let pick = |files: &(Arc<OwnedFd>, Arc<OwnedFd>)| {
            file.map(|writes| if writes { files.0.clone() } else { files.1.clone() })
        };
        let ours = self.ours.sys_mmap(addr, len, prot, flags | how, pick(&self.files[0]).as_ref(), offset);
        let theirs = pick(&self.files[1]);
        let linux = if how == 0 {
            self.mmap_anywhere(addr, len, prot, flags, theirs.as_ref(), offset, ours)
        } else {
            self.linux.mmap(addr, len, prot, flags | how, theirs.as_ref(), offset)
        };
        assert_eq!(ours, linux, "mmap {addr:#x} {len:#x} {prot} {:#x} {file:?} {offset:#x}", flags | how);
    }

    /// Lets Linux choose, then brings it to where the guest space went.
    #[expect(clippy::too_many_arguments, reason = "they are a system call's")]
    fn mmap_anywhere(
        &mut self,
        hint: usize,
        len: usize,
        prot: u64,
        flags: u64,
        file: Option<&Arc<OwnedFd>>,
        offset: u64,
        ours: Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let size = len.next_multiple_of(PAGE);
        let chosen = match self.linux.mmap(hint, len, prot, flags, file, offset) {
            // Its addresses do not run out before it looks at the file.
            Err(Errno::ACCESS) if ours == Err(Errno::NOMEM) && !self.has_gap(size) => return ours,
            result => result?,
        };
        if chosen == hint {
            return Ok(chosen);
        }
        self.linux.munmap(chosen, len)?;
        match ours {
            Ok(addr) => self.linux.mmap(addr, len, prot, flags | NOREPLACE, file, offset),
            Err(Errno::NOMEM) => {
                assert!(!self.has_gap(size), "there was room for {size:#x} bytes");
                Err(Errno::NOMEM)
            }
            Err(_) => Ok(chosen),
        }
    }

    fn has_gap(&self, size: usize) -> bool {
        // Room is looked for in whole host pages.
        let size =
            if self.granule == PAGE { size } else { size.next_multiple_of(self.granule) + 2 * self.granule };
        let mut end = START;
        let infos = self.ours.query(START..END);
        let gaps = infos.iter().map(|info| {
            let gap = info.range.start - end;
            end = info.range.end;
            gap
        });
        let widest = gaps.max().unwrap_or(0);
        widest.max(END - end) >= size
    }

    fn munmap(&mut self) {
        let addr = self.addr();
        let len = self.len(addr);
        assert_eq!(
            self.ours.sys_munmap(addr, len),
            self.linux.munmap(addr, len),
            "munmap {addr:#x} {len:#x}"
        );
    }

    fn mprotect(&mut self) {
        let (addr, prot) = (self.addr(), self.prot());
        let len = self.len(addr);
        let ours = self.ours.sys_mprotect(addr, len, prot);
        assert_eq!(ours, self.linux.mprotect(addr, len, prot), "mprotect {addr:#x} {len:#x} {prot}");
    }

    fn mremap(&mut self) {
        let addr = self.addr();
        let mut old_len = self.len(addr).min(8 * PAGE);
        let mut new_len = if self.rng.u8(..) < 64 { old_len } else { self.len(START).min(8 * PAGE) };
        let mut flags = [0, 1, 1, 3, 3][self.rng.usize(0..5)];
        if flags != 0 && self.rng.u8(..) < 24 {
            flags |= 4;
            new_len = old_len;
        }
        if self.rng.u8(..) < 12 {
            old_len = 0;
        }
        let mut target = 0;
        if flags & 2 != 0 {
            target = self.addr();
            new_len = new_len.min(END - target);
        }
        // Linux 6.17 and later move several mappings at once if nothing but the address changes.
        let pages = |len: usize| len.next_multiple_of(PAGE);
        let needed = addr + pages(old_len.min(new_len)).max(PAGE);
        let is_one = self.ours.query(addr..needed).first().is_some_and(|info| info.range.end >= needed);
        if flags & 3 == 3 && pages(old_len) == pages(new_len) && !is_one {
            return;
        }
        let ours = self.ours.sys_mremap(addr, old_len, new_len, flags, target);
        let linux = self.linux.mremap(addr, old_len, new_len, flags, target);
        let linux = match linux {
            // It went elsewhere.
            Ok(there) if !(START..END).contains(&there) => match ours {
                Ok(here) => self.linux.mremap(there, new_len, new_len, 3, here),
                Err(errno) => {
                    assert_eq!(errno, Errno::NOMEM, "mremap {addr:#x} {old_len:#x} {new_len:#x} {flags}");
                    assert!(!self.has_gap(pages(new_len)), "there was room");
                    return self.start_over();
                }
            },
            result => result,
        };
        // In one host page a mapping cannot be moved and kept.
        let is_refused = self.granule > PAGE && flags & 4 != 0 && ours == Err(Errno::INVAL) && linux.is_ok();
        if is_refused || ours != linux && [ours, linux].contains(&Err(Errno::FAULT)) && is_one {
            self.odd += 1;
            return self.start_over();
        }
        assert_eq!(ours, linux, "mremap {addr:#x} {old_len:#x} {new_len:#x} {flags} {target:#x}");
    }

    fn start_over(&mut self) {
        self.ours.sys_munmap(START, END - START).unwrap();
        self.linux.munmap(START, END - START).unwrap();
    }

    fn madvise(&mut self) {
        let addr = self.addr();
        let len = self.len(addr);
        // NORMAL, RANDOM, DONTNEED, WIPEONFORK, KEEPONFORK.
        let advice = [0, 1, 4, 4, 4, 4, 18, 19][self.rng.usize(0..8)];
        let ours = self.ours.sys_madvise(addr, len, advice);
        assert_eq!(ours, self.linux.madvise(addr, len, advice), "madvise {addr:#x} {len:#x} {advice}");
    }

    fn write(&mut self) {
        let addr = self.addr() + self.rng.usize(0..PAGE);
        let bytes: Vec<u8> = (0..self.rng.usize(1..100)).map(|_| self.rng.u8(..)).collect();
        let bytes = &bytes[..bytes.len().min(END - addr)];
        let ours = self.ours.write(addr, bytes).unwrap_or(0);
        assert_eq!(ours, self.linux.write(addr, bytes), "write {addr:#x} {}", bytes.len());
    }

    /// Numbers that are refused.
    fn odd_numbers(&mut self) {
        let addr = self.addr();
        let (off, len) = (addr + self.rng.usize(1..PAGE), self.len(addr));
        let (ours, linux) = (&self.ours, &self.linux);
        match self.rng.u8(0..13) {
            0 => assert_eq!(ours.sys_munmap(off, len), linux.munmap(off, len)),
            1 => assert_eq!(ours.sys_munmap(addr, 0), linux.munmap(addr, 0)),
            2 => assert_eq!(ours.sys_mprotect(off, len, 1), linux.mprotect(off, len, 1)),
            3 => assert_eq!(ours.sys_mprotect(addr, 0, 0xff), linux.mprotect(addr, 0, 0xff)),
            4 => assert_eq!(ours.sys_mprotect(addr, len, 0x40), linux.mprotect(addr, len, 0x40)),
            5 => assert_eq!(ours.sys_mremap(off, len, len, 1, 0), linux.mremap(off, len, len, 1, 0)),
            6 => assert_eq!(ours.sys_mremap(addr, len, 0, 1, 0), linux.mremap(addr, len, 0, 1, 0)),
            7 => {
                assert_eq!(ours.sys_mremap(addr, len, len, 2, START), linux.mremap(addr, len, len, 2, START))
            }
            8 => assert_eq!(ours.sys_mremap(addr, len, len, 8, 0), linux.mremap(addr, len, len, 8, 0)),
            9 => assert_eq!(
                ours.sys_mremap(addr, len, len + PAGE, 5, 0),
                linux.mremap(addr, len, len + PAGE, 5, 0)
            ),
            10 => assert_eq!(ours.sys_mremap(addr, len, len, 3, addr), linux.mremap(addr, len, len, 3, addr)),
            11 => assert_eq!(ours.sys_madvise(off, len, 4), linux.madvise(off, len, 4)),
            _ => assert_eq!(
                ours.sys_mmap(off, len, 3, PRIVATE_ANONYMOUS | FIXED, None, 0),
                linux.mmap(off, len, 3, PRIVATE_ANONYMOUS | FIXED, None, 0)
            ),
        }
    }

    /// Compares all that can be read.
    fn compare_contents(&self) {
        let (mut ours, mut theirs) = ([0; PAGE], [0; PAGE]);
        for page in (START..END).step_by(PAGE) {
            let count = self.ours.read(page, &mut ours).unwrap_or(0);
            assert_eq!(count, self.linux.read(page, &mut theirs), "page {page:#x} can be read");
            assert_eq!(ours[..count], theirs[..count], "page {page:#x}");
        }
    }

    /// Compares what may be done with each page.
    fn compare_permissions(&self) {
        let mut ours = [*b"    "; PAGES];
        for info in self.ours.query(START..END) {
            let bit = |perms, letter| if info.prot.perms.contains(perms) { letter } else { b'-' };
            let shared = if info.sharing == vmar_hosted::Sharing::Shared { b's' } else { b'p' };
            let text = [
                bit(crate::support::R, b'r'),
                bit(crate::support::W, b'w'),
                bit(crate::support::X, b'x'),
                shared,
            ];
            ours[(info.range.start - START) / PAGE..(info.range.end - START) / PAGE].fill(text);
        }
        let mut theirs = [*b"    "; PAGES];
        for found in host_map(START..END) {
            let range = found.range.start.max(START)..found.range.end.min(END);
            let text = found.flags.as_bytes().try_into().unwrap();
            theirs[(range.start - START) / PAGE..(range.end - START) / PAGE].fill(text);
        }
        assert_eq!(ours, theirs);
    }
}

fn run(name: &str, granule: PageSize, steps: usize) {
    let (rng, _seed) = random(name);
    let mut both = Both::new(rng, granule);
    let started = Instant::now();
    for step in 0..steps {
        both.step();
        if step % 16 == 0 {
            both.compare_contents();
        }
        if step % 256 == 0 {
            both.compare_permissions();
        }
        if step % 4096 == 0 {
            audit(&both.ours);
        }
    }
    both.compare_contents();
    both.compare_permissions();
    eprintln!("{steps} calls in {:?}; {} where Linux saw two mappings", started.elapsed(), both.odd);
    assert!(both.odd * 50 < steps, "{} of {steps} calls saw two mappings where there is one", both.odd);
}

/// The kernel's side is at one place, so one test is there at a time.
static PLACE: Mutex<()> = Mutex::new(());

#[test]
fn q11_random_calls_have_the_results_and_contents_of_linux() {
    let _held = PLACE.lock().unwrap_or_else(PoisonError::into_inner);
    run("equal pages", PageSize::Kib4, steps(150_000));
}

#[test]
fn q11_random_calls_have_them_where_the_hosts_pages_are_larger() {
    let _held = PLACE.lock().unwrap_or_else(PoisonError::into_inner);
    run("larger host pages", PageSize::Kib16, steps(40_000).min(200_000));
}
