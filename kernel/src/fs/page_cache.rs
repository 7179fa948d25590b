// SPDX-License-Identifier: MPL-2.0

//! The contents of a regular file: pages in a memory object of the VMAR framework.
//!
//! Reading, writing and mapping a file work on the same pages, so they see one truth. Bytes move straight between user
//! memory and the frames. A page that was never written does not exist and reads as zeros.
//!
//! ```text
//!   read, write ──► PageCache ──► Vmo ◄── mappings, faults
//!                      └─► Quota (pages a file system may have)
//! ```
//!
//! The size of the file is kept here and published after the bytes that make it valid; the object's own size, which says
//! where a mapping meets its end, is never smaller. Writers are serialised by the caller (`InodeExt::io`). No lock is
//! held while bytes move, so a fault on the user's side may use the very same object.

use aster_rights::{FullRights, TRightSet};
use ostd::mm::io::util::HasVmReaderWriter;
use vmar::{
    error::Error as VmarError,
    object::{Vmo, VmoKind},
};
use vmar_ostd::{Ostd, OstdFrame};

use super::{
    inode::Allocate,
    io::{Sink, Source},
    quota::{Ledger, Quota},
    set_aside::SetAside,
    types::{MAX_FILE_SIZE, Whence},
};
use crate::{
    mm::{cache::Archived, commit, shared_policy::SharedPolicies},
    prelude::*,
};

/// A capability to the contents of a file, as mappings take it.
pub type FileVmo = Vmo<Ostd>;

/// The contents of one file.
pub struct PageCache {
    vmo: Vmo<Ostd, TRightSet<FullRights>>,
    size: AtomicU64,
    ledger: Arc<Ledger>,
    set_aside: SetAside,
    /// Where it can be read again, if it can or could once.
    archived: Option<Arc<Archived>>,
    policies: SharedPolicies,
}

/// What a page has.
enum Content {
    Page(OstdFrame),
    Bytes(&'static [u8]),
    Zeros,
}

fn errno(error: VmarError) -> Errno {
    match error {
        VmarError::OutOfMemory => ENOMEM,
        VmarError::NoSpace => ENOSPC,
        _ => EIO,
    }
}

/// The part of one page that a range of bytes touches.
struct Piece {
    index: usize,
    start: usize,
    len: usize,
}

fn piece(pos: u64, end: u64) -> Piece {
    let start = (pos % PAGE_SIZE as u64) as usize;
    let len = (PAGE_SIZE - start).min((end - pos).min(PAGE_SIZE as u64) as usize);
    Piece { index: (pos / PAGE_SIZE as u64) as usize, start, len }
}

impl PageCache {
    /// Contents of no bytes, counted by `quota`.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn new(kind: VmoKind, quota: Arc<Quota>) -> Result<Self> {
        let ledger = Arc::new(Ledger::new(quota));
        let vmo = Vmo::new(&Ostd, 0, kind).and_then(|vmo| vmo.counted_by(ledger.clone())).map_err(errno)?;
        Ok(Self::around(vmo, 0, ledger, None))
    }

