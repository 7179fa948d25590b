// SPDX-License-Identifier: MPL-2.0

//! The rows N of `docs/src/systems.md` that concern a machine without an MMU, tried on one.

use alloc::{sync::Arc, vec, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use vmar_flat::{
    Arena, Backing, Capabilities, Error, File, FileState, Flat, Limits, MapFlags, Memory, Program, Refusal,
    Request, Tracing, VmPerms,
};

use crate::{PAGE, rom::RomFile};

/// A row: what is promised, and how that is tried.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub check: fn(&mut Board) -> Outcome,
}

type Board = Flat<Arena<'static>>;
type Outcome = Result<(), &'static str>;

macro_rules! rows {
    ($($name:ident: $what:literal,)*) => {
        /// All of them.
        pub const ALL: &[Row] = &[$(Row { name: stringify!($name), what: $what, check: $name }),*];
    };
}

rows! {
    n1_requests_that_make_no_sense: "an address, MAP_FIXED, no or two kinds of sharing, overflow, length 0: EINVAL",
    n2_a_pipe_cannot_be_mapped: "ENODEV",
    n3_no_place_no_direct_mapping: "a file without an address is copied, one that cannot be read is not: ENODEV",
    n4_shared_mappings: "open for writing, direct, within the capabilities: EACCES, EAGAIN, ENODEV, EINVAL",
    n5_what_is_written_is_a_copy: "a private mapping that is written leaves the ROM as it was",
    n6_execution: "in place; a copy where it cannot be; EPERM on a noexec mount",
    n7_anonymous_memory_is_zeros: "of the program's own",
    n8_files_are_mapped_in_place: "at the address that they have in the ROM, overlapping as they like",
    n8_equal_copies_share_one_region: "the same file, offset and length",
    n9_a_traced_program_shares_nothing_private: "a breakpoint is its own",
    n10_what_declines_is_copied: "if it is private and can be, else ENODEV",
    n11_behind_a_short_file_there_are_zeros: "up to the end of the page",
    n11_copies_of_code_reach_instruction_fetch: "and copies of data need not",
    n13_anonymous_shared_is_private: "and memory is zeroed unless asked otherwise",
    n13_mremap_wants_an_exact_match: "and moves nothing",
    n13_a_rounded_up_allocation_is_trimmed: "what is too much stays free",
    n14_may_bits_are_the_capabilities: "of what is mapped in place",
}

const R: VmPerms = VmPerms::READ;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);
const RX: VmPerms = VmPerms::READ.union(VmPerms::EXEC);
const PRIVATE: MapFlags = MapFlags::PRIVATE;
const SHARED: MapFlags = MapFlags::SHARED;

/// Fails with what the condition says.
macro_rules! ensure {
    ($condition:expr) => {
        if !$condition {
            return Err(stringify!($condition));
        }
    };
}

/// What Linux calls an error.
fn errno(error: Error) -> &'static str {
    match error {
        Error::Refused(Refusal::NotReadable | Refusal::NotWritable | Refusal::AppendOnly)
        | Error::AccessDenied => "EACCES",
        Error::Refused(Refusal::Locked) => "EAGAIN",
        Error::Refused(Refusal::Sealed | Refusal::NoExec) => "EPERM",
        Error::Refused(Refusal::NotMappable | Refusal::NotDirect | Refusal::NotCopyable) => "ENODEV",
        Error::OutOfMemory | Error::NoRoom | Error::LimitExceeded(_) => "ENOMEM",
        _ => "EINVAL",
    }
}

/// A program that ends with the row.
struct Running<'a> {
    board: &'a mut Board,
    programs: Vec<Program>,
}

impl<'a> Running<'a> {
    fn new(board: &'a mut Board, programs: usize) -> Self {
        Self { board, programs: (0..programs).map(|_| Program::new(Limits::new())).collect() }
    }

    fn map(&mut self, program: usize, request: Request<'_>) -> Result<usize, &'static str> {
        self.board.map(&mut self.programs[program], &request).map_err(errno)
    }

    fn read(&self, program: usize, addr: usize, len: usize) -> Result<Vec<u8>, &'static str> {
        let mut bytes = vec![0; len];
        self.board.read(&self.programs[program], addr, &mut bytes).map_err(errno)?;
        Ok(bytes)
    }

    fn write(&mut self, program: usize, addr: usize, bytes: &[u8]) -> Outcome {
        self.board.write(&self.programs[program], addr, bytes).map_err(errno)
    }

