// SPDX-License-Identifier: MPL-2.0

//! Objects whose pages are in common, lent, or slow to come.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use aster_rights::{FullRights, TRightSet, TRights};
use shuttle::thread;
use vmar::{
    error::Error,
    machine::Frame,
    object::{ElfImage, Pager, Segment, SnapshotAccess, Vmo, VmoKind},
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim, SimFrame},
    vmar::fault::FaultError,
};

use super::{BASE, OTHER, RW, check, end, process, spawn};

type Full = Vmo<Sim, TRightSet<FullRights>>;
type Readable = Vmo<Sim, TRightSet<TRights![Read]>>;

fn object(sim: &Sim, pages: usize) -> Full {
    let vmo = Vmo::new(sim, pages * PAGE_SIZE, VmoKind::SharedMemory).unwrap();
    vmo.write_bytes(0, &vec![0; pages * PAGE_SIZE]).unwrap();
    vmo
}

fn snapshot(vmo: &Full) -> Readable {
    vmo.snapshot(SnapshotAccess::Writable).unwrap().require().unwrap()
}

fn map_shared(process: &Process, vmo: Full, pages: usize) {
    let map = process.vmar.new_map(pages * PAGE_SIZE).perms(RW).vmo(vmo).shared().fault_around();
    map.placement(Placement::Exactly(BASE)).build().unwrap();
}

fn first_bytes(vmo: &Readable) -> [u8; 2] {
    [0, PAGE_SIZE].map(|offset| {
        let mut byte = [0];
        vmo.read_bytes(offset, &mut byte).unwrap();
        byte[0]
    })
}

#[test]
fn b2_a_snapshot_is_the_object_at_one_point_of_time() {
    check(|| {
        let (sim, process) = process();
        let vmo = object(&sim, 2);
        map_shared(&process, vmo.dup(), 2);
        let writer = spawn(&process, 1, |process| {
            for value in 1..4 {
                process.write(BASE, &[value]).unwrap();
                process.write(OTHER, &[value]).unwrap();
            }
        });
        let copy = snapshot(&vmo);
        let seen = first_bytes(&copy);
        assert!(seen[0] == seen[1] || seen[0] == seen[1] + 1, "{seen:?}");
        writer.join().unwrap();
        assert_eq!(first_bytes(&copy), seen, "what is written later is not in it");
        assert_eq!((process.read_byte(BASE), process.read_byte(OTHER)), (Ok(3), Ok(3)));
        process.audit();
        drop((copy, vmo));
        end(&sim, [process]);
    });
}

#[test]
fn b2_a_page_that_is_made_while_it_is_snapshotted() {
    check(|| {
        let (sim, process) = process();
        let vmo = Arc::new(Vmo::new(&sim, 2 * PAGE_SIZE, VmoKind::SharedMemory).unwrap());
        map_shared(&process, vmo.dup(), 2);
        // Both pages are made by a fault, or by a write to the object, before the snapshot or after.
        let writer = spawn(&process, 1, |process| {
            process.write(BASE + 1, &[1]).unwrap();
            process.write(OTHER + 1, &[1]).unwrap();
        });
        let other = {
            let vmo = vmo.clone();
            thread::spawn(move || {
                vmo.write_bytes(0, &[2]).unwrap();
                vmo.write_bytes(PAGE_SIZE, &[2]).unwrap();
            })
        };
        let copy = snapshot(&vmo);
        let seen = first_bytes(&copy);
        writer.join().unwrap();
        other.join().unwrap();
        assert_eq!(first_bytes(&copy), seen);
        assert_eq!(process.read(BASE, 2).unwrap(), [2, 1]);
        assert_eq!(process.read(OTHER, 2).unwrap(), [2, 1]);
        process.audit();
        drop((copy, vmo));
        end(&sim, [process]);
    });
}

