// SPDX-License-Identifier: MPL-2.0

//! Parts of pages, and files that do not fit them (Q4 to Q7).

use super::*;

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
fn q7_a_private_file_fills_the_guests_page_where_the_granule_is_forced_larger() {
    for sizes in [(PageSize::Kib8, PageSize::Kib16), (PageSize::Kib16, PageSize::Kib64)] {
        let space = space_of(sizes, 4);
        let page = space.page_size();
        let (file, _) = file_of(&pattern(100));
        for addr in [BASE, BASE + page] {
            space.sys_mmap(addr, page, READ | WRITE, PRIVATE | FIXED, Some(&file), 0).unwrap();
            let found = bytes(&space, addr, page);
            assert_eq!(found.len(), page);
            assert_eq!(found[..100], pattern(100));
            assert!(found[100..].iter().all(|byte| *byte == 0));
            audit(&space);
        }
    }
}

#[test]
fn how_a_file_was_opened_is_what_may_be_done_with_it() {
    use rustix::fs::{Mode, OFlags, open};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, pattern(65536)).unwrap();
    let opened = |flags| Arc::new(open(&path, flags, Mode::empty()).unwrap());
    for sizes in THREE {
        let space = space_of(sizes, 8);
        let len = space.page_size().max(space.granule());
        let map = |file: &_, prot, sharing| space.sys_mmap(0, len, prot, sharing, Some(file), 0);
        let (read, write) = (opened(OFlags::RDONLY), opened(OFlags::WRONLY));
        assert_eq!(map(&read, READ | WRITE, SHARED), Err(Errno::ACCESS));
        assert_eq!(map(&write, READ, SHARED), Err(Errno::ACCESS));
        assert_eq!(map(&write, READ, PRIVATE), Err(Errno::ACCESS));
        assert_eq!(map(&opened(OFlags::PATH), READ, PRIVATE), Err(Errno::BADF));
        let shared = map(&read, READ, SHARED).unwrap();
        assert_eq!(space.sys_mprotect(shared, len, READ | WRITE), Err(Errno::ACCESS));
        let own = map(&read, READ, PRIVATE).unwrap();
        assert_eq!(space.sys_mprotect(own, len, READ | WRITE | EXEC), Ok(()));
        let folder = Arc::new(open(folder.path(), OFlags::RDONLY, Mode::empty()).unwrap());
        assert_eq!(map(&folder, READ, PRIVATE), Err(Errno::NODEV), "a folder");
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert_eq!(map(&Arc::new(pipe), READ, PRIVATE), Err(Errno::NODEV), "a pipe");
        let none: Option<&Arc<std::os::fd::OwnedFd>> = None;
        assert_eq!(space.sys_mmap(0, len, READ, PRIVATE, none, 0), Err(Errno::BADF));
        assert_eq!(map(&read, READ, 0), Err(Errno::INVAL));
        let past = space.sys_mmap(0, len, READ, PRIVATE, Some(&read), u64::MAX / len as u64 * len as u64);
        assert!(matches!(past, Err(Errno::OVERFLOW)), "{past:?}");
        audit(&space);
    }
}
