// SPDX-License-Identifier: MPL-2.0

use alloc::{vec, vec::Vec};

use aster_rights::{FullRights, Rights, TRightSet, TRights};

use crate::{
    error::Error,
    fallible::inject,
    object::{ElfImage, Pager, Segment, SnapshotAccess, UnmapWatcher, Vmo, VmoKind, source::PhysicalMemory},
    perms::VmPerms,
    sim::{PAGE_SIZE, Process, Sim, SimFrame},
};

const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

type Full = Vmo<Sim, TRightSet<FullRights>>;

fn object(sim: &Sim, pages: usize) -> Full {
    let vmo = Vmo::new(sim, pages * PAGE_SIZE, VmoKind::SharedMemory).unwrap();
    for page in 0..pages {
        vmo.write_bytes(page * PAGE_SIZE, &[page as u8 + 1]).unwrap();
    }
    vmo
}

fn snapshot(vmo: &Full) -> Full {
    full(vmo.snapshot(SnapshotAccess::Writable).unwrap())
}

fn full(vmo: Vmo<Sim>) -> Full {
    vmo.duplicate(Rights::all()).require().unwrap()
}

fn byte_of(vmo: &Full, page: usize) -> u8 {
    let mut byte = [0];
    assert_eq!(vmo.read_bytes(page * PAGE_SIZE, &mut byte), Ok(1));
    byte[0]
}

#[test]
fn b2_pages_are_in_common_until_one_side_writes() {
    let sim = Sim::new(1);
    let vmo = object(&sim, 3);
    let copy = snapshot(&vmo);
    assert_eq!(sim.live_frames(), 3);
    vmo.write_bytes(PAGE_SIZE, &[100]).unwrap();
    assert_eq!(sim.live_frames(), 4);
    copy.write_bytes(2 * PAGE_SIZE, &[200]).unwrap();
    assert_eq!(sim.live_frames(), 5);
    let bytes = |vmo: &Full| [0, 1, 2].map(|page| byte_of(vmo, page));
    assert_eq!((bytes(&vmo), bytes(&copy)), ([1, 100, 3], [1, 2, 200]));
    assert_eq!((vmo.object().depth(), copy.object().depth()), (1, 1));
    // The object is left alone: it takes back what it has for itself, and forgets the rest.
    drop(copy);
    assert_eq!((vmo.object().depth(), sim.live_frames()), (0, 3));
    assert_eq!(bytes(&vmo), [1, 100, 3]);
    assert!(!vmo.object().notes_writes(), "it is as if there had been no snapshot");
    // The same when it is the snapshot that stays.
    let copy = snapshot(&vmo);
    copy.write_bytes(0, &[7]).unwrap();
    drop(vmo);
    assert_eq!((copy.object().depth(), sim.live_frames()), (0, 3));
    assert_eq!(bytes(&copy), [7, 100, 3]);
    drop(copy);
    sim.assert_no_leaks();
}

#[test]
fn b2_a_snapshot_that_can_be_written_cannot_be_executed() {
    let sim = Sim::new(1);
    let vmo = object(&sim, 1);
    assert_eq!(vmo.snapshot(SnapshotAccess::Writable).unwrap().rights(), Rights::all() - Rights::EXEC);
    assert_eq!(vmo.snapshot(SnapshotAccess::ReadOnly).unwrap().rights(), Rights::all() - Rights::WRITE);
    let reader = vmo.dup().restrict::<TRights![Read, Exec]>();
    let copy = reader.snapshot(SnapshotAccess::Writable).unwrap();
    assert_eq!(copy.rights(), Rights::READ | Rights::WRITE);
    let process = Process::new(&sim, 0).unwrap();
    let map = |vmo: Vmo<Sim>, perms| process.vmar.new_map(PAGE_SIZE).perms(perms).vmo(vmo).shared().build();
    assert_eq!(map(copy.duplicate(copy.rights()), VmPerms::EXEC), Err(Error::AccessDenied));
    map(copy, RW).unwrap();
    map(reader.snapshot(SnapshotAccess::ReadOnly).unwrap(), VmPerms::EXEC).unwrap();
}

