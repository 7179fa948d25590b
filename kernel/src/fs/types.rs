// SPDX-License-Identifier: MPL-2.0

//! The vocabulary of files: types, device numbers, times and attributes.
//!
//! Plain values with no behaviour of their own; layouts for user space are made from them at the syscall edge only.

use linux_raw_sys::general as abi;

use crate::prelude::*;

/// The longest name of one directory entry, in bytes (`NAME_MAX`).
pub const NAME_MAX: usize = 255;
/// The longest path a user may hand in, with its final NUL (`PATH_MAX`).
pub const PATH_MAX: usize = 4096;
/// The largest offset a file may have, in bytes (`MAX_LFS_FILESIZE`).
pub const MAX_FILE_SIZE: u64 = i64::MAX as u64;

/// The set-user-ID bit of a mode.
pub const S_ISUID: u16 = 0o4000;
/// The set-group-ID bit of a mode.
pub const S_ISGID: u16 = 0o2000;
/// The sticky bit of a mode.
pub const S_ISVTX: u16 = 0o1000;

/// What kind of file an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// A file with bytes in it.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A name that a Unix socket is bound to.
    Socket,
    /// An object with no name in any directory and no type (eventfd, epoll).
    Anonymous,
}

impl FileType {
    /// The `S_IFMT` bits of `st_mode`.
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::Fifo => abi::S_IFIFO,
            Self::CharDevice => abi::S_IFCHR,
            Self::Directory => abi::S_IFDIR,
            Self::BlockDevice => abi::S_IFBLK,
            Self::Regular => abi::S_IFREG,
            Self::Symlink => abi::S_IFLNK,
            Self::Socket => abi::S_IFSOCK,
            Self::Anonymous => 0,
        }
    }

    /// The type that the `S_IFMT` bits of `mode` stand for.
    pub const fn from_mode_bits(mode: u32) -> Option<Self> {
        Some(match mode & abi::S_IFMT {
            abi::S_IFIFO => Self::Fifo,
            abi::S_IFCHR => Self::CharDevice,
            abi::S_IFDIR => Self::Directory,
            abi::S_IFBLK => Self::BlockDevice,
            abi::S_IFREG => Self::Regular,
            abi::S_IFLNK => Self::Symlink,
            abi::S_IFSOCK => Self::Socket,
            _ => return None,
        })
    }

    /// The `d_type` of a directory entry.
    pub const fn dirent_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

/// A device number: a major and a minor part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceId {
    /// The driver.
    pub major: u32,
    /// The device among the driver's own.
    pub minor: u32,
}

impl DeviceId {
    /// The device `major:minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Decodes the `dev_t` of user space (the encoding of glibc's `makedev`).
    pub const fn decode(dev: u64) -> Self {
        Self {
            major: ((dev >> 8) & 0xfff) as u32 | ((dev >> 32) & 0xffff_f000) as u32,
            minor: (dev & 0xff) as u32 | ((dev >> 12) & 0xffff_ff00) as u32,
        }
    }

    /// Encodes the number as user space's `dev_t`.
    pub const fn encode(self) -> u64 {
        let (major, minor) = (self.major as u64, self.minor as u64);
        (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
    }
}

/// A point in time: seconds and nanoseconds since the Epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub secs: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanos: u32,
}

/// What `stat` tells of an inode.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    /// The device of the file system.
    pub dev: DeviceId,
    /// The inode number.
    pub ino: u64,
    /// The type of the file.
    pub kind: FileType,
    /// Permission bits with set-user-ID, set-group-ID and sticky: 12 bits.
    pub mode: u16,
    /// The number of names.
    pub nlink: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The device that a device node stands for.
    pub rdev: DeviceId,
    /// The size in bytes.
    pub size: u64,
    /// The preferred size of I/O, in bytes.
    pub block_size: u32,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the contents.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
}

impl Metadata {
    /// A file of `kind` with nothing in it, made now and owned by root: what synthetic file systems start from.
    pub fn new(dev: DeviceId, ino: u64, kind: FileType, mode: u16) -> Self {
        let now = super::current::now();
        Self {
            dev,
            ino,
            kind,
            mode,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: 0,
            gid: 0,
            rdev: DeviceId::default(),
            size: 0,
            block_size: 4096,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
        }
    }
}

/// What decides who may use a file.
#[derive(Clone, Copy, Debug)]
pub struct Protection {
    /// The type of the file.
    pub kind: FileType,
    /// Permission bits.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl From<&Metadata> for Protection {
    fn from(meta: &Metadata) -> Self {
        Self { kind: meta.kind, mode: meta.mode, uid: meta.uid, gid: meta.gid }
    }
}

/// A change of an inode's attributes, already checked; `None` leaves an attribute alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttrChange {
    /// New permission bits (12 bits).
    pub mode: Option<u16>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New time of last access.
    pub atime: Option<Timestamp>,
    /// New time of last modification.
    pub mtime: Option<Timestamp>,
    /// New time of last change.
    pub ctime: Option<Timestamp>,
}

/// The attributes a new inode starts with.
#[derive(Clone, Copy, Debug)]
pub struct NewAttr {
    /// Permission bits (12 bits), the umask already taken off.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// What to create in a directory.
#[derive(Clone, Copy, Debug)]
pub enum NewNode<'a> {
    /// An empty regular file.
    Regular,
    /// A regular file with contents that stay where they are, if the file system can use them so.
    Archived(&'static [u8]),
    /// An empty directory.
    Directory,
    /// A symbolic link to the given path.
    Symlink(&'a [u8]),
    /// A named pipe.
    Fifo,
    /// The name of a Unix socket.
    Socket,
    /// A character device node.
    CharDevice(DeviceId),
    /// A block device node.
    BlockDevice(DeviceId),
}

impl NewNode<'_> {
    /// The type of the new file.
    pub const fn kind(&self) -> FileType {
        match self {
            Self::Regular | Self::Archived(_) => FileType::Regular,
            Self::Directory => FileType::Directory,
            Self::Symlink(_) => FileType::Symlink,
            Self::Fifo => FileType::Fifo,
            Self::Socket => FileType::Socket,
            Self::CharDevice(_) => FileType::CharDevice,
            Self::BlockDevice(_) => FileType::BlockDevice,
        }
    }
}

/// What a rename does with a file that already has the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it.
    Replace,
    /// Fail with EEXIST.
    NoReplace,
    /// Give it the old name.
    Exchange,
}

/// One entry of a directory listing.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// The entry's name.
    pub name: &'a [u8],
    /// The inode number.
    pub ino: u64,
    /// The type of the file.
    pub kind: FileType,
    /// The position to go on from after this entry (`d_off`).
    pub next: u64,
}

/// What `statfs` tells of a file system, in blocks of `block_size` bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct FsStats {
    /// The magic number (`f_type`).
    pub magic: u64,
    /// Bytes in a block.
    pub block_size: u64,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub free_files: u64,
    /// An identifier (`f_fsid`).
    pub id: u64,
}

/// What `lseek` counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// The start of the file.
    Set,
    /// The present offset.
    Current,
    /// The end of the file.
    End,
    /// The next byte with data in it.
    Data,
    /// The next hole.
    Hole,
}

impl TryFrom<u32> for Whence {
    type Error = Errno;

    fn try_from(value: u32) -> Result<Self> {
        Ok(match value {
            abi::SEEK_SET => Self::Set,
            abi::SEEK_CUR => Self::Current,
            abi::SEEK_END => Self::End,
            3 => Self::Data,
            4 => Self::Hole,
            _ => return Err(EINVAL),
        })
    }
}
