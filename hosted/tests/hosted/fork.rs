// SPDX-License-Identifier: MPL-2.0

//! The lock and fork, and what is discarded or wiped (Q13, Q16).

use super::*;

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
