// SPDX-License-Identifier: MPL-2.0

//! What a parent's capability does with what is inside a region.

use super::*;

#[test]
fn b1_the_parent_reaches_what_is_inside() {
    let (sim, process) = process();
    let root = &process.vmar;
    let region = region(&process, 10..20);
    let inner = region_in(&region, 14..18);
    map(root, 8..10, RW).unwrap();
    map(&region, 10..12, RW).unwrap();
    map(&inner, 14..16, RW).unwrap();
    map(root, 20..21, RX).unwrap();
    // Faults, from the program and from outside.
    process.write(at(9), &[9]).unwrap();
    process.write(at(11), &[11]).unwrap();
    root.write_bytes(at(14), &[14]).unwrap();
    root.populate(pages(15..16), Populate::Write).unwrap();
    assert_eq!(process.read_byte(at(14)), Ok(14));
    let mut bytes = [0; 2];
    assert_eq!(root.read_bytes(at(11), &mut bytes), Ok(2));
    assert_eq!(bytes, [11, 0]);
    assert_eq!(root.read_bytes(at(13), &mut bytes), Err(Error::NotMapped));
    assert_eq!(process.read_byte(at(13)), Err(FaultError::NotMapped));
    assert_eq!(process.fetch_byte(at(14)), Err(FaultError::NoPermission));
    // What there is, and how much.
    assert_eq!(seen(root), [(8..10, RW), (10..12, RW), (14..16, RW), (20..21, RX)]);
    assert_eq!(seen(&region), [(10..12, RW), (14..16, RW)]);
    assert_eq!(seen(&inner), [(14..16, RW)]);
    assert_eq!((root.usage().mappings, root.usage().data), (4, 6 * PAGE_SIZE));
    assert_eq!((region.usage().mappings, inner.usage().address_space), (2, 2 * PAGE_SIZE));
    assert!(root.query(pages(8..12)).is_fully_mapped());
    assert!(root.query(pages(14..16)).is_fully_mapped());
    assert!(!root.query(pages(8..13)).is_fully_mapped());
    let counted: usize = root.query(pages(0..30)).iter().map(|info| info.count_pages().anonymous).sum();
    assert_eq!(counted, root.rss().total_pages());
    let mut resident = [false; 8];
    root.resident(pages(8..12), &mut resident[..4]).unwrap();
    root.resident(pages(14..16), &mut resident[4..6]).unwrap();
    assert_eq!(resident, [false, true, false, true, true, true, false, false]);
    assert_eq!(root.resident(pages(12..14), &mut resident), Err(Error::NotMapped));
    // Changes within one region are made there.
    root.protect(pages(10..11), R).unwrap();
    root.unmap(pages(15..16)).unwrap();
    root.discard(pages(14..15), Discard::Now).unwrap();
    root.advise(pages(11..12), Advice::DontFork).unwrap();
    root.lock(pages(11..12), LockMode::Now).unwrap();
    assert_eq!(process.read_byte(at(14)), Ok(0));
    assert_eq!(seen(root), [(8..10, RW), (10..11, R), (11..12, RW), (14..15, RW), (20..21, RX)]);
    assert_eq!(root.usage().locked, PAGE_SIZE);
    assert!(!region.is_destroyed() && !inner.is_destroyed());
    process.audit();
    // An object's pages leave the page table wherever they are mapped.
    let vmo = Vmo::new(&sim, PAGE_SIZE, VmoKind::File).unwrap();
    let file = inner.new_map(PAGE_SIZE).perms(RW).vmo(vmo.dup()).placement(Placement::Exactly(at(17)));
    file.build().unwrap();
    process.read_byte(at(17)).unwrap();
    vmo.resize(0).unwrap();
    assert_eq!(process.read_byte(at(17)), Err(FaultError::BusError));
    process.audit();
}

