// SPDX-License-Identifier: MPL-2.0

//! Open file descriptions: what a file descriptor refers to.
//!
//! ```text
//!   fd 3 ─┐                    ┌ ops: the behaviour (a pipe's end, a regular file, a terminal)
//!   fd 4 ─┼─► File (shared) ───┼ offset, status flags, access mode, owner
//!   fork ─┘                    └ path: the name it was opened by, and its inode
//! ```
//!
//! [`File`] holds what all open files have; [`FileOps`] is what they do. A read or write goes through `File`, which checks the
//! access mode and keeps the offset; an implementation of `FileOps` sees only allowed calls.
//!
//! Locks: the offset is a sleeping lock held over a whole read or write of a seekable file, as POSIX demands. It comes
//! before all locks of inodes.

use core::any::Any;

use spin::Once;

pub use super::open_flags::{AccessMode, OpenFlags};
use super::{
    Fd,
    inode::Inode,
    io::{Sink, Source},
    page_cache::FileVmo,
    path::Path,
    poll::{Blocking, PollEvents, PollTable},
    sigio::FileOwner,
    synthetic::Text,
    types::*,
};
use crate::{mm::mapped_file::MappedFile, prelude::*};

/// What mapping a file into memory maps.
pub enum Mappable {
    /// The pages of a memory object. What a mapping may do with them is negotiated when it is made.
    Vmo(FileVmo),
    /// Fresh zeroed memory (`/dev/zero`).
    Zero,
}

/// Whether an open file has an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// It has: `read_at` and `write_at` are called.
    Seekable,
    /// It has not: `read` and `write` are called.
    Stream,
}

/// What an open file does. Implemented by every kind of file; `file` is the description the call came through.
pub trait FileOps: Any + Send + Sync {
    /// Whether the file has an offset.
    fn position(&self) -> Position {
        Position::Stream
    }

    /// Reads from a stream; 0 at its end.
    ///
    /// # Errors
    ///
    /// EAGAIN if it would wait and `file` is non-blocking; ERESTARTSYS; EINVAL if the file cannot be read.
    fn read(&self, _file: &File, _dst: &mut Sink<'_>) -> Result<usize> {
        Err(EINVAL)
    }

    /// Writes to a stream.
    ///
    /// # Errors
    ///
    /// As [`FileOps::read`]; EPIPE without a reader (the caller sends SIGPIPE).
    fn write(&self, _file: &File, _src: &mut Source<'_>) -> Result<usize> {
        Err(EINVAL)
    }

    /// Reads from offset `pos` of a seekable file; 0 at its end.
    ///
    /// # Errors
    ///
    /// The inode's.
    fn read_at(&self, _file: &File, _pos: u64, _dst: &mut Sink<'_>) -> Result<usize> {
        Err(ESPIPE)
    }

    /// Writes at `at` of a seekable file, and returns the offset of the first byte and the number of bytes.
    ///
    /// # Errors
    ///
    /// The inode's; EFBIG beyond the limits.
    fn write_at(&self, _file: &File, _at: WriteAt, _src: &mut Source<'_>) -> Result<(u64, usize)> {
        Err(ESPIPE)
    }

    /// Computes the offset that `lseek` asks for; `current` is the present one.
    ///
    /// # Errors
    ///
    /// ESPIPE for a stream; EINVAL, ENXIO, EOVERFLOW.
    fn seek(&self, _file: &File, _current: u64, _offset: i64, _whence: Whence) -> Result<u64> {
        Err(ESPIPE)
    }

    /// What can be done without waiting. Hands each of the file's queues to `table` first.
    fn poll(&self, _file: &File, _table: &mut PollTable) -> PollEvents {
        PollEvents::READABLE | PollEvents::WRITABLE
    }

    /// A device's own command; `arg` is a number or a user address.
    ///
    /// # Errors
    ///
    /// ENOTTY for a command the file does not know.
    fn ioctl(&self, _file: &File, _command: u32, _arg: usize) -> Result<usize> {
        Err(ENOTTY)
    }

    /// Has signals sent to `owner` when the file becomes ready, which name it `fd`; or has none sent.
    ///
    /// # Errors
    ///
    /// ENOTTY if the file sends none; ENOMEM.
    fn set_async(&self, _owner: &Arc<FileOwner>, _fd: Option<Fd>) -> Result<()> {
        Err(ENOTTY)
    }

    /// What mapping the file maps.
    ///
    /// # Errors
    ///
    /// ENODEV if it cannot be mapped.
    fn mappable(&self, _file: &File) -> Result<Mappable> {
        Err(ENODEV)
    }

    /// Lists a directory from position `from` on, `.` and `..` included, until `visit` returns `false`.
    ///
    /// # Errors
    ///
    /// ENOTDIR if it is none.
    fn readdir(&self, _file: &File, _from: u64, _visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        Err(ENOTDIR)
    }

