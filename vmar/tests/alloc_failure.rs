// SPDX-License-Identifier: MPL-2.0

//! Every allocation of a fixed scenario is made to fail in turn, and all that fails must have changed nothing.
//!
//! Each step of the scenario is tried with its first allocation failing, then with its second, and so on until one try
//! needs no allocation any more that could fail; once with that allocation alone failing, once with all from it on. After
//! each try that fails, everything that can be seen of the spaces and objects is compared with what was seen before.

use std::ops::Range;

use aster_rights::{FullRights, TRightSet};
use vmar::{
    error::Error,
    fallible::inject,
    limits::{Limits, Usage},
    machine::CachePolicy,
    mapping::MappingFlags,
    object::{Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim, SimIoMem},
    vmar::{
        FullVmar, advise::Advice, discard::Discard, lock::LockMode, populate::Populate, remap::RemapTarget,
    },
};

const BASE: usize = 0x100_0000;
const FILE: usize = 0x200_0000;
const STACK: usize = 0x300_0000;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

struct World {
    sim: Sim,
    processes: Vec<Process>,
    vmo: Vmo<Sim, TRightSet<FullRights>>,
}

impl World {
    /// One process and an object of eight pages, on a machine with two CPUs.
    fn new() -> Self {
        let sim = Sim::new(2);
        Self {
            processes: vec![Process::new(&sim, 0).unwrap()],
            vmo: Vmo::new(&sim, 8 * PAGE_SIZE, VmoKind::File).unwrap(),
            sim,
        }
    }
}

/// A mapping, as a query shows it.
type Mapping = (Range<usize>, VmPerms, MappingFlags, bool, usize);

/// All that can be seen of a world.
#[derive(Debug, PartialEq)]
struct State {
    spaces: Vec<(Vec<Mapping>, Usage, Vec<u8>)>,
    object: (usize, Vec<u8>),
    /// Frames in use, and resident pages of each space.
    resident: (usize, Vec<usize>),
}

impl World {
    fn state(&self) -> State {
        self.sim.quiesce();
        let mut bytes = vec![0; self.vmo.size()];
        let resident_before = self.vmo.resident_count();
        assert_eq!(self.vmo.read_bytes(0, &mut bytes), Ok(bytes.len()));
        assert_eq!(self.vmo.resident_count(), resident_before);
        State {
            spaces: self.processes.iter().map(see).collect(),
            object: (resident_before, bytes.into_iter().step_by(64).collect()),
            resident: (
                self.sim.live_frames(),
                self.processes.iter().map(|process| process.vmar.rss().total_pages()).collect(),
            ),
        }
    }
}

fn see(process: &Process) -> (Vec<Mapping>, Usage, Vec<u8>) {
    process.audit();
    let vmar = &process.vmar;
    let mappings: Vec<_> = vmar
        .query(vmar.user_range())
        .iter()
        .map(|info| (info.range(), info.perms(), info.flags(), info.is_shared(), info.offset()))
        .collect();
    let mut content = Vec::new();
    for (range, ..) in &mappings {
        for addr in range.clone().step_by(PAGE_SIZE / 4) {
            let mut byte = [0];
            // Device memory cannot be read this way, nor what is past the end of the object.
            content.push(vmar.read_bytes_forced(addr, &mut byte).map_or(255, |_| byte[0]));
        }
    }
    // The peak is a record of what was tried, too.
    (mappings, Usage { peak_address_space: 0, ..vmar.usage() }, content)
}

/// What a step that runs out of memory may have changed.
#[derive(Clone, Copy, PartialEq)]
enum Promise {
    /// Nothing.
    AllOrNothing,
    /// Pages may have become resident, which a program cannot see.
    OnlyResidence,
}
use Promise::{AllOrNothing, OnlyResidence};

/// Tries a step with each of its allocations failing, until it succeeds. Returns how many tries failed.
fn exhaust(
    world: &mut World,
    name: &str,
    promise: Promise,
    step: impl Fn(&mut World) -> Result<(), Error>,
) -> usize {
    for nth in 0.. {
        for fail in [inject::fail_from, inject::fail_nth] {
            let before = world.state();
            let failing = fail(nth);
            let result = step(world);
            let has_failed = failing.has_failed();
            drop(failing);
            match result {
                Ok(()) => {
                    // A try may do without what it could not have.
                    assert!(!has_failed || promise == OnlyResidence, "{name}: success without memory");
                    world.state();
                    return nth;
                }
                Err(Error::OutOfMemory) => assert!(has_failed, "{name}: memory has not run out"),
                Err(other) => panic!("{name}: {other}"),
            }
            let after = world.state();
            match promise {
                AllOrNothing => assert_eq!(before, after, "{name}, allocation {nth}"),
                OnlyResidence => {
                    assert_eq!(before.spaces, after.spaces, "{name}, allocation {nth}");
                    assert_eq!(before.object.1, after.object.1, "{name}, allocation {nth}");
                }
            }
        }
    }
    unreachable!("every step ends")
}

