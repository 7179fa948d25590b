// SPDX-License-Identifier: MPL-2.0

//! The decision itself.
//!
//! ```text
//!               shared                    private
//!   ──────────  ────────────────────────  ─────────────────────────────────────────────────────────────────────
//!   translated  direct                    copy on write where a direct mapping would do, else a copy
//!   flat        direct                    direct where that would do, nothing is written and no debugger writes;
//!                                         else a copy
//! ```
//!
//! What the mapping may ever do:
//!
//! ```text
//!                    reading            executing                    writing, shared          writing, private
//!   handle           READ               EXEC                         WRITE                    WRITE
//!   ceiling          READ               EXEC                         WRITE                    WRITE
//!   object           READ               READ and EXEC                READ and WRITE           READ (a copy is written)
//!   file             open for reading   on a mount that allows it    open for writing, no     nothing
//!                                                                    seal, no attribute
//!   capabilities     READ_MAP if shown  EXEC_MAP if shown            WRITE_MAP                nothing
//! ```
//!
//! The order of refusals is Linux's where Linux has one (`mmap(2)` and `do_mmap` in version 6.12): how the file was opened,
//! the mount, the kind of file, its capabilities, seals. The rights of capabilities, which Linux does not know, come last.

use aster_rights::Rights;

use super::{
    Addressing, Backing, Capabilities, FileState, Method, Operations, Personality, Plan, Refusal, Region,
    Terms, Tracing,
};
use crate::{error::Error, mapping::Sharing, perms::VmPerms};

/// Decides how a mapping is made, what it allows, and what it may ever allow.
///
/// # Errors
///
/// - [`Error::Refused`] if the backing does not go along.
/// - [`Error::AccessDenied`] if a capability lacks a right: the one to the object READ, without which nothing of it can be
///   mapped, or any of them what is asked for.
#[inline]
pub fn negotiate(terms: &Terms) -> Result<Plan, Error> {
    match &terms.backing {
        None => grant(terms, Method::Zeros, Region::Own, Rights::all(), Capabilities::all()),
        Some(backing) => negotiate_backed(terms, backing),
    }
}

/// Decides again after a backing that said it could be mapped directly has declined to.
///
/// # Errors
///
/// As for [`negotiate`]: a shared mapping is refused, and so is a private one of what cannot be copied.
pub fn negotiate_declined(terms: &Terms) -> Result<Plan, Error> {
    let mut terms = *terms;
    if let Some(backing) = &mut terms.backing {
        backing.operations -= Operations::LOCATE;
    }
    negotiate(&terms)
}

/// Returns what is left of a mapping's permissions when the capability to its object, or its backing, loses `lost`: what would
/// have been given without them.
pub fn withdraw(perms: VmPerms, sharing: Sharing, lost: Rights) -> VmPerms {
    let mut gone = VmPerms::empty();
    if lost.contains(Rights::READ) {
        gone = VmPerms::all();
    }
    if lost.contains(Rights::WRITE) && sharing == Sharing::Shared {
        gone |= VmPerms::WRITE | VmPerms::MAY_WRITE;
    }
    if lost.contains(Rights::EXEC) {
        gone |= VmPerms::EXEC | VmPerms::MAY_EXEC;
    }
    perms - gone
}

fn negotiate_backed(terms: &Terms, backing: &Backing) -> Result<Plan, Error> {
    admit(terms, backing)?;
    if !terms.object.contains(Rights::READ) {
        return Err(Error::AccessDenied);
    }
    let capabilities = backing.effective();
    let method = choose(terms, backing.state, capabilities)?;
    let is_private = terms.sharing == Sharing::Private;
    // What is written is nobody else's, nor is what a debugger may write.
    let can_share = !terms.wanted.contains(VmPerms::WRITE) && terms.tracing == Tracing::Untraced;
    let region = match (is_private, terms.addressing) {
        (false, _) => Region::Shared,
        (true, Addressing::Flat) if can_share => Region::Shared,
        (true, _) => Region::Own,
    };
    let mut behind = match method {
        Method::Direct | Method::CopyOnWrite => terms.object & capabilities.direct_rights(),
        Method::CopyIn | Method::Zeros => terms.object,
    };
    match region {
        // A copy is written.
        Region::Own => behind |= Rights::WRITE,
        // Nobody writes to what is not seen as shared.
        Region::Shared if is_private => behind -= Rights::WRITE,
        Region::Shared if !may_write_file(backing.state) => behind -= Rights::WRITE,
        Region::Shared => {}
    }
    if backing.state.contains(FileState::NO_EXEC) {
        behind -= Rights::EXEC;
    }
    grant(terms, method, region, behind, capabilities)
}

