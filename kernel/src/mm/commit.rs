// SPDX-License-Identifier: MPL-2.0

//! What programs are promised of memory: overcommit, as in `proc_sys_vm(5)` and Linux 6.1.
//!
//! ```text
//!                       promised to private mappings that can be written, or could be once      the framework adds it up
//!   Committed_AS = ───┤                                                                           by address space
//!                       promised to shared anonymous memory and System V segments, or,          SHARED, here
//!                       where that was not asked for (MAP_NORESERVE), the pages that they have
//!                       pages that files in memory have: tmpfs, memfds                          their file systems count them
//! ```
//!
//! | mode | refused |
//! | --- | --- |
//! | 0, heuristic | what is more than all memory by itself |
//! | 1, always | nothing |
//! | 2, never | what would make the sum reach the limit, less a reserve for the superuser and for the program itself |
//!
//! The sum is only ever made when somebody asks for it: by reading `/proc/meminfo`, or in mode 2. There a lock is held from the look
//! at the sum until the memory is mapped, so that two programs are not promised the same. What grows page by page (stacks, files in
//! memory) and what takes another's place (exec) is only asked for: between the question and the page somebody else may get it too,
//! as it may in Linux, whose sum is not exact either.

use aster_rights::{FullRights, TRightSet};
use ostd::sync::MutexGuard;
use spin::Once;
use vmar::{
    error::Error,
    mapping::MappingFlags,
    object::{Account, Vmo, VmoKind},
    vmar::query::MappingInfo,
};
use vmar_ostd::Ostd;

use super::{AddressSpace, layout::TASK_SIZE, total_memory};
use crate::{
    fs,
    prelude::*,
    process::{credentials::CapSet, table},
};

/// How much may be promised (`/proc/sys/vm/overcommit_memory`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Anything that is not obviously too much.
    Heuristic = 0,
    /// Anything.
    Always = 1,
    /// Only what there is.
    Never = 2,
}

static MODE: AtomicU32 = AtomicU32::new(Mode::Heuristic as u32);
/// Up to how many bytes the mode promises to whoever asks, without a look at anything else.
static UNASKED: AtomicUsize = AtomicUsize::new(0);
/// The limit in mode 2: a share of memory in hundredths, unless it is given in KiB.
static RATIO: AtomicUsize = AtomicUsize::new(50);
static KIBIBYTES: AtomicUsize = AtomicUsize::new(0);
/// What is kept in mode 2 for a program itself, and for the superuser, in KiB.
static USER_RESERVE: AtomicUsize = AtomicUsize::new(0);
static ADMIN_RESERVE: AtomicUsize = AtomicUsize::new(0);

/// Bytes that are promised to shared memory.
static SHARED: AtomicUsize = AtomicUsize::new(0);

/// Held in mode 2 while a promise is made.
static PROMISING: Mutex<()> = Mutex::new(());

/// Sets the reserves that Linux starts with. Called once, early.
pub(super) fn init() {
    const MOST_FOR_USERS: usize = 128 << 10;
    const MOST_FOR_ADMINS: usize = 8 << 10;
    let part = total_memory() / 1024 / 32;
    USER_RESERVE.store(part.min(MOST_FOR_USERS), Ordering::Relaxed);
    ADMIN_RESERVE.store(part.min(MOST_FOR_ADMINS), Ordering::Relaxed);
    UNASKED.store(total_memory(), Ordering::Relaxed);
}

/// The mode.
pub fn mode() -> Mode {
    match MODE.load(Ordering::Relaxed) {
        0 => Mode::Heuristic,
        1 => Mode::Always,
        _ => Mode::Never,
    }
}

/// Sets the mode by its number.
///
/// # Errors
///
/// `EINVAL`.
pub fn set_mode(number: i64) -> Result<()> {
    let number = u32::try_from(number).ok().filter(|number| *number <= Mode::Never as u32).ok_or(EINVAL)?;
    MODE.store(number, Ordering::Relaxed);
    let unasked = match mode() {
        Mode::Heuristic => total_memory(),
        Mode::Always => usize::MAX,
        Mode::Never => 0,
    };
    UNASKED.store(unasked, Ordering::Relaxed);
    Ok(())
}

/// The share of memory that may be promised in mode 2, in hundredths.
pub fn ratio() -> usize {
    RATIO.load(Ordering::Relaxed)
}

/// Sets it; it holds from now on.
///
/// # Errors
///
/// `EINVAL`.
pub fn set_ratio(hundredths: i64) -> Result<()> {
    RATIO.store(usize::try_from(hundredths).map_err(|_| EINVAL)?, Ordering::Relaxed);
    KIBIBYTES.store(0, Ordering::Relaxed);
    Ok(())
}