#[test]
fn b2_mappings_of_either_side_do_not_see_the_other() {
    let sim = Sim::new(2);
    let vmo = object(&sim, 2);
    let [first, second] = [0, 1].map(|cpu| Process::new(&sim, cpu).unwrap());
    let map = |process: &Process, vmo: Vmo<Sim>| {
        process.vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo).shared().fault_around().build().unwrap()
    };
    let [a, b] = [&first, &second].map(|process| map(process, vmo.dup().to_dynamic()));
    first.write(a, &[10]).unwrap();
    assert_eq!(second.read_byte(b), Ok(10));
    let copy = vmo.snapshot(SnapshotAccess::Writable).unwrap();
    let c = map(&second, copy);
    // A page that was mapped writable before the snapshot is copied by the first write after it.
    first.write(a, &[11]).unwrap();
    assert_eq!((second.read_byte(b), second.read_byte(c)), (Ok(11), Ok(10)));
    // One that both have read, and so have mapped, too: in the space that wrote and in the other.
    for (process, at) in [(&first, a), (&second, b), (&second, c)] {
        assert_eq!(process.read_byte(at + PAGE_SIZE), Ok(2));
    }
    second.write(b + PAGE_SIZE, &[20]).unwrap();
    assert_eq!(first.read_byte(a + PAGE_SIZE), Ok(20));
    assert_eq!(second.read_byte(c + PAGE_SIZE), Ok(2));
    // A debugger writes no page that is in common either.
    assert_eq!(second.vmar.write_bytes(c, &[30]), Ok(1));
    assert_eq!((first.read_byte(a), second.read_byte(c)), (Ok(11), Ok(30)));
    first.audit();
    second.audit();
    second.vmar.unmap(c..c + 2 * PAGE_SIZE).unwrap();
    assert_eq!(vmo.object().depth(), 0);
    // What is left is the object's own again, under the mappings that are there.
    first.write(a, &[40]).unwrap();
    first.write(a + PAGE_SIZE, &[41]).unwrap();
    assert_eq!((second.read_byte(b), second.read_byte(b + PAGE_SIZE)), (Ok(40), Ok(41)));
    first.audit();
    second.audit();
    drop((first, second, vmo));
    sim.assert_no_leaks();
}

#[test]
fn b2_what_either_side_cuts_off_or_punches_stays_with_the_other() {
    let sim = Sim::new(1);
    let vmo = object(&sim, 4);
    let copy = snapshot(&vmo);
    vmo.decommit(PAGE_SIZE - 1..2 * PAGE_SIZE + 1).unwrap();
    vmo.resize(3 * PAGE_SIZE + 1).unwrap();
    copy.resize(PAGE_SIZE).unwrap();
    copy.resize(4 * PAGE_SIZE).unwrap();
    vmo.resize(4 * PAGE_SIZE).unwrap();
    let bytes = |vmo: &Full| [0, 1, 2, 3].map(|page| byte_of(vmo, page));
    assert_eq!((bytes(&vmo), bytes(&copy)), ([1, 0, 0, 4], [1, 0, 0, 0]));
    vmo.write_bytes(PAGE_SIZE, &[5]).unwrap();
    let third = snapshot(&vmo);
    drop(vmo);
    assert_eq!((bytes(&third), bytes(&copy)), ([1, 5, 0, 4], [1, 0, 0, 0]));
    assert_eq!((third.next_resident(0), third.next_resident(2)), (Some(0), Some(2)));
    drop(copy);
    assert_eq!((bytes(&third), third.object().depth()), ([1, 5, 0, 4], 0));
    drop(third);
    sim.assert_no_leaks();
}

