// SPDX-License-Identifier: MPL-2.0

use alloc::{sync::Arc, vec, vec::Vec};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use aster_rights::{FullRights, TRightSet};

use super::*;
use crate::{
    fallible::inject,
    object::{Anonymous, ElfImage, Reservation, Reserve, Segment, Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim, SimFrame},
    vmar::{fault::FaultError, populate::Populate},
};

const BASE: usize = 0x100_0000;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

type Full = Vmo<Sim, TRightSet<FullRights>>;

fn full(vmo: Vmo<Sim>) -> Full {
    vmo.duplicate(aster_rights::Rights::all()).require().unwrap()
}

fn reserved(
    sim: &Sim,
    pages: usize,
    reserve: &Arc<Reserve>,
    reservation: Reservation,
) -> Result<Full, Error> {
    let source = Anonymous::new(sim.clone(), reserve.clone(), reservation);
    Vmo::with_source(sim, pages * PAGE_SIZE, VmoKind::SharedMemory, source)
}

/// Counts what it is told.
#[derive(Debug, Default)]
struct Watcher {
    unmapped: AtomicUsize,
    left: AtomicUsize,
}

impl UnmapWatcher for Arc<Watcher> {
    fn unmapped(&self, left: usize) {
        self.unmapped.fetch_add(1, SeqCst);
        self.left.store(left, SeqCst);
    }
}

fn physical(sim: &Sim, pages: usize) -> (Full, Arc<Watcher>, Vec<SimFrame>) {
    let watcher = Arc::new(Watcher::default());
    let frames: Vec<_> = (0..pages).map(|_| sim.alloc().unwrap().zeroed()).collect();
    let source = PhysicalMemory::<Sim, _>::new(frames.iter().cloned(), watcher.clone()).unwrap();
    let vmo = Vmo::with_source(sim, source.size(), VmoKind::SharedMemory, source).unwrap();
    (vmo, watcher, frames)
}

/// A pager for a program at user level: each page is asked for by its index, may be slow, may fail.
#[derive(Debug, Default)]
struct UserPager {
    asked: std::sync::Mutex<Vec<usize>>,
    freed: std::sync::Mutex<Vec<Range<usize>>>,
    is_broken: AtomicBool,
}

impl Pager<Sim> for UserPager {
    fn read_page(&self, index: usize, frame: &SimFrame) -> Result<(), Error> {
        self.asked.lock().unwrap().push(index);
        if self.is_broken.load(SeqCst) {
            return Err(Error::NotSupported);
        }
        frame.write(0, &[index as u8 + 1]);
        Ok(())
    }

    fn freed(&self, range: Range<usize>) {
        self.freed.lock().unwrap().push(range);
    }
}

/// One object of each kind, of two pages, and what it answers to the two questions.
fn kinds(sim: &Sim) -> Vec<(&'static str, Full, bool, bool)> {
    let reserve = Arc::new(Reserve::new(16));
    let plain = || Vmo::new(sim, 2 * PAGE_SIZE, VmoKind::File).unwrap();
    let pager = Vmo::with_pager(sim, 2 * PAGE_SIZE, VmoKind::File, Arc::new(UserPager::default())).unwrap();
    let image = ElfImage::new(plain()).unwrap();
    let segment = full(image.segment(&Segment::new(0, 0, PAGE_SIZE + 1, 2 * PAGE_SIZE)).unwrap().vmo);
    let at_once = reserved(sim, 2, &reserve, Reservation::AtOnce).unwrap();
    let at_touch = reserved(sim, 2, &reserve, Reservation::AtTouch).unwrap();
    vec![
        ("file", plain(), true, true),
        ("reserved at once", at_once, true, true),
        ("reserved at touch", at_touch, true, false),
        ("pager", pager, true, true),
        ("segment", segment, false, true),
        ("physical", physical(sim, 2).0, false, true),
        ("slice", plain().slice(0..2 * PAGE_SIZE).unwrap(), false, true),
        ("reference", plain().reference().unwrap(), true, true),
    ]
}

