// SPDX-License-Identifier: MPL-2.0

//! What the tests have in common: a host that refuses, an audit of the host's map, files, random numbers.

use std::{
    fs::{self, File},
    io::Write,
    ops::Range,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use vmar_hosted::{
    GuestSpace, MappingInfo, PageSize, VmPerms,
    host::{Area, Errno, Host, HostProt, Memory},
    posix::Posix,
};

pub mod oracle;

pub const R: VmPerms = VmPerms::READ;
pub const W: VmPerms = VmPerms::WRITE;
pub const X: VmPerms = VmPerms::EXEC;
pub const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);
pub const NONE: VmPerms = VmPerms::empty();

/// The pairs of page sizes that are tested: guest, and what the host's is taken to be.
pub const SIZES: [(PageSize, PageSize); 8] = [
    (PageSize::Kib4, PageSize::Kib4),
    (PageSize::Kib4, PageSize::Kib16),
    (PageSize::Kib4, PageSize::Kib64),
    (PageSize::Kib8, PageSize::Kib4),
    (PageSize::Kib8, PageSize::Kib16),
    (PageSize::Kib16, PageSize::Kib4),
    (PageSize::Kib16, PageSize::Kib64),
    (PageSize::Kib64, PageSize::Kib4),
];

/// Equal, smaller, larger.
pub const THREE: [(PageSize, PageSize); 3] = [SIZES[0], SIZES[1], SIZES[3]];

/// The real host, which counts calls, refuses the one that it is told to, and is asked for nothing but whole pages of the
/// granule's size.
pub struct Picky {
    granule: usize,
    calls: AtomicUsize,
    /// The calls that are refused.
    refuse: [AtomicUsize; 2],
}

impl Picky {
    pub fn new(granule: PageSize) -> Self {
        Self {
            granule: granule.bytes(),
            calls: AtomicUsize::new(0),
            refuse: [const { AtomicUsize::new(usize::MAX) }; 2],
        }
    }

    /// Counts anew, and refuses the call after `calls` more.
    pub fn refuse_after(&self, calls: usize) {
        self.refuse(calls..calls + 1);
    }

    /// Counts anew, and refuses all calls after `calls` more.
    pub fn refuse_from(&self, calls: usize) {
        self.refuse(calls..usize::MAX);
    }

    /// Refuses nothing any more, and returns how many calls there were.
    pub fn refuse_none(&self) -> usize {
        let calls = self.calls.load(Relaxed);
        self.refuse(usize::MAX..usize::MAX);
        calls
    }

    fn refuse(&self, calls: Range<usize>) {
        self.calls.store(0, Relaxed);
        self.refuse[0].store(calls.start, Relaxed);
        self.refuse[1].store(calls.end, Relaxed);
    }

    fn gate(&self) -> Result<(), Errno> {
        let call = self.calls.fetch_add(1, Relaxed);
        let refused = self.refuse[0].load(Relaxed)..self.refuse[1].load(Relaxed);
        if refused.contains(&call) { Err(Errno::NOMEM) } else { Ok(()) }
    }

    fn pages(&self, range: &Range<usize>) {
        assert!(
            range.start.is_multiple_of(self.granule) && range.end.is_multiple_of(self.granule),
            "{range:x?} is not of the granule's pages"
        );
    }
}

impl Host for Picky {
    fn page_size(&self) -> usize {
        Posix.page_size()
    }

    fn reserve(&self, size: usize, align: usize) -> Result<Area, Errno> {
        self.gate()?;
        Posix.reserve(size, align)
    }

    fn stage(&self, size: usize) -> Result<Area, Errno> {
        self.gate()?;
        self.pages(&(0..size));
        Posix.stage(size)
    }

    fn map(&self, area: &Area, range: Range<usize>, prot: HostProt, memory: Memory<'_>) -> Result<(), Errno> {
        self.gate()?;
        self.pages(&range);
        if let Memory::File { offset, .. } = memory {
            assert!(
                offset.is_multiple_of(self.granule as u64),
                "offset {offset:#x} is none of the granule's"
            );
        }
        Posix.map(area, range, prot, memory)
    }

    fn protect(&self, area: &Area, range: Range<usize>, prot: HostProt) -> Result<(), Errno> {
        self.gate()?;
        self.pages(&range);
        Posix.protect(area, range, prot)
    }

    fn take(&self, area: &Area, range: Range<usize>) -> Result<Area, Errno> {
        self.gate()?;
        self.pages(&range);
        Posix.take(area, range)
    }

    fn put(&self, from: Area, area: &Area, range: Range<usize>) -> Result<(), (Area, Errno)> {
        if let Err(errno) = self.gate() {
            return Err((from, errno));
        }
        self.pages(&range);
        Posix.put(from, area, range)
    }

    fn discard(&self, area: &Area, range: Range<usize>) -> Result<(), Errno> {
        self.gate()?;
        self.pages(&range);
        Posix.discard(area, range)
    }

    fn read(&self, area: &Area, offset: usize, buf: &mut [u8]) -> Result<usize, Errno> {
        self.gate()?;
        Posix.read(area, offset, buf)
    }

    fn write(&self, area: &Area, offset: usize, bytes: &[u8]) -> Result<usize, Errno> {
        self.gate()?;
        Posix.write(area, offset, bytes)
    }