/// How many KiB may be promised in mode 2; 0 if the share of memory holds.
pub fn kibibytes() -> usize {
    KIBIBYTES.load(Ordering::Relaxed)
}

/// Sets it; it holds from now on.
///
/// # Errors
///
/// `EINVAL`.
pub fn set_kibibytes(kibibytes: i64) -> Result<()> {
    KIBIBYTES.store(usize::try_from(kibibytes).map_err(|_| EINVAL)?, Ordering::Relaxed);
    RATIO.store(0, Ordering::Relaxed);
    Ok(())
}

/// What is kept in mode 2 for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// For a program itself: of its own size a thirty-second part, and no more than this.
    User,
    /// For the superuser.
    Admin,
}

impl Reserve {
    const fn cell(self) -> &'static AtomicUsize {
        match self {
            Self::User => &USER_RESERVE,
            Self::Admin => &ADMIN_RESERVE,
        }
    }

    /// The reserve in KiB.
    pub fn get(self) -> usize {
        self.cell().load(Ordering::Relaxed)
    }

    /// Sets it, in KiB.
    ///
    /// # Errors
    ///
    /// `EINVAL`.
    pub fn set(self, kibibytes: i64) -> Result<()> {
        self.cell().store(usize::try_from(kibibytes).map_err(|_| EINVAL)?, Ordering::Relaxed);
        Ok(())
    }
}

/// How much may be promised in mode 2, in bytes (`CommitLimit`).
pub fn limit() -> usize {
    match kibibytes() {
        0 => (total_memory() / PAGE_SIZE).saturating_mul(ratio()) / 100 * PAGE_SIZE,
        kibibytes => kibibytes.saturating_mul(1024) / PAGE_SIZE * PAGE_SIZE,
    }
}

/// How much is promised, in bytes (`Committed_AS`).
///
/// To be called without any lock of an address space.
pub fn promised() -> usize {
    let mut private = 0;
    super::for_each_space(|vm| private += vm.vmar().promised());
    private + SHARED.load(Ordering::Relaxed) + fs::pages_in_memory() * PAGE_SIZE
}

/// While it lives nobody else is promised the same memory.
#[must_use = "the memory must be mapped while the promise is held"]
pub struct Promise {
    _turn: Option<MutexGuard<'static, ()>>,
}

/// Whether a promise of `bytes` may be refused: not by default, unless it is obviously too much.
#[inline]
pub fn may_refuse(bytes: usize) -> bool {
    bytes > UNASKED.load(Ordering::Relaxed)
}

/// Runs `map` while a program in `vm` is promised `bytes` more of memory.
///
/// # Errors
///
/// As [`promise`].
#[inline(always)]
pub fn with_promise<R>(vm: &AddressSpace, bytes: usize, map: impl FnOnce() -> R) -> Result<R> {
    if !may_refuse(bytes) {
        return Ok(map());
    }
    let _promise = promise(vm, bytes)?;
    Ok(map())
}

/// Promises `bytes` more of memory to a program in `vm`.
///
/// # Errors
///
/// `ENOMEM` if the mode does not allow that.
#[cold]
#[inline(never)]
pub fn promise(vm: &AddressSpace, bytes: usize) -> Result<Promise> {
    match mode() {
        Mode::Heuristic if bytes > total_memory() => Err(ENOMEM),
        Mode::Heuristic | Mode::Always => Ok(Promise { _turn: None }),
        Mode::Never => promise_strictly(vm, bytes),
    }
}

fn promise_strictly(vm: &AddressSpace, bytes: usize) -> Result<Promise> {
    let turn = PROMISING.lock();
    let sum = promised().checked_add(bytes).ok_or(ENOMEM)?;
    if is_within_limit(vm, sum) { Ok(Promise { _turn: Some(turn) }) } else { Err(ENOMEM) }
}

/// Whether `sum` bytes may be promised in mode 2, the last of them to a program in `vm`.
fn is_within_limit(vm: &AddressSpace, sum: usize) -> bool {
    let is_admin = Thread::current().is_none_or(|thread| thread.credentials().has(CapSet::SYS_ADMIN));
    let kept = if is_admin { 0 } else { Reserve::Admin.get() };
    let own = (vm.vmar().usage().address_space / 32).min(Reserve::User.get().saturating_mul(1024));
    sum < limit().saturating_sub(kept.saturating_mul(1024)).saturating_sub(own)
}

/// Whether whoever wants memory page by page has to ask for it: in mode 2.
#[inline]
pub fn is_strict() -> bool {
    mode() == Mode::Never
}

/// Asks for `bytes` more in a program's space, of which no mapping tells beforehand: its stack grows, say.
///
/// # Errors
///
/// `ENOMEM` in mode 2 if there is no more to promise.
pub fn require(vm: &AddressSpace, bytes: usize) -> Result<()> {
    if is_strict() { promise_strictly(vm, bytes).map(drop) } else { Ok(()) }
}

