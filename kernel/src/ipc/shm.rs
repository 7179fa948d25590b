// SPDX-License-Identifier: MPL-2.0

//! System V shared memory: segments, and who has them attached (`shmget(2)`, `shmctl(2)`).
//!
//! ```text
//!   table ──► Segment ◄── Attachment ◄── every mapping of the segment
//!               │  └ ─ ─ ─ ─ ▲  (weak)
//!               └─► Vmo: the pages, as those of a memory file
//! ```
//!
//! All mappings of a segment hold one [`Attachment`], and the kernel's mappings are its only holders: how many there are is the
//! number of attaches, over fork, exec and exit, without anybody counting. As in Linux a mapping that is cut in two counts twice, and
//! stays two. When the last mapping goes, the attachment does; if the segment was marked for removal, that is its end.
//!
//! Who attached or detached a segment last, and when, is noted where it happens: by the calls that map, move and unmap, where a
//! mapping is cut, and with a space that has segments by its fork and its end ([`note_forked`], [`note_ended`]).
//!
//! Locks: the table's first, then a segment's own, which are spin locks.

use alloc::sync::Weak;
use core::ops::Range;

use aster_rights::{FullRights, TRightSet};
use vmar::{
    mapping::{Joint, Mappable},
    object::Vmo,
};
use vmar_ostd::Ostd;

use super::perm::IpcPerm;
use crate::{
    fs::synthetic::{Text, put},
    mm::{
        AddressSpace, commit::SharedPromise, layout::TASK_SIZE, mapped_file::known_as,
        shared_policy::SharedPolicies,
    },
    prelude::*,
    process::credentials::{CapSet, Credentials, Uid},
    time,
};

/// In a mode: the segment goes with its last attach (`SHM_DEST`).
const REMOVED: u32 = 0o1000;
/// In a mode: the pages stay in memory (`SHM_LOCKED`).
const LOCKED: u32 = 0o2000;

/// The most segments that any setting allows.
const MOST_SEGMENTS: usize = 32768;
/// How many identifiers are given out before the places of the first are used again.
const FEWEST_PLACES: usize = 64;

/// How much shared memory there may be (`/proc/sys/kernel/shmmax`, `shmall`, `shmmni`).
#[derive(Clone, Copy, Debug)]
pub struct ShmLimits {
    /// The largest segment, in bytes.
    pub max: usize,
    /// All segments together, in pages.
    pub all: usize,
    /// The number of segments.
    pub count: usize,
}

static LIMITS: SpinLock<ShmLimits> =
    SpinLock::new(ShmLimits { max: usize::MAX - (1 << 24), all: usize::MAX - (1 << 24), count: 4096 });

/// The limits.
pub fn limits() -> ShmLimits {
    *LIMITS.lock()
}

/// Changes the limits. What is there stays.
pub fn set_limits(change: impl FnOnce(&mut ShmLimits)) {
    change(&mut LIMITS.lock());
}

/// Sets how many segments there may be.
///
/// # Errors
///
/// `EINVAL` if there can never be so many.
pub fn set_max_count(count: i64) -> Result<()> {
    let count = usize::try_from(count).ok().filter(|count| *count <= MOST_SEGMENTS).ok_or(EINVAL)?;
    set_limits(|limits| limits.count = count);
    Ok(())
}

/// What is known of a segment beside its pages. Times are in seconds since 1970; 0 is never.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Whose it is.
    pub perm: IpcPerm,
    /// When it was last attached.
    pub attached: i64,
    /// When it was last detached.
    pub detached: i64,
    /// When its status was last changed.
    pub changed: i64,
    /// Who made it.
    pub maker: Pid,
    /// Who last attached or detached it; 0 for nobody.
    pub last: Pid,
    /// Whose limit its locked pages count against.
    pub locker: Option<Uid>,
}

