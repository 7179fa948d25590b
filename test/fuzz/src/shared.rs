// SPDX-License-Identifier: MPL-2.0

//! What the processes of a sequence and their supervisor share: whose turn it is, and what was said.

use std::{
    cell::UnsafeCell,
    sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use crate::random::digest;

/// What is kept of each step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A digest of all steps together.
    Sequence,
    /// A digest of each.
    Step,
    /// Its text.
    Text,
    /// The text of the last one.
    Last,
}

/// Bytes of text that a sequence can have; what is more is left out.
const ROOM: usize = 8 << 20;
/// Steps whose digests are kept.
const STEPS: usize = 1 << 12;

/// In memory that forks share. Only the process whose turn it is writes.
#[repr(C)]
pub struct Shared {
    /// The step that comes next.
    pub turn: AtomicU32,
    /// How many steps have told what came of them.
    pub told: AtomicU32,
    pub digest: AtomicU64,
    pub pids: [AtomicI32; 2],
    /// Whether there are pages that were reserved, or only read and then advised out: whether those are resident is left open.
    pub has_untouched: AtomicU32,
    /// Whether zeros were put where a mapping shows an object: whether those are a page of a process's own is left open.
    pub has_zeros: AtomicU32,
    /// Whether there has been a userfaultfd.
    pub has_uffd: AtomicU32,
    /// System V segments, one more than the identifier; 0 is none.
    pub segments: [AtomicI32; 4],
    /// How many bytes each of them has.
    pub segment_sizes: [AtomicU64; 4],
    digests: [AtomicU64; STEPS],
    used: AtomicUsize,
    text: UnsafeCell<[u8; ROOM]>,
}

impl Shared {
    /// Maps it, for ever.
    pub fn map() -> Option<&'static Self> {
        let size = size_of::<Self>();
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        let addr = syscall!(SYS_mmap, 0, size, prot, flags, -1i64, 0);
        // SAFETY: new memory, zeroed (which is valid for every field), large enough, and never unmapped.
        (addr > 0).then(|| unsafe { &*(addr as usize as *const Self) })
    }

    /// Forgets the last sequence.
    pub fn reset(&self) {
        self.turn.store(0, Relaxed);
        self.told.store(0, Relaxed);
        self.has_untouched.store(0, Relaxed);
        self.has_zeros.store(0, Relaxed);
        self.has_uffd.store(0, Relaxed);
        self.digest.store(0, Relaxed);
        self.used.store(0, Relaxed);
        self.segment_sizes.iter().for_each(|size| size.store(0, Relaxed));
        self.pids.iter().chain(&self.segments).for_each(|number| number.store(0, Relaxed));
    }

    /// Takes down what came of a step.
    pub fn tell(&self, level: Level, text: &str) {
        let index = self.told.fetch_add(1, Relaxed) as usize;
        let new = digest(self.digest.load(Relaxed), text.as_bytes());
        self.digest.store(new, Relaxed);
        match level {
            Level::Sequence => {}
            Level::Step => {
                if let Some(place) = self.digests.get(index) {
                    place.store(digest(0, text.as_bytes()), Relaxed);
                }
            }
            Level::Text | Level::Last => {
                let start = if level == Level::Last { 0 } else { self.used.load(Relaxed) };
                let count = text.len().min(ROOM - start);
                // SAFETY: it is the caller's turn: nobody else has a reference to the text.
                let room = unsafe { &mut *self.text.get() };
                room[start..start + count].copy_from_slice(&text.as_bytes()[..count]);
                self.used.store(start + count, Relaxed);
            }
        }
    }

    /// All digests of steps.
    pub fn digests(&self) -> impl Iterator<Item = u64> {
        self.digests.iter().take(self.told.load(Relaxed) as usize).map(|digest| digest.load(Relaxed))
    }

    /// All text.
    pub fn text(&self) -> String {
        // SAFETY: the processes that write have ended when the supervisor reads.
        let room = unsafe { &*self.text.get() };
        String::from_utf8_lossy(&room[..self.used.load(Relaxed)]).into_owned()
    }
}