#[test]
fn h9_every_kind_of_object_answers_the_same_operations() {
    let sim = Sim::new(1);
    for (name, vmo, may_resize, may_share) in kinds(&sim) {
        assert_eq!(vmo.size(), 2 * PAGE_SIZE, "{name}");
        assert_eq!(vmo.object().may_resize(), may_resize, "{name}");
        assert_eq!(vmo.object().may_share(), may_share, "{name}");
        // Fault: both ways to see it agree, private mappings write copies.
        let process = Process::new(&sim, 0).unwrap();
        let map = |pages: usize| process.vmar.new_map(pages * PAGE_SIZE).perms(RW).vmo(vmo.dup());
        let private = map(3).build().unwrap();
        let mut byte = [0];
        vmo.read_bytes(PAGE_SIZE, &mut byte).unwrap();
        assert_eq!(process.read_byte(private + PAGE_SIZE), Ok(byte[0]), "{name}");
        process.write(private, &[77]).unwrap();
        vmo.read_bytes(0, &mut byte).unwrap();
        assert_ne!(byte, [77], "{name}: a private copy is not the object's");
        assert_eq!(process.read_byte(private + 2 * PAGE_SIZE), Err(FaultError::BusError), "{name}");
        process.audit();
        // Share.
        match map(2).shared().build() {
            Ok(shared) => {
                process.write(shared, &[78]).unwrap();
                vmo.read_bytes(0, &mut byte).unwrap();
                assert_eq!((byte, may_share), ([78], true), "{name}");
                let other = map(2).shared().build().unwrap();
                assert_eq!(process.read_byte(other), Ok(78), "{name}");
            }
            Err(error) => assert_eq!((error, may_share), (Error::NotSupported, false), "{name}"),
        }
        process.audit();
        // Resize.
        match vmo.resize(PAGE_SIZE) {
            Ok(()) => {
                assert!(may_resize, "{name}");
                assert_eq!(process.write(private + PAGE_SIZE, &[1]), Err(FaultError::BusError), "{name}");
                vmo.resize(2 * PAGE_SIZE).unwrap();
            }
            Err(error) => assert_eq!((error, may_resize), (Error::NotSupported, false), "{name}"),
        }
        process.write(private + PAGE_SIZE, &[1]).unwrap();
        process.audit();
    }
    // Free, and destroy.
    sim.assert_no_leaks();
}

#[derive(Debug, Default)]
struct Told {
    created: AtomicUsize,
    destroyed: AtomicUsize,
    shared: AtomicUsize,
    begun: AtomicUsize,
    ended: AtomicUsize,
    freed: AtomicUsize,
    sizes: std::sync::Mutex<Vec<(usize, usize)>>,
}

#[derive(Debug)]
struct Telling(Sim, Arc<Told>);

impl Source<Sim> for Telling {
    fn create(&self, pages: usize) -> Result<(), Error> {
        self.1.created.fetch_add(pages, SeqCst);
        Ok(())
    }

    fn resize(&self, from: usize, to: usize) -> Result<(), Error> {
        if to > 8 {
            return Err(Error::OutOfMemory);
        }
        self.1.sizes.lock().unwrap().push((from, to));
        Ok(())
    }

    fn destroy(&self, pages: usize) {
        self.1.destroyed.fetch_add(pages, SeqCst);
    }

    fn share(&self) {
        self.1.shared.fetch_add(1, SeqCst);
    }

    fn create_shared(&self) {
        self.1.begun.fetch_add(1, SeqCst);
    }

    fn destroy_shared(&self) {
        self.1.ended.fetch_add(1, SeqCst);
    }

    fn look(&self, _index: usize, _purpose: Purpose) -> Lookup<SimFrame> {
        Lookup::Absent
    }

    fn fault(&self, _index: usize, _purpose: Purpose) -> Result<Page<SimFrame>, Error> {
        Ok(Page::Own(self.0.alloc()?.zeroed()))
    }

    fn free(&self, _range: Range<usize>, count: usize) {
        self.1.freed.fetch_add(count, SeqCst);
    }
}

#[test]
fn h9_a_source_is_told_of_all_that_happens_to_its_object() {
    let sim = Sim::new(1);
    let told = Arc::new(Told::default());
    let vmo =
        Vmo::with_source(&sim, 3 * PAGE_SIZE, VmoKind::File, Telling(sim.clone(), told.clone())).unwrap();
    vmo.write_bytes(0, &[1; 3 * PAGE_SIZE]).unwrap();
    assert_eq!(vmo.resize(9 * PAGE_SIZE), Err(Error::OutOfMemory));
    vmo.resize(5 * PAGE_SIZE).unwrap();
    vmo.resize(2 * PAGE_SIZE).unwrap();
    vmo.decommit(0..PAGE_SIZE).unwrap();
    assert_eq!(*told.sizes.lock().unwrap(), [(3, 5), (5, 2)]);
    assert_eq!(told.freed.load(SeqCst), 2);
    let process = Process::new(&sim, 0).unwrap();
    let map = || process.vmar.new_map(PAGE_SIZE).perms(RW).vmo(vmo.dup());
    let shared = || map().shared().build().unwrap();
    map().build().unwrap();
    let counts = || [&told.shared, &told.begun, &told.ended].map(|count| count.load(SeqCst));
    assert_eq!(counts(), [0, 0, 0]);
    let [a, b] = [shared(), shared()];
    assert_eq!(counts(), [2, 1, 0]);
    for at in [a, b] {
        assert_eq!(counts()[2], 0);
        process.vmar.unmap(at..at + PAGE_SIZE).unwrap();
    }
    assert_eq!(counts(), [2, 1, 1]);
    shared();
    assert_eq!(counts(), [3, 2, 1]);
    drop((process, vmo));
    assert_eq!((told.created.load(SeqCst), told.destroyed.load(SeqCst)), (3, 2));
    sim.assert_no_leaks();
}

