// SPDX-License-Identifier: MPL-2.0

//! What is promised, row by row. The rules of what may be mapped how are those of `negotiate`, whose every combination is
//! tried where it is.

mod anonymous;
mod model;

use alloc::{sync::Arc, vec, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Mutex;

use aster_rights::Rights;
use vmar::fallible::inject;

use super::*;

extern crate std;

const PAGE: usize = 64;
const R: VmPerms = VmPerms::READ;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);
const RX: VmPerms = VmPerms::READ.union(VmPerms::EXEC);
const PRIVATE: MapFlags = MapFlags::PRIVATE;
const SHARED: MapFlags = MapFlags::SHARED;

/// A file in memory.
#[derive(Debug)]
struct MemFile {
    id: u64,
    backing: Backing,
    /// Where its bytes are: that they lie there is all that matters to whoever locates it.
    addr: usize,
    bytes: Mutex<Vec<u8>>,
    /// Up to where it can be located.
    located: usize,
    /// How many bytes one read brings at most.
    stride: usize,
    reads: AtomicUsize,
}

impl MemFile {
    fn new(id: u64, len: usize) -> Self {
        let bytes = (0..len).map(|at| (at as u8).wrapping_mul(7).wrapping_add(id as u8)).collect();
        Self {
            id,
            backing: Backing::MEMORY,
            addr: 0x8000_0000 + id as usize * 0x1_0000,
            bytes: Mutex::new(bytes),
            located: len,
            stride: usize::MAX,
            reads: AtomicUsize::new(0),
        }
    }

    fn without(mut self, capabilities: Capabilities) -> Self {
        self.backing.capabilities -= capabilities;
        self
    }

    fn in_state(mut self, state: FileState) -> Self {
        self.backing.state = state;
        self
    }

    fn open(self) -> Arc<dyn File> {
        Arc::new(self)
    }
}

impl File for MemFile {
    fn id(&self) -> u64 {
        self.id
    }

    fn backing(&self) -> Backing {
        self.backing
    }

    fn read_at(&self, offset: usize, buf: &mut [u8]) -> Result<usize, Error> {
        self.reads.fetch_add(1, Relaxed);
        let bytes = self.bytes.lock().unwrap();
        let rest = bytes.get(offset..).unwrap_or_default();
        let count = rest.len().min(buf.len()).min(self.stride);
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<usize, Error> {
        let mut own = self.bytes.lock().unwrap();
        let rest = own.get_mut(offset..).unwrap_or_default();
        let count = rest.len().min(bytes.len());
        rest[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn locate(&self, offset: usize, len: usize) -> Result<Option<usize>, Error> {
        Ok((offset + len <= self.located).then_some(self.addr + offset))
    }
}

/// Makes a pool of `pages` pages, which hold garbage.
fn flat(pages: usize) -> Flat<Arena<'static>> {
    let bytes = vec![0xa5_u8; (pages + 1) * PAGE - 1].leak();
    Flat::new(Arena::new(bytes), PAGE).unwrap()
}

fn program() -> Program {
    Program::new(Limits::new())
}

fn anonymous(len: usize, perms: VmPerms) -> Request<'static> {
    Request { len, perms, flags: PRIVATE, ..Request::default() }
}

fn of(file: &Arc<dyn File>, offset: usize, len: usize, perms: VmPerms, flags: MapFlags) -> Request<'_> {
    Request { len, perms, flags, file: Some((file, offset)), ..Request::default() }
}

fn bytes(flat: &Flat<Arena<'_>>, program: &Program, addr: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    flat.read(program, addr, &mut bytes).unwrap();
    bytes
}

