// SPDX-License-Identifier: MPL-2.0

//! The address space of a process.

use linux_raw_sys::general::{RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_STACK};
use vmar::{
    error::Limit,
    limits::Limits,
    mapping::MappingFlags,
    placement::Placement,
    vmar::{
        ForkPolicy, FullVmar,
        fault::FaultError,
        policy::{Policy, Promises},
    },
};
use vmar_ostd::Ostd;

use crate::{
    ipc::shm,
    mm::{
        barriers::RegisteredBarriers,
        commit, fault,
        layout::TASK_SIZE,
        mapped_file::{Known, is_fully_shared},
    },
    prelude::*,
    process::{rlimit::Rlimits, table},
};

/// The address space of a process.
pub struct AddressSpace {
    vmar: FullVmar<Ostd>,
    heap: Mutex<Heap>,
    layout: SpinLock<ProgramLayout>,
    peak_pages: AtomicUsize,
    /// Whether new mappings are locked (`mlockall(MCL_FUTURE)`).
    locks_future: AtomicBool,
    /// Whether a protection key was asked for.
    wished_for_key: AtomicBool,
    /// Whether there may be somebody to tell of changes.
    is_watched: AtomicBool,
    /// Whether a segment of System V memory was ever attached.
    has_segments: AtomicBool,
    barriers: RegisteredBarriers,
    /// Whether its memory was given back ahead of its program's end.
    pub(super) is_reaped: AtomicBool,
}

/// The heap: what `brk(2)` moves the end of.
#[derive(Clone, Copy, Debug, Default)]
struct Heap {
    start: Vaddr,
    end: Vaddr,
}

/// Where a program's parts were put when it started; `/proc` tells of them.
#[derive(Clone, Debug, Default)]
pub struct ProgramLayout {
    /// The code.
    pub code: core::ops::Range<Vaddr>,
    /// The initialized data.
    pub data: core::ops::Range<Vaddr>,
    /// Where the stack was first used.
    pub stack_start: Vaddr,
    /// The argument strings.
    pub args: core::ops::Range<Vaddr>,
    /// The environment strings.
    pub env: core::ops::Range<Vaddr>,
    /// The auxiliary vector: pairs of words.
    pub auxv: Vec<u64>,
}

/// How programs are forked.
static FORK_POLICY: SpinLock<ForkPolicy> = SpinLock::new(ForkPolicy::BySize);

/// How many mappings a space may have (`/proc/sys/vm/max_map_count`).
static MAX_MAPPINGS: AtomicUsize = AtomicUsize::new(Limits::DEFAULT_MAPPINGS);

/// Calls `visit` with the space of each process, once with one that several have.
pub fn for_each_space(mut visit: impl FnMut(&AddressSpace)) {
    let mut seen = BTreeSet::new();
    for vm in table::all().filter_map(|process| process.vm()) {
        if seen.insert(Arc::as_ptr(&vm)) {
            visit(&vm);
        }
    }
}

/// How many mappings a space may have.
pub fn max_mappings() -> usize {
    MAX_MAPPINGS.load(Ordering::Relaxed)
}

/// Sets how many mappings a space may have; those that have more keep them.
pub fn set_max_mappings(count: usize) {
    MAX_MAPPINGS.store(count, Ordering::Relaxed);
    for vm in table::all().filter_map(|process| process.vm()) {
        vm.vmar.limits().set(Limit::Mappings, count);
    }
}

static KERNEL: SpinLock<Option<Arc<AddressSpace>>> = SpinLock::new(None);

