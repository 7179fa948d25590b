// SPDX-License-Identifier: MPL-2.0

//! Contents of files that can be read again, and so need not stay in memory: the files of the initramfs that nobody has written.
//!
//! ```text
//!   archive (in memory, where the boot loader put it) ◄── Archive, a pager ◄── Vmo ◄── PageCache, mappings
//!                                                                              ▲
//!   when memory runs out; drop_caches ─────────────────────────────────────────┘ its pages leave memory
//! ```
//!
//! A page is read when it is wanted first. The file becomes like any other, for good, when somebody opens it to write or changes its
//! size: all of it is read then.
//!
//! Where it can be done, a page that leaves memory is cleared. An emulator that has translated code in it keeps the translation until
//! the code is overwritten, and writes to the frame are slow meanwhile: QEMU's take up to a thousand times as long. A kernel stack
//! there, of which but a part is ever written, keeps a processor from getting on at all.

use aster_rights::{FullRights, TRightSet};
use vmar::{
    error::Error as VmarError,
    machine::Frame,
    object::{Account, Pager, Vmo, VmoKind},
};
use vmar_ostd::{Ostd, OstdFrame};

use crate::{prelude::*, time};

/// Giving back fewer pages than this relieves nobody for long: programs that run would read their own code over and over.
const ENOUGH: usize = 256;

/// For how long it is not tried again after too little was given back.
const PAUSE: Duration = Duration::from_millis(100);

/// All files whose contents can be read again, or could once.
static FILES: Mutex<Vec<Weak<Archived>>> = Mutex::new(Vec::new());

/// When it was last found that there is too little to give back, in nanoseconds since boot.
static FOUND_LITTLE: AtomicU64 = AtomicU64::new(0);

/// How often everything was dropped because somebody asked.
static DROPS: AtomicU64 = AtomicU64::new(0);

/// A part of the archive that is the content of a file.
struct Archive {
    data: &'static [u8],
    /// Whether it still is.
    is_intact: AtomicBool,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Archive({} bytes)", self.data.len())
    }
}

impl Archive {
    fn is_intact(&self) -> bool {
        self.is_intact.load(Ordering::Acquire)
    }

    /// The bytes of page `index`.
    fn page(&self, index: usize) -> &'static [u8] {
        let rest = self.data.get(index.saturating_mul(PAGE_SIZE)..).unwrap_or_default();
        &rest[..rest.len().min(PAGE_SIZE)]
    }
}