/// A segment of shared memory.
#[derive(Debug)]
pub struct Segment {
    id: i32,
    /// The key that it was made with; it may be found by it no more.
    key: i32,
    size: usize,
    object: Vmo<Ostd, TRightSet<FullRights>>,
    status: SpinLock<Status>,
    attachment: SpinLock<Weak<Attachment>>,
    promise: SharedPromise,
    policies: SharedPolicies,
}

/// What every mapping of a segment holds.
#[derive(Debug)]
pub struct Attachment(Arc<Segment>);

impl Mappable for Attachment {
    fn joint(&self) -> Joint {
        Joint::Counted
    }

    fn note_cut(&self) {
        self.0.note_attached();
    }
}

impl Attachment {
    /// The segment.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.0
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        TABLE.lock().remove_if_unused(&self.0);
    }
}

/// Calls `visit` with the segment of each mapping in `range` of a space that shows one.
pub fn for_each_attached(vm: &AddressSpace, range: Range<Vaddr>, mut visit: impl FnMut(&Arc<Segment>)) {
    for mapping in vm.vmar().query(range).iter() {
        if let Some(Attachment(segment)) = known_as(&mapping) {
            visit(segment);
        }
    }
}

/// The segment that is attached at an address of a space, if one is.
pub fn attached_at(vm: &AddressSpace, addr: Vaddr) -> Option<Arc<Segment>> {
    let mut found = None;
    if addr < TASK_SIZE {
        for_each_attached(vm, addr..addr + 1, |segment| found = Some(segment.clone()));
    }
    found
}

/// Notes that a fork has attached what is attached in `child`. As in Linux, it is the parent who has done that.
pub fn note_forked(child: &AddressSpace) {
    for_each_attached(child, 0..TASK_SIZE, |segment| segment.note_attached());
}

/// Notes that what is attached in a space goes with it.
pub fn note_ended(vm: &AddressSpace) {
    for_each_attached(vm, 0..TASK_SIZE, |segment| segment.note_detached());
}

/// The process that calls, if one does.
fn caller() -> Option<Pid> {
    Thread::current().map(|thread| thread.process().pid())
}

fn now() -> i64 {
    time::realtime().as_secs() as i64
}

impl Segment {
    /// Its identifier.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Its size in bytes, as it was asked for.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Its pages.
    pub fn object(&self) -> &Vmo<Ostd, TRightSet<FullRights>> {
        &self.object
    }

    /// The memory policies of its pages.
    pub fn policies(&self) -> &SharedPolicies {
        &self.policies
    }

    /// What was promised to it.
    pub fn promise(&self) -> &SharedPromise {
        &self.promise
    }

    /// What is known of it.
    pub fn status(&self) -> Status {
        *self.status.lock()
    }

    /// What it is called in `/proc/PID/maps`: by the key that it was made with.
    pub fn name(&self) -> Vec<u8> {
        format!("/SYSV{:08x} (deleted)", self.key).into_bytes()
    }

    /// How many mappings of it there are.
    pub fn attaches(&self) -> usize {
        self.attachment.lock().strong_count()
    }

    /// What a new mapping of it holds.
    pub fn attachment(self: &Arc<Self>) -> Arc<Attachment> {
        let mut known = self.attachment.lock();
        known.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Attachment(self.clone()));
            *known = Arc::downgrade(&new);
            new
        })
    }

    /// Notes that the caller has attached it.
    pub fn note_attached(&self) {
        let mut status = self.status.lock();
        status.attached = now();
        status.last = caller().unwrap_or(status.last);
    }

    /// Notes that the caller has detached it.
    pub fn note_detached(&self) {
        let mut status = self.status.lock();
        status.detached = now();
        status.last = caller().unwrap_or(status.last);
    }

    /// Changes whose it is (`IPC_SET`).
    ///
    /// # Errors
    ///
    /// `EPERM` unless the caller owns it.
    pub fn set_perm(&self, caller: &Credentials, change: impl FnOnce(&mut IpcPerm)) -> Result<()> {
        let mut status = self.status.lock();
        status.perm.require_owner(caller)?;
        change(&mut status.perm);
        status.changed = now();
        Ok(())
    }

    /// Notes that its pages need not stay in memory.
    pub fn unlock(&self) {
        let mut status = self.status.lock();
        status.perm.mode &= !LOCKED;
        status.locker = None;
    }

    fn pages(&self) -> usize {
        self.size.div_ceil(PAGE_SIZE)
    }
}

