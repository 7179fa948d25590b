// SPDX-License-Identifier: MPL-2.0

//! Spaces and objects, real and modelled, and the steps that are made with both.

mod access;
mod change;
mod compare;
mod objects;
mod regions;
mod watch;

use std::{ops::Range, sync::Arc};

use aster_rights::{FullRights, TRightSet};
use vmar::{
    error::{Error, Limit},
    fallible::inject::{self, Failing},
    machine::PageFlags,
    mapping::MappingFlags,
    object::{Vmo, VmoKind},
    placement::Window,
    sim::{PAGE_SIZE, Process, Sim},
    vmar::fault::Access,
};

use self::watch::Server;
use crate::{
    naive::{Object, Page, Space, Who},
    operation::{Operation, Pages, Shortage, Step},
};

/// Where everything is mapped.
const ARENA: Range<usize> = 0x100_0000..0x100_0000 + 64 * PAGE_SIZE;
const CPUS: usize = 3;
const MAX_PROCESSES: usize = 4;

type FullVmo = Vmo<Sim, TRightSet<FullRights>>;

/// A process, and what it should be.
struct Running {
    process: Process,
    space: Space,
    /// By [`Who`].
    servers: [Arc<Server>; 2],
}

/// A machine with processes and objects, and the model of it.
pub struct World {
    sim: Sim,
    frees_late: bool,
    steps: usize,
    /// How many words have been written: each is another one.
    words: u64,
    running: Vec<Running>,
    vmos: Vec<FullVmo>,
    objects: Vec<Object>,
}

impl World {
    /// Makes one process and three objects on a machine that frees frames late, or at once.
    ///
    /// # Panics
    ///
    /// Panics if that fails.
    pub fn new(frees_late: bool) -> Self {
        let sim = Sim::new(CPUS);
        sim.set_late_frees(frees_late);
        let first = Process::new(&sim, 0).expect("there is as much memory as anybody asks for");
        let Range { start: floor, end: base } = ARENA;
        first.vmar.set_window(Window { floor, base, bottom: base, ceiling: base });
        let mut vmos = Vec::new();
        let mut objects = Vec::new();
        for (kind, pages) in [(VmoKind::File, 12), (VmoKind::SharedMemory, 20), (VmoKind::File, 0)] {
            vmos.push(Vmo::new(&sim, pages * PAGE_SIZE, kind).expect("nothing is short yet"));
            objects.push(Object { size: pages * PAGE_SIZE, ..Object::default() });
        }
        let first = Running {
            process: first,
            space: Space::default(),
            servers: [Who::Stays, Who::Follows].map(Server::new),
        };
        Self { sim, frees_late, steps: 0, words: 0, running: vec![first], vmos, objects }
    }

    /// Makes a step with both, and compares.
    ///
    /// # Panics
    ///
    /// Panics if they differ.
    pub fn step(&mut self, step: &Step) {
        let who = step.who % self.running.len();
        let Running { process, servers, .. } = &self.running[who];
        let before = process.vmar.usage();
        servers.iter().for_each(|server| server.start(process));
        let is_running = self.dispatch(who, step);
        if is_running {
            let Running { process, servers, .. } = &self.running[who];
            servers.iter().for_each(|server| server.stop());
            let (after, limits) = (process.vmar.usage(), process.vmar.limits());
            // What is replaced makes room for data, whatever it was: so data can pass its limit.
            for (limit, before, after) in [
                (Limit::AddressSpace, before.address_space, after.address_space),
                (Limit::Locked, before.locked, after.locked),
            ] {
                assert!(after <= before.max(limits.get(limit)), "{limit:?} is passed: {after:#x}");
            }
            if step.shortage != Shortage::None {
                self.settle(who);
            }
        }
        for Running { process, space, .. } in &mut self.running {
            // A change of the parent's across a border has dissolved some.
            space.reserved.retain(|kept| process.vmar.region_at(kept.start).is_some());
        }
        self.steps += 1;
        if !self.frees_late || self.steps.is_multiple_of(16) {
            self.running.iter().for_each(|running| running.process.audit());
        }
        self.running.iter().for_each(Running::compare_mappings);
        if self.steps.is_multiple_of(64) {
            self.compare();
        }
    }

