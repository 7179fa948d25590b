// SPDX-License-Identifier: MPL-2.0

//! The space itself: how it is made, and its lock.
//!
//! All state is under one lock, which each call takes once (Q13). The calls' work is done by methods of [`Call`], which holds
//! it: one that needs another calls it there.

use std::{
    fmt,
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use vmar::{
    error,
    limits::{Limits, Usage},
    placement::Window,
};

use crate::{
    commit::Commit,
    error::Error,
    heap::Heap,
    host::{Area, Host},
    layout::{Layout, PageSize},
    mapping::ArchProt,
    observer::{Change, Observer},
    posix::Posix,
    search::Search,
    table::Table,
};

/// The address space of a guest, in a range of the host's.
pub struct GuestSpace<H: Host = Posix> {
    host: H,
    area: Area,
    layout: Layout,
    arch: ArchProt,
    segment_align: usize,
    limits: Limits,
    state: Mutex<State>,
    calls: AtomicU64,
}

/// How a space is to be. By default it is 64 GiB from address 0 on, nothing of which is placed below 64 KiB.
#[must_use = "nothing is made before `build`"]
pub struct Builder {
    page_size: PageSize,
    granule: Option<PageSize>,
    range: Range<usize>,
    window: Option<Window>,
    arch: ArchProt,
    segment_align: usize,
    limits: Limits,
    observer: Option<Box<dyn Observer>>,
}

/// What the lock is over.
pub(crate) struct State {
    pub table: Table,
    pub search: Search,
    pub heap: Option<Heap>,
    pub attachments: u64,
    observer: Option<Box<dyn Observer>>,
    is_broken: bool,
}

/// A call: the space, with its lock held.
pub(crate) struct Call<'a, H: Host> {
    space: &'a GuestSpace<H>,
    pub state: MutexGuard<'a, State>,
}

impl GuestSpace {
    /// Starts to make a space for a guest with pages of this size.
    pub fn builder(page_size: PageSize) -> Builder {
        Builder {
            page_size,
            granule: None,
            range: 0..64 << 30,
            window: None,
            arch: ArchProt::empty(),
            segment_align: 0,
            limits: Limits::new(),
            observer: None,
        }
    }
}

impl Builder {
    /// Sets the guest's addresses (bytes). Both ends are multiples of the guest's and of the host's page size.
    pub fn range(mut self, range: Range<usize>) -> Self {
        self.range = range;
        self
    }

    /// Sets where the space places what may go anywhere.
    pub fn window(mut self, window: Window) -> Self {
        self.window = Some(window);
        self
    }

    /// Takes the host's pages to be larger than they are: as on a host with such pages, nothing smaller is asked of it.
    pub fn granule(mut self, granule: PageSize) -> Self {
        self.granule = Some(granule);
        self
    }

    /// Accepts these protection bits of the guest's processor. None by default.
    pub fn arch_prot(mut self, arch: ArchProt) -> Self {
        self.arch = arch;
        self
    }

    /// Sets what segments of shared memory are aligned to (`SHMLBA`; bytes, a power of two). The guest's page size by default.
    pub fn segment_align(mut self, align: usize) -> Self {
        self.segment_align = align;
        self
    }

    /// Sets bounds on what the space may hold.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Tells somebody of each change.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Makes the space on the host that this program runs on.
    ///
    /// # Errors
    ///
    /// As [`Builder::build_on`].
    pub fn build(self) -> Result<GuestSpace, Error> {
        self.build_on(Posix)
    }