#[test]
fn b1_what_the_parent_changes_across_a_border_dissolves_the_region() {
    type Change = fn(&FullVmar<Sim>) -> Result<(), Error>;
    type Case = (&'static str, Change, &'static [(Range<usize>, VmPerms)]);
    let changes: [Case; 8] = [
        ("unmap a part", |root| root.unmap(pages(9..11)), &[(8..9, RW), (11..12, RW), (14..16, RW)]),
        ("unmap all", |root| root.unmap(pages(8..20)), &[]),
        (
            "protect",
            |root| root.protect(pages(9..11), R),
            &[(8..9, RW), (9..11, R), (11..12, RW), (14..16, RW)],
        ),
        (
            "replace",
            |root| {
                root.new_map(PAGE_SIZE).perms(RX).placement(Placement::Replacing(at(10))).build().map(drop)
            },
            &[(8..10, RW), (10..11, RX), (11..12, RW), (14..16, RW)],
        ),
        (
            "move out",
            |root| root.remap(pages(10..11), PAGE_SIZE, RemapTarget::Fixed(at(20))).map(drop),
            &[(8..10, RW), (11..12, RW), (14..16, RW), (20..21, RW)],
        ),
        (
            "move in",
            |root| root.remap(pages(8..9), PAGE_SIZE, RemapTarget::Fixed(at(12))).map(drop),
            &[(9..13, RW), (14..16, RW)],
        ),
        ("lock all", |root| root.lock_all(LockMode::OnFault), &[(8..12, RW), (14..16, RW)]),
        (
            "a hole",
            |root| match root.protect(pages(9..14), R) {
                Err(Error::NotMapped) => Ok(()),
                other => panic!("{other:?}"),
            },
            &[(8..9, RW), (9..12, R), (14..16, RW)],
        ),
    ];
    for (name, change, expected) in changes {
        let (sim, process) = process();
        let region = region(&process, 10..20);
        let inner = region_in(&region, 14..18);
        map(&process.vmar, 8..10, RW).unwrap();
        map(&region, 10..12, RW).unwrap();
        map(&inner, 14..16, RW).unwrap();
        for page in [8, 9, 10, 11, 14, 15] {
            process.write(at(page), &[page as u8]).unwrap();
        }
        change(&process.vmar).unwrap();
        process.audit();
        assert_eq!(seen(&process.vmar), expected, "{name}");
        assert!(region.is_destroyed() && inner.is_destroyed(), "{name}");
        // What was written is where it was.
        for page in [11, 14] {
            if expected.iter().any(|(range, _)| range.contains(&page)) {
                assert_eq!(process.read_byte(at(page)), Ok(page as u8), "{name}");
            }
        }
        drop((process, region, inner));
        sim.assert_no_leaks();
    }
}

#[test]
fn b1_dissolving_leaves_everything_to_the_parent() {
    let (sim, process) = process();
    let region = region(&process, 10..20);
    let vmo = Vmo::new(&sim, 4 * PAGE_SIZE, VmoKind::File).unwrap();
    map(&process.vmar, 8..10, RW).unwrap();
    map(&region, 10..12, RW).unwrap();
    let file = region.new_map(4 * PAGE_SIZE).perms(RW).vmo(vmo.dup()).placement(Placement::Exactly(at(14)));
    file.build().unwrap();
    for page in [8, 10, 14] {
        process.write(at(page), &[page as u8]).unwrap();
    }
    process.read_byte(at(15)).unwrap();
    let (usage, rss) = (process.vmar.usage(), process.vmar.rss().total_pages());
    let transactions = sim.transactions();
    region.dissolve().unwrap();
    assert_eq!(sim.transactions(), transactions, "no page is touched");
    assert_destroyed(&region);
    // Neighbours on both sides of the border are one mapping again.
    assert_eq!(seen(&process.vmar), [(8..12, RW), (14..18, RW)]);
    assert_eq!(process.vmar.usage().address_space, usage.address_space);
    assert_eq!(process.vmar.rss().total_pages(), rss);
    for page in [8, 10, 14] {
        assert_eq!(process.read_byte(at(page)), Ok(page as u8));
    }
    map(&process.vmar, 12..14, R).unwrap();
    vmo.resize(0).unwrap();
    assert_eq!(process.read_byte(at(14)), Err(FaultError::BusError));
    process.audit();
}

#[test]
fn b1_a_fork_gets_what_is_inside_and_no_region() {
    let (sim, parent) = process();
    let region = region(&parent, 10..20);
    let inner = region_in(&region, 14..18);
    map(&parent.vmar, 8..10, RW).unwrap();
    map(&region, 10..12, RW).unwrap();
    map(&inner, 14..16, RW).unwrap();
    for page in [8, 10, 14] {
        parent.write(at(page), &[page as u8]).unwrap();
    }
    let child = parent.fork_on(1).unwrap();
    assert!(!region.is_destroyed() && !inner.is_destroyed());
    assert_eq!(seen(&child.vmar), [(8..12, RW), (14..16, RW)]);
    for page in [8, 10, 14] {
        child.write(at(page), &[100]).unwrap();
        assert_eq!(parent.read_byte(at(page)), Ok(page as u8));
        parent.write(at(page), &[99]).unwrap();
        assert_eq!(child.read_byte(at(page)), Ok(100));
    }
    // What was reserved is free in the child.
    map(&child.vmar, 12..14, RW).unwrap();
    inner.destroy().unwrap();
    assert_eq!(child.read_byte(at(14)), Ok(100));
    parent.audit();
    child.audit();
    drop((parent, child, region, inner));
    sim.assert_no_leaks();
}
