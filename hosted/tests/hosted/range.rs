// SPDX-License-Identifier: MPL-2.0

//! The guest's range: reserved, searched, kept (Q8 to Q10, Q14), and the heap and limits in it.

use super::*;

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
fn a_space_that_cannot_be_is_refused() {
    let refused = |builder: vmar_hosted::Builder| match builder.build_on(Posix).unwrap_err() {
        Error::Space(error) => error,
        other => panic!("{other}"),
    };
    let builder = || GuestSpace::builder(PageSize::Kib16);
    assert_eq!(refused(builder().range(0..0)), vmar::error::Error::InvalidSize);
    assert_eq!(refused(builder().range(4096..1 << 20)), vmar::error::Error::InvalidAlignment);
    assert_eq!(refused(builder().range(0..(1 << 20) + 4096)), vmar::error::Error::InvalidAlignment);
    let wide = builder().granule(PageSize::Kib64);
    assert_eq!(refused(wide.range(16384..1 << 20)), vmar::error::Error::InvalidAlignment);
    assert_eq!(
        refused(builder().range(0..1 << 20).segment_align(3 << 14)),
        vmar::error::Error::InvalidAlignment
    );
    // More than there are addresses.
    let huge = builder().range(0..1 << 60).build();
    assert!(matches!(huge, Err(Error::Host(Errno::NOMEM))), "{huge:?}");
    let space = builder().range(0..1 << 20).build().unwrap();
    assert_eq!(
        format!("{space:?}"),
        "GuestSpace { range: 0x0..0x100000, page_size: 16384, granule: 4096, .. }"
    );
    assert_eq!(space.host_address(1 << 20), None);
}