impl AddressSpace {
    /// An empty address space within `limits`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(limits: &Rlimits) -> Result<Arc<Self>> {
        let space = Self::around(FullVmar::new(Ostd, Limits::new())?);
        space.apply_limits(limits);
        Ok(Arc::new(space))
    }

    /// The empty address space of tasks that run no program any more.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if it does not exist yet and cannot.
    pub fn kernel() -> Result<Arc<Self>> {
        if let Some(space) = &*KERNEL.lock() {
            return Ok(space.clone());
        }
        let space = Arc::new(Self::around(FullVmar::new(Ostd, Limits::new())?));
        Ok(KERNEL.lock().get_or_insert(space).clone())
    }

    /// Sets how the spaces that are made from now on are forked.
    pub fn set_fork_policy(policy: ForkPolicy) {
        *FORK_POLICY.lock() = policy;
    }

    fn around(vmar: FullVmar<Ostd>) -> Self {
        let fork_policy = *FORK_POLICY.lock();
        if fork_policy != ForkPolicy::default() {
            vmar.set_fork_policy(fork_policy);
        }
        vmar.set_policy(Policy { promises: Promises::Kept, ..Policy::default() });
        vmar.limits().set(Limit::Mappings, max_mappings());
        Self {
            vmar,
            heap: Mutex::new(Heap::default()),
            layout: SpinLock::new(ProgramLayout::default()),
            peak_pages: AtomicUsize::new(0),
            locks_future: AtomicBool::new(false),
            wished_for_key: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            has_segments: AtomicBool::new(false),
            barriers: RegisteredBarriers::new(),
            is_reaped: AtomicBool::new(false),
        }
    }

    /// A copy for a child: private memory is shared until one of the two writes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn fork(&self) -> Result<Arc<Self>> {
        if self.is_reaped() {
            return Err(ENOMEM);
        }
        /// What the copy of a mapping takes of the kernel's memory at most.
        const MOST_PER_MAPPING: usize = 256;
        let needed = self.vmar.usage().mappings * MOST_PER_MAPPING;
        if !super::can_kernel_spare(needed) {
            super::finish_frees();
            if !super::can_kernel_spare(needed) {
                return Err(ENOMEM);
            }
        }
        let heap = self.heap.lock();
        let _promise = match commit::mode() {
            commit::Mode::Never => Some(commit::promise(self, self.vmar.promised())?),
            _ => None,
        };
        let vmar = self.vmar.fork()?;
        let layout = self.layout.lock().clone();
        let has_segments = self.has_segments.load(Ordering::Relaxed);
        let child = Arc::new(Self {
            vmar,
            heap: Mutex::new(*heap),
            layout: SpinLock::new(layout),
            peak_pages: AtomicUsize::new(0),
            locks_future: AtomicBool::new(false),
            wished_for_key: AtomicBool::new(self.wished_for_key.load(Ordering::Relaxed)),
            is_watched: AtomicBool::new(has_segments),
            has_segments: AtomicBool::new(has_segments),
            barriers: self.barriers.clone_for_child(),
            is_reaped: AtomicBool::new(false),
        });
        if has_segments {
            shm::note_forked(&child);
        }
        Ok(child)
    }

    /// The capability to the space.
    pub fn vmar(&self) -> &FullVmar<Ostd> {
        &self.vmar
    }

    /// The barriers that its programs may ask for.
    pub fn barriers(&self) -> &RegisteredBarriers {
        &self.barriers
    }

    /// Makes it the current CPU's.
    pub fn activate(&self) {
        self.vmar.space().activate();
    }

    /// Takes over the limits that concern memory.
    pub fn apply_limits(&self, limits: &Rlimits) {
        let pairs = [
            (Limit::AddressSpace, RLIMIT_AS),
            (Limit::Data, RLIMIT_DATA),
            (Limit::Stack, RLIMIT_STACK),
            (Limit::Locked, RLIMIT_MEMLOCK),
        ];
        for (limit, resource) in pairs {
            let value = usize::try_from(limits.soft(resource)).unwrap_or(usize::MAX);
            self.vmar.limits().set(limit, value);
        }
    }

    /// Where the program's parts are.
    pub fn layout(&self) -> ProgramLayout {
        self.layout.lock().clone()
    }

    /// Where the stack was first used.
    pub fn stack_start(&self) -> Vaddr {
        self.layout.lock().stack_start
    }

    /// Notes where the program's parts are.
    pub fn set_layout(&self, layout: ProgramLayout) {
        let old = core::mem::replace(&mut *self.layout.lock(), layout);
        drop(old);
    }

    /// The heap.
    pub fn heap(&self) -> core::ops::Range<Vaddr> {
        let heap = self.heap.lock();
        heap.start..heap.end
    }

    /// Puts an empty heap at `start`.
    pub fn set_heap(&self, start: Vaddr) {
        *self.heap.lock() = Heap { start, end: start };
    }

    /// Moves the end of the heap to `end`, and answers where it then is: where it was, if it cannot be moved.
    pub fn move_heap_end(&self, end: Vaddr, limits: &Rlimits) -> Vaddr {
        let mut heap = self.heap.lock();
        let layout_data = self.layout.lock().data.len() as u64;
        let limit = limits.soft(RLIMIT_DATA);
        if end < heap.start || ((end - heap.start) as u64).saturating_add(layout_data) > limit {
            return heap.end;
        }
        let Some(new) = end.checked_next_multiple_of(PAGE_SIZE) else { return heap.end };
        let old = heap.end.next_multiple_of(PAGE_SIZE);
        let moved = match new.cmp(&old) {
            // As Linux has it, the heap shrinks as long as anything of what goes is mapped.
            core::cmp::Ordering::Less => {
                self.sample_rss_before(old - new);
                match self.vmar.unmap_any(new..old) {
                    Ok(false) => return heap.end,
                    other => other.map(drop),
                }
            }
            core::cmp::Ordering::Equal => Ok(()),
            core::cmp::Ordering::Greater => {
                let map = || {
                    let map = self.vmar.new_map(new - old).read().write();
                    map.placement(Placement::Apart(old, PAGE_SIZE)).build()
                };
                let Ok(mapped) = commit::with_promise(self, new - old, map) else { return heap.end };
                mapped.map(drop)
            }
        };
        if moved.is_ok() {
            heap.end = end;
        }
        heap.end
    }

    /// Notes that a program wishes for a protection key; answers whether one did before.
    pub fn note_wish_for_key(&self) -> bool {
        self.wished_for_key.swap(true, Ordering::Relaxed)
    }

    /// Whether there may be somebody to tell of changes: a userfaultfd that watches some of it, or a segment of System V memory,
    /// which notes who attaches and detaches it.
    pub fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// Notes that a userfaultfd is going to watch some of it.
    pub fn note_watched(&self) {
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// Notes that a segment of System V memory is attached.
    pub fn note_segment(&self) {
        self.has_segments.store(true, Ordering::Relaxed);
        self.note_watched();
    }

    /// Whether new mappings are locked.
    pub fn locks_future(&self) -> bool {
        self.locks_future.load(Ordering::Relaxed)
    }

    /// Has new mappings get `flags`, by which they are locked or not.
    pub fn lock_future(&self, flags: MappingFlags) {
        self.locks_future.store(!flags.is_empty(), Ordering::Relaxed);
        self.vmar.set_default_flags(flags);
    }

    /// The largest resident set so far, in KiB.
    pub fn peak_rss_kib(&self) -> u64 {
        self.sample_rss();
        (self.peak_pages.load(Ordering::Relaxed) * (PAGE_SIZE / 1024)) as u64
    }

    /// How many pages its page tables take, without a lock: about, and too few where a large program has pages far from each other.
    pub fn table_pages(&self) -> usize {
        // Pages that lie side by side need at least so many.
        let fewest = self.vmar.rss().total_pages() / (PAGE_SIZE / size_of::<u64>());
        self.vmar.space().table_pages().max(fewest)
    }

    /// Forgets that the resident set was ever larger than it is.
    pub fn forget_peak(&self) {
        self.peak_pages.store(0, Ordering::Relaxed);
        self.sample_rss();
    }

    /// Takes the present resident set into account for the largest before `size` bytes of memory go, if that can make a difference
    /// worth the while.
    #[inline]
    pub fn sample_rss_before(&self, size: usize) {
        const LARGE: usize = 16 * PAGE_SIZE;
        if size >= LARGE {
            self.sample_rss();
        }
    }

    /// Takes the present resident set into account for the largest.
    pub fn sample_rss(&self) -> usize {
        let pages = self.vmar.rss().total_pages();
        self.peak_pages.fetch_max(pages, Ordering::Relaxed);
        pages
    }

    /// Serves a page fault.
    ///
    /// # Errors
    ///
    /// Why the access is not possible.
    pub fn serve_fault(&self, fault: fault::PageFault) -> core::result::Result<(), FaultError> {
        if self.is_reaped() {
            return Err(FaultError::BusError);
        }
        if commit::is_strict() {
            self.ask_for_growth(fault.addr)?;
        }
        self.vmar.handle_page_fault(fault.addr, fault.access)
    }

    /// Asks for the memory that a fault takes beyond what was promised to mappings: where a stack grows, for the page of a file in
    /// memory, and of shared memory to which nothing was promised.
    #[cold]
    fn ask_for_growth(&self, addr: Vaddr) -> core::result::Result<(), FaultError> {
        enum Growth {
            Stack(usize),
            Page,
        }
        let page = addr / PAGE_SIZE * PAGE_SIZE;
        let growth = {
            let query = self.vmar.query(page..TASK_SIZE);
            let Some(next) = query.first() else { return Ok(()) };
            let range = next.range();
            if range.start > page {
                next.flags().contains(MappingFlags::GROWS_DOWN).then_some(Growth::Stack(range.start - page))
            } else {
                let index = (next.offset() + (page - range.start)) / PAGE_SIZE;
                let is_missing = match next.mappable().and_then(|known| Known::of(&**known)) {
                    Some(Known::File(mapped)) => {
                        is_fully_shared(&next) && !mapped.file().inode().has_page(index)
                    }
                    Some(Known::Memory(memory)) => {
                        memory.promise().is_by_page() && memory.object().page(index).is_none()
                    }
                    Some(Known::Segment(segment)) => {
                        segment.promise().is_by_page() && segment.object().page(index).is_none()
                    }
                    None => false,
                };
                is_missing.then_some(Growth::Page)
            }
        };
        match growth {
            Some(Growth::Stack(more)) => commit::require(self, more).map_err(|_| FaultError::NotMapped),
            Some(Growth::Page) => commit::require(self, PAGE_SIZE).map_err(|_| FaultError::BusError),
            None => Ok(()),
        }
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        if self.has_segments.load(Ordering::Relaxed) {
            shm::note_ended(self);
        }
    }
}