    fn unmap(&mut self, program: usize, addr: usize, len: usize) -> Outcome {
        self.board.unmap(&mut self.programs[program], addr..addr + len).map_err(errno)
    }

    fn remap(&mut self, addr: usize, len: usize, new_len: usize) -> Result<usize, &'static str> {
        self.board.remap(&mut self.programs[0], addr..addr + len, new_len, None).map_err(errno)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.programs.drain(..).for_each(|program| self.board.exit(program));
    }
}

fn rom(name: &str) -> Result<RomFile, &'static str> {
    RomFile::open(name).ok_or("the ROM has no such file")
}

fn open(name: &str) -> Result<Arc<dyn File>, &'static str> {
    Ok(Arc::new(rom(name)?))
}

/// A file of the ROM that lacks capabilities.
fn without(name: &str, lost: Capabilities) -> Result<Arc<dyn File>, &'static str> {
    Ok(rom(name)?.with(|backing| backing.capabilities -= lost))
}

/// A file of the ROM in another state.
fn in_state(name: &str, state: FileState) -> Result<Arc<dyn File>, &'static str> {
    Ok(rom(name)?.with(|backing| backing.state = state))
}

fn of(file: &Arc<dyn File>, offset: usize, len: usize, perms: VmPerms, flags: MapFlags) -> Request<'_> {
    Request { len, perms, flags, file: Some((file, offset)), ..Request::default() }
}

fn anonymous(len: usize, flags: MapFlags) -> Request<'static> {
    Request { len, perms: RW, flags, ..Request::default() }
}

/// A register of a device: it has an address, and nothing to be copied.
#[derive(Debug, Default)]
struct Register(AtomicUsize);

impl File for Register {
    fn id(&self) -> u64 {
        self as *const Self as usize as u64
    }

    fn backing(&self) -> Backing {
        Backing::DEVICE
    }

