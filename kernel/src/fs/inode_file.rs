// SPDX-License-Identifier: MPL-2.0

//! Open regular files, directories and mere locations: file operations on top of an inode.
//!
//! Here the rules that hold for every file system are kept: the limits on a file's size, atomic appending, access times, the
//! set-user-ID bit that a write takes away, and the two entries that every directory has.

use super::{
    current,
    file::{AccessMode, File, FileOps, Mappable, OpenFlags, Position, WriteAt},
    inode::Inode,
    io::{Sink, Source},
    mount::MountFlags,
    path::Path,
    poll::{PollEvents, PollTable},
    types::*,
};
use crate::{prelude::*, process::credentials::CapSet};

/// What opening with `O_PATH` gives: a location. Everything is refused before it comes here.
pub struct Location;

impl FileOps for Location {}

/// An open regular file (or a file of procfs, which has contents too).
pub struct InodeFile {
    /// Holds off `execve` while the file is open for writing.
    _writer: Option<WriteGuard>,
}

/// Counts one open writer of an inode, or one running program.
pub struct WriteGuard {
    inode: Arc<dyn Inode>,
    change: i32,
}

impl WriteGuard {
    /// Notes a writer.
    ///
    /// # Errors
    ///
    /// ETXTBSY if the file is being executed.
    pub fn writer(inode: &Arc<dyn Inode>) -> Result<Self> {
        Self::take(inode, 1)
    }

    /// Keeps writers away while a program runs from the file.
    ///
    /// # Errors
    ///
    /// ETXTBSY if the file is open for writing.
    pub fn executor(inode: &Arc<dyn Inode>) -> Result<Self> {
        Self::take(inode, -1)
    }

    fn take(inode: &Arc<dyn Inode>, change: i32) -> Result<Self> {
        if let Some(ext) = inode.ext() {
            let step = |count: i32| (count * change >= 0).then_some(count + change);
            ext.write_count.try_update(Ordering::AcqRel, Ordering::Acquire, step).map_err(|_| ETXTBSY)?;
        }
        Ok(Self { inode: inode.clone(), change })
    }
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        if let Some(ext) = self.inode.ext() {
            ext.write_count.fetch_sub(self.change, Ordering::AcqRel);
        }
    }
}

impl InodeFile {
    /// The contents of `inode`, opened with `flags`.
    ///
    /// # Errors
    ///
    /// ETXTBSY for writing to a file that is being executed.
    pub fn new(inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Self> {
        let writes = flags.access().contains(AccessMode::WRITE) && inode.kind() == FileType::Regular;
        Ok(Self { _writer: if writes { Some(WriteGuard::writer(inode)?) } else { None } })
    }
}

impl FileOps for InodeFile {
    fn position(&self) -> Position {
        Position::Seekable
    }

    fn read_at(&self, file: &File, pos: u64, dst: &mut Sink<'_>) -> Result<usize> {
        if dst.avail() == 0 {
            return Ok(0);
        }
        let count = file.inode().read_at(pos, dst)?;
        touch_atime(file);
        Ok(count)
    }

    fn write_at(&self, file: &File, at: WriteAt, src: &mut Source<'_>) -> Result<(u64, usize)> {
        let inode = file.inode();
        let _io = inode.ext().map(|ext| ext.io.write());
        let pos = match at {
            WriteAt::Offset(pos) => pos,
            WriteAt::End => inode.metadata().size,
        };
        if src.remain() == 0 {
            return Ok((pos, 0));
        }
        let limit = current::file_size_limit();
        if inode.kind() == FileType::Regular && pos.saturating_add(src.remain() as u64) > limit {
            if pos >= limit {
                current::signal_file_too_large();
                return Err(EFBIG);
            }
            let mut part = src.take((limit - pos) as usize)?;
            let count = inode.write_at(pos, &mut part)?;
            return Ok((pos, count));
        }
        drop_privileges(inode);
        Ok((pos, inode.write_at(pos, src)?))
    }

    fn seek(&self, file: &File, current: u64, offset: i64, whence: Whence) -> Result<u64> {
        seek_in(file.inode(), current, offset, whence)
    }

    fn mappable(&self, file: &File) -> Result<Mappable> {
        file.inode().vmo().map(Mappable::Vmo).ok_or(ENODEV)
    }

