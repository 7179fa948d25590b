// SPDX-License-Identifier: MPL-2.0

//! The rows of the guest on a host, one by one, by the numbers of system calls where errno is promised.

mod support;

use std::{
    os::fd::AsFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use support::{
    BASE, NONE, Picky, R, RW, SIZES, THREE, W, X, audit, bytes, file_of, host_map,
    oracle::{Linux, Segment, fork, wait},
    pattern, snapshot, space_of,
};
use vmar_hosted::{
    Advice, ArchProt, Change, Error, GuestSpace, MapOptions, OldRange, OnFork, PageSize, Placement, Prot,
    RemapTarget, Side, VmPerms, Window,
    host::{Errno, HostProt},
    posix::Posix,
};

const READ: u64 = 1;
const WRITE: u64 = 2;
const EXEC: u64 = 4;
const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const FIXED: u64 = 0x10;
const ANONYMOUS: u64 = 0x20;
const NOREPLACE: u64 = 0x100000;

/// Maps private zeros at an address.
fn zeros(space: &GuestSpace<Picky>, addr: usize, len: usize, perms: VmPerms) -> usize {
    space.map(&MapOptions::new(len).prot(perms).placement(Placement::Replacing(addr))).unwrap()
}

fn prot_of(space: &GuestSpace<Picky>, addr: usize) -> Prot {
    space.query(addr..addr + 1)[0].prot
}

#[test]
fn q1_mprotect_refuses_bad_numbers_and_takes_length_0() {
    for sizes in SIZES {
        let space = space_of(sizes, 8);
        let page = space.page_size();
        let addr = zeros(&space, BASE, 2 * page, RW);
        assert_eq!(space.sys_mprotect(addr + 1, page, READ), Err(Errno::INVAL), "an address within a page");
        assert_eq!(space.sys_mprotect(addr + page / 2, page, READ), Err(Errno::INVAL));
        for bit in [0x10, 0x20, 0x40, 0x80, 0x100, 1 << 31, 1 << 40] {
            assert_eq!(space.sys_mprotect(addr, page, READ | bit), Err(Errno::INVAL), "bit {bit:#x}");
        }
        assert_eq!(space.sys_mprotect(addr, page, READ | 8), Ok(()), "PROT_SEM is of no effect");
        space.protect(addr, page, RW).unwrap();
        let end = space.range().end;
        assert_eq!(space.sys_mprotect(end, page, READ), Err(Errno::NOMEM), "behind the guest's range");
        assert_eq!(space.sys_mprotect(end - page, 2 * page, READ), Err(Errno::NOMEM), "across its end");
        assert_eq!(space.sys_mprotect(BASE - page, page, READ), Err(Errno::NOMEM), "below it");
        assert_eq!(space.sys_mprotect(addr, usize::MAX, READ), Err(Errno::NOMEM), "more than there is");
        let before = snapshot(&space);
        assert_eq!(space.sys_mprotect(addr, 0, READ), Ok(()));
        assert_eq!(space.sys_mprotect(end + page, 0, 0xff), Ok(()), "nothing is looked at");
        assert_eq!(snapshot(&space), before);
        assert_eq!(space.sys_mprotect(addr, 1, READ), Ok(()), "a length is rounded up");
        assert_eq!(prot_of(&space, addr + page - 1).perms, R);
        assert_eq!(prot_of(&space, addr + page).perms, RW);
    }
}

#[test]
fn q2_the_guests_exec_is_the_hosts_read_and_the_guest_is_told_its_own_bits() {
    for sizes in SIZES {
        let space = space_of(sizes, 8);
        let unit = space.page_size().max(space.granule());
        let all = (0..8).map(VmPerms::from_bits_truncate);
        let host_addr = |addr| space.host_address(addr).unwrap();
        for (at, perms) in all.clone().enumerate() {
            // Made so, and changed to it.
            let addr = zeros(&space, BASE + at * unit, space.page_size(), perms);
            for before in all.clone() {
                assert_eq!(prot_of(&space, addr).perms, perms);
                let found = &host_map(host_addr(addr)..host_addr(addr) + 1)[0].flags;
                assert!(!found.contains('x'));
                let readable = !perms.is_empty();
                assert_eq!(found.starts_with('r'), readable, "{perms:?} is {found} on the host");
                assert_eq!(found.contains('w'), perms.contains(W));
                space.protect(addr, 1, before).unwrap();
                space.protect(addr, 1, perms).unwrap();
            }
        }
        audit(&space);
    }
    // There is no way to ask for it.
    for prot in [HostProt::None, HostProt::Read, HostProt::ReadWrite] {
        assert_eq!(HostProt::of(X).max(prot), HostProt::Read.max(prot));
    }
}

#[test]
fn q3_a_host_page_has_the_union_of_four_guest_pages_in_every_combination() {
    let kinds = [None, Some(NONE), Some(R), Some(W), Some(X), Some(RW)];
    let space = space_of((PageSize::Kib4, PageSize::Kib16), 2);
    let page = space.page_size();
    for combination in 0..kinds.len().pow(4) {
        let of = |at: usize| kinds[combination / kinds.len().pow(at as u32) % kinds.len()];
        space.unmap(BASE, 4 * page).unwrap();
        for at in 0..4 {
            // Every other combination is reached by mprotect.
            match of(at) {
                Some(perms) if combination % 2 == 0 => {
                    zeros(&space, BASE + at * page, page, perms);
                }
                Some(perms) => {
                    zeros(&space, BASE + at * page, page, [RW, R, NONE][combination % 3]);
                    space.protect(BASE + at * page, page, perms).unwrap();
                }
                None => {}
            }
        }
        audit(&space);
        for at in 0..4 {
            let found = space.query(BASE + at * page..BASE + (at + 1) * page);
            assert_eq!(found.first().map(|info| info.prot.perms), of(at));
        }
    }
}

#[test]
fn q3_head_tail_and_the_inside_of_one_host_page_are_protected() {
    let space = space_of((PageSize::Kib4, PageSize::Kib16), 6);
    let page = space.page_size();
    let count = 20;
    for start in 0..count {
        for end in start + 1..=count {
            zeros(&space, BASE, count * page, R);
            space.write(BASE, b"x").unwrap_err();
            space.protect(BASE + start * page, (end - start) * page, RW).unwrap();
            audit(&space);
            space.protect(BASE + start * page, (end - start) * page, NONE).unwrap();
            audit(&space);
            for at in 0..count {
                let inside = (start..end).contains(&at);
                assert_eq!(prot_of(&space, BASE + at * page).perms, if inside { NONE } else { R });
            }
        }
    }
}

#[test]
fn q4_part_of_a_host_page_is_mapped_beside_neighbours_that_keep_their_bytes() {
    let space = space_of((PageSize::Kib4, PageSize::Kib16), 4);
    let page = space.page_size();
    let content = pattern(8 * page);
    let (file, _) = file_of(&content);
    for neighbour in [RW, R, NONE, X] {
        for perms in [RW, R, NONE, X] {
            for from_file in [false, true] {
                for at in 0..4 {
                    space.unmap(BASE, 4 * page).unwrap();
                    zeros(&space, BASE, 4 * page, RW);
                    space.write(BASE, &[0xaa; 16384]).unwrap();
                    for other in (0..4).filter(|other| *other != at) {
                        space.protect(BASE + other * page, page, neighbour).unwrap();
                    }
                    let addr = BASE + at * page;
                    let mut options = MapOptions::new(page).prot(perms).placement(Placement::Replacing(addr));
                    if from_file {
                        options = options.file(file.clone(), 3 * page as u64);
                    }
                    space.map(&options).unwrap();
                    audit(&space);
                    // The new part, a read-only one too, is zeroed or the file's.
                    space.protect(BASE, 4 * page, R).unwrap();
                    for other in 0..4 {
                        let found = bytes(&space, BASE + other * page, page);
                        let expected = match (other == at, from_file) {
                            (false, _) => vec![0xaa; page],
                            (true, false) => vec![0; page],
                            (true, true) => content[3 * page..4 * page].to_vec(),
                        };
                        assert!(found == expected, "page {other}, {neighbour:?} beside {perms:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn q4_a_neighbour_behind_the_end_of_its_file_does_no_harm() {
    let space = space_of((PageSize::Kib4, PageSize::Kib16), 4);
    let page = space.page_size();
    let (file, _) = file_of(&pattern(100));
    let whole = MapOptions::new(4 * page).prot(RW).file(file, 0).placement(Placement::Replacing(BASE));
    space.map(&whole).unwrap();
    zeros(&space, BASE + 3 * page, page, RW);
    assert_eq!(bytes(&space, BASE, 100), pattern(100));
    space.write(BASE + 3 * page, b"here").unwrap();
    audit(&space);
}

#[test]
fn q5_a_writable_shared_file_mapping_of_part_of_a_host_page_is_refused() {
    let (guest, granule) = (PageSize::Kib4, PageSize::Kib16);
    let space = space_of((guest, granule), 6);
    let page = space.page_size();
    let content = pattern(32 * page);
    let (file, read_only) = file_of(&content);
    zeros(&space, BASE, 10 * page, RW);
    space.write(BASE, &pattern(10 * page)).unwrap();
    let before = snapshot(&space);
    for start in 0..12 {
        for len in 1..10 {
            let addr = BASE + start * page;
            let is_part = start % 4 != 0 || len % 4 != 0;
            let offset = (start % 4 * page) as u64;
            let result = space.sys_mmap(addr, len * page, READ | WRITE, SHARED | FIXED, Some(&file), offset);
            if is_part {
                assert_eq!(result, Err(Errno::INVAL), "pages {start} to {}", start + len);
                assert_eq!(snapshot(&space), before);
            } else {
                assert_eq!(result, Ok(addr));
                space.unmap(BASE, 24 * page).unwrap();
                zeros(&space, BASE, 10 * page, RW);
                space.write(BASE, &pattern(10 * page)).unwrap();
            }
            audit(&space);
        }
    }
    // To read it is another matter: part of a page is a copy, and will never be written.
    let addr = BASE + page;
    assert_eq!(space.sys_mmap(addr, page, READ, SHARED | FIXED, Some(&file), page as u64), Ok(addr));
    assert_eq!(bytes(&space, addr, page), content[page..2 * page]);
    assert_eq!(space.sys_mprotect(addr, page, READ | WRITE), Err(Errno::ACCESS));
    assert_eq!(space.sys_mmap(addr, page, READ, SHARED | FIXED, Some(&read_only), page as u64), Ok(addr));
}

#[test]
fn q6_an_offset_that_does_not_fit_the_hosts_pages_is_read_in_or_refused() {
    let space = space_of((PageSize::Kib4, PageSize::Kib16), 8);
    let page = space.page_size();
    let content = pattern(40 * page);
    let (file, _) = file_of(&content);
    for offset in 0..8 {
        for start in 0..8 {
            for len in [1, 3, 4, 9] {
                let addr = BASE + start * page;
                let fits = (offset + 8 - start) % 4 == 0;
                space.unmap(BASE, 24 * page).unwrap();
                let at = (offset * page) as u64;
                let shared = space.sys_mmap(addr, len * page, READ | WRITE, SHARED | FIXED, Some(&file), at);
                let whole = start % 4 == 0 && len % 4 == 0;
                assert_eq!(shared, if fits && whole { Ok(addr) } else { Err(Errno::INVAL) });
                assert_eq!(
                    space.sys_mmap(addr, len * page, READ | WRITE, PRIVATE | FIXED, Some(&file), at),
                    Ok(addr)
                );
                let expected = &content[offset * page..(offset + len) * page];
                assert_eq!(bytes(&space, addr, len * page), expected);
                space.write(addr, b"own").unwrap();
                audit(&space);
            }
        }
    }
    let mut byte = [0];
    rustix::io::pread(file.as_fd(), &mut byte, 0).unwrap();
    assert_eq!(byte[0], content[0], "nothing private reached the file");
}

#[test]
fn q7_behind_the_end_of_a_file_zeros_fill_the_guests_page() {
    for (guest, granule) in SIZES.into_iter().filter(|(guest, granule)| guest > granule) {
        for len in [100, 4096, 4097, guest.bytes() - 1, guest.bytes() + 100] {
            for (sharing, pages) in [(PRIVATE, 1), (PRIVATE, 3), (SHARED, 1), (SHARED, 3)] {
                let space = space_of((guest, granule), 6);
                let page = space.page_size();
                let (file, _) = file_of(&pattern(len));
                let addr = space
                    .sys_mmap(BASE, pages * page, READ | WRITE, sharing | FIXED, Some(&file), 0)
                    .unwrap();
                let mut expected = pattern(len);
                expected.resize(len.next_multiple_of(page).min(pages * page), 0);
                // And behind that page there is nothing to be read.
                assert_eq!(bytes(&space, addr, pages * page), expected, "{len} bytes, {pages} pages");
                let last = expected.len() - 1;
                space.write(addr + last, b"z").unwrap();
                assert_eq!(bytes(&space, addr + last, 1), b"z");
                audit(&space);
                if last >= len {
                    let size = rustix::fs::fstat(file.as_fd()).unwrap().st_size;
                    assert_eq!(size as usize, len, "the file has not grown");
                }
            }
        }
    }
}

#[test]
fn q7_100_bytes_in_a_page_of_8_kib() {
    let space = space_of((PageSize::Kib8, PageSize::Kib4), 4);
    let (file, _) = file_of(&pattern(100));
    let addr = space.sys_mmap(0, 8192, READ, PRIVATE, Some(&file), 0).unwrap();
    let found = bytes(&space, addr, 8192);
    assert_eq!(found.len(), 8192);
    assert_eq!(found[..100], pattern(100));
    assert!(found[100..].iter().all(|byte| *byte == 0));
}

#[test]
fn q8_what_the_guest_unmaps_stays_reserved() {
    for sizes in SIZES {
        let space = space_of(sizes, 12);
        let unit = space.page_size().max(space.granule());
        audit(&space);
        zeros(&space, BASE, 8 * unit, RW);
        space.unmap(BASE + unit, 3 * unit).unwrap();
        audit(&space);
        space
            .remap(BASE + 4 * unit, unit, unit, RemapTarget::Fixed(BASE + 9 * unit), OldRange::Unmapped)
            .unwrap();
        audit(&space);
        space.remap(BASE + 5 * unit, 2 * unit, unit, RemapTarget::InPlace, OldRange::Unmapped).unwrap();
        audit(&space);
        space.unmap(BASE, space.range().len()).unwrap();
        audit(&space);
        let start = space.host_address(BASE).unwrap();
        let host = start..start + space.range().len();
        assert!(host_map(host.clone()).iter().all(|found| found.flags == "---p"));
        // Nothing that this process maps comes to lie there, as long as the space lives.
        for _ in 0..64 {
            let other = GuestSpace::builder(PageSize::Kib4).range(0..1 << 20).build_on(Posix).unwrap();
            let at = other.host_address(0).unwrap();
            assert!(at + (1 << 20) <= host.start || host.end <= at);
        }
    }
}

#[test]
fn q8_other_threads_never_land_in_the_range() {
    let space = Arc::new(space_of((PageSize::Kib4, PageSize::Kib16), 16));
    let start = space.host_address(BASE).unwrap();
    let host = start..start + space.range().len();
    let done = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (0..2)
        .map(|_| {
            let (done, host) = (done.clone(), host.clone());
            thread::spawn(move || {
                let mut count = 0;
                while !done.load(Relaxed) {
                    let other =
                        GuestSpace::builder(PageSize::Kib4).range(0..1 << 14).build_on(Posix).unwrap();
                    let at = other.host_address(0).unwrap();
                    assert!(at + (1 << 14) <= host.start || host.end <= at, "landed in the guest's range");
                    count += 1;
                }
                count
            })
        })
        .collect();
    let unit = 16384;
    for round in 0..600 {
        zeros(&space, BASE, 4 * unit, RW);
        zeros(&space, BASE + 4096 * (4 + round % 12), 4096, R);
        let to = RemapTarget::Fixed(BASE + 8 * unit);
        space.remap(BASE, unit, unit, to, OldRange::Unmapped).unwrap();
        space.unmap(BASE, 12 * unit).unwrap();
    }
    done.store(true, Relaxed);
    let count: usize = others.into_iter().map(|other| other.join().unwrap()).sum();
    assert!(count > 0);
    audit(&space);
}

#[test]
fn q9_a_host_page_goes_with_the_last_guest_page_in_it() {
    let space = space_of((PageSize::Kib4, PageSize::Kib16), 3);
    let page = space.page_size();
    let host = space.host_address(BASE).unwrap();
    // In every order of unmapping four pages.
    for order in 0..24 {
        let mut left = vec![0, 1, 2, 3];
        zeros(&space, BASE, 4 * page, RW);
        space.write(BASE, &[7; 16384]).unwrap();
        let mut code = order;
        while !left.is_empty() {
            let gone = left.remove(code % left.len());
            code /= left.len() + 1;
            space.unmap(BASE + gone * page, page).unwrap();
            for at in &left {
                assert_eq!(bytes(&space, BASE + at * page, page), [7; 4096]);
            }
            assert!(space.read(BASE + gone * page, &mut [0]).is_err());
            let flags = &host_map(host..host + 1)[0].flags;
            assert_eq!(flags, if left.is_empty() { "---p" } else { "rw-p" });
            audit(&space);
        }
    }
}

#[test]
fn q10_hints_the_lowest_address_alignment_and_enomem() {
    for sizes in SIZES {
        let (guest, granule) = (sizes.0.bytes(), sizes.1.bytes());
        let unit = guest.max(granule);
        let window = Window {
            floor: BASE + 2 * unit,
            base: BASE + 10 * unit,
            bottom: BASE + 10 * unit,
            ceiling: BASE + 12 * unit,
        };
        let space = GuestSpace::builder(sizes.0)
            .granule(sizes.1)
            .range(BASE..BASE + 16 * unit)
            .window(window)
            .build_on(Picky::new(sizes.1))
            .unwrap();
        let anywhere = |hint| space.sys_mmap(hint, guest, READ, PRIVATE | ANONYMOUS, None, 0);
        let hint = BASE + 5 * unit;
        assert_eq!(anywhere(hint), Ok(hint), "the hint first");
        assert_eq!(anywhere(hint), Ok(BASE + 9 * unit), "taken, so from the top");
        assert_eq!(anywhere(BASE + unit), Ok(BASE + 8 * unit), "a hint that is too low is none");
        assert_eq!(anywhere(BASE + 12 * unit), Ok(BASE + 7 * unit), "nor is one that is too high");
        space.unmap(BASE + 8 * unit, guest).unwrap();
        assert_eq!(anywhere(0), Ok(BASE + 6 * unit), "the start has moved below what is free again");
        for expected in [4, 3, 2] {
            assert_eq!(anywhere(0), Ok(BASE + expected * unit), "down to the lowest allowed address");
        }
        assert_eq!(anywhere(0), Ok(BASE + 8 * unit), "once around");
        assert_eq!(anywhere(0), Ok(BASE + 10 * unit), "above the base");
        assert_eq!(anywhere(0), Ok(BASE + 11 * unit));
        assert_eq!(anywhere(0), Err(Errno::NOMEM));
        assert_eq!(anywhere(hint), Err(Errno::NOMEM), "with a hint that is taken");
        // Whoever names an address is not bound by that.
        assert_eq!(space.sys_mmap(BASE, guest, READ, PRIVATE | ANONYMOUS | FIXED, None, 0), Ok(BASE));
        assert_eq!(space.sys_mmap(0, usize::MAX, READ, PRIVATE | ANONYMOUS, None, 0), Err(Errno::NOMEM));
        audit(&space);
    }
}

#[test]
fn q11_mremap_row_by_row_in_all_sizes() {
    for sizes in SIZES {
        let space = space_of(sizes, 24);
        let (page, unit) = (space.page_size(), space.page_size().max(space.granule()));
        let filled = |addr: usize, len: usize| {
            zeros(&space, addr, len, RW);
            space.write(addr, &pattern(len)).unwrap();
        };
        // In place, where there is room and where there is none.
        filled(BASE, 2 * page);
        assert_eq!(space.sys_mremap(BASE, 2 * page, 4 * page, 0, 0), Ok(BASE));
        let mut expected = pattern(2 * page);
        expected.resize(4 * page, 0);
        assert_eq!(bytes(&space, BASE, 4 * page), expected);
        zeros(&space, BASE + 5 * page, page, R);
        let before = snapshot(&space);
        assert_eq!(space.sys_mremap(BASE, 4 * page, 6 * page, 0, 0), Err(Errno::NOMEM), "an occupied page");
        assert_eq!(snapshot(&space), before);
        // With leave to move.
        let moved = space.sys_mremap(BASE, 4 * page, 6 * page, 1, 0).unwrap();
        assert_ne!(moved, BASE);
        assert_eq!(bytes(&space, moved, 4 * page), expected);
        assert!(space.query(BASE..BASE + page).is_empty());
        audit(&space);
        // To a fixed place, in place of what is there, growing and shrinking.
        for new in [1, 6, 7] {
            space.unmap(BASE, space.range().len()).unwrap();
            filled(BASE, 6 * page);
            filled(BASE + 9 * unit, 8 * page);
            let to = BASE + 9 * unit;
            assert_eq!(space.sys_mremap(BASE, 6 * page, new * page, 3, to), Ok(to));
            let mut expected = pattern(6 * page);
            expected.resize(new * page, 0);
            assert_eq!(bytes(&space, to, new * page), expected);
            assert_eq!(
                bytes(&space, to + new * page, page),
                &pattern(8 * page)[new * page..][..if new < 8 { page } else { 0 }]
            );
            assert!(space.query(BASE..BASE + 6 * page).is_empty());
            audit(&space);
        }
        // Shrinking in place touches nothing past the old end.
        space.unmap(BASE, space.range().len()).unwrap();
        filled(BASE, 3 * page);
        zeros(&space, BASE + 3 * page, page, R);
        assert_eq!(space.sys_mremap(BASE, 3 * page, page, 0, 0), Ok(BASE));
        assert_eq!(space.query(BASE + page..BASE + 4 * page).len(), 1);
        assert_eq!(bytes(&space, BASE + 3 * page, page), vec![0; page]);
        assert_eq!(bytes(&space, BASE, page), &pattern(page)[..]);
        audit(&space);
        // A result outside of the guest's range: nothing has happened.
        let end = space.range().end;
        filled(end - page, page);
        let before = snapshot(&space);
        assert_eq!(space.sys_mremap(end - page, page, 2 * page, 0, 0), Err(Errno::NOMEM));
        assert_eq!(space.sys_mremap(end - page, page, page, 3, end), Err(Errno::INVAL));
        assert_eq!(space.sys_mremap(end - page, page, 2 * page, 3, BASE - 2 * page), Err(Errno::INVAL));
        assert_eq!(space.sys_mremap(end - page, page, 2 * space.range().len(), 1, 0), Err(Errno::INVAL));
        assert_eq!(space.sys_mremap(end - page, page, space.range().len(), 1, 0), Err(Errno::NOMEM));
        assert_eq!(snapshot(&space), before);
        audit(&space);
    }
}

fn observed(sizes: (PageSize, PageSize)) -> (GuestSpace<Picky>, Arc<Mutex<Vec<Change>>>) {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let sink = changes.clone();
    let unit = sizes.0.bytes().max(sizes.1.bytes());
    let space = GuestSpace::builder(sizes.0)
        .granule(sizes.1)
        .range(BASE..BASE + 16 * unit)
        .observer(move |change: &Change| sink.lock().unwrap().push(change.clone()))
        .build_on(Picky::new(sizes.1))
        .unwrap();
    (space, changes)
}

#[test]
fn q12_an_observer_is_told_of_each_range_once() {
    for sizes in THREE {
        let (space, changes) = observed(sizes);
        let (page, unit) = (space.page_size(), space.page_size().max(space.granule()));
        let told = || std::mem::take(&mut *changes.lock().unwrap());
        let rx = R | X;
        zeros(&space, BASE, 4 * page, rx);
        assert_eq!(told(), [Change::Mapped(BASE..BASE + 4 * page, rx.into())]);
        space.protect(BASE + page, page, RW).unwrap();
        assert_eq!(told(), [Change::Protected(BASE + page..BASE + 2 * page, RW.into())]);
        zeros(&space, BASE + page, page, rx);
        assert_eq!(
            told(),
            [Change::Mapped(BASE + page..BASE + 2 * page, rx.into())],
            "a replaced range is one change"
        );
        space.advise(BASE, page, Advice::Discard).unwrap();
        assert_eq!(told(), [Change::Discarded(BASE..BASE + page)]);
        space
            .remap(BASE, 4 * page, 4 * page, RemapTarget::Fixed(BASE + 8 * unit), OldRange::Unmapped)
            .unwrap();
        let to = BASE + 8 * unit;
        assert_eq!(
            told(),
            [Change::Unmapped(BASE..BASE + 4 * page), Change::Mapped(to..to + 4 * page, rx.into())]
        );
        space.unmap(to, page).unwrap();
        assert_eq!(told(), [Change::Unmapped(to..to + page)]);
        // Nothing is told of what has not happened.
        space.unmap(BASE, page).unwrap();
        space.protect(BASE, 0, RW).unwrap();
        space.protect(BASE, page, RW).unwrap_err();
        space.map(&MapOptions::new(page).placement(Placement::Exactly(to + page))).unwrap_err();
        space.host().refuse_after(0);
        space.unmap(to, 4 * page).unwrap_err();
        space.host().refuse_none();
        assert_eq!(told(), []);
        // What is done before a hole is.
        space.protect(to + page, 4 * page, R).unwrap_err();
        assert_eq!(told(), [Change::Protected(to + page..to + 4 * page, R.into())]);
    }
}

#[test]
fn q13_the_lock_is_taken_once_for_each_call() {
    for sizes in THREE {
        let space = space_of(sizes, 24);
        let (page, unit) = (space.page_size(), space.page_size().max(space.granule()));
        space.begin_heap(BASE + 20 * unit);
        let once = |what: &str, call: &dyn Fn()| {
            let before = space.times_locked();
            call();
            assert_eq!(space.times_locked() - before, 1, "{what}");
        };
        let fixed = |addr| RemapTarget::Fixed(addr);
        once("map", &|| {
            let _ = zeros(&space, BASE, 4 * page, RW);
        });
        once("map over it", &|| {
            let _ = zeros(&space, BASE + page, page, RW);
        });
        once("protect", &|| space.protect(BASE, page, R).unwrap());
        once("discard", &|| space.advise(BASE, 2 * page, Advice::Discard).unwrap());
        once("grow", &|| {
            let _ = space.remap(BASE, page, page, RemapTarget::InPlace, OldRange::Unmapped).unwrap();
        });
        once("move", &|| {
            let _ = space.remap(BASE, page, 3 * page, fixed(BASE + 8 * unit), OldRange::Unmapped).unwrap();
        });
        once("unmap", &|| space.unmap(BASE, 2 * page).unwrap());
        once("brk", &|| {
            let _ = space.brk(BASE + 20 * unit + 5).unwrap();
        });
        once("read", &|| {
            let _ = space.read(BASE + 8 * unit, &mut [0]);
        });
        once("write", &|| {
            let _ = space.write(BASE + 8 * unit, &[0]);
        });
        once("query", &|| {
            let _ = space.query(space.range());
        });
        once("fork", &|| assert_eq!(space.fork(|| Side::Parent(())), Ok(Side::Parent(()))));
        let segment = Segment::new(page);
        let at = Mutex::new(0);
        once("attach", &|| *at.lock().unwrap() = space.sys_shmat(segment.0, 0, 0).unwrap());
        once("detach", &|| space.sys_shmdt(*at.lock().unwrap()).unwrap());
        audit(&space);
    }
}

#[test]
fn q13_parent_and_child_come_out_of_a_fork_with_the_lock_free() {
    let space = Arc::new(space_of((PageSize::Kib4, PageSize::Kib4), 64));
    let addr = zeros(&space, BASE, 4 * 4096, RW);
    space.write(addr, b"before").unwrap();
    let done = Arc::new(AtomicBool::new(false));
    // Others take the lock all the time, so that one of them would have it at a fork that did not hold it.
    let others: Vec<_> = (0..3)
        .map(|at| {
            let (space, done) = (space.clone(), done.clone());
            thread::spawn(move || {
                while !done.load(Relaxed) {
                    let addr = BASE + (8 + 4 * at) * 4096;
                    zeros(&space, addr, 2 * 4096, RW);
                    space.protect(addr, 4096, R).unwrap();
                    space.unmap(addr, 2 * 4096).unwrap();
                }
            })
        })
        .collect();
    for _ in 0..40 {
        let side = space
            .fork(|| match fork_here() {
                0 => Side::Child,
                pid => Side::Parent(pid),
            })
            .unwrap();
        match side {
            Side::Child => {
                // In the child there is nobody else, and the lock is free.
                let well = space.write(addr, b"child!") == Ok(6)
                    && space.map(&MapOptions::new(4096).prot(RW)).is_ok()
                    && space.protect(addr, 4096, R).is_ok()
                    && bytes(&space, addr, 6) == b"child!";
                support::oracle::exit_now(well);
            }
            Side::Parent(pid) => {
                space.protect(addr, 4096, RW).unwrap();
                assert!(wait(pid), "the child");
                assert_eq!(bytes(&space, addr, 6), b"before", "the child's memory is its own");
            }
        }
    }
    done.store(true, Relaxed);
    others.into_iter().for_each(|other| other.join().unwrap());
}

fn fork_here() -> i32 {
    support::oracle::raw_fork()
}

#[test]
fn q14_noreplace_is_eexist_in_all_sizes() {
    for sizes in SIZES {
        let space = space_of(sizes, 8);
        let page = space.page_size();
        let noreplace = |at: usize, len| {
            space.sys_mmap(BASE + at * page, len * page, READ, PRIVATE | ANONYMOUS | NOREPLACE, None, 0)
        };
        zeros(&space, BASE + 2 * page, 2 * page, RW);
        let before = snapshot(&space);
        for (at, len) in [(2, 1), (3, 1), (1, 2), (3, 2), (1, 4), (0, 8), (2, 2)] {
            assert_eq!(noreplace(at, len), Err(Errno::EXIST), "{len} pages at {at}");
            assert_eq!(snapshot(&space), before);
        }
        // Beside it in the same host page is another page.
        assert_eq!(noreplace(1, 1), Ok(BASE + page));
        assert_eq!(noreplace(4, 2), Ok(BASE + 4 * page));
        let both = PRIVATE | ANONYMOUS | NOREPLACE | FIXED;
        assert_eq!(space.sys_mmap(BASE + 4 * page, page, READ, both, None, 0), Err(Errno::EXIST));
        audit(&space);
    }
}

#[test]
fn q15_protection_bits_of_a_processor_are_taken_where_it_has_them() {
    let make = |arch| {
        GuestSpace::builder(PageSize::Kib4).range(BASE..BASE + (1 << 20)).arch_prot(arch).build().unwrap()
    };
    let bits = [(0x10, ArchProt::BTI), (0x20, ArchProt::MTE)];
    for known in
        [ArchProt::empty(), ArchProt::BTI, ArchProt::MTE, ArchProt::BTI | ArchProt::MTE, ArchProt::SAO]
    {
        let space = make(known);
        for (bit, arch) in bits {
            let mapped = space.sys_mmap(0, 4096, READ | EXEC | bit, PRIVATE | ANONYMOUS, None, 0);
            let plain = space.sys_mmap(0, 4096, READ, PRIVATE | ANONYMOUS, None, 0).unwrap();
            let protected = space.sys_mprotect(plain, 4096, READ | bit);
            if known.contains(arch) {
                let found = &space.query(mapped.unwrap()..mapped.unwrap() + 1)[0];
                assert_eq!(found.prot, Prot { perms: R | X, arch }, "kept, and told");
                assert_eq!(protected, Ok(()));
                assert_eq!(space.query(plain..plain + 1)[0].prot.arch, arch);
            } else {
                assert_eq!(mapped, Err(Errno::INVAL));
                assert_eq!(protected, Err(Errno::INVAL));
                assert_eq!(space.query(plain..plain + 1)[0].prot, R.into(), "unchanged");
            }
        }
        for unknown in [0x40, 0x80] {
            assert_eq!(space.sys_mmap(0, 4096, unknown, PRIVATE | ANONYMOUS, None, 0), Err(Errno::INVAL));
        }
    }
}

#[test]
fn q16_dontneed_discards_in_all_sizes() {
    const DONTNEED: u64 = 4;
    for sizes in SIZES {
        let space = space_of(sizes, 12);
        let (page, granule) = (space.page_size(), space.granule());
        let content = pattern(40 * page);
        let (file, _) = file_of(&content);
        let pages = 12.min(space.range().len() / page);
        // Zeros, a file whose offset fits, and one that does not.
        for offset in [None, Some(0), Some(1)] {
            for (start, len) in [(0, 1), (1, 1), (3, 2), (1, 6), (0, pages), (4, 4)] {
                space.unmap(BASE, space.range().len()).unwrap();
                let mut options =
                    MapOptions::new(pages * page).prot(RW).placement(Placement::Replacing(BASE));
                if let Some(offset) = offset {
                    options = options.file(file.clone(), (offset * page) as u64);
                }
                space.map(&options).unwrap();
                space.write(BASE, &vec![0xee; pages * page]).unwrap();
                assert_eq!(space.sys_madvise(BASE + start * page, len * page, DONTNEED), Ok(()));
                for at in 0..pages {
                    let expected = match offset {
                        _ if !(start..start + len).contains(&at) => vec![0xee; page],
                        None => vec![0; page],
                        Some(offset) => content[(offset + at) * page..][..page].to_vec(),
                    };
                    assert!(bytes(&space, BASE + at * page, page) == expected, "page {at} on {granule}");
                }
                audit(&space);
            }
        }
        // A hole is told of afterwards; what is shared is not discarded.
        space.unmap(BASE + page, page).unwrap();
        assert_eq!(space.sys_madvise(BASE, 3 * page, DONTNEED), Err(Errno::NOMEM));
        let shared = space.sys_mmap(0, page, READ | WRITE, SHARED | ANONYMOUS, None, 0).unwrap();
        space.write(shared, b"kept").unwrap();
        assert_eq!(space.sys_madvise(shared, page, DONTNEED), Ok(()));
        assert_eq!(bytes(&space, shared, 4), b"kept");
        assert_eq!(space.sys_madvise(shared + 1, page, DONTNEED), Err(Errno::INVAL));
        assert_eq!(space.sys_madvise(shared, page, 999), Err(Errno::INVAL));
    }
}

#[test]
fn q16_wipeonfork_and_keeponfork_work_in_all_sizes() {
    const WIPEONFORK: u64 = 18;
    const KEEPONFORK: u64 = 19;
    for sizes in SIZES {
        let space = space_of(sizes, 8);
        let page = space.page_size();
        zeros(&space, BASE, 6 * page, RW);
        space.write(BASE, &pattern(6 * page)).unwrap();
        let (file, _) = file_of(&pattern(page));
        let mapped = space.sys_mmap(0, page, READ, PRIVATE, Some(&file), 0).unwrap();
        let shared = space.sys_mmap(0, page, READ, SHARED | ANONYMOUS, None, 0).unwrap();
        assert_eq!(space.sys_madvise(mapped, page, WIPEONFORK), Err(Errno::INVAL), "of a file");
        assert_eq!(space.sys_madvise(shared, page, WIPEONFORK), Err(Errno::INVAL), "of what is shared");
        assert_eq!(space.sys_madvise(BASE + page, 4 * page, WIPEONFORK), Ok(()));
        assert_eq!(space.sys_madvise(BASE + 2 * page, page, KEEPONFORK), Ok(()));
        let wiped: Vec<_> = (0..6)
            .map(|at| space.query(BASE + at * page..BASE + at * page + 1)[0].on_fork == OnFork::Wipe)
            .collect();
        assert_eq!(wiped, [false, true, false, true, true, false]);
        let side = space.fork(|| match fork_here() {
            0 => Side::Child,
            pid => Side::Parent(pid),
        });
        match side.unwrap() {
            Side::Child => {
                let well = (0..6).all(|at| {
                    let found = bytes(&space, BASE + at * page, page);
                    if wiped[at] {
                        found == vec![0; page]
                    } else {
                        found == pattern(6 * page)[at * page..][..page]
                    }
                });
                support::oracle::exit_now(well);
            }
            Side::Parent(pid) => assert!(wait(pid), "the child of {sizes:?}"),
        }
        assert_eq!(bytes(&space, BASE, 6 * page), pattern(6 * page), "the parent has kept it");
    }
}

const SHM_RDONLY: u64 = 0o10000;
const SHM_RND: u64 = 0o20000;
const SHM_REMAP: u64 = 0o40000;

#[test]
fn q17_segments_are_attached_and_detached_in_all_sizes() {
    for sizes in SIZES {
        let unit = sizes.0.bytes().max(sizes.1.bytes());
        let align = 2 * unit;
        let space = GuestSpace::builder(sizes.0)
            .granule(sizes.1)
            .range(BASE..BASE + 32 * unit)
            .segment_align(align)
            .build_on(Picky::new(sizes.1))
            .unwrap();
        assert!(BASE.is_multiple_of(align));
        let page = space.page_size();
        let segment = Segment::new(2 * unit - 5);
        let at = BASE + 2 * align;
        // Rounding.
        assert_eq!(space.sys_shmat(segment.0, at + 1, 0), Err(Errno::INVAL));
        assert_eq!(space.sys_shmat(segment.0, at + unit, 0), Err(Errno::INVAL), "a page, but no SHMLBA");
        assert_eq!(space.sys_shmat(segment.0, at + align - 1, SHM_RND), Ok(at));
        assert_eq!(space.sys_shmat(segment.0, at, 0), Err(Errno::INVAL), "in use");
        assert_eq!(space.sys_shmat(segment.0, 0, SHM_REMAP), Err(Errno::INVAL), "without an address");
        assert_eq!(space.sys_shmat(-1, 0, 0), Err(Errno::INVAL), "no such segment");
        // Two attachments show the same bytes.
        let other = space.sys_shmat(segment.0, 0, SHM_RDONLY).unwrap();
        assert!(other.is_multiple_of(align));
        space.write(at + 10, b"shared").unwrap();
        assert_eq!(bytes(&space, other + 10, 6), b"shared");
        assert!(space.write(other, b"x").is_err());
        assert_eq!(space.sys_mprotect(other, page, READ | WRITE), Err(Errno::ACCESS));
        assert_eq!(bytes(&space, at, 2 * unit).len(), 2 * unit, "readable to the end of its last page");
        audit(&space);
        // In place of what is there.
        zeros(&space, BASE, 4 * unit, RW);
        assert_eq!(space.sys_shmat(segment.0, BASE, 0), Err(Errno::INVAL));
        assert_eq!(space.sys_shmat(segment.0, BASE, SHM_REMAP), Ok(BASE));
        assert_eq!(bytes(&space, BASE + 10, 6), b"shared");
        assert_eq!(bytes(&space, BASE + 2 * unit, unit), vec![0; unit], "what is behind it stays");
        // The exact start.
        assert_eq!(space.sys_shmdt(at + page), Err(Errno::INVAL));
        assert_eq!(space.sys_shmdt(at + 1), Err(Errno::INVAL));
        assert_eq!(space.sys_shmdt(BASE + 2 * unit), Err(Errno::INVAL), "no segment");
        assert_eq!(space.sys_shmdt(at), Ok(()));
        assert_eq!(space.sys_shmdt(at), Err(Errno::INVAL), "once");
        assert!(space.query(at..at + 2 * unit).is_empty());
        // What is left of one whose start is gone is still found by where it started.
        space.unmap(other, page).unwrap();
        assert_eq!(space.sys_shmdt(other), if 2 * unit > page { Ok(()) } else { Err(Errno::INVAL) });
        assert_eq!(space.sys_shmdt(BASE), Ok(()));
        assert_eq!(space.query(BASE..BASE + 32 * unit).len(), 1);
        audit(&space);
    }
}

#[test]
fn q17_shmat_and_shmdt_have_the_results_of_linux() {
    const START: usize = 0x30_0000_0000;
    const PAGES: usize = 16;
    let end = START + PAGES * 4096;
    let ours = GuestSpace::builder(PageSize::Kib4).range(START..end).build().unwrap();
    let linux = Linux::new(START..end);
    let (mut rng, _seed) = support::random("shm");
    let segments: Vec<_> =
        [1, 4096, 5000, 3 * 4096].map(|size| [Segment::new(size), Segment::new(size)]).into();
    for _ in 0..support::steps(4000) {
        let addr = START + rng.usize(0..PAGES - 3) * 4096;
        let odd = addr + [0, 0, 0, 1, 2048][rng.usize(0..5)];
        match rng.u8(0..8) {
            0..3 => {
                let flags = [0, SHM_RND, SHM_REMAP, SHM_RDONLY, SHM_RND | SHM_REMAP][rng.usize(0..5)];
                let which = rng.usize(0..segments.len());
                let result = ours.sys_shmat(segments[which][0].0, odd, flags);
                assert_eq!(result, linux.shmat(segments[which][1].0, odd, flags), "{odd:#x} {flags:#o}");
            }
            3 | 4 => {
                // What Linux detaches beside one of its own that goes by the same start is not for us to follow.
                assert_eq!(ours.sys_shmdt(odd), linux.shmdt(odd), "shmdt {odd:#x}");
            }
            5 => assert_eq!(ours.sys_munmap(addr, 4096), linux.munmap(addr, 4096)),
            6 => {
                let (len, prot) = (rng.usize(1..4) * 4096, rng.u64(0..4));
                assert_eq!(ours.sys_mprotect(addr, len, prot), linux.mprotect(addr, len, prot));
            }
            _ => {
                let data = [rng.u8(..); 8];
                assert_eq!(ours.write(addr, &data).unwrap_or(0), linux.write(addr, &data));
            }
        }
        for page in (START..end).step_by(4096) {
            let (mut one, mut two) = ([0; 4096], [0; 4096]);
            assert_eq!(ours.read(page, &mut one).unwrap_or(0), linux.read(page, &mut two), "page {page:#x}");
            assert_eq!(one, two, "page {page:#x}");
        }
    }
}

#[test]
fn q18_a_fixed_mapping_that_fails_leaves_everything_as_it_was() {
    for sizes in SIZES {
        let mut failed = 0;
        let unit = sizes.0.bytes().max(sizes.1.bytes());
        let content = pattern(16 * unit);
        let (file, _) = file_of(&content[..9 * unit + 100]);
        let (read_file, _) = file_of(&content);
        let space = space_of(sizes, 16);
        let page = space.page_size();
        let pages = 16 * unit / page;
        // What is there, of every kind, with holes.
        let prepare = || {
            space.unmap(BASE, 16 * unit).unwrap();
            zeros(&space, BASE, 6 * unit, RW);
            space.write(BASE, &content[..6 * unit]).unwrap();
            space.protect(BASE + page, page, NONE).unwrap();
            space.sys_mmap(BASE + 7 * unit, 3 * unit, READ | WRITE, PRIVATE | FIXED, Some(&file), 0).unwrap();
            space.write(BASE + 8 * unit, b"own").unwrap();
            space
                .sys_mmap(BASE + 11 * unit, unit, READ | WRITE, SHARED | FIXED, Some(&read_file), 0)
                .unwrap();
            space
                .sys_mmap(BASE + 13 * unit, unit, READ | WRITE, SHARED | ANONYMOUS | FIXED, None, 0)
                .unwrap();
        };
        let spans = [(0, pages), (1, 1), (1, 6), (2, pages - 3), (pages / 2, 1), (pages / 2, pages / 3)];
        for (start, len) in spans {
            let addr = BASE + start * page;
            let sources = [
                (PRIVATE | ANONYMOUS, None, 0),
                (SHARED | ANONYMOUS, None, 0),
                (PRIVATE, Some(&file), 0),
                (PRIVATE, Some(&file), page as u64),
                (SHARED, Some(&read_file), 0),
            ];
            for (flags, file, offset) in sources {
                prepare();
                let before = snapshot(&space);
                for nth in 0.. {
                    space.host().refuse_after(nth);
                    let result = space.sys_mmap(addr, len * page, READ | WRITE, flags | FIXED, file, offset);
                    if space.host().refuse_none() <= nth {
                        // Mapped, or refused for a reason of its own.
                        assert!(result == Ok(addr) || result == Err(Errno::INVAL), "{result:?}");
                        break;
                    }
                    assert_eq!(result, Err(Errno::NOMEM), "with host call {nth} refused");
                    assert_eq!(snapshot(&space), before, "with host call {nth} refused");
                    audit(&space);
                    failed += 1;
                }
                audit(&space);
            }
        }
        assert!(failed >= 24, "{failed} host calls failed");
    }
}

#[test]
fn limits_are_honoured() {
    use vmar::error::Limit;
    let space = space_of((PageSize::Kib4, PageSize::Kib16), 8);
    space.limits().set(Limit::AddressSpace, 4 * 4096);
    zeros(&space, BASE, 3 * 4096, R);
    let limited = |limit| Err(Error::Space(vmar::error::Error::LimitExceeded(limit)));
    assert_eq!(space.map(&MapOptions::new(2 * 4096)), limited(Limit::AddressSpace));
    zeros(&space, BASE, 4 * 4096, R);
    assert_eq!(
        space.remap(BASE, 4 * 4096, 5 * 4096, RemapTarget::MayMove, OldRange::Unmapped),
        limited(Limit::AddressSpace)
    );
    space.limits().set(Limit::AddressSpace, usize::MAX);
    space.limits().set(Limit::Data, 4096);
    assert_eq!(space.map(&MapOptions::new(2 * 4096).prot(RW)), limited(Limit::Data));
    assert!(space.map(&MapOptions::new(2 * 4096).prot(R)).is_ok());
    space.limits().set(Limit::Mappings, 1);
    assert_eq!(space.map(&MapOptions::new(4096).prot(R)), limited(Limit::Mappings));
}

#[test]
fn a_heap_grows_shrinks_and_stops_at_what_is_in_its_way() {
    for sizes in SIZES {
        let space = space_of(sizes, 16);
        let page = space.page_size();
        assert_eq!(space.brk(0), Ok(0), "before there is one");
        space.begin_heap(BASE + 1);
        let start = space.brk(0).unwrap();
        assert_eq!(start, BASE + page);
        assert_eq!(space.brk(start + 100), Ok(start + 100));
        space.write(start, &[1; 100]).unwrap();
        assert_eq!(space.brk(start + 3 * page), Ok(start + 3 * page));
        assert_eq!(bytes(&space, start, 101)[..100], [1; 100]);
        zeros(&space, start + 5 * page, page, R);
        assert_eq!(space.brk(start + 6 * page), Ok(start + 3 * page), "something is in its way");
        assert_eq!(space.brk(start - 1), Ok(start + 3 * page), "below its start");
        assert_eq!(space.brk(start + 1), Ok(start + 1));
        assert!(space.query(start + page..start + 5 * page).is_empty());
        assert_eq!(space.brk(start + 2 * page), Ok(start + 2 * page));
        assert_eq!(bytes(&space, start + page, page), vec![0; page], "what comes back is zero");
        audit(&space);
    }
}

#[test]
fn a_child_shares_what_is_shared() {
    let space = space_of((PageSize::Kib4, PageSize::Kib4), 16);
    let shared = space.sys_mmap(0, 4096, READ | WRITE, SHARED | ANONYMOUS, None, 0).unwrap();
    let own = space.sys_mmap(0, 4096, READ | WRITE, PRIVATE | ANONYMOUS, None, 0).unwrap();
    let pid = fork(|| space.write(shared, b"both").is_ok() && space.write(own, b"mine").is_ok());
    assert!(wait(pid));
    assert_eq!(bytes(&space, shared, 4), b"both");
    assert_eq!(bytes(&space, own, 4), [0; 4]);
}
