// SPDX-License-Identifier: MPL-2.0

//! What programs do with their memory, and others with it from outside.

use vmar::{
    error::Error,
    vmar::fault::{Access, FaultError},
};

use super::{CPUS, Running, World, try_short};
use crate::{naive::WORDS, operation::Shortage};

impl World {
    pub(super) fn access(
        &mut self,
        who: usize,
        shortage: Shortage,
        (addr, which): (usize, usize),
        access: Access,
        cpu: usize,
    ) {
        let value = self.word();
        let at = addr + WORDS[which];
        let expected_hand = self.expect_handed(who, addr, access);
        let Running { process, .. } = &self.running[who];
        let thread = process.thread_on(cpu % CPUS);
        let short = shortage.begin(&self.sim);
        let result = match access {
            Access::Read => thread.read(at, 8).map(|bytes| bytes.try_into().map_or(0, u64::from_le_bytes)),
            Access::Exec => thread.fetch_byte(at).map(u64::from),
            Access::Write => thread.write(at, &value.to_le_bytes()).map(|()| 0),
        };
        let is_short = short.may_have_failed();
        drop(short);
        let handed = self.take_handed(who);
        if is_short && result == Err(FaultError::OutOfMemory) {
            return;
        }
        assert_eq!(handed.first().copied(), expected_hand, "{at:#x}: what is handed over");
        // What an object was given and could not be shown is handed over again.
        assert!(handed.len() <= 1 || is_short, "{at:#x} is handed over twice: {handed:?}");
        let space = &mut self.running[who].space;
        let expected = match space.pages.get_mut(&addr) {
            None => Err(FaultError::NotMapped),
            Some(page) => page.touch(access, &self.objects).map(|()| page),
        };
        let expected = expected.map(|page| {
            let seen = page.content(&self.objects).unwrap_or_default()[which];
            match access {
                Access::Read => seen,
                Access::Exec => seen & 0xff,
                Access::Write => {
                    page.set_word(&mut self.objects, which, value);
                    0
                }
            }
        });
        assert_eq!(result, expected, "{access:?} at {at:#x}");
    }

    pub(super) fn access_from_outside(
        &mut self,
        who: usize,
        shortage: Shortage,
        (addr, which): (usize, usize),
        is_write: bool,
        is_forced: bool,
    ) {
        let value = self.word();
        let at = addr + WORDS[which];
        let Running { process, .. } = &self.running[who];
        let mut bytes = [0; 8];
        let result = try_short(process, shortage, || match (is_write, is_forced) {
            (false, false) => process.vmar.read_bytes(at, &mut bytes),
            (false, true) => process.vmar.read_bytes_forced(at, &mut bytes),
            (true, false) => process.vmar.write_bytes(at, &value.to_le_bytes()),
            (true, true) => process.vmar.write_bytes_forced(at, &value.to_le_bytes()),
        });
        self.take_handed(who);
        let Some(result) = result else { return };
        let space = &mut self.running[who].space;
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
        assert_eq!(result, expected.as_ref().map(|_| 8).map_err(|error| *error), "{access:?} at {at:#x}");
        if let Ok((page, seen)) = expected {
            if is_write {
                page.set_word(&mut self.objects, which, value);
            } else {
                assert_eq!(u64::from_le_bytes(bytes), seen, "{at:#x}");
            }
        }
    }
}