    /// Brings the contents to stable storage.
    ///
    /// # Errors
    ///
    /// EINVAL where there is nothing to bring anywhere (pipes, sockets).
    fn sync(&self, _file: &File) -> Result<()> {
        Err(EINVAL)
    }

    /// Further lines for `/proc/PID/fdinfo/N`.
    fn fdinfo(&self, _file: &File, _out: &mut Text) {}

    /// Called when the last descriptor of `file` is gone.
    fn release(&self, _file: &File) {}
}

impl dyn FileOps {
    /// The operations as the concrete type they are.
    pub fn downcast_ref<T: FileOps>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// Where a write to a seekable file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAt {
    /// To this offset.
    Offset(u64),
    /// To the end of the file, wherever that is by then.
    End,
}

/// An open file description.
pub struct File {
    ops: Arc<dyn FileOps>,
    path: Path,
    access: AccessMode,
    flags: AtomicU32,
    offset: Mutex<u64>,
    owner: Once<Arc<FileOwner>>,
    mapped: SpinLock<Weak<MappedFile>>,
}

impl File {
    /// An open file that has been reached by `path`.
    pub fn new(path: Path, ops: Arc<dyn FileOps>, flags: OpenFlags) -> Arc<Self> {
        let kept = flags - OpenFlags::TRANSIENT;
        Arc::new(Self {
            ops,
            path,
            access: flags.access(),
            flags: AtomicU32::new(kept.bits()),
            offset: Mutex::new(0),
            owner: Once::new(),
            mapped: SpinLock::new(Weak::new()),
        })
    }

    /// An open file that no directory holds, shown in `/proc/PID/fd` as `label` (`anon_inode:[eventfd]`, `pipe:[17]`).
    pub fn new_anonymous(
        inode: Arc<dyn Inode>,
        label: &str,
        ops: Arc<dyn FileOps>,
        flags: OpenFlags,
    ) -> Arc<Self> {
        Self::new(super::anon::place(inode, label), ops, flags)
    }

    /// What the file does.
    pub fn ops(&self) -> &Arc<dyn FileOps> {
        &self.ops
    }

    /// The behaviour as a concrete type, if it is that.
    pub fn downcast_ops<T: FileOps>(&self) -> Option<&T> {
        self.ops.downcast_ref()
    }

