// SPDX-License-Identifier: MPL-2.0

//! The initramfs: cpio archives unpacked into the root at boot.
//!
//! The format is "newc" as in Linux's `Documentation/driver-api/early-userspace/buffer-format`: archives may follow each other,
//! with zeros in between; any part may be compressed by gzip; all names of a file after the first are hard links. The parser is our
//! own: the published no_std ones take only UTF-8 names and cannot tell where an archive ends, which a following one needs.
//! An archive that is damaged is unpacked up to the damage.

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{DecompressorOxide, decompress, inflate_flags},
};

use super::{
    file::OpenFlags,
    io::Source,
    lookup::{LastLink, Lookup},
    namei,
    open::{self, OpenHow, kernel_lookup},
    types::*,
};
use crate::prelude::*;

/// Bytes of a header: the magic and 13 numbers of 8 hexadecimal digits.
const HEADER_LEN: usize = 6 + 13 * 8;

/// One member of an archive.
struct Member<'a> {
    ino: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    mtime: u32,
    device: (u32, u32),
    rdev: DeviceId,
    name: &'a [u8],
    data: &'a [u8],
}

impl<'a> Member<'a> {
    /// Takes the member at the start of `bytes` apart; also returns how long it is.
    fn parse(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let header = bytes.get(..HEADER_LEN)?;
        if !matches!(&header[..6], b"070701" | b"070702") {
            return None;
        }
        let number = |index: usize| {
            let digits = core::str::from_utf8(&header[6 + index * 8..][..8]).ok()?;
            u32::from_str_radix(digits, 16).ok()
        };
        let (size, name_len) = (number(6)? as usize, number(11)? as usize);
        let name = bytes.get(HEADER_LEN..HEADER_LEN.checked_add(name_len)?)?;
        let name = name.strip_suffix(b"\0")?;
        let data_start = (HEADER_LEN + name_len).next_multiple_of(4);
        let data_end = data_start.checked_add(size)?;
        let member = Self {
            ino: number(0)?,
            mode: number(1)?,
            uid: number(2)?,
            gid: number(3)?,
            nlink: number(4)?,
            mtime: number(5)?,
            device: (number(7)?, number(8)?),
            rdev: DeviceId::new(number(9)?, number(10)?),
            name,
            data: bytes.get(data_start..data_end)?,
        };
        Some((member, data_end.next_multiple_of(4)))
    }
}

/// Unpacks all archives in `bytes` into the root. What is not compressed is not copied: it is read when it is wanted
/// ([`cache`](crate::mm::cache)).
pub fn unpack(bytes: &'static [u8]) {
    let lookup = kernel_lookup();
    let mut unpacker =
        Unpacker { lookup, kept: bytes, links: BTreeMap::new(), directories: Vec::new(), members: 0 };
    unpacker.unpack_all(bytes);
    unpacker.finish();
    info!("initramfs: {} files", unpacker.members);
}

/// What the names of one file have in common: the inode and the device in the archive.
type FileKey = (u32, (u32, u32));

struct Unpacker {
    lookup: Lookup,
    /// What stays in memory for good.
    kept: &'static [u8],
    /// The first name of each file with several, by device and inode of the archive.
    links: BTreeMap<FileKey, Box<[u8]>>,
    /// Directories get their times last: what is put into them changes those.
    directories: Vec<(Box<[u8]>, u32)>,
    members: usize,
}

