// SPDX-License-Identifier: MPL-2.0

//! Random calls where page sizes differ, against a naive model that knows guest pages and their bytes and nothing of a host.
//!
//! What may be refused for the host's sake is bounded: only what shares writes, or stands in one host page with something that
//! does. Some of the calls are made with each of their host calls, or of the table's allocations, refused in turn, which has to change
//! nothing.

mod naive;

use std::{cell::RefCell, collections::BTreeMap, ops::Range, os::fd::OwnedFd, rc::Rc, sync::Arc};

use vmar::fallible::inject::fail_nth;
use vmar_hosted::{
    Advice, Error, GuestSpace, MapOptions, OldRange, PageSize, Placement, RemapTarget, Sharing, VmPerms,
    host::Errno,
};

use self::naive::{Bytes, Model, Origin, Page};
use crate::support::{Picky, R, RW, SIZES, W, X, audit, file_of, pattern, random, snapshot, space_of, steps};

struct Test {
    space: GuestSpace<Picky>,
    model: Model,
    rng: fastrand::Rng,
    granule: usize,
    /// A file that is only read, and one that is shared.
    read: (Arc<OwnedFd>, Vec<u8>),
    shared: (Arc<OwnedFd>, Rc<RefCell<Vec<u8>>>),
    nameless: usize,
    refuses: bool,
    refused: usize,
    failed: usize,
}

const UNITS: usize = 10;

impl Test {
    fn new(sizes: (PageSize, PageSize), rng: fastrand::Rng, refuses: bool) -> Self {
        let space = space_of(sizes, UNITS);
        let content = pattern(space.range().len() * 2);
        let shared: Vec<u8> = content.iter().map(|byte| byte.wrapping_mul(31)).collect();
        Self {
            model: Model { page: space.page_size(), pages: BTreeMap::new() },
            granule: space.granule(),
            rng,
            read: (file_of(&content).1, content),
            shared: (file_of(&shared).0, Rc::new(RefCell::new(shared))),
            nameless: 2,
            refuses,
            refused: 0,
            failed: 0,
            space,
        }
    }

    fn range(&mut self) -> Range<usize> {
        let page = self.model.page;
        let all = self.space.range();
        let count = all.len() / page;
        let start = self.rng.usize(0..count);
        let per_host = (self.granule / page).max(1);
        let most = (count - start).min([1, 2, per_host, 3 * per_host][self.rng.usize(0..4)]);
        let len = self.rng.usize(1..=most);
        let mut start = all.start + start * page;
        if self.rng.u8(..) < 80 {
            start = start / self.granule.max(page) * self.granule.max(page);
        }
        start..(start + len * page).min(all.end)
    }

    fn perms(&mut self) -> VmPerms {
        [VmPerms::empty(), R, R, RW, RW, RW, RW, X, R | X, RW | X, W][self.rng.usize(0..11)]
    }

