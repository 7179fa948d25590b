// SPDX-License-Identifier: MPL-2.0

//! What changes mappings.

use std::ops::Range;

use aster_rights::Rights;
use vmar::{
    error::{Error, Limit},
    mapping::{MappingFlags, Sharing},
    perms::VmPerms,
    placement::Placement,
    sim::PAGE_SIZE,
    vmar::{
        ForkPolicy, advise::Advice, discard::Discard, fault::Access, lock::LockMode, populate::Populate,
        remap::RemapTarget,
    },
};

use super::{
    ACCESS_AS_NEEDED, ARENA, CPUS, MAX_PROCESSES, Running, World, addr_of, attempt, compare::flags_differ,
    own_pages, try_short, watch::Server, whatever_reason,
};
use crate::{
    naive::{Page, Source, Who, addrs, nobody},
    operation::{Destination, Mapped, Place, Shortage},
};

impl World {
    pub(super) fn map(
        &mut self,
        who: usize,
        shortage: Shortage,
        range: &Range<usize>,
        (access, mapped, place): (VmPerms, Mapped, Place),
    ) {
        let Running { process, space, .. } = &mut self.running[who];
        let (at, size) = (range.start, range.len());
        let mut map = process.vmar.new_map(size).perms(access);
        let mut page = Page::new(access | VmPerms::MAY, Sharing::Private, Source::Anonymous);
        if let Mapped::Object { id, index, sharing, may_write, fault_around } = mapped {
            let id = id % self.vmos.len();
            let mut rights = Rights::all();
            page.source = Source::Object { id, index };
            if sharing == Sharing::Shared {
                page.sharing = sharing;
                map = map.shared();
                if !may_write {
                    rights -= Rights::WRITE;
                    page.perms -= VmPerms::MAY_WRITE;
                }
            }
            map = map.vmo(self.vmos[id].dup().to_dynamic().limit(rights)).vmo_offset(index * PAGE_SIZE);
            if fault_around {
                page.flags |= MappingFlags::FAULT_AROUND;
                map = map.fault_around();
            }
        }
        page.flags |= space.default_flags;
        let anywhere = || space.highest_room(size, &ARENA).ok_or(Error::NoRoom);
        let is_free = space.is_free(range.clone());
        let (placement, expected) = match place {
            Place::Anywhere => (Placement::Anywhere, anywhere()),
            Place::Exactly if is_free => (Placement::Exactly(at), Ok(at)),
            Place::Exactly => (Placement::Exactly(at), Err(Error::Occupied)),
            Place::Hint if is_free => (Placement::Hint(at), Ok(at)),
            Place::Hint => (Placement::Hint(at), anywhere()),
            Place::Replacing if space.is_sealed(range) => (Placement::Replacing(at), Err(Error::Sealed)),
            Place::Replacing => (Placement::Replacing(at), Ok(at)),
        };
        let is_denied = !page.perms.contains(access.to_may());
        let expected = if is_denied { Err(Error::AccessDenied) } else { expected };
        let result = attempt(process, shortage, expected, || {
            whatever_reason(map.placement(placement).build(), expected)
        });
        if let Some(Ok(start)) = result {
            space.unmap(start..start + size);
            space.map(start..start + size, page);
            if page.flags & MappingFlags::ANY_LOCK == MappingFlags::LOCKED {
                // What cannot be there now is when it is touched.
                let _ = space.populate(start..start + size, ACCESS_AS_NEEDED, &mut self.objects, &mut nobody);
            }
        }
    }

    pub(super) fn unmap(&mut self, who: usize, shortage: Shortage, range: Range<usize>) {
        let Running { process, space, .. } = &mut self.running[who];
        let expected = if space.is_sealed(&range) { Err(Error::Sealed) } else { Ok(()) };
        if let Some(Ok(())) = attempt(process, shortage, expected, || process.vmar.unmap(range.clone())) {
            space.unmap(range);
        }
    }