impl Unpacker {
    fn unpack_all(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            let zeros = rest.iter().take_while(|byte| **byte == 0).count();
            rest = &rest[zeros..];
            if rest.is_empty() {
                return;
            }
            if rest.starts_with(&[0x1f, 0x8b]) {
                let Some((inner, used)) = gunzip(rest) else {
                    error!("initramfs: damaged gzip data");
                    return;
                };
                self.unpack_all(&inner);
                rest = rest.get(used..).unwrap_or_default();
                continue;
            }
            let Some(used) = self.unpack_archive(rest) else { return };
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// Unpacks one archive, and returns where it ends.
    fn unpack_archive(&mut self, bytes: &[u8]) -> Option<usize> {
        self.links.clear();
        let mut at = 0;
        loop {
            let Some((member, len)) = bytes.get(at..).and_then(Member::parse) else {
                error!("initramfs: damaged or unknown archive at byte {}", at);
                return None;
            };
            at += len;
            if member.name == b"TRAILER!!!" {
                return Some(at);
            }
            if let Err(error) = self.unpack_member(&member) {
                let name = String::from_utf8_lossy(member.name);
                warn!("initramfs: cannot unpack {}: {:?}", name, error);
            }
            self.members += 1;
        }
    }

    fn unpack_member(&mut self, member: &Member<'_>) -> Result<()> {
        let name = member.name;
        let kind = FileType::from_mode_bits(member.mode).ok_or(EINVAL)?;
        let mode = (member.mode & 0o7777) as u16;
        if name == b"." || name == b"/" {
            return self.set_attributes(b"/", member);
        }
        match kind {
            FileType::Directory => match namei::create(&self.lookup, name, NewNode::Directory, mode) {
                Ok(_) | Err(EEXIST) => self.directories.push((name.into(), member.mtime)),
                Err(error) => return Err(error),
            },
            FileType::Regular => return self.unpack_regular(member, mode),
            FileType::Symlink => self.make(name, NewNode::Symlink(member.data), mode)?,
            FileType::Fifo => self.make(name, NewNode::Fifo, mode)?,
            FileType::Socket => self.make(name, NewNode::Socket, mode)?,
            FileType::CharDevice => self.make(name, NewNode::CharDevice(member.rdev), mode)?,
            FileType::BlockDevice => self.make(name, NewNode::BlockDevice(member.rdev), mode)?,
            FileType::Anonymous => return Err(EINVAL),
        }
        self.set_attributes(name, member)
    }

    /// Makes a node in place of what an earlier archive has put there.
    fn make(&self, name: &[u8], node: NewNode<'_>, mode: u16) -> Result<()> {
        match namei::create(&self.lookup, name, node, mode) {
            Err(EEXIST) => {
                namei::remove(&self.lookup, name, namei::Removal::File)?;
                namei::create(&self.lookup, name, node, mode).map(drop)
            }
            done => done.map(drop),
        }
    }

    /// `data` as what stays, if it is a part of that.
    fn kept(&self, data: &[u8]) -> Option<&'static [u8]> {
        let start = data.as_ptr().addr().checked_sub(self.kept.as_ptr().addr())?;
        self.kept.get(start..start.checked_add(data.len())?)
    }

    fn unpack_regular(&mut self, member: &Member<'_>, mode: u16) -> Result<()> {
        let name = member.name;
        if member.nlink <= 1
            && !member.data.is_empty()
            && let Some(data) = self.kept(member.data)
        {
            self.make(name, NewNode::Archived(data), mode)?;
            return self.set_attributes(name, member);
        }
        let key: FileKey = (member.ino, member.device);
        let first = if member.nlink > 1 { self.links.get(&key).cloned() } else { None };
        if let Some(first) = first {
            let target = self.lookup.find(&first, LastLink::Stay)?;
            match namei::link(&self.lookup, &target, name) {
                Ok(()) => {}
                Err(EEXIST) => {
                    namei::remove(&self.lookup, name, namei::Removal::File)?;
                    namei::link(&self.lookup, &target, name)?;
                }
                Err(error) => return Err(error),
            }
        } else {
            self.make(name, NewNode::Regular, mode)?;
            if member.nlink > 1 {
                self.links.insert(key, name.into());
            }
        }
        // The data of a file with several names comes with one of them, usually the last.
        if !member.data.is_empty() {
            let flags = OpenFlags::WRONLY | OpenFlags::TRUNC | OpenFlags::NOFOLLOW;
            let file = open::open(&self.lookup, name, OpenHow { flags, mode })?;
            if file.write(&mut Source::from_bytes(member.data))? < member.data.len() {
                return Err(ENOSPC);
            }
        }
        self.set_attributes(name, member)
    }

    fn set_attributes(&self, name: &[u8], member: &Member<'_>) -> Result<()> {
        let place = self.lookup.find(name, LastLink::Stay)?;
        let time = Timestamp { secs: member.mtime.into(), nanos: 0 };
        place.inode().set_attr(&AttrChange {
            mode: Some((member.mode & 0o7777) as u16),
            uid: Some(member.uid),
            gid: Some(member.gid),
            atime: Some(time),
            mtime: Some(time),
            ctime: None,
        })
    }