/// Checks what does not depend on the way of mapping.
fn admit(terms: &Terms, backing: &Backing) -> Result<(), Refusal> {
    let state = backing.state;
    if terms.sharing == Sharing::Shared {
        let is_writable = state.contains(FileState::WRITABLE);
        if terms.wanted.contains(VmPerms::WRITE) && !is_writable {
            return Err(Refusal::NotWritable);
        }
        if is_writable && state.contains(FileState::APPEND_ONLY) {
            return Err(Refusal::AppendOnly);
        }
        if state.contains(FileState::LOCKED) {
            return Err(Refusal::Locked);
        }
    }
    if !state.contains(FileState::READABLE) {
        return Err(Refusal::NotReadable);
    }
    if terms.wanted.contains(VmPerms::EXEC) && state.contains(FileState::NO_EXEC) {
        return Err(Refusal::NoExec);
    }
    if !backing.operations.contains(Operations::MAP) {
        return Err(Refusal::NotMappable);
    }
    Ok(())
}

/// Chooses the way of mapping.
fn choose(terms: &Terms, state: FileState, capabilities: Capabilities) -> Result<Method, Refusal> {
    let wanted = terms.wanted;
    let is_direct = capabilities.contains(Capabilities::MAP_DIRECT);
    let lacks = |access, capability| wanted.contains(access) && !capabilities.contains(capability);
    let shows_too_little =
        lacks(VmPerms::READ, Capabilities::READ_MAP) || lacks(VmPerms::EXEC, Capabilities::EXEC_MAP);
    if terms.sharing == Sharing::Shared {
        return if !is_direct {
            Err(Refusal::NotDirect)
        } else if shows_too_little || lacks(VmPerms::WRITE, Capabilities::WRITE_MAP) {
            Err(Refusal::BeyondCapabilities)
        } else if wanted.contains(VmPerms::WRITE) && state.contains(FileState::SEALED) {
            Err(Refusal::Sealed)
        } else {
            Ok(Method::Direct)
        };
    }
    if !capabilities.contains(Capabilities::MAP_COPY) {
        return Err(Refusal::NotCopyable);
    }
    let is_changed = wanted.contains(VmPerms::WRITE) || terms.tracing == Tracing::Traced;
    Ok(match terms.addressing {
        _ if !is_direct || shows_too_little => Method::CopyIn,
        Addressing::Translated => Method::CopyOnWrite,
        Addressing::Flat if is_changed => Method::CopyIn,
        Addressing::Flat => Method::Direct,
    })
}

/// Whether a shared mapping may ever write to the file.
fn may_write_file(state: FileState) -> bool {
    state.contains(FileState::WRITABLE) && !state.contains(FileState::SEALED)
}

/// Brings what is `behind` the mapping together with the rights of those who ask for it.
#[inline]
fn grant(
    terms: &Terms,
    method: Method,
    region: Region,
    behind: Rights,
    capabilities: Capabilities,
) -> Result<Plan, Error> {
    let allowed = terms.handle & terms.ceiling & behind;
    let mut may = VmPerms::empty();
    may.set(VmPerms::MAY_READ, allowed.contains(Rights::READ));
    may.set(VmPerms::MAY_WRITE, allowed.contains(Rights::WRITE));
    may.set(VmPerms::MAY_EXEC, allowed.contains(Rights::EXEC));
    may &= terms.wanted;
    let mut access = terms.wanted.access();
    if !may.contains(access.to_may()) {
        return Err(Error::AccessDenied);
    }
    let implies_exec = terms.personality == Personality::ReadImpliesExec
        && access.contains(VmPerms::READ)
        && capabilities.contains(Capabilities::EXEC_MAP);
    if implies_exec && may.contains(VmPerms::MAY_EXEC) {
        access |= VmPerms::EXEC;
    }
    Ok(Plan { method, perms: access | may, region })
}
