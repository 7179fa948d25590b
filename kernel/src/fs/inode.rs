// SPDX-License-Identifier: MPL-2.0

//! Inodes: files as a file system keeps them, with no name and no opener.
//!
//! One trait for all types of file. A file system implements what its files can do; the rest answers with the error that
//! the man pages give for a file that cannot. Permission checks, name lengths, mount flags, sticky directories
//! and cycles of directories are the business of the layer above (`namei`), so an inode checks only what it alone knows:
//! that a name is free, that a directory is empty, that there is space.
//!
//! Directory operations of one directory are serialised by the caller (the directory's `Dentry` lock), renames by the rename
//! lock; an inode still needs locks of its own against readers.

use core::any::Any;

use super::{
    file::{FileOps, OpenFlags},
    file_system::FileSystem,
    io::{Sink, Source},
    locks::FileLocks,
    page_cache::FileVmo,
    pipe::Pipe,
    types::*,
};
use crate::{mm::shared_policy::SharedPolicies, prelude::*};

/// A file, as its file system keeps it.
pub trait Inode: Any + Send + Sync {
    /// All attributes, taken at one moment.
    fn metadata(&self) -> Metadata;

    /// The type of the file; it never changes.
    fn kind(&self) -> FileType {
        self.metadata().kind
    }

    /// The attributes that decide who may use the file. Asked for each directory that a path goes through.
    fn protection(&self) -> Protection {
        Protection::from(&self.metadata())
    }

    /// The file system the inode belongs to.
    fn file_system(&self) -> Arc<dyn FileSystem>;

    /// State that the layers above attach to an inode (locks, the pipe of a FIFO), if this file system supports it.
    fn ext(&self) -> Option<&InodeExt> {
        None
    }

    /// Changes attributes. The caller has checked that it may.
    ///
    /// # Errors
    ///
    /// EPERM where the attributes cannot change.
    fn set_attr(&self, _change: &AttrChange) -> Result<()> {
        Err(EPERM)
    }

    // Directories.