    /// Makes a call, at times with each of its host calls or allocations refused first.
    fn call<T: PartialEq + std::fmt::Debug>(
        &mut self,
        call: impl Fn(&GuestSpace<Picky>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if !self.refuses {
            return call(&self.space);
        }
        let before = snapshot(&self.space);
        let memory_runs_out = self.rng.bool();
        for nth in 0.. {
            let (result, has_failed, expected) = if memory_runs_out {
                let failing = fail_nth(nth);
                let result = call(&self.space);
                (result, failing.has_failed(), Error::Space(vmar::error::Error::OutOfMemory))
            } else {
                self.space.host().refuse_after(nth);
                let result = call(&self.space);
                (result, self.space.host().refuse_none() > nth, Error::Host(Errno::NOMEM))
            };
            if !has_failed {
                return result;
            }
            assert_eq!(result, Err(expected), "with call or allocation {nth} refused");
            let after = snapshot(&self.space);
            for (one, two) in before.iter().zip(&after) {
                assert_eq!(one.0, two.0, "number {nth} was refused, and something changed");
                assert!(one.1 == two.1, "number {nth} was refused, and bytes of {} changed", one.0);
            }
            assert_eq!(before.len(), after.len());
            audit(&self.space);
            self.failed += 1;
        }
        unreachable!("a call ends")
    }

    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..25 => self.map(),
            25..37 => self.unmap(),
            37..52 => self.protect(),
            52..67 => self.remap(),
            67..75 => self.discard(),
            _ => self.write(),
        }
    }

    fn map(&mut self) {
        let (range, mut perms) = (self.range(), self.perms());
        let page = self.model.page;
        let kind = self.rng.u8(0..10);
        let mut offset = self.rng.usize(0..UNITS) * page;
        if self.rng.bool() {
            // Where it lies in a host page as the address does.
            offset = offset / self.granule * self.granule + range.start % self.granule;
        }
        let mut options = MapOptions::new(range.len());
        let (mut sharing, mut may_write) = (Sharing::Private, true);
        match kind {
            0..5 => {}
            5 | 6 => options = options.file(self.read.0.clone(), offset as u64),
            7 => {
                options = options.file(self.read.0.clone(), offset as u64).shared();
                perms -= W;
                (sharing, may_write) = (Sharing::Shared, false);
            }
            8 => {
                options = options.file(self.shared.0.clone(), offset as u64).shared();
                perms |= W;
                sharing = Sharing::Shared;
            }
            _ => {
                options = options.shared();
                sharing = Sharing::Shared;
            }
        }
        let placement = match self.rng.u8(0..8) {
            0 => Placement::Anywhere,
            1 => Placement::Hint(range.start),
            2 | 3 => Placement::Exactly(range.start),
            _ => Placement::Replacing(range.start),
        };
        let options = options.prot(perms).placement(placement);
        let result = self.call(|space| space.map(&options));
        let start = match result {
            Ok(start) => start,
            Err(Error::SharedHostPage | Error::OffsetOffHostPage) => {
                let writes = sharing == Sharing::Shared && (perms.contains(W) || kind == 9);
                assert!(writes || self.model.is_tied(&range, self.granule), "refused {options:?}");
                self.refused += 1;
                return;
            }
            Err(error) => {
                let occupied = matches!(placement, Placement::Exactly(_)) && !self.model.is_free(&range);
                let no_room = matches!(placement, Placement::Anywhere | Placement::Hint(_));
                let expected =
                    if occupied { vmar::error::Error::Occupied } else { vmar::error::Error::NoRoom };
                assert!(occupied || no_room);
                assert_eq!(error, Error::Space(expected));
                return;
            }
        };
        let target = start..start + range.len();
        match placement {
            Placement::Replacing(_) => assert_eq!(start, range.start),
            Placement::Hint(hint) if self.model.is_free(&range) && sharing == Sharing::Private => {
                assert_eq!(start, hint);
            }
            _ => assert!(self.model.is_free(&target), "{target:x?} was in use"),
        }
        // It has whole host pages.
        let lead = target.start % self.granule;
        let size = (lead + target.len()).next_multiple_of(self.granule);
        let nameless = Rc::new(RefCell::new(vec![0; size]));
        self.nameless += 1;
        for addr in self.model.each(&target) {
            let at = offset + addr - start;
            let own = |bytes: Vec<u8>| Bytes::Own(bytes.clone(), bytes);
            let bytes = match kind {
                0..5 => own(vec![0; page]),
                5..8 => own(self.read.1[at..at + page].to_vec()),
                8 => Bytes::Shared(self.shared.1.clone(), at),
                _ => Bytes::Shared(nameless.clone(), lead + addr - start),
            };
            let origin = match kind {
                0..5 => Origin::Zeros,
                5..8 => Origin::File(0, at as isize),
                8 => Origin::File(1, at as isize),
                _ => Origin::File(self.nameless, (lead + addr - start) as isize),
            };
            self.model.pages.insert(addr, Page { perms, may_write, sharing, origin, bytes });
        }
    }

    fn unmap(&mut self) {
        let range = self.range();
        assert_eq!(self.call(|space| space.unmap(range.start, range.len())), Ok(()));
        self.model.remove(&range);
    }

    fn protect(&mut self) {
        let (range, perms) = (self.range(), self.perms());
        let mut expected = Ok(());
        let mut done = Vec::new();
        for addr in self.model.each(&range) {
            match self.model.pages.get(&addr) {
                None => expected = Err(Error::Space(vmar::error::Error::NotMapped)),
                Some(page) if perms.contains(W) && !page.may_write => {
                    expected = Err(Error::Space(vmar::error::Error::AccessDenied));
                }
                Some(_) => done.push(addr),
            }
            if expected.is_err() {
                break;
            }
        }
        // What is done in part cannot be tried again from the start.
        let refuses = self.refuses;
        self.refuses &= expected.is_ok();
        assert_eq!(self.call(|space| space.protect(range.start, range.len(), perms)), expected);
        self.refuses = refuses;
        for addr in done {
            self.model.pages.get_mut(&addr).unwrap().perms = perms;
        }
    }

    fn remap(&mut self) {
        let from = self.range();
        let new = if self.rng.bool() { from.len() } else { self.range().len() };
        let target = match self.rng.u8(0..5) {
            0 => RemapTarget::InPlace,
            1 | 2 => RemapTarget::MayMove,
            _ => {
                let start = self.range().start;
                if start + new > self.space.range().end {
                    return;
                }
                RemapTarget::Fixed(start)
            }
        };
        let kept = new == from.len() && target != RemapTarget::InPlace && self.rng.u8(..) < 60;
        let old = if kept { OldRange::Kept } else { OldRange::Unmapped };
        let moving = from.start..from.start + from.len().min(new);
        let result = self.call(|space| space.remap(from.start, from.len(), new, target, old));

        let starts = self.model.pages.contains_key(&from.start);
        let overlaps = matches!(target, RemapTarget::Fixed(to) if to < from.end && from.start < to + new);
        let fixed = matches!(target, RemapTarget::Fixed(_));
        if overlaps {
            return assert_eq!(result, Err(Error::Space(vmar::error::Error::InvalidOptions)));
        }
        if !starts {
            return assert_eq!(result, Err(Error::Space(vmar::error::Error::NotMapped)));
        }
        if !fixed && !kept && new <= from.len() {
            assert_eq!(result, Ok(from.start));
            self.model.remove(&(from.start + new..from.end));
            return;
        }
        if !self.model.is_one_mapping(&moving) {
            return assert_eq!(result, Err(Error::NotOneMapping));
        }
        let first = self.model.pages[&from.start].clone();
        let growth = moving.end..from.start + new;
        let can_grow = growth.end <= self.space.range().end && self.model.is_free(&growth);
        let start = match result {
            Ok(start) => start,
            Err(Error::SharedHostPage | Error::OffsetOffHostPage) => {
                let to = match target {
                    RemapTarget::Fixed(to) => to..to + new,
                    _ => from.start..from.start + new,
                };
                // A mapping that is kept cannot share a host page with what was made of it.
                let meets = kept
                    && to.start / self.granule <= from.end / self.granule
                    && from.start / self.granule <= to.end / self.granule;
                let tied = self.model.is_tied(&to, self.granule) || self.model.is_tied(&from, self.granule);
                assert!(tied || meets, "refused {from:x?} to {to:x?}");
                self.refused += 1;
                return;
            }
            Err(error) => {
                assert_eq!(error, Error::Space(vmar::error::Error::NoRoom));
                assert!(!fixed);
                let tied = self.model.is_tied(&(from.start..growth.end), self.granule);
                assert!(!can_grow || first.sharing == Sharing::Shared || kept || growth.is_empty() || tied);
                return;
            }
        };
        let to = start..start + new;
        match target {
            RemapTarget::Fixed(fixed) => assert_eq!(start, fixed),
            _ if start == from.start => assert!(can_grow),
            _ => {
                assert!(target == RemapTarget::MayMove && self.model.is_free(&to));
                let tied = self.model.is_tied(&(from.start..growth.end), self.granule);
                assert!(kept || !can_grow || first.sharing == Sharing::Shared || tied);
            }
        }
        let moved: Vec<Page> = self.model.each(&moving).map(|addr| self.model.pages[&addr].clone()).collect();
        if start != from.start && !kept {
            self.model.remove(&from);
        }
        if kept {
            for addr in self.model.each(&moving) {
                if let Bytes::Own(bytes, fresh) = &mut self.model.pages.get_mut(&addr).unwrap().bytes {
                    bytes.clone_from(fresh);
                }
            }
        }
        for (at, addr) in self.model.each(&to).enumerate() {
            let page = moved.get(at).cloned().unwrap_or_else(|| self.grown(&first, at * self.model.page));
            self.model.pages.insert(addr, page);
        }
    }

    /// A page that is `distance` behind `first`, the first of its mapping.
    fn grown(&self, first: &Page, distance: usize) -> Page {
        let page = self.model.page;
        let mut grown = first.clone();
        if let Origin::File(file, offset) = first.origin {
            let at = offset as usize + distance;
            grown.origin = Origin::File(file, at as isize);
            if let Bytes::Own(..) = first.bytes {
                let bytes = self.read.1[at..at + page].to_vec();
                grown.bytes = Bytes::Own(bytes.clone(), bytes);
            }
        } else {
            grown.bytes = Bytes::Own(vec![0; page], vec![0; page]);
        }
        if let Bytes::Shared(_, at) = &mut grown.bytes {
            *at += distance;
        }
        grown
    }

    fn discard(&mut self) {
        let range = self.range();
        let whole = self.model.each(&range).all(|addr| self.model.pages.contains_key(&addr));
        let result = self.space.advise(range.start, range.len(), Advice::Discard);
        if result == Err(Error::SharedHostPage) {
            assert!(self.model.is_tied(&range, self.granule));
            // What comes before it has been discarded, and cannot be told from here.
            let end = range.end;
            self.space.unmap(range.start, end - range.start).unwrap();
            self.model.remove(&range);
            self.refused += 1;
            return;
        }
        let hole = Err(Error::Space(vmar::error::Error::NotMapped));
        assert_eq!(result, if whole { Ok(()) } else { hole });
        for addr in self.model.each(&range) {
            if let Some(Page { bytes: Bytes::Own(bytes, fresh), .. }) = self.model.pages.get_mut(&addr) {
                bytes.clone_from(fresh);
            }
        }
    }

    fn write(&mut self) {
        let range = self.range();
        let page = self.model.page;
        let addr = range.start + self.rng.usize(0..page);
        let bytes: Vec<u8> =
            (0..self.rng.usize(1..range.len().min(3 * page))).map(|_| self.rng.u8(..)).collect();
        let bytes = &bytes[..bytes.len().min(self.space.range().end - addr)];
        let mut count = 0;
        for &byte in bytes {
            let at = addr + count;
            // Behind the end of a nameless file there is no memory.
            match self.model.pages.get_mut(&(at / page * page)) {
                Some(found) if found.perms.contains(W) => match &mut found.bytes {
                    Bytes::Own(own, _) => own[at % page] = byte,
                    Bytes::Shared(file, offset) => match file.borrow_mut().get_mut(*offset + at % page) {
                        Some(old) => *old = byte,
                        None => break,
                    },
                },
                _ => break,
            }
            count += 1;
        }
        let written = self.space.write(addr, bytes).unwrap_or(0);
        assert_eq!(written, count, "write {addr:#x} {}", bytes.len());
    }

    fn compare(&self) {
        let page = self.model.page;
        let mut perms = BTreeMap::new();
        for info in self.space.query(self.space.range()) {
            for addr in info.range.step_by(page) {
                perms.insert(addr, (info.prot.perms, info.sharing));
            }
        }
        let expected = self.model.pages.iter().map(|(&addr, page)| (addr, (page.perms, page.sharing)));
        assert_eq!(perms, expected.collect::<BTreeMap<_, _>>());
        let usage = self.space.usage();
        let is_data = |found: &&Page| found.sharing == Sharing::Private && found.perms.contains(W);
        assert_eq!(usage.address_space, self.model.pages.len() * page);
        assert_eq!(usage.data, self.model.pages.values().filter(is_data).count() * page);
        let mut buf = vec![0; page];
        for (&addr, found) in &self.model.pages {
            let count = self.space.read(addr, &mut buf).unwrap_or(0);
            if !found.perms.contains(R) {
                assert_eq!(count, 0, "page {addr:#x} can be read");
                continue;
            }
            match &found.bytes {
                Bytes::Own(bytes, _) => {
                    assert_eq!(count, page, "page {addr:#x} cannot be read");
                    assert!(buf == *bytes, "page {addr:#x} has other bytes");
                }
                Bytes::Shared(file, offset) => {
                    let file = file.borrow();
                    let rest = file.get(*offset..).unwrap_or(&[]);
                    let known = rest.len().min(page);
                    assert_eq!(count, known, "page {addr:#x} cannot be read");
                    assert!(buf[..known] == rest[..known], "page {addr:#x} has other bytes");
                }
            }
        }
    }
}