#[test]
fn b2_a_page_in_common_is_copied_once_for_all_who_write_it() {
    check(|| {
        let (sim, process) = process();
        let second = Process::new(&sim, 1).unwrap();
        let vmo = object(&sim, 2);
        [&process, &second].into_iter().for_each(|process| map_shared(process, vmo.dup(), 2));
        assert_eq!((process.read_byte(BASE), second.read_byte(BASE)), (Ok(0), Ok(0)));
        let copy = snapshot(&vmo);
        let writers = [
            spawn(&process, 0, |process| process.write(BASE + 1, &[1]).unwrap()),
            spawn(&second, 1, |process| {
                assert_eq!(process.read_byte(BASE), Ok(0));
                process.write(BASE + 2, &[2]).unwrap();
            }),
        ];
        assert_eq!(vmo.write_bytes(3, &[3]), Ok(1));
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        for process in [&process, &second] {
            assert_eq!(process.read(BASE, 4).unwrap(), [0, 1, 2, 3]);
        }
        assert_eq!(first_bytes(&copy), [0, 0]);
        assert_eq!(sim.live_frames(), 3);
        drop((copy, vmo));
        end(&sim, [process, second]);
    });
}

#[test]
fn b2_chains_collapse_while_their_objects_are_used() {
    check(|| {
        let (sim, process) = process();
        let vmo = object(&sim, 2);
        map_shared(&process, vmo.dup(), 2);
        let [first, second] = [snapshot(&vmo), snapshot(&vmo)];
        let threads = [
            thread::spawn(move || {
                assert_eq!(first_bytes(&first), [0, 0]);
                drop(first);
            }),
            thread::spawn(move || drop(second)),
            spawn(&process, 1, |process| {
                process.write(BASE, &[1]).unwrap();
                process.write(OTHER, &[2]).unwrap();
            }),
            // As a debugger does.
            spawn(&process, 2, |process| {
                assert_eq!(process.read_byte(BASE + 1), Ok(0));
                assert_eq!(process.vmar.write_bytes(BASE + 1, &[5]), Ok(1));
                assert_eq!(process.vmar.write_bytes(OTHER + 1, &[6]), Ok(1));
            }),
        ];
        let third = snapshot(&vmo);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(
            (process.read(BASE, 2).unwrap(), process.read(OTHER, 2).unwrap()),
            (vec![1, 5], vec![2, 6])
        );
        drop(third);
        process.write(OTHER, &[3]).unwrap();
        assert_eq!((process.read_byte(OTHER), sim.live_frames()), (Ok(3), 2));
        drop(vmo);
        end(&sim, [process]);
    });
}

/// A pager that answers only after something else has been done, and fails at some pages.
#[derive(Debug, Default)]
struct StubbornPager {
    may_answer: AtomicBool,
    asked: AtomicUsize,
}

impl Pager<Sim> for StubbornPager {
    fn read_page(&self, index: usize, frame: &SimFrame) -> Result<(), Error> {
        self.asked.fetch_add(1, SeqCst);
        while !self.may_answer.load(SeqCst) {
            thread::yield_now();
        }
        if index == 1 {
            return Err(Error::NotSupported);
        }
        frame.write(0, &[index as u8 + 1]);
        Ok(())
    }
}

#[test]
fn b5_a_space_goes_on_while_a_pager_is_waited_for() {
    check(|| {
        let (sim, process) = process();
        let pager = Arc::new(StubbornPager::default());
        let vmo = Vmo::with_pager(&sim, 3 * PAGE_SIZE, VmoKind::File, pager.clone()).unwrap();
        let map = process.vmar.new_map(3 * PAGE_SIZE).perms(RW).vmo(vmo.dup());
        map.placement(Placement::Exactly(BASE)).build().unwrap();
        let threads = [
            spawn(&process, 1, |process| process.write(BASE, &[9]).map(|()| 0)),
            spawn(&process, 2, |process| process.read_byte(OTHER)),
        ];
        // Whatever they are at, memory can be mapped, faulted in, changed and unmapped.
        let elsewhere = process.vmar.new_map(2 * PAGE_SIZE).perms(RW).build().unwrap();
        process.write(elsewhere, &[1]).unwrap();
        process.vmar.protect(BASE + 2 * PAGE_SIZE..BASE + 3 * PAGE_SIZE, vmar::perms::VmPerms::READ).unwrap();
        process.vmar.unmap(elsewhere..elsewhere + 2 * PAGE_SIZE).unwrap();
        pager.may_answer.store(true, SeqCst);
        let [written, read] = threads.map(|thread| thread.join().unwrap());
        assert_eq!(written, Ok(0));
        assert_eq!(read, Err(FaultError::BusError));
        assert_eq!((process.read_byte(BASE), vmo.resident_count()), (Ok(9), 1));
        drop(vmo);
        end(&sim, [process]);
    });
}