/// All segments.
pub struct Table {
    /// By place.
    segments: BTreeMap<usize, Arc<Segment>>,
    /// The place that was given out last, and how many times places have begun anew.
    last: Option<usize>,
    round: usize,
    /// Pages of all segments.
    pages: usize,
}

static TABLE: Mutex<Table> = Mutex::new(Table { segments: BTreeMap::new(), last: None, round: 0, pages: 0 });

/// Runs `f` on the table of segments.
pub fn with_table<R>(f: impl FnOnce(&mut Table) -> R) -> R {
    f(&mut TABLE.lock())
}

impl Table {
    /// The place that an identifier stands for.
    fn place_of(id: i32) -> usize {
        id as usize % MOST_SEGMENTS
    }

    /// The segment with an identifier.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none, or no more.
    pub fn find(&self, id: i32) -> Result<&Arc<Segment>> {
        self.at_place(id).ok().filter(|segment| segment.id == id).ok_or(EINVAL)
    }

    /// The segment at the place that an identifier stands for, which may be another one.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none.
    pub fn at_place(&self, id: i32) -> Result<&Arc<Segment>> {
        self.segments.get(&Self::place_of(id)).ok_or(EINVAL)
    }

    /// The segment that a key finds.
    pub fn find_key(&self, key: i32) -> Option<&Arc<Segment>> {
        self.segments.values().find(|segment| segment.status.lock().perm.key == key)
    }

    /// How many segments there are.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The highest place in use; 0 if there is none.
    pub fn highest_place(&self) -> usize {
        self.segments.last_key_value().map_or(0, |(place, _)| *place)
    }

    /// Pages of all segments, and how many of them are in memory.
    pub fn pages(&self) -> (usize, usize) {
        (self.pages, self.segments.values().map(|segment| segment.object.resident_count()).sum())
    }

    /// Makes a segment of `size` bytes. `promise` is asked for the memory.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a size that is not allowed; `ENOSPC` at the other limits; `ENOMEM`.
    pub fn make(
        &mut self,
        size: usize,
        perm: IpcPerm,
        maker: Pid,
        promise: impl FnOnce(usize) -> Result<SharedPromise>,
    ) -> Result<i32> {
        let limits = limits();
        if size == 0 || size > limits.max {
            return Err(EINVAL);
        }
        let pages = size.div_ceil(PAGE_SIZE);
        let all = self.pages.checked_add(pages).filter(|all| *all <= limits.all).ok_or(ENOSPC)?;
        let bytes = pages.checked_mul(PAGE_SIZE).filter(|bytes| *bytes <= isize::MAX as usize);
        let bytes = bytes.ok_or(EINVAL)?;
        let promise = promise(bytes)?;
        let object = promise.make_object(bytes)?;
        if self.segments.len() >= limits.count {
            return Err(ENOSPC);
        }
        let (place, round) = self.next_place(limits.count);
        let id = (round * MOST_SEGMENTS + place) as i32;
        let status = Status { perm, attached: 0, detached: 0, changed: now(), maker, last: 0, locker: None };
        let segment = Segment {
            id,
            key: perm.key,
            size,
            object,
            status: SpinLock::new(status),
            attachment: SpinLock::new(Weak::new()),
            promise,
            policies: SharedPolicies::default(),
        };
        self.segments.insert(place, Arc::new(segment));
        (self.last, self.round, self.pages) = (Some(place), round, all);
        Ok(id)
    }

