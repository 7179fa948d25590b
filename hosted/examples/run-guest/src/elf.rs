// SPDX-License-Identifier: MPL-2.0

//! Loading a static program.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use goblin::elf::{Elf, header, program_header};
use vmar_hosted::{GuestSpace, MapOptions, Placement, Prot, VmPerms, host::Host};

use crate::isa::Isa;

/// Where a program goes that can be anywhere.
const BASE: usize = 0x2a_0000_0000;

/// A program's file, read and checked.
pub struct Program {
    pub isa: Isa,
    name: String,
    file: Arc<OwnedFd>,
    bytes: Vec<u8>,
}

/// A program in its place.
pub struct Image {
    pub entry: usize,
    /// Where its program headers are, and how many.
    pub headers: (usize, usize),
}

impl Program {
    /// Reads a program, and checks that it can be run here.
    ///
    /// # Errors
    ///
    /// A message for whoever typed its name.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let bytes = fs::read(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow::anyhow!("{name}: there is no such file"),
            _ => anyhow::anyhow!("{name} cannot be read: {error}"),
        })?;
        let file = File::open(path).with_context(|| format!("{name} cannot be opened"))?;
        if !bytes.starts_with(b"\x7fELF") {
            bail!("{name} is not an ELF file");
        }
        let elf = Elf::parse(&bytes).with_context(|| format!("{name} is damaged"))?;
        if !elf.is_64 || !elf.little_endian {
            bail!("{name} is not for a 64-bit, little-endian machine");
        }
        let isa = match elf.header.e_machine {
            header::EM_AARCH64 => Isa::Aarch64,
            header::EM_RISCV => Isa::Riscv64,
            other => bail!(
                "{name} is for {}; programs for aarch64 and riscv64 can be run",
                header::machine_to_str(other)
            ),
        };
        if let Some(interpreter) = elf.interpreter {
            bail!("{name} is dynamically linked ({interpreter}); link it with -static");
        }
        if !matches!(elf.header.e_type, header::ET_EXEC | header::ET_DYN) {
            bail!("{name} is no program: {}", header::et_to_str(elf.header.e_type));
        }
        drop(elf);
        Ok(Self { isa, name, file: Arc::new(file.into()), bytes })
    }

    /// Maps the program's segments, and begins its heap behind them.
    pub fn load<H: Host>(&self, space: &GuestSpace<H>) -> Result<Image> {
        let elf = Elf::parse(&self.bytes).with_context(|| format!("{} is damaged", self.name))?;
        let base = if elf.header.e_type == header::ET_DYN { BASE } else { 0 };
        let mut end = 0;
        let mut headers = base;
        for segment in &elf.program_headers {
            match segment.p_type {
                program_header::PT_LOAD => end = end.max(self.load_segment(space, base, segment)?),
                program_header::PT_PHDR => headers = base + segment.p_vaddr as usize,
                _ => {}
            }
        }
        if end == 0 {
            bail!("{} has nothing to load", self.name);
        }
        if headers == base {
            let first = elf.program_headers.iter().find(|segment| {
                segment.p_type == program_header::PT_LOAD && segment.p_offset <= elf.header.e_phoff
            });
            let first = first.with_context(|| format!("{} does not load its headers", self.name))?;
            headers = base + (first.p_vaddr + elf.header.e_phoff - first.p_offset) as usize;
        }
        space.begin_heap(end);
        Ok(Image { entry: base + elf.header.e_entry as usize, headers: (headers, elf.program_headers.len()) })
    }

    /// Maps one segment, and returns where it ends.
    fn load_segment<H: Host>(
        &self,
        space: &GuestSpace<H>,
        base: usize,
        segment: &goblin::elf::ProgramHeader,
    ) -> Result<usize> {
        let page = space.page_size();
        let name = &self.name;
        let misplaced = || format!("{name} has a segment that is out of place");
        let start = base.checked_add(segment.p_vaddr as usize).with_context(misplaced)?;
        let end = start.checked_add(segment.p_memsz as usize).with_context(misplaced)?;
        let file_end =
            start.checked_add(segment.p_filesz as usize).filter(|it| *it <= end).with_context(misplaced)?;
        let mut perms = VmPerms::empty();
        perms.set(VmPerms::READ, segment.p_flags & program_header::PF_R != 0);
        perms.set(VmPerms::WRITE, segment.p_flags & program_header::PF_W != 0);
        perms.set(VmPerms::EXEC, segment.p_flags & program_header::PF_X != 0);

        let first = start / page * page;
        let lead = (start - first) as u64;
        let mut behind = first;
        if file_end > start {
            if segment.p_offset % page as u64 != lead {
                bail!("{name} is not made for pages of {} KiB", page >> 10);
            }
            let file = MapOptions::new(file_end - first)
                .prot(Prot::from(perms))
                .placement(Placement::Replacing(first))
                .file(self.file.clone(), segment.p_offset - lead);
            space.map(&file).with_context(|| format!("{name} cannot be mapped"))?;
            behind = file_end.next_multiple_of(page);
            // What is behind the file's part in its last page is the program's, and zero.
            if perms.contains(VmPerms::WRITE) && behind > file_end {
                let zeros = vec![0; behind - file_end];
                space.write(file_end, &zeros).with_context(|| format!("{name} cannot be mapped"))?;
            }
        }
        if end > behind {
            let zeros =
                MapOptions::new(end - behind).prot(Prot::from(perms)).placement(Placement::Replacing(behind));
            space.map(&zeros).with_context(|| format!("{name} cannot be mapped"))?;
        }
        Ok(end)
    }
}