#[test]
fn b5_what_a_pager_answers_is_too_late_for_a_page_that_was_cut_off() {
    check(|| {
        let (sim, process) = process();
        let pager = Arc::new(StubbornPager::default());
        let vmo = Vmo::with_pager(&sim, PAGE_SIZE, VmoKind::File, pager.clone()).unwrap();
        map_shared(&process, vmo.dup(), 1);
        let reader = spawn(&process, 1, |process| process.read_byte(BASE));
        vmo.resize(0).unwrap();
        pager.may_answer.store(true, SeqCst);
        let read = reader.join().unwrap();
        assert!(matches!(read, Ok(1) | Err(FaultError::BusError)), "{read:?}");
        assert_eq!((process.read_byte(BASE), vmo.resident_count()), (Err(FaultError::BusError), 0));
        drop(vmo);
        end(&sim, [process]);
    });
}

#[test]
fn h8_the_file_of_an_image_shrinks_while_its_segments_are_used() {
    check(|| {
        let (sim, process) = process();
        let file = object(&sim, 2);
        let image = ElfImage::new(file.dup()).unwrap();
        let segment = image.segment(&Segment::new(0, 0, PAGE_SIZE + 8, 2 * PAGE_SIZE)).unwrap();
        let map = process.vmar.new_map(segment.size).perms(RW).vmo(segment.vmo).shared();
        map.placement(Placement::Exactly(BASE)).build().unwrap();
        let threads = [1, 2].map(|cpu| {
            spawn(&process, cpu, move |process| {
                for result in [process.write(BASE, &[1]), process.write(OTHER + cpu, &[cpu as u8])] {
                    assert!(matches!(result, Ok(()) | Err(FaultError::BusError)), "{result:?}");
                }
            })
        });
        file.resize(PAGE_SIZE).unwrap();
        assert_eq!(process.read_byte(OTHER), Err(FaultError::BusError));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(process.read_byte(BASE), Ok(1));
        process.audit();
        drop((image, file));
        end(&sim, [process]);
    });
}

#[test]
fn h12_an_area_that_is_being_made_is_waited_for() {
    check(|| {
        let (sim, process) = process();
        let second = Process::new(&sim, 2).unwrap();
        let maker = spawn(&process, 1, |process| {
            let map = process.vmar.new_map(2 * PAGE_SIZE).perms(RW).populate();
            map.placement(Placement::Exactly(BASE)).build().unwrap();
            process.write(BASE, &[1]).unwrap();
            process.write(OTHER, &[1]).unwrap();
            process.write(BASE, &[2]).unwrap();
            process.write(OTHER, &[2]).unwrap();
        });
        // It is there, all of it, or it is not.
        match process.vmar.share(BASE..BASE + 2 * PAGE_SIZE, RW) {
            Ok(area) => {
                let map = second.vmar.new_map(area.size).perms(RW).vmo(area.vmo).shared();
                map.placement(Placement::Exactly(BASE)).build().unwrap();
                let (first, other) = (second.read_byte(BASE).unwrap(), second.read_byte(OTHER).unwrap());
                assert!(first <= other + 1, "{first} {other}");
                maker.join().unwrap();
                assert_eq!((second.read_byte(BASE), second.read_byte(OTHER)), (Ok(2), Ok(2)));
                second.write(BASE, &[3]).unwrap();
                assert_eq!((process.read_byte(BASE), sim.live_frames()), (Ok(3), 2));
            }
            Err(error) => {
                assert_eq!(error, Error::NotMapped);
                maker.join().unwrap();
            }
        }
        end(&sim, [process, second]);
    });
}