/// Asks for `pages` that a file in memory is to have.
///
/// # Errors
///
/// `ENOSPC` in mode 2 if there is no more to promise (Linux 6.1, `shmem_acct_block`).
pub fn require_for_file(pages: usize) -> Result<()> {
    if !is_strict() {
        return Ok(());
    }
    let vm = Thread::current().and_then(|thread| thread.process().vm());
    vm.map_or(Ok(()), |vm| require(&vm, pages.saturating_mul(PAGE_SIZE)).map_err(|_| ENOSPC))
}

/// Whether a program in `old` may become one in `new`, which nobody knows yet.
pub fn allows_exec(old: &Arc<AddressSpace>, new: &AddressSpace) -> bool {
    match mode() {
        Mode::Always => true,
        Mode::Heuristic => {
            let total = total_memory();
            let is_too_large = |info: &MappingInfo<'_, Ostd>| {
                info.flags().contains(MappingFlags::PROMISED) && info.range().len() > total
            };
            new.vmar().usage().address_space <= total
                || !new.vmar().query(0..TASK_SIZE).iter().any(|info| is_too_large(&info))
        }
        Mode::Never => {
            let _turn = PROMISING.lock();
            let is_in_old = |process: &Arc<Process>| process.vm().is_some_and(|vm| Arc::ptr_eq(&vm, old));
            let given_back = match table::all().filter(is_in_old).count() {
                0 | 1 => old.vmar().promised(),
                _ => 0,
            };
            let sum = promised().saturating_sub(given_back).checked_add(new.vmar().promised());
            sum.is_some_and(|sum| is_within_limit(new, sum))
        }
    }
}

/// Promises a new mapping at `start`, which takes the place of what is there, `bytes` of memory.
///
/// # Errors
///
/// As [`promise`].
#[cold]
#[inline(never)]
pub fn promise_in_place(vm: &AddressSpace, start: Vaddr, bytes: usize) -> Result<Promise> {
    let is_promised = |flags: MappingFlags| flags.contains(MappingFlags::PROMISED);
    if start >= TASK_SIZE {
        return promise(vm, bytes);
    }
    let range = start..start.saturating_add(bytes).min(TASK_SIZE);
    let given_up: usize = {
        let query = vm.vmar().query(range.clone());
        let promised = query.iter().filter(|info| is_promised(info.flags()));
        promised.map(|info| info.range().end.min(range.end) - info.range().start.max(range.start)).sum()
    };
    match mode() {
        Mode::Never => promise_strictly(vm, bytes.saturating_sub(given_up)),
        _ => promise(vm, bytes),
    }
}

/// A promise to shared memory, which lasts as long as the memory does.
#[derive(Debug)]
pub enum SharedPromise {
    /// Of so many bytes.
    AtOnce(usize),
    /// Of each page when it is first touched (`MAP_NORESERVE`; Linux 6.1, `shmem_acct_block`).
    ByPage,
}

impl SharedPromise {
    /// Promises `bytes` to memory that a program in `vm` makes.
    ///
    /// # Errors
    ///
    /// As [`promise`].
    pub fn at_once(vm: &AddressSpace, bytes: usize) -> Result<Self> {
        let _promise = promise(vm, bytes)?;
        SHARED.fetch_add(bytes, Ordering::Relaxed);
        Ok(Self::AtOnce(bytes))
    }

    /// Makes the memory, of `bytes`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn make_object(&self, bytes: usize) -> Result<Vmo<Ostd, TRightSet<FullRights>>> {
        let object = Vmo::new(&Ostd, bytes, VmoKind::SharedMemory)?;
        Ok(match self {
            Self::AtOnce(_) => object,
            Self::ByPage => object.counted_by(TOUCHED.call_once(|| Arc::new(Touched)).clone())?,
        })
    }

    /// Whether a page that is first touched has not been promised yet.
    pub fn is_by_page(&self) -> bool {
        matches!(self, Self::ByPage)
    }
}

impl Drop for SharedPromise {
    fn drop(&mut self) {
        if let Self::AtOnce(bytes) = self {
            SHARED.fetch_sub(*bytes, Ordering::Relaxed);
        }
    }
}

/// Counts pages of shared memory that nothing was promised to beforehand.
#[derive(Debug)]
struct Touched;

static TOUCHED: Once<Arc<Touched>> = Once::new();

impl Account for Touched {
    fn charge(&self) -> core::result::Result<(), Error> {
        SHARED.fetch_add(PAGE_SIZE, Ordering::Relaxed);
        Ok(())
    }

    fn discharge(&self, pages: usize) {
        SHARED.fetch_sub(pages * PAGE_SIZE, Ordering::Relaxed);
    }
}
