// SPDX-License-Identifier: MPL-2.0

//! Spaces and objects, real and modelled, and the steps that are made with both.

mod regions;

use std::{collections::BTreeSet, ops::Range};

use aster_rights::{FullRights, Rights, TRightSet};
use vmar::{
    error::Error,
    fallible::inject,
    machine::{Frame, PageFlags},
    mapping::{MappedMemory, MappingFlags, Sharing},
    object::{Vmo, VmoKind},
    perms::VmPerms,
    placement::{Placement, Window},
    sim::{PAGE_SIZE, Process, Sim},
    vmar::{
        ForkPolicy,
        advise::Advice,
        discard::Discard,
        fault::{Access, FaultError},
        lock::LockMode,
        populate::Populate,
        remap::RemapTarget,
    },
};

use crate::{
    Random,
    naive::{Object, Page, Source, Space, WORDS, addrs},
};

/// Where everything is mapped.
const ARENA: Range<usize> = 0x100_0000..0x100_0000 + 64 * PAGE_SIZE;
const CPUS: usize = 3;
const MAX_PROCESSES: usize = 4;

type FullVmo = Vmo<Sim, TRightSet<FullRights>>;

pub struct World {
    sim: Sim,
    frees_late: bool,
    steps: usize,
    processes: Vec<(Process, Space)>,
    vmos: Vec<FullVmo>,
    objects: Vec<Object>,
}

impl World {
    pub fn new(frees_late: bool) -> Self {
        let sim = Sim::new(CPUS);
        sim.set_late_frees(frees_late);
        let first = Process::new(&sim, 0).unwrap();
        let Range { start: floor, end: base } = ARENA;
        first.vmar.set_window(Window { floor, base, bottom: base, ceiling: base });
        let mut vmos = Vec::new();
        let mut objects = Vec::new();
        for (kind, pages) in [(VmoKind::File, 12), (VmoKind::SharedMemory, 20), (VmoKind::File, 0)] {
            vmos.push(Vmo::new(&sim, pages * PAGE_SIZE, kind).unwrap());
            objects.push(Object { size: pages * PAGE_SIZE, ..Object::default() });
        }
        Self { sim, frees_late, steps: 0, processes: vec![(first, Space::default())], vmos, objects }
    }

    pub fn step(&mut self, random: &mut Random) {
        let who = random.below(self.processes.len());
        match random.below(38) {
            0..=3 => self.map(random, who),
            4..=5 => self.unmap(random, who),
            6..=8 => self.protect(random, who),
            9..=11 => self.remap(random, who),
            12 => self.fork(random, who),
            13 if self.processes.len() > 1 => drop(self.processes.remove(who)),
            14 => self.resize(random),
            15 => self.decommit(random),
            16 => self.write_object(random),
            17 => self.discard(random, who),
            18 => self.lock(random, who),
            19 => self.advise(random, who),
            20 => self.populate(random, who),
            21..=22 => self.access_from_outside(random, who),
            23..=26 => self.region(random, who),
            _ => self.access(random, who),
        }
        for (process, space) in &mut self.processes {
            // A change of the parent's across a border has dissolved some.
            space.reserved.retain(|kept| process.vmar.region_at(kept.start).is_some());
        }
        self.steps += 1;
        if !self.frees_late || self.steps.is_multiple_of(16) {
            self.processes.iter().for_each(|(process, _)| process.audit());
        }
        if self.steps.is_multiple_of(64) {
            self.compare();
        }
    }

    pub fn end(mut self) {
        self.compare();
        self.processes.iter().for_each(|(process, _)| process.audit());
        if self.steps.is_multiple_of(2) {
            self.processes[0].0.vmar.clear();
            assert!(self.processes[0].0.vmar.space().walk().is_empty());
            self.processes[0].0.audit();
        }
        let sim = self.sim.clone();
        self.processes.clear();
        self.vmos.clear();
        sim.assert_no_leaks();
    }