    /// Ends all processes, and looks whether anything is left.
    ///
    /// # Panics
    ///
    /// Panics if something is, or differs.
    pub fn end(mut self) {
        self.compare();
        self.running.iter().for_each(|running| running.process.audit());
        if self.steps.is_multiple_of(2) {
            let Running { process, .. } = &self.running[0];
            process.vmar.clear();
            assert!(process.vmar.space().walk().is_empty());
            process.audit();
        }
        let sim = self.sim.clone();
        self.running.clear();
        self.vmos.clear();
        sim.assert_no_leaks();
    }

    /// Makes a step, and returns whether the process is there still.
    fn dispatch(&mut self, who: usize, step: &Step) -> bool {
        let shortage = step.shortage;
        let bytes = |range: &Range<usize>| range.start * (PAGE_SIZE / 2)..range.end * (PAGE_SIZE / 2);
        match step.operation.clone() {
            Operation::End if self.running.len() > 1 => {
                let ended = self.running.remove(who);
                ended.servers.iter().for_each(|server| server.stop());
                return false;
            }
            Operation::End => {}
            Operation::Map { pages, access, mapped, place } => {
                self.map(who, shortage, &range_of(&pages), (access, mapped, place));
            }
            Operation::Unmap(pages) => self.unmap(who, shortage, range_of(&pages)),
            Operation::Protect { pages, access } => self.protect(who, shortage, range_of(&pages), access),
            Operation::Remap { old, count, to } => {
                self.remap(who, shortage, range_of(&old), count * PAGE_SIZE, to);
            }
            Operation::Fork { cpu, policy } => self.fork(who, shortage, cpu, policy),
            Operation::Resize { id, size } => self.resize(id % self.vmos.len(), size * (PAGE_SIZE / 2)),
            Operation::Decommit { id, range } => self.decommit(id % self.vmos.len(), bytes(&range)),
            Operation::WriteObject { id, index, word } => {
                self.write_object(id % self.vmos.len(), index, word);
            }
            Operation::Discard { pages, how } => self.discard(who, range_of(&pages), how),
            Operation::Zero(pages) => self.zero(who, range_of(&pages)),
            Operation::Lock { pages, mode } => self.lock(who, shortage, range_of(&pages), mode),
            Operation::Unlock(pages) => self.unlock(who, shortage, range_of(&pages)),
            Operation::LockAll(mode) => self.lock_all(who, shortage, mode),
            Operation::UnlockAll => {
                let Running { process, space, .. } = &mut self.running[who];
                process.vmar.unlock_all();
                space.default_flags = MappingFlags::empty();
                space.set_lock_of_all(MappingFlags::empty());
            }
            Operation::LockWhatComes(mode) => {
                let Running { process, space, .. } = &mut self.running[who];
                process.vmar.set_default_flags(mode.flags());
                space.default_flags = mode.flags();
            }
            Operation::Advise { pages, advice } => self.advise(who, shortage, range_of(&pages), advice),
            Operation::Populate { pages, how } => self.populate(who, shortage, range_of(&pages), how),
            Operation::Seal(pages) => self.seal(who, shortage, range_of(&pages)),
            Operation::Label { pages, label } => self.label(who, shortage, range_of(&pages), label),
            Operation::SetLimit { limit, value } => {
                let value = if limit == Limit::Mappings { value } else { value.saturating_mul(PAGE_SIZE) };
                self.running[who].process.vmar.limits().set(limit, value);
            }
            Operation::Watch { pages, modes, who: by } => {
                self.watch(who, shortage, range_of(&pages), modes, by);
            }
            Operation::Unwatch(pages) => self.unwatch(who, shortage, range_of(&pages)),
            Operation::UnwatchAll(by) => self.unwatch_all(who, by),
            Operation::WriteProtect { pages, protection } => {
                self.write_protect(who, shortage, range_of(&pages), protection);
            }
            Operation::Fill { page, filling, protection } => {
                self.fill(who, shortage, addr_of(page), filling, protection);
            }
            Operation::ForgetAccesses(which) => self.forget_accesses(who, shortage, which),
            Operation::TrackWrites => self.track_writes(who, shortage),
            Operation::NewRegion(pages) => self.new_region(who, shortage, range_of(&pages)),
            Operation::Region { which, inside, act } => self.region(who, shortage, which, inside, act),
            Operation::Access { page, word, access, cpu } => {
                self.access(who, shortage, (addr_of(page), word), access, cpu);
            }
            Operation::AccessFromOutside { page, word, writes, forced } => {
                self.access_from_outside(who, shortage, (addr_of(page), word), writes, forced);
            }
            Operation::Compare => self.compare(),
        }
        true
    }

