// SPDX-License-Identifier: MPL-2.0

//! Advice about memory (Q16).
//!
//! Discarding is no advice but an order: the next read finds zeros, or the file. The host does it for whole pages that show the
//! mapping's source; parts of pages, and pages that a file was read into, are built anew.
//!
//! What a child is not to have is wiped by [`fork`](crate::GuestSpace::fork), in the child: so it can be part of a host page.

use std::ops::Range;

use vmar::{error, mapping::Sharing};

use crate::{
    error::Error,
    host::Host,
    mapping::{HostMemory, Mapping, OnFork, Source},
    observer::Change,
    realize::{Content, Finality},
    space::{Call, GuestSpace},
};

/// What is advised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// How the memory will be used, which makes no difference to what is read from it.
    Usage,
    /// Drop what was written (`MADV_DONTNEED`).
    Discard,
    /// What a child is to have (`MADV_WIPEONFORK`, `MADV_KEEPONFORK`).
    OnFork(OnFork),
}

impl<H: Host> GuestSpace<H> {
    /// Takes advice about `size` bytes (rounded up to guest pages) from `addr` on.
    ///
    /// # Errors
    ///
    /// As in Linux, advice is taken for what is mapped, and an error tells of holes afterwards ([`Error::Space`]). Advice that a
    /// mapping cannot take ends the call there: [`Advice::OnFork`] with [`OnFork::Wipe`] for what is not private and anonymous.
    /// Nothing is done for an address that is none of a page, or for addresses outside of the guest's range. [`Error::Host`].
    pub fn advise(&self, addr: usize, size: usize, advice: Advice) -> Result<(), Error> {
        self.enter()?.advise(addr, size, advice)
    }
}

impl<H: Host> Call<'_, H> {
    fn advise(&mut self, addr: usize, size: usize, advice: Advice) -> Result<(), Error> {
        let layout = self.layout();
        if !layout.is_guest_page(addr) {
            return Err(error::Error::InvalidAlignment.into());
        }
        let size = layout.guest_size(size).ok_or(error::Error::InvalidSize)?;
        let end = addr.checked_add(size).ok_or(error::Error::InvalidSize)?;
        if size == 0 {
            return Ok(());
        }
        // Beyond the guest's range there is a hole like any other.
        let inside =
            addr.clamp(layout.range.start, layout.range.end)..end.clamp(layout.range.start, layout.range.end);
        let pieces: Vec<_> = self.state.table.pieces(inside.clone()).collect();
        let mapped: usize = pieces.iter().map(|(part, _)| part.len()).sum();
        for (part, mapping) in pieces {
            match advice {
                Advice::Usage => {}
                Advice::Discard => self.discard(&part, &mapping)?,
                Advice::OnFork(on_fork) => {
                    let is_anonymous =
                        mapping.sharing == Sharing::Private && matches!(mapping.source, Source::Anonymous);
                    if on_fork == OnFork::Wipe && !is_anonymous {
                        return Err(error::Error::NotSupported.into());
                    }
                    self.state.table.try_reserve(1)?;
                    self.state.table.change(part, |mapping| mapping.on_fork = on_fork);
                }
            }
        }
        if mapped == size { Ok(()) } else { Err(error::Error::NotMapped.into()) }
    }

    /// Drops what was written to `part`, which lies in one mapping.
    pub fn discard(&mut self, part: &Range<usize>, mapping: &Mapping) -> Result<(), Error> {
        if mapping.sharing == Sharing::Shared {
            return Ok(());
        }
        let layout = self.layout();
        let is_direct = mapping.memory == HostMemory::PrivateFile || mapping.source.file().is_none();
        let whole = layout.up(part.start)..layout.down(part.end);
        let whole = if is_direct && whole.start < whole.end { whole } else { part.end..part.end };
        for edge in [part.start..whole.start, whole.end..part.end] {
            if !edge.is_empty() {
                let fresh = mapping.advanced(edge.start - part.start);
                self.attempt(|call, commit| {
                    let realized = call.realize(commit, &edge, &fresh, Content::Fresh, Finality::Final)?;
                    call.note(&edge, fresh, realized);
                    Ok(())
                })?;
            }
        }
        if !whole.is_empty() {
            self.host().discard(self.area(), layout.offsets(&whole))?;
        }
        self.tell(Change::Discarded(part.clone()));
        Ok(())
    }
}