    fn map(&mut self, random: &mut Random, who: usize) {
        let (process, space) = &mut self.processes[who];
        let size = (1 + random.below(8)) * PAGE_SIZE;
        let access = random_access(random);
        let mut may = VmPerms::MAY;
        let mut map = process.vmar.new_map(size).perms(access);
        let mut page = Page {
            perms: access,
            sharing: Sharing::Private,
            flags: MappingFlags::empty(),
            source: Source::Anonymous,
            private: None,
        };
        if !random.one_in(3) {
            let id = random.below(self.vmos.len());
            let index = random.below(16);
            let mut rights = Rights::all();
            if random.one_in(3) {
                page.sharing = Sharing::Shared;
                map = map.shared();
                if random.one_in(2) {
                    rights -= Rights::WRITE;
                    may -= VmPerms::MAY_WRITE;
                }
            }
            page.source = Source::Object { id, index };
            map = map.vmo(self.vmos[id].dup().to_dynamic().limit(rights)).vmo_offset(index * PAGE_SIZE);
            if random.one_in(2) {
                page.flags |= MappingFlags::FAULT_AROUND;
                map = map.fault_around();
            }
        }
        page.perms |= may;
        let at = random_page(random);
        let range = at..at + size;
        let (placement, expected) = match random.below(4) {
            0 => (Placement::Anywhere, space.highest_room(size, &ARENA).ok_or(Error::NoRoom)),
            1 if space.is_free(range.clone()) => (Placement::Exactly(at), Ok(at)),
            1 => (Placement::Exactly(at), Err(Error::Occupied)),
            2 if space.is_free(range) => (Placement::Hint(at), Ok(at)),
            2 => (Placement::Hint(at), space.highest_room(size, &ARENA).ok_or(Error::NoRoom)),
            _ => (Placement::Replacing(at), Ok(at)),
        };
        let is_denied = !may.contains(access.to_may());
        let expected = if is_denied { Err(Error::AccessDenied) } else { expected };
        let result = maybe_failing(random, expected, || map.placement(placement).build());
        if let Ok(start) = result {
            space.unmap(start..start + size);
            space.map(start..start + size, page);
        }
    }

    fn unmap(&mut self, random: &mut Random, who: usize) {
        let (process, space) = &mut self.processes[who];
        let range = random_range(random);
        if maybe_failing(random, Ok(()), || process.vmar.unmap(range.clone())).is_ok() {
            space.unmap(range);
        }
    }

    fn protect(&mut self, random: &mut Random, who: usize) {
        let (process, space) = &mut self.processes[who];
        let range = random_range(random);
        let access = random_access(random);
        let mut after = space.clone();
        let expected = after.protect(range.clone(), access);
        if maybe_failing(random, expected, || process.vmar.protect(range.clone(), access))
            == Err(Error::OutOfMemory)
        {
            return;
        }
        // What is locked and can be written now has pages of its own at once, as far as there was memory.
        let resident = process.resident();
        let own = |addr: usize| {
            let found = resident.binary_search_by_key(&addr, |entry| entry.addr);
            found.is_ok_and(|at| resident[at].props.flags.contains(PageFlags::PRIVATE))
        };
        for (addr, page) in after.pages.range_mut(range) {
            let is_pinned = page.flags & MappingFlags::ANY_LOCK == MappingFlags::LOCKED;
            let could_be_written = space.pages[addr].perms.contains(VmPerms::WRITE);
            if is_pinned && !could_be_written && page.private.is_none() && own(*addr) {
                assert_eq!(page.touch(Access::Write, &self.objects), Ok(()), "{addr:#x}");
            }
        }
        *space = after;
    }

