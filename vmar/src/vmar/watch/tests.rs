// SPDX-License-Identifier: MPL-2.0

mod follow;
mod marks;
mod objects;

use alloc::{boxed::Box, vec};
use std::sync::Mutex;

use super::*;
use crate::{
    error::Error,
    machine::{Blank, Frame},
    object::VmoKind,
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim},
    vmar::{
        ForkPolicy, Vmar,
        advise::Advice,
        discard::Discard,
        fault::Access,
        populate::Populate,
        remap::RemapTarget,
        testing::{R, RW, at, fail_each_allocation, layout, map, object, over, pages, process, touch},
    },
};

const MISSING: WatchModes = WatchModes::MISSING;
const WRITES: WatchModes = WatchModes::WRITES;

type Serve = Box<dyn Fn(&HandedFault<'_>) -> Result<(), FaultError> + Send + Sync>;

/// A handler that notes what it is handed, and has a closure serve it.
struct Recorder {
    seen: Mutex<Vec<(usize, HandReason, Access)>>,
    serve: Serve,
    follows: bool,
    heir: Option<Arc<dyn FaultHandler>>,
}

impl FaultHandler for Recorder {
    fn handle(&self, fault: &HandedFault<'_>) -> Result<(), FaultError> {
        assert!(fault.stands(), "a fault that nobody has served is over");
        let page = (fault.addr - at(0)) / PAGE_SIZE;
        self.seen.lock().unwrap().push((page, fault.reason, fault.access));
        (self.serve)(fault)?;
        assert!(!fault.stands(), "a fault that was served stands still");
        Ok(())
    }

    fn fork(&self) -> Result<Option<Arc<dyn FaultHandler>>, OutOfMemory> {
        Ok(self.heir.clone())
    }

    fn follows_moves(&self) -> bool {
        self.follows
    }
}

impl Recorder {
    fn new(serve: Serve) -> Self {
        Self { seen: Mutex::new(Vec::new()), serve, follows: false, heir: None }
    }

    fn take(&self) -> Vec<(usize, HandReason, Access)> {
        core::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// Serves a fault as most clients do: fills what is missing with the page's number, and takes marks away.
fn serve(process: &Process) -> Serve {
    // The space has its handlers: one that had the space would keep both.
    let (space, rights) = (Arc::downgrade(&process.vmar.inner), process.vmar.rights);
    Box::new(move |fault| {
        let vmar = Vmar { inner: space.upgrade().ok_or(FaultError::Destroyed)?, rights };
        let page = fault.addr - fault.addr % PAGE_SIZE;
        let one = page..page + PAGE_SIZE;
        match fault.reason {
            HandReason::Missing => {
                let frame = filled(vmar.machine(), ((page - at(0)) / PAGE_SIZE) as u8 + 100);
                vmar.fill(one, page, Fill::Page(frame), WriteProtection::Cleared)?;
            }
            HandReason::Minor => vmar.fill(one, page, Fill::Object, WriteProtection::Cleared)?,
            HandReason::Write => vmar.write_protect(one, WriteProtection::Cleared)?,
        }
        Ok(())
    })
}

fn filled(sim: &Sim, byte: u8) -> <Sim as Machine>::Frame {
    let frame = sim.alloc().unwrap().zeroed();
    frame.write(0, &[byte]);
    frame
}

/// Fails whatever it is handed.
fn refuse() -> Serve {
    Box::new(|_| Err(FaultError::BusError))
}

fn watch(process: &Process, range: Range<usize>, modes: WatchModes, handler: &Arc<Recorder>) {
    try_watch(process, range, modes, handler).unwrap();
}

fn try_watch(
    process: &Process,
    range: Range<usize>,
    modes: WatchModes,
    handler: &Arc<Recorder>,
) -> Result<(), Error> {
    let handler: Arc<dyn FaultHandler> = handler.clone();
    process.vmar.watch(pages(range), modes, &handler, |_| true)
}

fn mark(process: &Process, range: Range<usize>) {
    process.vmar.write_protect(pages(range), WriteProtection::Set).unwrap();
}

fn unwatch(process: &Process, range: Range<usize>) {
    process.vmar.unwatch(pages(range), |_| true, |_, _| {}).unwrap();
}

/// Maps anonymous pages, watched by a handler that serves.
fn watched(range: Range<usize>, modes: WatchModes) -> (Process, Arc<Recorder>) {
    let process = process();
    map(&process, range.clone(), RW);
    let handler = Arc::new(Recorder::new(serve(&process)));
    watch(&process, range, modes, &handler);
    (process, handler)
}

#[test]
fn a_missing_page_is_handed_over_once() {
    let (process, handler) = watched(0..4, MISSING);
    assert_eq!(process.read_byte(at(1) + 5).unwrap(), 0);
    assert_eq!(process.read_byte(at(1)).unwrap(), 101);
    process.write(at(2), &[7]).unwrap();
    let seen = [(1, HandReason::Missing, Access::Read), (2, HandReason::Missing, Access::Write)];
    assert_eq!(handler.take(), seen);
    process.audit();
    unwatch(&process, 0..4);
    assert_eq!(process.read_byte(at(0)).unwrap(), 0);
    assert_eq!(handler.take(), []);
    process.audit();
}

#[test]
fn what_was_read_ahead_is_missing_and_what_was_read_is_not() {
    let process = process();
    map(&process, 0..8, RW);
    assert_eq!(process.read_byte(at(3)).unwrap(), 0);
    let handler = Arc::new(Recorder::new(serve(&process)));
    watch(&process, 0..8, MISSING, &handler);
    assert_eq!(process.read_byte(at(3)).unwrap(), 0);
    assert_eq!(process.read_byte(at(4)).unwrap(), 104);
    process.write(at(3), &[1]).unwrap();
    assert_eq!(handler.take(), [(4, HandReason::Missing, Access::Read)]);
    process.audit();
}

#[test]
fn a_read_beside_what_is_watched_maps_nothing_of_it() {
    let (process, handler) = watched(2..4, MISSING);
    map(&process, 0..2, RW);
    map(&process, 4..6, RW);
    assert_eq!(process.read_byte(at(1)).unwrap(), 0);
    assert_eq!(process.read_byte(at(5)).unwrap(), 0);
    assert_eq!(process.read_byte(at(2)).unwrap(), 102);
    assert_eq!(handler.take().len(), 1);
}

#[test]
fn a_page_is_filled_only_where_there_is_none() {
    let (process, _) = watched(0..3, MISSING);
    let fill =
        |page: usize, content| process.vmar.fill(pages(0..3), at(page), content, WriteProtection::Cleared);
    let page = |byte| Fill::Page(filled(process.vmar.machine(), byte));
    assert_eq!(fill(0, page(9)), Ok(()));
    assert_eq!(fill(0, page(8)), Err(Error::Occupied));
    assert_eq!(fill(0, Fill::Zeros), Err(Error::Occupied));
    assert_eq!(fill(1, Fill::Zeros), Ok(()));
    assert_eq!(fill(1, Fill::Zeros), Err(Error::Occupied));
    assert_eq!(fill(2, Fill::Object), Err(Error::InvalidOptions));
    let marked = process.vmar.fill(pages(0..3), at(2), page(1), WriteProtection::Set);
    assert_eq!(marked, Err(Error::InvalidOptions));
    let beyond = process.vmar.fill(pages(0..4), at(2), page(1), WriteProtection::Cleared);
    assert_eq!(beyond, Err(Error::NotMapped));
    assert_eq!((process.read_byte(at(0)).unwrap(), process.read_byte(at(1)).unwrap()), (9, 0));
    process.write(at(1), &[4]).unwrap();
    process.audit();
}

#[test]
fn what_is_watched_and_what_is_not_are_apart() {
    let (process, handler) = watched(2..4, MISSING);
    map(&process, 0..2, RW);
    map(&process, 4..6, RW);
    assert_eq!(layout(&process).len(), 3);
    watch(&process, 0..6, MISSING, &handler);
    assert_eq!(layout(&process).len(), 1);
    unwatch(&process, 1..2);
    assert_eq!(layout(&process).len(), 3);
    let other = Arc::new(Recorder::new(refuse()));
    assert_eq!(try_watch(&process, 0..2, MISSING, &other), Err(Error::Occupied));
    watch(&process, 1..2, MISSING, &other);
    assert_eq!(layout(&process).len(), 3);
    assert_eq!(process.read_byte(at(1)), Err(FaultError::BusError));
    let other: Arc<dyn FaultHandler> = other;
    process.vmar.unwatch_all(&other);
    assert_eq!(process.read_byte(at(1)).unwrap(), 0);
    let handler: Arc<dyn FaultHandler> = handler;
    process.vmar.unwatch_all(&handler);
    assert_eq!(layout(&process).len(), 1);
    assert!(process.vmar.watchers().unwrap().is_empty());
    process.audit();
}

#[test]
fn modes_that_are_watched_for_already_stay() {
    let (process, handler) = watched(0..2, MISSING | WRITES);
    touch(&process, 0..1);
    assert_eq!(handler.take().len(), 1);
    mark(&process, 0..1);
    watch(&process, 0..2, MISSING, &handler);
    process.write(at(0), &[1]).unwrap();
    assert_eq!(handler.take(), [(0, HandReason::Write, Access::Write)]);
    unwatch(&process, 0..2);
    watch(&process, 0..2, WRITES, &handler);
    assert_eq!(process.read_byte(at(1)).unwrap(), 0);
    assert_eq!(handler.take(), []);
}

#[test]
fn not_everything_can_be_watched() {
    let process = process();
    let handler = Arc::new(Recorder::new(refuse()));
    assert_eq!(try_watch(&process, 0..2, MISSING, &handler), Err(Error::NotMapped));
    map(&process, 0..1, RW);
    assert_eq!(try_watch(&process, 0..1, WatchModes::MINOR, &handler), Err(Error::InvalidOptions));
    let vmo = object(&process, 1, VmoKind::File);
    over(&process, 1..2, R).vmo(vmo.dup().to_dynamic()).build().unwrap();
    let dynamic: Arc<dyn FaultHandler> = handler.clone();
    let result = process.vmar.watch(pages(0..2), MISSING, &dynamic, |_| false);
    assert_eq!(result, Err(Error::InvalidOptions));
    let read_only = vmo.to_dynamic().limit(aster_rights::Rights::READ);
    over(&process, 1..2, R).vmo(read_only).shared().build().unwrap();
    assert_eq!(try_watch(&process, 0..2, MISSING, &handler), Err(Error::NotPermitted));
    assert_eq!(layout(&process).len(), 2);
    assert_eq!(process.read_byte(at(0)).unwrap(), 0);
}

#[test]
fn others_who_look_into_the_space_wait_as_well() {
    let (process, handler) = watched(0..4, MISSING | WRITES);
    let mut bytes = [0; 2];
    process.vmar.read_bytes(at(1), &mut bytes).unwrap();
    assert_eq!(bytes[0], 101);
    process.vmar.write_bytes(at(2), &[5]).unwrap();
    process.vmar.populate(pages(3..4), Populate::Write).unwrap();
    assert_eq!(handler.take().iter().map(|(page, ..)| *page).collect::<Vec<_>>(), [1, 2, 3]);
    mark(&process, 2..3);
    process.vmar.write_bytes(at(2), &[6]).unwrap();
    process.vmar.write_bytes_forced(at(3), &[6]).unwrap();
    assert_eq!(handler.take(), [(2, HandReason::Write, Access::Write)]);
    assert_eq!(process.read_byte(at(2)).unwrap(), 6);
    process.audit();
}

#[test]
fn a_wait_that_is_interrupted_ends_the_access() {
    let process = process();
    map(&process, 0..1, RW);
    let handler = Arc::new(Recorder::new(Box::new(|_| Err(FaultError::Interrupted))));
    watch(&process, 0..1, MISSING, &handler);
    assert_eq!(process.read_byte(at(0)), Err(FaultError::Interrupted));
    assert_eq!(process.vmar.populate(pages(0..1), Populate::Read), Err(Error::Interrupted));
}

#[test]
fn there_can_be_more_watchers_than_numbers_one_after_the_other() {
    let process = process();
    map(&process, 0..2, RW);
    for _ in 0..if cfg!(miri) { 3 } else { 300 } {
        let handler = Arc::new(Recorder::new(refuse()));
        watch(&process, 0..1, MISSING, &handler);
        process.vmar.unmap(pages(0..1)).unwrap();
        map(&process, 0..1, RW);
    }
}

#[test]
fn advice_splits_what_is_watched() {
    let (process, handler) = watched(0..4, MISSING);
    process.vmar.advise(pages(1..2), Advice::DontDump).unwrap();
    assert_eq!(layout(&process).len(), 3);
    touch(&process, 0..4);
    assert_eq!(handler.take().len(), 4);
    process.vmar.advise(pages(1..2), Advice::DoDump).unwrap();
    assert_eq!(layout(&process).len(), 1);
}

#[test]
fn failures_change_nothing() {
    let prepare = |process: &Process| {
        map(process, 0..6, RW);
        touch(process, 0..4);
    };
    let handler = Arc::new(Recorder::new(refuse()));
    let allocations = fail_each_allocation(prepare, |process| try_watch(process, 1..3, WRITES, &handler));
    assert!(allocations > 0);
    let prepare_watched = |process: &Process| {
        prepare(process);
        let mut handler = Recorder::new(serve(process));
        handler.follows = true;
        watch(process, 0..6, WRITES | MISSING, &Arc::new(handler));
    };
    let allocations = fail_each_allocation(prepare_watched, |process| {
        process.vmar.write_protect(pages(0..4), WriteProtection::Set)
    });
    assert!(allocations > 0);
    let prepare_marked = |process: &Process| {
        prepare_watched(process);
        mark(process, 0..4);
    };
    fail_each_allocation(prepare_marked, |process| {
        process.vmar.remap(pages(0..2), 2 * PAGE_SIZE, RemapTarget::Fixed(at(20))).map(drop)
    });
    fail_each_allocation(prepare_marked, |process| process.vmar.fork().map(drop));
    fail_each_allocation(prepare_watched, |process| {
        let frame = process.vmar.machine().alloc()?.zeroed();
        process.vmar.fill(pages(4..5), at(4), Fill::Page(frame), WriteProtection::Set)
    });
    assert_eq!(vec![0; 0], handler.take().iter().map(|(page, ..)| *page).collect::<Vec<_>>());
}