    fn sync(&self, _file: &File) -> Result<()> {
        Ok(())
    }
}

/// Computes an offset in a file with contents.
///
/// # Errors
///
/// EINVAL for an offset before the start or too large; ENXIO for data or holes past the end.
pub fn seek_in(inode: &Arc<dyn Inode>, current: u64, offset: i64, whence: Whence) -> Result<u64> {
    let base = match whence {
        Whence::Set => 0,
        Whence::Current => current,
        Whence::End => inode.metadata().size,
        Whence::Data | Whence::Hole => {
            let size = inode.metadata().size;
            let pos = u64::try_from(offset).map_err(|_| ENXIO)?;
            return if pos >= size { Err(ENXIO) } else { inode.seek_extent(pos, whence) };
        }
    };
    base.checked_add_signed(offset).filter(|pos| *pos <= MAX_FILE_SIZE).ok_or(EINVAL)
}

/// Cuts or extends a file on a program's behalf. The caller has checked the permission.
///
/// # Errors
///
/// EFBIG past a limit; EPERM if sealed; the inode's.
pub fn truncate(inode: &Arc<dyn Inode>, size: u64) -> Result<()> {
    let _io = inode.ext().map(|ext| ext.io.write());
    if size > inode.metadata().size && size > current::file_size_limit() {
        current::signal_file_too_large();
        return Err(EFBIG);
    }
    drop_privileges(inode);
    inode.resize(size)
}

/// Takes the set-user-ID bit, and the set-group-ID bit of an executable file, from a file whose contents a user without
/// CAP_FSETID changes.
pub fn drop_privileges(inode: &Arc<dyn Inode>) {
    let meta = inode.metadata();
    if meta.mode & (S_ISUID | S_ISGID) == 0 || meta.kind != FileType::Regular {
        return;
    }
    if !current::credentials().has(CapSet::FSETID) {
        let group = if meta.mode & 0o010 != 0 { S_ISGID } else { 0 };
        let change = AttrChange { mode: Some(meta.mode & !(S_ISUID | group)), ..AttrChange::default() };
        // A file system that cannot change modes has no such bits to abuse.
        let _ = inode.set_attr(&change);
    }
}

/// Updates the access time, by the rules of the mount (relatime unless told otherwise) and of the open file.
pub fn touch_atime(file: &File) {
    if file.flags().contains(OpenFlags::NOATIME) {
        return;
    }
    touch_path_atime(file.path());
}

/// [`touch_atime`] for a place.
pub fn touch_path_atime(path: &Path) {
    let flags = path.mount().flags();
    if flags.intersects(MountFlags::NOATIME | MountFlags::RDONLY) {
        return;
    }
    let meta = path.inode().metadata();
    if meta.kind == FileType::Directory && flags.contains(MountFlags::NODIRATIME) {
        return;
    }
    let now = current::now();
    let fresh =
        meta.atime > meta.mtime && meta.atime > meta.ctime && now.secs - meta.atime.secs < 24 * 60 * 60;
    if fresh && !flags.contains(MountFlags::STRICTATIME) {
        return;
    }
    // A file system without changeable times has none to keep up to date.
    let _ = path.inode().set_attr(&AttrChange { atime: Some(now), ..AttrChange::default() });
}

/// An open directory.
pub struct DirFile {
    /// Where the listing ends that was started last.
    end: AtomicU64,
}

impl DirFile {
    /// An open directory, not listed yet.
    pub const fn new() -> Self {
        Self { end: AtomicU64::new(u64::MAX) }
    }
}

impl Default for DirFile {
    fn default() -> Self {
        Self::new()
    }
}

impl FileOps for DirFile {
    fn position(&self) -> Position {
        Position::Seekable
    }

    fn read_at(&self, _file: &File, _pos: u64, _dst: &mut Sink<'_>) -> Result<usize> {
        Err(EISDIR)
    }

    fn seek(&self, _file: &File, current: u64, offset: i64, whence: Whence) -> Result<u64> {
        let base = match whence {
            Whence::Set => 0,
            Whence::Current => current,
            // The end of a directory is behind the last position any file system gives out.
            Whence::End => MAX_FILE_SIZE,
            Whence::Data | Whence::Hole => return Err(EINVAL),
        };
        base.checked_add_signed(offset).filter(|pos| *pos <= MAX_FILE_SIZE).ok_or(EINVAL)
    }

    fn readdir(&self, file: &File, from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let inode = file.inode();
        if file.path().is_removed() {
            return Err(ENOENT);
        }
        touch_atime(file);
        let kind = FileType::Directory;
        if from == 0 && !visit(DirEntry { name: b".", ino: inode.metadata().ino, kind, next: 1 }) {
            return Ok(());
        }
        if from <= 1 {
            let ino = file.path().parent(&super::mount::root()).inode().metadata().ino;
            if !visit(DirEntry { name: b"..", ino, kind, next: 2 }) {
                return Ok(());
            }
        }
        if from <= 2 {
            self.end.store(inode.readdir_end(), Ordering::Relaxed);
        }
        let end = self.end.load(Ordering::Relaxed);
        inode.readdir(from.max(2), &mut |entry| entry.next <= end && visit(entry))
    }

    fn poll(&self, _file: &File, _table: &mut PollTable) -> PollEvents {
        PollEvents::READABLE | PollEvents::WRITABLE
    }

    fn sync(&self, _file: &File) -> Result<()> {
        Ok(())
    }
}