#[test]
fn n1_what_no_flat_machine_can_do_is_refused() {
    let (mut flat, mut program) = (flat(8), program());
    let usual = anonymous(PAGE, RW);
    let file = MemFile::new(1, 4 * PAGE).open();
    let mut refused = |request: Request<'_>| flat.map(&mut program, &request).unwrap_err();
    for flags in [PRIVATE, SHARED] {
        for file in [None, Some((&file, 0))] {
            let usual = Request { flags, file, ..usual };
            assert_eq!(refused(Request { addr: PAGE, ..usual }), Error::InvalidOptions);
            assert_eq!(refused(Request { flags: flags | MapFlags::FIXED, ..usual }), Error::InvalidOptions);
            assert_eq!(refused(Request { len: 0, ..usual }), Error::InvalidSize);
            assert_eq!(refused(Request { len: usize::MAX, ..usual }), Error::InvalidSize);
        }
        let off = |offset, len| Request { flags, len, file: Some((&file, offset)), ..usual };
        assert_eq!(refused(off(usize::MAX - PAGE + 1, 1)), Error::InvalidOffset);
        assert_eq!(refused(off(usize::MAX - 2 * PAGE + 1, PAGE + 1)), Error::InvalidOffset);
        assert_eq!(refused(off(1, PAGE)), Error::InvalidAlignment);
    }
    for flags in [MapFlags::empty(), PRIVATE | SHARED, MapFlags::UNINITIALIZED] {
        for file in [None, Some((&file, 0))] {
            assert_eq!(refused(Request { flags, file, ..usual }), Error::InvalidOptions);
        }
    }
    assert_eq!((flat.free_pages(), program.mappings().len()), (8, 0));
    flat.exit(program);
}

#[test]
fn n2_to_n7_are_negotiated() {
    let (mut flat, mut program) = (flat(8), program());
    let open = FileState::READABLE | FileState::WRITABLE;
    let mut map = |file: MemFile, perms, flags| {
        let file = file.open();
        let start = flat.map(&mut program, &of(&file, 0, PAGE, perms, flags))?;
        Ok(program.mappings().iter().find(|mapping| mapping.range().start == start).unwrap().is_direct())
    };
    let new = || MemFile::new(1, PAGE);
    let refusal = |refusal| Err::<bool, _>(Error::Refused(refusal));
    let mut unmappable = new();
    unmappable.backing = Backing::unmappable(open);
    assert_eq!(map(unmappable, R, PRIVATE), refusal(Refusal::NotMappable));
    // Direct where that will do, else a copy.
    assert_eq!(map(new(), R, PRIVATE), Ok(true));
    assert_eq!(map(new(), RW, PRIVATE), Ok(false));
    assert_eq!(map(new(), RW, SHARED), Ok(true));
    assert_eq!(map(new().without(Capabilities::MAP_DIRECT), R, PRIVATE), Ok(false));
    assert_eq!(map(new().without(Capabilities::MAP_DIRECT), R, SHARED), refusal(Refusal::NotDirect));
    assert_eq!(map(new().without(Capabilities::MAP_COPY), R, PRIVATE), refusal(Refusal::NotCopyable));
    assert_eq!(map(new().without(Capabilities::EXEC_MAP), RX, PRIVATE), Ok(false));
    assert_eq!(map(new().without(Capabilities::WRITE_MAP), RW, SHARED), refusal(Refusal::BeyondCapabilities));
    assert_eq!(map(new().in_state(FileState::READABLE), RW, SHARED), refusal(Refusal::NotWritable));
    assert_eq!(map(new().in_state(FileState::WRITABLE), R, PRIVATE), refusal(Refusal::NotReadable));
    assert_eq!(map(new().in_state(open | FileState::APPEND_ONLY), R, SHARED), refusal(Refusal::AppendOnly));
    assert_eq!(map(new().in_state(open | FileState::LOCKED), R, SHARED), refusal(Refusal::Locked));
    assert_eq!(map(new().in_state(open | FileState::NO_EXEC), RX, PRIVATE), refusal(Refusal::NoExec));
    flat.exit(program);
    assert_eq!((flat.free_pages(), flat.regions()), (8, 0));
    // The ceiling of a program, and its personality, have their say.
    let mut bounded = Program::new(Limits::new()).with_ceiling(Rights::READ | Rights::WRITE);
    assert_eq!(flat.map(&mut bounded, &anonymous(PAGE, RX)), Err(Error::AccessDenied));
    let mut implying = super::tests::program().with_personality(Personality::ReadImpliesExec);
    flat.map(&mut implying, &anonymous(PAGE, R)).unwrap();
    assert!(implying.mappings()[0].perms().contains(RX));
    flat.exit(implying);
}

