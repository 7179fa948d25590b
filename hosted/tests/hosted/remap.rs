// SPDX-License-Identifier: MPL-2.0

//! Resizing and moving, and who is told (Q11, Q12).

use super::*;

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
        // What is written for the guest is told where the guest may execute it.
        space.protect(to + page, page, RW | X).unwrap();
        told();
        space.write(to + page, b"code").unwrap();
        assert_eq!(told(), [Change::Written(to + page..to + page + 4)]);
        // What is done before a hole is.
        space.protect(to + page, 4 * page, R).unwrap_err();
        assert_eq!(told(), [Change::Protected(to + page..to + 4 * page, R.into())]);
    }
}
