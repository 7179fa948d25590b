// SPDX-License-Identifier: MPL-2.0

//! Files: the program's descriptors are the host's, under numbers of its own.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, Stat},
    io, pipe, stdio,
};
use syscalls::aarch64::Sysno;
use vmar_hosted::host::Errno;

use super::{Arguments, Kernel};

const AT_FDCWD: i32 = -100;
const AT_EMPTY_PATH: u64 = 0x1000;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_REMOVEDIR: u64 = 0x200;

/// The most that one call reads or writes; programs ask again for the rest.
const MOST: usize = 1 << 20;

/// Flags of open that AArch64 has other numbers for than x86-64.
mod open {
    pub const DIRECTORY: u64 = 0o40000;
    pub const NOFOLLOW: u64 = 0o100000;
    /// Those that have the same numbers: the access mode, CREAT, EXCL, NOCTTY, TRUNC, APPEND, NONBLOCK, CLOEXEC, PATH.
    pub const SAME: u64 = 0o3 | 0o100 | 0o200 | 0o400 | 0o1000 | 0o2000 | 0o4000 | 0o2000000 | 0o10000000;
}

/// The three descriptors that a program starts with, as far as they are open.
pub fn standard() -> BTreeMap<i32, Arc<OwnedFd>> {
    let all = [stdio::stdin(), stdio::stdout(), stdio::stderr()];
    let copies = (0..).zip(all).filter_map(|(number, fd)| Some((number, Arc::new(io::dup(fd).ok()?))));
    copies.collect()
}