#[test]
fn b2_what_a_mapping_wrote_past_the_end_comes_to_light_in_neither() {
    let sim = Sim::new(1);
    let vmo = object(&sim, 1);
    vmo.resize(10).unwrap();
    let process = Process::new(&sim, 0).unwrap();
    let at = process.vmar.new_map(PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared().build().unwrap();
    process.write(at + 20, &[1]).unwrap();
    let copy = snapshot(&vmo);
    for vmo in [&vmo, &copy] {
        vmo.resize(PAGE_SIZE).unwrap();
        let mut bytes = [1; 30];
        vmo.read_bytes(10, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 30]);
    }
}

#[derive(Debug)]
struct IndexPager;

impl Pager<Sim> for IndexPager {
    fn read_page(&self, index: usize, frame: &SimFrame) -> Result<(), Error> {
        use crate::machine::Frame;
        frame.write(0, &[index as u8 + 50]);
        Ok(())
    }
}

#[test]
fn b2_pages_of_a_pager_are_read_once_for_both() {
    let sim = Sim::new(1);
    let pager = alloc::sync::Arc::new(IndexPager);
    let vmo = Vmo::with_pager(&sim, 4 * PAGE_SIZE, VmoKind::File, pager).unwrap();
    vmo.write_bytes(0, &[1]).unwrap();
    let copy = snapshot(&vmo);
    assert_eq!((byte_of(&vmo, 1), byte_of(&copy, 1), sim.live_frames()), (51, 51, 2));
    // What the object writes before the snapshot has read it.
    vmo.write_bytes(2 * PAGE_SIZE, &[9]).unwrap();
    assert_eq!((byte_of(&vmo, 2), byte_of(&copy, 2)), (9, 52));
    // The pager is asked again for what was punched; the snapshot has it.
    vmo.decommit(0..2 * PAGE_SIZE).unwrap();
    assert_eq!((byte_of(&vmo, 0), byte_of(&copy, 0)), (50, 1));
    copy.resize(PAGE_SIZE).unwrap();
    copy.resize(4 * PAGE_SIZE).unwrap();
    assert_eq!((byte_of(&copy, 0), byte_of(&copy, 3), byte_of(&vmo, 3)), (1, 0, 53));
    drop(copy);
    assert_eq!([0, 1, 2, 3].map(|page| byte_of(&vmo, page)), [50, 51, 9, 53]);
    assert_eq!(vmo.object().depth(), 0);
    // Of the snapshot alone, the pager is still behind what it has not seen.
    let copy = snapshot(&vmo);
    vmo.decommit(0..PAGE_SIZE).unwrap();
    drop(vmo);
    assert_eq!([0, 3].map(|page| byte_of(&copy, page)), [50, 53]);
    assert_eq!(sim.live_frames(), 4);
    drop(copy);
    sim.assert_no_leaks();
}

/// Fills pages to the end, whatever the object's size is.
#[derive(Debug)]
struct SloppyPager;

impl Pager<Sim> for SloppyPager {
    fn read_page(&self, _index: usize, frame: &SimFrame) -> Result<(), Error> {
        use crate::machine::Frame;
        frame.write(0, &[0x55; PAGE_SIZE]);
        Ok(())
    }
}

#[test]
fn b2_what_a_pager_reads_past_the_end_comes_to_light_in_neither() {
    let sim = Sim::new(1);
    let pager = alloc::sync::Arc::new(SloppyPager);
    let vmo = Vmo::with_pager(&sim, PAGE_SIZE + 10, VmoKind::File, pager).unwrap();
    let copy = snapshot(&vmo);
    copy.resize(2 * PAGE_SIZE).unwrap();
    let mut bytes = [1; 20];
    copy.read_bytes(PAGE_SIZE, &mut bytes).unwrap();
    assert_eq!(bytes[..10], [0x55; 10]);
    assert_eq!(bytes[10..], [0; 10]);
    assert_eq!((byte_of(&vmo, 0), byte_of(&vmo, 1)), (0x55, 0x55));
}

#[derive(Debug)]
struct Nobody;

impl UnmapWatcher for Nobody {
    fn unmapped(&self, _left: usize) {}
}