    fn remap(&mut self, random: &mut Random, who: usize) {
        let (process, space) = &mut self.processes[who];
        let mut old = random_range(random);
        if random.one_in(8) {
            old.end = old.start;
        }
        let new_size = if random.one_in(3) { old.len() } else { (1 + random.below(8)) * PAGE_SIZE };
        if new_size == 0 {
            return;
        }
        let target = match random.below(4) {
            0 => RemapTarget::InPlace,
            1 => RemapTarget::MayMove,
            2 => RemapTarget::Fixed(random_page(random)),
            _ => RemapTarget::DontUnmap(Placement::Anywhere),
        };
        let expected = space.expect_remap(&old, new_size, target, &ARENA);
        let result = maybe_failing(random, expected, || {
            let result = process.vmar.remap(old.clone(), new_size, target);
            // Which of several reasons is named first is the framework's affair.
            if expected.is_err() && result.is_err() && result != Err(Error::OutOfMemory) {
                expected
            } else {
                result
            }
        });
        if let Ok(start) = result {
            let keeps_old = matches!(target, RemapTarget::DontUnmap(_));
            if start == old.start && new_size <= old.len() {
                space.unmap(start + new_size..old.end);
            } else {
                space.remap(old, start..start + new_size, keeps_old, &self.objects);
            }
        }
    }

    fn fork(&mut self, random: &mut Random, who: usize) {
        if self.processes.len() == MAX_PROCESSES {
            return;
        }
        let (process, space) = &self.processes[who];
        let cpu = random.below(CPUS);
        process.vmar.set_fork_policy(random.pick(&[
            ForkPolicy::Backup,
            ForkPolicy::Backup,
            ForkPolicy::Copy,
        ]));
        let mut child = None;
        let result = maybe_failing(random, Ok(()), || {
            child = Some(process.fork_on(cpu)?);
            Ok(())
        });
        if let (Ok(()), Some(child)) = (result, child) {
            let space = space.fork();
            self.processes.push((child, space));
        }
    }

    fn resize(&mut self, random: &mut Random) {
        let id = random.below(self.vmos.len());
        let size = random.below(40) * (PAGE_SIZE / 2);
        self.vmos[id].resize(size).unwrap();
        let gone = self.objects[id].resize(size);
        for (_, space) in &mut self.processes {
            for page in space.pages.values_mut() {
                if let Source::Object { id: mapped, index } = page.source
                    && mapped == id
                    && gone.contains(&index)
                {
                    page.private = None;
                }
            }
        }
    }

    fn decommit(&mut self, random: &mut Random) {
        let id = random.below(self.vmos.len());
        let start = random.below(40) * (PAGE_SIZE / 2);
        let range = start..start + random.below(8) * (PAGE_SIZE / 2);
        self.vmos[id].decommit(range.clone()).unwrap();
        self.objects[id].decommit(range);
    }

    fn write_object(&mut self, random: &mut Random) {
        let id = random.below(self.vmos.len());
        let (index, which, value) = (random.below(20), random.below(2), random.number());
        let offset = index * PAGE_SIZE + WORDS[which];
        let fits = offset + 8 <= self.objects[id].size;
        if fits {
            assert_eq!(self.vmos[id].write_bytes(offset, &value.to_le_bytes()), Ok(8));
            self.objects[id].pages.entry(index).or_default()[which] = value;
        } else {
            assert_eq!(self.vmos[id].write_bytes(offset.max(self.objects[id].size), &[1]), Ok(0));
        }
    }

    fn discard(&mut self, random: &mut Random, who: usize) {
        let (process, space) = &mut self.processes[who];
        let range = random_range(random);
        let how = random.pick(&[Discard::Now, Discard::NowEvenLocked, Discard::AnyTime]);
        let expected = space.discard(range.clone(), how == Discard::NowEvenLocked, how != Discard::AnyTime);
        assert_eq!(process.vmar.discard(range, how), expected);
    }

    fn lock(&mut self, random: &mut Random, who: usize) {
        let (process, space) = &mut self.processes[who];
        let range = random_range(random);
        if random.one_in(2) {
            let expected = space.set_lock(range.clone(), MappingFlags::empty());
            assert_eq!(process.vmar.unlock(range), expected);
            return;
        }
        let mode = random.pick(&[LockMode::Now, LockMode::OnFault]);
        let mut expected = space.set_lock(range.clone(), mode.flags());
        if expected.is_ok() && mode == LockMode::Now {
            expected = space.populate(range.clone(), None, &self.objects);
        }
        assert_eq!(process.vmar.lock(range, mode), expected);
    }

