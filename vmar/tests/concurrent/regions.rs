// SPDX-License-Identifier: MPL-2.0

//! Regions against each other: siblings share nothing that one could wait for, and the end of a region is one point of time.

use std::sync::Arc;

use vmar::{
    error::{Error, Limit},
    object::{Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    sim::{LockId, PAGE_SIZE, Process, Sim, record_locks},
    vmar::{
        FullVmar,
        discard::Discard,
        fault::{Access, FaultError},
        populate::Populate,
        remap::RemapTarget,
    },
};

use super::{BASE, OTHER, RW, check, end, process, spawn};

/// Makes a region with page-table locks of its own.
fn region(process: &Process) -> FullVmar<Sim> {
    process.vmar.new_region(PAGE_SIZE).own_tables().build().unwrap()
}

/// Maps, touches, changes and unmaps memory of a region, through a capability to it, and leaves nothing.
fn work_in(region: &FullVmar<Sim>, value: u8) {
    let start = region.new_map(4 * PAGE_SIZE).perms(RW).build().unwrap();
    let page = |number| start + number * PAGE_SIZE;
    region.handle_page_fault(page(1), Access::Write).unwrap();
    region.handle_page_fault(page(2), Access::Read).unwrap();
    assert_eq!(region.write_bytes(page(1), &[value]), Ok(1));
    region.protect(page(1)..page(2), VmPerms::READ).unwrap();
    let moved = region.remap(page(1)..page(2), 2 * PAGE_SIZE, RemapTarget::MayMove).unwrap();
    region.discard(page(2)..page(3), Discard::Now).unwrap();
    let mut byte = [0];
    assert_eq!(region.read_bytes(moved, &mut byte), Ok(1));
    assert_eq!(byte, [value]);
    region.unmap(region.user_range()).unwrap();
}

#[test]
fn b1_siblings_take_no_lock_in_common() {
    check(|| {
        let (sim, process) = process();
        let regions = [region(&process), region(&process)];
        let threads = [0, 1].map(|cpu| {
            let region = regions[cpu].dup();
            spawn(&process, cpu, move |_| {
                let recording = record_locks();
                work_in(&region, cpu as u8 + 1);
                recording.taken()
            })
        });
        let [first, second] = threads.map(|thread| thread.join().unwrap());
        assert!(first.iter().any(|lock| matches!(lock, LockId::Sleeping(_))));
        assert!(first.iter().any(|lock| matches!(lock, LockId::Node { .. })));
        assert_eq!(first.intersection(&second).count(), 0, "{first:x?} {second:x?}");
        drop(regions);
        end(&sim, [process]);
    });
}

#[test]
fn b1_a_region_goes_on_while_its_parent_and_its_sibling_are_locked() {
    check(|| {
        let (sim, process) = process();
        let regions = [region(&process), region(&process)];
        // Whoever waited for one of these locks would wait for ever.
        let root = process.vmar.query(process.vmar.user_range());
        let sibling = regions[0].query(regions[0].user_range());
        let own = regions[1].dup();
        spawn(&process, 1, move |_| work_in(&own, 7)).join().unwrap();
        drop((root, sibling));
        drop(regions);
        end(&sim, [process]);
    });
}

#[test]
fn b1_destroy_against_operations() {
    check(|| {
        let (sim, process) = process();
        let region =
            process.vmar.new_region(16 * PAGE_SIZE).placement(Placement::Exactly(BASE)).build().unwrap();
        let through_it = spawn(&process, 1, {
            let region = region.dup();
            move |_| {
                let mut is_over = false;
                for value in 0..3 {
                    let map = region.new_map(2 * PAGE_SIZE).perms(RW).placement(Placement::Replacing(BASE));
                    let results = [
                        map.build().map(drop),
                        region.write_bytes(BASE, &[value]).map(drop),
                        region.handle_page_fault(OTHER, Access::Write).map_err(Error::from),
                        region.unmap(BASE..OTHER),
                    ];
                    for result in results {
                        assert!(matches!(result, Ok(()) | Err(Error::Destroyed)), "{result:?}");
                        // Once destroyed, always destroyed.
                        assert!(!is_over || result.is_err());
                        is_over = result.is_err();
                    }
                }
            }
        });
        let through_the_parent = spawn(&process, 2, |process| {
            for result in [process.write(OTHER, &[1]), process.write(BASE, &[2])] {
                assert!(matches!(result, Ok(()) | Err(FaultError::NotMapped)), "{result:?}");
            }
            process.vmar.discard(BASE..BASE + 16 * PAGE_SIZE, Discard::Now).unwrap_err();
        });
        region.destroy().unwrap();
        assert!(region.is_destroyed());
        through_it.join().unwrap();
        through_the_parent.join().unwrap();
        assert_eq!(process.read_byte(BASE), Err(FaultError::NotMapped));
        assert_eq!((sim.live_frames(), process.vmar.usage().address_space), (0, 0));
        drop(region);
        end(&sim, [process]);
    });
}

#[test]
fn b1_nobody_notices_that_a_region_is_dissolved() {
    check(|| {
        let (sim, process) = process();
        let region =
            process.vmar.new_region(16 * PAGE_SIZE).placement(Placement::Exactly(BASE)).build().unwrap();
        let inner = region.new_region(4 * PAGE_SIZE).placement(Placement::Exactly(OTHER)).build().unwrap();
        let map = |vmar: &FullVmar<Sim>, addr| {
            vmar.new_map(PAGE_SIZE).perms(RW).placement(Placement::Exactly(addr)).build().unwrap();
        };
        map(&region, BASE);
        map(&inner, OTHER);
        let threads = [(1, BASE), (2, OTHER)].map(|(cpu, addr)| {
            spawn(&process, cpu, move |process| {
                process.write(addr, &[cpu as u8]).unwrap();
                assert_eq!(process.vmar.write_bytes(addr + 1, &[cpu as u8]), Ok(1));
                process.vmar.protect(addr..addr + PAGE_SIZE, VmPerms::READ).unwrap();
                assert_eq!(process.read(addr, 2).unwrap(), [cpu as u8; 2]);
                process.vmar.populate(addr..addr + PAGE_SIZE, Populate::Read).unwrap();
                let mut bytes = [0; 2];
                assert_eq!(process.vmar.read_bytes(addr, &mut bytes), Ok(2));
                assert_eq!(bytes, [cpu as u8; 2]);
            })
        });
        region.dissolve().unwrap();
        assert!(region.is_destroyed() && inner.is_destroyed());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(process.vmar.usage().address_space, 2 * PAGE_SIZE);
        drop((region, inner));
        end(&sim, [process]);
    });
}

#[test]
fn b1_a_fork_sees_all_regions_at_one_point_of_time() {
    check(|| {
        let (sim, parent) = process();
        let regions = [BASE, BASE + 16 * PAGE_SIZE].map(|start| {
            let region = parent.vmar.new_region(16 * PAGE_SIZE).placement(Placement::Exactly(start));
            let region = region.build().unwrap();
            region.new_map(PAGE_SIZE).perms(RW).placement(Placement::Exactly(start)).build().unwrap();
            region
        });
        let second_page = BASE + 16 * PAGE_SIZE;
        let writer = spawn(&parent, 1, move |parent| {
            for value in 1..3 {
                parent.write(BASE, &[value]).unwrap();
                parent.write(second_page, &[value]).unwrap();
            }
        });
        let child = parent.fork_on(2).unwrap();
        let (first, second) = (child.read_byte(BASE).unwrap(), child.read_byte(second_page).unwrap());
        assert!(first == second || first == second + 1, "{first} {second}");
        writer.join().unwrap();
        assert_eq!((parent.read_byte(BASE), parent.read_byte(second_page)), (Ok(2), Ok(2)));
        drop(regions);
        end(&sim, [parent, child]);
    });
}

#[test]
fn b1_siblings_at_once_do_not_pass_a_limit() {
    check(|| {
        let (sim, process) = process();
        process.vmar.limits().set(Limit::AddressSpace, 3 * PAGE_SIZE);
        let regions = [region(&process), region(&process)];
        let threads = [0, 1].map(|cpu| {
            let region = regions[cpu].dup();
            spawn(&process, cpu, move |_| region.new_map(2 * PAGE_SIZE).perms(RW).build().is_ok())
        });
        let made = threads.map(|thread| thread.join().unwrap());
        assert!(!(made[0] && made[1]), "together they are larger than the limit");
        let count = made.into_iter().filter(|made| *made).count();
        assert_eq!(process.vmar.usage().address_space, 2 * count * PAGE_SIZE);
        let rest = process.vmar.new_map((3 - 2 * count) * PAGE_SIZE).read().build();
        assert!(rest.is_ok(), "what was refused is charged to nobody");
        drop(regions);
        end(&sim, [process]);
    });
}

#[test]
fn b1_truncation_against_a_region_that_is_dissolved() {
    check(|| {
        let (sim, process) = process();
        let region =
            process.vmar.new_region(16 * PAGE_SIZE).placement(Placement::Exactly(BASE)).build().unwrap();
        let vmo = Arc::new(Vmo::new(&sim, 2 * PAGE_SIZE, VmoKind::SharedMemory).unwrap());
        let map = region.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared();
        map.placement(Placement::Exactly(BASE)).build().unwrap();
        process.write(OTHER, &[1]).unwrap();
        let resizer = spawn(&process, 1, {
            let vmo = vmo.clone();
            move |process| {
                vmo.resize(PAGE_SIZE).unwrap();
                assert_eq!(process.read_byte(OTHER), Err(FaultError::BusError));
            }
        });
        region.dissolve().unwrap();
        resizer.join().unwrap();
        process.audit();
        drop((vmo, region));
        end(&sim, [process]);
    });
}