    /// Finds the file called `name` (never `.` or `..`).
    ///
    /// # Errors
    ///
    /// ENOENT if there is none; ENOTDIR if this is no directory.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(ENOTDIR)
    }

    /// Whether what `lookup` found stays true until this kernel itself changes the directory.
    ///
    /// A file system whose directories change by themselves (procfs) says no, and is asked each time.
    fn lookup_is_stable(&self) -> bool {
        true
    }

    /// Creates a file called `name`.
    ///
    /// # Errors
    ///
    /// EEXIST if the name is taken; ENOSPC without space; EPERM if the file system cannot have such a file; ENOENT in a
    /// directory that has been removed.
    fn create(&self, _name: &[u8], _node: NewNode<'_>, _attr: NewAttr) -> Result<Arc<dyn Inode>> {
        Err(EPERM)
    }

    /// Creates a regular file without a name (`O_TMPFILE`).
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP where the file system has no such files; ENOSPC without space.
    fn create_unnamed(&self, _attr: NewAttr) -> Result<Arc<dyn Inode>> {
        Err(EOPNOTSUPP)
    }

    /// Gives `target`, an inode of the same file system, the further name `name`.
    ///
    /// # Errors
    ///
    /// EEXIST if the name is taken; EMLINK with too many names; EPERM where there are no hard links.
    fn link(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<()> {
        Err(EPERM)
    }

    /// Removes the name of a file that is no directory.
    ///
    /// # Errors
    ///
    /// ENOENT if there is none; EISDIR if it is a directory.
    fn unlink(&self, _name: &[u8]) -> Result<()> {
        Err(EPERM)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// ENOENT if there is none; ENOTDIR; ENOTEMPTY.
    fn rmdir(&self, _name: &[u8]) -> Result<()> {
        Err(EPERM)
    }

    /// Renames `old` to `new` in `new_dir`, a directory of the same file system.
    ///
    /// # Errors
    ///
    /// ENOENT; EEXIST with [`RenameMode::NoReplace`]; ENOTEMPTY, EISDIR, ENOTDIR if what is there cannot be replaced.
    fn rename(&self, _old: &[u8], _new_dir: &Arc<dyn Inode>, _new: &[u8], _mode: RenameMode) -> Result<()> {
        Err(EPERM)
    }

    /// Hands the entries from position `from` on to `visit`, until it returns `false`. `.` and `..` are the caller's
    /// business: it uses the positions 0 and 1 for them, and an inode's own start at 2.
    ///
    /// # Errors
    ///
    /// ENOTDIR if this is no directory.
    fn readdir(&self, _from: u64, _visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        Err(ENOTDIR)
    }

    /// A position behind all entries there are now. A listing does not go beyond what this was when it started, or it might
    /// never end.
    fn readdir_end(&self) -> u64 {
        u64::MAX
    }

    // Symbolic links.

    /// Where a symbolic link points to.
    ///
    /// # Errors
    ///
    /// EINVAL if this is no symbolic link.
    fn read_link(&self) -> Result<LinkTarget> {
        Err(EINVAL)
    }

    // Contents.

    /// Reads bytes from offset `pos`; 0 at the end.
    ///
    /// # Errors
    ///
    /// EINVAL for a file without contents.
    fn read_at(&self, _pos: u64, _dst: &mut Sink<'_>) -> Result<usize> {
        Err(EINVAL)
    }

    /// Writes bytes at offset `pos`, growing the file as needed. The caller holds [`InodeExt::io`] if there is one.
    ///
    /// # Errors
    ///
    /// ENOSPC without space; EPERM if sealed; EINVAL for a file without contents.
    fn write_at(&self, _pos: u64, _src: &mut Source<'_>) -> Result<usize> {
        Err(EINVAL)
    }

    /// Makes the file `size` bytes long. The caller holds [`InodeExt::io`] if there is one.
    ///
    /// # Errors
    ///
    /// EINVAL for a file without contents; EPERM if sealed.
    fn resize(&self, _size: u64) -> Result<()> {
        Err(EINVAL)
    }

    /// Reserves, punches or zeroes a range (`fallocate`). The caller holds [`InodeExt::io`] if there is one.
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP where the file system cannot; ENOSPC without space.
    fn allocate(&self, _how: Allocate, _pos: u64, _len: u64) -> Result<()> {
        Err(EOPNOTSUPP)
    }

    /// The first byte of data ([`Whence::Data`]) or the first hole at or after `pos`, for `pos` within the file.
    ///
    /// # Errors
    ///
    /// ENXIO if there is no data after `pos`.
    fn seek_extent(&self, pos: u64, whence: Whence) -> Result<u64> {
        Ok(if whence == Whence::Data { pos } else { self.metadata().size })
    }

    /// The memory object that holds the contents of a regular file.
    fn vmo(&self) -> Option<FileVmo> {
        None
    }

    /// Whether there is page `index` of the contents, or it takes no memory.
    fn has_page(&self, _index: usize) -> bool {
        true
    }

    /// The memory policies of the contents, if they are in memory only.
    fn policies(&self) -> Option<&SharedPolicies> {
        None
    }

    /// The seals of a memfd, if it is one (`F_SEAL_*`).
    fn seals(&self) -> Option<&super::memfd::Seals> {
        None
    }

    /// Refuses shared mappings that may write, from now on (`F_SEAL_WRITE`).
    ///
    /// # Errors
    ///
    /// EBUSY if there are some; EINVAL if the file cannot be sealed.
    fn deny_writers(&self) -> Result<()> {
        Err(EINVAL)
    }

    /// What opening the file gives. `None` asks for what the type of the file calls for: the contents for a regular file, the
    /// entries for a directory, the registered driver for a device node, the pipe for a FIFO.
    ///
    /// # Errors
    ///
    /// The file's own.
    fn open(&self, _flags: OpenFlags) -> Result<Option<Arc<dyn FileOps>>> {
        Ok(None)
    }

    // Extended attributes.

    /// The value of an extended attribute.
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP where there are none; ENODATA if this one is not set.
    fn xattr(&self, _name: &[u8]) -> Result<Vec<u8>> {
        Err(EOPNOTSUPP)
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP where there are none; EEXIST or ENODATA against `mode`; ENOSPC.
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _mode: XattrMode) -> Result<()> {
        Err(EOPNOTSUPP)
    }

    /// The names of all extended attributes, each followed by a NUL.
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP where there are none.
    fn list_xattr(&self) -> Result<Vec<u8>> {
        Err(EOPNOTSUPP)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP where there are none; ENODATA if it is not set.
    fn remove_xattr(&self, _name: &[u8]) -> Result<()> {
        Err(EOPNOTSUPP)
    }
}

impl dyn Inode {
    /// The inode as the concrete type its file system made it of.
    pub fn downcast_ref<T: Inode>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// Where a symbolic link leads.
pub enum LinkTarget {
    /// To a path, resolved from the link's directory.
    Path(Box<[u8]>),
    /// Straight to a file (`/proc/PID/exe`, `/proc/PID/fd/N`), whatever its name is by now.
    File(super::path::Path),
}

/// What `fallocate` does with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Reserve space, and grow the file.
    Extend,
    /// Reserve space, also past the end, and keep the size.
    KeepSize,
    /// Give space back; the size stays.
    PunchHole,
}

/// What setting an extended attribute expects of the old value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Nothing.
    Any,
    /// That there is none (`XATTR_CREATE`).
    Create,
    /// That there is one (`XATTR_REPLACE`).
    Replace,
    /// Both, which cannot be.
    Never,
}

/// State the layers above keep with an inode.
pub struct InodeExt {
    /// Held for writing by all that changes contents or size, so that appends are atomic.
    pub io: RwMutex<()>,
    /// Whether a file without names may get one (`O_TMPFILE` without `O_EXCL`).
    pub can_be_named: AtomicBool,
    /// Open writers (positive) or running programs (negative); see `WriteGuard`.
    pub write_count: AtomicI32,
    /// Advisory locks.
    pub locks: FileLocks,
    /// The pipe of a FIFO while somebody has it open.
    pub fifo: Mutex<Weak<Pipe>>,
    /// What a Unix socket has bound here.
    pub socket: Mutex<Option<Weak<dyn Any + Send + Sync>>>,
}

impl Default for InodeExt {
    fn default() -> Self {
        Self {
            io: RwMutex::new(()),
            can_be_named: AtomicBool::new(false),
            write_count: AtomicI32::new(0),
            locks: FileLocks::default(),
            fifo: Mutex::new(Weak::new()),
            socket: Mutex::new(None),
        }
    }
}