    pub(super) fn protect(&mut self, who: usize, shortage: Shortage, range: Range<usize>, access: VmPerms) {
        let Running { process, space, .. } = &mut self.running[who];
        let mut after = space.clone();
        let expected = after.protect(range.clone(), access);
        let mut is_limited = false;
        let result = attempt(process, shortage, expected, || {
            let result = process.vmar.protect(range.clone(), access);
            is_limited = result == Err(Error::LimitExceeded(Limit::Data));
            result
        });
        self.take_handed(who);
        let Running { process, space, .. } = &mut self.running[who];
        let Some(_) = result else {
            if is_limited {
                // What lies before the mapping that would be too much data is changed.
                let guard = process.vmar.query(range.clone());
                let found: Vec<_> = guard.iter().map(|info| (info.range(), info.perms())).collect();
                drop(guard);
                let is_changed = |addr| {
                    found.iter().any(|(range, perms)| range.contains(&addr) && perms.access() == access)
                };
                let covered = addrs(range.clone()).take_while(|addr| is_changed(*addr));
                let end = covered.last().map_or(range.start, |last| last + PAGE_SIZE);
                let done = space.protect(range.start..end, access);
                assert_eq!(done, Ok(()), "what could not be changed is");
            }
            return;
        };
        // What is locked and can be written now has pages of its own at once, as far as there was memory.
        let own = own_pages(process);
        for (addr, page) in space.pages.range_mut(range.clone()) {
            let changed = Page { perms: after.pages[addr].perms, ..*page };
            let is_pinned = page.flags & MappingFlags::ANY_LOCK == MappingFlags::LOCKED;
            let becomes_writable =
                !page.perms.contains(VmPerms::WRITE) && changed.perms.contains(VmPerms::WRITE);
            *page = changed;
            if is_pinned && becomes_writable && page.private.is_none() && own.binary_search(addr).is_ok() {
                assert_eq!(page.touch(Access::Write, &self.objects), Ok(()), "{addr:#x}");
            }
        }
    }

    pub(super) fn remap(
        &mut self,
        who: usize,
        shortage: Shortage,
        old: Range<usize>,
        new_size: usize,
        to: Destination,
    ) {
        let Running { process, space, .. } = &mut self.running[who];
        let target = match to {
            Destination::InPlace => RemapTarget::InPlace,
            Destination::MayMove => RemapTarget::MayMove,
            Destination::Fixed(page) => RemapTarget::Fixed(addr_of(page)),
            Destination::DontUnmap => RemapTarget::DontUnmap(Placement::Anywhere),
        };
        let expected = space.expect_remap(&old, new_size, target, &ARENA);
        let result = attempt(process, shortage, expected, || {
            whatever_reason(process.vmar.remap(old.clone(), new_size, target), expected)
        });
        let mut pending = self.pending(who);
        let space = &mut self.running[who].space;
        if let Some(Ok(start)) = result {
            let keeps_old = matches!(target, RemapTarget::DontUnmap(_));
            if start == old.start && new_size <= old.len() {
                space.unmap(start + new_size..old.end);
            } else {
                let serve = &mut |addr, page: &mut _, objects: &mut [_]| pending.serve(addr, page, objects);
                space.remap(old, start..start + new_size, keeps_old, &mut self.objects, serve);
            }
        }
        pending.end();
    }

    pub(super) fn fork(&mut self, who: usize, shortage: Shortage, cpu: usize, policy: ForkPolicy) {
        if self.running.len() == MAX_PROCESSES {
            return;
        }
        let Running { process, space, servers } = &self.running[who];
        process.vmar.set_fork_policy(policy);
        servers.iter().for_each(|server| drop(server.take_heir()));
        let mut child = None;
        let result = attempt(process, shortage, Ok(()), || {
            child = Some(process.fork_on(cpu % CPUS)?);
            Ok(())
        });
        if let (Some(Ok(())), Some(process)) = (result, child) {
            let heir = servers[Who::Follows as usize].take_heir();
            let servers = [Server::new(Who::Stays), heir.unwrap_or_else(|| Server::new(Who::Follows))];
            let space = space.fork();
            self.running.push(Running { process, space, servers });
        }
    }

    pub(super) fn discard(&mut self, who: usize, range: Range<usize>, how: Discard) {
        let Running { process, space, .. } = &mut self.running[who];
        let expected = space.discard(range.clone(), how == Discard::NowEvenLocked, how != Discard::AnyTime);
        assert_eq!(process.vmar.discard(range, how), expected);
    }

    pub(super) fn zero(&mut self, who: usize, range: Range<usize>) {
        let result = self.running[who].process.vmar.zero(range.clone());
        self.take_handed(who);
        assert_eq!(result, self.running[who].space.zero(range, &mut self.objects));
    }