fn map(world: &World, pages: usize, placement: Placement) -> Result<usize, Error> {
    world.processes[0].vmar.new_map(pages * PAGE_SIZE).perms(RW).placement(placement).build()
}

fn map_file(world: &World, pages: usize, placement: Placement) -> Result<usize, Error> {
    let map = world.processes[0].vmar.new_map(pages * PAGE_SIZE).perms(RW).vmo(world.vmo.dup());
    map.fault_around().placement(placement).build()
}

fn page(base: usize, number: usize) -> usize {
    base + number * PAGE_SIZE
}

fn pages(base: usize, numbers: Range<usize>) -> Range<usize> {
    page(base, numbers.start)..page(base, numbers.end)
}

#[test]
fn v10_every_allocation_of_a_scenario_fails_in_turn() {
    let world = &mut World::new();
    let mut failures = 0;
    let mut step = |name: &str, promise, step: &dyn Fn(&mut World) -> Result<(), Error>| {
        failures += exhaust(world, name, promise, step);
    };

    step("make a space", AllOrNothing, &|world| FullVmar::new(world.sim.clone(), Limits::new()).map(drop));
    step("make an object", AllOrNothing, &|world| {
        Vmo::new(&world.sim, PAGE_SIZE, VmoKind::SharedMemory).map(drop)
    });
    step("write to the object", AllOrNothing, &|world| world.vmo.write_bytes(5 * PAGE_SIZE, &[5]).map(drop));
    step("commit a page", AllOrNothing, &|world| world.vmo.commit(6).map(drop));
    step("map", AllOrNothing, &|world| map(world, 16, Placement::Exactly(BASE)).map(drop));
    step("map a file", AllOrNothing, &|world| map_file(world, 8, Placement::Exactly(FILE)).map(drop));
    for number in [0, 3, 4, 9] {
        step("write for the first time", AllOrNothing, &|world| {
            Ok(world.processes[0].write(page(BASE, number), &[number as u8 + 1])?)
        });
    }
    step("read for the first time", AllOrNothing, &|world| {
        Ok(world.processes[0].read_byte(page(BASE, 1)).map(drop)?)
    });
    step("write over zeros", AllOrNothing, &|world| Ok(world.processes[0].write(page(BASE, 1), &[1])?));
    step("read the file, and around", AllOrNothing, &|world| {
        Ok(world.processes[0].read_byte(page(FILE, 5)).map(drop)?)
    });
    step("read a hole", OnlyResidence, &|world| Ok(world.processes[0].read_byte(page(FILE, 1)).map(drop)?));
    step("copy a page of the file", AllOrNothing, &|world| {
        Ok(world.processes[0].write(page(FILE, 5), &[55])?)
    });
    step("protect in the middle", AllOrNothing, &|world| {
        world.processes[0].vmar.protect(pages(BASE, 3..5), VmPerms::READ)
    });
    step("unmap in the middle", AllOrNothing, &|world| world.processes[0].vmar.unmap(pages(BASE, 7..8)));
    step("replace in the middle", AllOrNothing, &|world| {
        map_file(world, 2, Placement::Replacing(page(BASE, 9))).map(drop)
    });
    step("replace by a device", AllOrNothing, &|world| {
        let map = world.processes[0].vmar.new_map(PAGE_SIZE).perms(RW).shared();
        let map = map.device(SimIoMem::new(1), 0, CachePolicy::Uncacheable);
        map.placement(Placement::Replacing(page(BASE, 4))).build().map(drop)
    });
    step("advise", AllOrNothing, &|world| {
        world.processes[0].vmar.advise(pages(BASE, 12..14), Advice::DontFork)
    });
    step("lock on fault", AllOrNothing, &|world| {
        world.processes[0].vmar.lock(pages(BASE, 0..1), LockMode::OnFault)
    });
    step("fork", AllOrNothing, &|world| {
        let child = world.processes[0].fork_on(1)?;
        world.processes.push(child);
        Ok(())
    });
    step("copy on write", AllOrNothing, &|world| Ok(world.processes[1].write(page(BASE, 0), &[100])?));
    step("write from outside", AllOrNothing, &|world| {
        world.processes[0].vmar.write_bytes(page(BASE, 1), &[101]).map(drop)
    });
    step("write like a debugger", AllOrNothing, &|world| {
        world.processes[1].vmar.write_bytes_forced(page(BASE, 3), &[102]).map(drop)
    });
    step("grow in place", AllOrNothing, &|world| {
        world.processes[0].vmar.remap(pages(BASE, 15..16), 4 * PAGE_SIZE, RemapTarget::InPlace).map(drop)
    });
    step("move", AllOrNothing, &|world| {
        let target = RemapTarget::Fixed(page(BASE, 32));
        world.processes[0].vmar.remap(pages(FILE, 4..7), 2 * PAGE_SIZE, target).map(drop)
    });
    step("move and keep", AllOrNothing, &|world| {
        let target = RemapTarget::DontUnmap(Placement::Anywhere);
        world.processes[0].vmar.remap(pages(BASE, 1..3), 2 * PAGE_SIZE, target).map(drop)
    });
    step("grow a stack", AllOrNothing, &|world| {
        let map = world.processes[1].vmar.new_map(PAGE_SIZE).perms(RW).flags(MappingFlags::GROWS_DOWN);
        map.placement(Placement::Replacing(STACK)).build().map(drop)
    });
    step("fault below a stack", OnlyResidence, &|world| {
        let below = world.processes[1].write(STACK - 3 * PAGE_SIZE, &[1]);
        if below.is_err() {
            // The stack has grown all the same, as it does in Linux; put it back for the comparison.
            world.processes[1].vmar.unmap(STACK - 3 * PAGE_SIZE..STACK)?;
        }
        Ok(below?)
    });
    step("populate", OnlyResidence, &|world| {
        world.processes[0].vmar.populate(pages(BASE, 10..16), Populate::AsNeeded)
    });
    step("lock", OnlyResidence, &|world| {
        let result = world.processes[0].vmar.lock(pages(BASE, 12..14), LockMode::Now);
        if result.is_err() {
            world.processes[0].vmar.unlock(pages(BASE, 12..14))?;
        }
        result
    });
    step("discard", AllOrNothing, &|world| world.processes[1].vmar.discard(pages(BASE, 0..4), Discard::Now));
    step("resize", AllOrNothing, &|world| {
        world.vmo.resize(7 * PAGE_SIZE + 1).unwrap();
        Ok(())
    });
    step("unmap all", AllOrNothing, &|world| {
        let range = world.processes[0].vmar.user_range();
        world.processes[0].vmar.unmap(range)
    });
    assert!(failures > 60, "only {failures} allocations have failed");

    let sim = world.sim.clone();
    world.processes.clear();
    world.vmo.resize(0).unwrap();
    assert_eq!((sim.live_frames(), sim.live_spaces()), (0, 0));
}