#[test]
fn n8_equal_read_only_copies_share_one_region() {
    let (mut flat, mut one, mut two) = (flat(16), program(), program());
    let open = |id| MemFile::new(id, 8 * PAGE).without(Capabilities::MAP_DIRECT).open();
    // Two openings of one file, and another file.
    let (file, again, other) = (open(1), open(1), open(2));
    let first = flat.map(&mut one, &of(&file, 0, 2 * PAGE, R, PRIVATE)).unwrap();
    assert_eq!(flat.map(&mut two, &of(&again, 0, 2 * PAGE - 1, RX, PRIVATE)), Ok(first));
    assert_eq!(flat.map(&mut one, &of(&file, 0, 2 * PAGE, R, PRIVATE)), Ok(first));
    assert_eq!((flat.regions(), flat.free_pages()), (1, 14));
    // What differs in file, offset, length, or is written, is another region.
    let others = [
        of(&other, 0, 2 * PAGE, R, PRIVATE),
        of(&file, PAGE, 2 * PAGE, R, PRIVATE),
        of(&file, 0, PAGE, R, PRIVATE),
        of(&file, 0, 2 * PAGE, RW, PRIVATE),
    ];
    for (count, request) in (2..).zip(&others) {
        let start = flat.map(&mut two, request).unwrap();
        assert_ne!(start, first);
        assert_eq!(flat.regions(), count);
    }
    // It is there until the last one has gone.
    flat.exit(two);
    assert_eq!(flat.regions(), 1);
    flat.unmap(&mut one, first..first + 2 * PAGE).unwrap();
    assert_eq!(bytes(&flat, &one, first, 1), [1]);
    flat.unmap(&mut one, first..first + 2 * PAGE).unwrap();
    assert_eq!((flat.regions(), flat.free_pages()), (0, 16));
    assert_eq!(flat.read(&one, first, &mut [0]), Err(Error::NotMapped));
}

#[test]
fn n8_direct_mappings_overlap_as_they_like() {
    let (mut flat, mut programs) = (flat(2), [program(), program()]);
    let file = MemFile::new(1, 8 * PAGE);
    let addr = file.addr;
    let file = file.open();
    for (program, offset, len, perms, flags) in [
        (0, 0, 8 * PAGE, R, PRIVATE),
        (1, PAGE, 3 * PAGE - 5, RW, SHARED),
        (0, 2 * PAGE, PAGE, RX, PRIVATE),
        (0, 0, PAGE + 1, R, SHARED),
    ] {
        let request = of(&file, offset, len, perms, flags);
        assert_eq!(flat.map(&mut programs[program], &request), Ok(addr + offset));
    }
    let [mut one, two] = programs;
    flat.write(&two, addr + PAGE, b"seen").unwrap();
    assert_eq!(bytes(&flat, &one, addr + PAGE, 4), b"seen");
    assert_eq!(flat.write(&one, addr + PAGE, b"not"), Err(Error::AccessDenied));
    assert_eq!((flat.free_pages(), flat.regions()), (2, 0));
    flat.unmap(&mut one, addr..addr + 8 * PAGE).unwrap();
    assert_eq!(bytes(&flat, &one, addr, 1), [1]);
    flat.exit(one);
    flat.exit(two);
}

#[test]
fn n9_a_traced_program_shares_no_private_mapping() {
    let (mut flat, mut one, mut two) = (flat(16), program(), program());
    let direct = MemFile::new(1, 2 * PAGE).open();
    let copied = MemFile::new(2, 2 * PAGE).without(Capabilities::MAP_DIRECT).open();
    let early = flat.map(&mut one, &of(&copied, 0, PAGE, R, PRIVATE)).unwrap();
    let common = flat.map(&mut one, &of(&copied, PAGE, PAGE, R, PRIVATE)).unwrap();
    assert_eq!(flat.map(&mut two, &of(&copied, PAGE, PAGE, R, PRIVATE)), Ok(common));

    flat.set_tracing(&mut one, Tracing::Traced);
    // Neither what it maps from now on, not even in place, nor what it had alone until now.
    for file in [&direct, &copied] {
        for request in [of(file, 0, PAGE, R, PRIVATE), of(file, 0, PAGE, RX, PRIVATE)] {
            let traced = flat.map(&mut one, &request).unwrap();
            let others = flat.map(&mut two, &request).unwrap();
            assert_ne!(traced, others);
            assert_ne!(early, others);
            // A breakpoint is the traced program's own.
            let before = bytes(&flat, &two, others, 4);
            flat.poke(&one, traced, &[0xbe, 0xef]).unwrap();
            assert_eq!(bytes(&flat, &one, traced, 2), [0xbe, 0xef]);
            assert_eq!(bytes(&flat, &two, others, 4), before);
        }
    }
    flat.poke(&one, early, &[1]).unwrap();
    // What others see already stays as it is, and so does what is shared by intent.
    assert_eq!(flat.poke(&one, common, &[1]), Err(Error::AccessDenied));
    let shared = flat.map(&mut one, &of(&direct, 0, PAGE, RW, SHARED)).unwrap();
    assert_eq!(flat.poke(&one, shared, &[1]), Err(Error::AccessDenied));
    flat.exit(one);
    flat.exit(two);
    assert_eq!(flat.free_pages(), 16);
}