    /// Makes the space on a host.
    ///
    /// # Errors
    ///
    /// The range is empty or its ends are not multiples of both page sizes, the granule is smaller than the host's pages, the
    /// alignment of segments is no power of two, or the host refuses to reserve the range.
    pub fn build_on<H: Host>(self, host: H) -> Result<GuestSpace<H>, Error> {
        let host_page = self.granule.map_or(host.page_size(), PageSize::bytes);
        let layout = Layout { range: self.range, guest: self.page_size.bytes(), host: host_page };
        let unit = layout.unit();
        if layout.range.is_empty() {
            return Err(error::Error::InvalidSize.into());
        }
        let segment_align = self.segment_align.max(unit);
        if host_page < host.page_size()
            || !layout.range.start.is_multiple_of(unit)
            || !layout.range.end.is_multiple_of(unit)
            || !segment_align.is_power_of_two()
        {
            return Err(error::Error::InvalidAlignment.into());
        }
        let window = self.window.unwrap_or_else(|| Window::covering(layout.range.clone(), unit));
        let area = host.reserve(layout.range.len(), unit)?;
        let state = State {
            table: Table::default(),
            search: Search::new(window),
            heap: None,
            attachments: 0,
            observer: self.observer,
            is_broken: false,
        };
        Ok(GuestSpace {
            host,
            area,
            layout,
            arch: self.arch,
            segment_align,
            limits: self.limits,
            state: Mutex::new(state),
            calls: AtomicU64::new(0),
        })
    }
}

impl<H: Host> GuestSpace<H> {
    /// Returns the guest's addresses (bytes).
    pub fn range(&self) -> Range<usize> {
        self.layout.range.clone()
    }

    /// Returns the size of the guest's pages (bytes).
    pub fn page_size(&self) -> usize {
        self.layout.guest
    }

    /// Returns the size of the host's pages, or what it is taken to be (bytes).
    pub fn granule(&self) -> usize {
        self.layout.host
    }

    /// Returns the protection bits of the guest's processor that are accepted.
    pub fn arch_prot(&self) -> ArchProt {
        self.arch
    }

    /// Returns what segments of shared memory are aligned to (bytes).
    pub fn segment_align(&self) -> usize {
        self.segment_align
    }

    /// Returns the bounds on what the space may hold.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns how much the guest has mapped.
    pub fn usage(&self) -> Usage {
        self.lock().state.table.usage()
    }

    /// Returns the host's address for one of the guest's, mapped or not; `None` outside of its range.
    ///
    /// What is there may change with every call. To use the pointer is for whoever runs the guest's code; everybody else
    /// [reads](Self::read) and [writes](Self::write).
    pub fn host_address(&self, addr: usize) -> Option<usize> {
        self.layout.range.contains(&addr).then(|| self.area.start() + self.layout.offset(addr))
    }

    /// Returns how often the lock has been taken.
    pub fn times_locked(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Returns the host.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// Takes the lock for a call.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if the space is.
    pub(crate) fn enter(&self) -> Result<Call<'_, H>, Error> {
        let call = self.lock();
        if call.state.is_broken { Err(Error::Broken) } else { Ok(call) }
    }

    pub(crate) fn lock(&self) -> Call<'_, H> {
        self.calls.fetch_add(1, Relaxed);
        // Whoever panicked with the lock held was an observer: the change that it was told of was complete.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Call { space: self, state }
    }
}

impl<'a, H: Host> Call<'a, H> {
    pub fn space(&self) -> &'a GuestSpace<H> {
        self.space
    }

    pub fn host(&self) -> &'a H {
        &self.space.host
    }

    pub fn area(&self) -> &'a Area {
        &self.space.area
    }

    pub fn layout(&self) -> &'a Layout {
        &self.space.layout
    }

    /// Does some work on the host, and takes back what was done if it fails.
    pub fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Commit<'a, H>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut commit = Commit::new(self.host(), self.area(), self.layout());
        match work(self, &mut commit) {
            Ok(value) => Ok(value),
            Err(error) => {
                if let Err(broken) = commit.roll_back() {
                    self.state.is_broken = true;
                    return Err(broken);
                }
                Err(error)
            }
        }
    }

    /// Tells the observer.
    pub fn tell(&mut self, change: Change) {
        if let Some(observer) = &mut self.state.observer {
            observer.changed(&change);
        }
    }
}

impl<H: Host> fmt::Debug for GuestSpace<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestSpace")
            .field("range", &format_args!("{:#x}..{:#x}", self.layout.range.start, self.layout.range.end))
            .field("page_size", &self.layout.guest)
            .field("granule", &self.layout.host)
            .finish_non_exhaustive()
    }
}
