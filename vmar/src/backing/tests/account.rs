// SPDX-License-Identifier: MPL-2.0

//! The rules once more, in plain words: what `negotiate` is compared with.
//!
//! Everything is a word that is true or false here, and the rules are tables of such words, read from top to bottom.

use aster_rights::Rights;

use super::super::{
    Addressing, Capabilities, FileState, Method, Operations, Personality, Plan, Refusal, Region, Terms,
    Tracing,
};
use crate::{error::Error, mapping::Sharing, perms::VmPerms};

/// One access, with what each party says of it.
struct Wish {
    is_asked_for: bool,
    may_later: bool,
    handle_has_it: bool,
    ceiling_has_it: bool,
    object_has_it: bool,
    is_capable: bool,
}

impl Wish {
    fn of(terms: &Terms, access: VmPerms, right: Rights, capability: Capabilities) -> Self {
        Self {
            is_asked_for: terms.wanted.contains(access),
            may_later: terms.wanted.contains(access.to_may()),
            handle_has_it: terms.handle.contains(right),
            ceiling_has_it: terms.ceiling.contains(right),
            object_has_it: terms.object.contains(right),
            is_capable: match terms.backing {
                Some(backing) => backing.capabilities.contains(capability),
                None => true,
            },
        }
    }

    fn space_has_it(&self) -> bool {
        self.handle_has_it && self.ceiling_has_it && self.may_later
    }
}

/// Says what `negotiate` must answer.
pub(super) fn account(terms: &Terms) -> Result<Plan, Error> {
    let read = Wish::of(terms, VmPerms::READ, Rights::READ, Capabilities::READ_MAP);
    let write = Wish::of(terms, VmPerms::WRITE, Rights::WRITE, Capabilities::WRITE_MAP);
    let exec = Wish::of(terms, VmPerms::EXEC, Rights::EXEC, Capabilities::EXEC_MAP);
    let implies = terms.personality == Personality::ReadImpliesExec;

    let Some(backing) = terms.backing else {
        let may = [read.space_has_it(), write.space_has_it(), exec.space_has_it()];
        return answer(&[read, write, exec], may, Method::Zeros, Region::Own, implies);
    };
    let file = |word| backing.state.contains(word);
    let answers = |word| backing.operations.contains(word);
    let shared = terms.sharing == Sharing::Shared;
    let private = !shared;
    let translated = terms.addressing == Addressing::Translated;
    let traced = terms.tracing == Tracing::Traced;
    let open_for_reading = file(FileState::READABLE);
    let open_for_writing = file(FileState::WRITABLE);
    let sealed = file(FileState::SEALED);
    let no_exec = file(FileState::NO_EXEC);
    let has_place = backing.capabilities.contains(Capabilities::MAP_DIRECT) && answers(Operations::LOCATE);
    let can_be_copied = backing.capabilities.contains(Capabilities::MAP_COPY) && answers(Operations::READ);
    let beyond = |wish: &Wish| wish.is_asked_for && !wish.is_capable;

    let by_the_file = [
        (shared && write.is_asked_for && !open_for_writing, Refusal::NotWritable),
        (shared && open_for_writing && file(FileState::APPEND_ONLY), Refusal::AppendOnly),
        (shared && file(FileState::LOCKED), Refusal::Locked),
        (!open_for_reading, Refusal::NotReadable),
        (exec.is_asked_for && no_exec, Refusal::NoExec),
        (!answers(Operations::MAP), Refusal::NotMappable),
    ];
    let by_what_it_can_do = [
        (shared && !has_place, Refusal::NotDirect),
        (private && !can_be_copied, Refusal::NotCopyable),
        (shared && (beyond(&read) || beyond(&write) || beyond(&exec)), Refusal::BeyondCapabilities),
        (shared && write.is_asked_for && sealed, Refusal::Sealed),
    ];
    let first = |table: &[(bool, Refusal)]| table.iter().find(|(applies, _)| *applies).map(|(_, why)| *why);
    if let Some(why) = first(&by_the_file) {
        return Err(why.into());
    }
    if !read.object_has_it {
        return Err(Error::AccessDenied);
    }
    if let Some(why) = first(&by_what_it_can_do) {
        return Err(why.into());
    }

    let would_do = has_place && !beyond(&read) && !beyond(&exec);
    let stays_as_it_is = !write.is_asked_for && !traced;
    let method = match (shared, would_do, translated, stays_as_it_is) {
        (true, _, _, _) => Method::Direct,
        (false, false, _, _) => Method::CopyIn,
        (false, true, true, _) => Method::CopyOnWrite,
        (false, true, false, true) => Method::Direct,
        (false, true, false, false) => Method::CopyIn,
    };
    let region = match (shared, translated, stays_as_it_is) {
        (true, _, _) | (false, false, true) => Region::Shared,
        _ => Region::Own,
    };
    let shows_its_own = method != Method::CopyIn;
    let write_reaches = match (shared, region) {
        (true, _) => write.object_has_it && write.is_capable && open_for_writing && !sealed,
        (false, Region::Own) => true,
        (false, Region::Shared) => false,
    };
    let may = [
        read.space_has_it() && (read.is_capable || !shows_its_own),
        write.space_has_it() && write_reaches,
        exec.space_has_it() && exec.object_has_it && (exec.is_capable || !shows_its_own) && !no_exec,
    ];
    let implies = implies && exec.is_capable;
    answer(&[read, write, exec], may, method, region, implies)
}

/// Puts the answer together, or refuses if something is asked for that may not be.
fn answer(
    wishes: &[Wish; 3],
    may: [bool; 3],
    method: Method,
    region: Region,
    implies_exec: bool,
) -> Result<Plan, Error> {
    let [read, write, exec] = wishes;
    let [may_read, may_write, may_exec] = may;
    let refused = [(read, may_read), (write, may_write), (exec, may_exec)];
    if refused.iter().any(|(wish, may)| wish.is_asked_for && !may) {
        return Err(Error::AccessDenied);
    }
    let executes = exec.is_asked_for || (implies_exec && read.is_asked_for && may_exec);
    let mut perms = VmPerms::empty();
    perms.set(VmPerms::READ, read.is_asked_for);
    perms.set(VmPerms::WRITE, write.is_asked_for);
    perms.set(VmPerms::EXEC, executes);
    perms.set(VmPerms::MAY_READ, may_read);
    perms.set(VmPerms::MAY_WRITE, may_write);
    perms.set(VmPerms::MAY_EXEC, may_exec);
    Ok(Plan { method, perms, region })
}