    fn advise(&mut self, random: &mut Random, who: usize) {
        const NONE: MappingFlags = MappingFlags::empty();
        let (process, space) = &mut self.processes[who];
        let range = random_range(random);
        let (advice, clear, set) = random.pick(&[
            (Advice::DontFork, NONE, MappingFlags::DONT_FORK),
            (Advice::DoFork, MappingFlags::DONT_FORK, NONE),
            (Advice::DoFork, MappingFlags::DONT_FORK, NONE),
            (Advice::WipeOnFork, NONE, MappingFlags::WIPE_ON_FORK),
            (Advice::KeepOnFork, MappingFlags::WIPE_ON_FORK, NONE),
            (Advice::Random, MappingFlags::SEQUENTIAL, MappingFlags::RANDOM),
            (Advice::Normal, MappingFlags::RANDOM | MappingFlags::SEQUENTIAL, NONE),
        ]);
        let expected = space.advise(range.clone(), clear, set);
        assert_eq!(process.vmar.advise(range, advice), expected);
    }

    fn populate(&mut self, random: &mut Random, who: usize) {
        let (process, space) = &mut self.processes[who];
        let range = random_range(random);
        let (how, access) = random.pick(&[
            (Populate::Read, Some(Access::Read)),
            (Populate::Write, Some(Access::Write)),
            (Populate::AsNeeded, None),
        ]);
        let expected = space.populate(range.clone(), access, &self.objects);
        assert_eq!(process.vmar.populate(range, how), expected);
    }

    fn access(&mut self, random: &mut Random, who: usize) {
        let (process, space) = &mut self.processes[who];
        let addr = random_page(random);
        let access = random.pick(&[Access::Read, Access::Write, Access::Write, Access::Exec]);
        let which = random.below(2);
        let value = random.number();
        let at = addr + WORDS[which];
        let thread = process.thread_on(random.below(CPUS));
        let expected = match space.pages.get_mut(&addr) {
            None => Err(FaultError::NotMapped),
            Some(page) => page.touch(access, &self.objects).map(|()| page),
        };
        match access {
            Access::Read => {
                let seen = expected.map(|page| page.content(&self.objects).unwrap_or_default()[which]);
                assert_eq!(thread.read(at, 8), seen.map(|value| value.to_le_bytes().to_vec()));
            }
            Access::Exec => {
                let seen = expected.map(|page| page.content(&self.objects).unwrap_or_default()[which]);
                assert_eq!(thread.fetch_byte(at), seen.map(|value| value as u8));
            }
            Access::Write => {
                let result = expected.map(|page| set_word(page, &mut self.objects, which, value));
                assert_eq!(thread.write(at, &value.to_le_bytes()), result);
            }
        }
    }

    fn access_from_outside(&mut self, random: &mut Random, who: usize) {
        let (process, space) = &mut self.processes[who];
        let addr = random_page(random);
        let which = random.below(2);
        let at = addr + WORDS[which];
        let value = random.number();
        let is_forced = random.one_in(2);
        let is_write = random.one_in(2);
        let access = if is_write { Access::Write } else { Access::Read };
        let expected = match space.pages.get_mut(&addr) {
            None => Err(Error::NotMapped),
            Some(page) => {
                let may = is_forced && !(is_write && page.is_shared());
                if !page.perms.page_flags().contains(access.flag()) && !may {
                    Err(Error::AccessDenied)
                } else {
                    let content = page.content(&self.objects).ok_or(Error::BusError);
                    content.map(|content| (page, content[which]))
                }
            }
        };
        let mut bytes = [0; 8];
        let result = match (is_write, is_forced) {
            (false, false) => process.vmar.read_bytes(at, &mut bytes),
            (false, true) => process.vmar.read_bytes_forced(at, &mut bytes),
            (true, false) => process.vmar.write_bytes(at, &value.to_le_bytes()),
            (true, true) => process.vmar.write_bytes_forced(at, &value.to_le_bytes()),
        };
        assert_eq!(result, expected.as_ref().map(|_| 8).map_err(|error| *error));
        if let Ok((page, seen)) = expected {
            if is_write {
                set_word(page, &mut self.objects, which, value);
            } else {
                assert_eq!(u64::from_le_bytes(bytes), seen);
            }
        }
    }