    fn finish(&mut self) {
        for (name, mtime) in self.directories.drain(..) {
            let time = Timestamp { secs: mtime.into(), nanos: 0 };
            let change = AttrChange { mtime: Some(time), ..AttrChange::default() };
            if let Ok(place) = self.lookup.find(&name, LastLink::Stay) {
                // A directory of the root's own file system takes any times.
                let _ = place.inode().set_attr(&change);
            }
        }
    }
}

/// Unpacks the gzip member at the start of `bytes`; also returns how long it is. See RFC 1952.
fn gunzip(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let flags = *bytes.get(3)?;
    let mut at = 10;
    if flags & 4 != 0 {
        let extra = u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]);
        at += 2 + usize::from(extra);
    }
    for text in [8, 16] {
        if flags & text != 0 {
            at += bytes.get(at..)?.iter().position(|byte| *byte == 0)? + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    let mut state = Box::new(DecompressorOxide::new());
    let mut out: Vec<u8> = Vec::new();
    let mut filled = 0;
    loop {
        if filled == out.len() {
            let more = out.len().max(1 << 20);
            out.try_reserve_exact(more).ok()?;
            out.resize(out.len() + more, 0);
        }
        let options = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, read, written) = decompress(&mut state, bytes.get(at..)?, &mut out, filled, options);
        at += read;
        filled += written;
        match status {
            TINFLStatus::Done => break,
            TINFLStatus::HasMoreOutput => {}
            _ => return None,
        }
    }
    out.truncate(filled);
    // The checksum and the length follow.
    Some((out, at + 8))
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    /// Adds a member to an archive.
    fn add(archive: &mut Vec<u8>, (ino, nlink): (u32, u32), mode: u32, name: &str, data: &[u8]) {
        let numbers = [ino, mode, 3, 4, nlink, 1000, data.len() as u32, 0, 0, 1, 7, name.len() as u32 + 1, 0];
        archive.extend_from_slice(b"070701");
        for number in numbers {
            archive.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(data);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }

    #[ktest]
    fn archives_are_unpacked_one_after_the_other() {
        let mut archive = Vec::new();
        add(&mut archive, (1, 2), 0o040750, "initramfs-test", b"");
        add(&mut archive, (2, 2), 0o100644, "initramfs-test/one", b"");
        add(&mut archive, (2, 2), 0o100644, "initramfs-test/two", b"contents");
        add(&mut archive, (3, 1), 0o120777, "initramfs-test/link", b"one");
        add(&mut archive, (4, 1), 0o020600, "initramfs-test/device", b"");
        add(&mut archive, (0, 1), 0, "TRAILER!!!", b"");
        archive.resize(archive.len().next_multiple_of(512), 0);
        // The same number in another archive is another file.
        add(&mut archive, (2, 1), 0o104755, "initramfs-test/three", b"x");
        add(&mut archive, (0, 1), 0, "TRAILER!!!", b"");
        unpack(archive.leak());

        let lookup = kernel_lookup();
        let meta = |name: &[u8]| lookup.find(name, LastLink::Stay).unwrap().inode().metadata();
        let dir = meta(b"initramfs-test");
        assert_eq!((dir.mode, dir.uid, dir.gid, dir.mtime.secs), (0o750, 3, 4, 1000));
        let (one, two) = (meta(b"initramfs-test/one"), meta(b"initramfs-test/two"));
        assert_eq!((one.ino, one.nlink, one.size), (two.ino, 2, 8));
        let device = meta(b"initramfs-test/device");
        assert_eq!((device.kind, device.rdev), (FileType::CharDevice, DeviceId::new(1, 7)));
        let three = meta(b"initramfs-test/three");
        assert_eq!((three.mode, three.nlink, three.size), (0o4755, 1, 1));
        assert_eq!(meta(b"initramfs-test/link").kind, FileType::Symlink);
    }

    #[ktest]
    fn a_damaged_archive_is_unpacked_up_to_the_damage() {
        let mut archive = Vec::new();
        add(&mut archive, (1, 2), 0o040755, "initramfs-damaged", b"");
        add(&mut archive, (2, 1), 0o100644, "initramfs-damaged/file", b"contents");
        archive.truncate(archive.len() - 8);
        unpack(archive.leak());
        let lookup = kernel_lookup();
        assert!(lookup.find(b"initramfs-damaged", LastLink::Stay).is_ok());
        assert!(lookup.find(b"initramfs-damaged/file", LastLink::Stay).is_err());
    }
}