/// A driver that gives an error instead of an address.
#[derive(Debug)]
struct Broken;

impl File for Broken {
    fn id(&self) -> u64 {
        9
    }

    fn backing(&self) -> Backing {
        Backing::MEMORY
    }

    fn read_at(&self, offset: usize, buf: &mut [u8]) -> Result<usize, Error> {
        // The second chunk cannot be read.
        if offset > 0 { Err(Error::BusError) } else { Ok(buf.len()) }
    }

    fn locate(&self, offset: usize, _len: usize) -> Result<Option<usize>, Error> {
        if offset == 0 { Ok(None) } else { Err(Error::BusError) }
    }
}

#[test]
fn n10_what_a_driver_declines_is_copied_if_private() {
    let (mut flat, mut program) = (flat(16), program());
    let declining = |capabilities| {
        let mut file = MemFile::new(3, 4 * PAGE).without(capabilities);
        file.located = 2 * PAGE;
        file.open()
    };
    let file = declining(Capabilities::empty());
    let direct = flat.map(&mut program, &of(&file, 0, 2 * PAGE, R, PRIVATE)).unwrap();
    let copied = flat.map(&mut program, &of(&file, PAGE, 2 * PAGE, R, PRIVATE)).unwrap();
    assert_eq!(bytes(&flat, &program, copied, PAGE), bytes(&flat, &program, direct + PAGE, PAGE));
    let kinds: Vec<bool> = program.mappings().iter().map(Mapping::is_direct).collect();
    assert_eq!((kinds.iter().filter(|is_direct| **is_direct).count(), flat.regions()), (1, 1));
    let shared = flat.map(&mut program, &of(&file, PAGE, 2 * PAGE, R, SHARED));
    assert_eq!(shared, Err(Error::Refused(Refusal::NotDirect)));
    let uncopyable = declining(Capabilities::MAP_COPY);
    let refused = flat.map(&mut program, &of(&uncopyable, PAGE, 2 * PAGE, R, PRIVATE));
    assert_eq!(refused, Err(Error::Refused(Refusal::NotCopyable)));
    // Failing is not declining; and a copy that fails half-way leaves nothing behind.
    let broken: Arc<dyn File> = Arc::new(Broken);
    let free = flat.free_pages();
    for request in [of(&broken, PAGE, PAGE, R, PRIVATE), of(&broken, 0, 8 * PAGE, R, PRIVATE)] {
        assert_eq!(flat.map(&mut program, &request), Err(Error::BusError));
    }
    assert_eq!((flat.free_pages(), flat.regions(), program.mappings().len()), (free, 1, 2));
    flat.exit(program);
}

#[test]
fn n11_behind_a_short_read_there_are_zeros() {
    let (mut flat, mut program) = (flat(32), program());
    for (len, stride) in [(1, 1), (PAGE - 1, 7), (PAGE, 64), (3 * PAGE + 5, 11), (10 * PAGE, 256)] {
        let mut file = MemFile::new(4, len).without(Capabilities::MAP_DIRECT);
        file.stride = stride;
        let expected: Vec<u8> = file.bytes.lock().unwrap().clone();
        let file = file.open();
        for wanted in [1, PAGE, 2 * PAGE, 12 * PAGE] {
            let size = wanted.next_multiple_of(PAGE);
            let start = flat.map(&mut program, &of(&file, 0, wanted, RW, PRIVATE)).unwrap();
            let seen = bytes(&flat, &program, start, size);
            let count = len.min(size);
            assert_eq!(seen[..count], expected[..count], "{len} bytes, {wanted} mapped");
            assert!(seen[count..].iter().all(|byte| *byte == 0), "{len} bytes, {wanted} mapped");
            flat.unmap(&mut program, start..start + size).unwrap();
        }
    }
    assert_eq!(flat.free_pages(), 32);
}

