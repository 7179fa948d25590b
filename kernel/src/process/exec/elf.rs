// SPDX-License-Identifier: MPL-2.0

//! ELF files, and their segments in memory.
//!
//! The file is an [image](ElfImage), and each segment an object that the image gives: where it shows whole pages of the file these are
//! the file's own frames, however many processes run the program. What is written is a private copy.
//!
//! ```text
//! file    ....[ header | text ....... | data ... ]
//!               │ map      │ map          │ map  └┐
//! memory  ────[ r-- ][ r-x ......... ][ rw- ..... 0 ][ rw- zeros, anonymous ]──►heap
//! ```

use elf::{
    abi::{
        EM_X86_64, ET_DYN, ET_EXEC, PF_R, PF_W, PF_X, PT_GNU_RELRO, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_PHDR,
    },
    endian::LittleEndian,
    file::{Class, FileHeader, parse_ident},
    parse::ParsingTable,
    segment::ProgramHeader,
};
use vmar::{
    mapping::MappingFlags,
    object::{ElfImage, Outside, PrivateSegment, Segment},
    perms::VmPerms,
    placement::Placement,
    vmar::FullVmar,
};
use vmar_ostd::Ostd;

use super::image::{Image, read_at};
use crate::{
    fs::{File, file::Mappable},
    mm::{
        AddressSpace, ProgramLayout,
        layout::{Randomize, TASK_SIZE},
        mapped_file::MappedFile,
    },
    prelude::*,
};

const HEADER_LEN: usize = 64;
const IDENT_LEN: usize = 16;
const PROGRAM_HEADER_LEN: usize = 56;
/// The most bytes of program headers.
const MAX_PROGRAM_HEADERS: usize = 65_536;

/// What an ELF file's headers say.
pub struct ElfFile {
    header: FileHeader<LittleEndian>,
    segments: Vec<ProgramHeader>,
}

/// A program in memory.
pub struct Loaded {
    /// Where to start: in the interpreter, if there is one.
    pub start: Vaddr,
    /// The program's own entry point.
    pub entry: Vaddr,
    /// The program's headers in memory; 0 if they are not there.
    pub program_headers: Vaddr,
    /// How many there are.
    pub program_header_count: usize,
    /// Where the interpreter was put; 0 without one.
    pub interpreter_base: Vaddr,
    /// Whether the stack is to be executable.
    pub executable_stack: bool,
}

impl ElfFile {
    /// Reads the headers of `file`.
    ///
    /// # Errors
    ///
    /// `ENOEXEC` if it is no program for this machine; `ENOMEM`.
    pub fn read(file: &File) -> Result<Self> {
        let mut bytes = [0; HEADER_LEN];
        if read_at(file, 0, &mut bytes)? < HEADER_LEN {
            return Err(ENOEXEC);
        }
        let ident = parse_ident::<LittleEndian>(&bytes).map_err(|_| ENOEXEC)?;
        let header = FileHeader::parse_tail(ident, &bytes[IDENT_LEN..]).map_err(|_| ENOEXEC)?;
        let size = usize::from(header.e_phnum) * PROGRAM_HEADER_LEN;
        if header.class != Class::ELF64
            || header.e_machine != EM_X86_64
            || !matches!(header.e_type, ET_EXEC | ET_DYN)
            || usize::from(header.e_phentsize) != PROGRAM_HEADER_LEN
            || !(1..=MAX_PROGRAM_HEADERS).contains(&size)
            || header.e_phoff > i64::MAX as u64
        {
            return Err(ENOEXEC);
        }
        let mut bytes = try_filled(0, size)?;
        if read_at(file, header.e_phoff, &mut bytes)? < size {
            return Err(ENOEXEC);
        }
        let mut segments = try_with_capacity(header.e_phnum.into())?;
        segments.extend(ParsingTable::<_, ProgramHeader>::new(LittleEndian, Class::ELF64, &bytes).iter());
        Ok(Self { header, segments })
    }

    /// The path of the interpreter that the file names.
    ///
    /// # Errors
    ///
    /// `ENOEXEC` if it is no string.
    pub fn interpreter_path(&self, file: &File) -> Result<Option<Vec<u8>>> {
        let Some(segment) = self.segments.iter().find(|segment| segment.p_type == PT_INTERP) else {
            return Ok(None);
        };
        let len = usize::try_from(segment.p_filesz).map_err(|_| ENOEXEC)?;
        if !(2..=crate::usermem::PATH_MAX).contains(&len) {
            return Err(ENOEXEC);
        }
        let mut path = vec![0; len];
        if read_at(file, segment.p_offset, &mut path)? < len || path.pop() != Some(0) {
            return Err(ENOEXEC);
        }
        path.truncate(path.iter().position(|byte| *byte == 0).unwrap_or(path.len()));
        Ok(Some(path))
    }

    fn loads(&self) -> impl Iterator<Item = &ProgramHeader> {
        self.segments.iter().filter(|segment| segment.p_type == PT_LOAD)
    }

