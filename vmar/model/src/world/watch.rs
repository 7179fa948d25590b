// SPDX-License-Identifier: MPL-2.0

//! Memory whose faults are handed over, what fills it, and what was done to pages.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use vmar::{
    error::{Error, OutOfMemory},
    machine::{Blank, Frame, Machine},
    sim::{PAGE_SIZE, Process, Sim, SimFrame},
    vmar::{
        FullVmar,
        fault::{Access, FaultError},
        history::Which,
        watch::{FaultHandler, Fill, HandReason, HandedFault, WatchModes, WriteProtection},
    },
};

use super::{Running, World, attempt, own_pages, whatever_reason};
use crate::{
    naive::{Content, Object, Page, Source, Space, WORDS, Who},
    operation::{Filling, Shortage},
};

/// Serves what it is handed, and notes it.
pub(super) struct Server {
    who: Who,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The space that an operation is made on now. It is not kept: a space keeps its handlers.
    vmar: Option<FullVmar<Sim>>,
    handed: Vec<Handed>,
    /// How many pages have been made.
    made: u64,
    /// Who goes on in the space that was forked last.
    heir: Option<Arc<Server>>,
}

/// A fault that has been served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handed {
    page: usize,
    reason: HandReason,
    /// What a page was filled with.
    content: Content,
}

/// What was handed over by one operation, and by whom it was served.
pub(super) struct Pending(Vec<(Who, Handed)>);

impl Pending {
    /// Lets the model know what was served at `addr`.
    pub(super) fn serve(&mut self, addr: usize, page: &mut Page, objects: &mut [Object]) {
        for (by, handed) in self.0.extract_if(.., |(_, handed)| handed.page == addr) {
            handed.note(by, page, objects);
        }
    }

    pub(super) fn end(self) {
        assert!(self.0.is_empty(), "handed over, and nobody asked for it: {:?}", self.0);
    }
}

impl Handed {
    fn note(&self, by: Who, page: &mut Page, objects: &mut [Object]) {
        let Self { page: addr, reason, content } = *self;
        assert!(page.is_watched_for(reason), "{addr:#x} is not watched for that: {reason:?}");
        assert_eq!(page.watch.map(|(by, _)| by), Some(by), "{addr:#x} is another's");
        match reason {
            HandReason::Missing => put(page, objects, content),
            HandReason::Minor => {}
            HandReason::Write => assert!(page.is_marked, "{addr:#x} is not marked"),
        }
        page.is_marked = false;
    }
}