    /// A word that was never written before.
    fn word(&mut self) -> u64 {
        self.words += 1;
        self.words.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Lets the model know which pages a process has of its own, after memory was short: as many of those that were to be made
    /// present as there was memory for.
    fn settle(&mut self, who: usize) {
        let Running { process, space, .. } = &mut self.running[who];
        let own = own_pages(process);
        for (addr, page) in &mut space.pages {
            if page.is_shared() {
                continue;
            }
            let untouched = Page { private: None, ..*page }.content(&self.objects);
            match (page.private, own.binary_search(addr).is_ok()) {
                (None, true) => page.private = untouched,
                (Some(content), false) => {
                    assert_eq!(Some(content), untouched, "{addr:#x} has lost what was written");
                    page.private = None;
                }
                _ => {}
            }
        }
    }
}

/// Returns the addresses of the pages that belong to a process alone, ascending.
fn own_pages(process: &Process) -> Vec<usize> {
    let resident = process.resident();
    let own = resident.iter().filter(|entry| entry.props.flags.contains(PageFlags::PRIVATE));
    own.map(|entry| entry.addr).collect()
}

fn addr_of(page: usize) -> usize {
    ARENA.start + page * PAGE_SIZE
}

fn range_of(pages: &Pages) -> Range<usize> {
    addr_of(pages.start)..addr_of(pages.end)
}

/// A shortage that is in force.
struct Short<'a> {
    sim: &'a Sim,
    failing: Option<Failing>,
    has_few_frames: bool,
}

impl Shortage {
    fn begin(self, sim: &Sim) -> Short<'_> {
        if let Self::Frames(count) = self {
            sim.set_frame_limit(sim.live_frames() + count);
        }
        Short {
            sim,
            failing: match self {
                Self::Allocation(nth) => Some(inject::fail_nth(nth)),
                Self::Allocations(nth) => Some(inject::fail_from(nth)),
                Self::None | Self::Frames(_) => None,
            },
            has_few_frames: matches!(self, Self::Frames(_)),
        }
    }
}

impl Short<'_> {
    /// Whether something may have been refused.
    fn may_have_failed(&self) -> bool {
        self.has_few_frames || self.failing.as_ref().is_some_and(Failing::has_failed)
    }
}

impl Drop for Short<'_> {
    fn drop(&mut self) {
        self.sim.set_frame_limit(usize::MAX);
    }
}

/// Does an operation with something short. It must answer as expected, unless it says that memory has run out or that a limit is
/// reached, and that can be: `None` then.
fn attempt<T: Copy + PartialEq + std::fmt::Debug>(
    process: &Process,
    shortage: Shortage,
    expected: Result<T, Error>,
    operation: impl FnOnce() -> Result<T, Error>,
) -> Option<Result<T, Error>> {
    let result = try_short(process, shortage, operation)?;
    assert_eq!(result, expected);
    Some(result)
}

/// The same, where what is expected is not known yet.
fn try_short<T>(
    process: &Process,
    shortage: Shortage,
    operation: impl FnOnce() -> Result<T, Error>,
) -> Option<Result<T, Error>> {
    let short = shortage.begin(process.vmar.machine());
    let result = operation();
    match result {
        Err(Error::OutOfMemory) if short.may_have_failed() => None,
        Err(Error::LimitExceeded(limit)) if process.vmar.limits().get(limit) != usize::MAX => None,
        _ => Some(result),
    }
}

/// Lets an error stand for another one: which of several reasons is named first is the framework's affair.
fn whatever_reason<T: Copy>(result: Result<T, Error>, expected: Result<T, Error>) -> Result<T, Error> {
    match (result, expected) {
        (Err(Error::OutOfMemory | Error::LimitExceeded(_)), _) => result,
        (Err(_), Err(_)) => expected,
        _ => result,
    }
}

/// The access that stands for what makes a page present as needed.
const ACCESS_AS_NEEDED: Option<Access> = None;