    /// The addresses that the file asks for: whole pages from the lowest to the highest.
    fn span(&self) -> Result<core::ops::Range<Vaddr>> {
        let (mut lowest, mut highest) = (usize::MAX, 0);
        for segment in self.loads() {
            let start = usize::try_from(segment.p_vaddr).map_err(|_| ENOEXEC)?;
            let end = usize::try_from(segment.p_memsz)
                .ok()
                .and_then(|size| start.checked_add(size))
                .filter(|end| *end <= TASK_SIZE)
                .ok_or(ENOEXEC)?;
            if segment.p_filesz > segment.p_memsz {
                return Err(ENOEXEC);
            }
            (lowest, highest) = (lowest.min(start), highest.max(end));
        }
        if lowest >= highest {
            return Err(ENOEXEC);
        }
        Ok(lowest / PAGE_SIZE * PAGE_SIZE..highest.next_multiple_of(PAGE_SIZE))
    }

    /// The strictest alignment that a segment asks for.
    fn alignment(&self) -> usize {
        let asked = self.loads().map(|segment| segment.p_align as usize);
        asked.filter(|align| align.is_power_of_two() && *align <= 1 << 30).max().unwrap_or(0).max(PAGE_SIZE)
    }

    /// What is known of the faults that `segment` will see. Before a file that can be anywhere runs, addresses are written
    /// into its data; what is read-only from then on (RELRO) is nothing but addresses.
    fn fault_flags(&self, segment: &ProgramHeader) -> MappingFlags {
        let is_within = |part: &&ProgramHeader| {
            part.p_type == PT_GNU_RELRO
                && (segment.p_vaddr..segment.p_vaddr + segment.p_memsz).contains(&part.p_vaddr)
        };
        let addresses = self.segments.iter().find(is_within).map_or(0, |part| part.p_filesz);
        if self.header.e_type == ET_DYN && addresses != 0 && addresses >= segment.p_filesz / 2 {
            MappingFlags::FAULT_AROUND | MappingFlags::WRITE_AROUND
        } else {
            MappingFlags::FAULT_AROUND
        }
    }

    /// Where the program headers are in the file's own addresses.
    fn program_headers_addr(&self) -> Option<Vaddr> {
        if let Some(segment) = self.segments.iter().find(|segment| segment.p_type == PT_PHDR) {
            return Some(segment.p_vaddr as usize);
        }
        let at = self.header.e_phoff;
        let inside = |segment: &&ProgramHeader| {
            (segment.p_offset..segment.p_offset.saturating_add(segment.p_filesz)).contains(&at)
        };
        self.loads().find(inside).map(|segment| (at - segment.p_offset + segment.p_vaddr) as usize)
    }
}

/// Maps a program and its interpreter, and puts an empty heap behind it.
///
/// # Errors
///
/// `ENOEXEC` or `EINVAL` for headers that make no sense, `ENOMEM`.
pub fn load_program(vm: &AddressSpace, image: &Image, randomize: Randomize) -> Result<Loaded> {
    let elf = &image.elf;
    let has_interpreter = image.interpreter.is_some();
    let span = elf.span()?;
    let bias = match elf.header.e_type {
        ET_EXEC => 0,
        _ if has_interpreter => {
            let base = randomize.pie_base() & !(elf.alignment() - 1);
            base.wrapping_sub(span.start)
        }
        _ => find_room(vm, elf, &span)?,
    };
    let mut layout = ProgramLayout::default();
    // There is nothing yet that a segment could come to lie over.
    map_segments(vm.vmar(), &image.file, elf, bias, &mut layout)?;
    vm.set_layout(layout);
    let end = span.end.wrapping_add(bias);
    // The heap of a static position-independent program would collide with the mappings above it.
    let heap = if elf.header.e_type == ET_DYN && !has_interpreter { randomize.pie_base() } else { end };
    vm.set_heap(randomize.heap_start(heap));

    let entry = (elf.header.e_entry as usize).wrapping_add(bias);
    let (start, interpreter_base) = match &image.interpreter {
        None => (entry, 0),
        Some((file, interpreter)) => {
            let base = load_interpreter(vm, file, interpreter)?;
            ((interpreter.header.e_entry as usize).wrapping_add(base), base)
        }
    };
    // The CPU cannot even go to some other addresses.
    if start >= TASK_SIZE {
        return Err(EINVAL);
    }
    let stack = elf.segments.iter().find(|segment| segment.p_type == PT_GNU_STACK);
    Ok(Loaded {
        start,
        entry,
        program_headers: elf.program_headers_addr().map_or(0, |addr| addr.wrapping_add(bias)),
        program_header_count: elf.segments.len(),
        interpreter_base,
        executable_stack: stack.is_some_and(|stack| stack.p_flags & PF_X != 0),
    })
}