    pub(super) fn lock(&mut self, who: usize, shortage: Shortage, range: Range<usize>, mode: LockMode) {
        let Running { process, space, .. } = &mut self.running[who];
        let before = space.clone();
        let result = try_short(process, shortage, || process.vmar.lock(range.clone(), mode));
        let Some(result) = result else {
            // Lack of memory keeps mappings from being split, or their pages from being resident.
            self.settle_in_turn(who);
            let Running { process, space, .. } = &mut self.running[who];
            let mut after = before;
            let outcome = after.set_lock(range, mode.flags());
            if flags_differ(process, space) {
                assert_eq!(outcome, Ok(()), "a lock that ended early has run out of memory");
                for (addr, page) in &mut space.pages {
                    page.flags = after.pages[addr].flags;
                }
            }
            return;
        };
        let mut expected = self.running[who].space.set_lock(range.clone(), mode.flags());
        if expected.is_ok() && mode == LockMode::Now {
            expected = self.populate_model(who, range, ACCESS_AS_NEEDED);
        }
        assert_eq!(result, expected);
    }

    pub(super) fn lock_all(&mut self, who: usize, shortage: Shortage, mode: LockMode) {
        let Running { process, .. } = &self.running[who];
        let result = attempt(process, shortage, Ok(()), || process.vmar.lock_all(mode));
        if result.is_some() {
            self.running[who].space.set_lock_of_all(mode.flags());
        }
        if shortage != Shortage::None {
            // Which pages are there depends on how far the memory has reached.
            self.settle_in_turn(who);
        } else if mode == LockMode::Now && result.is_some() {
            let mut pending = self.pending(who);
            let space = &mut self.running[who].space;
            space.populate_all(&mut self.objects, &mut |addr, page, objects| {
                pending.serve(addr, page, objects)
            });
            pending.end();
        }
    }

    pub(super) fn unlock(&mut self, who: usize, shortage: Shortage, range: Range<usize>) {
        let Running { process, space, .. } = &mut self.running[who];
        let mut after = space.clone();
        let expected = after.set_lock(range.clone(), MappingFlags::empty());
        if attempt(process, shortage, expected, || process.vmar.unlock(range)).is_some() {
            *space = after;
        }
    }

    pub(super) fn advise(&mut self, who: usize, shortage: Shortage, range: Range<usize>, advice: Advice) {
        let Running { process, space, .. } = &mut self.running[who];
        let mut after = space.clone();
        let expected = after.advise(range.clone(), advice);
        if attempt(process, shortage, expected, || process.vmar.advise(range, advice)).is_some() {
            *space = after;
        }
    }

    pub(super) fn populate(&mut self, who: usize, shortage: Shortage, range: Range<usize>, how: Populate) {
        let Running { process, .. } = &self.running[who];
        let result = try_short(process, shortage, || process.vmar.populate(range.clone(), how));
        let Some(result) = result else {
            // Lack of memory leaves resident what was before it ran out.
            return self.settle_in_turn(who);
        };
        let access = match how {
            Populate::Read => Some(Access::Read),
            Populate::Write => Some(Access::Write),
            Populate::AsNeeded | Populate::Prefetch => ACCESS_AS_NEEDED,
        };
        assert_eq!(result, self.populate_model(who, range, access));
    }

    /// Makes pages of the model present, and fills each that was handed over when its turn comes.
    fn populate_model(
        &mut self,
        who: usize,
        range: Range<usize>,
        access: Option<Access>,
    ) -> Result<(), Error> {
        let mut pending = self.pending(who);
        let mut serve = |addr, page: &mut _, objects: &mut [_]| pending.serve(addr, page, objects);
        let result = self.running[who].space.populate(range, access, &mut self.objects, &mut serve);
        pending.end();
        result
    }

    pub(super) fn seal(&mut self, who: usize, shortage: Shortage, range: Range<usize>) {
        let Running { process, space, .. } = &mut self.running[who];
        let mut after = space.clone();
        let expected = after.seal(range.clone());
        if attempt(process, shortage, expected, || process.vmar.seal(range)).is_some() {
            *space = after;
        }
    }

    pub(super) fn label(&mut self, who: usize, shortage: Shortage, range: Range<usize>, label: u8) {
        let Running { process, space, .. } = &mut self.running[who];
        if attempt(process, shortage, Ok(()), || process.vmar.label(range.clone(), label)).is_some() {
            space.pages.range_mut(range).for_each(|(_, page)| page.label = label);
        }
    }
}