    /// Compares everything.
    fn compare(&self) {
        let mut frames = BTreeSet::new();
        for (process, space) in &self.processes {
            let mut seen = 0;
            for info in process.vmar.query(ARENA).iter() {
                for (distance, addr) in addrs(info.range()).enumerate() {
                    let page = &space.pages[&addr];
                    assert_eq!((info.perms(), info.flags()), (page.perms, page.flags), "{addr:#x}");
                    assert_eq!(info.is_shared(), page.is_shared(), "{addr:#x}");
                    match (info.memory(), page.source) {
                        (MappedMemory::Anonymous, Source::Anonymous) => {}
                        (MappedMemory::Vmo { offset, .. }, Source::Object { index, .. }) => {
                            assert_eq!(offset / PAGE_SIZE + distance, index, "{addr:#x}");
                        }
                        (memory, source) => panic!("{addr:#x} shows {memory:?}, not {source:?}"),
                    }
                    seen += 1;
                }
            }
            assert_eq!(seen, space.pages.len(), "pages are missing");
            assert_eq!(process.vmar.usage().address_space, seen * PAGE_SIZE);
            for (addr, page) in &space.pages {
                for which in 0..2 {
                    let mut bytes = [0; 8];
                    let result = process.vmar.read_bytes_forced(addr + WORDS[which], &mut bytes);
                    let expected = page.content(&self.objects).map(|content| content[which]);
                    assert_eq!(result.ok().map(|_| u64::from_le_bytes(bytes)), expected, "{addr:#x}");
                }
            }
            let entries = process.resident();
            frames
                .extend(entries.iter().filter(|entry| !entry.is_zero_frame).filter_map(|entry| entry.frame));
        }
        for (vmo, object) in self.vmos.iter().zip(&self.objects) {
            assert_eq!(vmo.size(), object.size);
            frames.extend((0..object.count()).filter_map(|index| Some(vmo.page(index)?.id())));
        }
        self.sim.quiesce();
        assert_eq!(self.sim.live_frames(), frames.len(), "frames that nobody holds are in use");
    }
}

/// Writes a word of a page that has been touched for a write.
fn set_word(page: &mut Page, objects: &mut [Object], which: usize, value: u64) {
    match (page.sharing, page.source) {
        (Sharing::Shared, Source::Object { id, index }) => {
            objects[id].pages.entry(index).or_default()[which] = value;
        }
        _ => {
            let mut content = page.content(objects).unwrap_or_default();
            content[which] = value;
            page.private = Some(content);
        }
    }
}

/// Does an operation, at times with one of its allocations failing; it must answer as expected, or that memory has run
/// out.
fn maybe_failing<T: Copy + PartialEq + std::fmt::Debug>(
    random: &mut Random,
    expected: Result<T, Error>,
    operation: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let failing = random.one_in(8).then(|| inject::fail_nth(random.below(6)));
    let result = operation();
    let has_failed = failing.is_some_and(|failing| failing.has_failed());
    if !(has_failed && result == Err(Error::OutOfMemory)) {
        assert_eq!(result, expected);
    }
    result
}

fn random_access(random: &mut Random) -> VmPerms {
    const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);
    random.pick(&[
        RW,
        RW,
        RW,
        VmPerms::READ,
        VmPerms::READ.union(VmPerms::EXEC),
        VmPerms::empty(),
        VmPerms::ACCESS,
    ])
}

fn random_page(random: &mut Random) -> usize {
    // Room for the largest mapping above.
    ARENA.start + random.below(56) * PAGE_SIZE
}

fn random_range(random: &mut Random) -> Range<usize> {
    let start = random_page(random);
    start..start + (1 + random.below(8)) * PAGE_SIZE
}
