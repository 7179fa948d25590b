// SPDX-License-Identifier: MPL-2.0

//! The ROM file system: a tar archive in the image, read where it is.

use alloc::sync::Arc;

use tar_no_std::TarArchiveRef;
use vmar_flat::{Backing, Capabilities, Error, File, FileState};

/// The archive, so that what it has at multiples of 512 bytes lies at such addresses.
#[repr(align(512))]
struct Image<T: ?Sized>(T);

static IMAGE: &Image<[u8]> = &Image(*include_bytes!(concat!(env!("OUT_DIR"), "/rom.tar")));

/// An open file of the ROM.
#[derive(Debug)]
pub struct RomFile {
    bytes: &'static [u8],
    backing: Backing,
}

impl RomFile {
    /// Opens the file `name` for reading.
    pub fn open(name: &str) -> Option<Self> {
        let archive = TarArchiveRef::new(&IMAGE.0).ok()?;
        let entry = archive.entries().find(|entry| entry.filename().as_str() == Ok(name))?;
        // Nobody writes to a ROM.
        let capabilities = Backing::MEMORY.capabilities - Capabilities::WRITE_MAP;
        let backing = Backing { capabilities, state: FileState::READABLE, ..Backing::MEMORY };
        Some(Self { bytes: entry.data(), backing })
    }

    /// Changes what can be done with it.
    pub fn with(mut self, change: impl FnOnce(&mut Backing)) -> Arc<dyn File> {
        change(&mut self.backing);
        Arc::new(self)
    }

    /// What it holds.
    pub fn bytes(&self) -> &'static [u8] {
        self.bytes
    }
}

impl File for RomFile {
    fn id(&self) -> u64 {
        self.bytes.as_ptr().addr() as u64
    }

    fn backing(&self) -> Backing {
        self.backing
    }

    fn read_at(&self, offset: usize, buf: &mut [u8]) -> Result<usize, Error> {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn locate(&self, offset: usize, len: usize) -> Result<Option<usize>, Error> {
        // What lies behind a file's end is another one.
        Ok(self.bytes.get(offset..offset + len).map(|bytes| bytes.as_ptr().addr()))
    }
}