    /// Contents that are in an archive, counted by `quota` once they can be written.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn of_archive(data: &'static [u8], quota: Arc<Quota>) -> Result<Self> {
        let ledger = Arc::new(Ledger::idle(quota));
        let archived = Archived::new(data, ledger.clone())?;
        Ok(Self::around(archived.vmo().dup(), data.len() as u64, ledger, Some(archived)))
    }

    fn around(
        vmo: Vmo<Ostd, TRightSet<FullRights>>,
        size: u64,
        ledger: Arc<Ledger>,
        archived: Option<Arc<Archived>>,
    ) -> Self {
        Self {
            vmo,
            size: AtomicU64::new(size),
            ledger,
            set_aside: SetAside::default(),
            archived,
            policies: SharedPolicies::default(),
        }
    }

    /// The memory policies of its pages.
    pub fn policies(&self) -> &SharedPolicies {
        &self.policies
    }

    /// Where it can be read again.
    fn archived(&self) -> Option<&Archived> {
        self.archived.as_deref().filter(|archived| archived.is_intact())
    }

    /// Makes it contents that can be written; what could be read again no longer can.
    ///
    /// # Errors
    ///
    /// ENOMEM; nothing has changed then.
    pub fn prepare_write(&self) -> Result<()> {
        if let Some(archived) = self.archived() {
            archived.detach(|pages| self.ledger.begin(pages))?;
        }
        Ok(())
    }

    /// The space that it takes, in pages: whether they are in memory makes no difference.
    pub fn blocks(&self) -> usize {
        match self.archived() {
            Some(_) => self.size().div_ceil(PAGE_SIZE as u64) as usize,
            None => self.pages(),
        }
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The number of pages that exist, behind its end as well.
    pub fn pages(&self) -> usize {
        self.vmo.resident_count() + self.set_aside.count()
    }

    /// Whether page `index` is there: in memory, or where it can be read again.
    pub fn has_page(&self, index: usize) -> bool {
        self.archived().is_some() || self.vmo.page(index).is_some()
    }

    /// Whether page `index` takes space, be it behind the end.
    fn takes_space(&self, index: usize) -> bool {
        self.has_page(index) || self.set_aside.has(index)
    }

    /// A capability to the object, with all rights.
    pub fn vmo(&self) -> FileVmo {
        self.vmo.dup().to_dynamic()
    }

    /// How many shared mappings may write.
    pub fn count_writers(&self) -> usize {
        self.vmo.count_writers()
    }

    /// Refuses shared mappings that may write, from now on.
    ///
    /// # Errors
    ///
    /// EBUSY if there are some.
    pub fn deny_writers(&self) -> Result<()> {
        self.vmo.deny_writers().map_err(|_| EBUSY)
    }

    /// Reads from `pos` until the end or until `dst` is full.
    ///
    /// # Errors
    ///
    /// EFAULT if nothing could be read.
    pub fn read(&self, pos: u64, dst: &mut Sink<'_>) -> Result<usize> {
        let end = self.size().min(pos.saturating_add(dst.avail() as u64));
        let mut at = pos;
        while at < end {
            let Piece { index, start, len } = piece(at, end);
            let copied = match self.page_to_read(index) {
                Content::Page(frame) => dst.write_from(frame.as_uframe().reader().skip(start).limit(len)),
                Content::Bytes(bytes) => dst.write_bytes(bytes.get(start..start + len).unwrap_or_default()),
                Content::Zeros => dst.fill_zeros(len),
            };
            match copied {
                Ok(count) => at += count as u64,
                Err(error) if at == pos => return Err(error),
                Err(_) => break,
            }
        }
        Ok(at.saturating_sub(pos) as usize)
    }

    fn page_to_read(&self, index: usize) -> Content {
        match (self.vmo.page(index), self.archived()) {
            (Some(frame), _) => Content::Page(frame),
            (None, None) => Content::Zeros,
            // Without memory for the page it is read from where it is.
            (None, Some(archived)) => match self.vmo.commit(index) {
                Ok(frame) => Content::Page(frame),
                Err(_) => Content::Bytes(archived.page(index)),
            },
        }
    }

    /// Writes all of `src` at `pos`, growing the file.
    ///
    /// # Errors
    ///
    /// EFBIG past the largest offset; ENOSPC, ENOMEM, EFAULT if nothing could be written.
    pub fn write(&self, pos: u64, src: &mut Source<'_>) -> Result<usize> {
        if src.remain() == 0 {
            return Ok(0);
        }
        if pos >= MAX_FILE_SIZE {
            return Err(EFBIG);
        }
        self.prepare_write()?;
        let end = pos.saturating_add(src.remain() as u64).min(MAX_FILE_SIZE);
        let old = self.size();
        if end > old {
            self.vmo.resize(end as usize).map_err(errno)?;
        }
        let mut at = pos;
        let mut failure = Ok(());
        while at < end {
            let piece = piece(at, end);
            let (index, was_set_aside) = (piece.index, self.set_aside.take(piece.index));
            match self.write_piece(piece, was_set_aside, src) {
                Ok(count) => at += count as u64,
                Err(error) => {
                    failure = Err((error, was_set_aside.then_some(index)));
                    break;
                }
            }
        }
        let size = old.max(at);
        if end > size || (at == pos && end > old) {
            // Less than hoped for was written: what was added for the rest goes again.
            let size = if at == pos { old } else { size };
            self.vmo.resize(size as usize).map_err(errno)?;
        }
        if at > pos && at > old {
            self.size.store(at, Ordering::Release);
        }
        if let Err((_, Some(index))) = failure
            && !self.is_within(index)
        {
            // Its memory was free a moment ago.
            let _ = self.set_aside.add(index, &self.ledger);
        }
        self.claim_set_aside();
        match failure {
            Err((error, _)) if at == pos => Err(error),
            _ => Ok((at - pos) as usize),
        }
    }

    fn write_piece(&self, piece: Piece, is_promised: bool, src: &mut Source<'_>) -> Result<usize> {
        let frame = match self.vmo.page(piece.index) {
            Some(frame) => frame,
            None => {
                if !is_promised {
                    commit::require_for_file(1)?;
                }
                self.vmo.commit(piece.index).map_err(errno)?
            }
        };
        self.vmo.note_write(piece.index);
        src.read_to(frame.as_uframe().writer().skip(piece.start).limit(piece.len))
    }

    /// Makes the file `size` bytes long.
    ///
    /// # Errors
    ///
    /// EFBIG past the largest offset.
    pub fn resize(&self, size: u64) -> Result<()> {
        if size > MAX_FILE_SIZE {
            return Err(EFBIG);
        }
        self.prepare_write()?;
        if size <= self.size() {
            self.set_aside.remove(0..MAX_FILE_SIZE);
            self.size.store(size, Ordering::Release);
            self.vmo.resize(size as usize).map_err(errno)?;
        } else {
            self.vmo.resize(size as usize).map_err(errno)?;
            self.size.store(size, Ordering::Release);
            self.claim_set_aside();
        }
        Ok(())
    }

    /// Reserves, punches or zeroes a range.
    ///
    /// # Errors
    ///
    /// ENOSPC, ENOMEM; EFBIG past the largest offset.
    pub fn allocate(&self, how: Allocate, pos: u64, len: u64) -> Result<()> {
        let end = pos.checked_add(len).filter(|end| *end <= MAX_FILE_SIZE).ok_or(EFBIG)?;
        self.prepare_write()?;
        let old = self.size();
        let grown = match how {
            Allocate::Extend => old.max(end),
            Allocate::KeepSize | Allocate::PunchHole => old,
        };
        if how == Allocate::PunchHole {
            self.set_aside.remove(pos..end);
            // The last page goes as a whole, with what mappings have written behind the end.
            let end = end.min(old.next_multiple_of(PAGE_SIZE as u64)).max(pos);
            return self.vmo.decommit(pos as usize..end as usize).map_err(errno);
        }
        self.reserve(pos, end, old, grown)?;
        if grown > old {
            self.size.store(grown, Ordering::Release);
            self.claim_set_aside();
        }
        Ok(())
    }

    /// Makes all pages of `pos..end` exist, or none that did not before.
    fn reserve(&self, pos: u64, end: u64, old: u64, grown: u64) -> Result<()> {
        let page = PAGE_SIZE as u64;
        let (first, last) = ((pos / page) as usize, end.div_ceil(page) as usize);
        // At least so many pages are missing: what cannot succeed is refused before memory is spent on it.
        let missing = (last - first).saturating_sub(self.pages());
        self.ledger.require(missing)?;
        if missing > vmar_ostd::reserve::available_frames() {
            return Err(ENOSPC);
        }
        if commit::is_strict() {
            commit::require_for_file((first..last).filter(|index| !self.takes_space(*index)).count())?;
        }
        if grown > old {
            self.vmo.resize(grown as usize).map_err(errno)?;
        }
        let count = grown.div_ceil(page) as usize;
        let mut added: Vec<usize> = Vec::new();
        let result = (first..last).filter(|index| !self.takes_space(*index)).try_for_each(|index| {
            try_reserve(&mut added, 1)?;
            if index < count {
                self.vmo.commit(index).map_err(errno)?;
            } else {
                self.set_aside.add(index, &self.ledger).map_err(errno)?;
            }
            added.push(index);
            Ok(())
        });
        if result.is_err() {
            for index in added {
                if !self.set_aside.take(index) {
                    self.vmo.decommit(index * PAGE_SIZE..(index + 1) * PAGE_SIZE).map_err(errno)?;
                }
            }
            if grown > old {
                self.vmo.resize(old as usize).map_err(errno)?;
            }
        }
        result
    }

    /// The first data or hole at or after `pos`, which is within the file.
    ///
    /// # Errors
    ///
    /// ENXIO if there is no data after `pos`.
    pub fn seek_extent(&self, pos: u64, whence: Whence) -> Result<u64> {
        let (size, page) = (self.size(), PAGE_SIZE as u64);
        if self.archived().is_some() {
            return Ok(if whence == Whence::Data { pos } else { size });
        }
        let mut index = (pos / page) as usize;
        if whence == Whence::Data {
            let found = self.vmo.next_resident(index).ok_or(ENXIO)? as u64 * page;
            return if found >= size { Err(ENXIO) } else { Ok(found.max(pos)) };
        }
        while (index as u64) * page < size && self.vmo.page(index).is_some() {
            index += 1;
        }
        Ok((index as u64 * page).clamp(pos, size))
    }

    fn is_within(&self, index: usize) -> bool {
        (index as u64) < self.size().div_ceil(PAGE_SIZE as u64)
    }

    /// Makes pages that were set aside the file's, as far as it goes.
    fn claim_set_aside(&self) {
        self.set_aside.move_to(&self.vmo, self.size().div_ceil(PAGE_SIZE as u64) as usize);
    }
}