#[test]
fn b2_what_others_change_has_no_snapshot() {
    let sim = Sim::new(1);
    let vmo = object(&sim, 1);
    let source = PhysicalMemory::<Sim, _>::new([vmo.commit(0).unwrap()], Nobody).unwrap();
    let physical = Vmo::with_source(&sim, source.size(), VmoKind::SharedMemory, source).unwrap();
    assert_eq!(physical.snapshot(SnapshotAccess::ReadOnly).err(), Some(Error::NotSupported));
    let segment = ElfImage::new(vmo).unwrap().segment(&Segment::new(0, 0, 10, 20)).unwrap();
    let segment: Vmo<Sim, TRightSet<TRights![Read]>> = segment.vmo.require().unwrap();
    assert_eq!(segment.snapshot(SnapshotAccess::Writable).err(), Some(Error::NotSupported));
}

#[test]
fn b2_slices_and_references_are_the_object() {
    let sim = Sim::new(1);
    let vmo = object(&sim, 6);
    let slice = vmo.slice(PAGE_SIZE..5 * PAGE_SIZE).unwrap();
    let part = slice.slice(PAGE_SIZE..2 * PAGE_SIZE).unwrap();
    let reference = slice.reference().unwrap();
    assert!(!slice.is_same_object(&vmo) && !part.is_same_object(&slice));
    assert_eq!((slice.size(), part.size()), (4 * PAGE_SIZE, PAGE_SIZE));
    part.write_bytes(0, &[30]).unwrap();
    assert_eq!((byte_of(&vmo, 2), byte_of(&slice, 1), byte_of(&part, 0)), (30, 30, 30));
    assert_eq!(sim.live_frames(), 6);
    let mut byte = [0];
    assert_eq!(part.read_bytes(PAGE_SIZE, &mut byte), Ok(0), "a slice ends where it ends");
    for refused in [PAGE_SIZE..PAGE_SIZE + 1, 1..PAGE_SIZE] {
        assert_eq!(vmo.slice(refused).err(), Some(Error::InvalidAlignment));
    }
    assert_eq!(slice.slice(0..5 * PAGE_SIZE).err(), Some(Error::InvalidOffset));
    assert_eq!(slice.resize(PAGE_SIZE), Err(Error::NotSupported));
    assert_eq!(reference.size(), 4 * PAGE_SIZE);
    assert_eq!(byte_of(&reference, 3), 5);
    // What leaves the object leaves the spaces that map the slice of a slice.
    let process = Process::new(&sim, 0).unwrap();
    let map = |vmo: Vmo<Sim>, pages: usize| {
        process.vmar.new_map(pages * PAGE_SIZE).perms(RW).vmo(vmo).shared().build().unwrap()
    };
    let (whole, window) = (map(vmo.dup().to_dynamic(), 6), map(part.dup().to_dynamic(), 2));
    assert_eq!(vmo.count_writers(), 2);
    process.write(window, &[31]).unwrap();
    assert_eq!(process.read_byte(whole + 2 * PAGE_SIZE), Ok(31));
    assert!(process.read_byte(window + PAGE_SIZE).is_err());
    vmo.decommit(2 * PAGE_SIZE..3 * PAGE_SIZE).unwrap();
    assert_eq!(process.read_byte(window), Ok(0));
    process.audit();
    vmo.resize(2 * PAGE_SIZE).unwrap();
    assert!(process.read_byte(window).is_err());
    assert!(process.write(window, &[1]).is_err());
    process.audit();
    process.vmar.unmap(window..window + 2 * PAGE_SIZE).unwrap();
    assert_eq!(vmo.count_writers(), 1);
}