    fn read_file(
        &self,
        area: &Area,
        range: Range<usize>,
        file: BorrowedFd<'_>,
        offset: u64,
    ) -> Result<usize, Errno> {
        self.gate()?;
        Posix.read_file(area, range, file, offset)
    }

    fn file_size(&self, file: BorrowedFd<'_>) -> Result<u64, Errno> {
        self.gate()?;
        Posix.file_size(file)
    }

    fn nameless_file(&self, size: usize) -> Result<OwnedFd, Errno> {
        self.gate()?;
        Posix.nameless_file(size)
    }

    fn attach(&self, segment: i32, prot: HostProt) -> Result<Area, Errno> {
        self.gate()?;
        Posix.attach(segment, prot)
    }

    fn segment_size(&self, segment: i32) -> Result<usize, Errno> {
        self.gate()?;
        Posix.segment_size(segment)
    }
}

/// Where the guest's range starts in the tests.
pub const BASE: usize = 1 << 20;

/// Makes a space of `units` of the larger page size.
pub fn space_of((guest, granule): (PageSize, PageSize), units: usize) -> GuestSpace<Picky> {
    let unit = guest.bytes().max(granule.bytes());
    GuestSpace::builder(guest)
        .granule(granule)
        .range(BASE..BASE + units * unit)
        .build_on(Picky::new(granule))
        .unwrap()
}

/// Makes a file that holds `bytes`, open for reading and writing, and another descriptor that is open for reading.
pub fn file_of(bytes: &[u8]) -> (Arc<OwnedFd>, Arc<OwnedFd>) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let read_only = File::open(file.path()).unwrap();
    (Arc::new(OwnedFd::from(file.into_file())), Arc::new(OwnedFd::from(read_only)))
}

/// Returns `len` bytes that differ from their neighbours and from those pages away.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ (at / 4096) as u8 | 1).collect()
}

/// Returns the bytes at an address, and how many of them could be read.
pub fn bytes<H: Host>(space: &GuestSpace<H>, addr: usize, len: usize) -> Vec<u8> {
    let mut buf = vec![0; len];
    let count = space.read(addr, &mut buf).unwrap_or(0);
    buf.truncate(count);
    buf
}

/// One line of `/proc/self/maps`.
#[derive(Clone, Debug)]
pub struct HostMapping {
    pub range: Range<usize>,
    pub flags: String,
}

/// Returns what the host has at `range`.
pub fn host_map(range: Range<usize>) -> Vec<HostMapping> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let addr = |text| usize::from_str_radix(text, 16).ok();
        let range = addr(start)?..addr(end)?;
        Some(HostMapping { range, flags: words.next()?.to_owned() })
    };
    maps.lines()
        .filter_map(parse)
        .filter(|found| found.range.start < range.end && range.start < found.range.end)
        .collect()
}

/// Checks the host's map of the guest's range: no hole, nothing executable, and in each page the union of what the guest may do there.
pub fn audit<H: Host>(space: &GuestSpace<H>) {
    let guest = space.range();
    let start = space.host_address(guest.start).unwrap();
    let host = start..start + guest.len();
    let infos = space.query(guest.clone());
    let mut end = host.start;
    for found in host_map(host.clone()) {
        assert!(found.range.start <= end, "a hole at {end:#x}");
        assert!(!found.flags.contains('x'), "executable at {:#x}", found.range.start);
        let first = found.range.start.max(host.start);
        end = found.range.end.min(host.end);
        for page in (first..end).step_by(4096) {
            let unit = (page - host.start) / space.granule() * space.granule() + guest.start;
            let unit = unit..unit + space.granule();
            let expected = expected_prot(&infos, &unit);
            assert_eq!(&found.flags[..2], expected, "host page of {unit:x?}");
        }
    }
    assert_eq!(end, host.end, "a hole at the end");
}

fn expected_prot(infos: &[MappingInfo], unit: &Range<usize>) -> &'static str {
    let inside = infos.iter().filter(|info| info.range.start < unit.end && unit.start < info.range.end);
    let perms = inside.fold(VmPerms::empty(), |all, info| all | info.prot.perms);
    match perms {
        _ if perms.contains(VmPerms::WRITE) => "rw",
        _ if perms.is_empty() => "--",
        _ => "r-",
    }
}

/// What the guest knows of its space, as text, and all that it can read.
pub fn snapshot<H: Host>(space: &GuestSpace<H>) -> Vec<(String, Vec<u8>)> {
    let infos = space.query(space.range());
    let show = |info: &MappingInfo| {
        let text = format!(
            "{:x?} {:?} {:?} {:?} {:?} {:?}",
            info.range, info.prot, info.may, info.source, info.sharing, info.on_fork
        );
        (text, bytes(space, info.range.start, info.range.len()))
    };
    infos.iter().map(show).collect()
}

/// Random numbers that can be had again: the seed is `HOSTED_SEED`, and is printed when a test fails.
pub fn random(name: &str) -> (fastrand::Rng, impl Drop + use<>) {
    let seed = std::env::var("HOSTED_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    (fastrand::Rng::with_seed(seed), ShowSeed(name.to_owned(), seed))
}

struct ShowSeed(String, u64);

impl Drop for ShowSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: HOSTED_SEED={} shows it again", self.0, self.1);
        }
    }
}

/// Returns how many random steps to make: `HOSTED_STEPS`, or as many as it takes a few seconds to.
pub fn steps(usual: usize) -> usize {
    std::env::var("HOSTED_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(usual)
}
