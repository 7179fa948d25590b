// SPDX-License-Identifier: MPL-2.0

//! What the tests of the operations share.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use aster_rights::{FullRights, TRightSet};

use super::VmarMapOptions;
use crate::{
    error::Error,
    fallible::inject,
    limits::Usage,
    machine::PageFlags,
    mapping::MappingFlags,
    object::{Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim},
};

/// Where tests map, far from where anything else goes.
pub(super) const BASE: usize = 0x100_0000;
pub(super) const R: VmPerms = VmPerms::READ;
pub(super) const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);
pub(super) const RX: VmPerms = VmPerms::READ.union(VmPerms::EXEC);
pub(super) const NONE: VmPerms = VmPerms::empty();

pub(super) fn process() -> Process {
    Process::new(&Sim::new(2), 0).unwrap()
}

/// Returns the address of page `page` of the test's range.
pub(super) fn at(page: usize) -> usize {
    BASE + page * PAGE_SIZE
}

/// Returns the addresses of `pages` of the test's range.
pub(super) fn pages(pages: Range<usize>) -> Range<usize> {
    at(pages.start)..at(pages.end)
}

/// Starts to map `range` of the test's pages, in place of what is there.
pub(super) fn over(process: &Process, range: Range<usize>, perms: VmPerms) -> Options<'_> {
    let size = range.len() * PAGE_SIZE;
    process.vmar.new_map(size).perms(perms).placement(Placement::Replacing(at(range.start)))
}

pub(super) type Options<'a> = VmarMapOptions<'a, Sim, FullRights>;

/// Maps anonymous memory at `range` of the test's pages, in place of what is there.
pub(super) fn map(process: &Process, range: Range<usize>, perms: VmPerms) {
    over(process, range, perms).build().unwrap();
}

/// Writes the number of each page of `range` into it.
pub(super) fn touch(process: &Process, range: Range<usize>) {
    for page in range {
        process.write(at(page), &[page as u8 + 1]).unwrap();
    }
}

/// Makes an object whose pages hold their index plus one.
pub(super) fn object(process: &Process, count: usize, kind: VmoKind) -> Vmo<Sim, TRightSet<FullRights>> {
    let vmo = Vmo::new(process.vmar.machine(), count * PAGE_SIZE, kind).unwrap();
    for page in 0..count {
        vmo.write_bytes(page * PAGE_SIZE, &[page as u8 + 1]).unwrap();
    }
    vmo
}

/// A mapping as a test sees it: its pages (from the test's base), and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) pages: Range<usize>,
    pub(super) perms: VmPerms,
    pub(super) is_shared: bool,
    pub(super) flags: MappingFlags,
    pub(super) offset: usize,
}

/// Returns all mappings.
pub(super) fn layout(process: &Process) -> Vec<Seen> {
    let guard = process.vmar.query(process.vmar.user_range());
    let seen = guard.iter().map(|info| Seen {
        pages: info.range().start.wrapping_sub(BASE) / PAGE_SIZE
            ..info.range().end.wrapping_sub(BASE) / PAGE_SIZE,
        perms: info.perms().access(),
        is_shared: info.is_shared(),
        flags: info.flags(),
        offset: info.offset(),
    });
    seen.collect()
}

/// Returns the pages and permissions of all mappings.
pub(super) fn pages_and_perms(process: &Process) -> Vec<(Range<usize>, VmPerms)> {
    layout(process).into_iter().map(|seen| (seen.pages, seen.perms)).collect()
}

/// Everything about a space that an operation could change: mappings, entries of the page table, totals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    layout: Vec<Seen>,
    entries: Vec<(usize, Option<u64>, PageFlags)>,
    usage: Usage,
}

pub(super) fn snapshot(process: &Process) -> Snapshot {
    let entries = process.vmar.space().walk();
    Snapshot {
        layout: layout(process),
        entries: entries.iter().map(|entry| (entry.addr, entry.frame, entry.props.flags)).collect(),
        usage: process.vmar.usage(),
    }
}

/// Lets each allocation of `operate` fail in turn, on a space made by `prepare` each time, and checks that an operation
/// that fails has changed nothing. Returns how many allocations there are.
pub(super) fn fail_each_allocation(
    prepare: impl Fn(&Process),
    operate: impl Fn(&Process) -> Result<(), Error>,
) -> usize {
    for nth in inject::in_turn() {
        let process = process();
        prepare(&process);
        let before = snapshot(&process);
        let failing = inject::fail_nth(nth);
        let result = operate(&process);
        let has_failed = failing.has_failed();
        drop(failing);
        process.audit();
        if !has_failed {
            result.unwrap();
            return nth;
        }
        // An operation may know how to do without.
        if result.is_err() {
            assert_eq!(result, Err(Error::OutOfMemory));
            assert_eq!(snapshot(&process), before, "allocation {nth} failed, and something has changed");
        }
    }
    unreachable!("there is always a last allocation")
}

/// What every page of the test's range may be for a model: the simplest thing that could be right.
pub(super) type Model = Vec<Option<VmPerms>>;

/// Returns what a model says of the mappings.
pub(super) fn runs(model: &Model) -> Vec<(Range<usize>, VmPerms)> {
    let mut runs: Vec<(Range<usize>, VmPerms)> = vec![];
    for (page, perms) in model.iter().enumerate() {
        let Some(perms) = *perms else { continue };
        match runs.last_mut() {
            Some((range, last)) if range.end == page && *last == perms => range.end += 1,
            _ => runs.push((page..page + 1, perms)),
        }
    }
    runs
}