#[test]
fn b2_a_reference_has_the_size_of_the_object() {
    let sim = Sim::new(1);
    let vmo = object(&sim, 1);
    let reference = vmo.reference().unwrap();
    reference.resize(3 * PAGE_SIZE).unwrap();
    assert_eq!((vmo.size(), reference.size()), (3 * PAGE_SIZE, 3 * PAGE_SIZE));
    reference.write_bytes(2 * PAGE_SIZE, &[3]).unwrap();
    assert_eq!(byte_of(&vmo, 2), 3);
    vmo.resize(PAGE_SIZE).unwrap();
    assert_eq!(reference.size(), PAGE_SIZE);
    assert_eq!(reference.write_bytes(PAGE_SIZE, &[1]), Ok(0));
    // A snapshot of it is one of the object.
    let copy = full(reference.snapshot(SnapshotAccess::Writable).unwrap());
    vmo.write_bytes(0, &[2]).unwrap();
    assert_eq!((byte_of(&reference, 0), byte_of(&copy, 0)), (2, 1));
    drop((vmo, reference, copy));
    sim.assert_no_leaks();
}

#[test]
fn b2_a_snapshot_of_a_slice_is_one_of_its_part() {
    let sim = Sim::new(1);
    let vmo = object(&sim, 5);
    let slice = vmo.slice(PAGE_SIZE..4 * PAGE_SIZE).unwrap();
    let copy = full(slice.snapshot(SnapshotAccess::Writable).unwrap());
    vmo.write_bytes(2 * PAGE_SIZE, &[30]).unwrap();
    assert_eq!([0, 1, 2].map(|page| byte_of(&copy, page)), [2, 3, 4]);
    copy.resize(5 * PAGE_SIZE).unwrap();
    assert_eq!([3, 4].map(|page| byte_of(&copy, page)), [0, 0], "the rest is out of sight");
    drop((vmo, slice));
    assert_eq!((copy.object().depth(), sim.live_frames()), (0, 3));
    assert_eq!([0, 1, 2].map(|page| byte_of(&copy, page)), [2, 3, 4]);
    drop(copy);
    sim.assert_no_leaks();
}

/// An object and what a naive model says of it.
struct Modelled {
    vmo: Full,
    bytes: Vec<u8>,
}

impl Modelled {
    fn check(&self) {
        let mut bytes = vec![0xee; self.bytes.len()];
        assert_eq!(self.vmo.size(), self.bytes.len() * PAGE_SIZE);
        for (page, byte) in bytes.iter_mut().enumerate() {
            *byte = byte_of(&self.vmo, page);
        }
        assert_eq!(bytes, self.bytes);
    }
}

#[test]
fn b2_trees_of_snapshots_are_as_the_model_says() {
    const PAGES: usize = 6;
    let rounds = if cfg!(miri) { 1 } else { 60 };
    let mut deepest = 0;
    for round in 0..rounds {
        let sim = Sim::new(1);
        let mut objects = vec![Modelled { vmo: object(&sim, PAGES), bytes: (1..=PAGES as u8).collect() }];
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64 ^ (round + 1) << 17;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) as usize % below
        };
        for step in 0..if cfg!(miri) { 12 } else { 150_u8 } {
            let at = random(objects.len());
            match random(10) {
                0..=2 if objects.len() < 8 => {
                    let vmo = snapshot(&objects[at].vmo);
                    let bytes = objects[at].bytes.clone();
                    objects.push(Modelled { vmo, bytes });
                }
                3 if objects.len() < 8 && !objects[at].bytes.is_empty() => {
                    let Modelled { vmo, bytes } = &objects[at];
                    let start = random(bytes.len());
                    let end = start + random(bytes.len() - start + 1);
                    let slice = vmo.slice(start * PAGE_SIZE..end * PAGE_SIZE).unwrap();
                    let vmo = full(slice.snapshot(SnapshotAccess::Writable).unwrap());
                    let bytes = bytes[start..end].to_vec();
                    objects.push(Modelled { vmo, bytes });
                }
                4 if objects.len() > 1 => drop(objects.swap_remove(at)),
                5 => {
                    let pages = random(PAGES + 1);
                    objects[at].vmo.resize(pages * PAGE_SIZE).unwrap();
                    objects[at].bytes.resize(pages, 0);
                }
                6 => {
                    let Modelled { vmo, bytes } = &mut objects[at];
                    let start = random(bytes.len() + 1);
                    let end = start + random(bytes.len() - start + 1);
                    vmo.decommit(start * PAGE_SIZE..end * PAGE_SIZE).unwrap();
                    bytes[start..end].fill(0);
                }
                _ => {
                    let Modelled { vmo, bytes } = &mut objects[at];
                    if !bytes.is_empty() {
                        let page = random(bytes.len());
                        vmo.write_bytes(page * PAGE_SIZE, &[step]).unwrap();
                        bytes[page] = step;
                    }
                }
            }
            objects.iter().for_each(Modelled::check);
            // A chain has no more layers than there are others who look at them.
            for object in &objects {
                assert!(object.vmo.object().depth() < objects.len(), "a chain has not collapsed");
                deepest = deepest.max(object.vmo.object().depth());
            }
        }
        objects.truncate(1);
        assert_eq!(objects[0].vmo.object().depth(), 0);
        assert!(sim.live_frames() <= objects[0].bytes.len());
        drop(objects);
        sim.assert_no_leaks();
    }
    assert!(cfg!(miri) || deepest >= 4, "chains of {deepest} layers are no test");
}