#[test]
fn n11_executable_copies_are_made_visible_to_instruction_fetch() {
    let (mut flat, mut program) = (flat(16), program());
    let code = MemFile::new(5, 3 * PAGE).without(Capabilities::EXEC_MAP).open();
    let synced = |flat: &Flat<Arena<'_>>| flat.memory().synced();
    flat.map(&mut program, &of(&code, 0, 2 * PAGE, RW, PRIVATE)).unwrap();
    assert_eq!(synced(&flat), 0);
    let start = flat.map(&mut program, &of(&code, 0, 2 * PAGE, RX, PRIVATE)).unwrap();
    assert_eq!(synced(&flat), 2 * PAGE);
    assert_eq!(bytes(&flat, &program, start, 2), [5, 12]);
    // One that data were read from so far is code for the second.
    let data = MemFile::new(6, PAGE).without(Capabilities::MAP_DIRECT).open();
    let read = flat.map(&mut program, &of(&data, 0, PAGE, R, PRIVATE)).unwrap();
    assert_eq!(synced(&flat), 2 * PAGE);
    assert_eq!(flat.map(&mut program, &of(&data, 0, PAGE, RX, PRIVATE)), Ok(read));
    assert_eq!(synced(&flat), 3 * PAGE);
    // And so is what is written to code.
    let all = RW | VmPerms::EXEC;
    let start = flat.map(&mut program, &of(&code, 0, PAGE, all, PRIVATE)).unwrap();
    flat.write(&program, start, &[1, 2, 3]).unwrap();
    assert_eq!(synced(&flat), 4 * PAGE + 3);
    flat.exit(program);
}

#[test]
fn limits_and_lack_of_memory_change_nothing() {
    let (mut flat, mut program) = (flat(8), program());
    program.limits().set(Limit::AddressSpace, 4 * PAGE);
    flat.map(&mut program, &anonymous(3 * PAGE, RW)).unwrap();
    let over = Error::LimitExceeded(Limit::AddressSpace);
    assert_eq!(flat.map(&mut program, &anonymous(2 * PAGE, RW)), Err(over));
    program.limits().set(Limit::AddressSpace, usize::MAX);
    assert_eq!(flat.map(&mut program, &anonymous(8 * PAGE, RW)), Err(Error::OutOfMemory));
    program.limits().set(Limit::Mappings, 1);
    assert_eq!(flat.map(&mut program, &anonymous(PAGE, RW)), Err(Error::LimitExceeded(Limit::Mappings)));
    assert_eq!((flat.free_pages(), flat.regions(), program.mappings().len()), (5, 1, 1));
    flat.exit(program);
    let bytes = vec![0; 3 * PAGE].leak();
    assert!(matches!(Flat::new(Arena::new(bytes), 3), Err(Error::InvalidAlignment)));
    assert!(matches!(Flat::new(Arena::new(vec![0; 3].leak()), PAGE), Err(Error::InvalidSize)));
}

#[test]
fn every_allocation_can_fail_and_changes_nothing_then() {
    let file = MemFile::new(1, 4 * PAGE).without(Capabilities::MAP_DIRECT).open();
    let mut failures = 0;
    for nth in 0.. {
        let mut flat = flat(16);
        let mut program = program();
        let failing = inject::fail_nth(nth);
        let result = flat
            .map(&mut program, &anonymous(PAGE, RW))
            .and_then(|_| flat.map(&mut program, &of(&file, 0, 2 * PAGE, R, PRIVATE)));
        let has_failed = failing.has_failed();
        drop(failing);
        if !has_failed {
            result.unwrap();
            break;
        }
        assert_eq!(result, Err(Error::OutOfMemory));
        let used: usize = program.mappings().iter().map(|mapping| mapping.range().len() / PAGE).sum();
        assert_eq!((flat.free_pages(), flat.regions()), (16 - used, program.mappings().len()));
        flat.exit(program);
        assert_eq!(flat.free_pages(), 16);
        failures += 1;
    }
    assert!(failures > 0);
}