    fn read_at(&self, offset: usize, buf: &mut [u8]) -> Result<usize, Error> {
        let bytes = self.0.load(Relaxed).to_le_bytes();
        let rest = bytes.get(offset..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<usize, Error> {
        let mut own = self.0.load(Relaxed).to_le_bytes();
        let rest = own.get_mut(offset..).unwrap_or_default();
        let count = rest.len().min(bytes.len());
        rest[..count].copy_from_slice(&bytes[..count]);
        self.0.store(usize::from_le_bytes(own), Relaxed);
        Ok(count)
    }

    fn locate(&self, offset: usize, len: usize) -> Result<Option<usize>, Error> {
        Ok((offset + len <= size_of::<usize>()).then_some(self.0.as_ptr().addr() + offset))
    }
}

fn n1_requests_that_make_no_sense(board: &mut Board) -> Outcome {
    let table = open("table")?;
    let mut run = Running::new(board, 1);
    for usual in [of(&table, 0, PAGE, R, PRIVATE), anonymous(PAGE, PRIVATE)] {
        let mut is_invalid = |request: Request<'_>| run.map(0, request) == Err("EINVAL");
        ensure!(is_invalid(Request { addr: 0x2000_0000, ..usual }));
        ensure!(is_invalid(Request { flags: PRIVATE | MapFlags::FIXED, ..usual }));
        ensure!(is_invalid(Request { flags: MapFlags::empty(), ..usual }));
        ensure!(is_invalid(Request { flags: PRIVATE | SHARED, ..usual }));
        ensure!(is_invalid(Request { len: 0, ..usual }));
        ensure!(is_invalid(Request { len: usize::MAX, ..usual }));
    }
    ensure!(run.map(0, of(&table, usize::MAX - PAGE + 1, PAGE, R, PRIVATE)) == Err("EINVAL"));
    ensure!(run.map(0, of(&table, 1, PAGE, R, PRIVATE)) == Err("EINVAL"));
    Ok(())
}

fn n2_a_pipe_cannot_be_mapped(board: &mut Board) -> Outcome {
    let pipe = rom("motd")?.with(|backing| *backing = Backing::unmappable(backing.state));
    let mut run = Running::new(board, 1);
    ensure!(run.map(0, of(&pipe, 0, 1, R, PRIVATE)) == Err("ENODEV"));
    ensure!(run.map(0, of(&pipe, 0, 1, R, SHARED)) == Err("ENODEV"));
    Ok(())
}

fn n3_no_place_no_direct_mapping(board: &mut Board) -> Outcome {
    use vmar_flat::Operations;
    let nowhere = rom("table")?.with(|backing| backing.operations -= Operations::LOCATE);
    let unreadable = rom("table")?.with(|backing| backing.operations -= Operations::READ);
    let mut run = Running::new(board, 1);
    let start = run.map(0, of(&nowhere, 0, PAGE, R, PRIVATE))?;
    ensure!(run.board.memory().range().contains(&start));
    ensure!(run.map(0, of(&nowhere, 0, PAGE, R, SHARED)) == Err("ENODEV"));
    ensure!(run.map(0, of(&unreadable, 0, PAGE, R, PRIVATE)) == Err("ENODEV"));
    ensure!(run.map(0, of(&unreadable, 0, PAGE, R, SHARED)).is_ok());
    Ok(())
}

fn n4_shared_mappings(board: &mut Board) -> Outcome {
    let both = FileState::READABLE | FileState::WRITABLE;
    let table = open("table")?;
    let register = Arc::new(Register::default());
    let file: Arc<dyn File> = register.clone();
    let mut run = Running::new(board, 2);
    // A device that is shared shows what everybody writes.
    let start = run.map(0, of(&file, 0, 4, RW, SHARED))?;
    ensure!(run.map(1, of(&file, 0, 4, R, SHARED)) == Ok(start));
    run.write(0, start, &[1, 2, 3, 4])?;
    ensure!(register.0.load(Relaxed) == 0x0403_0201);
    ensure!(run.read(1, start, 4)? == [1, 2, 3, 4]);
    ensure!(run.write(1, start, &[9]) == Err("EACCES"));
    // Whoever may not write the file may not write it this way.
    ensure!(run.map(0, of(&table, 0, PAGE, RW, SHARED)) == Err("EACCES"));
    ensure!(
        run.map(0, of(&in_state("table", both | FileState::APPEND_ONLY)?, 0, PAGE, R, SHARED))
            == Err("EACCES")
    );
    ensure!(
        run.map(0, of(&in_state("table", both | FileState::LOCKED)?, 0, PAGE, R, SHARED)) == Err("EAGAIN")
    );
    // A ROM cannot be written, whatever it was opened for; and what has no place is not shared by a copy.
    ensure!(run.map(0, of(&in_state("table", both)?, 0, PAGE, RW, SHARED)) == Err("EINVAL"));
    ensure!(
        run.map(0, of(&without("table", Capabilities::MAP_DIRECT)?, 0, PAGE, R, SHARED)) == Err("ENODEV")
    );
    Ok(())
}

fn n5_what_is_written_is_a_copy(board: &mut Board) -> Outcome {
    let table = rom("table")?;
    let bytes = table.bytes();
    let table: Arc<dyn File> = Arc::new(table);
    let register: Arc<dyn File> = Arc::new(Register::default());
    let mut run = Running::new(board, 1);
    let start = run.map(0, of(&table, PAGE, 2 * PAGE, RW, PRIVATE))?;
    ensure!(run.board.memory().range().contains(&start));
    ensure!(run.read(0, start, 2 * PAGE)? == bytes[PAGE..3 * PAGE]);
    let before = bytes[PAGE];
    run.write(0, start, &[!before])?;
    ensure!(run.read(0, start, 1)? == [!before]);
    ensure!(bytes[PAGE] == before);
    // Nobody copies a device.
    ensure!(run.map(0, of(&register, 0, 4, R, PRIVATE)) == Err("ENODEV"));
    Ok(())
}

fn n6_execution(board: &mut Board) -> Outcome {
    let table = rom("table")?;
    let place = table.bytes().as_ptr().addr();
    let table: Arc<dyn File> = Arc::new(table);
    let mut run = Running::new(board, 1);
    ensure!(run.map(0, of(&table, 0, PAGE, RX, PRIVATE)) == Ok(place));
    let start = run.map(0, of(&without("table", Capabilities::EXEC_MAP)?, 0, PAGE, RX, PRIVATE))?;
    ensure!(run.board.memory().range().contains(&start));
    let noexec = in_state("table", FileState::READABLE | FileState::NO_EXEC)?;
    ensure!(run.map(0, of(&noexec, 0, PAGE, RX, PRIVATE)) == Err("EPERM"));
    ensure!(run.map(0, of(&noexec, 0, PAGE, R, PRIVATE)) == Ok(place));
    Ok(())
}

fn n7_anonymous_memory_is_zeros(board: &mut Board) -> Outcome {
    let mut run = Running::new(board, 2);
    let one = run.map(0, anonymous(2 * PAGE, PRIVATE))?;
    let two = run.map(1, anonymous(2 * PAGE, PRIVATE))?;
    run.write(0, one, &[7; 2 * PAGE])?;
    ensure!(run.read(1, two, 2 * PAGE)?.iter().all(|byte| *byte == 0));
    run.unmap(0, one, 2 * PAGE)?;
    let again = run.map(0, anonymous(2 * PAGE, PRIVATE))?;
    ensure!(again == one);
    ensure!(run.read(0, again, 2 * PAGE)?.iter().all(|byte| *byte == 0));
    Ok(())
}

fn n8_files_are_mapped_in_place(board: &mut Board) -> Outcome {
    let table = rom("table")?;
    let bytes = table.bytes();
    let place = bytes.as_ptr().addr();
    let table: Arc<dyn File> = Arc::new(table);
    let mut run = Running::new(board, 2);
    let free = run.board.free_pages();
    ensure!(place % PAGE == 0);
    for (program, offset, len) in
        [(0, 0, 7 * PAGE), (1, 0, 7 * PAGE), (1, PAGE, 3 * PAGE), (0, 2 * PAGE, 100)]
    {
        ensure!(run.map(program, of(&table, offset, len, R, PRIVATE)) == Ok(place + offset));
        ensure!(run.read(program, place + offset, len)? == bytes[offset..offset + len]);
    }
    ensure!(run.board.free_pages() == free);
    ensure!(run.write(0, place, &[0]) == Err("EACCES"));
    Ok(())
}

fn n8_equal_copies_share_one_region(board: &mut Board) -> Outcome {
    let table = without("table", Capabilities::MAP_DIRECT)?;
    let again = without("table", Capabilities::MAP_DIRECT)?;
    let mut run = Running::new(board, 2);
    let start = run.map(0, of(&table, 0, 2 * PAGE, R, PRIVATE))?;
    ensure!(run.map(1, of(&again, 0, 2 * PAGE, RX, PRIVATE)) == Ok(start));
    ensure!(run.board.regions() == 1);
    for request in [of(&table, PAGE, 2 * PAGE, R, PRIVATE), of(&table, 0, PAGE, R, PRIVATE)] {
        ensure!(run.map(1, request)? != start);
    }
    ensure!(run.map(1, of(&table, 0, 2 * PAGE, RW, PRIVATE))? != start);
    ensure!(run.board.regions() == 4);
    run.unmap(0, start, 2 * PAGE)?;
    ensure!(run.read(1, start, 1).is_ok());
    ensure!(run.read(0, start, 1).is_err());
    Ok(())
}

fn n9_a_traced_program_shares_nothing_private(board: &mut Board) -> Outcome {
    let table = rom("table")?;
    let bytes = table.bytes();
    let table: Arc<dyn File> = Arc::new(table);
    let mut run = Running::new(board, 2);
    let Running { board, programs } = &mut run;
    board.set_tracing(&mut programs[0], Tracing::Traced);
    let traced = run.map(0, of(&table, 0, PAGE, RX, PRIVATE))?;
    let other = run.map(1, of(&table, 0, PAGE, RX, PRIVATE))?;
    ensure!(traced != other);
    run.board.poke(&run.programs[0], traced, &[0x00, 0xbe]).map_err(errno)?;
    ensure!(run.read(0, traced, 2)? == [0x00, 0xbe]);
    ensure!(run.read(1, other, 2)? == bytes[..2]);
    ensure!(run.board.poke(&run.programs[1], other, &[0x00, 0xbe]).map_err(errno) == Err("EACCES"));
    Ok(())
}

fn n10_what_declines_is_copied(board: &mut Board) -> Outcome {
    // A ROM file declines what reaches beyond its end: that is another one's.
    let motd = rom("motd")?;
    let (bytes, place) = (motd.bytes(), motd.bytes().as_ptr().addr());
    let motd: Arc<dyn File> = Arc::new(motd);
    let mut run = Running::new(board, 1);
    ensure!(run.map(0, of(&motd, 0, bytes.len(), R, PRIVATE)) == Ok(place));
    let start = run.map(0, of(&motd, 0, PAGE, R, PRIVATE))?;
    ensure!(start != place);
    ensure!(run.read(0, start, bytes.len())? == bytes);
    ensure!(run.map(0, of(&motd, 0, PAGE, R, SHARED)) == Err("ENODEV"));
    let uncopyable = without("motd", Capabilities::MAP_COPY)?;
    ensure!(run.map(0, of(&uncopyable, 0, PAGE, R, PRIVATE)) == Err("ENODEV"));
    Ok(())
}

fn n11_behind_a_short_file_there_are_zeros(board: &mut Board) -> Outcome {
    let mut run = Running::new(board, 1);
    for name in ["short", "motd", "table"] {
        let file = rom(name)?;
        let bytes = file.bytes();
        let file: Arc<dyn File> = Arc::new(file);
        let size = bytes.len().next_multiple_of(PAGE) + PAGE;
        let start = run.map(0, of(&file, 0, size, RW, PRIVATE))?;
        let seen = run.read(0, start, size)?;
        ensure!(seen[..bytes.len()] == *bytes);
        ensure!(seen[bytes.len()..].iter().all(|byte| *byte == 0));
    }
    Ok(())
}

fn n11_copies_of_code_reach_instruction_fetch(board: &mut Board) -> Outcome {
    let code = without("table", Capabilities::EXEC_MAP)?;
    let mut run = Running::new(board, 1);
    let before = run.board.memory().synced();
    run.map(0, of(&code, 0, 2 * PAGE, RW, PRIVATE))?;
    ensure!(run.board.memory().synced() == before);
    run.map(0, of(&code, 0, 2 * PAGE, RX, PRIVATE))?;
    ensure!(run.board.memory().synced() == before + 2 * PAGE);
    Ok(())
}

fn n13_anonymous_shared_is_private(board: &mut Board) -> Outcome {
    let mut run = Running::new(board, 2);
    let one = run.map(0, anonymous(PAGE, SHARED))?;
    run.write(0, one, &[7; PAGE])?;
    let two = run.map(1, anonymous(PAGE, SHARED))?;
    ensure!(one != two);
    ensure!(run.read(1, two, PAGE)? == [0; PAGE]);
    run.unmap(0, one, PAGE)?;
    let again = run.map(0, anonymous(PAGE, PRIVATE | MapFlags::UNINITIALIZED))?;
    ensure!(run.read(0, again, PAGE)? == [7; PAGE]);
    Ok(())
}

fn n13_mremap_wants_an_exact_match(board: &mut Board) -> Outcome {
    let table = without("table", Capabilities::MAP_DIRECT)?;
    let mut run = Running::new(board, 1);
    let start = run.map(0, anonymous(4 * PAGE, PRIVATE))?;
    ensure!(run.remap(start, 3 * PAGE, PAGE) == Err("EINVAL"));
    ensure!(run.remap(start + PAGE, 3 * PAGE, PAGE) == Err("EINVAL"));
    ensure!(run.remap(start, 4 * PAGE, 5 * PAGE) == Err("ENOMEM"));
    ensure!(run.remap(start, 4 * PAGE, 2 * PAGE) == Ok(start));
    ensure!(run.remap(start, 2 * PAGE, 4 * PAGE) == Ok(start));
    let shared = run.map(0, of(&table, 0, 2 * PAGE, R, PRIVATE))?;
    ensure!(run.remap(shared, 2 * PAGE, PAGE).is_err());
    Ok(())
}

fn n13_a_rounded_up_allocation_is_trimmed(board: &mut Board) -> Outcome {
    let mut run = Running::new(board, 1);
    let free = run.board.free_pages();
    for pages in [3, 5, 9, 17] {
        let start = run.map(0, anonymous(pages * PAGE, PRIVATE))?;
        ensure!(run.board.free_pages() == free - pages);
        run.unmap(0, start, pages * PAGE)?;
    }
    Ok(())
}

fn n14_may_bits_are_the_capabilities(board: &mut Board) -> Outcome {
    let table = open("table")?;
    let data = without("table", Capabilities::EXEC_MAP)?;
    let register: Arc<dyn File> = Arc::new(Register::default());
    let mut run = Running::new(board, 1);
    for (request, may) in [
        (of(&table, 0, PAGE, R, SHARED), VmPerms::MAY_READ | VmPerms::MAY_EXEC),
        (of(&data, 0, PAGE, R, PRIVATE), VmPerms::MAY_READ),
        (of(&register, 0, 4, R, SHARED), VmPerms::MAY),
    ] {
        let start = run.map(0, request)?;
        let perms = run.programs[0].mappings().iter().find(|mapping| mapping.range().start == start);
        ensure!(perms.map(|mapping| mapping.perms()) == Some(R | may));
        run.unmap(0, start, request.len)?;
    }
    Ok(())
}