/// Where the region is.
const REGION: usize = 0x400_0000;

#[test]
fn b1_every_allocation_of_work_with_regions_fails_in_turn() {
    let world = &mut World::new();
    let mut failures = 0;
    let mut step = |name: &str, promise, step: &dyn Fn(&mut World) -> Result<(), Error>| {
        failures += exhaust(world, name, promise, step);
    };
    let region = |world: &World, number| world.processes[0].vmar.region_at(page(REGION, number)).unwrap();
    let inner = |world: &World| region(world, 0).region_at(page(REGION, 8)).unwrap();

    step("map around", AllOrNothing, &|world| {
        map(world, 4, Placement::Exactly(REGION - 4 * PAGE_SIZE)).map(drop)
    });
    step("make a region", AllOrNothing, &|world| {
        let new = world.processes[0].vmar.new_region(16 * PAGE_SIZE).placement(Placement::Exactly(REGION));
        new.build().map(drop)
    });
    step("make a region with its own tables", AllOrNothing, &|world| {
        world.processes[0].vmar.new_region(PAGE_SIZE).own_tables().build().map(drop)
    });
    step("make a region inside", AllOrNothing, &|world| {
        let place = Placement::Exactly(page(REGION, 8));
        region(world, 0).new_region(4 * PAGE_SIZE).placement(place).build().map(drop)
    });
    step("map inside", AllOrNothing, &|world| {
        region(world, 0)
            .new_map(4 * PAGE_SIZE)
            .perms(RW)
            .placement(Placement::Exactly(REGION))
            .build()
            .map(drop)
    });
    step("map inside of that", AllOrNothing, &|world| {
        let inner = inner(world);
        let map = inner.new_map(4 * PAGE_SIZE).perms(RW).vmo(world.vmo.dup());
        map.placement(Placement::Exactly(page(REGION, 8))).build().map(drop)
    });
    for number in [0, 1, 8, 9] {
        step(
            "write inside",
            AllOrNothing,
            &|world| Ok(world.processes[0].write(page(REGION, number), &[7])?),
        );
    }
    step("protect inside", AllOrNothing, &|world| {
        world.processes[0].vmar.protect(pages(REGION, 1..2), VmPerms::READ)
    });
    step("protect inside of that", AllOrNothing, &|world| {
        inner(world).protect(pages(REGION, 9..10), VmPerms::READ)
    });
    step("populate across", OnlyResidence, &|world| {
        world.processes[0].vmar.populate(page(REGION, 0) - PAGE_SIZE..page(REGION, 4), Populate::Read)
    });
    step("fork", AllOrNothing, &|world| {
        let child = world.processes[0].fork_on(1)?;
        world.processes.push(child);
        Ok(())
    });
    step("unmap in the middle", AllOrNothing, &|world| region(world, 0).unmap(pages(REGION, 2..3)));
    step("dissolve", AllOrNothing, &|world| inner(world).dissolve());
    step("change across a border", AllOrNothing, &|world| {
        world.processes[0].vmar.protect(page(REGION, 0) - PAGE_SIZE..page(REGION, 1), VmPerms::READ)
    });
    assert!(failures > 30, "only {failures} allocations have failed");
    let sim = world.sim.clone();
    world.processes.clear();
    world.vmo.resize(0).unwrap();
    assert_eq!((sim.live_frames(), sim.live_spaces()), (0, 0));
}