    /// The path the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The inode behind the file.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.path.inode()
    }

    /// What the file may be used for.
    pub fn access(&self) -> AccessMode {
        self.access
    }

    /// The flags it was opened with, as changed by `F_SETFL` since.
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Whether an operation may wait.
    pub fn blocking(&self) -> Blocking {
        self.flags().blocking()
    }

    /// Sets those flags that can be changed to what they are in `flags`.
    pub fn set_flags(&self, flags: OpenFlags) {
        let new = flags & OpenFlags::CHANGEABLE;
        // The closure always gives a value, so the update cannot fail.
        let _ = self.flags.try_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            Some((old & !OpenFlags::CHANGEABLE.bits()) | new.bits())
        });
    }

    /// Sets or clears `O_NONBLOCK` (`FIONBIO`).
    pub fn set_blocking(&self, blocking: Blocking) {
        match blocking {
            Blocking::Yes => self.flags.fetch_and(!OpenFlags::NONBLOCK.bits(), Ordering::Relaxed),
            Blocking::No => self.flags.fetch_or(OpenFlags::NONBLOCK.bits(), Ordering::Relaxed),
        };
    }

    /// What the file's mappings know of it, while there are any.
    pub fn mapped(&self) -> Option<Arc<MappedFile>> {
        self.mapped.lock().upgrade()
    }

    /// Notes what the file's mappings know of it.
    pub fn set_mapped(&self, mapped: &Arc<MappedFile>) {
        let old = core::mem::replace(&mut *self.mapped.lock(), Arc::downgrade(mapped));
        drop(old);
    }

    /// Who gets the signals of the file.
    pub fn owner(&self) -> &Arc<FileOwner> {
        self.owner.call_once(Arc::default)
    }

    /// Has signals sent when the file becomes ready (`O_ASYNC`), which name it `fd`; or has none sent.
    ///
    /// # Errors
    ///
    /// ENOTTY if it sends none; ENOMEM.
    pub fn set_async(&self, fd: Option<Fd>) -> Result<()> {
        if self.flags().contains(OpenFlags::ASYNC) == fd.is_some() {
            return Ok(());
        }
        self.ops.set_async(self.owner(), fd)?;
        match fd {
            Some(_) => self.flags.fetch_or(OpenFlags::ASYNC.bits(), Ordering::Relaxed),
            None => self.flags.fetch_and(!OpenFlags::ASYNC.bits(), Ordering::Relaxed),
        };
        Ok(())
    }

    /// Fails with EBADF unless the file allows all of `wanted` and is not only a location.
    ///
    /// # Errors
    ///
    /// EBADF.
    pub fn require(&self, wanted: AccessMode) -> Result<()> {
        if self.flags().contains(OpenFlags::PATH) || !self.access.contains(wanted) {
            return Err(EBADF);
        }
        Ok(())
    }

    /// Reads at the offset, and moves it.
    ///
    /// # Errors
    ///
    /// EBADF unless open for reading; the file's own.
    pub fn read(&self, dst: &mut Sink<'_>) -> Result<usize> {
        self.require(AccessMode::READ)?;
        match self.ops.position() {
            Position::Stream => self.ops.read(self, dst),
            Position::Seekable => {
                let mut offset = self.offset.lock();
                check_span(*offset, dst.avail())?;
                let count = self.ops.read_at(self, *offset, dst)?;
                *offset += count as u64;
                Ok(count)
            }
        }
    }

    /// Writes at the offset (or at the end, with `O_APPEND`), and moves it.
    ///
    /// # Errors
    ///
    /// EBADF unless open for writing; the file's own.
    pub fn write(&self, src: &mut Source<'_>) -> Result<usize> {
        self.require(AccessMode::WRITE)?;
        match self.ops.position() {
            Position::Stream => self.ops.write(self, src),
            Position::Seekable => {
                let mut offset = self.offset.lock();
                check_span(*offset, src.remain())?;
                let at = match self.flags().contains(OpenFlags::APPEND) {
                    true => WriteAt::End,
                    false => WriteAt::Offset(*offset),
                };
                let (start, count) = self.ops.write_at(self, at, src)?;
                *offset = start + count as u64;
                Ok(count)
            }
        }
    }

    /// Reads at `pos`, and leaves the offset alone.
    ///
    /// # Errors
    ///
    /// EBADF unless open for reading; ESPIPE for a stream; the file's own.
    pub fn pread(&self, pos: u64, dst: &mut Sink<'_>) -> Result<usize> {
        if self.ops.position() == Position::Stream {
            return Err(ESPIPE);
        }
        self.require(AccessMode::READ)?;
        check_span(pos, dst.avail())?;
        self.ops.read_at(self, pos, dst)
    }

    /// Writes at `pos` (with `O_APPEND` at the end, as Linux does), and leaves the offset alone.
    ///
    /// # Errors
    ///
    /// EBADF unless open for writing; ESPIPE for a stream; the file's own.
    pub fn pwrite(&self, pos: u64, src: &mut Source<'_>) -> Result<usize> {
        if self.ops.position() == Position::Stream {
            return Err(ESPIPE);
        }
        self.require(AccessMode::WRITE)?;
        check_span(pos, src.remain())?;
        let at = match self.flags().contains(OpenFlags::APPEND) {
            true => WriteAt::End,
            false => WriteAt::Offset(pos),
        };
        Ok(self.ops.write_at(self, at, src)?.1)
    }

    /// Moves the offset, and returns the new one.
    ///
    /// # Errors
    ///
    /// EBADF for a mere location; ESPIPE for a stream; EINVAL, ENXIO, EOVERFLOW.
    pub fn seek(&self, by: i64, whence: Whence) -> Result<u64> {
        self.require(AccessMode::NONE)?;
        let mut offset = self.offset.lock();
        *offset = self.ops.seek(self, *offset, by, whence)?;
        Ok(*offset)
    }

    /// The present offset.
    pub fn offset(&self) -> u64 {
        *self.offset.lock()
    }

    /// Lists a directory from the offset on, and moves it past the entries that `visit` has accepted.
    ///
    /// # Errors
    ///
    /// EBADF unless open for reading; ENOTDIR.
    pub fn readdir(&self, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        if self.inode().kind() != FileType::Directory {
            return Err(ENOTDIR);
        }
        self.require(AccessMode::READ)?;
        let mut offset = self.offset.lock();
        let mut next = *offset;
        self.ops.readdir(self, next, &mut |entry| {
            let accepted = visit(entry);
            if accepted {
                next = entry.next;
            }
            accepted
        })?;
        *offset = next;
        Ok(())
    }

    /// What can be done without waiting.
    pub fn poll(&self, table: &mut PollTable) -> PollEvents {
        if self.flags().contains(OpenFlags::PATH) {
            return PollEvents::NVAL;
        }
        self.ops.poll(self, table)
    }
}

/// Fails with EINVAL if the last byte of a transfer would lie past the largest offset.
fn check_span(pos: u64, len: usize) -> Result<()> {
    match pos.checked_add(len as u64) {
        Some(end) if end <= MAX_FILE_SIZE => Ok(()),
        _ => Err(EINVAL),
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let ops = self.ops.clone();
        ops.release(self);
        super::locks::release_file(self);
    }
}
