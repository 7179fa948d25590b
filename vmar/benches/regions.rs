// SPDX-License-Identifier: MPL-2.0

//! Two threads in one region, and in two siblings, by the wall clock.
//!
//! `cargo bench -p vmar --bench regions`
//!
//! The machine is the host, as far as it matters here: its locks are the host's, its page table is a lock for each gigabyte around a map,
//! and its frames come from the host's allocator. What a thread does is done by hundreds in each of many rounds; the best round counts.

use std::{
    collections::BTreeMap,
    hint::black_box,
    ops::Range,
    sync::{
        Arc, Barrier, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicIsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use vmar::{
    error::OutOfMemory,
    limits::Limits,
    machine::{
        AddressSpace, Blank, Counter, Cursor, Entry, Frame, IoMem, Machine, PageFlags, PageProps, SleepLock,
    },
    perms::VmPerms,
    vmar::{FullVmar, fault::Access},
};

const PAGE_SIZE: usize = 4096;
const NODE_SPAN: usize = 1 << 30;
const NODES: usize = 16;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

/// How many pages are mapped and faulted in.
const PAGES: usize = 32;
const REPEATS: usize = 100;
const ROUNDS: usize = 30;

#[derive(Clone, Debug)]
struct Host;

#[derive(Clone)]
struct HostFrame(Arc<Mutex<Box<[u8]>>>);

impl HostFrame {
    fn bytes(&self) -> MutexGuard<'_, Box<[u8]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frame for HostFrame {
    fn read(&self, offset: usize, buf: &mut [u8]) {
        buf.copy_from_slice(&self.bytes()[offset..offset + buf.len()]);
    }

    fn write(&self, offset: usize, buf: &[u8]) {
        self.bytes()[offset..offset + buf.len()].copy_from_slice(buf);
    }

    fn zero(&self, range: Range<usize>) {
        self.bytes()[range].fill(0);
    }

    fn id(&self) -> u64 {
        Arc::as_ptr(&self.0).addr() as u64
    }

    fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

struct HostBlank;

impl Blank for HostBlank {
    type Frame = HostFrame;

    fn zeroed(self) -> HostFrame {
        HostFrame(Arc::new(Mutex::new(vec![0; PAGE_SIZE].into())))
    }

    fn copy_of(self, source: &HostFrame) -> HostFrame {
        HostFrame(Arc::new(Mutex::new(source.bytes().clone())))
    }
}

#[derive(Clone, Debug)]
struct NoDevice;

impl IoMem for NoDevice {
    fn size(&self) -> usize {
        0
    }
}

struct HostLock<T>(RwLock<T>);

impl<T: Send + Sync + 'static> SleepLock<T> for HostLock<T> {
    type ReadGuard<'a> = RwLockReadGuard<'a, T>;
    type WriteGuard<'a> = RwLockWriteGuard<'a, T>;

    fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One part for each of a few threads, each in a cache line of its own.
#[repr(align(128))]
struct Part(AtomicIsize);

struct HostCounter([Part; 4]);

thread_local! {
    static NUMBER: usize = {
        static NEXT: AtomicIsize = AtomicIsize::new(0);
        NEXT.fetch_add(1, Relaxed) as usize % 4
    };
}

impl Counter for HostCounter {
    fn add(&self, delta: isize) {
        self.0[NUMBER.with(|number| *number)].0.fetch_add(delta, Relaxed);
    }

    fn sum(&self) -> isize {
        self.0.iter().map(|part| part.0.load(Relaxed)).sum()
    }
}

type Node = BTreeMap<usize, (HostFrame, PageProps)>;

/// A page table with a lock for each gigabyte.
struct HostSpace(Vec<Mutex<Node>>);

struct HostCursor<'a> {
    first: usize,
    nodes: Vec<MutexGuard<'a, Node>>,
    position: usize,
}

impl HostCursor<'_> {
    fn node(&mut self, addr: usize) -> &mut Node {
        &mut self.nodes[addr / NODE_SPAN - self.first]
    }

    fn each(&mut self, end: usize, mut visit: impl FnMut(&mut PageProps)) {
        let range = self.position..end;
        self.nodes
            .iter_mut()
            .flat_map(|node| node.range_mut(range.clone()))
            .for_each(|(_, (_, props))| visit(props));
        self.position = end;
    }
}

impl AddressSpace for HostSpace {
    type Machine = Host;
    type Cursor<'a> = HostCursor<'a>;

    const ISOLATION: usize = NODE_SPAN;

    fn user_range(&self) -> Range<usize> {
        NODE_SPAN..NODES * NODE_SPAN
    }

    fn transact<T>(
        &self,
        range: Range<usize>,
        _growth: usize,
        body: impl FnOnce(&mut HostCursor<'_>) -> T,
    ) -> Result<T, OutOfMemory> {
        let first = range.start / NODE_SPAN;
        let nodes = &self.0[first..=(range.end - 1) / NODE_SPAN];
        let nodes = nodes.iter().map(|node| node.lock().unwrap_or_else(PoisonError::into_inner)).collect();
        Ok(body(&mut HostCursor { first, nodes, position: range.start }))
    }

    fn peek(&self, range: &Range<usize>) -> Option<usize> {
        Some(range.start)
    }

    fn detach(&self) -> Result<Self, OutOfMemory> {
        Err(OutOfMemory)
    }

    fn attach(&self, _other: Self) {
        unreachable!("nothing was detached")
    }
}

impl Cursor for HostCursor<'_> {
    type Machine = Host;
    type FrameRef<'a>
        = &'a HostFrame
    where
        Self: 'a;

    fn position(&self) -> usize {
        self.position
    }

    fn seek(&mut self, addr: usize) {
        self.position = addr;
    }

    fn query(&mut self) -> Entry<&HostFrame> {
        let addr = self.position;
        match self.node(addr).get(&addr) {
            None => Entry::Empty,
            Some((frame, props)) => Entry::Page { frame, props: *props },
        }
    }

    fn next_mapped(&mut self, end: usize) -> Option<usize> {
        let range = self.position..end;
        let next = self.nodes.iter().find_map(|node| node.range(range.clone()).next()).map(|(addr, _)| *addr);
        self.position = next.unwrap_or(end);
        next
    }

    fn put(&mut self, frame: HostFrame, props: PageProps) {
        let addr = self.position;
        self.node(addr).insert(addr, (frame, props));
        self.position += PAGE_SIZE;
    }

    fn map_device(&mut self, _io: &NoDevice, _offset: usize, _props: PageProps) {
        unreachable!("there are no devices")
    }

    fn unmap(&mut self, end: usize) -> usize {
        let range = self.position..end;
        self.position = end;
        self.nodes.iter_mut().map(|node| node.extract_if(range.clone(), |_, _| true).count()).sum()
    }

    fn take(&mut self) -> Option<(HostFrame, PageProps)> {
        let addr = self.position;
        self.node(addr).remove(&addr)
    }

    fn narrow(&mut self, end: usize, lost: PageFlags) {
        self.each(end, |props| props.flags.remove(lost));
    }

    fn widen(&mut self, end: usize, gained: PageFlags) {
        self.each(end, |props| props.flags.insert(gained));
    }
}

impl Machine for Host {
    const PAGE_SIZE: usize = PAGE_SIZE;

    type Space = HostSpace;
    type Frame = HostFrame;
    type Blank = HostBlank;
    type IoMem = NoDevice;
    type Lock<T: Send + Sync + 'static> = HostLock<T>;
    type Counter = HostCounter;

    fn new_space(&self) -> Result<HostSpace, OutOfMemory> {
        Ok(HostSpace((0..NODES).map(|_| Mutex::default()).collect()))
    }

    fn new_counter(&self) -> Result<HostCounter, OutOfMemory> {
        Ok(HostCounter([const { Part(AtomicIsize::new(0)) }; 4]))
    }

    fn alloc(&self) -> Result<HostBlank, OutOfMemory> {
        Ok(HostBlank)
    }

    fn zero_frame(&self) -> HostFrame {
        HostBlank.zeroed()
    }
}

fn work_in(region: &FullVmar<Host>) {
    for _ in 0..REPEATS {
        let start = region.new_map(PAGES * PAGE_SIZE).perms(RW).build().expect("there is room");
        for page in 0..PAGES {
            region.handle_page_fault(start + page * PAGE_SIZE, Access::Write).expect("it is mapped");
        }
        for page in 0..PAGES {
            let at = start + page * PAGE_SIZE;
            region.protect(at..at + PAGE_SIZE, VmPerms::READ).expect("it is mapped");
        }
        region.unmap(start..start + PAGES * PAGE_SIZE).expect("it is there");
    }
}

/// Returns the shortest time in which a thread for each region does its work.
fn best(regions: &[&FullVmar<Host>]) -> Duration {
    let round = || {
        let barrier = Arc::new(Barrier::new(regions.len() + 1));
        let threads: Vec<_> = regions
            .iter()
            .map(|region| {
                let (barrier, region) = (barrier.clone(), region.dup());
                thread::spawn(move || {
                    barrier.wait();
                    work_in(black_box(&region));
                })
            })
            .collect();
        let start = Instant::now();
        barrier.wait();
        threads.into_iter().for_each(|thread| thread.join().expect("no thread fails"));
        start.elapsed()
    };
    (0..ROUNDS).map(|_| round()).min().unwrap_or_default()
}

fn main() {
    let root = FullVmar::new(Host, Limits::new()).expect("a space");
    let new = || root.new_region(PAGE_SIZE).own_tables().build().expect("a region");
    let (one, other) = (new(), new());
    let alone = best(&[&one]);
    for (name, regions) in [("in siblings", [&one, &other]), ("in one region", [&one, &one])] {
        let time = best(&regions);
        println!(
            "two threads {name}: {:.2} times as long as one alone ({time:?}, {alone:?})",
            time.as_secs_f64() / alone.as_secs_f64()
        );
    }
}