#[test]
fn b2_every_allocation_of_snapshots_fails_in_turn() {
    let mut failures = 0;
    for nth in inject::in_turn() {
        let sim = Sim::new(1);
        let vmo = object(&sim, 3);
        let copy = snapshot(&vmo);
        copy.write_bytes(0, &[10]).unwrap();
        let failing = inject::fail_nth(nth);
        let mut results = vec![
            vmo.write_bytes(PAGE_SIZE, &[20]).map(drop),
            copy.decommit(1..2 * PAGE_SIZE).map(drop),
            vmo.resize(2 * PAGE_SIZE + 1),
            vmo.slice(0..PAGE_SIZE).and_then(|slice| slice.write_bytes(1, &[1])).map(drop),
        ];
        let third = vmo.snapshot(SnapshotAccess::Writable);
        results.push(third.as_ref().map(drop).map_err(|error| *error));
        drop(third);
        let has_failed = failing.has_failed();
        drop(failing);
        if !has_failed {
            assert!(results.iter().all(Result::is_ok), "{results:?}");
            break;
        }
        failures += 1;
        assert!(
            results.iter().all(|result| matches!(result, Ok(()) | Err(Error::OutOfMemory))),
            "{results:?}"
        );
        assert_eq!(byte_of(&vmo, 1), if results[0].is_ok() { 20 } else { 2 });
        assert_eq!(byte_of(&copy, 1), if results[1].is_ok() { 0 } else { 2 });
        assert_eq!((byte_of(&vmo, 0), byte_of(&copy, 0), byte_of(&copy, 2)), (1, 10, 3));
        assert_eq!(vmo.size(), if results[2].is_ok() { 2 * PAGE_SIZE + 1 } else { 3 * PAGE_SIZE });
        drop((vmo, copy));
        sim.assert_no_leaks();
    }
    assert!(failures >= if cfg!(miri) { 2 } else { 10 }, "only {failures} allocations have failed");
}

#[test]
fn b2_a_chain_that_memory_lacked_for_collapses_later() {
    let sim = Sim::new(1);
    let vmo = object(&sim, 3);
    let copy = snapshot(&vmo);
    let failing = inject::fail_from(0);
    drop(copy);
    assert!(failing.has_failed());
    drop(failing);
    assert_eq!(vmo.object().depth(), 1);
    assert_eq!([0, 1, 2].map(|page| byte_of(&vmo, page)), [1, 2, 3]);
    vmo.write_bytes(0, &[9]).unwrap();
    drop(snapshot(&vmo));
    assert_eq!((vmo.object().depth(), sim.live_frames()), (0, 3));
    assert_eq!([0, 1, 2].map(|page| byte_of(&vmo, page)), [9, 2, 3]);
}