    /// A free place, and the round that it is in. Places are given out one after the other, and from the first again only after so
    /// many that an old identifier is long forgotten (Linux 6.1, `ipc_idr_alloc`).
    fn next_place(&self, count: usize) -> (usize, usize) {
        /// What keeps identifiers positive.
        const ROUNDS: usize = (i32::MAX as usize + 1) / MOST_SEGMENTS;
        let places = (self.segments.len() * 3 / 2).max(FEWEST_PLACES).min(count).max(self.segments.len() + 1);
        let first = self.last.map_or(0, |last| last + 1);
        let is_free = |place: &usize| !self.segments.contains_key(place);
        let ahead = (first..places).find(is_free);
        match ahead.or_else(|| (0..places).find(is_free)) {
            Some(place) if ahead.is_some() => (place, self.round),
            place => (place.unwrap_or(places), (self.round + 1) % ROUNDS),
        }
    }

    /// Removes a segment (`IPC_RMID`): at once, or when its last mapping goes. No key finds it any more.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none; `EPERM` unless the caller owns it.
    pub fn remove(&mut self, id: i32, caller: &Credentials) -> Result<()> {
        let segment = self.find(id)?.clone();
        {
            let mut status = segment.status.lock();
            status.perm.require_owner(caller)?;
            status.perm.mode |= REMOVED;
            status.perm.key = 0;
        }
        self.remove_if_unused(&segment);
        Ok(())
    }

    /// Notes that the pages of a segment are to stay in memory, where they are anyway. They count against the `limit` in bytes of the
    /// caller's user until somebody unlocks them, whether the segment is attached or not.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if that is more than the limit.
    pub fn lock(&self, segment: &Segment, caller: &Credentials, limit: u64) -> Result<()> {
        let locked_by = |segment: &Arc<Segment>| segment.status.lock().locker;
        let of_user = self.segments.values().filter(|segment| locked_by(segment) == Some(caller.uid));
        let locked: usize = of_user.map(|segment| segment.pages()).sum();
        let mut status = segment.status.lock();
        if status.perm.mode & LOCKED != 0 {
            return Ok(());
        }
        if (locked + segment.pages()) as u64 > limit / PAGE_SIZE as u64 && !caller.has(CapSet::IPC_LOCK) {
            return Err(ENOMEM);
        }
        status.perm.mode |= LOCKED;
        status.locker = Some(caller.uid);
        Ok(())
    }

    /// Takes out a segment that was removed and is mapped nowhere.
    fn remove_if_unused(&mut self, segment: &Arc<Segment>) {
        let place = Self::place_of(segment.id);
        let is_it = self.segments.get(&place).is_some_and(|found| Arc::ptr_eq(found, segment));
        let is_removed = segment.status.lock().perm.mode & REMOVED != 0;
        if is_it && is_removed && segment.attaches() == 0 {
            self.pages -= segment.pages();
            self.segments.remove(&place);
        }
    }
}

/// `/proc/sysvipc/shm`.
pub fn show(text: &mut Text) {
    put!(
        text,
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid"
    );
    put!(text, "      atime      dtime      ctime                   rss                  swap\n");
    for segment in TABLE.lock().segments.values() {
        let Status { perm, attached, detached, changed, maker, last, .. } = segment.status();
        let (attaches, size) = (segment.attaches(), segment.size);
        put!(text, "{:10} {:10}  {:4o} {size:21} {maker:5} {last:5}  ", perm.key, segment.id, perm.mode);
        put!(text, "{attaches:5} {:5} {:5} {:5} {:5} ", perm.uid, perm.gid, perm.cuid, perm.cgid);
        let resident = segment.object.resident_count() * PAGE_SIZE;
        put!(text, "{attached:10} {detached:10} {changed:10} {resident:21} {:21}\n", 0);
    }
}