#[test]
fn h10_memory_reserved_at_once_is_refused_when_it_is_asked_for() {
    let sim = Sim::new(1);
    let reserve = Arc::new(Reserve::new(10));
    let first = reserved(&sim, 6, &reserve, Reservation::AtOnce).unwrap();
    assert_eq!(reserved(&sim, 5, &reserve, Reservation::AtOnce).err(), Some(Error::OutOfMemory));
    let second = reserved(&sim, 4, &reserve, Reservation::AtOnce).unwrap();
    assert_eq!(first.resize(7 * PAGE_SIZE), Err(Error::OutOfMemory));
    assert_eq!((first.size(), reserve.taken()), (6 * PAGE_SIZE, 10));
    first.resize(2 * PAGE_SIZE).unwrap();
    assert_eq!(reserve.taken(), 6);
    // What is reserved is there when it is touched, and can be shared.
    let process = Process::new(&sim, 0).unwrap();
    let at = process.vmar.new_map(4 * PAGE_SIZE).perms(RW).vmo(second).shared().build().unwrap();
    process.vmar.populate(at..at + 4 * PAGE_SIZE, Populate::Write).unwrap();
    assert_eq!(reserve.taken(), 6);
    drop((process, first));
    assert_eq!(reserve.taken(), 0);
    sim.assert_no_leaks();
}

#[test]
fn h10_a_late_reservation_that_fails_ends_the_program_that_touched_alone() {
    let sim = Sim::new(2);
    let reserve = Arc::new(Reserve::new(5));
    let programs = [0, 1].map(|cpu| {
        let process = Process::new(&sim, cpu).unwrap();
        let vmo = reserved(&sim, 100, &reserve, Reservation::AtTouch).unwrap();
        let shared = process.vmar.new_map(PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared();
        assert_eq!(shared.build(), Err(Error::NotSupported), "what is reserved late cannot be shared");
        let map = process.vmar.new_map(100 * PAGE_SIZE).perms(RW).vmo(vmo);
        map.placement(Placement::Exactly(BASE)).build().unwrap();
        process
    });
    assert_eq!(reserve.taken(), 0, "nothing is reserved before it is touched");
    let [first, second] = programs;
    for page in [3, 50, 99, 3] {
        first.write(BASE + page * PAGE_SIZE, &[1]).unwrap();
    }
    assert_eq!((second.read_byte(BASE), reserve.taken(), sim.live_frames()), (Ok(0), 4, 4));
    second.write(BASE, &[2]).unwrap();
    assert_eq!((second.read_byte(BASE), reserve.taken()), (Ok(2), 4));
    first.write(BASE, &[1]).unwrap();
    // The reserve is used up: whoever touches next ends, quietly, and nobody else.
    let frames = sim.live_frames();
    assert_eq!(first.write(BASE + 7 * PAGE_SIZE, &[1]), Err(FaultError::ReserveExhausted));
    assert_eq!(first.read_byte(BASE + 7 * PAGE_SIZE), Err(FaultError::ReserveExhausted));
    assert_eq!(sim.live_frames(), frames);
    first.audit();
    assert_eq!((second.read_byte(BASE), first.read_byte(BASE)), (Ok(2), Ok(1)));
    drop(first);
    assert_eq!(reserve.taken(), 1, "what it had reserved is there for others");
    second.write(BASE + PAGE_SIZE, &[1]).unwrap();
    drop(second);
    assert_eq!(reserve.taken(), 0);
    sim.assert_no_leaks();
}

#[test]
fn h10_every_allocation_of_reserved_memory_fails_in_turn() {
    let reserve = Arc::new(Reserve::new(100));
    for reservation in [Reservation::AtOnce, Reservation::AtTouch] {
        for nth in inject::in_turn() {
            let sim = Sim::new(1);
            let process = Process::new(&sim, 0).unwrap();
            let failing = inject::fail_nth(nth);
            let result = (|| {
                let vmo = reserved(&sim, 70, &reserve, reservation)?;
                vmo.resize(200 * PAGE_SIZE).err().filter(|_| reservation == Reservation::AtOnce);
                let at = process.vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo).build()?;
                process.write(at, &[1])?;
                process.read_byte(at + PAGE_SIZE)?;
                Ok::<_, Error>(())
            })();
            let has_failed = failing.has_failed();
            drop(failing);
            drop(process);
            assert_eq!(reserve.taken(), 0);
            sim.assert_no_leaks();
            if !has_failed {
                assert_eq!(result, Ok(()));
                break;
            }
            assert!(matches!(result, Ok(()) | Err(Error::OutOfMemory)));
        }
    }
}