impl Server {
    pub(super) fn new(who: Who) -> Arc<Self> {
        Arc::new(Self { who, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self, process: &Process) {
        self.state().vmar = Some(process.vmar.dup());
    }

    pub(super) fn stop(&self) {
        let vmar = self.state().vmar.take();
        drop(vmar);
        assert!(self.state().handed.is_empty(), "a fault was handed over by what makes none");
    }

    pub(super) fn take_heir(&self) -> Option<Arc<Self>> {
        self.state().heir.take()
    }

    /// What the next page is filled with.
    fn next_content(&self) -> Content {
        let mut state = self.state();
        state.made += 1;
        [state.made << 32, state.made << 33]
    }
}

impl FaultHandler for Server {
    fn handle(&self, fault: &HandedFault<'_>) -> Result<(), FaultError> {
        assert!(fault.stands(), "a fault that nobody has served is over");
        let vmar = self.state().vmar.as_ref().map(FullVmar::dup).expect("nothing faults between the steps");
        let page = fault.addr - fault.addr % PAGE_SIZE;
        let one = page..page + PAGE_SIZE;
        let mut content = [0; 2];
        match fault.reason {
            HandReason::Missing => {
                content = self.next_content();
                let frame = frame_of(vmar.machine(), content)?;
                vmar.fill(one, page, Fill::Page(frame), WriteProtection::Cleared)?;
            }
            HandReason::Minor => vmar.fill(one, page, Fill::Object, WriteProtection::Cleared)?,
            HandReason::Write => vmar.write_protect(one, WriteProtection::Cleared)?,
        }
        self.state().handed.push(Handed { page, reason: fault.reason, content });
        assert!(!fault.stands(), "a fault that was served stands still");
        Ok(())
    }

    fn fork(&self) -> Result<Option<Arc<dyn FaultHandler>>, OutOfMemory> {
        if self.who == Who::Stays {
            return Ok(None);
        }
        let heir = Self::new(Who::Follows);
        self.state().heir = Some(heir.clone());
        Ok(Some(heir))
    }

    fn follows_moves(&self) -> bool {
        self.who == Who::Follows
    }
}

fn frame_of(sim: &Sim, content: Content) -> Result<SimFrame, OutOfMemory> {
    let frame = sim.alloc()?.zeroed();
    for (offset, word) in WORDS.into_iter().zip(content) {
        frame.write(offset, &word.to_le_bytes());
    }
    Ok(frame)
}

/// Returns whether a process has an entry at `addr`.
fn is_resident(process: &Process) -> impl Fn(usize) -> bool {
    let resident = process.resident();
    move |addr| resident.binary_search_by_key(&addr, |entry| entry.addr).is_ok()
}

impl World {
    fn handler(&self, who: usize, by: Who) -> Arc<dyn FaultHandler> {
        self.running[who].servers[by as usize].clone()
    }

    /// Returns why an access will be handed over, if it will be.
    pub(super) fn expect_handed(&self, who: usize, addr: usize, access: Access) -> Option<HandReason> {
        let Running { process, space, .. } = &self.running[who];
        let page = space.pages.get(&addr)?;
        if page.watch.is_none() || !page.perms.page_flags().contains(access.flag()) {
            return None;
        }
        let missing = match page.source {
            _ if is_resident(process)(addr) => None,
            Source::Anonymous => Some(HandReason::Missing),
            Source::Object { id, index } if index >= self.objects[id].count() => return None,
            Source::Object { id, index } if self.vmos[id].page(index).is_some() => Some(HandReason::Minor),
            Source::Object { .. } => Some(HandReason::Missing),
        };
        let write = (access == Access::Write && page.is_marked).then_some(HandReason::Write);
        missing.into_iter().chain(write).find(|reason| page.is_watched_for(*reason))
    }

    /// Takes what was handed over to the servers of a process.
    pub(super) fn pending(&self, who: usize) -> Pending {
        let mut handed = Vec::new();
        for server in &self.running[who].servers {
            let served = std::mem::take(&mut server.state().handed);
            handed.extend(served.into_iter().map(|one| (server.who, one)));
        }
        Pending(handed)
    }

    /// Lets the model know what was handed over and served, and returns why.
    pub(super) fn take_handed(&mut self, who: usize) -> Vec<HandReason> {
        let pending = self.pending(who);
        let space = &mut self.running[who].space;
        let note = |(by, handed): (Who, Handed)| {
            let Some(page) = space.pages.get_mut(&handed.page) else {
                panic!("{:#x} is not mapped", handed.page)
            };
            handed.note(by, page, &mut self.objects);
            handed.reason
        };
        pending.0.into_iter().map(note).collect()
    }

    /// The same after memory was short: pages were filled, and made the process's own, in turn.
    pub(super) fn settle_in_turn(&mut self, who: usize) {
        let mut pending = self.pending(who);
        let Running { process, space, .. } = &mut self.running[who];
        let own = own_pages(process);
        for (addr, page) in &mut space.pages {
            pending.serve(*addr, page, &mut self.objects);
            if !page.is_shared() && page.private.is_none() && own.binary_search(addr).is_ok() {
                page.private = page.content(&self.objects);
            }
        }
        pending.end();
    }

    pub(super) fn watch(
        &mut self,
        who: usize,
        shortage: Shortage,
        range: Range<usize>,
        modes: WatchModes,
        by: Who,
    ) {
        let handler = self.handler(who, by);
        let Running { process, space, .. } = &mut self.running[who];
        let mut after = space.clone();
        let expected = after.watch(range.clone(), modes, by);
        let result = attempt(process, shortage, expected, || {
            whatever_reason(process.vmar.watch(range, modes, &handler, |_| true), expected)
        });
        if let Some(Ok(())) = result {
            *space = after;
        }
    }

    pub(super) fn unwatch(&mut self, who: usize, shortage: Shortage, range: Range<usize>) {
        let Running { process, space, .. } = &mut self.running[who];
        let mut after = space.clone();
        let expected = after.unwatch(range.clone());
        let mut ended = 0;
        let visit = |part: Range<usize>, _: &_| ended += part.len() / PAGE_SIZE;
        let result = attempt(process, shortage, expected, || process.vmar.unwatch(range, |_| true, visit));
        if result == Some(Ok(())) {
            let watched = |space: &Space| space.pages.values().filter(|page| page.watch.is_some()).count();
            assert_eq!(ended, watched(space) - watched(&after), "pages that nobody watches any more");
            *space = after;
        }
    }

    pub(super) fn unwatch_all(&mut self, who: usize, by: Who) {
        let handler = self.handler(who, by);
        let Running { process, space, .. } = &mut self.running[who];
        process.vmar.unwatch_all(&handler);
        for page in space.pages.values_mut().filter(|page| page.watch.is_some_and(|(who, _)| who == by)) {
            page.watch = None;
            page.is_marked = false;
        }
    }

    pub(super) fn write_protect(
        &mut self,
        who: usize,
        shortage: Shortage,
        range: Range<usize>,
        protection: WriteProtection,
    ) {
        let Running { process, space, .. } = &mut self.running[who];
        let mut after = space.clone();
        let marks = protection == WriteProtection::Set;
        let expected = after.write_protect(range.clone(), marks, is_resident(process));
        let result = attempt(process, shortage, expected, || process.vmar.write_protect(range, protection));
        if let Some(Ok(())) = result {
            *space = after;
        }
    }

    pub(super) fn fill(
        &mut self,
        who: usize,
        shortage: Shortage,
        addr: usize,
        filling: Filling,
        protection: WriteProtection,
    ) {
        let Running { process, space, servers } = &mut self.running[who];
        let content = if let Filling::Page = filling { servers[0].next_content() } else { [0; 2] };
        let fill = match filling {
            Filling::Page => Fill::Page(frame_of(&self.sim, content).expect("nothing is short yet")),
            Filling::Zeros => Fill::Zeros,
            Filling::Object => Fill::Object,
        };
        let marks = protection == WriteProtection::Set;
        let is_there = is_resident(process)(addr);
        let expected = match space.pages.get(&addr) {
            None => Err(Error::NotMapped),
            Some(Page { watch: None, .. }) => Err(Error::NotMapped),
            Some(page) if marks && !page.is_watched_for(HandReason::Write) => Err(Error::InvalidOptions),
            Some(page) => match (page.source, filling) {
                (Source::Anonymous, Filling::Object) => Err(Error::InvalidOptions),
                (Source::Object { id, index }, Filling::Object) if index >= self.objects[id].count() => {
                    Err(Error::InvalidOptions)
                }
                (Source::Object { id, index }, _) if index >= self.objects[id].count() => {
                    Err(Error::BusError)
                }
                (Source::Object { id, index }, Filling::Object) if self.vmos[id].page(index).is_none() => {
                    Err(Error::BusError)
                }
                _ if is_there => Err(Error::Occupied),
                (Source::Object { id, index }, Filling::Page | Filling::Zeros)
                    if page.is_shared() && self.vmos[id].page(index).is_some() =>
                {
                    Err(Error::Occupied)
                }
                (Source::Object { .. }, Filling::Zeros) if page.is_marked && !page.is_shared() => {
                    Err(Error::Occupied)
                }
                _ => Ok(()),
            },
        };
        let one = addr..addr + PAGE_SIZE;
        let result = attempt(process, shortage, expected, || process.vmar.fill(one, addr, fill, protection));
        if let (Some(Ok(())), Some(page)) = (result, space.pages.get_mut(&addr)) {
            match filling {
                Filling::Page => put(page, &mut self.objects, content),
                Filling::Zeros if page.source != Source::Anonymous => put(page, &mut self.objects, content),
                Filling::Zeros | Filling::Object => {}
            }
            page.is_marked = marks;
        }
    }

    pub(super) fn forget_accesses(&mut self, who: usize, shortage: Shortage, which: Which) {
        let Running { process, .. } = &self.running[who];
        attempt(process, shortage, Ok(()), || process.vmar.forget_accesses(which));
    }

    pub(super) fn track_writes(&mut self, who: usize, shortage: Shortage) {
        let Running { process, space, .. } = &mut self.running[who];
        if attempt(process, shortage, Ok(()), || process.vmar.track_writes()).is_some() {
            space.pages.values_mut().for_each(|page| page.is_written = false);
        }
    }
}

/// Gives a page that nobody had a content.
fn put(page: &mut Page, objects: &mut [Object], content: Content) {
    match page.source {
        Source::Object { id, index } if page.is_shared() => {
            objects[id].give(index, content);
        }
        _ => {
            assert_eq!(page.private, None, "what was there is filled");
            page.private = Some(content);
        }
    }
}