impl Kernel {
    /// Serves a call about files; `None` if it is about something else.
    pub(super) fn file(&mut self, call: Sysno, arguments: Arguments) -> Option<Result<u64, Errno>> {
        let Arguments([_, one, two, three, ..]) = arguments;
        let fd = arguments.int(0);
        Some(match call {
            Sysno::read => self.read_to(fd, one, two, |fd, buf| io::read(fd, buf)),
            Sysno::pread64 => self.read_to(fd, one, two, |fd, buf| io::pread(fd, buf, three)),
            Sysno::write => self.write_from(fd, one, two, |fd, bytes| io::write(fd, bytes)),
            Sysno::pwrite64 => self.write_from(fd, one, two, |fd, bytes| io::pwrite(fd, bytes, three)),
            Sysno::readv => self.each_vector(one, two, |kernel, at, len| {
                kernel.read_to(fd, at, len, |fd, buf| io::read(fd, buf))
            }),
            Sysno::writev => self.each_vector(one, two, |kernel, at, len| {
                kernel.write_from(fd, at, len, |fd, bytes| io::write(fd, bytes))
            }),
            Sysno::openat => self.open(fd, one, two, three),
            Sysno::close => self.files.remove(&fd).map(|_| 0).ok_or(Errno::BADF),
            Sysno::dup => self.descriptor(fd).cloned().map(|file| self.add(file, 0)),
            Sysno::dup3 => self.descriptor(fd).cloned().map(|file| {
                self.files.insert(one as i32, file);
                one
            }),
            Sysno::fcntl => self.control(fd, one, two),
            Sysno::pipe2 => self.pipe(arguments.addr(0)),
            Sysno::lseek => self.seek(fd, one as i64, two),
            Sysno::fstatat => self.stat_at(fd, one, two, three),
            Sysno::fstat => {
                self.descriptor(fd).and_then(|file| self.put_stat(one, &fs::fstat(file.as_fd())?))
            }
            Sysno::getdents64 => self.list(fd, one, two),
            Sysno::readlinkat => {
                self.at(fd, one, |dir, path| fs::readlinkat(dir, path, Vec::new())).and_then(|link| {
                    let bytes = link.as_bytes();
                    let bytes = &bytes[..bytes.len().min(three as usize)];
                    self.write(arguments.addr(2), bytes).map(|()| bytes.len() as u64)
                })
            }
            Sysno::faccessat => {
                let access = fs::Access::from_bits_truncate(two as u32);
                self.at(fd, one, |dir, path| fs::accessat(dir, path, access, AtFlags::empty())).map(|()| 0)
            }
            Sysno::mkdirat => self
                .at(fd, one, |dir, path| fs::mkdirat(dir, path, Mode::from_raw_mode(two as u32)))
                .map(|()| 0),
            Sysno::unlinkat => {
                let flags = if two & AT_REMOVEDIR != 0 { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                self.at(fd, one, |dir, path| fs::unlinkat(dir, path, flags)).map(|()| 0)
            }
            Sysno::ftruncate => {
                self.descriptor(fd).and_then(|file| fs::ftruncate(file.as_fd(), one)).map(|()| 0)
            }
            Sysno::fsync => self.descriptor(fd).and_then(|file| fs::fsync(file.as_fd())).map(|()| 0),
            Sysno::memfd_create => self.read_string(arguments.addr(0)).and_then(|name| {
                let file = fs::memfd_create(name, fs::MemfdFlags::CLOEXEC)?;
                Ok(self.add(Arc::new(file), 0))
            }),
            Sysno::getcwd => self.working_folder(arguments.addr(0), one),
            Sysno::chdir => self.read_string(arguments.addr(0)).and_then(rustix::process::chdir).map(|()| 0),
            // Nothing is a terminal: output comes in whole blocks.
            Sysno::ioctl => self.descriptor(fd).and(Err(Errno::NOTTY)),
            _ => return None,
        })
    }

    fn descriptor(&self, number: i32) -> Result<&Arc<OwnedFd>, Errno> {
        self.files.get(&number).ok_or(Errno::BADF)
    }

    /// Adds a file under the lowest free number from `least` on.
    fn add(&mut self, file: Arc<OwnedFd>, least: i32) -> u64 {
        let number = (least..).find(|number| !self.files.contains_key(number)).unwrap_or(i32::MAX);
        self.files.insert(number, file);
        number as u64
    }

    fn read_to(
        &self,
        fd: i32,
        addr: u64,
        len: u64,
        read: impl FnOnce(BorrowedFd<'_>, &mut [u8]) -> Result<usize, Errno>,
    ) -> Result<u64, Errno> {
        let file = self.descriptor(fd)?;
        let mut bytes = vec![0; (len as usize).min(MOST)];
        // What has been read from a pipe cannot be put back.
        self.check_writable(addr as usize, bytes.len())?;
        let count = read(file.as_fd(), &mut bytes)?;
        self.write(addr as usize, &bytes[..count])?;
        Ok(count as u64)
    }

    fn check_writable(&self, addr: usize, len: usize) -> Result<(), Errno> {
        let write = vmar_hosted::VmPerms::WRITE;
        if len > 0 && self.space.allowed(addr, len, write).unwrap_or(0) < len {
            Err(Errno::FAULT)
        } else {
            Ok(())
        }
    }

    fn write_from(
        &self,
        fd: i32,
        addr: u64,
        len: u64,
        write: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<usize, Errno>,
    ) -> Result<u64, Errno> {
        let file = self.descriptor(fd)?;
        let bytes = self.read(addr as usize, (len as usize).min(MOST))?;
        Ok(write(file.as_fd(), &bytes)? as u64)
    }

    /// Reads or writes each of the buffers that a table names, until one is done in part.
    fn each_vector(
        &self,
        table: u64,
        count: u64,
        transfer: impl Fn(&Self, u64, u64) -> Result<u64, Errno>,
    ) -> Result<u64, Errno> {
        if count > 1024 {
            return Err(Errno::INVAL);
        }
        let mut sum = 0;
        for at in 0..count {
            let [addr, len] = self.read_words(table as usize + 16 * at as usize)?;
            match transfer(self, addr, len) {
                Ok(done) => {
                    sum += done;
                    if done < len {
                        break;
                    }
                }
                Err(errno) if sum == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(sum)
    }

    /// Calls `call` with a folder and a path in it.
    fn at<T>(
        &self,
        dir: i32,
        path: u64,
        call: impl FnOnce(BorrowedFd<'_>, &Path) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let path = PathBuf::from(OsStr::from_bytes(&self.read_string(path as usize)?));
        match dir {
            AT_FDCWD => call(fs::CWD, &path),
            dir => call(self.descriptor(dir)?.as_fd(), &path),
        }
    }

    fn open(&mut self, dir: i32, path: u64, flags: u64, mode: u64) -> Result<u64, Errno> {
        let mut host = OFlags::from_bits_retain((flags & open::SAME) as u32) | OFlags::CLOEXEC;
        host.set(OFlags::DIRECTORY, flags & open::DIRECTORY != 0 && self.isa == crate::isa::Isa::Aarch64);
        host.set(OFlags::NOFOLLOW, flags & open::NOFOLLOW != 0 && self.isa == crate::isa::Isa::Aarch64);
        if self.isa == crate::isa::Isa::Riscv64 {
            host.set(OFlags::DIRECTORY, flags & 0o200000 != 0);
            host.set(OFlags::NOFOLLOW, flags & 0o400000 != 0);
        }
        let mode = Mode::from_raw_mode(mode as u32);
        let file = self.at(dir, path, |dir, path| fs::openat(dir, path, host, mode))?;
        Ok(self.add(Arc::new(file), 0))
    }

    fn control(&mut self, fd: i32, command: u64, argument: u64) -> Result<u64, Errno> {
        const F_DUPFD: u64 = 0;
        const F_GETFD: u64 = 1;
        const F_SETFD: u64 = 2;
        const F_GETFL: u64 = 3;
        const F_SETFL: u64 = 4;
        const F_DUPFD_CLOEXEC: u64 = 1030;
        let file = self.descriptor(fd)?.clone();
        match command {
            F_DUPFD | F_DUPFD_CLOEXEC => Ok(self.add(file, argument as i32)),
            F_GETFD | F_SETFD => Ok(0),
            F_GETFL => Ok(u64::from(fs::fcntl_getfl(file.as_fd())?.bits()) & open::SAME),
            F_SETFL => {
                fs::fcntl_setfl(file.as_fd(), OFlags::from_bits_retain((argument & open::SAME) as u32))?;
                Ok(0)
            }
            _ => Err(Errno::INVAL),
        }
    }

    fn pipe(&mut self, addr: usize) -> Result<u64, Errno> {
        let (read, write) = pipe::pipe_with(pipe::PipeFlags::CLOEXEC)?;
        let numbers = [self.add(Arc::new(read), 0) as u32, self.add(Arc::new(write), 0) as u32];
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.write(addr, &bytes).map(|()| 0)
    }

    fn seek(&self, fd: i32, offset: i64, whence: u64) -> Result<u64, Errno> {
        let to = match whence {
            0 => SeekFrom::Start(offset as u64),
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            _ => return Err(Errno::INVAL),
        };
        fs::seek(self.descriptor(fd)?.as_fd(), to)
    }

    fn stat_at(&self, dir: i32, path: u64, buf: u64, flags: u64) -> Result<u64, Errno> {
        let mut host = AtFlags::empty();
        host.set(AtFlags::EMPTY_PATH, flags & AT_EMPTY_PATH != 0);
        host.set(AtFlags::SYMLINK_NOFOLLOW, flags & AT_SYMLINK_NOFOLLOW != 0);
        let stat = self.at(dir, path, |dir, path| fs::statat(dir, path, host))?;
        self.put_stat(buf, &stat)
    }

    /// Writes what a file is like in the layout of the generic `struct stat`.
    fn put_stat(&self, addr: u64, stat: &Stat) -> Result<u64, Errno> {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let words = [
            stat.st_dev,
            stat.st_ino,
            pair(stat.st_mode, stat.st_nlink as u32),
            pair(stat.st_uid, stat.st_gid),
            stat.st_rdev,
            0,
            stat.st_size as u64,
            pair(stat.st_blksize as u32, 0),
            stat.st_blocks as u64,
            stat.st_atime as u64,
            stat.st_atime_nsec,
            stat.st_mtime as u64,
            stat.st_mtime_nsec,
            stat.st_ctime as u64,
            stat.st_ctime_nsec,
            0,
        ];
        self.write_words(addr as usize, &words).map(|()| 0)
    }

    /// Lists a folder: as many entries as there is room for.
    fn list(&self, fd: i32, addr: u64, len: u64) -> Result<u64, Errno> {
        let file = self.descriptor(fd)?;
        let mut room = vec![MaybeUninit::uninit(); (len as usize).min(MOST)];
        let mut entries = RawDir::new(file.as_fd(), &mut room);
        let mut bytes = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            // d_ino, d_off, d_reclen, d_type, then the name, all in whole words.
            let size = (19 + name.len()).next_multiple_of(8);
            let kind = match entry.file_type() {
                FileType::Fifo => 1,
                FileType::CharacterDevice => 2,
                FileType::Directory => 4,
                FileType::BlockDevice => 6,
                FileType::RegularFile => 8,
                FileType::Symlink => 10,
                FileType::Socket => 12,
                FileType::Unknown => 0_u8,
            };
            let end = bytes.len() + size;
            bytes.extend(entry.ino().to_le_bytes());
            bytes.extend(entry.next_entry_cookie().to_le_bytes());
            bytes.extend((size as u16).to_le_bytes());
            bytes.push(kind);
            bytes.extend(name);
            bytes.resize(end, 0);
            // The host has been asked for one bufferful, which has the same layout.
            if entries.is_buffer_empty() {
                break;
            }
        }
        self.write(addr as usize, &bytes)?;
        Ok(bytes.len() as u64)
    }

    fn working_folder(&self, addr: usize, len: u64) -> Result<u64, Errno> {
        let path = rustix::process::getcwd(Vec::new())?;
        let bytes = path.as_bytes_with_nul();
        if bytes.len() as u64 > len {
            return Err(Errno::RANGE);
        }
        self.write(addr, bytes)?;
        Ok(bytes.len() as u64)
    }
}