/// How far up to move a position-independent file so that it lies where mappings go.
fn find_room(vm: &AddressSpace, elf: &ElfFile, span: &core::ops::Range<Vaddr>) -> Result<usize> {
    // Nobody else uses the space yet: what is free stays free.
    let start = vm.vmar().find_room(span.len(), elf.alignment())?;
    Ok(start.wrapping_sub(span.start))
}

/// Maps an interpreter's segments into a region of their own, so that nothing that its headers say can reach the program; what
/// is mapped is the program's in the end. Answers how far it was moved up.
fn load_interpreter(vm: &AddressSpace, file: &Arc<File>, elf: &ElfFile) -> Result<usize> {
    let span = elf.span()?;
    let options = vm.vmar().new_region(span.len());
    let region = match elf.header.e_type {
        ET_EXEC => options.placement(Placement::Exactly(span.start)),
        _ => options.align(elf.alignment()),
    };
    let region = region.build()?;
    let bias = region.user_range().start.wrapping_sub(span.start);
    map_segments(&region, file, elf, bias, &mut ProgramLayout::default())?;
    region.dissolve()?;
    Ok(bias)
}

fn map_segments(
    vmar: &FullVmar<Ostd>,
    file: &Arc<File>,
    elf: &ElfFile,
    bias: usize,
    layout: &mut ProgramLayout,
) -> Result<()> {
    // To run a file takes no permission to read it: its own say is not asked for.
    let mapped = MappedFile::of(file.clone());
    let image = ElfImage::new(contents_of(file)?)?;
    for header in elf.loads().filter(|header| header.p_memsz != 0) {
        let start = (header.p_vaddr as usize).wrapping_add(bias);
        if header.p_offset as usize % PAGE_SIZE != start % PAGE_SIZE {
            return Err(ENOEXEC);
        }
        let perms = perms_of(header);
        let end = start + header.p_memsz as usize;
        let mut zeros = start / PAGE_SIZE * PAGE_SIZE;
        if header.p_filesz != 0 {
            zeros = (start + header.p_filesz as usize).next_multiple_of(PAGE_SIZE);
            let PrivateSegment { segment, zeros: tail } = image.private_segment(&file_part(header, start))?;
            vmar.new_map(segment.size)
                .perms(perms)
                .vmo(segment.vmo)
                .vmo_offset(segment.offset)
                .mappable(mapped.clone())
                .flags(elf.fault_flags(header))
                .placement(Placement::Replacing(start / PAGE_SIZE * PAGE_SIZE))
                .build()?;
            // As in Linux, what becomes of the file later is not seen in this page.
            const ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
            let tail_start = start / PAGE_SIZE * PAGE_SIZE + tail.start;
            if !tail.is_empty() && vmar.write_bytes(tail_start, &ZEROS[..tail.len()])? < tail.len() {
                return Err(ENOEXEC);
            }
        }
        let size = end.next_multiple_of(PAGE_SIZE).saturating_sub(zeros);
        if size != 0 {
            vmar.new_map(size).perms(perms).placement(Placement::Replacing(zeros)).build()?;
        }
        note(layout, header, start..end);
    }
    Ok(())
}

/// The pages of a segment that show the file: whole ones, as in Linux, but for zeros behind the data.
fn file_part(header: &ProgramHeader, start: Vaddr) -> Segment {
    let size = header.p_filesz as usize;
    let behind = if ends_in_zeros(header) { Outside::Zeros } else { Outside::AsInFile };
    Segment { before: Outside::AsInFile, behind, ..Segment::new(start, header.p_offset as usize, size, size) }
}

/// Whether what follows a segment's part of the file in its last page is zeros, and not what the file has there.
fn ends_in_zeros(header: &ProgramHeader) -> bool {
    header.p_memsz > header.p_filesz && header.p_flags & PF_W != 0
}

/// A capability to the file's contents.
fn contents_of(file: &Arc<File>) -> Result<crate::fs::page_cache::FileVmo> {
    match file.ops().mappable(file)? {
        Mappable::Vmo(vmo) => Ok(vmo),
        Mappable::Zero => Err(ENOEXEC),
    }
}

fn perms_of(segment: &ProgramHeader) -> VmPerms {
    let mut perms = VmPerms::empty();
    perms.set(VmPerms::READ, segment.p_flags & PF_R != 0);
    perms.set(VmPerms::WRITE, segment.p_flags & PF_W != 0);
    perms.set(VmPerms::EXEC, segment.p_flags & PF_X != 0);
    perms
}

/// Notes where code and data are: of several parts, from the lowest start to the highest end.
fn note(layout: &mut ProgramLayout, segment: &ProgramHeader, range: core::ops::Range<Vaddr>) {
    let file_end = range.start + segment.p_filesz as usize;
    let part = if segment.p_flags & PF_X != 0 {
        &mut layout.code
    } else if segment.p_flags & PF_W != 0 {
        &mut layout.data
    } else {
        return;
    };
    *part = match part.start >= part.end {
        true => range.start..file_end,
        false => part.start.min(range.start)..part.end.max(file_end),
    };
}

#[cfg(ktest)]
mod tests;