fn run(name: &str, sizes: &[(PageSize, PageSize)], steps: usize, refuses: bool) {
    for &sizes in sizes {
        let (rng, _seed) = random(name);
        let mut test = Test::new(sizes, rng, false);
        for step in 0..steps {
            test.refuses = refuses && step % 8 == 0;
            test.step();
            if step % 8 == 0 {
                test.compare();
                audit(&test.space);
            }
        }
        test.compare();
        audit(&test.space);
        eprintln!(
            "{sizes:?}: {} refused for the host's sake, {} calls and allocations failed",
            test.refused, test.failed
        );
        assert!(test.refused * 4 < steps);
        assert_eq!(refuses, test.failed > 0);
    }
}

#[test]
fn q4_q9_random_calls_with_smaller_guest_pages_keep_every_byte() {
    let smaller: Vec<_> = SIZES.into_iter().filter(|(guest, host)| guest < host).collect();
    run("smaller", &smaller, steps(5000), false);
}

#[test]
fn q7_random_calls_with_larger_and_equal_guest_pages_keep_every_byte() {
    let larger: Vec<_> = SIZES.into_iter().filter(|(guest, host)| guest >= host).collect();
    run("larger", &larger, steps(5000), false);
}

#[test]
fn q18_random_calls_with_every_host_call_refused_in_turn_change_nothing() {
    run("refused", &SIZES, steps(2500), true);
}