impl Pager<Ostd> for Archive {
    fn read_page(&self, index: usize, frame: &OstdFrame) -> core::result::Result<(), VmarError> {
        if self.is_intact() {
            frame.write(0, self.page(index));
            if let Some(thread) = Thread::current() {
                thread.sched.pages_read.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// The contents of a file of the archive.
pub struct Archived {
    vmo: Vmo<Ostd, TRightSet<FullRights>>,
    archive: Arc<Archive>,
    /// Held while pages are dropped, and while all are read for good.
    changing: Mutex<()>,
}

impl Archived {
    /// The contents `data`, none of which is in memory yet. `account` is to count what is.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn new(data: &'static [u8], account: Arc<dyn Account>) -> Result<Arc<Self>> {
        let archive = Arc::new(Archive { data, is_intact: AtomicBool::new(true) });
        let vmo = Vmo::with_pager(&Ostd, data.len(), VmoKind::File, archive.clone())?.counted_by(account)?;
        let this = Arc::new(Self { vmo, archive, changing: Mutex::new(()) });
        let mut files = FILES.lock();
        try_reserve(&mut *files, 1)?;
        files.push(Arc::downgrade(&this));
        drop(files);
        Ok(this)
    }

    /// The object.
    pub fn vmo(&self) -> &Vmo<Ostd, TRightSet<FullRights>> {
        &self.vmo
    }

    /// Whether the archive still has what the file has.
    pub fn is_intact(&self) -> bool {
        self.archive.is_intact()
    }

    /// The bytes of page `index` as the archive has them.
    pub fn page(&self, index: usize) -> &'static [u8] {
        self.archive.page(index)
    }

    /// Makes the file one that can be written, and cannot be read again. `detached` is told how many pages it has then, before
    /// anybody can add or drop one.
    ///
    /// # Errors
    ///
    /// ENOMEM; the file is as it was then.
    pub fn detach(&self, detached: impl FnOnce(usize)) -> Result<()> {
        let _changing = self.changing.lock();
        if !self.is_intact() {
            return Ok(());
        }
        for index in 0..self.archive.data.len().div_ceil(PAGE_SIZE) {
            self.vmo.commit(index)?;
        }
        detached(self.vmo.resident_count());
        self.archive.is_intact.store(false, Ordering::Release);
        Ok(())
    }

    /// Drops the pages that no program has mapped, or all of them, and returns how many.
    fn drop_pages(&self, which: Pages) -> usize {
        let Some(_changing) = self.changing.try_lock() else { return 0 };
        if !self.is_intact() {
            return 0;
        }
        let before = self.vmo.resident_count();
        let count = self.archive.data.len().div_ceil(PAGE_SIZE);
        match which {
            Pages::All => self.drop_range(0..count),
            Pages::Unmapped => {
                let mut next = 0;
                while let Some(index) = self.vmo.next_resident(next) {
                    // One holder is the object, another the handle.
                    if let Some(frame) = self.vmo.page(index)
                        && frame.holders() <= 2
                    {
                        self.drop_range(index..index + 1);
                        clear_last(&frame);
                    }
                    next = index + 1;
                }
            }
        }
        before.saturating_sub(self.vmo.resident_count())
    }

    fn drop_range(&self, pages: core::ops::Range<usize>) {
        // It fails only where pages are in common with a snapshot: then they stay.
        let _ = self.vmo.decommit(pages.start * PAGE_SIZE..pages.end * PAGE_SIZE);
    }
}

/// Clears a page that nobody else has.
fn clear_last(frame: &OstdFrame) {
    if frame.holders() == 1 {
        frame.zero(0..PAGE_SIZE);
    }
}

/// Which pages are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    Unmapped,
    All,
}

/// Calls `visit` with each file that can be read again, without holding the list meanwhile.
fn for_each(mut visit: impl FnMut(&Archived)) {
    let mut next = 0;
    loop {
        let Some(file) = FILES.lock().get(next).cloned() else { return };
        if let Some(file) = file.upgrade().filter(|file| file.is_intact()) {
            visit(&file);
        }
        next += 1;
    }
}

/// How many pages are in memory that can be read again.
pub fn pages() -> usize {
    let mut sum = 0;
    for_each(|file| sum += file.vmo.resident_count());
    sum
}

/// Drops what can be read again and nobody has mapped: somebody has asked for it (`drop_caches`).
pub fn drop_all() {
    FILES.lock().retain(|file| file.upgrade().is_some_and(|file| file.is_intact()));
    for_each(|file| {
        file.drop_pages(Pages::Unmapped);
    });
    DROPS.fetch_add(1, Ordering::Relaxed);
    super::finish_frees();
}

/// How often [`drop_all`] was called.
pub fn count_drops() -> u64 {
    DROPS.load(Ordering::Relaxed)
}

/// Gives memory back when it has run out. Returns whether that helps: it was much, first of what nobody has mapped.
pub fn give_back() -> bool {
    let now = time::monotonic_nanos();
    let last = FOUND_LITTLE.load(Ordering::Relaxed);
    if last != 0 && now < last + PAUSE.as_nanos() as u64 {
        return false;
    }
    for which in [Pages::Unmapped, Pages::All] {
        // Not piece by piece: what is left is needed again at once.
        if pages() < ENOUGH {
            break;
        }
        let mut dropped = 0;
        for_each(|file| dropped += file.drop_pages(which));
        if dropped >= ENOUGH {
            super::finish_frees();
            return true;
        }
    }
    FOUND_LITTLE.store(now.max(1), Ordering::Relaxed);
    false
}