#[test]
fn h11_physical_memory_is_an_object_of_fixed_size_that_is_told_of_its_unmapping() {
    let sim = Sim::new(2);
    let (vmo, watcher, frames) = physical(&sim, 3);
    assert_eq!((vmo.resize(PAGE_SIZE), vmo.size()), (Err(Error::NotSupported), 3 * PAGE_SIZE));
    let [first, second] = [0, 1].map(|cpu| Process::new(&sim, cpu).unwrap());
    let map = |process: &Process| {
        let map = process.vmar.new_map(3 * PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared().fault_around();
        map.placement(Placement::Exactly(BASE)).build().unwrap();
    };
    map(&first);
    map(&second);
    first.write(BASE + PAGE_SIZE, &[5]).unwrap();
    assert_eq!(second.read_byte(BASE + PAGE_SIZE), Ok(5));
    let mut byte = [0];
    frames[1].read(0, &mut byte);
    assert_eq!(byte, [5], "it is the very frame");
    let shown = second.vmar.space().walk();
    assert!(shown.iter().any(|entry| entry.frame == Some(frames[1].id())));
    assert_eq!(sim.live_frames(), 3);
    first.audit();
    second.audit();
    let count = || (watcher.unmapped.load(SeqCst), watcher.left.load(SeqCst));
    assert_eq!(count(), (0, 0));
    first.vmar.unmap(BASE..BASE + PAGE_SIZE).unwrap();
    assert_eq!(count(), (0, 0), "a part of it is still mapped");
    first.vmar.unmap(BASE..BASE + 3 * PAGE_SIZE).unwrap();
    assert_eq!(count(), (1, 1));
    drop(second);
    assert_eq!(count(), (2, 0));
    drop((first, vmo, frames));
    sim.assert_no_leaks();
}

#[test]
fn h11_a_user_level_pager_is_asked_page_by_page() {
    let sim = Sim::new(1);
    let pager = Arc::new(UserPager::default());
    let vmo = Vmo::with_pager(&sim, 8 * PAGE_SIZE, VmoKind::File, pager.clone()).unwrap();
    let process = Process::new(&sim, 0).unwrap();
    let map = process.vmar.new_map(8 * PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared().fault_around();
    map.placement(Placement::Exactly(BASE)).build().unwrap();
    for page in [5, 2, 5, 2] {
        assert_eq!(process.read_byte(BASE + page * PAGE_SIZE), Ok(page as u8 + 1));
    }
    assert_eq!(*pager.asked.lock().unwrap(), [5, 2]);
    vmo.decommit(2 * PAGE_SIZE..3 * PAGE_SIZE).unwrap();
    assert!(pager.freed.lock().unwrap().iter().eq([&(2..3)]));
    assert_eq!(process.read_byte(BASE + 2 * PAGE_SIZE), Ok(3));
    assert_eq!(*pager.asked.lock().unwrap(), [5, 2, 2]);
    process.audit();
}

#[test]
fn b5_a_pager_that_fails_is_a_bus_error_and_can_recover() {
    let sim = Sim::new(1);
    let pager = Arc::new(UserPager::default());
    let vmo = Vmo::with_pager(&sim, 2 * PAGE_SIZE, VmoKind::File, pager.clone()).unwrap();
    let process = Process::new(&sim, 0).unwrap();
    let map = |shared: bool| {
        let map = process.vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo.dup());
        if shared { map.shared() } else { map }.build().unwrap()
    };
    let (private, shared) = (map(false), map(true));
    assert_eq!(process.read_byte(shared), Ok(1));
    pager.is_broken.store(true, SeqCst);
    // What is in memory is there; what is not is a bus error, in each kind of mapping, for each access and from outside.
    assert_eq!((process.read_byte(shared), process.read_byte(private)), (Ok(1), Ok(1)));
    for at in [private + PAGE_SIZE, shared + PAGE_SIZE] {
        assert_eq!(process.read_byte(at), Err(FaultError::BusError));
        assert_eq!(process.write(at, &[1]), Err(FaultError::BusError));
        assert_eq!(process.vmar.read_bytes(at, &mut [0]), Err(Error::NotSupported));
    }
    assert_eq!((vmo.resident_count(), sim.live_frames()), (1, 1));
    process.audit();
    pager.is_broken.store(false, SeqCst);
    process.write(private + PAGE_SIZE, &[9]).unwrap();
    assert_eq!(
        (process.read_byte(shared + PAGE_SIZE), process.read_byte(private + PAGE_SIZE)),
        (Ok(2), Ok(9))
    );
    process.audit();
}
